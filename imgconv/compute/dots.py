"""Dot products of rows of weights with the items of a batch, in registers."""

import functools
from collections.abc import Sequence
from typing import Any

from imgconv.compute.instructions import across, fmuladd, over_steps, phi, vector_at
from imgconv.compute.jit import Emitter

ROWS = 4
ITEMS = (3, 2, 1)


def dots(lanes: int) -> Emitter:
    """Emit out[o + n·out_item + r] += Σₖ weights[w + r·span + k] · x[at + n·item + k].

    for r < rows, n < items and k < count. fresh ≠ 0 starts with bias[b + r]. A dot product has
    one vector of partial sums, its last count % lanes terms added after them one by one, so its
    bits depend neither on the rows nor on the items beside it.
    """

    def emit(  # type: ignore[no-untyped-def]
        builder, out, o, out_item, x, at, item, weights, w, span, count, rows, items, bias, b, fresh
    ):
        from llvmlite import ir

        i64 = ir.IntType(64)
        out, x = builder.gep(out, [o]), builder.gep(x, [at])
        weights, bias = builder.gep(weights, [w]), builder.gep(bias, [b])

        def block(tall: int, r: Any) -> None:
            lines = [
                builder.gep(weights, [builder.mul(span, builder.add(r, i64(k)))])
                for k in range(tall)
            ]

            def some(wide: int, n: Any) -> None:
                numbers = [builder.add(n, i64(k)) for k in range(wide)]
                columns = [builder.gep(x, [builder.mul(item, number)]) for number in numbers]
                sums = _dots(builder, lanes, lines, columns, count)
                for (k, line), total in sums.items():
                    row = builder.add(r, i64(line))
                    place = builder.gep(
                        out, [builder.add(builder.mul(out_item, numbers[k]), row)]
                    )  # fmt: skip
                    start = builder.icmp_signed("!=", fresh, i64(0))
                    before = builder.select(start, builder.gep(bias, [row]), place)
                    builder.store(builder.fadd(total, builder.load(before)), place)

            n: Any = i64(0)
            for wide in ITEMS:
                n = over_steps(builder, n, items, wide, functools.partial(some, wide), "items")

        r: Any = i64(0)
        for tall in (ROWS, 1):
            r = over_steps(builder, r, rows, tall, functools.partial(block, tall), "rows")

    return Emitter("f32* i64 i64 f32* i64 i64 f32* i64 i64 i64 i64 i64 f32* i64 i64", emit)


def _dots(
    builder: Any, lanes: int, lines: Sequence[Any], columns: Sequence[Any], count: Any
) -> dict[tuple[int, int], Any]:
    """Emit the dot products of each line of weights with each column."""
    from llvmlite import ir

    i64, real = ir.IntType(64), ir.FloatType()
    vector = ir.VectorType(real, lanes)
    pairs = [(k, line) for line in range(len(lines)) for k in range(len(columns))]

    def loop(first: Any, end: Any, step: int, start: list[Any], kind: Any) -> list[Any]:
        fma = fmuladd(builder.module, kind)
        before = builder.block
        turn, done = (builder.append_basic_block(f"dot.{n}") for n in ("turn", "done"))
        builder.cbranch(builder.icmp_signed("<", first, end), turn, done)
        builder.position_at_end(turn)
        k = phi(builder, (first, before))
        totals = [phi(builder, (value, before)) for value in start]

        def read(pointer: Any) -> Any:
            if step == 1:
                return builder.load(builder.gep(pointer, [k]))
            return builder.load(vector_at(builder, pointer, k, lanes), align=4)

        values = [read(column) for column in columns]
        rows = [read(line) for line in lines]
        results = [
            builder.call(fma, [rows[line], values[column], total])
            for (column, line), total in zip(pairs, totals, strict=True)
        ]
        following = builder.add(k, i64(step))
        k.add_incoming(following, turn)
        for total, result in zip(totals, results, strict=True):
            total.add_incoming(result, turn)
        builder.cbranch(builder.icmp_signed("<", following, end), turn, done)
        builder.position_at_end(done)
        return [
            phi(builder, (value, before), (result, turn))
            for value, result in zip(start, results, strict=True)
        ]

    many = builder.and_(count, i64(-lanes))
    zero = ir.Constant(vector, [0.0] * lanes)
    vectors = loop(i64(0), many, lanes, [zero] * len(pairs), vector)
    sums = [across(builder, value, lanes) for value in vectors]
    return dict(zip(pairs, loop(many, count, 1, sums, real), strict=True))
