"""Running a batch under a ledger: what is done is passed over, what is begun is finished."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from imgconv.batch import runner
from imgconv.batch.ledger import Claim, Finished, Ledger, Taken
from imgconv.batch.runner import Outcome
from imgconv.errors import ImageError, ImgconvError
from imgconv.io.scaling import Lost
from imgconv.ops.rows import RowSource
from imgconv.pipeline.division import Division

_ASIDE = 256
_POLL_SECONDS = 0.05


class Work(Protocol):
    """Makes the outputs of one input; `outputs` names them beforehand.

    Under a cluster an image may be Divided: `part` makes rows of it, `assembled` its file.
    """

    def outputs(self, source: str, index: int) -> list[str]: ...

    def warm(self) -> None: ...

    def __call__(self, source: str, index: int, replace: bool = False) -> list[dict[str, Any]]: ...

    def part(
        self, source: str, index: int, start: int, stop: int, folder: str | None
    ) -> tuple[Any, Lost]: ...

    def assembled(
        self, source: str, division: Division, rows: RowSource, replace: bool
    ) -> dict[str, Any]: ...


@dataclass
class Recorder:
    """Claims inputs before their work and records what became of them, if there is a ledger."""

    work: Work
    ledger: Ledger | None
    in_place: bool = False
    aside: deque[tuple[str, int]] = field(default_factory=deque)

    def do(self, source: str, index: int) -> list[dict[str, Any]]:
        """An input's results, claimed before and recorded after. Raises Taken, ImgconvError."""
        try:
            claim = self.begin(source, index)
        except Finished as finished:
            return skipped(source, finished.outputs)
        replace = claim is not None and claim.replace
        outcome = runner.attempt(lambda s, i: self.work(s, i, replace), source, index)
        outcome = self.end(claim, outcome)
        if outcome.error is not None:
            raise outcome.error
        return outcome.results

    def begin(self, source: str, index: int) -> Claim | None:
        """Claim an input. Raises Taken, Finished, and UsageError where outputs collide."""
        planned = self.work.outputs(source, index)
        return self.ledger.claim(source, planned) if self.ledger else None

    def end(self, claim: Claim | None, outcome: Outcome) -> Outcome:
        """Record an outcome and return it, or the failure to record it."""
        if self.ledger is None or claim is None:
            return outcome
        try:
            if outcome.error is not None:
                self.ledger.fail(claim, outcome.error)
            else:
                paths = {row["output"] for row in outcome.results}
                self.ledger.finish(claim, outcome.source, paths, self.in_place)
        except ImgconvError as error:
            return Outcome(outcome.source, outcome.results, outcome.error or error)
        return outcome


def skipped(source: str, outputs: list[str]) -> list[dict[str, Any]]:
    """The results of an input that needed no work."""
    return [{"input": source, "output": path, "skipped": True} for path in outputs]


def run(
    sources: Iterable[str | ImageError], recorder: Recorder, jobs: int, first: int = 0
) -> Iterator[Outcome]:
    """Yield an outcome for every source as `runner.run` does.

    Inputs that another process is at are put aside, at most _ASIDE of them: for `put_aside`.
    """

    def unless_taken(source: str, index: int) -> list[dict[str, Any]]:
        try:
            return recorder.do(source, index)
        except Taken:
            recorder.aside.append((source, index))
            return []

    for outcome in runner.run(sources, unless_taken, jobs, first):
        if outcome.results or outcome.error is not None:
            yield outcome
        yield from put_aside(recorder, _ASIDE)


def put_aside(recorder: Recorder, most: int = 0) -> Iterator[Outcome]:
    """Look again at inputs that were put aside, until there are no more than so many.

    They are finished by the process that was at them, or taken over if it is gone by then.
    """

    def when_free(source: str, index: int) -> list[dict[str, Any]]:
        while True:
            try:
                return recorder.do(source, index)
            except Taken:
                time.sleep(_POLL_SECONDS)

    while len(recorder.aside) > most:
        yield runner.attempt(when_free, *recorder.aside.popleft())
