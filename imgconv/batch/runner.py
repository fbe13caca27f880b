"""The local runner: many inputs, a few at once, each failure named and the rest done."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from imgconv.errors import ImageError, ImgconvError


@dataclass
class Outcome:
    """What became of one input: results for `--json`, or the error."""

    source: str
    results: list[dict[str, Any]] = field(default_factory=list)
    error: ImgconvError | None = None


def attempt(
    work: Callable[[str, int], list[dict[str, Any]]], source: str | ImageError, index: int
) -> Outcome:
    """Do one source's work; a failure becomes its outcome."""
    if isinstance(source, ImageError):
        return Outcome(str(source).partition(":")[0], error=source)
    try:
        return Outcome(source, work(source, index))
    except ImgconvError as error:
        return Outcome(source, error=error)
    except MemoryError:
        return Outcome(source, error=ImageError(f"{source}: out of memory"))


def run(
    sources: Iterable[str | ImageError], work: Callable[[str, int], list[dict[str, Any]]], jobs: int
) -> Iterator[Outcome]:
    """Yield an outcome for every source, in order; at most 2 × jobs are under way at once."""
    if jobs == 1:
        for index, source in enumerate(sources):
            yield attempt(work, source, index)
        return
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    pending: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for index, source in enumerate(sources):
                pending.append(pool.submit(attempt, work, source, index))
                if len(pending) >= 2 * jobs:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class Progress:
    """A bar on a terminal's stderr, nothing anywhere else."""

    def __init__(self, total: int | None, quiet: bool) -> None:
        self.total, self.done = total, 0
        self.shown = not quiet and total != 1 and sys.stderr is not None and sys.stderr.isatty()

    def step(self) -> None:
        """One input is finished."""
        self.done += 1
        if self.shown:
            share = f"/{self.total}" if self.total else ""
            filled = 24 * self.done // self.total if self.total else 0
            bar = f" [{'#' * filled:<24}]" if self.total else ""
            print(f"\r{self.done}{share}{bar}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
