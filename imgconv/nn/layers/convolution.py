"""Convolutions and the fully connected layer."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgconv import shapes
from imgconv.errors import ShapeError
from imgconv.nn.layers.base import (
    NOWHERE,
    Ints,
    Layer,
    Padding,
    Places,
    Reach,
    Shape,
    image_shape,
    padded,
)
from imgconv.nn.layers.pointwise import Add
from imgconv.typing import Array

if TYPE_CHECKING:
    from fractions import Fraction


class Conv2d(Layer):
    """torch.nn.Conv2d; padding also takes (top, bottom, left, right), bias False has none."""

    in_channels: int
    out_channels: int
    kernel_size: Ints
    stride: Ints = 1
    padding: Padding = 0
    dilation: Ints = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"
    activation: str | None = None

    def __post_init__(self) -> None:
        shapes.check_groups(self.in_channels, self.out_channels, self.groups, "Conv2d")

    @property
    def window(self) -> tuple[shapes.Pair, shapes.Pair, shapes.Sides, shapes.Pair]:
        """Kernel size, stride, pads and dilation."""
        kernel = shapes.pair(self.kernel_size, "kernel_size")
        stride = shapes.pair(self.stride, "stride")
        dilation = shapes.pair(self.dilation, "dilation")
        return kernel, stride, shapes.resolve_padding(
            self.padding, kernel, dilation, stride
        ), dilation  # fmt: skip

    def parameter_shapes(self) -> dict[str, Shape]:
        weight = (
            self.out_channels, self.in_channels // self.groups,
            *shapes.pair(self.kernel_size, "kernel_size"),
        )  # fmt: skip
        return {"weight": weight} | ({"bias": (self.out_channels,)} if self.bias else {})

    def output_shape(self, *given: Shape) -> Shape:
        count, _, size = image_shape(given[0], self.in_channels, "Conv2d")
        return (count, self.out_channels, *shapes.output_size(size, *self.window))

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.conv import conv2d

        return conv2d(
            inputs[0], self.parameter("weight"), self.parameter("bias") if self.bias else None,
            self.stride, self.padding, self.dilation, self.groups, self.padding_mode,
            activation=self.activation,
        )  # fmt: skip

    def multiply_adds(self, *given: Shape) -> int:
        taps = math.prod(self.parameter_shapes()["weight"][1:])
        return math.prod(self.output_shape(*given)) * taps

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        kernel, stride, sides, dilation = self.window
        return Reach(kernel[axis], stride[axis], sides[2 * axis], dilation[axis])

    def seen(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        _, _, sides, _ = self.window
        places = self.taps(axis, units, before, after)
        near, far = sides[2 * axis : 2 * axis + 2]
        return padded(places, before[2 + axis], self.padding_mode, near, far)


class ResidualConv2d(Conv2d):
    """A convolution of its first input, to which its second is added before the activation."""

    def output_shape(self, *given: Shape) -> Shape:
        made = super().output_shape(given[0])
        try:
            return np.broadcast_shapes(made, given[1])
        except ValueError:
            raise ShapeError(f"ResidualConv2d: {made} and {given[1]} do not fit together") from None

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.conv import conv2d

        return conv2d(
            inputs[0], self.parameter("weight"), self.parameter("bias") if self.bias else None,
            self.stride, self.padding, self.dilation, self.groups, self.padding_mode,
            activation=self.activation, residual=inputs[1],
        )  # fmt: skip

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Add() if source else self


class ConvTranspose2d(Layer):
    """torch.nn.ConvTranspose2d; padding also takes (top, bottom, left, right)."""

    in_channels: int
    out_channels: int
    kernel_size: Ints
    stride: Ints = 1
    padding: int | Sequence[int] = 0
    output_padding: Ints = 0
    groups: int = 1
    bias: bool = True
    dilation: Ints = 1
    activation: str | None = None

    def __post_init__(self) -> None:
        shapes.check_groups(self.in_channels, self.out_channels, self.groups, "ConvTranspose2d")

    def parameter_shapes(self) -> dict[str, Shape]:
        weight = (
            self.in_channels, self.out_channels // self.groups,
            *shapes.pair(self.kernel_size, "kernel_size"),
        )  # fmt: skip
        return {"weight": weight} | ({"bias": (self.out_channels,)} if self.bias else {})

    def output_shape(self, *given: Shape) -> Shape:
        count, _, size = image_shape(given[0], self.in_channels, "ConvTranspose2d")
        made = shapes.transposed_size(
            size, shapes.pair(self.kernel_size, "kernel_size"), shapes.pair(self.stride, "stride"),
            shapes.resolve_padding(self.padding, (1, 1)), shapes.pair(self.dilation, "dilation"),
            shapes.pair(self.output_padding, "output_padding", 0),
        )  # fmt: skip
        return (count, self.out_channels, *made)

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.conv_transpose import conv_transpose2d

        return conv_transpose2d(
            inputs[0], self.parameter("weight"), self.parameter("bias") if self.bias else None,
            self.stride, self.padding, self.output_padding, self.groups, self.dilation,
            self.activation,
        )  # fmt: skip

    def multiply_adds(self, *given: Shape) -> int:
        return math.prod(given[0]) * math.prod(self.parameter_shapes()["weight"][1:])

    def advance(self, axis: int, before: Shape, after: Shape) -> "Fraction":
        from fractions import Fraction

        return Fraction(1, self._along(axis)[1])

    def taps(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        kernel, stride, near, dilation = self._along(axis)
        taps = units[:, None] + near - dilation * np.arange(kernel)
        return np.where(taps % stride == 0, taps // stride, NOWHERE)

    def _along(self, axis: int) -> tuple[int, int, int, int]:
        near = shapes.resolve_padding(self.padding, (1, 1))[2 * axis]
        kernel, stride, dilation = (
            shapes.pair(getattr(self, name), name)[axis]
            for name in ("kernel_size", "stride", "dilation")
        )
        return kernel, stride, near, dilation


class Linear(Layer):
    """torch.nn.Linear on (…, in_features)."""

    in_features: int
    out_features: int
    bias: bool = True
    activation: str | None = None

    def parameter_shapes(self) -> dict[str, Shape]:
        weight = (self.out_features, self.in_features)
        return {"weight": weight} | ({"bias": (self.out_features,)} if self.bias else {})

    def output_shape(self, *given: Shape) -> Shape:
        if given[0][-1:] != (self.in_features,):
            raise ShapeError(f"Linear: input {given[0]}, expected (…, {self.in_features})")
        return (*given[0][:-1], self.out_features)

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.linear import linear

        bias = self.parameter("bias") if self.bias else None
        return linear(inputs[0], self.parameter("weight"), bias, self.activation)

    def multiply_adds(self, *given: Shape) -> int:
        return math.prod(given[0][:-1]) * self.in_features * self.out_features
