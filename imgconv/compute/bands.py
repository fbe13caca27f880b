"""Threads over bands of rows: plain Python threads, since compiled loops drop the GIL.

Every row is computed from the same inputs by the same code whatever the band, so results do not
depend on the number of threads.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

_threads = 0


def set_num_threads(count: int) -> None:
    """Set how many threads one operation may use; 0 means one per usable CPU."""
    global _threads
    _threads = count


def num_threads() -> int:
    """How many threads one operation may use (`IMGCONV_NUM_THREADS` or the usable CPUs)."""
    if _threads:
        return _threads
    named = os.environ.get("IMGCONV_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_bands(rows: int, band: int, work: Callable[[int, int], Any]) -> None:
    """Call `work(start, stop)` for every band of `band` rows of range(rows).

    Bands are handed out in order; with one band or one thread the calls happen here. The first
    exception stops the handing out and is raised here.
    """
    band = max(1, band)
    count = -(-rows // band)
    workers = min(num_threads(), count)
    if workers <= 1:
        for start in range(0, rows, band):
            work(start, min(start + band, rows))
        return
    lock = threading.Lock()
    following = iter(range(0, rows, band))
    failures: list[BaseException] = []

    def run() -> None:
        while not failures:
            with lock:
                start = next(following, None)
            if start is None:
                return
            try:
                work(start, min(start + band, rows))
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(workers - 1)]
    for thread in threads:
        thread.start()
    run()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
