"""What a ledger says of its batch, for people and for `--since last`."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

from imgconv.batch.ledger_file import CLAIMED, DONE, FAILED, Locks, reading
from imgconv.typing import JSON


@dataclass(frozen=True)
class Run:
    """One run as `jobs status` shows it; state: completed, running or interrupted."""

    id: int
    host: str
    process: int
    started: float
    ended: float | None
    state: str
    options: dict[str, JSON]
    done: int
    failed: int
    unfinished: int


class Status(NamedTuple):
    """How many inputs are in each state, and the runs."""

    done: int
    failed: int
    running: int
    interrupted: int
    runs: list[Run]

    def as_dict(self) -> dict[str, JSON]:
        """The status as a JSON object."""
        return self._asdict() | {"runs": [asdict(run) for run in self.runs]}


def status(path: str) -> Status:
    """Read a ledger's state.

    Raises UsageError where `path` is no ledger.
    """
    counts = {DONE: 0, FAILED: 0, "running": 0, "interrupted": 0}
    runs = []
    with reading(path) as db:
        locks = Locks(path)
        rows = db.execute("SELECT id, host, process, started, ended, options FROM run").fetchall()
        states: dict[int, dict[str, int]] = {}
        for run, state, count in db.execute("SELECT run, state, COUNT(*) FROM entry GROUP BY 1, 2"):
            states.setdefault(run, {})[state] = count
        for number, host, process, started, ended, options in rows:
            alive = ended is None and locks.alive(number)
            state = "completed" if ended else "running" if alive else "interrupted"
            found = states.get(number, {})
            counts[DONE] += found.get(DONE, 0)
            counts[FAILED] += found.get(FAILED, 0)
            counts["running" if alive else "interrupted"] += found.get(CLAIMED, 0)
            runs.append(Run(
                number, host, process, started, ended, state, json.loads(options),
                found.get(DONE, 0), found.get(FAILED, 0), found.get(CLAIMED, 0),
            ))  # fmt: skip
        locks.close()
    return Status(counts[DONE], counts[FAILED], counts["running"], counts["interrupted"], runs)


def entries(path: str, state: str) -> Iterator[tuple[str, str]]:
    """Yield (input, error) of every entry in a state, in the order of their claims."""
    with reading(path) as db:
        rows = db.execute("SELECT input, error FROM entry WHERE state = ? ORDER BY id", (state,))
        for name, error in rows:
            yield os.fsdecode(name), error or ""


def last_completed(path: str) -> float | None:
    """When the last run that came to its end had begun, seconds since 1970."""
    with reading(path) as db:
        row = db.execute("SELECT MAX(started) FROM run WHERE ended IS NOT NULL").fetchone()
    return None if row is None else row[0]
