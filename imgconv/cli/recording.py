"""What `--ledger`, `--resume`, `--since` and `--cluster` mean to a command that writes files."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imgconv.batch import runner
from imgconv.errors import ImageError
from imgconv.ops.algorithms import select
from imgconv.pipeline.filtering import Recipe
from imgconv.pipeline.settings import BatchSettings, Settings

if TYPE_CHECKING:
    from imgconv.batch.resuming import Work

LEAST = 12  # files that repay the start of worker processes


def recent(sources: Iterable[str | ImageError], batch: BatchSettings) -> Iterable[str | ImageError]:
    """Return the sources that `--since` leaves. Raises UsageError for what it cannot mean."""
    if not batch.since:
        return sources
    from imgconv.batch.ledger_file import DEFAULT
    from imgconv.batch.since import changed_since, parse_since

    return changed_since(sources, parse_since(batch.since, batch.ledger or DEFAULT))


def run(
    sources: Iterable[str | ImageError], work: "Work", jobs: int, total: int | None,
    recipe: Recipe, settings: Settings,
) -> Iterator[runner.Outcome]:  # fmt: skip
    """Yield the outcome of every source, by a cluster and recorded where that was asked for."""
    batch, write = settings.batch, settings.write
    recording = batch.ledger or batch.resume
    if batch.dry_run or not (recording or batch.cluster):
        yield from _by_workers(sources, work, jobs, total, settings, runner.run)
        return
    from imgconv.batch import ledger, resuming
    from imgconv.batch.ledger_file import DEFAULT

    opened = None
    if recording:
        opened = ledger.Ledger(
            batch.ledger or DEFAULT, recipe, write.deciding(),
            resume=batch.resume, overwrite=write.overwrite or write.in_place,
        )  # fmt: skip
    recorder = resuming.Recorder(work, opened, write.in_place)
    completed = False
    try:
        if batch.cluster:
            from imgconv.batch.cluster import client as cluster

            yield from cluster.run(sources, batch.cluster, recorder, total, batch.threads)
        else:
            yield from _by_workers(
                sources, work, jobs, total, settings,
                lambda some, by, *rest: resuming.run(some, replace(recorder, work=by), *rest),
            )  # fmt: skip
            yield from resuming.put_aside(recorder)
        completed = True
    finally:
        if opened:
            opened.close(completed)


def _by_workers(
    sources: Iterable[str | ImageError], work: "Work", jobs: int, total: int | None,
    settings: Settings, run: Any,
) -> Iterator[runner.Outcome]:  # fmt: skip
    """Yield what `run(sources, work, jobs, 0)` yields, by processes where these are of use."""
    # A pipe, or a file that has changed, may have frames that are named only when it is read, and
    # plans are told where the loops run.
    alone = jobs == 1 or settings.batch.dry_run or settings.read.frame == "all" or select.is_told()
    if alone or (total is not None and total < LEAST):
        yield from run(sources, work, jobs, 0)
        return
    from imgconv.batch import workers

    yield from workers.run(sources, work, jobs, run)
