"""What a command prints of its inputs: errors, lines, JSON, a bar."""

import json
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic

from imgconv.batch.runner import Outcome, Progress, R
from imgconv.console import echo, printable, say
from imgconv.pipeline.settings import BatchSettings, Settings

if TYPE_CHECKING:
    from imgconv.pipeline.outputs import Row


class Printer(Generic[R]):
    """Prints outcomes as they come; `exit_code` is what has become of all so far.

    total: inputs, where that is known. show: prints what an outcome holds. bar: whether one shows
    how far they are.
    """

    def __init__(
        self, total: int | None, settings: BatchSettings, show: Callable[[Outcome[R]], None],
        bar: bool = True,
    ) -> None:  # fmt: skip
        self.exit_code, self._failed, self._settings = 0, 0, settings
        self._total, self._show = total, show
        self.progress = Progress(total, not bar or settings.quiet or settings.as_json)

    def __enter__(self) -> "Printer[R]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.progress.end()
        summary = "" if self._settings.dry_run else self.progress.summary(self._failed)
        if kind is None and summary:
            say(summary)
        elif summary and not issubclass(kind or Exception, Exception):  # Ctrl-C and the like
            kept = self._settings.ledger or self._settings.resume
            way = "--resume" if kept else "--skip-existing"
            say(f"imgconv: stopped: {summary}; the same command with {way} continues")

    def tell(self, outcome: Outcome[R]) -> None:
        """Print what became of an input."""
        self.progress.step()
        if outcome.error is not None:
            self._failed += 1
            code = outcome.error.exit_code if self._total == 1 else 1
            self.exit_code = max(self.exit_code, code)
            say(f"imgconv: {outcome.error}")
            if self._settings.as_json:
                echo_row({"input": outcome.source, "error": str(outcome.error)})
            if self._settings.debug and outcome.error.__cause__ is not None:
                import traceback

                traceback.print_exception(outcome.error.__cause__)
        self._show(outcome)


def show_files(settings: Settings, total: int | None) -> "Callable[[Outcome[Row]], None]":
    """What prints the outputs that were made: where that was asked for, or we chose a name."""
    batch, write = settings.batch, settings.write
    if batch.as_json:
        return echo_rows
    terminal = sys.stderr is not None and sys.stderr.isatty()
    chosen = total == 1 and not (write.output or write.in_place or settings.show.report)
    if not (batch.dry_run or batch.verbose or (terminal and chosen and not batch.quiet)):
        return lambda outcome: None

    def show(outcome: "Outcome[Row]") -> None:
        tell = echo if batch.dry_run else say
        # The maps in an archive are one output.
        rows = {row["output"]: row for row in outcome.results}
        for path, row in rows.items():
            if not (batch.dry_run and row.get("skipped")):
                tell(f"{printable(row['input'])} -> {printable(path)}")

    return show


def echo_rows(outcome: Outcome[R]) -> None:
    """Print what an outcome holds, one JSON object per line."""
    for row in outcome.results:
        echo_row(row)


def echo_row(row: object) -> None:
    """Print one JSON object; names are as they are, but for bytes that are not UTF-8."""
    assert isinstance(row, dict)
    echo(json.dumps({k: _in_unicode(v) if isinstance(v, str) else v for k, v in row.items()}))


def _in_unicode(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
