"""What happens to a row of sums before it is stored, while it is still in the cache.

value = activation(combine(sum / divisor + bias)) · gain + offset, then the cast.

`divisor` is kept apart from integer weights so that an integer image under a kernel such as
1/9 · ones has exact sums and one correctly rounded quotient: a tie is a tie, whatever the order
of the taps. The quotient is q + (s − q·d)/d with q = s·(1/d), correctly rounded for float32 and
float64 without the division unit, where a CPU rounds a product and a sum once. Source: P. W.
Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", IBM J. Res.
Dev. 34 (1990).
"""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from imgconv.arguments import not_among
from imgconv.errors import UsageError
from imgconv.jit import cache, simd
from imgconv.jit import loop as jit
from imgconv.jit.loop import Helper

# Places in the `values` array of a loop.
FILL, GAIN, OFFSET, DIVISOR, INVERSE, STREAM = range(6)

# Bytes of a result from which on its rows of floats pass the caches by: it would not stay there,
# and to store past them saves reading what is overwritten (3×3, 12 MP RGB float32: 23 ms of one
# core, 30 through the caches).
LARGE = 1 << 26


def activation_key(activation: Any) -> str:
    """A stable text for an activation: the loops' compile-time constant, "" for none."""
    return "" if activation is None else str(activation)


def activation_of(key: str, real: str) -> Helper:
    """The scalar helper of an activation's key; "" is the identity."""
    if not key:
        return Helper(lambda value: value)
    pointwise = importlib.import_module("imgconv.ops.activation")
    formula: Helper = pointwise.parse_activation(key).helper(real)
    return formula


@jit.loop
def activate_rows(lanes: int, activation: str) -> jit.Built:
    """out[i] = activation(x[i]) of float32; out may be x."""
    act = activation_of(activation, "f32")
    block, line = simd.Tile(1, 2, lanes), simd.Vec(lanes)

    def body(out, x, count):  # type: ignore[no-untyped-def]
        whole = count // (2 * lanes) * (2 * lanes)
        for i in range(0, whole, 2 * lanes):
            simd.store(out, i, act(simd.load(block, x, i)))
        for i in range(whole, count, lanes):
            mask = simd.below(line, count - i)
            simd.store_masked(
                out, i, act(simd.load_masked(line, x, i, mask, simd.zeros(line))), mask
            )

    return "f32* f32* i64", body


def activated(activation: str) -> Helper | None:
    """A helper (out, at, count): `activate_rows` in place; None where there is no activation."""
    if not activation:
        return None
    rows = activate_rows.part(cache.vectors()[0], activation)
    return Helper(lambda out, at, count: rows(simd.at(out, at), simd.at(out, at), count))


def add(a, b):  # type: ignore[no-untyped-def]
    return a + b


def larger(a, b):  # type: ignore[no-untyped-def]
    # NaN on either side stays NaN.
    return a if a > b or a != a else b


# shrink: the sum of the maps, each 0 where its magnitude is below its bias (hard shrinkage, D. L.
# Donoho, I. M. Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81, 1994).
COMBINE_RULES = ("none", "magnitude", "max", "sum", "mean", "shrink")


def check_combine(combine: str) -> None:
    """Raise UsageError unless `combine` is one of COMBINE_RULES."""
    if combine not in COMBINE_RULES:
        raise UsageError(f"combine={combine!r}: {not_among(combine, COMBINE_RULES)}")


@functools.cache
def _quotient() -> Helper:
    """A helper (value, divisor, inverse) → value / divisor, correctly rounded."""
    if not cache.fuses():
        return Helper(lambda value, divisor, inverse: value / divisor)

    def quotient(value, divisor, inverse):  # type: ignore[no-untyped-def]
        near = value * inverse
        return near + (value - near * divisor) * inverse

    return Helper(quotient)


@functools.cache
def quotient(real: str, divided: bool) -> Helper:
    """A helper (sum, bias, values) → sum / divisor + bias; nothing is divided where not `divided`.

    The bias is added before, times the divisor, so that the quotient alone is rounded.
    """
    if not divided:
        return Helper(lambda value, bias, values: value + bias)

    near = _quotient()

    def divide(value, bias, values):  # type: ignore[no-untyped-def]
        return near(value + bias * values[DIVISOR], values[DIVISOR], values[INVERSE])

    return Helper(divide)


