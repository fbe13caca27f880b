"""Floats as integers of 8 and 16 bits, and back: a float is (integer − zero point) · scale.

Ties are rounded to even before the zero point is added; what lies beyond the integers' range
becomes its end, and a NaN the zero point, of which the standard says nothing. Source: the ONNX
operators QuantizeLinear and DequantizeLinear, and ONNX Runtime for the ties.
"""

from typing import Any, NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops.arrays import contiguous
from imgconv.typing import Array, Dtype, Float32

_FEW = 1 << 15  # elements; below this a thread costs more than it saves
# Loops know no type for signed bytes: they are stored, and told apart, by their lowest eight bits.
_STORED = {"i1": np.dtype(np.uint8), **{code: np.dtype(code) for code in ("u1", "i2", "u2")}}


class Steps(NamedTuple):
    """How integers of 8 or 16 bits stand for floats; their zero point and ends as float32."""

    dtype: Dtype
    scale: np.float32
    zero: np.float32
    low: np.float32
    high: np.float32

    @classmethod
    def of(cls, scale: Array, zero: Array) -> "Steps | None":
        """Those of a scale (float32) and a zero point for all elements; None for any other."""
        if scale.size != 1 or zero.size != 1 or scale.dtype != np.float32:
            return None
        if zero.dtype.str[1:] not in _STORED:
            return None
        ends = np.iinfo(zero.dtype)
        numbers = (np.float32(number) for number in (scale.item(), zero.item(), ends.min, ends.max))
        return cls(zero.dtype, *numbers)

    @property
    def stored(self) -> Dtype:
        """The type that loops store."""
        return _STORED[self.dtype.str[1:]]


def _stepped(steps: Any, zero: Any, low: Any, high: Any) -> Any:
    """Steps from zero, rounded, as a number within the integers' range."""
    whole = np.rint(steps)
    whole = whole if whole == whole else np.float32(0)
    return min(max(whole + zero, low), high)


@jit.loop
def quantize_elements(stored: str) -> jit.Built:
    """out[i] = x[i] / scale, rounded, from the zero point on."""
    step = jit.helper(_stepped)

    def body(out, x, scale, zero, low, high, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            out[i] = np.int32(step(x[i] / scale, zero, low, high))

    return f"disjoint {stored}* f32* f32 f32 f32 f32 i64", body


@jit.loop
def round_elements() -> jit.Built:
    """out[i] = the float that x[i] becomes as an integer; out may be x."""
    step = jit.helper(_stepped)

    def body(out, x, scale, zero, low, high, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            out[i] = (step(x[i] / scale, zero, low, high) - zero) * scale

    return "f32* f32* f32 f32 f32 f32 i64", body


@jit.loop
def dequantize_elements(stored: str, signed: bool) -> jit.Built:
    """out[i] = (x[i] − zero) · scale; signed: x holds signed bytes."""

    def body(out, x, scale, zero, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            value = np.int32(x[i])
            if signed:
                value -= (value & 128) << 1
            out[i] = (np.float32(value) - zero) * scale

    return f"disjoint f32* {stored}* f32 f32 i64", body


@jit.loop
def requantize_planes(element: str, stored: str) -> jit.Built:
    """Planes first…last − 1 of `area` sums: (sum + bias) · factor, rounded, from zero on.

    A plane has the bias and the factor of its channel. The sum is rounded to float32 once.
    """
    step = jit.helper(_stepped)

    def body(out, sums, bias, factors, zero, low, high, channels, area, first, last):  # type: ignore[no-untyped-def]
        for plane in range(first, last):
            own, factor = bias[plane % channels], factors[plane % channels]
            for i in range(plane * area, (plane + 1) * area):
                total = np.float32(np.float64(sums[i]) + own)
                out[i] = np.int32(step(total * factor, zero, low, high))

    return f"disjoint {stored}* {element}* f64* f32* f32 f32 f32 i64 i64 i64 i64", body


def quantize(x: Float32, steps: Steps) -> Array:
    """Return floats as integers of the type of the steps."""
    flat = contiguous(x, np.float32).reshape(-1)
    out = np.empty(x.shape, steps.dtype)
    work = quantize_elements(jit.ELEMENT_NAMES[steps.stored])
    target = out.view(steps.stored).reshape(-1)
    over_bands(
        flat.size, band_of(flat.size, _FEW),
        lambda a, b: work(target[a:b], flat[a:b], *steps[1:], b - a),
    )  # fmt: skip
    return out


def dequantize(x: Array, steps: Steps) -> Float32:
    """Return the floats that integers of the type of the steps stand for."""
    flat = contiguous(x).view(steps.stored).reshape(-1)
    out = np.empty(x.shape, np.float32)
    target, signed = out.reshape(-1), steps.dtype == np.int8
    work = dequantize_elements(jit.ELEMENT_NAMES[steps.stored], signed)
    over_bands(
        flat.size, band_of(flat.size, _FEW),
        lambda a, b: work(target[a:b], flat[a:b], steps.scale, steps.zero, b - a),
    )  # fmt: skip
    return out


def rounded(x: Float32, steps: Steps) -> Float32:
    """Return dequantize(quantize(x)) in one pass."""
    flat = contiguous(x, np.float32).reshape(-1)
    out = np.empty(x.shape, np.float32)
    work, target = round_elements(), out.reshape(-1)
    over_bands(
        flat.size, band_of(flat.size, _FEW),
        lambda a, b: work(target[a:b], flat[a:b], *steps[1:], b - a),
    )  # fmt: skip
    return out


def requantize(sums: Array, bias: Array, factors: Array, steps: Steps) -> Array:
    """Return (sums + bias) · factors as integers of the type of the steps, whose scale is unused.

    Parameters
    ----------
    sums: (N, C, …) of integers in float32 or float64.
    bias, factors: (C,): integers, and float32.
    """
    count, channels = sums.shape[:2]
    area = sums[0, 0].size if count and channels else 0
    out = np.empty(sums.shape, steps.dtype)
    sums, bias = contiguous(sums), contiguous(bias, np.float64)
    work = requantize_planes(jit.ELEMENT_NAMES[sums.dtype], jit.ELEMENT_NAMES[steps.stored])
    target, factors = out.view(steps.stored), contiguous(factors, np.float32)
    over_bands(
        count * channels, band_of(count * channels, _FEW // max(1, area)),
        lambda first, last: work(
            target, sums, bias, factors, *steps[2:], channels, area, first, last
        ),
    )  # fmt: skip
    return out
