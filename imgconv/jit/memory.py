"""Memory of large results, used again once a result is gone.

What it buys: the system clears every page before it hands it out, which is 6 of the 22 ms of one
core that a 3×3 kernel takes over 12 MP of RGB float32, the next time. NumPy gives the memory of a
dead array back at once; here up to 256 MB wait for the next result. They are marked as free,
so the system takes them where it runs short of memory. Without it results are NumPy's own arrays:
where the system has no anonymous maps or no madvise (Windows), or under `IMGCONV_WITHOUT=memory`.
"""

import contextlib
import math
import mmap
import os

import numpy as np
import numpy.typing as npt

from imgconv.typing import Array, Dtype

LEAST = 1 << 22  # bytes from which on a result gets memory of its own
_kept = 1 << 28  # bytes that wait at most
_waiting: list[mmap.mmap] = []  # longest first; its methods need no lock
ENABLED = (
    hasattr(mmap, "MAP_ANONYMOUS")
    and hasattr(mmap.mmap, "madvise")
    and "memory" not in os.environ.get("IMGCONV_WITHOUT", "").split(",")
)


def share_with(processes: int) -> None:
    """Keep a part of what this process keeps, as one of several that work beside each other."""
    global _kept
    _kept //= processes


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """An array like numpy.empty's."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < LEAST or not ENABLED:
        return np.empty(shape, kind)
    return np.asarray(_Lease(_taken(size) or _mapped(size), shape, kind))


class _Lease:
    """What an array and its views keep alive: their memory's use."""

    def __init__(self, room: mmap.mmap, shape: tuple[int, ...], dtype: Dtype) -> None:
        self._room = room
        start = np.frombuffer(room, np.uint8).__array_interface__["data"][0]
        self.__array_interface__ = {
            "data": (start, False), "shape": shape, "typestr": dtype.str, "version": 3
        }  # fmt: skip

    def __del__(self) -> None:
        if _give_back is not None:  # as it is while the interpreter ends
            _give_back(self._room)


def _mapped(size: int) -> mmap.mmap:
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            room.madvise(mmap.MADV_HUGEPAGE)
    return room


def _taken(size: int) -> mmap.mmap | None:
    """Waiting memory that is large enough and not twice as large."""
    for room in tuple(_waiting):
        if size <= len(room) <= 2 * size:
            with contextlib.suppress(ValueError):  # another thread was faster
                _waiting.remove(room)
                return room
    return None


def _give_back(room: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_FREE"):
        with contextlib.suppress(OSError):
            room.madvise(mmap.MADV_FREE)
    _waiting.append(room)
    with contextlib.suppress(IndexError):
        while sum(map(len, tuple(_waiting))) > _kept:
            _waiting.pop(0)
