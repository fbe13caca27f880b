"""Pools over float32 planes, by vectors: small windows, and means.

Windows of three on maps of 7 to 28 columns took GoogLeNet a fifth of its time, since most outputs
there see the border, where a loop went window by window. Here lanes beyond the map are masked.
Windows are merged down the columns first: a vector of a row then serves every window that the row
is in, and only one vector per output row has its columns shuffled together.
"""

import functools

import numpy as np

from imgconv.jit import cache, simd
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops.microkernels.windows import PoolShape
from imgconv.typing import Array

ROWS = 14  # of a group: blocks of columns next to each other meet in the first-level cache
AHEAD = 4096  # elements: columns are no stream that the CPU fetches itself (112²: a quarter)
BLANK = {"max": -np.inf, "min": np.inf, "avg": 0.0}  # what is not in the map
_FEW = 1 << 16  # elements read; below this a thread costs more than it saves
# (new, so far) → so far, where no number is NaN: one instruction.
_MERGES = {
    "max": Helper(lambda new, so_far: simd.select(new > so_far, new, so_far)),
    "min": Helper(lambda new, so_far: simd.select(new < so_far, new, so_far)),
    "avg": Helper(lambda new, so_far: new + so_far),
}


def usable() -> bool:
    """Whether this CPU masks lanes; elsewhere a masked read is a branch a lane."""
    return cache.vectors()[0] >= 8


def _row(kind: str, lanes: int, vectors: int, step: int) -> Helper:
    """A helper that reads row r of a plane from column `begin` on."""
    line, asked = simd.Tile(1, vectors, lanes), simd.Tile(min(step, vectors), 1, lanes)
    beyond = BLANK[kind]

    def read(pixels, r, shape, blank, begin, inside):  # type: ignore[no-untyped-def]
        row = simd.at(pixels, r * shape.width)
        simd.prefetch_near(asked, row, begin + AHEAD, lanes)
        # As unsigned numbers, rows above the plane are beyond its end too: one comparison.
        row = row if np.uint64(r) < np.uint64(shape.height) else blank
        return simd.load_masked(line, row, begin, inside, simd.splat(line, beyond))

    return Helper(read)


def _merge_rows(kind: str, tall: int) -> Helper:
    """A helper that merges the rows of a window, one to three."""
    merge = _MERGES[kind]
    first, second, third = (simd.Places(min(row, tall - 1), 1) for row in range(3))

    def merged(window):  # type: ignore[no-untyped-def]
        column = simd.rows(window, first)
        if tall > 1:
            column = merge(simd.rows(window, second), column)
        if tall > 2:
            column = merge(simd.rows(window, third), column)
        return column

    return Helper(merged)


def _merge_columns(kind: str, lanes: int, vectors: int, wide: int, step: int) -> Helper:
    """A helper that merges columns i·step … i·step + wide − 1 of a row of vectors in lane i.

    Lanes whose columns are in no vector hold anything.
    """
    merge = _MERGES[kind]
    first, second, third = (simd.Places(0, min(v, vectors - 1)) for v in range(3))

    def spread(kx: int) -> simd.Places:
        places = (i * step + kx for i in range(lanes))
        return simd.Places(*(place if place < 2 * lanes else 0 for place in places))

    spread_0, spread_1, spread_2 = (spread(kx) for kx in range(3))
    slid = simd.Places(*range(1, lanes + 1))

    def merged(row):  # type: ignore[no-untyped-def]
        low, high = simd.part(row, first), simd.part(row, second)
        start = low if step == 1 else simd.shuffle(low, high, spread_0)
        result = start
        if wide > 1:
            result = merge(result, simd.shuffle(low, high, spread_1))
        if wide > 2 and vectors > 2:
            # Two columns on is one lane on; the last is the third vector's first.
            result = merge(result, simd.shuffle(start, simd.part(row, third), slid))
        elif wide > 2:
            result = merge(result, simd.shuffle(low, high, spread_2))
        return result

    return Helper(merged)


