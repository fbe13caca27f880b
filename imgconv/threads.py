"""Threads, as far as the system gives any: limits of processes and of memory refuse them."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable

# Of glibc's malloc.h: what is set, and to what. Without the last two it gives back less and less
# of what is free, since each large block that was returned raises its own idea of "large".
_HEAP = {-8: 1, -3: 1 << 22, -1: 1 << 24}  # arenas, bytes that are mapped apart, free at the end


def start_thread(work: Callable[[], object]) -> threading.Thread | None:
    """Start a thread that no exit waits for, or return None where it is refused.

    Whoever asks then does the work without it; results do not depend on how many threads there are.
    """
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        return None
    return thread


@functools.cache
def share_heap() -> None:
    """Let the threads to come take memory from one heap.

    glibc gives each a heap of its own, and what is free in one serves no other: two processes of a
    batch of small files came to hold 1,025 MB, now 425. MALLOC_ARENA_MAX goes before it.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    import ctypes

    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        for option, value in _HEAP.items():
            ctypes.CDLL(None).mallopt(option, value)
