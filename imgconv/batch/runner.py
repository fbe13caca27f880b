"""The local runner: many inputs, a few at once, each failure named and the rest done."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from imgconv.console import clear_status, show_status
from imgconv.errors import ImageError, ImgconvError, MachineError, unforeseen
from imgconv.io.publish import while_waiting
from imgconv.io.source import stopping
from imgconv.jit import parallel
from imgconv.threads import share_heap, start_thread

if TYPE_CHECKING:
    from imgconv.pipeline.outputs import Row

R = TypeVar("R")  # what is told of a result
_WAITING = 6  # files that may wait for the disk while others are worked on


@dataclass(eq=False, repr=False)
class Outcome(Generic[R]):
    """What became of one input: results for `--json`, or the error."""

    source: str
    results: list[R] = field(default_factory=list)
    error: ImgconvError | None = None


class Work(Protocol):
    """Makes the outputs of one input; `outputs` names them, which finds collisions."""

    def outputs(self, source: str, index: int) -> list[str]: ...

    def __call__(self, source: str, index: int, replace: bool = False) -> "list[Row]": ...


def attempt(
    work: Callable[[str, int], list[R]], source: str | ImageError, index: int
) -> Outcome[R]:
    """Do one source's work; a failure becomes its outcome, which names the source."""
    if isinstance(source, ImageError):
        return failed(source)
    try:
        return Outcome(source, work(source, index))
    except BrokenPipeError:
        raise  # whoever read standard output has gone: there is nothing left to do
    except Exception as error:
        return Outcome(source, error=naming(unforeseen(error), source))


def failed(error: ImageError) -> Outcome[R]:
    """The outcome of a name that led to no input."""
    return Outcome(error.source or str(error), error=error)


def naming(error: ImgconvError, source: str) -> ImgconvError:
    """The error, with the input's name before its text unless that is in it already.

    What an encoder says, for one, is of channels and sizes alone. Raises MachineError, with which
    no other input would fare better.
    """
    if isinstance(error, MachineError):
        raise error
    text, name = str(error), "standard input" if source == "-" else source
    if name not in text:
        error.args = (f"{name}: {text}",)
    return error


