"""The innermost loops of matrix products: blocks of sums that stay in registers.

R rows of weights meet V vectors of pixels: each step loads V vectors and R weights for R · V
multiply-adds, and the sums leave the registers once, at the end. Written in LLVM IR because a
loop in Python gives the compiler no way to see that R · V accumulators are vectors: an AVX2 core
whose two units could do 106 GFLOP/s does 95 with 4 rows of 3 vectors and 40 with 1 row of 4.

The pixels of step k stand at data[offsets[k]…]: a matrix for a convolution that is never formed,
since neighbouring taps read the same pixels.
"""

import functools
from collections.abc import Sequence
from typing import Any

from imgconv.compute import store
from imgconv.compute.instructions import (
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

Heights = tuple[tuple[int, ...], ...]


@functools.cache
def blocks() -> tuple[int, Heights]:
    """Return (lanes of a vector, heights): heights[V − 1] are the row counts for V vectors.

    Tallest first; R · V sums, V pixels and a weight fit the registers. The last height is 1.
    """
    lanes, registers = store.vectors()
    if registers >= 32:
        return lanes, ((8, 4, 1), (12, 4, 1), (8, 4, 1), (6, 4, 2, 1))
    return lanes, ((8, 4, 1), (6, 4, 1), (4, 1))


@functools.cache
def lines() -> tuple[int, Heights]:
    """Blocks for a single map: a weight meets eight vectors, so that additions overlap."""
    return store.vectors()[0], ((1,),) * 8


def panel(lanes: int, heights: Heights, more: bool = False) -> Emitter:
    """Emit a panel: sums[at + m·apart + i] += Σₖ weights[w + m·span + k] · data[p + places[k] + i]

    for m < maps and i < width, where places are offsets[o…] and width is `lanes` times the least
    number of vectors that holds `left` pixels, at most all len(heights). fresh ≠ 0 starts the sums
    with bias[b + m]; what is less than `floor` at the end becomes `floor` (NaN is not less).
    The terms are added in the order of k, each by one fused multiply-add where the CPU has it.
    more: adds ≠ 0 adds what stands in `residual` where the sums do in theirs, before the floor;
    otherwise these two are not looked at.
    """

    def emit(  # type: ignore[no-untyped-def]
        builder,
        sums,
        at,
        apart,
        data,
        p,
        offsets,
        o,
        weights,
        w,
        span,
        count,
        maps,
        left,
        bias,
        b,
        fresh,
        floor,
        residual,
        adds,
    ):
        from llvmlite import ir

        i64 = ir.IntType(64)
        sums = builder.gep(sums, [at])
        data = builder.gep(data, [p])
        offsets = builder.gep(offsets, [o])
        floor = splat(builder, floor, lanes)
        other = (builder.gep(residual, [at]), adds) if more else ()
        weights = builder.gep(weights, [w])
        bias = builder.gep(bias, [b])
        joined = builder.append_basic_block("panel.done")
        for vectors in range(len(heights), 0, -1):
            here = builder.append_basic_block(f"panel.{vectors}")
            narrower = builder.append_basic_block(f"panel.under.{vectors}")
            fits = builder.icmp_signed(">", left, i64((vectors - 1) * lanes))
            builder.cbranch(fits, here, narrower)
            builder.position_at_end(here)
            m: Any = i64(0)
            for rows in heights[vectors - 1]:
                m = _strips(
                    builder, rows, vectors, lanes, m, maps,
                    sums, apart, data, offsets, weights, span, count, bias, fresh, floor, other,
                )  # fmt: skip
            builder.branch(joined)
            builder.position_at_end(narrower)
        builder.branch(joined)
        builder.position_at_end(joined)

    return Emitter(
        "f32* i64 i64 f32* i64 i64* i64 f32* i64 i64 i64 i64 i64 f32* i64 i64 f32 f32* i64", emit
    )


def _strips(
    builder: Any, rows: int, vectors: int, lanes: int, first: Any, maps: Any,
    sums: Any, apart: Any, data: Any, offsets: Any, weights: Any, span: Any, count: Any,
    bias: Any, fresh: Any, floor: Any, other: tuple[Any, ...],
) -> Any:  # fmt: skip
    """Emit strips of `rows` maps from map `first` on while they fit; return the first map left."""

    def strip(m: Any) -> None:
        rows_of = [builder.add(m, span.type(r)) for r in range(rows)]
        lines = [builder.gep(weights, [builder.mul(span, row)]) for row in rows_of]
        starts = [builder.mul(apart, row) for row in rows_of]
        places = [builder.gep(sums, [start]) for start in starts]
        others = [builder.gep(other[0], [start]) for start in starts] if other else []
        _block(
            builder, vectors, lanes, places, data, offsets, lines,
            builder.mul(span, span.type(rows)), count, builder.gep(bias, [m]), fresh, floor,
            others, *other[1:],
        )  # fmt: skip

    return over_steps(builder, first, maps, rows, strip, "strip")


def _block(
    builder: Any, vectors: int, lanes: int,
    places: Sequence[Any], data: Any, offsets: Any, lines: Sequence[Any], further: Any, count: Any,
    bias: Any, fresh: Any, floor: Any, others: Sequence[Any], adds: Any = None,
) -> None:  # fmt: skip
    """Emit one block of sums, a row at each of `places`, from a row of weights each of `lines`.

    further: from a line to that of the next block. Short rows far apart begin too often for a
    CPU's own prefetching, so the next block's are asked for a cache line ahead of their use.
    others: what is added to each row at the end, if `adds` ≠ 0.
    """
    from llvmlite import ir

    i64, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), lanes)
    fma = fmuladd(builder.module, vector)

    def place(pointer: Any, index: int) -> Any:
        return vector_at(builder, pointer, i64(index * lanes), lanes)

    def started() -> list[Any]:
        numbers = [builder.load(builder.gep(bias, [i64(r)])) for r in range(len(lines))]
        vectors_of = [splat(builder, number, lanes) for number in numbers]
        return [one for one in vectors_of for _ in range(vectors)]

    initial = either(
        builder, fresh, started,
        lambda: [builder.load(place(row, v), align=4) for row in places for v in range(vectors)],
    )  # fmt: skip
    # One term a turn: of four LLVM hoists all loads and spills what it then cannot hold. With
    # AVX-512 that is 88 GFLOP/s of 190, where one term has 180; with AVX2 both have 92 of 95.
    entry = builder.block
    turn, done = (builder.append_basic_block(f"terms.{name}") for name in ("turn", "done"))
    builder.cbranch(builder.icmp_signed("<", i64(0), count), turn, done)
    builder.position_at_end(turn)
    k = phi(builder, (i64(0), entry))
    totals = [phi(builder, (value, entry)) for value in initial]
    with builder.if_then(builder.icmp_signed("==", builder.and_(k, i64(15)), i64(0))):
        for line in lines:
            prefetch(builder, builder.gep(line, [builder.add(k, further)]))
        # Of the next panel: rows of 256 bytes are too short for a CPU's own prefetching, and all
        # at once they wait for each other. ResNet-50's 64 to 256 maps with a residual: 6.9 ms for
        # eight images without it, 4.7 with it.
        ahead = builder.mul(builder.and_(builder.lshr(k, i64(4)), i64(3)), i64(lanes))
        ahead = builder.add(ahead, i64(vectors * lanes))
        for row in places:
            prefetch(builder, builder.gep(row, [ahead]), write=True)
        for row in others:
            prefetch(builder, builder.gep(row, [ahead]), near=True)
    spot = builder.gep(data, [builder.load(builder.gep(offsets, [k]))])
    pixels = [builder.load(place(spot, v), align=4) for v in range(vectors)]
    results = []
    for r, line in enumerate(lines):
        weight = splat(builder, builder.load(builder.gep(line, [k])), lanes)
        results += [
            builder.call(fma, [weight, pixels[v], totals[r * vectors + v]]) for v in range(vectors)
        ]
    after = builder.add(k, i64(1))
    last = builder.block
    k.add_incoming(after, last)
    for total, result in zip(totals, results, strict=True):
        total.add_incoming(result, last)
    builder.cbranch(builder.icmp_signed("<", after, count), turn, done)
    builder.position_at_end(done)
    results = [
        phi(builder, (value, entry), (result, last))
        for value, result in zip(initial, results, strict=True)
    ]
    if others:
        sums = results
        results = either(
            builder, adds,
            lambda: [
                builder.fadd(total, builder.load(place(others[i // vectors], i % vectors), align=4))
                for i, total in enumerate(sums)
            ],
            lambda: sums,
        )  # fmt: skip
    for index, result in enumerate(results):
        row, v = divmod(index, vectors)
        builder.store(not_under(builder, result, floor), place(places[row], v), align=4)
