"""Names for types that many modules speak of."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Of any element type: which one it is, files and options decide while the program runs.
Array = npt.NDArray[Any]
Dtype = np.dtype[Any]
