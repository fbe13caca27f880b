"""Builders of the operators without a window: activations, arithmetic and matrix products.

Source of formulas: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

import math
from collections.abc import Callable

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.layers import (
    Activation,
    Add,
    Dropout,
    Identity,
    Layer,
    Linear,
    Mul,
    Shape,
    Softmax,
)
from imgconv.nn.layers.functions import (
    Function,
    Joined,
    LogSoftmax,
    MatMul,
)
from imgconv.nn.layers.tensors import axis_of
from imgconv.nn.layers.wrappers import Viewed
from imgconv.nn.onnx.folding import Call, Use, operator
from imgconv.typing import Array

Of = Callable[..., Array]


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    whole: Array = np.abs(a) // np.maximum(np.abs(b), 1)
    if a.dtype.kind == "i":
        whole = whole * np.sign(a) * np.sign(b)
    return whole


def _mean(*inputs: Array) -> Array:
    total: Array = inputs[0] / len(inputs)
    for more in inputs[1:]:
        total = total + more / len(inputs)
    return total


def _fold_pairs(function: Of) -> Of:
    """A function of two arrays as one of any number."""

    def apply(*inputs: Array) -> Array:
        result = inputs[0]
        for more in inputs[1:]:
            result = function(result, more)
        return result

    return apply


# Element by element, the result of the first input's type.
SAME: dict[str, Of] = {
    "Abs": np.abs, "Neg": np.negative, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt,
    "Reciprocal": lambda x: 1 / x, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint,
    "Sign": np.sign, "Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin,
    "Acos": np.arccos, "Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sub": np.subtract, "Div": _divide, "Pow": np.power, "Mean": _mean,
    "Max": _fold_pairs(np.maximum), "Min": _fold_pairs(np.minimum),
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor, "Not": np.logical_not,
}  # fmt: skip
# The result has a type of its own.
OTHER: dict[str, Of] = {
    "Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
    "Less": np.less, "LessOrEqual": np.less_equal, "IsNaN": np.isnan,
    "Where": np.where,
}  # fmt: skip
# ONNX's operator → our activation, with the attributes that are its parameters.
ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Relu": ("relu", ()), "Sigmoid": ("sigmoid", ()), "Tanh": ("tanh", ()),
    "Softplus": ("softplus", ()), "HardSwish": ("hard-swish", ()),
    "Erf": ("erf", ()), "Mish": ("mish", ()),
    "LeakyRelu": ("leaky-relu", (("alpha", 0.01),)), "Elu": ("elu", (("alpha", 1.0),)),
}  # fmt: skip


@operator(*SAME, *OTHER)
def _function(call: Call) -> Use:
    name = call.kind
    function = SAME.get(name) or OTHER[name]
    if call.opset < 7 and call.attribute("axis") is not None:
        return _old_broadcast(call, function)
    join = {"Sub": "sub", "Div": "div"}.get(name)
    if join:
        return Use(Joined(name=name, function=function, join=join), call.places)
    return Use(Function(name=name, function=function, same_type=name in SAME), call.places)


@operator("Add", "Mul", "Sum")
def _arithmetic(call: Call) -> Use:
    if call.opset < 7 and call.attribute("axis") is not None:
        return _old_broadcast(call, np.multiply if call.kind == "Mul" else np.add)
    return Use(Mul() if call.kind == "Mul" else Add(), call.places)


def _old_broadcast(call: Call, function: Of) -> Use:
    """Before opset 7 the second input's axes stood from `axis` on."""
    axes = len(call.shape())
    after = axes - call.attribute("axis") % axes - len(call.shape(1))

    def apply(a: Array, b: Array) -> Array:
        result: Array = function(a, b.reshape(b.shape + (1,) * after))
        return result

    return Use(_Aligned(call.kind, apply), (0, 1))


class _Aligned(Layer):
    """A function of two inputs whose result has the first one's shape."""

    name: str
    function: Of

    @property
    def kind(self) -> str:
        return self.name

    def forward(self, *inputs: Array) -> Array:
        with np.errstate(all="ignore"):
            result: Array = self.function(*inputs)
        return result


@operator("Mod")
def _mod(call: Call) -> Use:
    function = np.fmod if call.attribute("fmod", 0) else np.mod
    return Use(Function(name="Mod", function=function), (0, 1))


def _activation(call: Call, text: str) -> Use:
    return Use(Activation(text))


