"""Activations and softmax, by PyTorch's names and formulas (torch.nn, section "Activations")."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgconv.arguments import bind_arguments, not_among, one_value
from imgconv.errors import ShapeError, UsageError
from imgconv.jit import cache, simd
from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops import epilogue, exponential
from imgconv.ops.arrays import contiguous, readable, real_type
from imgconv.typing import Array

Scalar = Callable[..., Any]

_FEW = 1 << 16  # elements; below this a thread costs more than it saves


def _identity(one: Any) -> Scalar:
    return lambda v: v


def _relu(one: Any) -> Scalar:
    zero = one - one
    # v < 0 is false for NaN, which therefore passes through.
    return lambda v: simd.choose(v < zero, zero, v)


def _leaky_relu(one: Any, slope: Any) -> Scalar:
    zero = one - one
    return lambda v: simd.choose(v < zero, v * slope, v)


def _hardtanh(one: Any, low: Any, high: Any) -> Scalar:
    def apply(v):  # type: ignore[no-untyped-def]
        v = simd.choose(v < low, low, v)
        return simd.choose(v > high, high, v)

    return apply


def _relu6(one: Any) -> Scalar:
    return _hardtanh(one, one - one, one * 6)


def _elu(one: Any, alpha: Any) -> Scalar:
    zero = one - one
    if isinstance(one, np.float32):
        expm1 = exponential.expm1
        return lambda v: simd.choose(v < zero, alpha * expm1(v), v)
    return lambda v: alpha * math.expm1(v) if v < zero else v


def _exp_for(one: Any, single: jit.Helper = exponential.exp) -> Any:
    return single if isinstance(one, np.float32) else math.exp


def _sigmoid(one: Any) -> Scalar:
    exp = _exp_for(one, exponential.exp_beside_one)
    return lambda v: one / (one + exp(-v))


def _hard_sigmoid(one: Any, alpha: Any, beta: Any) -> Scalar:
    zero, three, sixth = one - one, one * 3, one / 6
    if (alpha, beta) != (sixth, one / 2):
        clip = jit.Helper(_hardtanh(one, zero, one))
        return lambda v: clip(v * alpha + beta)

    def apply(v):  # type: ignore[no-untyped-def]
        inner = simd.choose(v >= three, one, (v + three) * sixth)
        return simd.choose(v <= -three, zero, inner)

    return apply


def _hard_swish(one: Any) -> Scalar:
    nothing, three, sixth = -(one - one), one * 3, one / 6

    def apply(v):  # type: ignore[no-untyped-def]
        # Finite where PyTorch's product is not: −∞ · 0, and 3e38 · 6.
        inner = simd.choose(v >= three, v, v * ((v + three) * sixth))
        return simd.choose(v <= -three, nothing, inner)

    return apply


def _tanh(one: Any) -> Scalar:
    return exponential.tanh.function if isinstance(one, np.float32) else lambda v: math.tanh(v)


def _silu(one: Any) -> Scalar:
    exp = _exp_for(one, exponential.exp_beside_one)
    return lambda v: v / (one + exp(-v))


def _gelu(one: Any) -> Scalar:
    if isinstance(one, np.float32):
        return exponential.gelu.function
    half, root = one / 2, type(one)(math.sqrt(0.5))
    # 1 + erf would lose every digit of the lower tail.
    return lambda v: v if v > 40 else (-(one - one) if v < -40 else v * half * math.erfc(-v * root))


def _gelu_tanh(one: Any) -> Scalar:
    """v/2 · (1 + tanh u) = v / (1 + exp −2u), which keeps the digits of the lower tail."""
    exp = _exp_for(one, exponential.exp_beside_one)
    number, bottom, nothing = type(one), -one * 30, -(one - one)
    linear, cubic = number(-math.sqrt(8 / math.pi)), number(-0.044715 * math.sqrt(8 / math.pi))

    def apply(v):  # type: ignore[no-untyped-def]
        near = simd.choose(v < bottom, bottom, v)  # of less the result is 0, the cube too large
        return simd.choose(
            v < bottom, nothing, v / (one + exp(near * (linear + cubic * near * near)))
        )

    return apply


def _erf(one: Any) -> Scalar:
    return exponential.erf.function if isinstance(one, np.float32) else lambda v: math.erf(v)


def _softplus(one: Any, beta: Any, threshold: Any) -> Scalar:
    if isinstance(one, np.float32):
        single = exponential.softplus
        return lambda v: simd.choose(v * beta > threshold, v, single(v * beta) / beta)
    return lambda v: v if v * beta > threshold else math.log1p(math.exp(v * beta)) / beta


def _mish(one: Any) -> Scalar:
    if isinstance(one, np.float32):
        return exponential.mish.function

    def apply(v):  # type: ignore[no-untyped-def]
        e = math.exp(min(v, one * 40))
        return v * (e * (e + 2) / (e * (e + 2) + 2))

    return apply


def _abs(one: Any) -> Scalar:
    return lambda v: abs(v)


def _square(one: Any) -> Scalar:
    return lambda v: v * v


# Name → (formula's maker, parameters with PyTorch's defaults).
ACTIVATIONS: dict[str, tuple[Callable[..., Scalar], dict[str, float]]] = {
    "identity": (_identity, {}),
    "relu": (_relu, {}),
    "leaky-relu": (_leaky_relu, {"negative_slope": 0.01}),
    "relu6": (_relu6, {}),
    "hardtanh": (_hardtanh, {"min_val": -1.0, "max_val": 1.0}),
    "elu": (_elu, {"alpha": 1.0}),
    "sigmoid": (_sigmoid, {}),
    "hard-sigmoid": (_hard_sigmoid, {"alpha": 1 / 6, "beta": 0.5}),
    "hard-swish": (_hard_swish, {}),
    "tanh": (_tanh, {}),
    "silu": (_silu, {}),
    "gelu": (_gelu, {}),
    "gelu-tanh": (_gelu_tanh, {}),
    "erf": (_erf, {}),
    "softplus": (_softplus, {"beta": 1.0, "threshold": 20.0}),
    "mish": (_mish, {}),
    "abs": (_abs, {}),
    "square": (_square, {}),
}
ALIASES = {
    "leakyrelu": "leaky-relu",
    "hardsigmoid": "hard-sigmoid",
    "hardswish": "hard-swish",
    "swish": "silu",
    "none": "identity",
}


@dataclass(frozen=True)
class Activation:
    """An activation with its parameters; `str` gives the text that `parse_activation` takes."""

    name: str
    parameters: tuple[float, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.name, ",".join(map(repr, self.parameters))]).rstrip(":")

    def helper(self, element: str) -> jit.Helper:
        """The scalar formula for compiled bodies over `f32` or `f64`."""
        scalar = jit.DTYPES[element].type
        maker = ACTIVATIONS[self.name][0]
        with np.errstate(over="ignore"):  # beyond float32's numbers it is infinite
            return jit.Helper(maker(scalar(1), *(scalar(value) for value in self.parameters)))


def parse_activation(text: "str | Activation") -> Activation:
    """Return the activation of `relu`, `leaky-relu:0.2` or `elu:alpha=0.5`. Raises UsageError."""
    if isinstance(text, Activation):
        return text
    head, _, rest = text.partition(":")
    name = head.strip().lower().replace("_", "-")
    name = ALIASES.get(name, name)
    if name not in ACTIVATIONS:
        raise UsageError(f"activation {text!r}: {not_among(name, [*ACTIVATIONS, 'softmax'])}")
    values = dict(ACTIVATIONS[name][1])
    try:
        for key, texts in bind_arguments(rest, values).items():
            values[key] = float(one_value(key, texts))
    except ValueError as error:
        raise UsageError(f"activation {text!r}: {error}") from None
    return Activation(name, tuple(values.values()))


@jit.loop
def pointwise_rows(source: str, element: str, activation: str) -> jit.Built:
    """out[i] = activation(source[i])."""
    formula = parse_activation(activation).helper(element)
    cast = jit.DTYPES[element].type

    def body(out, values, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            out[i] = formula(cast(values[i]))

    return f"{element}* {source}* i64", body


@jit.loop
def softmax_rows(lanes: int) -> jit.Built:
    """Softmax of float32 rows first…last − 1 of `count` elements."""
    line, exp, nothing = simd.Vec(lanes), exponential.exp, np.float32(-np.inf)

    def body(out, values, count, first, last):  # type: ignore[no-untyped-def]
        for row in range(first, last):
            x, y = simd.at(values, row * count), simd.at(out, row * count)
            most = simd.splat(line, nothing)
            for i in range(0, count, lanes):
                mask = simd.below(line, count - i)
                most = simd.max(most, simd.load_masked(line, x, i, mask, most))
            top, total = simd.number(simd.largest(most)), simd.zeros(line)
            for i in range(0, count, lanes):
                mask = simd.below(line, count - i)
                e = exp(simd.load_masked(line, x, i, mask, most) - top)
                total = total + simd.choose(mask, e, np.float32(0))
                simd.store_masked(y, i, e, mask)
            whole = simd.number(simd.sum(total))
            for i in range(0, count, lanes):
                mask = simd.below(line, count - i)
                e = simd.load_masked(line, y, i, mask, total)
                simd.store_masked(y, i, e / whole, mask)

    return "f32* f32* i64 i64 i64", body


@jit.loop
def softmax_planes(element: str, lanes: int) -> jit.Built:
    """Softmax over the middle axis of (outer, channels, inner), a vector of the last at a time."""
    cast = jit.DTYPES[element].type
    one, zero, line = cast(1), cast(0), simd.Vec(lanes, element)
    exp = _exp_for(one)

    def of_tiles(out, values, channels, inner):  # type: ignore[no-untyped-def]
        for i in range(0, inner, lanes):
            mask = simd.below(line, inner - i)
            total = simd.zeros(line)
            top = simd.load_masked(line, values, i, mask, total)
            for c in range(1, channels):
                top = simd.max(top, simd.load_masked(line, values, c * inner + i, mask, total))
            for c in range(channels):
                e = exp(simd.load_masked(line, values, c * inner + i, mask, top) - top)
                simd.store_masked(out, c * inner + i, e, mask)
                total = total + e
            for c in range(channels):
                e = simd.load_masked(line, out, c * inner + i, mask, total)
                simd.store_masked(out, c * inner + i, e / total, mask)

    def of_numbers(out, values, channels, inner):  # type: ignore[no-untyped-def]
        for i in range(inner):
            top = values[i]
            for c in range(1, channels):
                top = max(top, values[c * inner + i])
            total = zero
            for c in range(channels):
                out[c * inner + i] = exp(values[c * inner + i] - top)
                total += out[c * inner + i]
            for c in range(channels):
                out[c * inner + i] /= total

    return f"{element}* {element}* i64 i64", of_tiles if element == "f32" else of_numbers


def activate(x: Array, activation: "str | Activation", out: Array | None = None) -> Array:
    """Return the activation of every element, float64 if x is float64, else float32.

    Parameters
    ----------
    x
        Of any shape; `softmax` needs (…, C, H, W) and works over C.
    activation
        A name with its parameters, such as `relu` or `leaky-relu:0.2`; `imgconv ops list` has all.
    out
        Where to put the result; may be x itself.
    """
    if activation == "softmax":
        return softmax(x, -3)
    key = str(parse_activation(activation))
    dtype = real_type(x)
    x = readable(x)
    # Not ascontiguousarray, which gives an array of no axes one.
    source = np.asarray(x, x.dtype if x.dtype in jit.ELEMENT_NAMES else dtype, order="C")
    if out is None:
        out = np.empty(source.shape, dtype)
    elif out.shape != source.shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ShapeError(f"activate: out {out.dtype}{out.shape}, expected {dtype}{source.shape}")
    work = (
        epilogue.activate_rows(cache.vectors()[0], key) if source.dtype == dtype == np.float32
        else pointwise_rows(jit.ELEMENT_NAMES[source.dtype], jit.ELEMENT_NAMES[dtype], key)
    )  # fmt: skip
    flat, target = source.reshape(-1), out.reshape(-1)
    over_bands(
        flat.size, band_of(flat.size, _FEW), lambda a, b: work(target[a:b], flat[a:b], b - a)
    )
    return out


def softmax(x: Array, axis: int = -3) -> Array:
    """Return exp(x) / Σ exp(x) over an axis, shifted by the maximum so that nothing overflows.

    Parameters
    ----------
    x
        Of any shape.
    axis
        Over which the results sum to 1; by default the channels of (…, C, H, W).
    """
    if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"softmax: axis {axis} of an array of {x.ndim} axes")
    dtype = real_type(x)
    axis %= x.ndim
    source = contiguous(x, dtype)
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    channels = x.shape[axis]
    out = np.empty_like(source)
    if channels and outer and inner:
        lanes = cache.vectors()[0]
        if inner == 1 and dtype == np.float32:
            rows = softmax_rows(lanes)
            over_bands(
                outer, band_of(outer, _FEW // channels),
                lambda a, b: rows(out, source, channels, a, b),
            )  # fmt: skip
            return out
        work = softmax_planes(jit.ELEMENT_NAMES[dtype], lanes)
        values = source.reshape(outer, channels * inner)
        target = out.reshape(outer, channels * inner)
        over_bands(outer, 1, lambda a, b: work(target[a], values[a], channels, inner))
    return out
