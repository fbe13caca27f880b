"""Maps to samples, and colors to gray: one pass over the values, threads over bands."""

import math
import threading

import numpy as np

from imgconv.errors import ShapeError
from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, Helper, Wanted, loop
from imgconv.jit.parallel import over_bands
from imgconv.ops import exact
from imgconv.ops.arrays import contiguous, supported
from imgconv.typing import Array, Dtype

WIDE = [np.dtype(kind) for kind in (np.float64, np.int32, np.uint32)]  # more than float32 holds
_PIECE = 1 << 17  # values a turn: half a megabyte of float32

# Places in the `values` array of a loop.
BASE, GAIN, DIVISOR, OFFSET, FULL = range(5)


@loop
def scale_values(source: str, element: str, real: str, absolute: bool, divided: bool) -> Built:
    """out = cast((value − base) · gain / divisor + offset) of `count` pixels.

    `lost` counts the clipped. real: the type of the arithmetic. run, step: values of a pixel, and
    elements from one pixel of `out` to the next.
    """
    number = jit.DTYPES[real].type
    cast = jit.caster(element)
    half = number(0.5)
    # A quotient that is multiplied may miss half an integer by its last bits, and no other result
    # is as near to one: it is rounded to 2⁻³⁴.
    grid = number(1.5 * 2**18)
    snaps = divided and element in ("u8", "u16")

    def scaled(value, base, gain, divisor, offset):  # type: ignore[no-untyped-def]
        size = abs(number(value)) if absolute else number(value)
        value = (size - base) * gain
        if divided:
            value = value / divisor
            if snaps:
                value = (value + grid) - grid
        return value + offset

    sample = Helper(scaled)

    def body(out, source, values, lost, count, run, step):  # type: ignore[no-untyped-def]
        base = values[BASE]
        gain = values[GAIN]
        divisor = values[DIVISOR]
        offset = values[OFFSET]
        high = values[FULL] + half
        total = np.int32(0)
        if run == step:
            for i in range(count * run):
                value = sample(source[i], base, gain, divisor, offset)
                out[i] = cast(value)
                total += np.int32(value < -half) + np.int32(value > high)
        else:
            for i in range(count):
                for e in range(run):
                    value = sample(source[i * run + e], base, gain, divisor, offset)
                    out[i * step + e] = cast(value)
                    total += np.int32(value < -half) + np.int32(value > high)
        lost[0] = total

    return f"disjoint {element}* {source}* {real}* i64* i64 i64 i64", body


def scale(
    values: Array, out: Array, base: float, gain: float, offset: float, full: float,
    absolute: bool = False, divisor: float = 1.0,
) -> int:  # fmt: skip
    """Write (value − base) · gain / divisor + offset to `out`; return how many were clipped.

    values: of any shape; |value| where `absolute`. out: of that shape and contiguous, or the first
    channels of a contiguous (H, W, more). Integers round half to even and saturate, and NaN
    becomes 0; clipped are values below −½ and above `full` + ½. The arithmetic is float64 where
    float32 would round: for float64 and 32-bit integers, and over a divisor. Raises ShapeError.
    """
    if values.shape != out.shape:
        raise ShapeError(f"scale: values of shape {values.shape} into {out.shape}")
    source = contiguous(supported(values)).reshape(-1)
    count, run, step = values.size, 1, 1
    target = out
    if out.flags.c_contiguous:
        target = out.reshape(-1)
    else:
        height, width, run = out.shape
        count, step = height * width, out.strides[1] // out.itemsize
        target = np.lib.stride_tricks.as_strided(
            out, (max(0, count * step - step + run),), (out.itemsize,)
        )
    wanted = scale_loop(source.dtype, out.dtype, gain, divisor, absolute)
    _, _, real, _, divided = wanted.constants
    if not divided:
        gain, divisor = gain / divisor, 1.0
    constants = np.array([base, gain, divisor, offset, full], jit.DTYPES[real])
    body = wanted.load()
    found = 0
    lock = threading.Lock()

    def piece(first: int, last: int) -> None:
        nonlocal found
        lost = np.zeros(1, np.int64)
        body(target[first * step :], source[first * run :], constants, lost,
             last - first, run, step)  # fmt: skip
        with lock:
            found += int(lost[0])

    over_bands(count, _PIECE, piece)
    return found


def scale_loop(source: Dtype, out: Dtype, gain: float, divisor: float, absolute: bool) -> Wanted:
    """The loop with which `scale` goes from one type to another."""
    plain = divisor == 1.0 or math.frexp(abs(gain / divisor))[0] in (0.0, 0.5)
    divided = not plain and 1e-30 < abs(divisor) < 1e30
    real = "f32" if plain and source not in WIDE and out not in WIDE else "f64"
    names = jit.ELEMENT_NAMES[source], jit.ELEMENT_NAMES[out]
    return Wanted(scale_values, (*names, real, absolute, divided))


@loop
def weighted_sum(element: str, divided: bool) -> Built:
    """out = cast(Σ weight · channel / divisor) of three interleaved channels; sums in float64.

    weights: those of the three, and the divisor.
    """
    cast = jit.caster(element)
    divide = Helper((lambda a, b: a / b) if divided else (lambda a, b: a))

    def body(out, source, weights, count, step):  # type: ignore[no-untyped-def]
        red = weights[0]
        green = weights[1]
        blue = weights[2]
        divisor = weights[3]
        for i in range(count):
            at = i * step
            total = np.float64(source[at]) * red + (
                np.float64(source[at + 1]) * green + np.float64(source[at + 2]) * blue
            )
            out[i] = cast(divide(total, divisor))

    return f"disjoint {element}* {element}* f64* i64 i64", body


def mix(colors: Array, weights: tuple[float, float, float]) -> Array:
    """Return (H, W, 1): the weighted sum of the first three channels of (H, W, C ≥ 3).

    Of integers under decimals the sum is exact, and rounded once.
    """
    source = contiguous(supported(colors))
    height, width, step = source.shape
    out = np.empty((height, width, 1), source.dtype)
    bank = np.array(weights, np.float64).reshape(1, 1, 1, 3)
    bank, divisor = exact.rational_form(source.dtype, bank, 1.0)
    body = weighted_sum(jit.ELEMENT_NAMES[source.dtype], divisor != 1.0)
    flat, target = source.reshape(-1), out.reshape(-1)
    constants = np.array([*bank.flat, divisor], np.float64)
    over_bands(
        height * width, _PIECE,
        lambda first, last: body(
            target[first:], flat[first * step :], constants, last - first, step
        ),
    )  # fmt: skip
    return out
