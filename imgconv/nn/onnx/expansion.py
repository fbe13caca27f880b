"""Operators that are others one after the other: those that ONNX Runtime fuses, and sequences.

Source: ONNX Runtime's docs/ContribOperators.md; ONNX operator documentation.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from imgconv.errors import ModelError
from imgconv.nn.onnx.operation import Operation

Steps = Iterator[Operation]
EXPANSIONS: dict[str, Callable[[Operation], Steps]] = {}
MICROSOFT = "com.microsoft."
# These are ONNX's own, by their name.
SAME = ("Gelu", "Pad", "Range", "Trilu", "GatherND", "QuantizeLinear", "DequantizeLinear")


def expands(*kinds: str) -> Callable[[Callable[[Operation], Steps]], Callable[[Operation], Steps]]:
    """Register what makes steps of some operators of ONNX Runtime."""

    def register(function: Callable[[Operation], Steps]) -> Callable[[Operation], Steps]:
        EXPANSIONS.update({MICROSOFT + kind: function for kind in kinds})
        return function

    return register


def _operand(operation: Operation, place: int) -> str:
    """An operand's name, '' where it was left out."""
    return operation.operands[place] if place < len(operation.operands) else ""


class _Steps:
    """Makes the steps of an operation one after the other, and names what lies between them."""

    def __init__(self, operation: Operation) -> None:
        self.operation, self.count = operation, 0

    def step(
        self, kind: str, *operands: str, to: str | None = None, **attributes: Any
    ) -> Operation:
        """One step. to: its result's name where it is not between two steps."""
        self.count += 1
        name = f"{self.operation.name}:{self.count}"
        while operands and not operands[-1]:
            operands = operands[:-1]
        if to is not None:
            return Operation(kind, self.operation.name, operands, (to,), attributes)
        return Operation(kind, name, operands, (name,), attributes)

    def then(
        self, kind: str, *operands: str, **attributes: Any
    ) -> Generator[Operation, None, str]:  # fmt: skip
        """Yield a step between two others; return its result's name."""
        made = self.step(kind, *operands, **attributes)
        yield made
        return made.results[0]

    def on_maps(
        self, kind: str, value: str, *operands: str, last_axis: bool, **attributes: Any
    ) -> Generator[Operation, None, str]:  # fmt: skip
        """As `then`, of maps whose channels may be the last axis: between two transposes."""
        if last_axis:
            value = yield from self.then("Transpose", value, perm=[0, 3, 1, 2])
        value = yield from self.then(kind, value, *operands, **attributes)
        if last_axis:
            value = yield from self.then("Transpose", value, perm=[0, 2, 3, 1])
        return value


@expands(*SAME)
def _same(operation: Operation) -> Steps:
    yield replace(operation, kind=operation.kind.removeprefix(MICROSOFT))


# Activation of a fused operator → ours, with the names of its parameters.
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "HardSwish": (),
}  # fmt: skip


def _activated(steps: _Steps, value: str, last: str) -> Steps:
    """The step from `value` to `last` by the operator's activation."""
    given = steps.operation.attributes
    name = given.get("activation", "")
    numbers = given.get("activation_params", [])
    if not name:
        yield steps.step("Identity", value, to=last)
    elif name == "Clip":
        low, high = numbers
        yield steps.step("Clip", value, to=last, min=low, max=high)
    elif name in _ACTIVATIONS:
        named = dict(zip(_ACTIVATIONS[name], numbers, strict=False))
        yield steps.step(name, value, to=last, **named)
    else:
        raise ModelError(f"activation={name!r}, expected Clip or one of {', '.join(_ACTIVATIONS)}")


_FUSED = ("activation", "activation_params", "activation_alpha", "activation_beta",
          "activation_gamma", "activation_axis")  # fmt: skip


def _own(operation: Operation) -> dict[str, Any]:
    """The attributes of what is fused, without those of its activation."""
    return {key: value for key, value in operation.attributes.items() if key not in _FUSED}


@expands("FusedConv", "NhwcConv", "NhwcFusedConv")
def _fused_conv(operation: Operation) -> Steps:
    steps = _Steps(operation)
    x, weight, bias, more = (_operand(operation, place) for place in range(4))
    value = yield from steps.on_maps(
        "Conv", x, weight, bias, last_axis="Nhwc" in operation.kind, **_own(operation)
    )
    if more:
        value = yield from steps.then("Add", value, more)
    yield from _activated(steps, value, operation.results[0])


