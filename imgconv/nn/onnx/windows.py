"""Builders of the operators that slide a window: convolutions, pools, and normalisations.

Source: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.layers import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    InstanceNorm2d,
    Layer,
    LocalResponseNorm,
    LPPool2d,
    MaxPool2d,
    Shape,
)
from imgconv.nn.layers.functions import Function
from imgconv.nn.layers.normalization import GroupNorm, LayerNorm
from imgconv.nn.layers.tensors import axis_of
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


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
class AbsoluteLPPool2d(LPPool2d):
    """LPPool2d of the absolute values, as ONNX defines LpPool."""

    def forward(self, *inputs: Array) -> Array:
        return super().forward(np.abs(inputs[0]))


@operator("LpPool")
def _lp_pool(call: Call) -> Use:
    return _summed(call, AbsoluteLPPool2d, float(call.attribute("p", 2)))


def _as_planes(call: Call, layer: Layer, whole: bool) -> Use:
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
    return _as_planes(call, AdaptiveAvgPool2d(1), False)


@operator("GlobalMaxPool")
def _global_max(call: Call) -> Use:
    return _as_planes(call, AdaptiveMaxPool2d(1), False)


def _epsilon(call: Call) -> float:
    epsilon = call.attribute("epsilon", 1e-5)
    if not 0 <= epsilon < math.inf:
        raise ModelError(f"epsilon={epsilon}, expected a number from 0")
    return float(epsilon)


@operator("BatchNormalization")
def _batch_norm(call: Call) -> Use:
    if call.attribute("training_mode", 0):
        return _training_norm(call)
    if not call.attribute("spatial", 1):
        raise ModelError("spatial=0, expected statistics by channel")
    names = ("weight", "bias", "running_mean", "running_var")
    layer = BatchNorm2d(call.shape()[1], _epsilon(call))
    arrays = {
        name: array for place, name in enumerate(names, 1)
        if (array := call.constant(place)) is not None
    }  # fmt: skip
    if len(arrays) < len(names):
        for place in range(1, 5):
            call.shape(place)
        return Use(Fed(layer, names), (0, 1, 2, 3, 4))
    for name, array in arrays.items():
        if array.shape != (layer.num_features,):
            raise ModelError(f"{name} of shape {array.shape}, expected ({layer.num_features},)")
    return _as_planes(call, layer.with_parameters(arrays), True)


def _training_norm(call: Call) -> Use:
    """By the batch's own mean and variance; the running ones move towards them."""
    axes = (0, *range(2, len(call.shape())))
    epsilon, momentum = _epsilon(call), call.attribute("momentum", 0.9)
    layer = TrainingNorm(call.shape()[1], axes, epsilon, float(momentum))
    return Use(layer, (0, 1, 2, 3, 4))


@dataclass(frozen=True, eq=False)
class TrainingNorm(Layer):
    """Batch normalization of (x, scale, shift, mean, variance) as in training."""

    channels: int
    axes: tuple[int, ...]
    epsilon: float
    momentum: float
    everywhere: ClassVar[bool] = True

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        for shape in shapes[1:]:
            if shape != (self.channels,):
                raise ModelError(f"statistics of shape {shape}, expected ({self.channels},)")
        return shapes[0], shapes[3], shapes[4]

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.output_shapes(*shapes)[0]

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        x, scale, shift, mean, variance = inputs
        own = x.mean(self.axes, dtype=np.float64)
        spread = np.square(x - own.reshape(-1, *(1,) * (x.ndim - 2))).mean(self.axes)
        factor = scale / np.sqrt(spread + self.epsilon)
        across = (-1, *(1,) * (x.ndim - 2))
        made = x * factor.reshape(across) + (shift - own * factor).reshape(across)
        running = (
            old * self.momentum + new * (1 - self.momentum)
            for old, new in ((mean, own), (variance, spread))
        )  # fmt: skip
        return made.astype(x.dtype), *(r.astype(mean.dtype) for r in running)


@operator("InstanceNormalization", fixed=(1, 2))
def _instance_norm(call: Call) -> Use:
    channels = call.shape()[1]
    layer = InstanceNorm2d(channels, _epsilon(call), affine=True)
    named = {"weight": call.fixed(1, "scale"), "bias": call.fixed(2, "bias")}
    for name, array in named.items():
        if array.shape != (channels,):
            raise ModelError(f"{name} of shape {array.shape}, expected ({channels},)")
    return _as_planes(call, layer.with_parameters(named), True)


@operator("GroupNormalization", fixed=(1, 2))
def _group_norm(call: Call) -> Use:
    channels, groups = call.shape()[1], call.attribute("num_groups")
    weight, bias = call.fixed(1, "scale"), call.fixed(2, "bias")
    if call.opset < 21:  # one number a group
        weight, bias = (np.repeat(v, channels // groups) for v in (weight, bias))
    named = {"weight": weight, "bias": bias}
    layer = GroupNorm(groups, channels, _epsilon(call), parameters=named)
    return Use(layer)


@operator("LayerNormalization", fixed=(1, 2))
def _layer_norm(call: Call) -> Use:
    shape, axis = call.shape(), call.attribute("axis", -1)
    if not -len(shape) <= axis < len(shape):
        raise ModelError(f"axis {axis} of {len(shape)} axes")
    normal = shape[axis % len(shape) :]
    named = {"weight": np.broadcast_to(call.fixed(1, "scale"), normal)}
    if call.has(2):
        named["bias"] = np.broadcast_to(call.fixed(2, "bias"), normal)
    epsilon = _epsilon(call)
    return Use(LayerNorm(normal, epsilon, call.has(2), parameters=named))


@operator("LRN")
def _lrn(call: Call) -> Use:
    size = call.attribute("size")
    if not size or size < 1:
        raise ModelError(f"size={size}, expected at least 1")
    layer = LocalResponseNorm(
        size, call.attribute("alpha", 1e-4), call.attribute("beta", 0.75),
        call.attribute("bias", 1.0), (size - 1) // 2,
    )  # fmt: skip
    return Use(layer)


@operator("LpNormalization")
def _lp_normalization(call: Call) -> Use:
    axis, power = call.attribute("axis", -1), call.attribute("p", 2)
    axis = axis_of(axis, len(call.shape()), call.kind)

    def normalize(x: Array) -> Array:
        total = (np.abs(x) ** power).sum(axis=axis, keepdims=True) ** (1 / power)
        scaled: Array = np.where(total == 0, 0, x / total)
        return scaled

    return Use(Function(name=call.kind, function=normalize, axes=(axis,)))


@operator("MeanVarianceNormalization")
def _mean_variance(call: Call) -> Use:
    given = call.attribute("axes") or (0, 2, 3)
    axes = tuple(axis_of(axis, len(call.shape()), call.kind) for axis in given)

    def normalize(x: Array) -> Array:
        centered = x - x.mean(axis=axes, keepdims=True, dtype=np.float64)
        spread = np.sqrt((centered**2).mean(axis=axes, keepdims=True))
        normal: Array = (centered / (spread + 1e-9)).astype(x.dtype)
        return normal

    return Use(Function(name=call.kind, function=normalize, axes=axes))
