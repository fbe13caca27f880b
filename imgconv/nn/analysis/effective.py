"""How much each pixel of a unit's receptive field weighs, from the weights alone.

W. Luo, Y. Li, R. Urtasun, R. Zemel, "Understanding the Effective Receptive Field in Deep
Convolutional Neural Networks", NIPS 2016, measure it by the gradient of the unit. Here it is the
root of that gradient's expected square if the weights' signs were independent of each other, which
needs no image: squares of weights are added up backwards along all paths.
"""

import math
from dataclasses import replace
from functools import singledispatch

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn import layers
from imgconv.nn.graph import Graph
from imgconv.nn.layers.base import Layer, Shape
from imgconv.nn.layers.functions import Reduce
from imgconv.nn.layers.image import Gray, KernelFilter
from imgconv.nn.layers.tensors import Reshape, Slice, Split
from imgconv.nn.layers.wrappers import Bound
from imgconv.typing import Array

# An activation that is 0 for half of its inputs lets half of the squares through.
_HALVING = ("relu", "relu6", "leaky-relu", "elu", "silu", "gelu", "hard-swish")


def effective_field(
    graph: Graph, value: str, unit: tuple[int, int], shapes: dict[str, Shape]
) -> Array:
    """Return (H, W), the weight of every input pixel for one unit of a map, over all channels.

    Gates are taken as constant. Raises ModelError for an unknown value, missing weights and
    layers that have no field.
    """
    if value not in graph.producers:
        raise ModelError(f"{value!r}: no such value in the network")
    start = np.zeros((1, *shapes[value][1:]), np.float32)
    if start.ndim == 4:
        start[0, :, unit[0], unit[1]] = 1.0
    else:
        start[...] = 1.0
    squares: dict[str, Array] = {value: start}
    for node in reversed(graph.needed([value])):
        given = [squares.pop(name, None) for name in node.outputs]
        if all(part is None for part in given):
            continue
        after = _whole(node.layer, given, [shapes[name] for name in node.outputs])
        before = [shapes[name] for name in node.inputs]
        for name, found in zip(node.inputs, _back(node.layer, after, before), strict=True):
            if found is not None:
                squares[name] = squares[name] + found if name in squares else found
    inputs = [squares[name] for name in graph.inputs if name in squares]
    if not inputs:
        raise ModelError(f"{value}: sees no pixel of the input")
    return np.asarray(np.sqrt(inputs[0][0].sum(axis=0)))


def _whole(layer: Layer, given: list[Array | None], after: list[Shape]) -> Array:
    """The squares of a layer's outputs as one: those of a Split side by side."""
    if isinstance(layer, Split):
        parts = [
            np.zeros((1, *shape[1:]), np.float32) if part is None else part
            for part, shape in zip(given, after, strict=True)
        ]
        return np.concatenate(parts, axis=layer.axis)
    if given[0] is None or len(given) > 1:
        raise ModelError(f"{layer.kind}: the effective field of this layer is not known")
    return given[0]


@singledispatch
def _back(layer: Layer, after: Array, before: list[Shape]) -> list[Array | None]:
    """The squares of a layer's inputs (1, C, H, W) from those of its output; None: not passed."""
    if before[0][1:] == after.shape[1:]:
        return [after] + [None] * (len(before) - 1)
    raise ModelError(f"{layer.kind}: the effective field of this layer is not known")


@_back.register
def _(layer: layers.Activation, after: Array, before: list[Shape]) -> list[Array | None]:
    return [after * np.float32(0.5 if layer.name.partition(":")[0] in _HALVING else 1.0)]


@_back.register
def _(layer: layers.Conv2d, after: Array, before: list[Shape]) -> list[Array | None]:
    from imgconv.ops.conv_transpose import conv_transpose2d

    kernel, stride, sides, dilation = layer.window
    rest = [
        (before[0][2 + axis] + sides[2 * axis] + sides[2 * axis + 1]
         - dilation[axis] * (kernel[axis] - 1) - 1) % stride[axis]
        for axis in (0, 1)
    ]  # fmt: skip
    squared = np.square(layer.parameter("weight"), dtype=np.float32)
    if kernel == (3, 3):
        # Transformed tiles give pixels that are not seen 1e-7 of their neighbors, of either sign;
        # with a fourth column, of zeros, nothing is summed but what is seen.
        squared = np.pad(squared, ((0, 0), (0, 0), (0, 0), (0, 1)))
        sides = sides._replace(right=sides.right + dilation[1])
    return [conv_transpose2d(after, squared, None, stride, sides, rest, layer.groups, dilation)]


@_back.register
def _(layer: layers.Linear, after: Array, before: list[Shape]) -> list[Array | None]:
    return [after @ np.square(layer.parameter("weight"), dtype=np.float32)]


@_back.register
def _(layer: layers.Flatten, after: Array, before: list[Shape]) -> list[Array | None]:
    return [after.reshape(1, *before[0][1:])]


@_back.register
def _(layer: layers.BatchNorm2d, after: Array, before: list[Shape]) -> list[Array | None]:
    scale = np.square(layer.factors()[0]).astype(np.float32)
    return [after * scale[:, None, None]]


@_back.register
def _(layer: layers.Add, after: Array, before: list[Shape]) -> list[Array | None]:
    return [folded(after, shape) for shape in before]


@_back.register
def _(layer: layers.Mul, after: Array, before: list[Shape]) -> list[Array | None]:
    gates = [shape[1:] != after.shape[1:] for shape in before]
    return [None if gate else after for gate in gates]


