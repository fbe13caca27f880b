"""What `--ledger`, `--resume` and `--since` mean to a command that writes files."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from imgconv.batch import runner
from imgconv.errors import ImageError, UsageError

if TYPE_CHECKING:
    from imgconv.batch.resuming import Work

# What decides an output's bytes beside the recipe and its name.
_DECIDING = (
    "format_", "depth", "scale", "quality", "compress", "frame", "no_metadata", "max_pixels",
)  # fmt: skip


def recent(
    sources: Iterable[str | ImageError], given: dict[str, Any]
) -> Iterable[str | ImageError]:
    """Return the sources that `--since` leaves. Raises UsageError for what it cannot mean."""
    if not given["since"]:
        return sources
    from imgconv.batch.ledger import DEFAULT
    from imgconv.batch.since import changed_since, parse_since

    return changed_since(sources, parse_since(given["since"], given["ledger"] or DEFAULT))


def run(
    sources: Iterable[str | ImageError], work: "Work", jobs: int, recipe: Any, given: dict[str, Any]
) -> Iterator[runner.Outcome]:
    """Yield the outcome of every source, recorded in the ledger where one was asked for."""
    if not (given["ledger"] or given["resume"]) or given["dry_run"]:
        yield from runner.run(sources, work, jobs)
        return
    from imgconv.batch import ledger, resuming

    if given["output"] == "-" or (given["output"] or "").endswith(":-"):
        raise UsageError("--ledger and standard output, expected -o with files")
    opened = ledger.Ledger(
        given["ledger"] or ledger.DEFAULT, recipe, {key: given[key] for key in _DECIDING},
        resume=given["resume"], overwrite=given["overwrite"] or given["in_place"],
    )  # fmt: skip
    completed = False
    try:
        yield from resuming.run(sources, work, jobs, opened, given["in_place"])
        completed = True
    finally:
        opened.close(completed)