def _windows(
    kind: str, lanes: int, vectors: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> Helper:
    """A helper that fills output rows y…bottom − 1 of a vector of windows, from column i on.

    It returns whether a number that it read was NaN.
    """
    (tall, wide), (down, step) = kernel, stride
    fresh = min(tall, down)  # rows that no window before saw
    read = _row(kind, lanes, vectors, step)
    merge_rows = _merge_rows(kind, tall)
    merge_columns = _merge_columns(kind, lanes, vectors, wide, step)
    seen, line, vector = (
        simd.Tile(tall, vectors, lanes),
        simd.Tile(1, vectors, lanes),
        simd.Vec(lanes),
    )
    lower = simd.Places(1, tall - 1)
    means = kind == "avg"

    def windows(out, pixels, blank, counts, shape, y, bottom, i):  # type: ignore[no-untyped-def]
        begin = i * step - shape.pad_x
        inside = simd.between(line, -begin, shape.width - begin)
        stored = simd.below(vector, shape.out_width - i)
        if means:
            columns = simd.load_masked(
                vector, counts, shape.out_height + i, stored, simd.splat(vector, 1)
            )
        window = simd.zeros(seen)
        nan = False
        for r in range(y * down - shape.pad_y, y * down - shape.pad_y + tall - fresh):
            row = read(pixels, r, shape, blank, begin, inside)
            nan |= simd.any(row != row)
            window = simd.stack(simd.rows(window, lower), row)
        for r in range(y, bottom):
            top = r * down - shape.pad_y
            for j in range(tall - fresh, tall):
                row = read(pixels, top + j, shape, blank, begin, inside)
                nan |= simd.any(row != row)
                window = simd.stack(simd.rows(window, lower), row)
            result = merge_columns(merge_rows(window))
            if means:
                result = result / (simd.splat(vector, counts[r]) * columns)
            if i + lanes <= shape.out_width:
                simd.store(out, r * shape.out_width + i, result)
            else:
                simd.store_masked(out, r * shape.out_width + i, result, stored)
        return nan

    return Helper(windows)


@loop
def spread_nan(lanes: int, step: int) -> Built:
    """NaN in those outputs of rows y…bottom − 1 and of a vector from column i on that see one.

    A part of its own, which is rarely called: that NaN wins takes three instructions per merge, not
    one, and a second form of each window's code as long again to compile.
    """
    vector, line = simd.Vec(lanes), simd.Tile(1, step, lanes)
    first, last = simd.Places(0, 0), simd.Places(0, step - 1)
    every = simd.Places(*range(0, step * lanes, step))

    def body(out, pixels, shape, y, bottom, i):  # type: ignore[no-untyped-def]
        stored = simd.below(vector, shape.out_width - i)
        for r in range(y, bottom):
            o, top = r * shape.out_width + i, r * shape.stride_y - shape.pad_y
            result = simd.load_masked(vector, out, o, stored, simd.zeros(vector))
            for kx in range(shape.kernel_width):
                begin = i * step - shape.pad_x + kx
                inside = simd.between(line, -begin, shape.width - begin)
                for row in range(max(top, 0), min(top + shape.kernel_height, shape.height)):
                    at = row * shape.width + begin
                    tap = simd.load_masked(line, pixels, at, inside, simd.zeros(line))
                    tap = simd.shuffle(simd.part(tap, first), simd.part(tap, last), every)
                    result = simd.select(tap != tap, tap, result)
            simd.store_masked(out, o, result, stored)

    return "disjoint f32* f32* PoolShape i64 i64 i64", body


@loop
def window_planes(
    kind: str, lanes: int, vectors: int, kernel: tuple[int, int], stride: tuple[int, int],
    narrow: bool,
) -> Built:  # fmt: skip
    """Groups first…last − 1 of ROWS output rows, counted over all planes.

    out[r, i] = the greatest, the least or the mean of the kernel's elements from
    x[r·stride − pad, i·stride − pad] on; NaN wins, and what lies outside of x is `blank`, a row of
    it. Means are sums over counts[r] · counts[rows + i].

    narrow: an output row is one vector and a group is a plane; masks are then worked out once.
    """
    (tall, wide), (down, step) = kernel, stride
    windows = _windows(kind, lanes, vectors, kernel, stride)
    spread = spread_nan.part(lanes, step)
    picks = kind != "avg"

    def body(out, x, blank, counts, planes, first, last):  # type: ignore[no-untyped-def]
        # Read once, since for all that LLVM knows a part may write to it.
        shape = PoolShape(
            planes.height, planes.width, planes.out_height, planes.out_width, down, step,
            planes.pad_y, planes.pad_x, 1, 1, tall, wide,
        )  # fmt: skip
        rows, columns = shape.out_height, shape.out_width
        groups = np.int64(1) if narrow else (rows + ROWS - 1) // ROWS
        blocks = np.int64(1) if narrow else (columns + lanes - 1) // lanes
        for number in range(first, last):
            plane = number if narrow else number // groups
            y = np.int64(0) if narrow else number % groups * ROWS
            bottom = rows if narrow else min(y + ROWS, rows)
            results = simd.at(out, plane * rows * columns)
            pixels = simd.at(x, plane * shape.height * shape.width)
            for i in range(0, blocks * lanes, lanes):
                nan = windows(results, pixels, blank, counts, shape, y, bottom, i)
                if picks and nan:
                    spread(results, pixels, shape, y, bottom, i)

    return "disjoint f32* f32* f32* f32* PoolShape* i64 i64", body


@functools.lru_cache(64)
def _blank(kind: str, width: int) -> Array:
    return np.full(width, BLANK[kind], np.float32)


def pool(
    out: Array, x: Array, kind: str, kernel: tuple[int, int], stride: tuple[int, int],
    shape: Array, counts: Array,
) -> None:  # fmt: skip
    """Fill out (…, H', W') with the max, min or avg of the windows of x (…, H, W), both whole.

    shape: the PoolShape. counts: how many rows the means of each row of `out` count, then how many
    columns those of each column, as float32.
    """
    width = x.shape[-1]
    rows, columns = out.shape[-2:]
    lanes = cache.vectors()[0]
    vectors = -(-((min(columns, lanes) - 1) * stride[1] + kernel[1]) // lanes)
    narrow = columns <= lanes
    work = window_planes(kind, lanes, vectors, kernel, stride, narrow).fix(
        out, x, _blank(kind, width), counts, shape
    )
    group = rows if narrow else ROWS
    groups = out.size // (rows * columns) * -(-rows // group)
    over_bands(groups, band_of(groups, _FEW // (group * stride[0] * width)), work)


@loop
def mean_planes(lanes: int) -> Built:
    """Means of planes first…last − 1 of `size` elements: four vectors of sums, and those in order.

    out[plane] = Σᵢ x[plane·size + i] / size
    """
    four, single = simd.Tile(1, 4, lanes), simd.Vec(1)
    sums_0, sums_1, sums_2, sums_3 = (simd.Places(0, v) for v in range(4))

    def body(out, x, size, first, last):  # type: ignore[no-untyped-def]
        many = size & -4 * lanes
        mask = simd.below(four, size - many)
        for plane in range(first, last):
            source = simd.at(x, plane * size)
            sums = simd.zeros(four)
            for k in range(0, many, 4 * lanes):
                sums = simd.load(four, source, k) + sums
            sums = simd.load_masked(four, source, many, mask, simd.zeros(four)) + sums
            low = simd.part(sums, sums_0) + simd.part(sums, sums_1)
            high = simd.part(sums, sums_2) + simd.part(sums, sums_3)
            simd.store(out, plane, simd.sum(low + high) / simd.splat(single, size))

    return "disjoint f32* f32* i64 i64 i64", body


def means(out: Array, x: Array, size: int) -> None:
    """Fill `out` with the means of each `size` elements of x."""
    work = mean_planes(cache.vectors()[0]).fix(out, x, size)
    over_bands(out.size, band_of(out.size, _FEW // size), work)
