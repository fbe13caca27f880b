"""Pools over float32 planes, by vectors: small windows, and means.

Windows of three on maps of 7 to 28 columns took GoogLeNet a fifth of its time, since most outputs
there see the border, where a loop went window by window. Here lanes beyond the map are masked.
Windows are merged down the columns first: a vector of a row then serves every window that the row
is in, and only one vector an output row has its columns shuffled together.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.jit import cache
from imgconv.jit.instructions import across, opaque, phi, prefetch, splat, vector_at
from imgconv.jit.loop import Built, Emitter, loop
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops.microkernels import masked

Array = npt.NDArray[Any]
Merge = Callable[[Any, Any], Any]

ROWS = 14  # of a group: blocks of columns next to each other meet in the first-level cache
AHEAD = 4096  # elements: columns are no stream that the CPU fetches itself (112²: a quarter)
BLANK = {"max": -np.inf, "min": np.inf, "avg": 0.0}  # what is not in the map
_FEW = 1 << 16  # elements read; below this a thread costs more than it saves


def usable() -> bool:
    """Whether this CPU masks lanes; elsewhere a masked read is a branch a lane."""
    return cache.vectors()[0] >= 8


def _merges(builder: Any, kind: str) -> tuple[Merge, Merge]:
    """What emits (new, so far) → so far: where no number is NaN, and where NaN wins."""
    if kind == "avg":
        return builder.fadd, builder.fadd
    sign = ">" if kind == "max" else "<"

    def pick(new: Any, kept: Any) -> Any:
        return builder.select(builder.fcmp_ordered(sign, new, kept), new, kept)

    def careful(new: Any, kept: Any) -> Any:
        return builder.select(builder.fcmp_unordered("uno", new, new), new, pick(new, kept))

    return pick, careful


def _taps(builder: Any, lanes: int, wide: int, step: int, values: list[Any]) -> list[Any]:
    """Emit a window's columns: lane i of tap kx is column i·step + kx of the vectors `values`.

    Lanes whose column is in no vector hold anything.
    """
    from llvmlite import ir

    def picked(low: Any, high: Any, places: list[int]) -> Any:
        inside = [place if place < 2 * lanes else 0 for place in places]
        kind = ir.VectorType(ir.IntType(32), lanes)
        return builder.shuffle_vector(low, high, ir.Constant(kind, inside))

    found: list[Any] = []
    for kx in range(wide):
        if kx >= step and len(values) > 2:
            # The tap before, a lane on; its last column is in the third vector.
            places = [*range(1, lanes), lanes + kx - step]
            found.append(picked(found[kx - step], values[2], places))
        elif kx == 0 and step == 1:
            found.append(values[0])
        else:
            places = [i * step + kx for i in range(lanes)]
            found.append(picked(values[0], values[min(1, len(values) - 1)], places))
    return found


def rows_of_windows(
    kind: str, lanes: int, vectors: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> Emitter:
    """Emit output rows y…bottom − 1 of a vector of windows: out[o + (r − y)·apart…], `left` wide.

    Output row r's windows begin at row r·stride − above of the plane of height × width at
    x[base…], and at column `begin`, from which on they need `vectors` vectors. Rows and columns
    outside are `blank`, a row of it. NaN wins a maximum. Means are sums over tallies[r] ·
    counts[b…].
    """
    (tall, wide), (down, step) = kernel, stride
    kept = max(tall - down, 0)  # rows that the next windows see too

    def emit(  # type: ignore[no-untyped-def]
        builder, out, o, apart, x, base, y, bottom, above, height, width, blank, begin, left,
        tallies, counts, b,
    ):  # fmt: skip
        from llvmlite import ir

        i64 = ir.IntType(64)
        read = masked.vectors(builder, lanes, vectors, begin, width, BLANK[kind])
        quick, careful = _merges(builder, kind)

        def lines(source: Any, top: Any, rows: range) -> list[list[Any]]:
            found = []
            for j in rows:
                line = builder.add(top, i64(j))
                inside = builder.icmp_unsigned("<", line, height)
                place = builder.gep(source, [builder.add(base, builder.mul(line, width))])
                for v in range(min(step, vectors)):
                    further = builder.add(begin, i64(AHEAD + v * lanes))
                    prefetch(builder, builder.gep(place, [further]), near=True)
                found.append(read(builder.select(inside, place, blank)))
            return found

        def merged(rows: list[list[Any]], merge: Merge) -> Any:
            columns = functools.reduce(lambda above, row: [*map(merge, row, above)], rows)
            return functools.reduce(merge, _taps(builder, lanes, wide, step, columns))

        if kind == "avg":
            ones = ir.Constant(ir.VectorType(ir.FloatType(), lanes), [1.0] * lanes)
            place = vector_at(builder, counts, b, lanes)
            count = masked.load(builder, place, masked.below(builder, lanes, left), ones)
        first = lines(x, builder.sub(builder.mul(y, i64(down)), above), range(kept))
        before = builder.block
        turn, done = (builder.append_basic_block(f"windows.{name}") for name in ("turn", "done"))
        builder.branch(turn)
        builder.position_at_end(turn)
        row = phi(builder, (y, before))
        carried = [[phi(builder, (value, before)) for value in values] for values in first]
        top = builder.sub(builder.mul(row, i64(down)), above)
        fresh = lines(x, top, range(kept, tall))
        found = merged([*carried, *fresh], quick)
        to = builder.add(o, builder.mul(builder.sub(row, y), apart))
        if kind == "avg":
            tally = splat(builder, builder.load(builder.gep(tallies, [row])), lanes)
            found = builder.fdiv(found, builder.fmul(tally, count))
        masked.store_rows(builder, lanes, out, to, apart, [found], left)
        if kind != "avg":
            # A pick between two numbers is one instruction, and that NaN wins another two. A NaN
            # that was seen once may be in any row from there on.
            values = [value for line in [*carried, *fresh] for value in line]
            pairs = zip(values[::2], [*values[1::2], values[-1]], strict=False)
            nans = [builder.fcmp_unordered("uno", one, other) for one, other in pairs]
            nan = builder.bitcast(functools.reduce(builder.or_, nans), ir.IntType(lanes))
            with builder.if_then(builder.icmp_unsigned("!=", nan, nan.type(0)), likely=False):
                again = merged(lines(opaque(builder, x), top, range(tall)), careful)
                masked.store_rows(builder, lanes, out, to, apart, [again], left)
        following = builder.add(row, i64(1))
        row.add_incoming(following, builder.block)
        for values, results in zip(carried, [*carried, *fresh][down:], strict=False):
            for value, result in zip(values, results, strict=True):
                value.add_incoming(result, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, bottom), turn, done)
        builder.position_at_end(done)

    kinds = "f32* i64 i64 f32* i64 i64 i64 i64 i64 i64 f32* i64 i64 f32* f32* i64"
    return Emitter(kinds, emit)


@loop
def window_planes(
    kind: str, lanes: int, vectors: int, kernel: tuple[int, int], stride: tuple[int, int],
    narrow: bool,
) -> Built:  # fmt: skip
    """Groups first…last − 1 of `rows` output rows, counted over all planes.

    narrow: an output row is one vector and a group a plane; masks are then worked out once.
    """
    windows = rows_of_windows(kind, lanes, vectors, kernel, stride)
    step = stride[1]

    def body(  # type: ignore[no-untyped-def]
        out, x, blank, tallies, counts, height, width, tall, wide, above, before, rows, first, last
    ):
        groups = np.int64(1) if narrow else (tall + rows - 1) // rows
        blocks = np.int64(1) if narrow else (wide + lanes - 1) // lanes
        for number in range(first, last):
            plane = number if narrow else number // groups
            y = np.int64(0) if narrow else number % groups * rows
            for block in range(blocks):
                i = block * lanes
                windows(
                    out, (plane * tall + y) * wide + i, wide, x, plane * height * width,
                    y, min(y + rows, tall), above, height, width, blank, i * step - before,
                    wide - i, tallies, counts, i,
                )  # fmt: skip

    return "disjoint f32* f32* f32* f32* f32* i64 i64 i64 i64 i64 i64 i64 i64 i64", body


@functools.lru_cache(64)
def _blank(kind: str, width: int) -> Array:
    return np.full(width, BLANK[kind], np.float32)


def pool(
    out: Array, x: Array, kind: str, kernel: tuple[int, int], stride: tuple[int, int],
    near: tuple[int, int], counts: tuple[Array, Array],
) -> None:  # fmt: skip
    """Fill out (…, H', W') with the max, min or avg of the windows of x (…, H, W), both whole.

    near: rows above and columns before the map that the first windows see. counts: the rows and
    columns that each of a row's and a column's means counts, as float32.
    """
    height, width = x.shape[-2:]
    tall, wide = out.shape[-2:]
    lanes = cache.vectors()[0]
    vectors = -(-((min(wide, lanes) - 1) * stride[1] + kernel[1]) // lanes)
    narrow = wide <= lanes
    rows = tall if narrow else ROWS
    work = window_planes(kind, lanes, vectors, kernel, stride, narrow).fix(
        out, x, _blank(kind, width), *counts, height, width, tall, wide, *near, rows
    )
    groups = out.size // (tall * wide) * -(-tall // rows)
    over_bands(groups, band_of(groups, _FEW // (rows * stride[0] * width)), work)


def mean(lanes: int) -> Emitter:
    """Emit out[o] = the mean of x[at…at + size − 1]: four vectors of sums, and those in order."""

    def emit(builder, out, o, x, at, size):  # type: ignore[no-untyped-def]
        from llvmlite import ir

        i32, i64 = ir.IntType(32), ir.IntType(64)
        vector = ir.VectorType(ir.FloatType(), lanes)
        zero = ir.Constant(vector, [0.0] * lanes)
        x = builder.gep(x, [at])
        end = builder.and_(size, i64(-4 * lanes))
        before = builder.block
        turn, done = (builder.append_basic_block(f"mean.{name}") for name in ("turn", "done"))
        builder.cbranch(builder.icmp_signed("<", i64(0), end), turn, done)
        builder.position_at_end(turn)
        k = phi(builder, (i64(0), before))
        sums = [phi(builder, (zero, before)) for _ in range(4)]
        results = [
            builder.fadd(
                builder.load(vector_at(builder, x, builder.add(k, i64(v * lanes)), lanes), align=4),
                sums[v],
            )
            for v in range(4)
        ]
        following = builder.add(k, i64(4 * lanes))
        k.add_incoming(following, turn)
        for value, result in zip(sums, results, strict=True):
            value.add_incoming(result, turn)
        builder.cbranch(builder.icmp_signed("<", following, end), turn, done)
        builder.position_at_end(done)
        sums = [phi(builder, (zero, before), (result, turn)) for result in results]
        ramp = ir.Constant(ir.VectorType(i32, lanes), list(range(lanes)))
        limit = splat(builder, builder.trunc(builder.sub(size, end), i32), lanes)
        for v in range(4):
            places = builder.add(ramp, ir.Constant(ramp.type, [v * lanes] * lanes))
            mask = builder.icmp_signed("<", places, limit)
            spot = vector_at(builder, x, builder.add(end, i64(v * lanes)), lanes)
            sums[v] = builder.fadd(masked.load(builder, spot, mask, zero), sums[v])
        total = builder.fadd(builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3]))
        share = builder.fdiv(
            across(builder, total, lanes), builder.sitofp(size, ir.FloatType())
        )  # fmt: skip
        builder.store(share, builder.gep(out, [o]))

    return Emitter("f32* i64 f32* i64 i64", emit)


@loop
def mean_planes(lanes: int) -> Built:
    """Means of planes first…last − 1 of `size` elements."""
    mean_of = mean(lanes)

    def body(out, x, size, first, last):  # type: ignore[no-untyped-def]
        for plane in range(first, last):
            mean_of(out, plane, x, plane * size, size)

    return "disjoint f32* f32* i64 i64 i64", body


def means(out: Array, x: Array, size: int) -> None:
    """Fill `out` with the means of each `size` elements of x."""
    work = mean_planes(cache.vectors()[0]).fix(out, x, size)
    over_bands(out.size, band_of(out.size, _FEW // size), work)
