"""Recorded calls made again on other arrays of the same layout, and a bounded number of them kept.

Checking a convolution's arguments, choosing how to compute it and laying it out takes 0.1 to 0.3 ms
of Python, a hundred times what a 3×3 kernel needs for 64×64 pixels. What that comes to is a list
of calls of loops (`capture`), in which only the addresses of the input, of the result and of a
thread's scratch memory are new the next time.
"""

import functools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from imgconv.jit import scratch
from imgconv.jit.capture import APART, SCRATCH, Call, Tape
from imgconv.jit.loop import address, c_function
from imgconv.jit.parallel import over_bands


class _Call(NamedTuple):
    """A call without the addresses that are new each time.

    given: (argument, number of the array); scratch: (argument, offset in the thread's memory).
    """

    function: Callable[..., None]
    values: list[Any]
    given: list[tuple[int, int]]
    scratch: list[tuple[int, int]]


class Bound:
    """The calls of a tape as a function of where arrays begin; for any threads at once."""

    def __init__(self, tape: Tape, given: Sequence[int]) -> None:
        """given: where the arrays began that the calls were recorded with and are to be new."""
        offsets, self._room = [], 0
        for size in tape.scratch.values():
            offsets.append(self._room)
            self._room += size + -size % scratch.LINE
        calls = [_unbound(call, given, offsets) for call in tape.calls]
        self._stages = [
            [calls[first:end] for first, end in tape.tasks[begin:stop]]
            for begin, stop in tape.stages
        ]
        self._kept = [
            owner for owner in tape.kept
            if isinstance(owner, np.ndarray) and address(owner) not in given
        ]  # fmt: skip

    def __call__(self, bases: Sequence[int]) -> None:
        """Make the calls; bases: where the arrays begin that the caller keeps meanwhile."""
        for tasks in self._stages:
            if len(tasks) == 1:
                self._run(tasks, bases)
            else:
                share = functools.partial(self._share, tasks, bases)
                over_bands(len(tasks), 1, share)

    def _share(self, tasks: list[list[_Call]], bases: Sequence[int], first: int, last: int) -> None:
        self._run(tasks[first:last], bases)

    def _run(self, tasks: list[list[_Call]], bases: Sequence[int]) -> None:
        room = scratch.address("bound", self._room, np.uint8) if self._room else 0
        for calls in tasks:
            for function, values, given, own in calls:
                values = values.copy()
                for place, number in given:
                    values[place] = bases[number]
                for place, offset in own:
                    values[place] = room + offset
                function(*values)


def _unbound(call: Call, bases: Sequence[int], rooms: Sequence[int]) -> _Call:
    given, own = [], []
    for place, (kind, value) in enumerate(zip(call.kinds, call.values, strict=True)):
        if not kind.endswith("*") or value is None:
            continue
        if value in bases:
            given.append((place, bases.index(value)))
        elif value >= SCRATCH:
            number, distance = divmod(value - SCRATCH, APART)
            own.append((place, rooms[number] + distance))
    return _Call(c_function(call.address, call.kinds), list(call.values), given, own)


class Plans:
    """What was planned for calls that were made, by what decides it; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._plans: dict[Hashable, Any] = {}
        self._lock = threading.Lock()
        self.get = self._plans.get

    def put(self, key: Hashable, plan: Any) -> None:
        """Keep a plan."""
        with self._lock:
            while len(self._plans) >= self._most:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._plans.clear()
