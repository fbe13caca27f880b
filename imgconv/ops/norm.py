"""Normalization with the semantics of torch.nn: batch, instance, layer and local response."""

import math
from typing import Any

import numpy as np

from imgconv.errors import ShapeError
from imgconv.jit import cache, capture, simd
from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops import epilogue
from imgconv.ops.arrays import contiguous, real_type
from imgconv.typing import Array

_FEW = 1 << 15  # elements; below this a thread costs more than it saves


@jit.loop
def scale_planes(element: str, activation: str, centered: bool) -> jit.Built:
    """out = activation((x − center[plane]) · scale[plane] + shift[plane]), planes first…last − 1.

    centered: False where every center is 0.
    """
    act = epilogue.activation_of(activation, element)
    apart = jit.Helper((lambda x, center: x - center) if centered else (lambda x, center: x))

    def body(out, x, center, scale, shift, area, first, last):  # type: ignore[no-untyped-def]
        for plane in range(first, last):
            middle, a, b = center[plane], scale[plane], shift[plane]
            for i in range(plane * area, (plane + 1) * area):
                out[i] = act(apart(x[i], middle) * a + b)

    return f"{element}* {element}* {element}* {element}* {element}* i64 i64 i64", body


@jit.loop
def norm_rows(lanes: int) -> jit.Built:
    """Rows first…last − 1 of `size` elements: (x − mean) / √(variance + eps) · weight + bias.

    Mean and variance are float64, and so is what is taken off them: numbers far from 0 lose no
    digits.
    """
    line, narrow = simd.Vec(lanes, "f64"), simd.Vec(lanes, "f32")

    def body(out, x, weight, bias, eps, size, first, last):  # type: ignore[no-untyped-def]
        whole = size // lanes * lanes
        for row in range(first, last):
            source, target = simd.at(x, row * size), simd.at(out, row * size)
            sums = simd.zeros(line)
            for i in range(0, whole, lanes):
                sums = sums + simd.load(line, source, i)
            total = simd.number(simd.sum(sums))
            for i in range(whole, size):
                total += np.float64(source[i])
            mean = total / np.float64(size)
            center, squares = simd.splat(line, mean), simd.zeros(line)
            for i in range(0, whole, lanes):
                apart = simd.load(line, source, i) - center
                squares = simd.fma(apart, apart, squares)
            spread = simd.number(simd.sum(squares))
            for i in range(whole, size):
                spread += (np.float64(source[i]) - mean) * (np.float64(source[i]) - mean)
            scale = 1.0 / math.sqrt(spread / np.float64(size) + eps)
            factor = simd.splat(line, scale)
            for i in range(0, whole, lanes):
                values = (simd.load(line, source, i) - center) * factor
                values = values * simd.load(line, weight, i) + simd.load(line, bias, i)
                simd.store(target, i, simd.convert(narrow, values))
            for i in range(whole, size):
                values = (np.float64(source[i]) - mean) * scale
                target[i] = np.float32(values * np.float64(weight[i]) + np.float64(bias[i]))

    return "f32* f32* f32* f32* f64 i64 i64 i64", body


@jit.loop
def response_planes(element: str, beta: float) -> jit.Built:
    """Local response normalization of planes first…last − 1 of one item of `channels`.

    values: factor and k.
    """
    scalar = jit.DTYPES[element].type
    power = scalar(beta)
    rooted = beta == 0.75  # every published network's; two square roots, which vectorize

    def body(out, x, values, channels, area, near, far, first, last):  # type: ignore[no-untyped-def]
        factor, k = values[0], values[1]
        for c in range(first, last):
            low, high = max(c - near, 0), min(c + far, channels - 1)
            # The sums are put by in the output: plane by plane they are vectors of pixels.
            for i in range(area):
                out[c * area + i] = scalar(0)
            for j in range(low, high + 1):
                for i in range(area):
                    out[c * area + i] += x[j * area + i] * x[j * area + i]
            for i in range(area):
                base = k + factor * out[c * area + i]
                if rooted:
                    half = np.sqrt(base)
                    out[c * area + i] = x[c * area + i] / (half * np.sqrt(half))
                else:
                    out[c * area + i] = x[c * area + i] / base**power

    kinds = f"{element}* {element}* {element}* i64 i64 i64 i64 i64 i64"
    return f"disjoint {kinds}", body


def scale_shift(
    x: Array, scale: Array, shift: Array, activation: Any = None, center: Array | None = None
) -> Array:
    """Return (x − center) · scale + shift with one number a channel, (C,), or a plane, (N, C).

    center: float64. It is taken off first, so that numbers far from 0 lose no digits: as a number
    of x's type, and what that leaves of it with the shift.
    """
    source = _checked(x, "scale_shift")
    planes = source.shape[:2]
    names = jit.ELEMENT_NAMES[source.dtype], epilogue.activation_key(activation)
    middle = np.zeros(1) if center is None else center.astype(source.dtype)
    if center is not None:
        with np.errstate(invalid="ignore"):
            shift = shift - np.nan_to_num(center - middle) * scale
    try:
        centers, factors, offsets = (
            np.ascontiguousarray(np.broadcast_to(v, planes), source.dtype)
            for v in (middle, scale, shift)
        )
    except ValueError:
        raise ShapeError(
            f"scale of shape {scale.shape}, shift of {shift.shape}, expected ({planes[1]},)"
        ) from None
    area = int(np.prod(source.shape[2:]))
    out = np.empty_like(source)
    work = scale_planes(*names, center is not None)
    count = planes[0] * planes[1]
    over_bands(
        count, _band(count, area),
        lambda a, b: work(out, source, centers, factors, offsets, area, a, b),
    )  # fmt: skip
    return out


