"""Compiled calls played back without Python between them.

Between two layers of a network Python took 20 to 60 µs on one thread, and waking a thread for
every layer as long again: EfficientNet-B0's 125 layers spent 6 of 33 ms so, LeNet-5's eight 0.15
of 0.2. Here each thread enters one compiled loop that takes tasks from a counter. Stages need no
meeting: tasks are numbered in the order of the stages, and one begins when all tasks of the stages
before it are done, which a second counter says.
"""

import ctypes
import functools
import os
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.jit import loop as jit
from imgconv.jit import simd
from imgconv.jit.capture import APART, SCRATCH, Call, Tape
from imgconv.jit.loop import Built, loop
from imgconv.jit.parallel import over_bands
from imgconv.jit.record import dtype_of, record
from imgconv.typing import Array, Bytes, Int64

LINE = 64  # bytes
RECORD = 32  # numbers a call: address, integers, FLOATS of float32
FLOATS = 2
MOST = RECORD - 1 - FLOATS
DONE = 8  # the counter of tasks that are done, in another cache line than that of taken ones
_APART = ("x86_64", "amd64", "aarch64", "arm64")
SPINS = 64  # looks at a counter until another process gets the core: 3 µs


@record
class Task(NamedTuple):
    """Calls first…end − 1, once `before` tasks are done; image: which one they are for, or −1."""

    first: int
    end: int
    before: int
    image: int


@record
class Move(NamedTuple):
    """What stands at `place` of the records: `base` for image 0, `step` more for each next one."""

    place: int
    base: int
    step: int


@loop
def play() -> Built:
    """Take tasks while there are any.

    records: the calls, RECORD numbers each. breathe: the call that offers the core to others.
    """
    # Integers and floats are counted apart (System V's and ARM's ways of calling), and what a
    # function does not ask for does no harm.
    numbers = simd.Places(MOST, FLOATS)

    def body(counters, tasks, records, moves, total, moved, breathe):  # type: ignore[no-untyped-def]
        number = simd.fetch_add(counters, 0, 1)
        while number < total:
            task = tasks[number]
            looks = 0
            while simd.load_shared(counters, DONE) < task.before:
                looks += 1
                if looks % SPINS == 0 and breathe[0] != 0:
                    simd.call(breathe, 0, numbers)
            if task.image >= 0:
                for i in range(moved):
                    move = moves[i]
                    records[move.place] = move.base + task.image * move.step
            for k in range(task.first, task.end):
                simd.call(records, k * RECORD, numbers)
            simd.fetch_add(counters, DONE, 1)
            number = simd.fetch_add(counters, 0, 1)

    return "i64* Task* i64* Move* i64 i64 i64*", body


@functools.cache
def _breath() -> Int64:
    """A record of the call that offers the core to others; of none where there is no such call."""
    call = np.zeros(RECORD, np.int64)
    try:
        offer = ctypes.CDLL(None).sched_yield
    except (OSError, TypeError, AttributeError):
        return call
    call[0] = ctypes.cast(offer, ctypes.c_void_p).value or 0
    return call


class Region(NamedTuple):
    """Memory that the calls were recorded with, and what stands for it when they are played.

    place: an offset in the program's own memory, −1 − number of an array that `run` is given, or
    from SCRATCH on what stands for scratch memory. step: bytes from an image's to the next one's.
    """

    start: int
    size: int
    place: int
    step: int = 0


def takes(tape: Tape) -> bool:
    """Whether a program can be made of a tape: of arguments that a record holds."""
    apart = os.name == "posix" and platform.machine().lower() in _APART
    kinds = {tuple(call.kinds) for call in tape.calls}
    return all(
        "f64" not in kind and kind.count("f32") <= (FLOATS if apart else 0)
        and len(kind) - kind.count("f32") <= MOST
        for kind in kinds
    )  # fmt: skip


def _table(calls: Sequence[Call]) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """A record of each call, and which of its numbers are addresses of arrays."""
    values = np.zeros((len(calls), RECORD), np.int64)
    pointer = np.zeros((len(calls), RECORD), bool)
    for row, call in enumerate(calls):
        pairs = [*zip(call.kinds, call.values, strict=True)]
        whole = [(kind, value) for kind, value in pairs if kind != "f32"]
        floats = np.array([value for kind, value in pairs if kind == "f32"], np.float32)
        values[row, 0] = call.address
        values[row, 1 : 1 + len(whole)] = [value or 0 for _, value in whole]
        pointer[row, 1 : 1 + len(whole)] = [kind.endswith("*") for kind, _ in whole]
        values[row, 1 + MOST :][: len(floats)] = floats.view(np.int32)
    return values, pointer


class Memory:
    """What programs that are played one after the other compute in.

    block: of `own` bytes, from `start` on. rooms: each thread's scratch buffers by name.
    """

    def __init__(self, own: int, tapes: Sequence[Tape], threads: int) -> None:
        self.block = np.empty(own + LINE, np.uint8)
        self.start = _aligned(self.block)
        sizes: dict[str, int] = {}
        for tape in tapes:
            sizes |= {name: max(size, sizes.get(name, 0)) for name, size in tape.scratch.items()}
        self.rooms = [
            {name: np.empty(size + LINE, np.uint8) for name, size in sizes.items()}
            for _ in range(threads)
        ]


