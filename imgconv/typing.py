"""Names for types that many modules speak of."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# Of any element type: which one it is, files and options decide while the program runs.
Array = npt.NDArray[Any]
Dtype = np.dtype[Any]
Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Toml = dict[str, Any]  # what `tomllib` reads: whoever asks for a key checks its value
# What `json` writes and reads.
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