def batch_norm(
    x: Array, running_mean: Array, running_var: Array, weight: Array | None = None,
    bias: Array | None = None, eps: float = 1e-5, activation: Any = None,
) -> Array:  # fmt: skip
    """Return batch normalization in evaluation, as `torch.nn.functional.batch_norm` does.

    (x − mean) / √(var + eps) · weight + bias, each per channel.

    Parameters
    ----------
    x
        (N, C, …).
    running_mean, running_var, weight, bias
        (C,); weight is 1 and bias 0 by default.
    eps
        Added to the variance.
    activation
        Applied last, as for `conv2d`.
    """
    return scale_shift(
        x, *batch_norm_factors(running_mean, running_var, weight, bias, eps), activation
    )


def batch_norm_factors(
    running_mean: Array, running_var: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array]:
    """Return (scale, shift), each (C,) float64, with batch_norm(x) = x · scale + shift."""
    scale = 1.0 / np.sqrt(running_var.astype(np.float64) + eps)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean.astype(np.float64) * scale
    return scale, shift if bias is None else shift + bias


def instance_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Return `torch.nn.functional.instance_norm`: each plane is normalized by its own statistics.

    Parameters
    ----------
    x
        (N, C, H, W).
    weight, bias
        (C,), 1 and 0 by default.
    eps
        Added to the variance, which is the biased one.
    """
    source = _checked(x, "instance_norm")
    axes = tuple(range(2, source.ndim))
    mean = source.mean(axis=axes, dtype=np.float64)
    var = source.var(axis=axes, dtype=np.float64)
    scale = 1.0 / np.sqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    return scale_shift(source, scale, np.zeros(1) if bias is None else bias, center=mean)


def layer_norm(
    x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5
) -> Array:  # fmt: skip
    """Return `torch.nn.functional.layer_norm` over the axes of the weight, the last ones.

    Parameters
    ----------
    x
        (…, *weight.shape).
    weight, bias
        Of one shape; bias is 0 by default.
    eps
        Added to the variance, which is the biased one.

    Raises
    ------
    ShapeError
        The last axes are others.
    """
    if x.shape[x.ndim - weight.ndim :] != weight.shape or not weight.size:
        raise ShapeError(f"layer_norm: input {x.shape}, expected (…, {weight.shape})")
    if x.dtype != np.float32:
        capture.refuse()
        rows = instance_norm(x.reshape(1, -1, weight.size), eps=eps).reshape(x.shape)
        return rows * weight if bias is None else rows * weight + bias
    source, size = contiguous(x, np.float32), weight.size
    out = np.empty_like(source)
    factors = contiguous(weight, np.float32)
    offsets = np.zeros(size, np.float32) if bias is None else contiguous(bias, np.float32)
    work, count = norm_rows(cache.vectors()[0] // 2), source.size // size
    over_bands(
        count, _band(count, size),
        lambda first, last: work(out, source, factors, offsets, eps, size, first, last),
    )  # fmt: skip
    return out


def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0,
    near: int | None = None,
) -> Array:  # fmt: skip
    """Return x / (k + alpha/size · Σ x²)^beta, summed over neighboring channels.

    Parameters
    ----------
    x
        (N, C, …).
    size
        How many channels are summed.
    alpha, beta, k
        The numbers of the formula.
    near
        How many of these channels come before a channel's own: size // 2 by default, as in
        PyTorch. ONNX's LRN has (size − 1) // 2, which differs for even sizes.

    Raises
    ------
    ShapeError
        The size is less than 1.
    """
    source = _checked(x, "local_response_norm")
    if size < 1:
        raise ShapeError(f"local_response_norm: size={size}, expected at least 1")
    before = size // 2 if near is None else near
    channels, area = source.shape[1], int(np.prod(source.shape[2:]))
    out = np.empty_like(source)
    work = response_planes(jit.ELEMENT_NAMES[source.dtype], float(beta))
    values = np.array([alpha / size, k], source.dtype)
    for target, item in zip(out, source, strict=True):
        over_bands(
            channels,
            _band(channels, area),
            lambda a, b, target=target, item=item: work(  # type: ignore[misc]
                target, item, values, channels, area, before, size - 1 - before, a, b
            ),
        )
    return out


def _checked(x: Array, operation: str) -> Array:
    if x.ndim < 2:
        raise ShapeError(f"{operation}: input of shape {x.shape}, expected (N, C, …)")
    return contiguous(x, real_type(x))


def _band(planes: int, area: int) -> int:
    return band_of(planes, -(-_FEW // max(area, 1)))
