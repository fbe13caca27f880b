"""Layers of quantized networks: integers that stand for (integer − zero point) · scale.

Sums of products are integers, exact in whatever order: in float32, of as many parts of the input's
channels as keep them below 2²⁴, else in float64. Source of the formulas: ONNX operators
QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, QLinearConv, QLinearMatMul, ConvInteger and
MatMulInteger; ties are rounded to even before the zero point is added, as ONNX Runtime does.
"""

import math
from dataclasses import field

import numpy as np

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import Everything, Layer, Reach, Shape
from imgconv.nn.layers.convolution import Conv2d
from imgconv.nn.layers.functions import MatMul
from imgconv.ops.conv import sums2d
from imgconv.ops.exact import Part, parts
from imgconv.ops.linear import linear
from imgconv.ops.quantize import Steps, dequantize, quantize, requantize, rounded
from imgconv.typing import Array, Dtype

BYTES = np.dtype(np.uint8)


def quantized(x: Array, scale: Array, zero: Array) -> Array:
    """round(x / scale) + zero in the type of `zero`, whose ends hold what lies beyond them."""
    limits = np.iinfo(zero.dtype)
    with np.errstate(all="ignore"):
        steps = np.rint(x / scale)
        # The standard does not say what becomes of a NaN: the zero point, here.
        moved = np.where(np.isnan(steps), 0.0, steps).astype(np.float64) + zero
    return np.asarray(moved.clip(limits.min, limits.max)).astype(zero.dtype)


