"""Layers of image filtering: gray, and the fixed kernels of the bank on every channel.

They compute on interleaved images (H, W, C): maps that such a layer made are views of one, and are
read again without a copy.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from imgconv import shapes
from imgconv.nn.layers.base import Layer, Places, Reach, Shape, image_shape, padded
from imgconv.typing import Array


def interleaved(maps: Array) -> Array:
    """(C, H, W) as (H, W, C) in one piece; no copy where it is a view of that."""
    return np.ascontiguousarray(maps.transpose(1, 2, 0))


def planar(image: Array) -> Array:
    """(H, W, C) as a view (1, C, H, W)."""
    return image.transpose(2, 0, 1)[None]


def _each(inputs: Array, work: Callable[[Array], Array]) -> Array:
    results = [planar(work(interleaved(item))) for item in inputs]
    return results[0] if len(results) == 1 else np.concatenate(results)


def _side_by_side(maps: Array) -> Array:
    """Maps (M, H, W, C) as channels of one image."""
    return maps[0] if len(maps) == 1 else np.concatenate(list(maps), axis=2)


class Gray(Layer):
    """Three channels become their luma (ITU-R BT.601); other maps stay as they are."""

    def output_shape(self, *given: Shape) -> Shape:
        count, channels, size = image_shape(given[0], None, "gray")
        return (count, 1 if channels == 3 else channels, *size)

    def forward(self, *inputs: Array) -> Array:
        from imgconv.io.color import to_gray

        return _each(inputs[0], to_gray) if inputs[0].shape[1] == 3 else inputs[0]


class Canny(Layer):
    """Canny's edges, one map of 0 and 255; see `ops.canny`."""

    low: float
    high: float
    l2gradient: bool = False
    everywhere: ClassVar[bool] = True  # a chain of weak edges has no end

    def __post_init__(self) -> None:
        from imgconv.ops.canny import check_thresholds

        check_thresholds(self.low, self.high)

    def output_shape(self, *given: Shape) -> Shape:
        count, _, size = image_shape(given[0], None, "canny")
        return (count, 1, *size)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        return Reach(5, 1, 2)  # Sobel's kernel, and the neighbor that a ridge is greater than

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.canny import canny

        return np.stack([canny(x, self.low, self.high, self.l2gradient) for x in inputs[0]])


class KernelFilter(Layer):
    """Filters of the bank, as `apply` uses them: (M, C_in/groups, kH, kW) with fixed numbers.

    Filters of one channel filter every channel on its own, and several make channels, a filter's
    after the other's.
    """

    weights: Array
    offsets: Array | None
    window: shapes.Window
    combine: str = "none"
    anchor: shapes.Pair | None = None
    divisor: float = 1.0

    @property
    def kind(self) -> str:
        return "conv"

    @property
    def geometry(self) -> tuple[shapes.Pair, shapes.Pair, shapes.Sides, shapes.Pair]:
        """Kernel size, stride, pads and dilation."""
        return self.window.geometry(self.size, self.anchor)

    @property
    def size(self) -> shapes.Pair:
        """(kH, kW)."""
        return self.weights.shape[2], self.weights.shape[3]

    def placed(self) -> "KernelFilter":
        """A filter that sees the pixel an output stands for: with an anchor, its tap alone."""
        if self.window.options(self.size, self.anchor)["anchor"] is None:
            return self
        one = np.ones((*self.weights.shape[:2], 1, 1))
        return replace(self, weights=one, anchor=None, window=self.window._replace(padding=0))

    def output_shape(self, *given: Shape) -> Shape:
        count, channels, size = image_shape(given[0], None, "conv")
        maps = 1 if self.combine != "none" else len(self.weights)
        each = channels if self.weights.shape[1] == 1 and self.window.groups is None else 1
        return (count, maps * each, *shapes.output_size(size, *self.geometry))

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.filter import filter_image

        options = self.options()

        def work(image: Array) -> Array:
            return _side_by_side(filter_image(image, self.weights, self.offsets, **options))

        return _each(inputs[0], work)

    def filtered(self, image: Array, mask: Array, fill: str) -> tuple[Array, Array]:
        """The maps of an image (H, W, C) with missing samples, and which of theirs are missing."""
        from imgconv.ops.filter import filter_masked

        maps, gone = filter_masked(
            image, mask, self.weights, self.offsets, fill=fill, **self.options()
        )
        return _side_by_side(maps), _side_by_side(gone)

    def options(self) -> shapes.FilterOptions:
        """The options of `filter_image`."""
        window = self.window.options(self.size, self.anchor)
        return window | {"combine": self.combine, "out_dtype": None, "divisor": self.divisor}

    def multiply_adds(self, *given: Shape) -> int:
        count, channels, *size = self.output_shape(*given)
        combined = len(self.weights) if self.combine != "none" else 1
        return count * channels * math.prod(size) * combined * math.prod(self.weights.shape[1:])

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        kernel, stride, sides, dilation = self.geometry
        return Reach(kernel[axis], stride[axis], sides[2 * axis], dilation[axis])

    def seen(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        near, far = self.geometry[2][2 * axis : 2 * axis + 2]
        places = self.taps(axis, units, before, after)
        return padded(places, before[2 + axis], self.window.padding_mode, near, far)
