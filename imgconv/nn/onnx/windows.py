"""Builders of the operators that slide a window: convolutions and pools.

Source: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.layers import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Layer,
    LPPool2d,
    MaxPool2d,
    Shape,
)
from imgconv.nn.layers.wrappers import Fed, Viewed
from imgconv.nn.onnx.folding import Call, Use, operator
from imgconv.shapes import extent
from imgconv.typing import Array

LARGEST = 1 << 16  # kernel, stride or dilation: more than any map that fits


@dataclass(frozen=True)
class _Window:
    """Kernel, stride, dilation and pads (top, bottom, left, right) over two axes."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    auto: bool


def _spatial(call: Call) -> tuple[int, ...]:
    """The lengths of the spatial axes, one or two. Raises ModelError for more."""
    shape = call.shape()
    if len(shape) not in (3, 4):
        raise ModelError(f"input {shape} of {len(shape) - 2} spatial axes, expected 1 or 2")
    return shape[2:]


def _two(values: Iterable[int], default: int) -> tuple[int, int]:
    """Numbers along two axes; a missing first one is the default."""
    numbers = tuple(int(n) for n in values)
    return (default, *numbers) if len(numbers) == 1 else numbers  # type: ignore[return-value]


def _window(call: Call, kernel: tuple[int, ...] | None = None) -> _Window:
    size = _spatial(call)
    axes = len(size)
    found = tuple(call.attribute("kernel_shape") or kernel or ())
    stride = call.attribute("strides") or [1] * axes
    dilation = call.attribute("dilations") or [1] * axes
    for name, numbers in (("kernel_shape", found), ("strides", stride), ("dilations", dilation)):
        if len(numbers) != axes or not 1 <= min(numbers) <= max(numbers) <= LARGEST:
            raise ModelError(f"{name}={list(numbers)}, expected {axes} numbers of 1 to {LARGEST}")
    if kernel is not None and found != kernel:
        raise ModelError(f"kernel_shape={list(found)}, expected that of its weights, {kernel}")
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(auto, size, found, stride, dilation)
    elif auto == "VALID":
        pads = [0] * (2 * axes)
    else:
        pads = call.attribute("pads") or [0] * (2 * axes)
    if len(pads) != 2 * axes or min(pads) < 0:
        raise ModelError(f"pads={list(pads)}, expected {2 * axes} numbers of at least 0")
    near, far = _two(pads[:axes], 0), _two(pads[axes:], 0)
    return _Window(
        _two(found, 1), _two(stride, 1), _two(dilation, 1),
        (near[0], far[0], near[1], far[1]), auto not in ("NOTSET", ""),
    )  # fmt: skip


