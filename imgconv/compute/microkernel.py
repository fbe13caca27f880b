"""The innermost loops of matrix products: blocks of sums that stay in registers.

R rows of weights meet V vectors of pixels: each step loads V vectors and R weights for R · V
multiply-adds, and the sums leave the registers once, at the end. Written in LLVM IR because a
loop in Python gives the compiler no way to see that R · V accumulators are vectors: an AVX2 core
whose two units could do 106 GFLOP/s does 95 with 4 rows of 3 vectors and 40 with 1 row of 4.

The pixels of step k stand at data[offsets[k]…]: a matrix for a convolution that is never formed,
since neighbouring taps read the same pixels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from imgconv.compute import store
from imgconv.compute.instructions import across, fmuladd, phi, prefetch, splat, vector_at
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
    from llvmlite import ir

    i64 = ir.IntType(64)
    before = builder.block
    test, strip, after = (builder.append_basic_block(f"strip.{n}") for n in ("test", "do", "end"))
    builder.branch(test)
    builder.position_at_end(test)
    m = builder.phi(i64)
    m.add_incoming(first, before)
    end = builder.add(m, i64(rows))
    builder.cbranch(builder.icmp_signed("<=", end, maps), strip, after)
    builder.position_at_end(strip)
    lines = [builder.gep(weights, [builder.mul(span, builder.add(m, i64(r)))]) for r in range(rows)]
    further = builder.mul(span, i64(rows))
    starts = [builder.mul(apart, builder.add(m, i64(r))) for r in range(rows)]
    places = [builder.gep(sums, [start]) for start in starts]
    others = [builder.gep(other[0], [start]) for start in starts] if other else []
    offset = builder.gep(bias, [m])
    _block(
        builder, vectors, lanes, places, data, offsets, lines, further, count, offset, fresh, floor,
        others, *other[1:],
    )  # fmt: skip
    m.add_incoming(end, builder.block)
    builder.branch(test)
    builder.position_at_end(after)
    return m


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

    with builder.if_else(builder.icmp_signed("!=", fresh, i64(0))) as (start, go_on):
        with start:
            offsets_of = [
                splat(builder, builder.load(builder.gep(bias, [i64(r)])), lanes)
                for r in range(len(lines))
            ]
            started = builder.block
        with go_on:
            loaded = [
                builder.load(place(row, v), align=4) for row in places for v in range(vectors)
            ]
            kept = builder.block
    initial = [
        phi(builder, (offsets_of[i // vectors], started), (value, kept))
        for i, value in enumerate(loaded)
    ]
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
        before = builder.block
        with builder.if_then(builder.icmp_signed("!=", adds, i64(0))):
            joined = [
                builder.fadd(
                    result, builder.load(place(others[i // vectors], i % vectors), align=4)
                )
                for i, result in enumerate(results)
            ]
            added = builder.block
        results = [
            phi(builder, (result, before), (total, added))
            for result, total in zip(results, joined, strict=True)
        ]
    for index, result in enumerate(results):
        less = builder.fcmp_ordered("<", result, floor)
        row, v = divmod(index, vectors)
        builder.store(builder.select(less, floor, result), place(places[row], v), align=4)


LINE = 16  # floats of a cache line
# Channels until a row asked for is needed: a tenth of 128 and of 256 maps at 56² with stride 2.
AHEAD = 2
STEPS = (1, 2, 4)  # distances of elements that `fill_rows` gathers


def copy(lanes: int) -> Emitter:
    """Emit target[to + i] = source[at + i] for i < count, the ranges apart."""

    def emit(builder, target, to, source, at, count):  # type: ignore[no-untyped-def]
        target, source = builder.gep(target, [to]), builder.gep(source, [at])

        def every(size: int) -> None:
            _move(builder, lanes, size, 1, target, source, count)

        _by_size(builder, lanes, count, every)

    return Emitter("f32* i64 f32* i64 i64", emit)


def fill_rows(lanes: int) -> Emitter:
    """Emit rows of a tile, each of `before` floats of filling, `inside` of the source and `after`.

    target[to + j·pitch + before + i] = source[at + j·apart + i·step] for j < rows, i < inside.
    step: one of STEPS. ahead: what is as far beyond each source row is asked for into the cache,
    since there a CPU's own prefetching begins anew; 0 for nothing.
    """

    def emit(  # type: ignore[no-untyped-def]
        builder, target, to, pitch, source, at, apart, rows, before, inside, after, step, ahead,
        filling,
    ):  # fmt: skip
        target, source = builder.gep(target, [to]), builder.gep(source, [at])
        values = [target, pitch, source, apart, rows, before, inside, after, step, ahead, filling]
        builder.call(_rows_function(builder.module, lanes, [v.type for v in values]), values)

    return Emitter("f32* i64 i64 f32* i64 i64 i64 i64 i64 i64 i64 i64 f32", emit)


def _rows_function(module: Any, lanes: int, kinds: list[Any]) -> Any:
    """What `fill_rows` calls: merged into its loop, it began with spills of 150 cycles."""
    from llvmlite import ir

    found = module.globals.get("fill_rows")
    if found:
        return found
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "fill_rows")
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    target, pitch, source, apart, rows, before, inside, after, step, ahead, filling = function.args
    i64 = ir.IntType(64)

    def fill(to: Any, count: Any) -> None:
        _loop(builder, i64(0), count, 1, lambda i: builder.store(filling, builder.gep(to, [i])))

    def every(step: int, size: int) -> None:
        def row(j: Any) -> None:
            to = builder.gep(target, [builder.mul(j, pitch)])
            at = builder.gep(source, [builder.mul(j, apart)])
            with builder.if_then(builder.icmp_signed("!=", ahead, i64(0))):
                beyond = builder.gep(at, [ahead])
                length = builder.mul(inside, i64(step))
                _loop(
                    builder, i64(0), length, LINE,
                    lambda i: prefetch(builder, builder.gep(beyond, [i])),
                )  # fmt: skip
            fill(to, before)
            to = builder.gep(to, [before])
            _move(builder, lanes, size, step, to, at, inside)
            fill(builder.gep(to, [inside]), after)

        _loop(builder, i64(0), rows, 1, row)

    for apiece in STEPS:
        with builder.if_then(builder.icmp_signed("==", step, i64(apiece))):
            _by_size(builder, lanes, inside, functools.partial(every, apiece))
    builder.ret_void()
    return function


def _loop(builder: Any, first: Any, end: Any, step: int, work: Callable[[Any], None]) -> None:
    """Emit `work` at first, first + step, … below end."""
    from llvmlite import ir

    before = builder.block
    turn, done = (builder.append_basic_block(f"loop.{name}") for name in ("turn", "done"))
    builder.cbranch(builder.icmp_signed("<", first, end), turn, done)
    builder.position_at_end(turn)
    place = phi(builder, (first, before))
    work(place)
    following = builder.add(place, ir.IntType(64)(step))
    place.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, end), turn, done)
    builder.position_at_end(done)


def _by_size(builder: Any, lanes: int, count: Any, work: Callable[[int], None]) -> None:
    """Emit `work` for the widest vectors, of `lanes` elements or fewer, that `count` fills."""
    from llvmlite import ir

    joined = builder.append_basic_block("size.done")
    size = lanes
    while size:
        fits, shorter = (builder.append_basic_block(f"size.{n}") for n in ("fits", "short"))
        builder.cbranch(builder.icmp_signed(">=", count, ir.IntType(64)(size)), fits, shorter)
        builder.position_at_end(fits)
        work(size)
        builder.branch(joined)
        builder.position_at_end(shorter)
        size //= 2
    builder.branch(joined)
    builder.position_at_end(joined)


def _move(
    builder: Any, lanes: int, size: int, step: int, target: Any, source: Any, count: Any
) -> None:
    """Emit target[i] = source[i·step] for i < count: vectors of `size`, or of `lanes` if many.

    Short rows are most of the work around small maps. A last piece of less than a vector is
    copied as one that overlaps the one before, so there is no loop over single elements.
    """
    from llvmlite import ir

    i64 = ir.IntType(64)

    def piece(place: Any) -> None:
        spot = builder.gep(source, [builder.mul(place, i64(step))])
        value = _every(builder, spot, size, step)
        builder.store(value, vector_at(builder, target, place, size), align=4)

    last = builder.sub(count, i64(size))
    if size == lanes:
        _loop(builder, i64(0), last, size, piece)
    else:
        piece(i64(0))
    piece(last)


def _every(builder: Any, source: Any, size: int, step: int) -> Any:
    """Emit the vector of source[0], source[step], …: `size` elements, nothing past the last read.

    The last piece of `size` elements is read from step − 1 elements before its place.
    """
    from llvmlite import ir

    i32, i64 = ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(ir.FloatType(), size)
    if step == 1:
        return builder.load(vector_at(builder, source, i64(0), size), align=4)
    if size < step:
        value = ir.Constant(vector, ir.Undefined)
        for i in range(size):
            one = builder.load(builder.gep(source, [i64(i * step)]))
            value = builder.insert_element(value, one, i32(i))
        return value
    parts = []  # vectors of which the places listed hold elements wanted
    for k in range(step):
        back = step - 1 if k == step - 1 else 0
        spot = vector_at(builder, source, i64(k * size - back), size)
        parts.append((builder.load(spot, align=4), list(range(back, size, step))))
    while len(parts) > 1:
        parts = [
            _beside(builder, size, *pair) for pair in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0][0]


def _beside(
    builder: Any, size: int, low: tuple[Any, list[int]], high: tuple[Any, list[int]]
) -> tuple[Any, list[int]]:
    """Emit a vector that begins with the listed elements of one vector and then another's."""
    from llvmlite import ir

    i32 = ir.IntType(32)
    picked = low[1] + [size + place for place in high[1]]
    mask = ir.Constant(ir.VectorType(i32, size), picked + [0] * (size - len(picked)))
    value = builder.shuffle_vector(low[0], high[0], mask)
    return value, list(range(len(picked)))


DOT_ROWS = 4
DOT_ITEMS = (3, 2, 1)


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

        def over(first: Any, end: Any, step: int, work: Any) -> Any:
            """Emit `work` at first, first + step, … while a whole step fits; return the rest."""
            before = builder.block
            test, turn, after = (builder.append_basic_block(f"dots.{n}") for n in "abc")
            builder.branch(test)
            builder.position_at_end(test)
            place = phi(builder, (first, before))
            following = builder.add(place, i64(step))
            builder.cbranch(builder.icmp_signed("<=", following, end), turn, after)
            builder.position_at_end(turn)
            work(place)
            place.add_incoming(following, builder.block)
            builder.branch(test)
            builder.position_at_end(after)
            return place

        def block(r: Any, tall: int) -> None:
            lines = [
                builder.gep(weights, [builder.mul(span, builder.add(r, i64(k)))])
                for k in range(tall)
            ]

            def some(n: Any, wide: int) -> None:
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
            for wide in DOT_ITEMS:
                n = over(n, items, wide, lambda n, wide=wide: some(n, wide))

        r: Any = i64(0)
        for tall in (DOT_ROWS, 1):
            r = over(r, rows, tall, lambda r, tall=tall: block(r, tall))

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
