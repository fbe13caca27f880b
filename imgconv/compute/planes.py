"""Pools over float32 planes, by vectors: the largest elements of small windows, and means.

Windows of three on maps of 7 to 28 columns took GoogLeNet a fifth of its time, since most outputs
there see the border, where a loop went window by window. Here lanes beyond the map are masked, and
a row's maxima serve every window that the row is in.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import masked, store
from imgconv.compute.bands import band_of, over_bands
from imgconv.compute.instructions import across, phi, splat, vector_at
from imgconv.compute.jit import Built, Emitter, loop

Array = npt.NDArray[Any]

ROWS = 7  # divides the maps of 7, 14, 28, 56 and 112 rows that networks have
_FEW = 1 << 16  # elements read; below this a thread costs more than it saves


def usable() -> bool:
    """Whether this CPU masks lanes; elsewhere a masked read is a branch a lane."""
    return store.vectors()[0] >= 8


def rows_of_windows(
    lanes: int, rows: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> Emitter:
    """Emit `rows` output rows of a vector of maxima: out[o + r·apart…] of `left` outputs.

    Row j that the windows see is row top + j of the plane of height × width at x[base…]; rows and
    columns outside are no candidates. Output i's window begins at column i·stride + begin.
    NaN wins.
    """
    (tall, wide), (down, step) = kernel, stride

    def emit(  # type: ignore[no-untyped-def]
        builder, out, o, apart, x, base, top, height, width, lowest, begin, left
    ):
        from llvmlite import ir

        i64 = ir.IntType(64)
        read = masked.columns(builder, lanes, step, wide, begin, width, -np.inf)

        def larger(new: Any, kept: Any) -> Any:
            kept = builder.select(builder.fcmp_ordered(">", new, kept), new, kept)
            return builder.select(builder.fcmp_unordered("uno", new, new), new, kept)

        found: list[Any] = [None] * rows
        for j in range((rows - 1) * down + tall):
            line = builder.add(top, i64(j))
            inside = builder.icmp_unsigned("<", line, height)
            place = builder.add(base, builder.mul(line, width))
            first, *others = read(builder.select(inside, builder.gep(x, [place]), lowest))
            for other in others:
                first = larger(other, first)
            for r in range(rows):
                if 0 <= j - r * down < tall:
                    found[r] = first if found[r] is None else larger(first, found[r])
        masked.store_rows(builder, lanes, out, o, apart, found, left)

    return Emitter("f32* i64 i64 f32* i64 i64 i64 i64 f32* i64 i64", emit)


@loop
def max_planes(lanes: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Built:
    """Planes first…last − 1; lowest: a row of −∞."""
    many = rows_of_windows(lanes, ROWS, kernel, stride)
    one = rows_of_windows(lanes, 1, kernel, stride)
    down, step = stride

    def body(  # type: ignore[no-untyped-def]
        out, x, lowest, height, width, tall, wide, above, before, first, last
    ):
        for plane in range(first, last):
            base = plane * height * width
            for y in range(tall // ROWS):
                for block in range((wide + lanes - 1) // lanes):
                    i = block * lanes
                    many(
                        out, (plane * tall + y * ROWS) * wide + i, wide, x, base,
                        y * ROWS * down - above, height, width, lowest, i * step - before, wide - i,
                    )  # fmt: skip
            for y in range(tall // ROWS * ROWS, tall):
                for block in range((wide + lanes - 1) // lanes):
                    i = block * lanes
                    one(
                        out, (plane * tall + y) * wide + i, wide, x, base, y * down - above, height,
                        width, lowest, i * step - before, wide - i,
                    )  # fmt: skip

    return "disjoint f32* f32* f32* i64 i64 i64 i64 i64 i64 i64 i64", body


def maxima(
    out: Array, x: Array, kernel: tuple[int, int], stride: tuple[int, int], near: tuple[int, int]
) -> None:
    """Fill out (…, H', W') with the largest elements of the windows of x (…, H, W), both whole.

    near: rows above and columns before the map that the first windows see.
    """
    height, width = x.shape[-2:]
    work = max_planes(store.vectors()[0], kernel, stride).fix(
        out, x, np.full(width, -np.inf, np.float32), height, width, *out.shape[-2:], *near
    )
    planes = out.size // (out.shape[-2] * out.shape[-1])
    over_bands(planes, band_of(planes, _FEW // (height * width)), work)


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
    work = mean_planes(store.vectors()[0]).fix(out, x, size)
    over_bands(out.size, band_of(out.size, _FEW // size), work)
