"""Maps to samples, and colours to gray: one pass over the values, threads over bands."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import jit
from imgconv.compute.arrays import contiguous, supported
from imgconv.compute.bands import over_bands
from imgconv.compute.jit import Built, Helper, loop
from imgconv.errors import ShapeError

Array = npt.NDArray[Any]
_PIECE = 1 << 17  # values a turn: half a megabyte of float32

# Places in the `values` array of a loop.
BASE, GAIN, OFFSET, FULL = range(4)


@loop
def scale_values(source: str, element: str, absolute: bool) -> Built:
    """out = cast((value − base) · gain + offset) of `count` pixels; `lost` counts the clipped.

    run, step: values of a pixel, and elements from one pixel of `out` to the next.
    """
    real = "f64" if source == "f64" else "f32"
    number = jit.DTYPES[real].type
    cast = jit.caster(element)
    half = number(0.5)
    size = Helper((lambda v: abs(v)) if absolute else (lambda v: v))

    def body(out, source, values, lost, count, run, step):  # type: ignore[no-untyped-def]
        base = values[BASE]
        gain = values[GAIN]
        offset = values[OFFSET]
        high = values[FULL] + half
        total = np.int32(0)
        if run == step:
            for i in range(count * run):
                value = (size(number(source[i])) - base) * gain + offset
                out[i] = cast(value)
                total += np.int32(value < -half) + np.int32(value > high)
        else:
            for i in range(count):
                for e in range(run):
                    value = (size(number(source[i * run + e])) - base) * gain + offset
                    out[i * step + e] = cast(value)
                    total += np.int32(value < -half) + np.int32(value > high)
        lost[0] = total

    return f"disjoint {element}* {source}* {real}* i64* i64 i64 i64", body


def scale(
    values: Array, out: Array, base: float, gain: float, offset: float, full: float,
    absolute: bool = False,
) -> int:  # fmt: skip
    """Write (value − base) · gain + offset to `out`; return how many were clipped.

    values: of any shape; |value| where `absolute`. out: of that shape and contiguous, or the first
    channels of a contiguous (H, W, more). Integers round half to even and saturate, and NaN
    becomes 0; clipped are values below −½ and above `full` + ½.
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
    real = np.dtype(np.float64 if source.dtype == np.float64 else np.float32)
    constants = np.array([base, gain, offset, full], real)
    body = scale_values(jit.ELEMENT_NAMES[source.dtype], jit.ELEMENT_NAMES[out.dtype], absolute)
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


@loop
def weighted_sum(element: str) -> Built:
    """out = cast(Σ weight · channel) of three interleaved channels; sums in float64."""
    cast = jit.caster(element)

    def body(out, source, weights, count, step):  # type: ignore[no-untyped-def]
        red = weights[0]
        green = weights[1]
        blue = weights[2]
        for i in range(count):
            at = i * step
            out[i] = cast(
                np.float64(source[at]) * red
                + (np.float64(source[at + 1]) * green + np.float64(source[at + 2]) * blue)
            )

    return f"disjoint {element}* {element}* f64* i64 i64", body


def mix(colors: Array, weights: tuple[float, float, float]) -> Array:
    """Return (H, W, 1): the weighted sum of the first three channels of (H, W, C ≥ 3)."""
    source = contiguous(supported(colors))
    height, width, step = source.shape
    out = np.empty((height, width, 1), source.dtype)
    body = weighted_sum(jit.ELEMENT_NAMES[source.dtype])
    flat, target = source.reshape(-1), out.reshape(-1)
    constants = np.array(weights, np.float64)
    over_bands(
        height * width, _PIECE,
        lambda first, last: body(
            target[first:], flat[first * step :], constants, last - first, step
        ),
    )  # fmt: skip
    return out
