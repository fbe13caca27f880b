"""Layers of quantized networks: integers that stand for (integer − zero point) · scale.

Sums of products are integers, exact in whatever order: in float32 where they stay below 2²⁴, else
in float64. Source of the formulas: ONNX operators QuantizeLinear, DequantizeLinear,
DynamicQuantizeLinear, QLinearConv, QLinearMatMul, ConvInteger and MatMulInteger; ties are rounded
to even before the zero point is added, as ONNX Runtime does.
"""

import math

import numpy as np

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import Everything, Layer, Reach, Shape
from imgconv.nn.layers.convolution import Conv2d
from imgconv.nn.layers.functions import MatMul
from imgconv.ops.exact import EXACT
from imgconv.shapes import Pair, Sides
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
        return quantized(*self._of(inputs, self.dtype))


class DequantizeLinear(_Linear):
    """Integers as the floats that they stand for."""

    def forward(self, *inputs: Array) -> Array:
        x, scale, zero = self._of(inputs, inputs[0].dtype)
        # Differences of 8- and 16-bit integers are exact in float32, which 32-bit ones have without
        # a zero point.
        real = x.astype(np.float32) - zero if zero.any() else x.astype(np.float32)
        values: Array = real * scale
        return values.astype(scale.dtype, copy=False)


class DynamicQuantizeLinear(Layer):
    """Floats as bytes from the least to the greatest of them and 0; its scale and zero point."""

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return shapes[0], (), ()

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        x = inputs[0].astype(np.float32, copy=False)
        low = np.minimum(x.min(initial=0), np.float32(0))
        high = np.maximum(x.max(initial=0), np.float32(0))
        spread = high - low if high > low else np.float32(1)
        scale = np.asarray(np.float32(spread) / np.float32(255))
        zero = np.asarray(np.rint(np.clip(-low / scale, 0, 255)).astype(np.uint8))
        return quantized(x, scale, zero), scale, zero


def unfolded(x: Array, window: tuple[Pair, Pair, Sides, Pair]) -> Array:
    """The samples under each tap as channels: (N, C · kH · kW, H', W')."""
    (height, width), (down, across), sides, (dy, dx) = window
    padded = np.pad(x, ((0, 0), (0, 0), (sides.top, sides.bottom), (sides.left, sides.right)))
    spans = (height - 1) * dy + 1, (width - 1) * dx + 1
    views = np.lib.stride_tricks.sliding_window_view(padded, spans, (2, 3))
    taps = views[:, :, ::down, ::across, ::dy, ::dx].transpose(0, 1, 4, 5, 2, 3)
    return np.ascontiguousarray(taps).reshape(len(x), -1, *taps.shape[-2:])


class ConvInteger(Layer):
    """The convolution of integers, exact, as int32; inputs: x, weights, their zero points.

    conv: the window. given: which of the four there are.
    """

    conv: Conv2d
    given: tuple[bool, bool] = (True, True)

    def output_shape(self, *shapes: Shape) -> Shape:
        if shapes[1] != self.conv.parameter_shapes()["weight"]:
            raise ShapeError(f"{self.kind}: weights {shapes[1]}")
        return self.conv.output_shape(shapes[0])

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        x, weight, *zeros = inputs
        zero, weight_zero = _zero_points(self.given, zeros)
        return self.sums(x, zero, weight, weight_zero)

    def sums(self, x: Array, zero: Array, weight: Array, weight_zero: Array) -> Array:
        """Sums of products of differences from zero points."""
        own = weight_zero.reshape(-1, 1, 1, 1) if weight_zero.size > 1 else weight_zero.reshape(())
        moved, kernel = x.astype(np.float64) - zero.reshape(()), weight.astype(np.float64) - own
        most = np.abs(kernel).reshape(len(kernel), -1).sum(1).max() * np.abs(moved).max(initial=0)
        layer = self.conv
        if most < EXACT["f32"] and self._is_plain:
            moved, kernel = moved.astype(np.float32), kernel.astype(np.float32)
            if layer.groups == 1:
                moved = unfolded(moved, layer.window)
                layer = Conv2d(moved.shape[1], layer.out_channels, 1, bias=False)
        named = {"weight": kernel.reshape(layer.parameter_shapes()["weight"])}
        return (
            np.rint(layer.with_parameters(named).forward(moved)).astype(np.int64).astype(np.int32)
        )

    @property
    def _is_plain(self) -> bool:
        """Whether sums are of the products alone in float32 too: no Winograd, no Fourier."""
        depthwise = self.conv.groups == self.conv.in_channels == self.conv.out_channels
        return self.conv.groups == 1 or (depthwise and max(self.conv.window[0]) <= 7)

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
        if inputs[8:]:
            sums = sums + inputs[8].reshape(-1, 1, 1)
        factors = scale.reshape(()) * weight_scale / to_scale.reshape(())
        return requantized(sums, factors.reshape(-1, 1, 1), to_zero)


def requantized(sums: Array, factor: Array, zero: Array) -> Array:
    """Sums (int32) times a factor in float32, rounded, from a zero point on."""
    return quantized(sums.astype(np.float32) * factor, np.float32(1), zero.reshape(()))  # type: ignore[arg-type]


class MatMulInteger(MatMul):
    """numpy.matmul of integers less their zero points, exact, as int32. given: which there are."""

    given: tuple[bool, bool] = (True, True)

    def output_shape(self, *shapes: Shape) -> Shape:
        return super().output_shape(*shapes[:2])

    @np.errstate(all="ignore")
    def forward(self, *inputs: Array) -> Array:
        a, b, *zeros = inputs
        left, right = _zero_points(self.given, zeros)
        return self.products(a, left, b, right)

    def products(self, a: Array, left: Array, b: Array, right: Array) -> Array:
        """Products of differences from zero points: one, a row of `a`, a column of `b`."""
        rows = left.reshape(*left.shape, 1) if left.ndim == 1 and left.size > 1 else left
        values = np.matmul(a.astype(np.float64) - rows, b.astype(np.float64) - right)
        return np.asarray(values).astype(np.int64).astype(np.int32)


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
        sums = self.products(a.T if self.left else a, zero, b.T if self.right else b, b_zero)
        if self.bias:
            sums = sums + rest.pop(0)
        factor = np.float32(self.alpha) * scale.reshape(()) * b_scale
        if not rest:
            real: Array = sums.astype(np.float32) * factor
            return real
        return requantized(sums, factor / rest[0].reshape(()), rest[1])