def _same(
    auto: str,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """ONNX's pads of auto_pad SAME: ⌈size / stride⌉ outputs, an odd one at the far or near side."""
    nears, fars = [], []
    for length, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-length // s) - 1) * s + extent(k, d) - length, 0)
        small, large = total // 2, total - total // 2
        nears.append(small if auto == "SAME_UPPER" else large)
        fars.append(large if auto == "SAME_UPPER" else small)
    return nears + fars


def _viewed(call: Call, layer: Layer) -> Layer:
    """The layer itself, or for maps of one spatial axis a view of them as rows of height 1."""
    shape = call.shape()
    if len(shape) == 4:
        return layer
    before = (*shape[:2], 1, shape[2])
    made = layer.output_shape(before)
    return Viewed(layer, before, (*made[:2], made[3]), parameters=layer.parameters)


def _with_weights(call: Call, layer: Layer, names: tuple[str, ...]) -> Use:
    """The layer with the operands from 1 on as parameters, constants or not."""
    places = tuple(range(1, 1 + len(names)))
    arrays = [call.constant(place) for place in places]
    shapes = layer.parameter_shapes()
    if all(array is not None for array in arrays):
        named = {}
        for name, array in zip(names, arrays, strict=True):
            assert array is not None
            if array.size != np.prod(shapes[name]):
                raise ModelError(f"{name} of shape {array.shape}, expected {shapes[name]}")
            named[name] = array.reshape(shapes[name])
        return Use(_viewed(call, layer.with_parameters(named)))
    if len(call.shape()) != 4:
        raise ModelError(f"{names[0]} depends on the image where the input is {call.shape()}")
    return Use(Fed(layer, names), (0, *places))


def _weights(call: Call) -> tuple[Shape, tuple[int, ...]]:
    """The weights' shape and their kernel's. Raises ModelError."""
    shape, weight = call.shape(), call.shape(1)
    _spatial(call)
    if len(weight) != len(shape):
        raise ModelError(f"weights {weight} for an input {shape}, expected {len(shape)} axes")
    if 0 in weight:
        raise ModelError(f"weights {weight}, expected some")
    return weight, weight[2:]


@operator("Conv")
def _conv(call: Call) -> Use:
    weight, _ = _weights(call)
    layer = sliding(call, weight, call.has(2))
    return _with_weights(call, layer, ("weight", "bias")[: 1 + call.has(2)])


def sliding(call: Call, weight: Shape, bias: bool = False) -> Conv2d:
    """The convolution of a call for weights of a shape, without them."""
    window, groups = _window(call, weight[2:]), call.attribute("group", 1)
    return Conv2d(
        weight[1] * groups, weight[0], window.kernel, window.stride, window.padding,
        window.dilation, groups, bias,
    )  # fmt: skip


@operator("ConvTranspose")
def _conv_transpose(call: Call) -> Use:
    weight, kernel = _weights(call)
    groups, axes = call.attribute("group", 1), len(kernel)
    stride = _two(call.attribute("strides") or [1] * axes, 1)
    dilation = _two(call.attribute("dilations") or [1] * axes, 1)
    extra = _two(call.attribute("output_padding") or [0] * axes, 0)
    taps = _two(kernel, 1)
    size = _two(_spatial(call), 1)
    auto = call.attribute("auto_pad", "NOTSET")
    wanted = call.attribute("output_shape")
    if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
        made = _two(wanted[-axes:], 1) if wanted else (size[0] * stride[0], size[1] * stride[1])
        near, far, more = [], [], []
        for i in (0, 1):
            full = stride[i] * (size[i] - 1) + extra[i] + extent(taps[i], dilation[i])
            total = max(full - made[i], 0)
            half = total // 2 if auto == "SAME_UPPER" else total - total // 2
            near.append(half)
            far.append(total - half)
            more.append(extra[i] + max(made[i] - full, 0))
        extra = (more[0], more[1])
    else:
        pads = [0] * (2 * axes) if auto == "VALID" else call.attribute("pads") or [0] * (2 * axes)
        near, far = list(_two(pads[:axes], 0)), list(_two(pads[axes:], 0))
    layer = ConvTranspose2d(
        weight[0], weight[1] * groups, taps, stride, (near[0], far[0], near[1], far[1]), extra,
        groups, call.has(2), dilation,
    )  # fmt: skip
    return _with_weights(call, layer, ("weight", "bias")[: 1 + call.has(2)])


class MaxPoolIndices(MaxPool2d):
    """MaxPool2d with a second output: each maximum's flat position in the whole input.

    by_columns: positions count down columns, not along rows.
    """

    by_columns: bool = False

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (self.output_shape(*shapes),) * 2

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        from imgconv.ops.pool import max_pool2d

        maps, places = max_pool2d(inputs[0], **self._options(), return_indices=True)
        count, channels, height, width = inputs[0].shape
        planes = np.arange(count * channels).reshape(count, channels, 1, 1) * (height * width)
        ordered = places % width * height + places // width if self.by_columns else places
        return maps, np.where(places < 0, places, ordered + planes)


@operator("MaxPool")
def _max_pool(call: Call) -> Use:
    window = _window(call)
    given = (window.kernel, window.stride, window.padding, _ceil(call, window), window.dilation)
    if len([name for name in call.operation.results if name]) > 1:
        if len(call.shape()) != 4:
            raise ModelError("indices of one spatial axis, expected two")
        return Use(MaxPoolIndices(*given, by_columns=call.attribute("storage_order", 0) == 1))
    return Use(_viewed(call, MaxPool2d(*given)))


def _ceil(call: Call, window: _Window) -> bool:
    """ceil_mode, which counts only where pads are given."""
    return bool(call.attribute("ceil_mode", 0)) and not window.auto


def _summed(call: Call, layer: Callable[..., Layer], last: float) -> Use:
    """A pool that sums its windows; `last` is the argument that makes it a mean or a norm."""
    window = _window(call)
    ceil = _ceil(call, window)
    made = layer(window.kernel, window.stride, window.padding, ceil, window.dilation, last)
    return Use(_viewed(call, made))


@operator("AveragePool")
def _average_pool(call: Call) -> Use:
    return _summed(call, AvgPool2d, bool(call.attribute("count_include_pad", 0)))


class AbsoluteLPPool2d(LPPool2d):
    """LPPool2d of the absolute values, as ONNX defines LpPool."""

    def forward(self, *inputs: Array) -> Array:
        return super().forward(np.abs(inputs[0]))


@operator("LpPool")
def _lp_pool(call: Call) -> Use:
    return _summed(call, AbsoluteLPPool2d, float(call.attribute("p", 2)))


def as_planes(call: Call, layer: Layer, whole: bool) -> Use:
    """A layer of planes on any number of axes: those after the second seen as one row."""
    shape = call.shape()
    if len(shape) < 2:
        raise ModelError(f"input {shape}, expected (N, C, …)")
    if len(shape) == 4:
        return Use(layer)
    before = (*shape[:2], 1, int(np.prod(shape[2:])))
    after = shape if whole else (*shape[:2], *[1] * (len(shape) - 2))
    return Use(Viewed(layer, before, after, parameters=layer.parameters))


@operator("GlobalAveragePool")
def _global_average(call: Call) -> Use:
    return as_planes(call, AdaptiveAvgPool2d(1), False)


@operator("GlobalMaxPool")
def _global_max(call: Call) -> Use:
    return as_planes(call, AdaptiveMaxPool2d(1), False)
