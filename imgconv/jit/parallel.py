"""Threads over bands of rows: plain Python threads, since compiled loops drop the GIL.

Every row is computed from the same inputs by the same code whatever the band, so results do not
depend on the number of threads.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

from imgconv.jit import capture
from imgconv.threads import start_thread

# A thread that has to be woken, with Python in between, costs as much as so many of those bands
# that are worth a thread: 1000 outputs of 2048 features took 0.23 ms in eight, 0.15 in one.
WAKING = 8
_threads = 0


def set_num_threads(count: int) -> None:
    """Set how many threads one operation may use; 0 means one per usable CPU."""
    global _threads
    _threads = count


def limit() -> int:
    """What `set_num_threads` was told."""
    return _threads


def num_threads() -> int:
    """How many threads one operation may use (`IMGCONV_NUM_THREADS` or the usable CPUs).

    One within a task that is recorded.
    """
    noted = capture.current()
    if noted is not None and noted.inside:
        return 1
    if _threads:
        return _threads
    if "IMGCONV_NUM_THREADS" in os.environ:  # `get` raises and catches within: a microsecond
        named = os.environ["IMGCONV_NUM_THREADS"]
        if named.isdigit() and int(named) > 0:
            return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def band_of(rows: int, least: int = 0) -> int:
    """Rows a band, of which every thread gets four: at least `least`, at least 1.

    least: worth handing to a thread that is at work already, as when calls are played back.
    """
    if capture.current() is None:
        least *= WAKING
    if least >= rows:
        return max(1, rows)  # asking the system for its CPUs takes 2 µs
    return max(1, least, -(-rows // (4 * num_threads())))


def over_bands(rows: int, band: int, work: Callable[[int, int], Any]) -> None:
    """Call `work(start, stop)` for every band of `band` rows of range(rows).

    Bands are handed out in order; with one band or one thread the calls happen here. The first
    exception stops the handing out and is raised here.
    """
    band = max(1, band)
    noted = capture.current()
    if noted is not None:
        noted.bands(rows, band, work)
        return
    count = -(-rows // band)
    workers = min(num_threads(), count) if count > 1 else 1
    if workers <= 1:
        for start in range(0, rows, band):
            work(start, min(start + band, rows))
        return
    share = _Share(rows, band, work)
    _ask(share.help, workers - 1)
    share.finish()


@functools.cache
def _looked_up() -> Callable[[], int] | None:
    """The C function that says which CPU this thread is on; called with the GIL held."""
    import ctypes

    return (
        getattr(ctypes.PyDLL(None), "sched_getcpu", None)
        if hasattr(os, "sched_setaffinity")
        else None
    )


def _cpu() -> int:
    """The CPU that this thread is on; −1 where the system does not say."""
    found = _looked_up()
    return found() if found else -1


def _leave(cpu: int) -> None:
    """Move this thread to another CPU if it is on this one.

    Linux wakes a thread where it ran last. Where that is its asker's CPU, it gets to run when the
    work is done, now and at every other call, and a second thread gains nothing.
    """
    if cpu < 0 or _cpu() != cpu:
        return
    usable = os.sched_getaffinity(0)
    if usable - {cpu}:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, usable - {cpu})
            os.sched_setaffinity(0, usable)


class _Share:
    """Bands being handed out to this thread and to helpers that find time before it is done."""

    def __init__(self, rows: int, band: int, work: Callable[[int, int], Any]) -> None:
        self._rows, self._band, self._work = rows, band, work
        self._next = 0
        self._helping = 0
        self._cpu = _cpu()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)

    def _run(self) -> None:
        while True:
            with self._lock:
                start = self._next
                if start >= self._rows or self._failure is not None:
                    return
                self._next += self._band
            try:
                self._work(start, min(start + self._band, self._rows))
            except BaseException as error:
                self._failure = self._failure or error

    def help(self) -> None:
        """Take bands while there are any."""
        with self._lock:
            late = self._next >= self._rows or self._failure is not None
            self._helping += not late
        if late:
            _leave(self._cpu)
            return
        self._run()
        with self._lock:
            self._helping -= 1
            self._left.notify()

    def finish(self) -> None:
        """Take bands while there are any, wait for those of helpers, raise what went wrong."""
        self._run()
        with self._lock:
            while self._helping:
                self._left.wait()
        if self._failure is not None:
            raise self._failure


class _Helpers:
    """Threads that wait for work: starting one takes 0.1 ms, as long as a small layer.

    Whoever asks for help never waits for a helper that has not begun, so calls may be nested
    and come from any thread.
    """

    def __init__(self) -> None:
        from queue import SimpleQueue

        self.process = os.getpid()
        self._queue: Any = SimpleQueue()
        self._count = 0
        self._lock = threading.Lock()

    def call(self, work: Callable[[], None], times: int) -> None:
        """Offer `work` to this many threads."""
        with self._lock:
            while self._count < times:
                if start_thread(self._serve) is None:
                    times = self._count  # the asker does it all, with those that there are
                    break
                self._count += 1
        for _ in range(times):
            self._queue.put(work)

    def _serve(self) -> None:
        while True:
            self._queue.get()()


_helpers: _Helpers | None = None


def _ask(work: Callable[[], None], times: int) -> None:
    global _helpers
    if _helpers is None or _helpers.process != os.getpid():
        # A forked process has none of its parent's threads.
        _helpers = _Helpers()
    _helpers.call(work, times)