@expands("FusedGemm")
def _fused_gemm(operation: Operation) -> Steps:
    steps = _Steps(operation)
    product = yield from steps.then("Gemm", *operation.operands, **_own(operation))
    yield from _activated(steps, product, operation.results[0])


@expands("BiasGelu", "FastGelu", "QuickGelu")
def _gelu(operation: Operation) -> Steps:
    steps, (value, *bias) = _Steps(operation), operation.inputs
    for name in bias:
        value = yield from steps.then("Add", value, name)
    last = operation.results[0]
    if operation.kind.endswith("QuickGelu"):
        yield steps.step("Swish", value, to=last, alpha=operation.attributes.get("alpha", 1.702))
    else:
        form = "tanh" if operation.kind.endswith("FastGelu") else "none"
        yield steps.step("Gelu", value, to=last, approximate=form)


@expands("SkipLayerNormalization")
def _skip_norm(operation: Operation) -> Steps:
    steps = _Steps(operation)
    x, skip, scale, shift, bias = (_operand(operation, place) for place in range(5))
    wanted = operation.results[3] if len(operation.results) > 3 else ""
    sums = steps.step("Add", x, skip, to=None if bias or not wanted else wanted)
    if bias:
        yield sums
        sums = steps.step("Add", sums.results[0], bias, to=wanted or None)
    # Its own name is the norm's.
    yield replace(sums, name=f"{operation.name}:sum")
    epsilon = operation.attributes.get("epsilon", 1e-12)
    yield steps.step("LayerNormalization", sums.results[0], scale, shift,
                     to=operation.results[0], epsilon=epsilon)  # fmt: skip


def _dequantized(steps: _Steps, *operands: str) -> Operation:
    return steps.step("DequantizeLinear", *operands)


@expands("QLinearAdd", "QLinearMul")
def _q_linear_pair(operation: Operation) -> Steps:
    steps, names = _Steps(operation), operation.operands
    left, right = _dequantized(steps, *names[:3]), _dequantized(steps, *names[3:6])
    yield from (left, right)
    both = yield from steps.then(operation.kind[-3:], *left.results, *right.results)
    yield steps.step("QuantizeLinear", both, *names[6:], to=operation.results[0])


@expands("QLinearConcat")
def _q_linear_concat(operation: Operation) -> Steps:
    steps, names = _Steps(operation), operation.operands
    parts = [_dequantized(steps, *names[i : i + 3]) for i in range(2, len(names), 3)]
    yield from parts
    joined = yield from steps.then(
        "Concat", *(part.results[0] for part in parts), axis=operation.attributes.get("axis", 1)
    )
    yield steps.step("QuantizeLinear", joined, *names[:2], to=operation.results[0])


@expands("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSigmoid", "QLinearLeakyRelu",
         "QLinearSoftmax")  # fmt: skip
def _q_linear_one(operation: Operation) -> Steps:
    steps, names = _Steps(operation), operation.operands
    kind = operation.kind.partition("QLinear")[2]
    real = _dequantized(steps, *names[:3])
    yield real
    own = {k: v for k, v in operation.attributes.items() if k not in ("channels_last", "opset")}
    value = yield from steps.on_maps(
        kind, *real.results, last_axis=bool(operation.attributes.get("channels_last", 0)), **own
    )
    yield steps.step("QuantizeLinear", value, *names[3:], to=operation.results[0])


@expands("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
def _integer_product(operation: Operation) -> Steps:
    steps = _Steps(operation)
    if operation.kind.endswith("ToFloat"):
        a, b, scale, b_scale, zero, b_zero, bias = (_operand(operation, p) for p in range(7))
    else:
        a, b, b_scale, b_zero, bias = (_operand(operation, place) for place in range(5))
        levels = steps.step("DynamicQuantizeLinear", a)
        a, scale, zero = (f"{levels.name}:{part}" for part in ("levels", "scale", "zero"))
        yield replace(levels, results=(a, scale, zero))
    sums = steps.step("MatMulInteger", a, b, zero, b_zero)
    real = steps.step("Cast", *sums.results, to_type=1)
    factor = steps.step("Mul", scale, b_scale)
    yield from (sums, replace(real, attributes={"to": 1}), factor)
    if not bias:
        yield steps.step("Mul", *real.results, *factor.results, to=operation.results[0])
        return
    product = steps.step("Mul", *real.results, *factor.results)
    yield product
    yield steps.step("Add", *product.results, bias, to=operation.results[0])