@_back.register
def _(layer: layers.Concat, after: Array, before: list[Shape]) -> list[Array | None]:
    ends = np.cumsum([shape[layer.axis] for shape in before])[:-1]
    return list(np.split(after, ends, axis=layer.axis))


@_back.register
def _(layer: layers.WindowPool, after: Array, before: list[Shape]) -> list[Array | None]:
    kernel, stride, sides, dilation = layer.window
    count = kernel[0] * kernel[1]
    # One of the window's elements passes all, or all of them 1/n.
    share = 1 / count**2 if isinstance(layer, layers.AvgPool2d) else 1 / count
    taps = np.full((1, 1, *kernel), share, np.float32)
    return [spread(after, taps, before[0], stride, sides, dilation)]


@_back.register(layers.AdaptiveAvgPool2d)
@_back.register(layers.AdaptiveMaxPool2d)
def _(layer: layers.AdaptiveAvgPool2d, after: Array, before: list[Shape]) -> list[Array | None]:
    power = 2 if isinstance(layer, layers.AdaptiveAvgPool2d) else 1
    return [spread_parts(after, (1, *before[0][1:]), power)]


@_back.register
def _(layer: Slice, after: Array, before: list[Shape]) -> list[Array | None]:
    out = np.zeros((1, *before[0][1:]), np.float32)
    out[tuple(slice(*part) for part in layer.parts)] = after
    return [out]


@_back.register
def _(layer: Split, after: Array, before: list[Shape]) -> list[Array | None]:
    return [after]


@_back.register
def _(layer: Reshape, after: Array, before: list[Shape]) -> list[Array | None]:
    return [after.reshape(1, *before[0][1:])]


@_back.register
def _(layer: Reduce, after: Array, before: list[Shape]) -> list[Array | None]:
    kept = replace(layer, keepdims=True).output_shape(before[0])
    count = math.prod(before[0]) / math.prod(kept)
    power = {"ReduceMean": 2, "ReduceSum": 0}.get(layer.name, 1)
    return [np.broadcast_to(after.reshape(1, *kept[1:]) / count**power, (1, *before[0][1:]))]


@_back.register
def _(layer: Bound, after: Array, before: list[Shape]) -> list[Array | None]:
    if isinstance(layer.layer, layers.Mul):
        for name in layer.parameter_shapes():
            after = after * np.square(layer.parameter(name), dtype=np.float32)
    elif not isinstance(layer.layer, layers.Add):
        return _back(layer.layer, after, before)
    return [folded(after, shape) for shape in before]


@_back.register
def _(layer: KernelFilter, after: Array, before: list[Shape]) -> list[Array | None]:
    _, stride, sides, dilation = layer.geometry
    channels = before[0][1]
    squared = np.square(layer.weights).astype(np.float32)
    if squared.shape[1] != 1:
        raise ModelError("conv that mixes channels: the effective field of this is not known")
    if layer.combine != "none":
        return [spread(after, squared.sum(axis=0)[None], before[0], stride, sides, dilation)]
    parts = after.reshape(len(squared), 1, channels, *after.shape[2:])
    seen = [
        spread(part, taps[None], before[0], stride, sides, dilation)
        for part, taps in zip(parts, squared, strict=True)
    ]
    return [np.sum(seen, axis=0)]


@_back.register
def _(layer: Gray, after: Array, before: list[Shape]) -> list[Array | None]:
    return [folded(np.broadcast_to(after, (1, *before[0][1:])), before[0])]


def spread(
    after: Array, taps: Array, before: Shape, stride: tuple[int, int], sides: tuple[int, ...],
    dilation: tuple[int, int],
) -> Array:  # fmt: skip
    """What taps (1, 1, kH, kW) spread of every plane of (1, C, h, w) over the input's size."""
    rows, columns = after.shape[2:]
    top, bottom, left, right = sides
    height = max(before[2] + top + bottom, stride[0] * rows + dilation[0] * taps.shape[2])
    width = max(before[3] + left + right, stride[1] * columns + dilation[1] * taps.shape[3])
    out = np.zeros((1, after.shape[1], height, width), np.float32)
    for (i, j), tap in np.ndenumerate(taps[0, 0]):
        y, x = i * dilation[0], j * dilation[1]
        out[
            :, :, y : y + stride[0] * rows : stride[0], x : x + stride[1] * columns : stride[1]
        ] += tap * after
    return out[:, :, top : top + before[2], left : left + before[3]]


def spread_parts(after: Array, before: Shape, power: int = 1) -> Array:
    """What adaptive pools spread of every plane: to all of a part alike, over its size**power."""
    height, width = before[2:]
    out = np.zeros(before, after.dtype)
    rows, columns = after.shape[2:]
    for i in range(rows):
        down = slice(i * height // rows, -(-(i + 1) * height // rows))
        for j in range(columns):
            across = slice(j * width // columns, -(-(j + 1) * width // columns))
            count = (down.stop - down.start) * (across.stop - across.start)
            out[:, :, down, across] += after[:, :, i : i + 1, j : j + 1] / count**power
    return out


def folded(after: Array, shape: Shape) -> Array:
    """The sum over what was broadcast from `shape`."""
    wanted = (1,) * (after.ndim - len(shape)) + tuple(shape)
    axes = tuple(i for i in range(1, after.ndim) if wanted[i] == 1 != after.shape[i])
    return np.asarray(after.sum(axis=axes, keepdims=True)) if axes else after
