"""What a command prints of its inputs: errors, lines, JSON, a bar."""

import json
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Generic

from imgconv.batch.runner import Outcome, Progress, R
from imgconv.console import printable, say
from imgconv.pipeline.outputs import Row
from imgconv.pipeline.settings import BatchSettings


class Printer(Generic[R]):
    """Prints outcomes as they come; `exit_code` is what has become of all so far.

    total: inputs, where that is known. show: prints what an outcome holds. bar: whether one shows
    how far they are.
    """

    def __init__(
        self, total: int | None, settings: BatchSettings, show: Callable[[Outcome[R]], None],
        bar: bool = True,
    ) -> None:  # fmt: skip
        self.exit_code = 0
        self._total, self._show = total, show
        self.progress = Progress(total, not bar or settings.quiet or settings.as_json)

    def __enter__(self) -> "Printer[R]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.progress.end()

    def tell(self, outcome: Outcome[R]) -> None:
        """Print what became of an input."""
        self.progress.step()
        if outcome.error is not None:
            self.progress.end()
            code = outcome.error.exit_code if self._total == 1 else 1
            self.exit_code = max(self.exit_code, code)
            say(f"imgconv: {outcome.error}")
        self._show(outcome)


def show_files(settings: BatchSettings) -> Callable[[Outcome[Row]], None]:
    """What prints the outputs that were made, where that was asked for."""
    if settings.as_json:
        return _print_json
    if not (settings.dry_run or settings.verbose):
        return lambda outcome: None

    def show(outcome: Outcome[Row]) -> None:
        stream = sys.stdout if settings.dry_run else sys.stderr
        # The maps in an archive are one output.
        rows = {row["output"]: row for row in outcome.results}
        for path, row in rows.items():
            if not (settings.dry_run and row.get("skipped")):
                print(f"{printable(row['input'])} -> {printable(path)}", file=stream)

    return show


def _print_json(outcome: Outcome[Row]) -> None:
    rows: list[Row] = outcome.results
    if outcome.error is not None:
        rows = [{"input": outcome.source, "error": str(outcome.error)}]
    for row in rows:
        safe = {k: _in_unicode(v) if isinstance(v, str) else v for k, v in row.items()}
        print(json.dumps(safe), flush=True)


def _in_unicode(text: str) -> str:
    """Names as they are, except bytes that are not UTF-8, which JSON cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
