"""Running a batch under a ledger: what is done is passed over, what is begun is finished."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from imgconv.batch import runner
from imgconv.batch.ledger import Claim, Finished, Ledger, Taken
from imgconv.batch.runner import Outcome, Work
from imgconv.errors import ImageError, ImgconvError
from imgconv.pipeline.outputs import Row

_ASIDE = 256
_POLL_SECONDS = 0.05


@dataclass
class Recorder:
    """Claims inputs before their work and records what became of them, if there is a ledger."""

    work: Work
    ledger: Ledger | None
    in_place: bool = False
    aside: deque[tuple[str, int]] = field(default_factory=deque)

    def do(self, source: str, index: int) -> list[Row]:
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

    def end(self, claim: Claim | None, outcome: Outcome[Row]) -> Outcome[Row]:
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


def skipped(source: str, outputs: list[str]) -> list[Row]:
    """The results of an input that needed no work."""
    return [{"input": source, "output": path, "skipped": True} for path in outputs]


def run(
    sources: Iterable[str | ImageError], recorder: Recorder, jobs: int, first: int = 0
) -> Iterator[Outcome[Row]]:
    """Yield an outcome for every source as `runner.run` does.

    Inputs that another process is at are put aside, at most _ASIDE of them: for `put_aside`.
    """

    def unless_taken(source: str, index: int) -> list[Row]:
        try:
            return recorder.do(source, index)
        except Taken:
            recorder.aside.append((source, index))
            return []

    for outcome in runner.run(sources, unless_taken, jobs, first):
        if outcome.results or outcome.error is not None:
            yield outcome
        yield from put_aside(recorder, _ASIDE)


def put_aside(recorder: Recorder, most: int = 0) -> Iterator[Outcome[Row]]:
    """Look again at inputs that were put aside, until there are no more than so many.

    They are finished by the process that was at them, or taken over if it is gone by then.
    """

    def when_free(source: str, index: int) -> list[Row]:
        while True:
            try:
                return recorder.do(source, index)
            except Taken:
                time.sleep(_POLL_SECONDS)

    while len(recorder.aside) > most:
        yield runner.attempt(when_free, *recorder.aside.popleft())
