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
from imgconv.errors import ImageError, ImgconvError
from imgconv.io.publish import while_waiting
from imgconv.io.source import stopping
from imgconv.jit import parallel

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
    except ImgconvError as error:
        return Outcome(source, error=naming(error, source))
    except MemoryError:
        return Outcome(source, error=naming(ImageError("out of memory"), source))


def failed(error: ImageError) -> Outcome[R]:
    """The outcome of a name that led to no input."""
    return Outcome(error.source or str(error), error=error)


def naming(error: ImgconvError, source: str) -> ImgconvError:
    """The error, with the input's name before its text unless that is in it already.

    What an encoder says, for one, is of channels and sizes alone.
    """
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
    from concurrent.futures import Future, ThreadPoolExecutor

    pending: deque[Future[Outcome[R]]] = deque()
    try:
        with ThreadPoolExecutor(threads) as pool:
            try:
                for call in calls:
                    pending.append(pool.submit(call))
                    if len(pending) >= most:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            except BaseException:
                stopping.set()  # the pool waits for threads that may wait for a pipe
                raise
            finally:
                for future in pending:
                    future.cancel()
    finally:
        stopping.clear()


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
        return (
            f"{self.done} files{f', {failed} failed' if failed else ''}, {elapsed:.1f} s, "
            f"{self.done / elapsed:.3g} files/s"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
