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
Int64 = npt.NDArray[np.int64]
# A table of a TOML file, an object of a JSON file: whoever asks for a key checks its value.
Json = dict[str, Any]
Toml = Json
# What `json` writes.
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
