"""Threads, as far as the system gives any: limits of processes and of memory refuse them."""

import threading
from collections.abc import Callable


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
