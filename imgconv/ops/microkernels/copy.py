"""Copies of rows of floats into tiles: short rows, borders, every second or fourth element."""

import functools
from collections.abc import Callable
from typing import Any

from imgconv.jit.instructions import LINE, phi, prefetch, vector_at
from imgconv.jit.loop import Emitter

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
