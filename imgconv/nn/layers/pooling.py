"""Pooling layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgconv import shapes
from imgconv.nn.layers.base import NOWHERE, Ints, Layer, Places, Reach, Shape, image_shape
from imgconv.typing import Array

if TYPE_CHECKING:
    from fractions import Fraction


class WindowPool(Layer):
    """A pooling window; stride is kernel_size by default."""

    kernel_size: Ints
    stride: Ints | None = None
    padding: int | Sequence[int] = 0
    ceil_mode: bool = False
    dilation: Ints = 1

    @property
    def window(self) -> tuple[shapes.Pair, shapes.Pair, shapes.Sides, shapes.Pair]:
        """Kernel size, stride, pads and dilation."""
        kernel = shapes.pair(self.kernel_size, "kernel_size")
        stride = kernel if self.stride is None else shapes.pair(self.stride, "stride")
        dilation = shapes.pair(self.dilation, "dilation")
        return kernel, stride, shapes.pool_sides(self.padding, kernel, dilation), dilation

    def output_shape(self, *given: Shape) -> Shape:
        count, channels, size = image_shape(given[0], None, self.kind)
        return (count, channels, *shapes.output_size(size, *self.window, self.ceil_mode))

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        kernel, stride, sides, dilation = self.window
        return Reach(kernel[axis], stride[axis], sides[2 * axis], dilation[axis])

    def _options(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding,
            "ceil_mode": self.ceil_mode, "dilation": self.dilation,
        }  # fmt: skip


class MaxPool2d(WindowPool):
    """torch.nn.MaxPool2d; padding also takes (top, bottom, left, right)."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.pool import max_pool2d

        result: Array = max_pool2d(inputs[0], **self._options())
        return result


class AvgPool2d(WindowPool):
    """torch.nn.AvgPool2d; padding also takes (top, bottom, left, right)."""

    count_include_pad: bool = True
    divisor_override: int | None = None

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.pool import avg_pool2d

        return avg_pool2d(
            inputs[0], **self._options(), count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
        )  # fmt: skip


class MinPool2d(WindowPool):
    """The smallest element of every window."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.pool import min_pool2d

        return min_pool2d(inputs[0], **self._options())


class LPPool2d(WindowPool):
    """torch.nn.LPPool2d with norm_type p."""

    norm_type: float = 2.0

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.pool import lp_pool2d

        return lp_pool2d(inputs[0], self.norm_type, **self._options())


class MedianPool2d(WindowPool):
    """The median of every window."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.rank import median_pool2d

        return median_pool2d(inputs[0], **self._options())


class RankPool2d(WindowPool):
    """The element of every window that stands at `rank` once they are sorted."""

    rank: int = 0

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.rank import rank_pool2d

        return rank_pool2d(inputs[0], self.rank, **self._options())


class RangePool2d(WindowPool):
    """The greatest less the least element of every window."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.rank import range_pool2d

        return range_pool2d(inputs[0], **self._options())


class _AdaptivePool(Layer):
    output_size: Ints

    def output_shape(self, *given: Shape) -> Shape:
        count, channels, _ = image_shape(given[0], None, self.kind)
        return (count, channels, *shapes.pair(self.output_size, "output_size"))

    def advance(self, axis: int, before: Shape, after: Shape) -> "Fraction":
        from fractions import Fraction

        return Fraction(before[2 + axis], after[2 + axis])

    def taps(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        size, made = before[2 + axis], after[2 + axis]
        starts, ends = units * size // made, -(-(units + 1) * size // made)
        places = starts[:, None] + np.arange(int((ends - starts).max(initial=0)))
        return np.where(places < ends[:, None], places, NOWHERE)


class AdaptiveAvgPool2d(_AdaptivePool):
    """torch.nn.AdaptiveAvgPool2d; 1 is the global mean."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.pool import adaptive_avg_pool2d

        if inputs[0].shape[-2:] == shapes.pair(self.output_size, "output_size"):
            return inputs[0]
        return adaptive_avg_pool2d(inputs[0], shapes.pair(self.output_size, "output_size"))


class AdaptiveMaxPool2d(_AdaptivePool):
    """torch.nn.AdaptiveMaxPool2d; 1 is the global maximum."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.pool import adaptive_max_pool2d

        return adaptive_max_pool2d(inputs[0], shapes.pair(self.output_size, "output_size"))


# Kinds of `--pool` → layers; the global ones are adaptive to a size of 1.
POOLS: dict[str, type[WindowPool] | type[_AdaptivePool]] = {
    "max": MaxPool2d, "avg": AvgPool2d, "min": MinPool2d, "lp": LPPool2d, "median": MedianPool2d,
    "rank": RankPool2d, "range": RangePool2d, "adaptive-max": AdaptiveMaxPool2d,
    "adaptive-avg": AdaptiveAvgPool2d,
}  # fmt: skip
