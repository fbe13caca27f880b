"""The gradient of a score by the maps of a layer: each layer between them, taken backwards.

For y = f(x), a layer makes of the gradient g by y the one by x: Wᵀg where it is a product or a
convolution, g · f′(x) an activation, g at the largest element of a max pool's window, g / n at all
of a mean's. Only inference is differentiated: batch norms are scales.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import singledispatch

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn import layers
from imgconv.nn.analysis.effective import folded, spread, spread_parts
from imgconv.nn.graph import Graph, Node, named
from imgconv.nn.layers.base import Layer, Shape
from imgconv.nn.layers.functions import MatMul, Reduce
from imgconv.nn.layers.normalization import LayerNorm
from imgconv.nn.layers.tensors import Reshape, Slice, Split, Transpose
from imgconv.nn.layers.wrappers import Bound
from imgconv.typing import Array

Values = Mapping[str, Array]
Gradients = list[Array | None]


def between(graph: Graph, start: str, end: str) -> list[Node]:
    """The nodes that lie on a path from one value to another, in their order."""
    reached, nodes = {start}, []
    for node in graph.needed([end]):
        if start not in node.outputs and not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
            nodes.append(node)
    return nodes


def gradient(graph: Graph, start: str, end: str, seed: Array, values: Values) -> Array:
    """Return the gradient of Σ seed · end by the value `start`.

    Parameters
    ----------
    graph
        The network, with weights.
    start, end
        Names of values; `end` depends on `start`.
    seed
        Of the shape of `end`: 1 at the score, 0 elsewhere.
    values
        What every node between them reads and makes, for one image.

    Raises
    ------
    ModelError
        A layer between them has no gradient here; names it.
    """
    found: dict[str, Array] = {end: seed}
    for node in reversed(between(graph, start, end)):
        after = [found.pop(name, None) for name in node.outputs]
        if all(part is None for part in after):
            continue
        with named(node):
            made = [values[name] for name in node.outputs]
            before = _back(node.layer, _joined(node.layer, after, made),
                           [values[name] for name in node.inputs], made[0])  # fmt: skip
        for name, part in zip(node.inputs, before, strict=True):
            if part is not None:
                found[name] = found[name] + part if name in found else part
    if start not in found:
        raise ModelError(f"{end} does not depend on {start}")
    return found[start]


def _joined(layer: Layer, after: Gradients, made: list[Array]) -> Array:
    """The gradients of a layer's outputs as one: those of a Split side by side."""
    parts = [np.zeros_like(y) if g is None else g for g, y in zip(after, made, strict=True)]
    if len(parts) > 1 and not isinstance(layer, Split):
        raise _unknown(layer)
    return np.concatenate(parts, axis=layer.axis) if isinstance(layer, Split) else parts[0]


def _unknown(layer: Layer) -> ModelError:
    return ModelError(f"{layer.kind}: its gradient is not known; choose a layer behind it")


@singledispatch
def _back(layer: Layer, after: Array, before: list[Array], made: Array) -> Gradients:
    """The gradients by a layer's inputs from that by its output."""
    raise _unknown(layer)


@_back.register(layers.Identity)
@_back.register(layers.Flatten)
@_back.register(Reshape)
def _(layer: Layer, after: Array, before: list[Array], made: Array) -> Gradients:
    return [after.reshape(before[0].shape)]


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _gelu(x: Array) -> Array:
    erf = np.array([math.erf(v) for v in (x / math.sqrt(2)).ravel()]).reshape(x.shape)
    return np.asarray(0.5 * (1 + erf) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


# Derivatives by the input in float64, and the parameter where there is one.
_DERIVATIVES: dict[str, Callable[[Array, float], Array]] = {
    "identity": lambda x, _: np.ones_like(x),
    "relu": lambda x, _: np.asarray(x > 0, np.float64),
    "leaky-relu": lambda x, slope: np.where(x > 0, 1.0, slope),
    "relu6": lambda x, _: np.asarray((x > 0) & (x < 6), np.float64),
    "elu": lambda x, alpha: np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))),
    "sigmoid": lambda x, _: _sigmoid(x) * (1 - _sigmoid(x)),
    "tanh": lambda x, _: 1 - np.tanh(x) ** 2,
    "silu": lambda x, _: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
    "hard-sigmoid": lambda x, _: np.where(np.abs(x) < 3, 1 / 6, 0.0),
    "hard-swish": lambda x, _: np.where(np.abs(x) < 3, x / 3 + 0.5, np.asarray(x > 0, np.float64)),
    "gelu": lambda x, _: _gelu(x),
}  # fmt: skip


