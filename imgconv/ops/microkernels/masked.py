"""Rows of planes read and written where they lie, by vectors whose lanes beyond them are masked.

A masked lane touches no memory, so nothing is read before an array or behind it, and small maps
need neither a padded copy nor a loop over what is left of a row.
"""

from collections.abc import Callable, Sequence
from typing import Any

from imgconv.jit.instructions import splat, vector_at


def columns(
    builder: Any, lanes: int, step: int, wide: int, begin: Any, width: Any, fill: float
) -> Callable[[Any], list[Any]]:
    """Emit masks, and return what emits the reads of a row: `wide` columns of taps of a vector.

    Lane i of column kx is row[begin + kx + i·step], step 1 or 2; `fill` under 0 and from `width`
    on. Step 2 reads two vectors for two columns and takes every other lane.
    """
    from llvmlite import ir

    i32, i64 = ir.IntType(32), ir.IntType(64)
    numbers = ir.VectorType(i32, lanes)
    vector = ir.VectorType(ir.FloatType(), lanes)
    ramp = ir.Constant(numbers, list(range(lanes)))
    beyond = ir.Constant(vector, [fill] * lanes)
    limit = splat(builder, builder.trunc(width, i32), lanes)
    shifts = (
        range(wide) if step == 1
        else sorted(s + more for s in range(0, wide, 2) for more in (0, lanes))
    )  # fmt: skip
    masks = {}
    for shift in shifts:
        first = splat(builder, builder.trunc(builder.add(begin, i64(shift)), i32), lanes)
        masks[shift] = builder.icmp_unsigned("<", builder.add(first, ramp), limit)

    def read(row: Any) -> list[Any]:
        found = {}
        for shift, mask in masks.items():
            place = vector_at(builder, row, builder.add(begin, i64(shift)), lanes)
            found[shift] = load(builder, place, mask, beyond)
        if step == 1:
            return [found[kx] for kx in range(wide)]
        return [
            builder.shuffle_vector(
                found[kx - kx % 2], found[kx - kx % 2 + lanes],
                ir.Constant(numbers, list(range(kx % 2, 2 * lanes, 2))),
            )
            for kx in range(wide)
        ]  # fmt: skip

    return read


def vectors(
    builder: Any, lanes: int, count: int, begin: Any, width: Any, fill: float
) -> Callable[[Any], list[Any]]:
    """Emit masks, and return what emits the reads of `count` vectors of a row from `begin` on.

    Lanes under 0 and from `width` on hold `fill`.
    """
    from llvmlite import ir

    i32, i64 = ir.IntType(32), ir.IntType(64)
    ramp = ir.Constant(ir.VectorType(i32, lanes), list(range(lanes)))
    beyond = ir.Constant(ir.VectorType(ir.FloatType(), lanes), [fill] * lanes)
    limit = splat(builder, builder.trunc(width, i32), lanes)
    places = [builder.add(begin, i64(v * lanes)) for v in range(count)]
    masks = [
        builder.icmp_unsigned(
            "<", builder.add(splat(builder, builder.trunc(place, i32), lanes), ramp), limit
        )
        for place in places
    ]

    def read(row: Any) -> list[Any]:
        return [
            load(builder, vector_at(builder, row, place, lanes), mask, beyond)
            for place, mask in zip(places, masks, strict=True)
        ]

    return read


def store_rows(
    builder: Any, lanes: int, out: Any, o: Any, apart: Any, rows: Sequence[Any], left: Any
) -> None:
    """Emit out[o + r·apart + i] = rows[r][i] for i < left."""
    from llvmlite import ir

    i64 = ir.IntType(64)
    places = [
        vector_at(builder, out, builder.add(o, builder.mul(apart, i64(r))), lanes)
        for r in range(len(rows))
    ]
    with builder.if_else(builder.icmp_signed(">=", left, i64(lanes))) as (fits, not_all):
        with fits:
            for value, place in zip(rows, places, strict=True):
                builder.store(value, place, align=4)
        with not_all:
            mask = below(builder, lanes, left)
            for value, place in zip(rows, places, strict=True):
                store(builder, value, place, mask)


def below(builder: Any, lanes: int, count: Any) -> Any:
    """Emit the mask of the first `count` lanes."""
    from llvmlite import ir

    i32 = ir.IntType(32)
    ramp = ir.Constant(ir.VectorType(i32, lanes), list(range(lanes)))
    return builder.icmp_signed(">", splat(builder, builder.trunc(count, i32), lanes), ramp)


def load(builder: Any, place: Any, mask: Any, beyond: Any) -> Any:
    """Emit a read of the lanes of a mask; the others are those of `beyond`."""
    from llvmlite import ir

    kinds = [place.type, ir.IntType(32), mask.type, beyond.type]
    name = f"llvm.masked.load.v{beyond.type.count}f32.p0"
    function = _declared(builder, name, ir.FunctionType(beyond.type, kinds))
    return builder.call(function, [place, ir.IntType(32)(4), mask, beyond])


def store(builder: Any, value: Any, place: Any, mask: Any) -> None:
    """Emit a write of the lanes of a mask."""
    from llvmlite import ir

    kinds = [value.type, place.type, ir.IntType(32), mask.type]
    name = f"llvm.masked.store.v{value.type.count}f32.p0"
    function = _declared(builder, name, ir.FunctionType(ir.VoidType(), kinds))
    builder.call(function, [value, place, ir.IntType(32)(4), mask])


def _declared(builder: Any, name: str, kind: Any) -> Any:
    from llvmlite import ir

    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
