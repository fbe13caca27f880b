"""The innermost loops of products with maps in the lanes: pixels that meet vectors of maps."""

from collections.abc import Sequence
from typing import Any

from imgconv.compute import epilogue, store
from imgconv.compute.instructions import (
    LINE,
    either,
    fmuladd,
    not_under,
    over_steps,
    phi,
    prefetch,
    splat,
    vector_at,
)
from imgconv.compute.jit import Emitter
from imgconv.compute.microkernel import Heights
from imgconv.compute.vectors import Index, Pointer, Traced, transpose


def blocks() -> Heights:
    """Pixels that meet 1, 2, … vectors of maps, as `microkernel.blocks` has rows and vectors."""
    if store.vectors()[1] >= 32:
        return ((8, 4, 1), (8, 4, 1), (8, 4, 1), (6, 4, 2, 1))
    return ((8, 4, 1), (6, 4, 1))


def panel(lanes: int, heights: Heights) -> Emitter:
    """Emit sums[at + i·width + j] += Σₖ weights[w + k·width + j] · data[place + offsets[k]]

    where place = d + spots[s + i], for i < pixels and j < width = vectors · lanes. fresh ≠ 0 starts
    with bias[b + j]; what is less than `floor` becomes `floor`. ahead: where the weights begin that
    will be needed next.
    """

    def emit(  # type: ignore[no-untyped-def]
        builder, sums, at, data, d, spots, s, pixels, offsets, weights, w, count, vectors, ahead,
        bias, b, fresh, floor,
    ):  # fmt: skip
        from llvmlite import ir

        i64 = ir.IntType(64)
        floor = splat(builder, floor, lanes)
        here, further = builder.gep(weights, [w]), builder.gep(weights, [ahead])
        arguments = (
            builder.gep(sums, [at]), builder.gep(data, [d]), builder.gep(spots, [s]), offsets, here,
            count, builder.gep(bias, [b]), fresh, floor,
        )  # fmt: skip
        done = builder.append_basic_block("packed.done")
        for wide in range(len(heights), 0, -1):
            fits, narrower = (builder.append_basic_block(f"packed.{n}") for n in ("fits", "less"))
            builder.cbranch(builder.icmp_signed("==", vectors, i64(wide)), fits, narrower)
            builder.position_at_end(fits)
            i: Any = i64(0)
            for rows in heights[wide - 1]:
                asks = further if rows == heights[wide - 1][0] else None
                i = _groups(builder, rows, wide, lanes, i, pixels, asks, *arguments)
            builder.branch(done)
            builder.position_at_end(narrower)
        builder.branch(done)
        builder.position_at_end(done)

    kinds = "f32* i64 f32* i64 i64* i64 i64 i64* f32* i64 i64 i64 i64 f32* i64 i64 f32"
    return Emitter(kinds, emit)


def _groups(
    builder: Any, rows: int, wide: int, lanes: int, first: Any, pixels: Any, further: Any,
    sums: Any, data: Any, spots: Any, offsets: Any, weights: Any, count: Any, bias: Any, fresh: Any,
    floor: Any,
) -> Any:  # fmt: skip
    """Emit groups of `rows` pixels from pixel `first` on while they fit; return the first left."""

    def group(i: Any) -> None:
        numbers = [builder.add(i, count.type(r)) for r in range(rows)]
        spots_of = [builder.load(builder.gep(spots, [number])) for number in numbers]
        points = [builder.gep(data, [spot]) for spot in spots_of]
        line = builder.gep(sums, [builder.mul(i, count.type(wide * lanes))])
        asked = None
        if further is not None:
            # The first groups ask for the next block's weights, a line a tap.
            lines = builder.mul(builder.sdiv(i, count.type(rows)), count)
            passed = builder.mul(lines, count.type(LINE))
            more = builder.icmp_signed("<", passed, builder.mul(count, count.type(wide * lanes)))
            asked = builder.select(more, builder.gep(further, [passed]), weights)
        _sum(builder, wide, lanes, line, points, offsets, weights, count, bias, fresh, floor, asked)

    return over_steps(builder, first, pixels, rows, group, "group")


def _sum(
    builder: Any, wide: int, lanes: int, line: Any, points: Sequence[Any], offsets: Any,
    weights: Any, count: Any, bias: Any, fresh: Any, floor: Any, further: Any,
) -> None:  # fmt: skip
    """Emit the sums of the pixels at `points`, `wide` vectors each, in registers over the taps."""
    from llvmlite import ir

    i64, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), lanes)
    fma = fmuladd(builder.module, vector)

    def at(pointer: Any, number: int) -> Any:
        return vector_at(builder, pointer, i64(number * lanes), lanes)

    initial = either(
        builder, fresh,
        lambda: [builder.load(at(bias, v), align=4) for v in range(wide)] * len(points),
        lambda: [builder.load(at(line, n), align=4) for n in range(len(points) * wide)],
    )  # fmt: skip
    entry = builder.block
    turn, done = (builder.append_basic_block(f"taps.{name}") for name in ("turn", "done"))
    builder.branch(turn)
    builder.position_at_end(turn)
    k = phi(builder, (i64(0), entry))
    totals = [phi(builder, (value, entry)) for value in initial]
    if further is not None:
        prefetch(builder, builder.gep(further, [builder.mul(k, i64(LINE))]))
    offset = builder.load(builder.gep(offsets, [k]))
    place = builder.gep(weights, [builder.mul(k, i64(wide * lanes))])
    columns = [builder.load(at(place, v), align=4) for v in range(wide)]
    results = []
    for r, point in enumerate(points):
        pixel = splat(builder, builder.load(builder.gep(point, [offset])), lanes)
        results += [
            builder.call(fma, [pixel, columns[v], totals[r * wide + v]]) for v in range(wide)
        ]
    following = builder.add(k, i64(1))
    k.add_incoming(following, turn)
    for total, result in zip(totals, results, strict=True):
        total.add_incoming(result, turn)
    builder.cbranch(builder.icmp_signed("<", following, count), turn, done)
    builder.position_at_end(done)
    for n, result in enumerate(results):
        builder.store(not_under(builder, result, floor), at(line, n), align=4)


def turn(lanes: int, more: bool) -> Traced:
    """A square of `lanes` pixels by as many maps, turned.

    turn(out, to, apart, sums, at, width, residual, values): more adds what stands at the same place
    of `residual`, and what is then less than values[epilogue.OFFSET] becomes that.
    """

    def emit(
        out: Pointer, to: Index, apart: Index, sums: Pointer, at: Index, width: Index,
        residual: Pointer, values: Pointer,
    ) -> None:  # fmt: skip
        out, sums, residual, values = (
            pointer.by(4 * lanes) for pointer in (out, sums, residual, values)
        )
        columns = transpose([sums.get(at + width * r) for r in range(lanes)])
        floor = values.one(to * 0 + epilogue.OFFSET)
        for r, column in enumerate(columns):
            place = to + apart * r
            if more:
                column = (column + residual.get(place)).not_under(floor)
            out.put(place, column)

    return Traced(emit)
