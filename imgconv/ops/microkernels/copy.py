"""Copies of rows of floats into tiles: short rows, borders, every second or fourth element."""

from typing import NamedTuple

from imgconv.jit import simd
from imgconv.jit.loop import Built, Helper, Part, loop
from imgconv.jit.record import record

LINE = 16  # floats of a cache line
# Channels until a row asked for is needed: a tenth of 128 and of 256 maps at 56² with stride 2.
AHEAD = 2
STEPS = (1, 2, 4)  # distances of elements that `fill_rows` gathers


@record
class Rows(NamedTuple):
    """Rows of a source, each of which becomes `before`, `inside` and `after` floats of a tile.

    step: of the elements that are taken, one of STEPS. ahead: what is as far beyond each source row
    is asked for into the cache, since there a CPU's own prefetching begins anew; 0 for nothing.
    """

    pitch: int  # from a row of the tile to the next
    apart: int  # from a row of the source to the next
    number: int
    before: int
    inside: int
    after: int
    step: int
    ahead: int


def copy(lanes: int) -> Helper:
    """A helper that sets target[i] = source[i] for i < length, where the ranges are apart.

    What is less than a vector goes by vectors half as wide: a mask of its own per run takes longer.
    """
    vector = simd.Vec(lanes)
    narrower = copy(lanes // 2) if lanes > 1 else None

    def copied(target, source, length):  # type: ignore[no-untyped-def]
        last = length - lanes
        if last >= 0:
            for i in range(0, last, lanes):
                simd.store(target, i, simd.load(vector, source, i))
            simd.store(target, last, simd.load(vector, source, last))
        elif narrower is not None:
            narrower(target, source, length)

    return Helper(copied)


def fill_rows(lanes: int) -> Part:
    """Rows of a tile, filled by one part for all loops that call it: see `filled_rows`."""
    return filled_rows.part(lanes)


@loop
def filled_rows(lanes: int) -> Built:
    """target[j·pitch + before + i] = source[j·apart + i·step] for j < number, i < inside.

    On both sides of that are `before` and `after` floats of filling.
    """
    single, double, fourfold = (_gather(lanes, step) for step in STEPS)
    line = simd.Vec(1)

    def body(target, source, rows, filling):  # type: ignore[no-untyped-def]
        end = rows.before + rows.inside
        for j in range(rows.number):
            row, seen = simd.at(target, j * rows.pitch), simd.at(source, j * rows.apart)
            if rows.ahead != 0:
                for i in range(0, rows.inside * rows.step, LINE):
                    simd.prefetch(line, seen, rows.ahead + i, 0)
            for i in range(rows.before):
                row[i] = filling
            for i in range(end, end + rows.after):
                row[i] = filling
        middle = simd.at(target, rows.before)
        if rows.step == 1:
            single(middle, rows.pitch, source, rows.apart, rows.number, rows.inside)
        elif rows.step == 2:
            double(middle, rows.pitch, source, rows.apart, rows.number, rows.inside)
        else:
            fourfold(middle, rows.pitch, source, rows.apart, rows.number, rows.inside)

    return "disjoint f32* f32* Rows f32", body


def _gather(lanes: int, step: int) -> Helper:
    """A helper that sets target[j·pitch + i] = source[j·apart + i·step] for j < number, i < length.

    Short rows are most of the work around small maps. A last piece of less than a vector is copied
    as one that overlaps the one before, and a row of less than a vector as one whose other lanes
    are masked, so there is no loop over single elements. Nothing past the last element is read.
    """
    vector, seen = simd.Vec(lanes), simd.Tile(1, step, lanes)
    every = _every(lanes, step)
    reach = (lanes - 1) * step + 1  # of a vector's elements in the source

    def gather(target, pitch, source, apart, number, length):  # type: ignore[no-untyped-def]
        last = length - lanes
        if last >= 0:
            whole = simd.below(seen, reach)
            for j in range(number):
                to, at = j * pitch, j * apart
                for i in range(0, last, lanes):
                    simd.store(target, to + i, every(simd.load(seen, source, at + i * step)))
                found = simd.load_masked(seen, source, at + last * step, whole, simd.zeros(seen))
                simd.store(target, to + last, every(found))
        else:
            some, stored = simd.below(seen, (length - 1) * step + 1), simd.below(vector, length)
            for j in range(number):
                found = simd.load_masked(seen, source, j * apart, some, simd.zeros(seen))
                simd.store_masked(target, j * pitch, every(found), stored)

    return Helper(gather)


def _every(lanes: int, step: int) -> Helper:
    """A helper that picks every element, or every second or fourth, of as many vectors as that."""
    parts = [simd.Places(0, v % step) for v in range(4)]
    first, second, third, fourth = parts
    picked, joined = simd.Places(*range(0, 2 * lanes, step)), simd.Places(*range(lanes))
    if step == 1:
        return Helper(lambda seen: seen)

    def halves(seen):  # type: ignore[no-untyped-def]
        return simd.shuffle(simd.part(seen, first), simd.part(seen, second), picked)

    def quarters(seen):  # type: ignore[no-untyped-def]
        low = simd.shuffle(simd.part(seen, first), simd.part(seen, second), picked)
        high = simd.shuffle(simd.part(seen, third), simd.part(seen, fourth), picked)
        return simd.shuffle(low, high, joined)

    return Helper(halves if step == 2 else quarters)