@operator(*ACTIVATIONS)
def _named_activation(call: Call) -> Use:
    known = call.constant(0)
    if call.kind == "Relu" and known is not None and known.dtype.kind in "iu":
        return Use(_formula(call, lambda x: np.maximum(x, 0)))  # arithmetic on shapes stays whole
    name, parameters = ACTIVATIONS[call.kind]
    values = [repr(float(call.attribute(key, default))) for key, default in parameters]
    return _activation(call, ":".join([name, ",".join(values)]).rstrip(":"))


@operator("HardSigmoid")
def _hard_sigmoid(call: Call) -> Use:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return _activation(call, "hard-sigmoid")
    return _activation(call, f"hard-sigmoid:{float(alpha)!r},{float(beta)!r}")


@operator("Gelu")
def _gelu(call: Call) -> Use:
    exact = call.attribute("approximate", "none") == "none"
    return _activation(call, "gelu" if exact else "gelu-tanh")


@operator("Swish")
def _swish(call: Call) -> Use:
    alpha = call.attribute("alpha", 1.0)
    if alpha == 1:
        return _activation(call, "silu")
    return Use(_formula(call, lambda x: x / (1 + np.exp(-alpha * x))))


@operator("Selu", "Celu", "ThresholdedRelu", "Shrink")
def _parametric(call: Call) -> Use:
    given = call.attribute
    if call.kind == "Selu":
        alpha = given("alpha", 1.67326319217681884765625)
        gamma = given("gamma", 1.05070102214813232421875)
        return Use(_formula(call, lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(x))))
    if call.kind == "Celu":
        alpha = given("alpha", 1.0)
        return Use(_formula(call, lambda x: np.where(x > 0, x, alpha * np.expm1(x / alpha))))
    if call.kind == "ThresholdedRelu":
        alpha = given("alpha", 1.0)
        return Use(_formula(call, lambda x: np.where(x > alpha, x, 0)))
    bias, limit = given("bias", 0.0), given("lambd", 0.5)
    return Use(
        _formula(call, lambda x: np.where(x < -limit, x + bias, np.where(x > limit, x - bias, 0)))
    )


def _formula(call: Call, function: Of) -> Function:
    return Function(name=call.kind, function=function)


@operator("PRelu")
def _prelu(call: Call) -> Use:
    shape, slope = call.shape(), call.shape(1)
    # Exporters of opset 6 write one slope per channel without the axes after it.
    after = len(shape) - 2 if call.opset < 7 and len(slope) == 1 else 0

    def apply(x: Array, slopes: Array) -> Array:
        return np.where(x < 0, x * slopes.reshape(slopes.shape + (1,) * after), x)

    if after:
        return Use(_Aligned("PRelu", apply), (0, 1))
    return Use(Joined(name="PRelu", function=apply, join="prelu"), (0, 1))


@operator("Clip")
def _clip(call: Call) -> Use:
    if call.opset < 11:
        low, high = call.attribute("min"), call.attribute("max")
    elif any(call.has(place) and call.constant(place) is None for place in (1, 2)):
        return _clip_by_inputs(call)
    else:
        low, high = (
            call.fixed(place, "limit").item() if call.has(place) else call.attribute(name)
            for place, name in ((1, "min"), (2, "max"))
        )
    if low == 0 and isinstance(low, float):  # the image's; integers stay integers
        if high is None or high >= np.finfo(np.float32).max:
            return _activation(call, "relu")
        if high == 6:
            return _activation(call, "relu6")
    if low is None and high is None:
        return Use(Identity())
    if isinstance(low, float | None) and isinstance(high, float | None):
        ends = -math.inf if low is None else low, math.inf if high is None else high
        return _activation(call, "hardtanh:{!r},{!r}".format(*ends))
    return Use(_formula(call, lambda x: np.minimum(x if low is None else np.maximum(x, low), high)
                        if high is not None else np.maximum(x, low)))  # fmt: skip


def _clip_by_inputs(call: Call) -> Use:
    limits = [f for f, place in ((np.maximum, 1), (np.minimum, 2)) if call.has(place)]

    def apply(x: Array, *values: Array) -> Array:
        for function, value in zip(limits, values, strict=True):
            x = function(x, value)
        return x

    return Use(_formula(call, apply), call.places)


@operator("Identity")
def _identity(call: Call) -> Use:
    return Use(Identity())


@operator("Dropout")
def _dropout(call: Call) -> Use:
    training = call.constant(2) if call.has(2) else np.False_
    if training is None or bool(training):
        raise ModelError("training_mode=1, expected a model exported for inference")
    return Use(Dropout(float(call.attribute("ratio", 0.5))))