def shares(jobs: int | None, threads: int | None, total: int | None) -> int:
    """Return how many of `total` files (None: many) to work on at once, and give each its threads.

    Each has its share of the CPUs: a thread that is kept busy by a file of its own costs less than
    one that is handed bands of all (512×512: 14 ms of CPU time per file against 17).
    """
    cpus = parallel.num_threads()
    jobs = jobs or cpus
    working = min(jobs, total) if total else jobs
    parallel.set_num_threads(threads or max(1, cpus // max(1, working)))
    return max(1, working)


def run(
    sources: Iterable[str | ImageError], work: Callable[[str, int], list[R]],
    jobs: int, first: int = 0,
) -> Iterator[Outcome[R]]:  # fmt: skip
    """Yield an outcome for every source, in order; `jobs` at a time are worked on.

    Others may wait for the disk meanwhile: it takes as long for 16 files as for one (2.4 ms each
    against 18). first: the index of the first source.
    """
    if jobs == 1:
        for index, source in enumerate(sources, first):
            yield attempt(work, source, index)
        return
    gate = threading.Semaphore(jobs)

    @contextlib.contextmanager
    def elsewhere() -> Iterator[None]:
        gate.release()
        try:
            yield
        finally:
            gate.acquire()

    def one(source: str | ImageError, index: int) -> Outcome[R]:
        while_waiting(elsewhere)
        with gate:
            return attempt(work, source, index)

    calls = (partial(one, source, index) for index, source in enumerate(sources, first))
    yield from in_order(calls, jobs + _WAITING, 2 * jobs + _WAITING)


def in_order(
    calls: Iterable[Callable[[], Outcome[R]]], threads: int, most: int
) -> Iterator[Outcome[R]]:
    """Yield what calls return, in order; `most` at a time are begun or wait for a thread."""
    from collections import deque

    share_heap()
    pending: deque[_Call[R]] = deque()
    crew = _Crew[R](threads)
    try:
        for call in calls:
            pending.append(crew.begin(call))
            if len(pending) >= most:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException:
        stopping.set()  # threads may wait for a pipe
        raise
    finally:
        crew.close(pending)
        stopping.clear()


class _Call(Generic[R]):
    """A call that a thread makes, and what it returned or raised."""

    def __init__(self, call: Callable[[], Outcome[R]]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._outcome: Outcome[R] | None = None
        self._failure: BaseException | None = None

    def make(self) -> None:
        """Make the call, unless another thread does or has."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._outcome = self._call()
        except BaseException as error:
            self._failure = error
        finally:
            self._done.set()

    def cancel(self) -> None:
        """Do not make it where it has not begun; otherwise wait until it is done."""
        if not self._lock.acquire(blocking=False):
            self._done.wait()

    def result(self) -> Outcome[R]:
        """Wait for what it returned. Raises what it raised."""
        self._done.wait()
        if self._failure is not None:
            raise self._failure
        assert self._outcome is not None
        return self._outcome


class _Crew(Generic[R]):
    """At most `most` threads that make calls, started as calls come; none where none are given."""

    def __init__(self, most: int) -> None:
        from queue import SimpleQueue

        self._most, self._threads = most, list[threading.Thread]()
        self._calls: SimpleQueue[_Call[R] | None] = SimpleQueue()

    def begin(self, call: Callable[[], Outcome[R]]) -> _Call[R]:
        """Have a call made by the next thread that has time, or make it now."""
        made = _Call(call)
        if len(self._threads) < self._most:
            thread = start_thread(self._serve)
            if thread is not None:
                self._threads.append(thread)
            else:
                self._most = len(self._threads)  # the system gives no more
        if self._threads:
            self._calls.put(made)
        else:
            made.make()
        return made

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make()
        self._calls.put(None)  # for the next; there is one more where a signal met its start

    def close(self, pending: Iterable[_Call[R]]) -> None:
        """Make none of the calls that have not begun, and wait for the others."""
        for call in pending:
            call.cancel()
        self._calls.put(None)
        for thread in self._threads:
            thread.join()


class Progress:
    """A bar and the time left, on a terminal's stderr; nothing anywhere else.

    total: inputs, if that is known. Where there is one input, its rows are what advances.
    """

    def __init__(self, total: int | None, quiet: bool) -> None:
        self.total, self.done = total, 0
        self.shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + 1.0 if total == 1 else self._began

    def step(self) -> None:
        """One input is finished."""
        self.done += 1
        if self.total != 1:
            share = f"/{self.total}" if self.total else ""
            self._draw(f"{self.done}{share}", self.done, self.total)

    def rows(self, done: int, height: int) -> None:
        """So many rows of the only input are finished."""
        if self.total == 1:
            self._draw(f"{100 * done // height}%", done, height)

    def _draw(self, text: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not self.shown or (now < self._next and done != total):
            return
        self._next = now + 0.1
        bar = f" [{'#' * (24 * done // total):<24}]" if total else ""
        elapsed = now - self._began
        if total and elapsed > 1:
            bar += f" {_clock(elapsed * (total - done) / done)} left"
        elif elapsed > 1:
            bar += f" {done / elapsed:.1f}/s"
        show_status(f"{text}{bar}")

    def end(self) -> None:
        """Clear the line."""
        clear_status()

    def summary(self, failed: int) -> str:
        """What a terminal is told at the end of a batch; "" for one input and elsewhere."""
        if not self.shown or self.done < 2:
            return ""
        elapsed = max(time.monotonic() - self._began, 1e-3)
        rate = self.done / elapsed
        return (
            f"{self.done:,} files{f', {failed} failed' if failed else ''}, {elapsed:.1f} s, "
            f"{f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'} files/s"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