def _folding(combine: str, real: str, divided: bool) -> tuple[jit.Helper, jit.Helper, jit.Helper]:
    """How maps are combined: (sum, bias, values) → a term; two terms → one; the last → a result.

    The last takes (value, biases' sum, maps, values). What is linear is divided at the end, so that
    of integers only the result is rounded: a tie of thirds is a tie.
    """
    divide = quotient(real, divided)
    number = jit.DTYPES[real].type

    def biased(value, bias, values):  # type: ignore[no-untyped-def]
        return divide(value, bias, values)

    def plain(value, bias, values):  # type: ignore[no-untyped-def]
        return value

    def square(value, bias, values):  # type: ignore[no-untyped-def]
        value = value + bias * values[DIVISOR] if divided else value + bias
        return value * value

    def shrunk(value, bias, values):  # type: ignore[no-untyped-def]
        value = divide(value, number(0), values)
        return number(0) if abs(value) < bias else value  # NaN stays

    def kept(value, bias, maps, values):  # type: ignore[no-untyped-def]
        return value

    def total(value, bias, maps, values):  # type: ignore[no-untyped-def]
        return divide(value, bias, values)

    def mean(value, bias, maps, values):  # type: ignore[no-untyped-def]
        return value / number(maps)

    def mean_of_quotients(value, bias, maps, values):  # type: ignore[no-untyped-def]
        return (value + bias * values[DIVISOR]) / (values[DIVISOR] * number(maps))

    def root(value, bias, maps, values):  # type: ignore[no-untyped-def]
        return math.sqrt(value) / abs(values[DIVISOR]) if divided else math.sqrt(value)

    rules: dict[str, tuple[Callable[..., Any], ...]] = {
        "magnitude": (square, add, root),
        "max": (biased, larger, kept),
        "sum": (plain, add, total) if divided else (biased, add, kept),
        "mean": (plain, add, mean_of_quotients) if divided else (biased, add, mean),
        "shrink": (shrunk, add, kept),
    }
    term, both, last = (Helper(function) for function in rules[combine])
    return term, both, last


@functools.cache
def fold(combine: str, real: str, divided: bool) -> Helper:
    """A helper that folds map m's sums (at `new`) into the combined row (at `to`).

    fold(sums, to, new, count, m, maps, bias, values); the last map also finishes the row.
    """
    if combine == "none":
        return Helper(lambda sums, to, new, count, m, maps, bias, values: None)
    term, both, last = _folding(combine, real, divided)
    zero = jit.DTYPES[real].type(0)

    def body(sums, to, new, count, m, maps, bias, values):  # type: ignore[no-untyped-def]
        if m == 0:
            for i in range(count):
                sums[to + i] = term(sums[new + i], bias[0], values)
        else:
            for i in range(count):
                sums[to + i] = both(sums[to + i], term(sums[new + i], bias[m], values))
        if m == maps - 1:
            biases = zero
            for k in range(maps):
                biases += bias[k]
            for i in range(count):
                sums[to + i] = last(sums[to + i], biases, maps, values)

    return Helper(body)


@functools.cache
def store(element: str, real: str, divided: bool, combined: bool, activation: str) -> Helper:
    """A helper store(out, at, sums, start, count, bias, values) that writes a finished row."""
    cast = jit.caster(element)
    act = activation_of(activation, real)
    over = divided and not combined
    times = Helper((lambda a, b: a * b) if over else (lambda a, b: a))
    divide = _quotient() if over else Helper(lambda value, divisor, inverse: value)

    def body(out, at, sums, start, count, bias, values):  # type: ignore[no-untyped-def]
        gain = values[GAIN]
        offset = values[OFFSET]
        divisor = values[DIVISOR]
        inverse = values[INVERSE]
        add = times(bias, divisor)
        for i in range(count):
            value = divide(sums[start + i] + add, divisor, inverse)
            out[at + i] = cast(act(value) * gain + offset)

    return Helper(body)


def _copy_past_caches(real: str) -> Helper:
    """out[i] = data[i] for i < count, without reading the lines of `out` that are overwritten."""
    lanes = cache.vectors()[0] * 4 // jit.DTYPES[real].itemsize
    line = simd.Vec(lanes, real)

    def copy(out, data, count):  # type: ignore[no-untyped-def]
        head = min(simd.unaligned(line, out, 0), count)
        tail = head + (count - head) // lanes * lanes
        for i in range(head):
            out[i] = data[i]
        for i in range(head, tail, lanes):
            simd.store_past(out, i, simd.load(line, data, i))
        for i in range(tail, count):
            out[i] = data[i]

    return Helper(copy)


@functools.cache
def store_past_caches(
    element: str, real: str, divided: bool, combined: bool, activation: str
) -> Helper:
    """`store` for results that may be LARGE: what is in sums is spent, and a loop ends by a fence.

    Of an activation nothing is gained: it takes longer than the memory.
    """
    usual = store(element, real, divided, combined, activation)
    if element != real or activation:
        return usual
    stream = _copy_past_caches(real)

    def body(out, at, sums, start, count, bias, values):  # type: ignore[no-untyped-def]
        if values[STREAM] == 0:
            usual(out, at, sums, start, count, bias, values)
        else:
            usual(sums, start, sums, start, count, bias, values)
            stream(simd.at(out, at), simd.at(sums, start), count)

    return Helper(body)


def make_values(
    real: str, fill: float, gain: float, offset: float, divisor: float, size: int = 0
) -> Any:
    """The `values` array of a loop. size: bytes of its result."""
    numbers = [fill, gain, offset, divisor, 1.0 / divisor, size >= LARGE]
    return np.array(numbers, jit.DTYPES[real])