@operator("Softmax", "LogSoftmax", "Hardmax")
def _softmax(call: Call) -> Use:
    shape = call.shape()
    old = call.opset < 13
    axis = axis_of(call.attribute("axis", 1 if old else -1), len(shape), call.kind)
    # Before opset 13 the axes from `axis` on were one.
    flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    viewed = old and axis != len(shape) - 1 and math.prod(shape[axis + 1 :]) != 1
    along = 1 if viewed else axis
    layer: Layer
    if call.kind == "Softmax":
        layer = Softmax(along)
    elif call.kind == "LogSoftmax":
        layer = LogSoftmax(along)
    else:
        layer = Function(name=call.kind, function=lambda x: _hardmax(x, along), axes=(along,))
    return Use(Viewed(layer, flat, shape) if viewed else layer)


def _hardmax(x: Array, axis: int) -> Array:
    places = np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    chosen: Array = places == np.argmax(x, axis, keepdims=True)
    return chosen


@operator("MatMul")
def _mat_mul(call: Call) -> Use:
    weight = call.constant(1)
    if weight is not None and weight.ndim == 2 and len(call.shape()) > 1:
        named = {"weight": call.transposed(1)}
        return Use(Linear(weight.shape[0], weight.shape[1], False, parameters=named))
    return Use(MatMul(), (0, 1))


@operator("com.microsoft.FusedMatMul", "com.microsoft.TransposeMatMul")
def _fused_mat_mul(call: Call) -> Use:
    given = call.attribute
    if given("transBatchA", 0) or given("transBatchB", 0):
        raise ModelError("transBatchA or transBatchB=1, expected batches in their order")
    left, right = bool(given("transA", 0)), bool(given("transB", 0))
    return Use(TurnedMatMul(left, right, float(given("alpha", 1.0))), (0, 1))


class TurnedMatMul(MatMul):
    """alpha · A · B, the last two axes of A or B swapped."""

    left: bool = False
    right: bool = False
    alpha: float = 1.0

    def output_shape(self, *shapes: Shape) -> Shape:
        a, b = shapes
        a = (*a[:-2], a[-1], a[-2]) if self.left and len(a) > 1 else a
        return super().output_shape(a, (*b[:-2], b[-1], b[-2]) if self.right and len(b) > 1 else b)

    def forward(self, *inputs: Array) -> Array:
        a, b = inputs
        a = a.swapaxes(-1, -2) if self.left and a.ndim > 1 else a
        product = MatMul().forward(a, b.swapaxes(-1, -2) if self.right and b.ndim > 1 else b)
        result: Array = product * product.dtype.type(self.alpha)
        return result


@operator("Gemm")
def _gemm(call: Call) -> Use:
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    left, right = bool(call.attribute("transA", 0)), bool(call.attribute("transB", 0))
    if len(call.shape()) != 2 or len(call.shape(1)) != 2:
        raise ModelError(f"inputs {call.shape()} and {call.shape(1)}, expected matrices")
    weight, offsets = call.constant(1), call.constant(2)
    outputs = call.shape(1)[0 if right else 1]
    flat = not call.has(2) or (
        offsets is not None and offsets.size in (1, outputs) and offsets.shape[-1:] != (1,)
    )
    if weight is not None and not left and (flat or outputs == 1):
        matrix = np.ascontiguousarray(weight) if right else call.transposed(1)
        named = {"weight": matrix if alpha == 1 else matrix * matrix.dtype.type(alpha)}
        if offsets is not None:
            scaled = offsets if beta == 1 else offsets * offsets.dtype.type(beta)
            named["bias"] = np.ascontiguousarray(np.broadcast_to(scaled.reshape(-1), (outputs,)))
        return Use(Linear(matrix.shape[1], outputs, offsets is not None, parameters=named))
    return Use(Gemm(alpha, beta, left, right), call.places)


class Gemm(MatMul):
    """alpha · A · B + beta · C of matrices, A or B transposed."""

    alpha: float = 1.0
    beta: float = 1.0
    left: bool = False
    right: bool = False

    def output_shape(self, *shapes: Shape) -> Shape:
        a, b = shapes[0], shapes[1]
        made = super().output_shape(a[::-1] if self.left else a, b[::-1] if self.right else b)
        if shapes[2:] and np.broadcast_shapes(made, shapes[2]) != made:
            raise ModelError(f"addend {shapes[2]} for a product of shape {made}")
        return made

    def forward(self, *inputs: Array) -> Array:
        a, b = inputs[0], inputs[1]
        product = MatMul().forward(a.T if self.left else a, b.T if self.right else b)
        result: Array = product * product.dtype.type(self.alpha)
        if inputs[2:]:
            result = result + inputs[2] * result.dtype.type(self.beta)
        return result
