"""Arrays as compiled loops can read them: every operation takes its inputs through here.

A loop addresses an array from its first element, by strides in whole elements of a type of its
own. Views with negative, zero or wide strides, in any order of axes, are read as they lie.
"""

import numpy as np
import numpy.typing as npt

from imgconv.errors import ShapeError
from imgconv.jit.loop import ELEMENT_NAMES
from imgconv.typing import Array, Dtype


def readable(array: Array) -> Array:
    """Return the array itself where loops may read it, else a copy in native, aligned bytes.

    Copied are swapped bytes, elements that are not aligned, and strides that are not whole
    elements, as of a field of a record. The type stays.
    """
    dtype = array.dtype
    if not dtype.isnative:
        return array.astype(dtype.newbyteorder("="))
    if array.flags.aligned and (
        array.flags.c_contiguous or all(step % dtype.itemsize == 0 for step in array.strides)
    ):
        return array
    return np.array(array, order="C")


def contiguous(array: Array, dtype: npt.DTypeLike | None = None) -> Array:
    """Return the array in C order as `dtype` (its own by default, in native bytes), aligned."""
    kind = np.dtype(dtype) if dtype is not None else array.dtype
    kind = kind if kind.isnative else kind.newbyteorder("=")
    if array.dtype == kind and array.flags.c_contiguous and not array.flags.aligned:
        return array.copy()
    return np.ascontiguousarray(array, kind)


def supported(array: Array) -> Array:
    """Return the array itself where the loops read its type, else a copy in the next wider one."""
    array = readable(array)
    if array.dtype in ELEMENT_NAMES and array.dtype != np.int64:
        return array
    for dtype in (np.uint8, np.int16, np.uint16, np.float32, np.float64):
        if np.can_cast(array.dtype, dtype, "safe"):
            return np.ascontiguousarray(array, dtype)
    if np.can_cast(array.dtype, np.float64, "same_kind"):
        return np.ascontiguousarray(array, np.float64)
    raise ShapeError(f"input of type {array.dtype}: expected numbers")


def real_type(array: Array) -> Dtype:
    """The type of results that are numbers: float64 for float64 in either order of bytes."""
    double = array.dtype.kind == "f" and array.dtype.itemsize == 8
    return np.dtype(np.float64 if double else np.float32)
