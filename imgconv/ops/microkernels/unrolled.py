"""Sums of four output rows over a few taps, unrolled: kernels of up to `UNROLLED` taps in one pass.

Over more, passes add a column of taps each to sums in the first-level cache; where the sums of all
taps fit the registers, `sums.four_rows` is faster. LLVM makes vectors of the loops over elements.
"""

from typing import NamedTuple

from imgconv.jit import loop as jit
from imgconv.jit import simd
from imgconv.jit.loop import Helper


class Passes(NamedTuple):
    """How the taps are cut into passes: compile-time constants of the loop.

    height: taps a column of the first passes; second: of the others, or 0 where there are none.
    across: columns a pass. one: a single pass does it all. height 0: any taps in one pass.
    """

    height: int
    second: int
    across: int
    one: bool


def _columns(real: str, height: int, across: int, stride: int, dilation: int) -> Helper:
    """A helper adding `across` columns of `height` taps to the sums of four rows.

    add(data, columns, weights, at, pitch, t0, t1, t2, t3): columns are the columns' offsets in
    data, weights those of their taps, column by column.
    """
    number = jit.DTYPES[real].type
    one, two, three = stride, 2 * stride, 3 * stride

    def chain(x: int) -> Helper:
        if x == across:
            return Helper(
                lambda data, columns, weights, at, pitch, t0, t1, t2, t3: (t0, t1, t2, t3)
            )
        rest = chain(x + 1)
        skip = x * height

        def add(  # type: ignore[no-untyped-def]
            data, columns, weights, at, pitch, t0, t1, t2, t3
        ):
            place = at + columns[x]
            for ky in range(height):
                weight = weights[skip + ky]
                row = ky * dilation
                t0 += weight * number(data[place + row * pitch])
                t1 += weight * number(data[place + (row + one) * pitch])
                t2 += weight * number(data[place + (row + two) * pitch])
                t3 += weight * number(data[place + (row + three) * pitch])
            return rest(data, columns, weights, at, pitch, t0, t1, t2, t3)

        return Helper(add)

    return chain(0)


def adder(real: str, height: int, across: int, stride: int, dilation: int, fresh: bool) -> Helper:
    """A helper that runs one pass over `count` elements of four rows of sums.

    fresh: the pass starts the sums instead of adding to them.
    """
    columns_of = _columns(real, height, across, stride, dilation)
    zero = jit.DTYPES[real].type(0)

    def start(  # type: ignore[no-untyped-def]
        sums, length, data, at, pitch, columns, weights, count
    ):
        for i in range(count):
            t0, t1, t2, t3 = columns_of(
                data, columns, weights, at + i, pitch, zero, zero, zero, zero
            )
            sums[i] = t0
            sums[length + i] = t1
            sums[2 * length + i] = t2
            sums[3 * length + i] = t3

    def add(  # type: ignore[no-untyped-def]
        sums, length, data, at, pitch, columns, weights, count
    ):
        for i in range(count):
            t0, t1, t2, t3 = columns_of(
                data, columns, weights, at + i, pitch,
                sums[i], sums[length + i],
                sums[2 * length + i], sums[3 * length + i],
            )  # fmt: skip
            sums[i] = t0
            sums[length + i] = t1
            sums[2 * length + i] = t2
            sums[3 * length + i] = t3

    return Helper(start if fresh else add)


def all_passes(passes: Passes, real: str, stride: int, dilation: int) -> Helper:
    """A helper that leaves the sums of all taps of `count` elements of four rows.

    full: how many passes are of the first height, of `many`.
    """
    run_first = adder(real, passes.height, passes.across, stride, dilation, passes.one)
    run_second = adder(real, max(passes.second, 1), passes.across, stride, dilation, False)
    zero = jit.DTYPES[real].type(0)
    one, second = passes.one, passes.second

    def body(  # type: ignore[no-untyped-def]
        sums, length, data, at, pitch, columns, starts, weights, count, full, many
    ):
        if not one:
            for i in range(4 * length):
                sums[i] = zero
        for p in range(full):
            run_first(
                sums, length, data, at + starts[3 * p + 1] * pitch, pitch,
                simd.at(columns, starts[3 * p]), simd.at(weights, starts[3 * p + 2]), count,
            )  # fmt: skip
        if second:
            for p in range(full, many):
                run_second(
                    sums, length, data, at + starts[3 * p + 1] * pitch, pitch,
                    simd.at(columns, starts[3 * p]), simd.at(weights, starts[3 * p + 2]), count,
                )  # fmt: skip

    return Helper(body)
