"""Memory that each thread keeps: new memory for each task costs more than a small task."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.jit import capture
from imgconv.jit import loop as jit

LINE = 64  # bytes


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, tuple[npt.NDArray[Any], int]] = {}


_scratch = _Scratch()


def address(name: str, size: int, dtype: Any = np.float32) -> int:
    """Where this thread's buffer of a name begins, at least `size` elements of what was left."""
    noted = capture.current()
    if noted is not None:
        return noted.room(name, size * np.dtype(dtype).itemsize)
    found = _scratch.buffers.get(name)
    if found is None or found[0].nbytes < size * np.dtype(dtype).itemsize + LINE:
        # NumPy aligns to 16 bytes; at a cache line's start no vector of sums lies across two.
        room = np.empty(size * np.dtype(dtype).itemsize + LINE, np.uint8)
        start = jit.address(room)
        found = _scratch.buffers[name] = room, start + -start % LINE
    return found[1]
