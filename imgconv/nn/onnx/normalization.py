"""Builders of the operators that normalize: by a batch, a group, a layer, neighbors or powers.

Source: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

import math
from typing import ClassVar

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.layers import BatchNorm2d, InstanceNorm2d, Layer, LocalResponseNorm, Shape
from imgconv.nn.layers.functions import Function
from imgconv.nn.layers.normalization import GroupNorm, LayerNorm
from imgconv.nn.layers.tensors import axis_of
from imgconv.nn.layers.wrappers import Fed
from imgconv.nn.onnx.folding import Call, Use, operator
from imgconv.nn.onnx.windows import as_planes
from imgconv.typing import Array


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
    return as_planes(call, layer.with_parameters(arrays), True)


def _training_norm(call: Call) -> Use:
    """By the batch's own mean and variance; the running ones move towards them."""
    axes = (0, *range(2, len(call.shape())))
    epsilon, momentum = _epsilon(call), call.attribute("momentum", 0.9)
    layer = TrainingNorm(call.shape()[1], axes, epsilon, float(momentum))
    return Use(layer, (0, 1, 2, 3, 4))


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
    return as_planes(call, layer.with_parameters(named), True)


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