def _spread(values: Array, axis: int, block: int, shape: Shape) -> Array:
    """A number for all elements, for each place of an axis, or for each block along it."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1 and not block:
        return values.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    return np.repeat(values, block, axis)[tuple(slice(n) for n in shape)]


def _zero_points(given: tuple[bool, bool], operands: list[Array]) -> list[Array]:
    """The zero points of both factors, 0 where none is given."""
    rest = iter(operands)
    return [next(rest) if there else np.zeros((), np.int32) for there in given]


class _Linear(Layer):
    """Works element by element on (x, scale, zero point); axis, block: what they belong to."""

    axis: int = 1
    block: int = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        shape, scale = shapes[:2]
        axis = self.axis % len(shape) if shape else 0
        counts = (shape[axis] if shape else 1, 1)
        fits = scale in ((), (1,)) or (len(scale) == 1 and scale[0] in counts)
        if self.block:
            blocks = -(-shape[axis] // self.block)
            fits = scale == (*shape[:axis], blocks, *shape[axis + 1 :])
        one = math.prod(scale) == 1
        if not fits or not (shapes[2:] in ((), (scale,)) or (one and math.prod(shapes[2]) == 1)):
            raise ShapeError(f"{self.kind}: input {shape}, scale and zero point {shapes[1:]}")
        return shape

    def _of(self, inputs: tuple[Array, ...], dtype: Dtype) -> tuple[Array, Array, Array]:
        """The input, and its scale and zero point that broadcast to it."""
        x, scale = inputs[:2]
        zero = inputs[2] if inputs[2:] else np.zeros((), dtype)
        parts = (_spread(values, self.axis, self.block, x.shape) for values in (scale, zero))
        return (x, *parts)  # type: ignore[return-value]

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Everything() if source else self


class QuantizeLinear(_Linear):
    """Floats as integers; dtype: theirs where there is no zero point."""

    dtype: Dtype = BYTES

    def forward(self, *inputs: Array) -> Array:
        x, scale = inputs[:2]
        zero = inputs[2] if inputs[2:] else np.zeros((), self.dtype)
        steps = Steps.of(scale, zero) if x.dtype == np.float32 else None
        return quantize(x, steps) if steps else quantized(*self._of(inputs, self.dtype))


class DequantizeLinear(_Linear):
    """Integers as the floats that they stand for."""

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        steps = Steps.of(inputs[1], inputs[2]) if inputs[2:] else None
        if steps and steps.dtype == inputs[0].dtype:
            return dequantize(inputs[0], steps)
        x, scale, zero = self._of(inputs, inputs[0].dtype)
        # Differences of 8- and 16-bit integers are exact in float32, which 32-bit ones have without
        # a zero point.
        real = x.astype(np.float32) - zero if zero.any() else x.astype(np.float32)
        values: Array = real * scale
        return values.astype(scale.dtype, copy=False)


class FakeQuantize(Layer):
    """torch.fake_quantize_per_tensor_affine: floats as the nearest that integers stand for."""

    steps: Steps

    def forward(self, *inputs: Array) -> Array:
        return rounded(inputs[0], self.steps)


class DynamicQuantizeLinear(Layer):
    """Floats as bytes from the least to the greatest of them and 0; its scale and zero point."""

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return shapes[0], (), ()

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @np.errstate(all="ignore")
    def run(self, *inputs: Array) -> tuple[Array, ...]:
        x = inputs[0].astype(np.float32, copy=False)
        low = np.minimum(x.min(initial=0), np.float32(0))
        high = np.maximum(x.max(initial=0), np.float32(0))
        spread = high - low if high > low else np.float32(1)
        scale = np.asarray(np.float32(spread) / np.float32(255))
        zero = np.asarray(np.rint(np.clip(-low / scale, 0, 255)).astype(np.uint8))
        steps = Steps.of(scale, zero)
        assert steps is not None
        return quantize(x, steps), scale, zero


class _Bank:
    """Weights less their zero points, in parts; those of the last call, mostly the only ones."""

    def __init__(self) -> None:
        self._given: tuple[Array, bytes, float] | None = None
        self._weights: Array = np.empty(0)
        self._parts: list[Part] | None = None

    def of(
        self, weights: Array, zero: Array, x: Array, x_zero: Array, groups: int = 1,
        turned: bool = True,
    ) -> tuple[list[Part] | None, Array]:  # fmt: skip
        """The parts for integers of the type of x and from its zero points on, and all weights.

        weights (M, …), or (K, M) where they are not turned; zero: one, or one for each of M. None
        where sums in float32 may round.
        """
        ends = np.iinfo(x.dtype)
        most = float(max(int(ends.max) - int(x_zero.min()), int(x_zero.max()) - int(ends.min)))
        given = weights, zero.tobytes(), most
        if self._given is None or self._given[0] is not weights or self._given[1:] != given[1:]:
            bank = (weights if turned else weights.T).astype(np.float64)
            bank -= zero.reshape(-1, *(1,) * (bank.ndim - 1)) if zero.size > 1 else zero.reshape(())
            found = parts(bank, most)
            self._parts = None if found and len(found) > 1 and groups > 1 else found
            self._weights, self._given = bank if self._parts is None else np.empty(0), given
        return self._parts, self._weights


def _int32(sums: Array) -> Array:
    """Integers in floating point as int32, which wraps around."""
    return sums.astype(np.int64).astype(np.int32)


class ConvInteger(Layer):
    """The convolution of integers, exact, as int32; inputs: x, weights, their zero points.

    conv: the window. given: which of the four there are.
    """

    conv: Conv2d
    given: tuple[bool, bool] = (True, True)
    bank: _Bank = field(default_factory=_Bank)

    def output_shape(self, *shapes: Shape) -> Shape:
        if shapes[1] != self.conv.parameter_shapes()["weight"]:
            raise ShapeError(f"{self.kind}: weights {shapes[1]}")
        return self.conv.output_shape(shapes[0])

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        x, weight, *zeros = inputs
        zero, weight_zero = _zero_points(self.given, zeros)
        return _int32(self.sums(x, zero, weight, weight_zero))

    def sums(self, x: Array, zero: Array, weight: Array, weight_zero: Array) -> Array:
        """Sums of products of differences from zero points: integers in float32 or float64."""
        conv = self.conv
        found, weights = self.bank.of(weight, weight_zero, x, zero, conv.groups)
        if found is None:
            layer = conv.with_parameters({"weight": weights})
            return np.rint(layer.forward(x.astype(np.float64) - zero.reshape(())))
        moved = x.astype(np.float32)
        moved -= zero.reshape(())
        return sums2d(moved, found, conv.stride, conv.padding, conv.dilation, conv.groups)

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.conv.multiply_adds(shapes[0])

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        return self.conv.reach(axis, before, after)

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Everything() if source else self.conv


class QLinearConv(ConvInteger):
    """The same of x, its scale and zero point, weights', the result's, and maybe a bias in int32.

    The result is quantized by its scale and zero point.
    """

    def output_shape(self, *shapes: Shape) -> Shape:
        return super().output_shape(shapes[0], shapes[3])

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        x, scale, zero, weight, weight_scale, weight_zero, to_scale, to_zero = inputs[:8]
        sums = self.sums(x, zero, weight, weight_zero)
        channels = sums.shape[1]
        bias = inputs[8] if inputs[8:] else np.zeros(channels)
        factors = scale.reshape(()) * weight_scale / to_scale.reshape(())
        steps = Steps.of(np.ones((), np.float32), to_zero)
        if steps:
            return requantize(sums, bias, np.broadcast_to(factors.reshape(-1), channels), steps)
        return requantized(
            sums + bias.reshape(-1, 1, 1), factors.reshape(-1, 1, 1), to_zero
        )  # fmt: skip


def requantized(sums: Array, factor: Array, zero: Array) -> Array:
    """Sums (integers) times a factor in float32, rounded, from a zero point on."""
    return quantized(sums.astype(np.float32) * factor, np.float32(1), zero.reshape(()))  # type: ignore[arg-type]


class MatMulInteger(MatMul):
    """numpy.matmul of integers less their zero points, exact, as int32. given: which there are."""

    given: tuple[bool, bool] = (True, True)
    bank: _Bank = field(default_factory=_Bank)

    def output_shape(self, *shapes: Shape) -> Shape:
        return super().output_shape(*shapes[:2])

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        a, b, *zeros = inputs
        left, right = _zero_points(self.given, zeros)
        return _int32(self.products(a, left, b, right))

    def products(
        self, a: Array, left: Array, b: Array, right: Array, turned: bool = False
    ) -> Array:
        """Products of differences from zero points: one, a row of `a`, a column of `b`.

        Integers in float32 or float64. turned: b is a matrix (N, K).
        """
        rows = left.reshape(*left.shape, 1) if left.ndim == 1 and left.size > 1 else left
        if b.ndim == 2 and a.ndim > 1 and (right.size == 1 or right.ndim == 1):
            found, _ = self.bank.of(b, right, a, left, turned=turned)
            if found is not None:
                moved = a.astype(np.float32) - rows.astype(np.float32)
                sums = [linear(moved[..., piece], weights) for piece, weights in found]
                return np.asarray(sums[0] if len(sums) == 1 else np.sum(sums, 0, np.float64))
        factor = b.T if turned else b
        values = np.matmul(a.astype(np.float64) - rows, factor.astype(np.float64) - right)
        return np.asarray(values)


class QLinearMatMul(MatMulInteger):
    """The same of a, its scale and zero point, b's and the result's, by which it is quantized."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return MatMul.output_shape(self, shapes[0], shapes[3])

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        a, scale, zero, b, b_scale, b_zero, to_scale, to_zero = inputs
        sums = self.products(a, zero, b, b_zero)
        rows = scale.reshape(*scale.shape, 1) if scale.size > 1 and scale.ndim == 1 else scale
        return requantized(sums, rows * b_scale / to_scale, to_zero)


class QGemm(MatMulInteger):
    """ONNX Runtime's alpha · (A · B + C) of matrices; its result is quantized where it has a scale.

    Inputs: A, its scale and zero point, B's, then C in int32 (bias), then the result's (to).
    """

    alpha: float = 1.0
    left: bool = False
    right: bool = False
    bias: bool = True

    def output_shape(self, *shapes: Shape) -> Shape:
        a, b = shapes[0], shapes[3]
        return MatMul.output_shape(
            self, a[::-1] if self.left else a, b[::-1] if self.right else b
        )  # fmt: skip

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        a, scale, zero, b, b_scale, b_zero, *rest = inputs
        sums = self.products(a.T if self.left else a, zero, b, b_zero, turned=self.right)
        if self.bias:
            sums = sums + rest.pop(0)
        factor = np.float32(self.alpha) * scale.reshape(()) * b_scale
        if not rest:
            real: Array = sums.astype(np.float32) * factor
            return real
        return requantized(sums, factor / rest[0].reshape(()), rest[1])
