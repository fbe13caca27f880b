"""Memory that each thread keeps: new memory for each task costs more than a small task."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

LINE = 64  # bytes


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, npt.NDArray[Any]] = {}


_scratch = _Scratch()


def buffer(name: str, size: int, dtype: Any = np.float32) -> npt.NDArray[Any]:
    """This thread's buffer of a name, of at least `size` elements; what it holds is left over."""
    found = _scratch.buffers.get(name)
    if found is None or found.size < size:
        # NumPy aligns to 16 bytes; at a cache line's start no vector of sums lies across two.
        room = np.empty(size * np.dtype(dtype).itemsize + LINE, np.uint8)
        skip = -room.ctypes.data % LINE
        found = _scratch.buffers[name] = room[skip : room.size - LINE + skip].view(dtype)
    return found
