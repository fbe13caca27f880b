"""Activations and softmax, by PyTorch's names and formulas (torch.nn, section "Activations")."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.arguments import bind_arguments, not_among, one_value
from imgconv.errors import ShapeError, UsageError
from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops import exponential
from imgconv.ops.arrays import contiguous, readable, real_type

Array = npt.NDArray[Any]
Scalar = Callable[..., Any]

_FEW = 1 << 16  # elements; below this a thread costs more than it saves


def _identity(one: Any) -> Scalar:
    return lambda v: v


def _relu(one: Any) -> Scalar:
    zero = one - one
    # v < 0 is false for NaN, which therefore passes through.
    return lambda v: zero if v < zero else v


def _leaky_relu(one: Any, slope: Any) -> Scalar:
    zero = one - one
    return lambda v: v * slope if v < zero else v


def _relu6(one: Any) -> Scalar:
    zero, six = one - one, one * 6
    return lambda v: zero if v < zero else (six if v > six else v)


def _elu(one: Any, alpha: Any) -> Scalar:
    zero = one - one
    return lambda v: alpha * math.expm1(v) if v < zero else v


def _exp_for(one: Any, single: jit.Helper = exponential.exp) -> Any:
    return single if isinstance(one, np.float32) else math.exp


def _sigmoid(one: Any) -> Scalar:
    exp = _exp_for(one, exponential.exp_beside_one)
    return lambda v: one / (one + exp(-v))


def _hard_sigmoid(one: Any) -> Scalar:
    zero, three, sixth = one - one, one * 3, one / 6

    def apply(v):  # type: ignore[no-untyped-def]
        if v <= -three:
            return zero
        return one if v >= three else (v + three) * sixth

    return apply


def _hard_swish(one: Any) -> Scalar:
    nothing, three, sixth = -(one - one), one * 3, one / 6

    def apply(v):  # type: ignore[no-untyped-def]
        # Finite where PyTorch's product is not: −∞ · 0, and 3e38 · 6.
        if v <= -three:
            return nothing
        return v if v >= three else v * ((v + three) * sixth)

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


def _erf(one: Any) -> Scalar:
    return lambda v: math.erf(v)


def _softplus(one: Any, beta: Any, threshold: Any) -> Scalar:
    return lambda v: v if v * beta > threshold else math.log1p(math.exp(v * beta)) / beta


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
    "elu": (_elu, {"alpha": 1.0}),
    "sigmoid": (_sigmoid, {}),
    "hard-sigmoid": (_hard_sigmoid, {}),
    "hard-swish": (_hard_swish, {}),
    "tanh": (_tanh, {}),
    "silu": (_silu, {}),
    "gelu": (_gelu, {}),
    "erf": (_erf, {}),
    "softplus": (_softplus, {"beta": 1.0, "threshold": 20.0}),
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
def softmax_planes(element: str) -> jit.Built:
    """Softmax over the middle axis of (outer, channels, inner)."""
    cast = jit.DTYPES[element].type
    exp = _exp_for(cast(1))

    def body(out, values, channels, inner):  # type: ignore[no-untyped-def]
        for i in range(inner):
            top = values[i]
            for c in range(1, channels):
                v = values[c * inner + i]
                top = v if v > top else top
            total = cast(0)
            for c in range(channels):
                e = cast(exp(values[c * inner + i] - top))
                out[c * inner + i] = e
                total += e
            for c in range(channels):
                out[c * inner + i] /= total

    return f"{element}* {element}* i64 i64", body


def activate(x: Array, activation: "str | Activation", out: Array | None = None) -> Array:
    """Return the activation of every element; float64 for float64, float32 otherwise.

    out: where to put it; may be x itself. `softmax` works over the channel axis, third from last.
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
    work = pointwise_rows(jit.ELEMENT_NAMES[source.dtype], jit.ELEMENT_NAMES[dtype], key)
    flat, target = source.reshape(-1), out.reshape(-1)
    over_bands(
        flat.size, band_of(flat.size, _FEW), lambda a, b: work(target[a:b], flat[a:b], b - a)
    )
    return out


def softmax(x: Array, axis: int = -3) -> Array:
    """Return exp(x) / Σ exp(x) over an axis, shifted by the maximum so that nothing overflows."""
    if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"softmax: axis {axis} of an array of {x.ndim} axes")
    dtype = real_type(x)
    axis %= x.ndim
    source = contiguous(x, dtype)
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    channels = x.shape[axis]
    out = np.empty_like(source)
    if channels and outer and inner:
        work = softmax_planes(jit.ELEMENT_NAMES[dtype])
        values = source.reshape(outer, channels * inner)
        target = out.reshape(outer, channels * inner)
        over_bands(outer, 1, lambda a, b: work(target[a], values[a], channels, inner))
    return out
