"""Running a batch under a ledger: what is done is passed over, what is begun is finished."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from imgconv.batch import runner
from imgconv.batch.ledger import Finished, Ledger, Taken
from imgconv.batch.runner import Outcome
from imgconv.errors import ImageError, ImgconvError

_ASIDE = 256
_POLL_SECONDS = 0.05


class Work(Protocol):
    """Makes the outputs of one input; `outputs` names them beforehand."""

    def outputs(self, source: str, index: int) -> list[str]: ...

    def __call__(self, source: str, index: int, replace: bool = False) -> list[dict[str, Any]]: ...


def run(
    sources: Iterable[str | ImageError], work: Work, jobs: int, ledger: Ledger, in_place: bool
) -> Iterator[Outcome]:
    """Yield an outcome for every source as `runner.run` does.

    Inputs that another process is at are put aside, at most _ASIDE of them, and looked at again
    when all else is done: finished there, or taken over if that process is gone by then.
    """
    aside: deque[tuple[str, int]] = deque()

    def one(source: str, index: int) -> list[dict[str, Any]]:
        planned = work.outputs(source, index)
        try:
            claim = ledger.claim(source, planned)
        except Finished as finished:
            return [{"input": source, "output": path, "skipped": True} for path in finished.outputs]
        try:
            results = work(source, index, claim.replace)
        except (ImgconvError, MemoryError) as error:
            ledger.fail(claim, error if str(error) else ImageError("out of memory"))
            raise
        ledger.finish(claim, source, {row["output"] for row in results}, in_place)
        return results

    def unless_taken(source: str, index: int) -> list[dict[str, Any]]:
        try:
            return one(source, index)
        except Taken:
            aside.append((source, index))
            return []

    def when_free(source: str, index: int) -> list[dict[str, Any]]:
        while True:
            try:
                return one(source, index)
            except Taken:
                time.sleep(_POLL_SECONDS)

    for outcome in runner.run(sources, unless_taken, jobs):
        if outcome.results or outcome.error is not None:
            yield outcome
        while len(aside) > _ASIDE:
            yield runner.attempt(when_free, *aside.popleft())
    while aside:
        yield runner.attempt(when_free, *aside.popleft())
