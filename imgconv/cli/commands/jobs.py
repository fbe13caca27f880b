"""`imgconv jobs`."""

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from imgconv.batch.ledger_status import Status

from imgconv.cli.help import Group
from imgconv.console import echo


@click.group(cls=Group)
def jobs() -> None:
    """Look at the ledger of a batch: what is done, what failed, what remains."""


@jobs.command()
@click.argument("ledger", required=False, type=click.Path(path_type=str), metavar="[LEDGER]")
@click.option(
    "--failed", is_flag=True, help="Print only the names of inputs that failed, one per line."
)
@click.option(
    "--unfinished",
    is_flag=True,
    help="Print only the names of inputs that were begun, one per line.",
)
@click.option("-0", "--null", is_flag=True, help="End names with NUL, for --files-from - --null.")
@click.option("--json", "as_json", is_flag=True, help="Counts and runs as one JSON object.")
def status(ledger: str | None, failed: bool, unfinished: bool, null: bool, as_json: bool) -> None:
    """Show how far a ledger's batch has come.

    \b
    imgconv jobs status
    imgconv jobs status thumbs.sqlite --json
    imgconv jobs status --failed -0 | imgconv apply -k sobel --files-from - -0 -o out/ --resume

    The default LEDGER is imgconv-ledger.sqlite in this folder.
    """
    from imgconv.batch import ledger_file, ledger_status

    path = ledger or ledger_file.DEFAULT
    if failed or unfinished:
        end = b"\0" if null else b"\n"
        out = sys.stdout.buffer
        for state in [ledger_file.FAILED] * failed + [ledger_file.CLAIMED] * unfinished:
            for name, _ in ledger_status.entries(path, state):
                out.write(name.encode(sys.getfilesystemencoding(), "surrogateescape") + end)
        return
    found = ledger_status.status(path)
    if as_json:
        echo(json.dumps({"ledger": path, **found.as_dict()}))
        return
    _show(path, found)


def _show(path: str, found: "Status") -> None:
    from datetime import datetime

    from imgconv.batch import ledger_file, ledger_status
    from imgconv.console import say

    for name in ("done", "failed", "running", "interrupted"):
        echo(f"{name:12} {getattr(found, name)}")
    for run in found.runs:
        began = datetime.fromtimestamp(run.started).isoformat(" ", "seconds")
        place = f" (process {run.process} on {run.host})" if run.state == "running" else ""
        echo(
            f"run {run.id}, {began}: {run.state}{place}, "
            f"{run.done} done, {run.failed} failed, {run.unfinished} unfinished"
        )
    for name, error in ledger_status.entries(path, ledger_file.FAILED):
        say(f"failed: {error if name in error else f'{name}: {error}'}")