class Program:
    """The calls of a tape; not for two threads of the caller at once."""

    def __init__(
        self, tape: Tape, regions: Sequence[Region], memory: Memory, threads: int, images: int = 0
    ) -> None:
        """images: how many images the first task is played for, if it is one for each."""
        owners = {id(owner): owner for owner in tape.kept}
        self._kept = [owner for owner in owners.values() if not _within(owner, regions)]
        stages = [(tape.tasks[first:end]) for first, end in tape.stages if end > first]
        every = stages.pop(0)[0] if images else (0, 0)
        tasks = [(*every, 0, image) for image in range(images)]
        done = images
        chains: list[list[tuple[int, int]]] = []
        for stage in stages:
            # What is for one thread anyway needs no second one between.
            if chains and len(chains[-1]) == len(stage) == 1:
                stage = [(chains.pop()[0][0], stage[0][1])]
            chains.append(stage)
        self._threads = min(threads, max([1, images, *map(len, chains)]))
        for stage in chains:
            tasks += [(first, end, done, -1) for first, end in stage]
            done += len(stage)
        self._tasks = np.array(tasks, dtype_of(Task))
        values, pointer = _table(tape.calls)
        self._memory = memory
        begin = memory.start
        regions = sorted(regions)
        starts = np.array([region.start for region in regions], np.int64)
        ends = starts + [region.size for region in regions]
        which = np.searchsorted(starts, values, "right") - 1
        inside = pointer & (which >= 0) & (values < ends[which])
        places, steps = (
            np.where(inside, np.array(numbers, np.int64)[which], 0)
            for numbers in zip(*((region.place, region.step) for region in regions), strict=True)
        )
        offsets = np.where(inside, values - starts[which], 0)
        kept = inside & (places >= 0)
        values[kept] = (places + offsets + np.where(places < SCRATCH, begin, 0))[kept]
        apart = pointer & (values >= SCRATCH)
        room, distance = np.divmod(values[apart] - SCRATCH, APART)
        records = []
        for own in memory.rooms[: self._threads]:
            starts = np.array([_aligned(own[name]) for name in tape.scratch], np.int64)
            records.append(values.copy())
            records[-1][apart] = starts[room] + distance
        moved = np.flatnonzero(steps)
        moves = np.stack([moved, values.flat[moved], steps.flat[moved]], 1)
        # Each thread's records, then the moves.
        self._numbers = np.concatenate([table.ravel() for table in (*records, moves)])
        tables = np.split(self._numbers, values.size * np.arange(1, self._threads + 1))
        # All places where the address of a given array stands: (place, offset in the array).
        fixed = np.flatnonzero((places < 0) & (steps == 0))
        spots = [fixed + thread * values.size for thread in range(self._threads)]
        spots.append(len(self._numbers) - moves.size + 3 * np.arange(len(moved)) + 1)
        sources = np.concatenate([*[fixed] * self._threads, moved])
        numbers, at = -1 - places.flat[sources], np.concatenate(spots)
        self._given = {
            number: _scalars(at[numbers == number], offsets.flat[sources[numbers == number]])
            for number in sorted({*numbers[numbers >= 0].tolist()})
        }
        self._counters = np.zeros(2 * DONE, np.int64)
        loop = play()
        self._enter = [
            loop.fix(
                self._counters, self._tasks, tables[thread], tables[-1].view(dtype_of(Move)),
                len(self._tasks), len(moves), _breath(),
            )
            for thread in range(self._threads)
        ]  # fmt: skip

    def run(self, given: Sequence[Array | None] = ()) -> None:
        """Compute; given: the arrays that regions number; None for those that no call reads."""
        for number, (places, offsets) in self._given.items():
            array = given[number]
            assert array is not None
            self._numbers[places] = offsets + jit.address(array)
        self._counters.fill(0)
        enter = self._enter
        if self._threads == 1:
            enter[0]()
            return

        def work(first: int, last: int) -> None:
            assert given  # kept while a thread is at work
            for thread in range(first, last):
                enter[thread]()

        over_bands(self._threads, 1, work)


def _scalars(*arrays: Int64) -> tuple[Any, ...]:
    """Arrays of one element as numbers: NumPy puts one in its place in a twentieth of the time."""
    return tuple(array.item() if array.size == 1 else array for array in arrays)


def _aligned(room: Bytes) -> int:
    start = jit.address(room)
    return start + -start % LINE


def _within(array: Any, regions: Sequence[Region]) -> bool:
    """Whether an array's memory is played from another place, so that it need not be kept."""
    if not isinstance(array, np.ndarray):
        return False
    start = jit.address(array)
    return any(region.start <= start < region.start + region.size for region in regions)