def _activated(layer: Layer, text: str | None, after: Array, x: Array) -> Array:
    """The gradient before an activation that is named as `parse_activation` takes it."""
    if text is None:
        return after
    from imgconv.ops.activation import parse_activation

    activation = parse_activation(text)
    if activation.name not in _DERIVATIVES:
        raise _unknown(layer)
    parameter = next(iter(activation.parameters), 0.0)
    slopes = _DERIVATIVES[activation.name](x.astype(np.float64), parameter)
    return np.asarray(after * slopes.astype(after.dtype))


@_back.register
def _(layer: layers.Activation, after: Array, before: list[Array], made: Array) -> Gradients:
    return [_activated(layer, layer.name, after, before[0])]


@_back.register
def _(layer: layers.Conv2d, after: Array, before: list[Array], made: Array) -> Gradients:
    from imgconv.ops.conv_transpose import conv_transpose2d

    _plain(layer, layer.activation)
    kernel, stride, sides, dilation = layer.window
    rest = [
        (before[0].shape[2 + axis] + sides[2 * axis] + sides[2 * axis + 1]
         - dilation[axis] * (kernel[axis] - 1) - 1) % stride[axis]
        for axis in (0, 1)
    ]  # fmt: skip
    weight = layer.parameter("weight")
    return [conv_transpose2d(after, weight, None, stride, sides, rest, layer.groups, dilation)]


def _plain(layer: Layer, activation: object) -> None:
    """Raise ModelError for a layer that has an activation of its own: its input is not at hand."""
    if activation is not None:
        raise _unknown(layer)


@_back.register
def _(layer: layers.Linear, after: Array, before: list[Array], made: Array) -> Gradients:
    _plain(layer, layer.activation)
    return [(after @ layer.parameter("weight")).reshape(before[0].shape)]


@_back.register
def _(layer: layers.BatchNorm2d, after: Array, before: list[Array], made: Array) -> Gradients:
    _plain(layer, layer.activation)
    return [after * layer.factors()[0].astype(after.dtype)[:, None, None]]


@_back.register
def _(layer: layers.Add, after: Array, before: list[Array], made: Array) -> Gradients:
    _plain(layer, layer.activation)
    return [folded(after, x.shape) for x in before]


@_back.register
def _(layer: layers.Mul, after: Array, before: list[Array], made: Array) -> Gradients:
    _plain(layer, layer.activation)
    parts: Gradients = []
    for place, x in enumerate(before):
        others = math.prod(before[:place] + before[place + 1 :], start=np.float32(1))
        parts.append(folded(np.asarray(after * others), x.shape))
    return parts


@_back.register
def _(layer: layers.Concat, after: Array, before: list[Array], made: Array) -> Gradients:
    ends = np.cumsum([x.shape[layer.axis] for x in before])[:-1]
    return list(np.split(after, ends, axis=layer.axis))


@_back.register
def _(layer: Split, after: Array, before: list[Array], made: Array) -> Gradients:
    return [after]


@_back.register
def _(layer: Reduce, after: Array, before: list[Array], made: Array) -> Gradients:
    if layer.name not in ("ReduceMean", "ReduceSum"):
        raise _unknown(layer)
    shape = before[0].shape
    kept = replace(layer, keepdims=True).output_shape(shape)
    count = math.prod(shape) / math.prod(kept) if layer.name == "ReduceMean" else 1
    return [np.broadcast_to(after.reshape(kept) / np.float32(count), shape)]


@_back.register
def _(layer: layers.AvgPool2d, after: Array, before: list[Array], made: Array) -> Gradients:
    kernel, stride, sides, dilation = layer.window
    taps = np.ones((1, 1, *kernel), np.float32)
    # By how much a window's sum is divided: what ones come to, and how many of them it sees.
    ones = np.ones((1, 1, *before[0].shape[2:]), np.float32)
    summed = replace(layer, divisor_override=1).forward(ones)
    share = layer.forward(ones) / np.maximum(summed, 1)
    return [spread(after * share, taps, before[0].shape, stride, sides, dilation)]


@_back.register
def _(
    layer: layers.AdaptiveAvgPool2d, after: Array, before: list[Array], made: Array
) -> Gradients:  # fmt: skip
    return [spread_parts(after, before[0].shape)]


