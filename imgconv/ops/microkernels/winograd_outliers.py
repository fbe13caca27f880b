"""Tiles of Winograd's algorithm whose outputs are to be summed tap by tap.

A transform spreads a pixel's rounding over its tile. Where the largest pixel of a tile is more than
2¹⁰ times the largest that one of its outputs sees, or is huge or not finite, these outputs are
summed tap by tap: a NaN, an infinity or a 1e30 reaches no output that does not see it.
"""

import functools

import numpy as np

from imgconv.jit import simd
from imgconv.jit.loop import Helper
from imgconv.ops import epilogue
from imgconv.ops.microkernels.winograd import SEEN, SIDE

# Bits: 2¹⁰ times a number, what counts for 0, and what might overflow where tiles are transformed.
SPREAD = 10 << 23
NOTHING, HUGE = (int(np.float32(value).view(np.int32)) for value in (16, 1e30))


def _row_extremes(lanes: int) -> Helper:
    """A helper (high, low, marks, pitch, count, outputs) for a row of tiles, `count` pixels long.

    high[x]: the largest of column x. low[x]: the least that one of the column's `outputs` outputs
    sees as its largest.
    """
    kind = simd.Vec(lanes, "i32")

    def widest(marks, x):  # type: ignore[no-untyped-def]
        beside = simd.max(simd.load(kind, marks, x + 1), simd.load(kind, marks, x + 2))
        return simd.max(simd.load(kind, marks, x), beside)

    wide = Helper(widest)

    def run(high, low, marks, pitch, count, outputs):  # type: ignore[no-untyped-def]
        for x in range(0, count, lanes):
            most = simd.load(kind, marks, x)
            for i in range(1, SEEN):
                most = simd.max(most, simd.load(kind, marks, i * pitch + x))
            simd.store(high, x, most)
            above, middle = wide(marks, x), wide(marks, pitch + x)
            below = wide(marks, 2 * pitch + x)
            least = simd.max(simd.max(above, middle), below)
            for i in range(1, outputs):
                above, middle, below = middle, below, wide(marks, (i + 2) * pitch + x)
                least = simd.min(least, simd.max(simd.max(above, middle), below))
            simd.store(low, x, least)

    return Helper(run)


@functools.cache
def mark_tiles(lanes: int) -> Helper:
    """A helper (marks, at, geometry, top, bottom) that sets marks[at…] of the tiles it is about.

    Return how many of rows top…bottom − 1 these are. marks: the bits of the largest |pixel| of all
    channels, for each padded row and column; before `at` is room for two rows.
    """
    extremes = _row_extremes(lanes)

    def mark(marks, at, geometry, top, bottom):  # type: ignore[no-untyped-def]
        pitch, across = geometry.pitch, geometry.across
        high, low = simd.at(marks, at - 2 * pitch), simd.at(marks, at - pitch)
        count = 0
        for y in range(top, bottom):
            base = simd.at(marks, (y - top) * SIDE * pitch)
            outputs = min(SIDE, geometry.out_height - SIDE * y)
            extremes(high, low, base, pitch, SIDE * across + 2, outputs)
            for tile in range(across):
                x = SIDE * tile
                most, least = high[x], low[x]
                for i in range(1, SEEN):
                    most = max(most, high[x + i])
                for i in range(1, min(SIDE, geometry.out_width - x)):
                    least = min(least, low[x + i])
                least = least if least > 0 else NOTHING
                far = np.int64(most) > np.int64(least) + SPREAD or most >= HUGE
                marks[at + (y - top) * across + tile] = 1 if far else 0
                count += 1 if far else 0
        return count

    return Helper(mark)


def _sum(source, origin, weights, bias, geometry, tables, y, x):  # type: ignore[no-untyped-def]
    """One output: the bias and its channels' taps, in order."""
    total = bias
    for c in range(geometry.channels):
        for i in range(3):
            line = tables.row_map[y + i]
            row = origin + tables.channels[c] + line * geometry.row_stride
            for j in range(3):
                column = tables.col_map[x + j]
                value = geometry.fill
                if line >= 0 and column >= 0:
                    value = source[row + column * geometry.pixel_stride]
                total += weights[9 * c + 3 * i + j] * value
    return total


@functools.cache
def sum_tiles(activation: str) -> Helper:
    """A helper that sums one map's outputs of the marked tiles of rows top…bottom − 1.

    tables: pointers row_map, col_map, channels, as in a `ConvProblem`.
    """
    act = epilogue.activation_of(activation, "f32")
    output = Helper(_sum)

    def run(  # type: ignore[no-untyped-def]
        out, source, origin, weights, bias, marks, geometry, tables, top, bottom
    ):
        across, width, floor = geometry.across, geometry.out_width, geometry.floor
        for tile in range((bottom - top) * across):
            if marks[tile] == 0:
                continue
            first_row = SIDE * (top + tile // across)
            first = SIDE * (tile - tile // across * across)
            for y in range(first_row, min(first_row + SIDE, geometry.out_height)):
                for x in range(first, min(first + SIDE, width)):
                    total = output(source, origin, weights, bias, geometry, tables, y, x)
                    out[y * width + x] = act(floor if total < floor else total)

    return Helper(run)
