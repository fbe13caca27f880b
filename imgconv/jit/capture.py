"""Compiled calls noted instead of made: what a `program` is put together from.

While a thread records, loops note their addresses and arguments and compute nothing, bands of rows
become tasks, and scratch memory gets addresses that stand for each thread's own. Whatever decides
which loops run, on which rows and with which numbers is worked out as ever.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

SCRATCH = 1 << 60  # addresses from here on stand for scratch memory, whose buffers
APART = 1 << 40  # are so far apart


class Call(NamedTuple):
    """A loop's address, its arguments' types and its arguments, arrays as addresses."""

    address: int
    kinds: Sequence[str]
    values: list[Any]


class Tape:
    """Calls; tasks (first call, end); stages (first task, end): each needs those before it.

    scratch: bytes of each buffer, by name. kept: what has to live as long as the addresses.
    packs: whether weights may be copied in an order that makes each call faster.
    refused: whether something was computed in another way, so that the calls are not all.
    inside: whether a task is being recorded, which is one thread's.
    """

    def __init__(self, packs: bool = False) -> None:
        self.packs = packs
        self.calls: list[Call] = []
        self.tasks: list[tuple[int, int]] = []
        self.stages: list[tuple[int, int]] = []
        self.scratch: dict[str, int] = {}
        self.kept: list[Any] = []
        self.refused = False
        self.inside = False

    def call(self, address: int, kinds: Sequence[str], values: list[Any], owners: Any) -> None:
        """Note a call; owners: the arguments before they became addresses."""
        if not self.inside:
            self.bands(1, 1, lambda first, last: self.call(address, kinds, values, owners))
            return
        self.calls.append(Call(address, kinds, values))
        self.keep(owners)

    def keep(self, owner: Any) -> None:
        """Note what has to live as long as the addresses; of tuples (records), their parts."""
        if isinstance(owner, tuple):
            for part in owner:
                self.keep(part)
        else:
            self.kept.append(owner)

    def bands(self, rows: int, band: int, work: Callable[[int, int], Any]) -> None:
        """A stage of a task for each band of rows; within a task, a part of it."""
        if self.inside:
            for start in range(0, rows, band):
                work(start, min(start + band, rows))
            return
        first = len(self.tasks)
        for start in range(0, rows, band):
            begun = len(self.calls)
            self.inside = True
            try:
                work(start, min(start + band, rows))
            finally:
                self.inside = False
            self.tasks.append((begun, len(self.calls)))
        self.stages.append((first, len(self.tasks)))

    def undo(self, stages: int) -> None:
        """Forget all but the first stages, and that the rest was computed in another way."""
        first = self.stages[stages][0] if stages < len(self.stages) else len(self.tasks)
        begun = self.tasks[first][0] if first < len(self.tasks) else len(self.calls)
        del self.stages[stages:], self.tasks[first:], self.calls[begun:]
        self.refused = False

    def room(self, name: str, size: int) -> int:
        """What stands for the address of a thread's scratch buffer of `size` bytes."""
        number = list(self.scratch).index(name) if name in self.scratch else len(self.scratch)
        self.scratch[name] = max(size, self.scratch.get(name, 0))
        return SCRATCH + number * APART


class _Recording(threading.local):
    tape: Tape | None = None


_recording = _Recording()


def current() -> Tape | None:
    """What this thread records on, or None."""
    return _recording.tape


@contextlib.contextmanager
def recording(packs: bool = False, tape: Tape | None = None) -> Iterator[Tape]:
    """Record what this thread computes; arrays that it makes hold no results.

    tape: one to go on with.
    """
    _recording.tape = tape = tape or Tape(packs)
    try:
        yield tape
    finally:
        _recording.tape = None


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Compute in the middle of a recording."""
    tape, _recording.tape = _recording.tape, None
    try:
        yield
    finally:
        _recording.tape = tape


def keep(owner: Any) -> None:
    """Keep what owns memory that recorded calls know by address alone."""
    if _recording.tape is not None:
        _recording.tape.keep(owner)


def refuse() -> None:
    """Say that a computation cannot be recorded as it is done here."""
    if _recording.tape is not None:
        _recording.tape.refused = True