@_back.register
def _(layer: layers.MaxPool2d, after: Array, before: list[Array], made: Array) -> Gradients:
    """The first of a window's largest elements gets all, as in PyTorch."""
    kernel, stride, sides, dilation = layer.window
    rows, columns = made.shape[2:]
    shape = before[0].shape
    top, bottom, left, right = sides
    height = max(shape[2] + top + bottom, stride[0] * rows + dilation[0] * kernel[0])
    width = max(shape[3] + left + right, stride[1] * columns + dilation[1] * kernel[1])
    wide = np.full((*shape[:2], height, width), -np.inf, before[0].dtype)
    inner = np.s_[:, :, top : top + shape[2], left : left + shape[3]]
    wide[inner] = before[0]
    out, waiting = np.zeros_like(wide), np.ones(made.shape, bool)
    for place in _places(kernel, stride, dilation, (rows, columns)):
        largest = waiting & (wide[place] == made)
        out[place] += after * largest
        waiting &= ~largest
    return [out[inner]]


Place = tuple[slice, slice, slice, slice]


def _places(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], size: Shape
) -> Iterator[Place]:
    """Where each of a window's taps lies for all outputs, row by row."""
    for i, j in np.ndindex(kernel):
        y, x = i * dilation[0], j * dilation[1]
        yield (
            slice(None), slice(None), slice(y, y + stride[0] * size[0], stride[0]),
            slice(x, x + stride[1] * size[1], stride[1]),
        )  # fmt: skip


@_back.register
def _(layer: Transpose, after: Array, before: list[Array], made: Array) -> Gradients:
    return [after.transpose(np.argsort(layer.order))]


@_back.register
def _(layer: Slice, after: Array, before: list[Array], made: Array) -> Gradients:
    out = np.zeros_like(before[0])
    out[tuple(slice(*part) for part in layer.parts)] = after
    return [out]


@_back.register
def _(layer: LayerNorm, after: Array, before: list[Array], made: Array) -> Gradients:
    """With x̂ the normalized input, g − mean(g) − x̂ · mean(g · x̂), over the deviation."""
    axes = tuple(range(-len(layer.normalized_shape), 0))

    def mean(x: Array) -> Array:
        return np.asarray(x.mean(axis=axes, keepdims=True))

    centered = before[0] - mean(before[0])
    deviation = np.sqrt(mean(centered**2) + centered.dtype.type(layer.eps))
    normal, slopes = centered / deviation, after * layer.parameter("weight")
    return [(slopes - mean(slopes) - normal * mean(slopes * normal)) / deviation]


@_back.register
def _(
    layer: layers.LocalResponseNorm, after: Array, before: list[Array], made: Array
) -> Gradients:  # fmt: skip
    """Of x_c s_c^−β: g_c s_c^−β − 2αβ/n · x_c Σ_j g_j x_j s_j^(−β−1) over j whose windows see c."""
    x, size = before[0], layer.size
    near = size // 2 if layer.near is None else layer.near

    def windowed(values: Array, first: int) -> Array:
        """Sums over channels from c − first on, `size` of them."""
        sides = [(0, 0)] * values.ndim
        sides[1] = (first, size - 1 - first)
        wide = np.pad(values, sides)
        return np.asarray(sum(wide[:, i : i + x.shape[1]] for i in range(size)))

    share = layer.alpha / size
    sums = layer.k + share * windowed(x * x, near)
    others = windowed(after * x * sums ** (-layer.beta - 1), size - 1 - near)
    return [after * sums**-layer.beta - 2 * share * layer.beta * x * others]


@_back.register
def _(layer: MatMul, after: Array, before: list[Array], made: Array) -> Gradients:
    a, b = before
    if min(a.ndim, b.ndim) < 2:
        raise _unknown(layer)
    left, right = after @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ after
    return [folded(left, a.shape), folded(right, b.shape)]


@_back.register
def _(layer: Bound, after: Array, before: list[Array], made: Array) -> Gradients:
    """Constants are inputs whose gradient nobody asks for."""
    fixed = {place: layer.parameter(f"input{place}") for place in layer.fixed}
    free, total = iter(before), len(before) + len(fixed)
    every = [fixed[place] if place in fixed else next(free) for place in range(total)]
    found = _back(layer.layer, after, every, made)
    return [part for place, part in enumerate(found) if place not in fixed]
