"""Recorded calls made again on other arrays of the same layout; of them so many bytes are kept.

Checking a convolution's arguments, choosing how to compute it and laying it out takes 0.1 to 0.3 ms
of Python, a hundred times what a 3×3 kernel needs for 64×64 pixels. What that comes to is a list
of calls of loops (`capture`), in which only the addresses of the input, of the result and of a
thread's scratch memory are new the next time.
"""

import functools
import itertools
import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from types import FunctionType
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
        self._kept = [owner for owner in tape.kept if _outlives_call(owner, given)]

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


def _outlives_call(owner: Any, given: Sequence[int]) -> bool:
    """Whether the calls read memory of an owner that is not given anew each time."""
    if isinstance(owner, np.ndarray):
        return address(owner) not in given
    return not isinstance(owner, int | float | None)


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


class _Entry:
    """A plan, the bytes that it holds with its key, and when it was last asked for."""

    def __init__(self, plan: Any, size: int, used: int) -> None:
        self.plan, self.size, self.used = plan, size, used


class Plans:
    """What was planned for calls that were made, by what decides it, up to a number of bytes.

    What was not asked for the longest goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[Hashable, _Entry] = {}
        self._clock = itertools.count()
        self._lock = threading.Lock()
        self.size = 0

    def get(self, key: Hashable) -> Any:
        """The plan under a key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = next(self._clock)
        return entry.plan

    def put(self, key: Hashable, plan: Any) -> None:
        """Keep a plan if it is not larger than all plans may be."""
        hash(key)
        size = held((key, plan))
        with self._lock:
            old = self._entries.pop(key, None)
            self.size -= old.size if old else 0
            if size > self._most:
                return
            if self.size + size > self._most:
                self._make_room(size)
            self._entries[key] = _Entry(plan, size, next(self._clock))
            self.size += size

    def _make_room(self, size: int) -> None:
        """Drop plans until `size` bytes fit, and an eighth more: to sort them takes time."""
        goal = max(self._most - size - self._most // 8, 0)
        for key in sorted(self._entries, key=lambda key: self._entries[key].used):
            if self.size <= goal:
                break
            self.size -= self._entries.pop(key).size

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._entries.clear()
            self.size = 0


def held(*owners: Any) -> int:
    """Bytes of some objects and of what they hold, arrays with all of their memory."""
    total, waiting = 0, [*owners]
    seen: set[int] = set()
    while waiting:
        owner = waiting.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        total += sys.getsizeof(owner)
        if isinstance(owner, np.ndarray):
            waiting += [] if owner.base is None else [owner.base]
        elif isinstance(owner, tuple | list):
            waiting += owner
        elif isinstance(owner, dict):
            waiting += owner.values()
        elif not isinstance(owner, type | FunctionType):
            waiting += getattr(owner, "__dict__", {}).values()
    return total
