"""Fewer passes over memory: batch norm into weights, activations into the layer before.

A fused node carries the name of the last of its parts, so whatever read that value still does.
Values that are wanted stay what they are: a convolution is not merged with the batch norm behind
it when its own maps are asked for.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np

from imgconv.io.limits import MAX_PIXELS, check_memory
from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers import (
    Activation,
    Add,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Identity,
    Layer,
    Linear,
    Mul,
    ResidualConv2d,
    Shape,
)
from imgconv.nn.layers.functions import Joined
from imgconv.nn.layers.quantized import DequantizeLinear, FakeQuantize, QuantizeLinear
from imgconv.nn.layers.wrappers import Bound
from imgconv.nn.replay import Replayed
from imgconv.ops.quantize import Steps
from imgconv.typing import Array


class FusedGraph:
    """The fused graph for inputs of a shape; the last is kept, since images mostly are alike.

    held: whether the wanted values are there all at once. max_pixels: values take no more than an
    image of this size may.
    """

    def __init__(
        self, graph: Graph, wanted: Iterable[str] = (), held: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:  # fmt: skip
        self.graph, self.wanted = graph, tuple(wanted)
        self._held, self._max_pixels = held, max_pixels
        self.input = next(iter(graph.inputs))
        self._shape: Shape | None = None
        self._fused = graph

    def at(self, shape: Shape) -> Graph:
        """The graph, weights folded.

        Raises ShapeError naming the layer that does not fit, LimitError beyond the limit.
        """
        if shape != self._shape:
            graph = self.graph.at({self.input: shape})
            shapes = graph.shapes({self.input: shape})  # by the names that the user knows
            held = self.wanted if self._held else ()
            check_memory("the network", graph.memory(shapes, held), self._max_pixels)
            fused = fuse(graph, self.wanted)
            self._fused = Replayed(fused.inputs, fused.nodes, fused.outputs, fused.optional)
            self._shape = shape
        return self._fused


_ACTIVATED = (Conv2d, ConvTranspose2d, Linear, BatchNorm2d, Add, Mul)


def fuse(graph: Graph, wanted: Iterable[str] = ()) -> Graph:
    """Return an equivalent graph of fewer nodes; its weights must be loaded.

    Results differ from the plain walk's by rounding alone (batch norm's factors go into weights
    in float64, which are then rounded to float32). Only what `wanted` and the outputs need stays.
    """
    kept = {*wanted, *graph.outputs}
    nodes = _skip_identities(graph.needed(kept), kept)
    nodes = _round_in_place(nodes, kept)
    nodes = _join_gates(nodes, kept)
    nodes = _join_gelu(nodes, kept)
    nodes = _merge(nodes, kept, _fold_norm)
    nodes = _merge(nodes, kept, _fold_constant)
    nodes = _merge(nodes, kept, _absorb_activation)
    nodes = _join_sums(nodes, kept)
    return graph.with_nodes(nodes)


def _skip_identities(nodes: list[Node], kept: set[str]) -> list[Node]:
    """Readers of a dropout read what it reads."""
    renamed: dict[str, str] = {}
    left = []
    for node in nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if isinstance(node.layer, Identity) and node.outputs[0] not in kept:
            renamed[node.outputs[0]] = inputs[0]
        else:
            left.append(replace(node, inputs=inputs))
    return left


def _round_in_place(nodes: list[Node], kept: set[str]) -> list[Node]:
    """Floats that become integers and floats again, as files for int8 write them, in one pass."""
    makers = {name: node for node in nodes for name in node.outputs}
    left = []
    for node in nodes:
        steps = _fixed_steps(node, DequantizeLinear)
        before = makers.get(node.inputs[0]) if steps else None
        if steps and before and _fixed_steps(before, QuantizeLinear) == steps:
            node = replace(node, layer=FakeQuantize(steps), inputs=before.inputs)
        left.append(node)
    read = {*kept, *(name for node in left for name in node.inputs)}
    return [node for node in left if read.intersection(node.outputs)]


def _fixed_steps(node: Node, kind: type[QuantizeLinear | DequantizeLinear]) -> Steps | None:
    """The constant scale and zero point of a layer of a kind, if it has one for all elements."""
    layer = node.layer
    if not isinstance(layer, Bound) or type(layer.layer) is not kind or len(layer.fixed) != 2:
        return None
    return Steps.of(layer.parameter("input1"), layer.parameter("input2"))


def _join_gates(nodes: list[Node], kept: set[str]) -> list[Node]:
    """x · sigmoid(x), as ONNX files write SiLU, in one pass."""
    makers = {node.outputs[0]: node for node in nodes}
    readers = Counter(name for node in nodes for name in node.inputs)
    gone, left = set(), []
    for node in nodes:
        gates = [
            name for name in node.inputs
            if name in makers and _is_sigmoid(makers[name].layer) and readers[name] == 1
            and set(node.inputs) == {name, *makers[name].inputs}
        ]  # fmt: skip
        if type(node.layer) is Mul and len(node.inputs) == 2 and gates and gates[0] not in kept:
            gone.add(gates[0])
            layer = Activation("silu")
            node = replace(node, layer=layer, inputs=makers[gates[0]].inputs)
        left.append(node)
    return [node for node in left if node.outputs[0] not in gone]


def _is_sigmoid(layer: Layer) -> bool:
    return isinstance(layer, Activation) and layer.name == "sigmoid"


def _join_gelu(nodes: list[Node], kept: set[str]) -> list[Node]:
    """x · (1 + erf(x / √2)) / 2, as ONNX files write GELU, in one pass."""
    makers = {name: node for node in nodes for name in node.outputs}
    readers = {name: [n for n in nodes if name in n.inputs] for name in makers}
    joined: dict[str, Node] = {}
    gone = set[str]()
    for node in nodes:
        parts = _gelu_around(node, makers, readers)
        if parts and not any(kept.intersection(part.outputs) for part in parts[:-1]):
            gone.update(part.name for part in parts)
            joined[parts[-1].name] = replace(
                parts[-1], layer=Activation("gelu"), inputs=parts[0].inputs
            )
    return [joined.get(node.name, node) for node in nodes
            if node.name in joined or node.name not in gone]  # fmt: skip


def _gelu_around(
    node: Node, makers: Mapping[str, Node], readers: Mapping[str, list[Node]]
) -> list[Node]:
    """All nodes of a GELU with a node as its erf, x / √2 first and the result last, or none."""
    inner = makers.get(node.inputs[0]) if node.inputs else None
    if not (isinstance(node.layer, Activation) and node.layer.name == "erf" and inner):
        return []
    plus = _only(readers[node.outputs[0]])
    product = _only(readers[plus.outputs[0]]) if plus else None
    if not (plus and product) or _number(plus, Add) != 1 or type(product.layer) is not Mul:
        return []
    x, others = inner.inputs[0], [name for name in product.inputs if name not in plus.outputs]
    if abs((_number(inner, Mul) or 0) - math.sqrt(0.5)) > 1e-6 or len(others) != 1:
        return []
    if others[0] == x:
        half = _only(readers[product.outputs[0]])
        parts = [inner, node, plus, product, half]
    else:
        half = makers.get(others[0])
        parts = [inner, node, half, plus, product]
    alone = all(part and len(readers[part.outputs[0]]) == 1 for part in parts[:-1])
    if half is None or not alone or _number(half, Mul) != 0.5:
        return []
    return [part for part in parts if part] if x in (half.inputs[0], others[0]) else []


def _only(readers: list[Node]) -> Node | None:
    return readers[0] if len(readers) == 1 else None


def _number(node: Node, kind: type[Add | Mul]) -> float | None:
    """The number that a node adds to all of its input, or multiplies or divides it by."""
    layer = node.layer
    if not isinstance(layer, Bound) or list(map(math.prod, layer.fixed.values())) != [1]:
        return None
    ((place, _),) = layer.fixed.items()
    value = float(layer.parameter(f"input{place}").item())
    if isinstance(layer.layer, Joined) and layer.layer.join == "div" and kind is Mul and place == 1:
        return 1 / value if value else None
    plain = type(layer.layer) is kind and not layer.layer.activation
    return value if plain else None


def _merge(
    nodes: list[Node], kept: set[str], rule: Callable[[Layer, Layer], Layer | None]
) -> list[Node]:
    """Apply rule(before, after) → merged layer or None to every node and its only reader."""
    readers = Counter(name for node in nodes for name in node.inputs)
    places = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    merged: list[Node | None] = list(nodes)
    for index, node in enumerate(nodes):
        if len(node.inputs) != 1 or len(node.outputs) != 1:
            continue
        source = node.inputs[0]
        before = merged[places[source]] if source in places else None
        if before is None or source in kept or readers[source] != 1 or len(before.outputs) != 1:
            continue
        layer = rule(before.layer, node.layer)
        if layer is not None:
            # At the later place, where all that it reads is there.
            merged[index] = replace(node, layer=layer, inputs=before.inputs)
            merged[places[source]] = None
    return [node for node in merged if node is not None]


def _fold_norm(before: Layer, after: Layer) -> Layer | None:
    if type(before) is not Conv2d or type(after) is not BatchNorm2d or before.activation:
        return None
    return replace(_scaled(before, *after.factors()), activation=after.activation)


def _fold_constant(before: Layer, after: Layer) -> Layer | None:
    """A constant for each channel that is multiplied or added, as files from Caffe have them."""
    if not isinstance(after, Bound) or not isinstance(after.layer, Add | Mul):
        return None
    if type(before) is Conv2d:
        channels = before.out_channels
    elif type(before) is Linear:
        channels = before.out_features
    elif type(before) is BatchNorm2d:
        channels = before.num_features
    else:
        return None
    if before.activation or after.layer.activation:
        return None
    place, shape = next(iter(after.fixed.items()))
    constant = after.parameter(f"input{place}")
    axes = () if isinstance(before, Linear) else (1, 1)
    shapes = (channels, *axes), (1, channels, *axes)
    if len(after.fixed) > 1 or shape not in shapes or constant.dtype != np.float32:
        return None
    values = constant.reshape(channels).astype(np.float64)
    one, zero = np.ones(channels), np.zeros(channels)
    scale, shift = (values, zero) if type(after.layer) is Mul else (one, values)
    if isinstance(before, Conv2d):
        return _scaled(before, scale, shift)
    if isinstance(before, Linear):
        return _scaled(before, scale, shift)
    own, offset = before.factors()
    statistics = {"running_mean": zero, "running_var": one}
    folded = {"weight": own * scale, "bias": offset * scale + shift}
    return replace(before, eps=0.0, affine=True, parameters=folded | statistics)


Scaled = TypeVar("Scaled", Conv2d, Linear)


def _scaled(layer: Scaled, scale: Array, shift: Array) -> Scaled:
    """The layer whose outputs are multiplied by `scale`, to which `shift` is added."""
    weight = layer.parameter("weight")
    if (scale != 1).any():  # else the same array, which may be large
        weight = (weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.float32)
    if layer.bias:
        shift = shift + layer.parameter("bias") * scale
    folded = {"weight": weight, "bias": shift.astype(np.float32)}
    return replace(layer, bias=True, parameters=folded)


def _absorb_activation(before: Layer, after: Layer) -> Layer | None:
    if not isinstance(after, Activation) or not isinstance(before, _ACTIVATED):
        return None
    if before.activation or after.name == "softmax":
        return None
    return replace(before, activation=after.name)


def _join_sums(nodes: list[Node], kept: set[str]) -> list[Node]:
    """A residual block's sum as a part of the last of its 1×1 convolutions."""
    readers = Counter(name for node in nodes for name in node.inputs)
    makers = {name: node for node in nodes for name in node.outputs}
    places = {node.name: place for place, node in enumerate(nodes)}
    gone, left = set(), []
    for node in nodes:
        found = [
            makers[name] for name in node.inputs
            if name in makers and name not in kept and readers[name] == 1
            and _mixes(makers[name].layer)
        ]  # fmt: skip
        if type(node.layer) is Add and len(node.inputs) == 2 and found:
            last = max(found, key=lambda maker: places[maker.name])
            (other,) = (name for name in node.inputs if name not in last.outputs)
            options = {field.name: getattr(last.layer, field.name) for field in fields(last.layer)}
            layer = ResidualConv2d(**options | {"activation": node.layer.activation})
            gone.add(last.name)
            node = replace(node, layer=layer, inputs=(*last.inputs, other))
        left.append(node)
    return [node for node in left if node.name not in gone]


def _mixes(layer: Layer) -> bool:
    """Whether it is a 1×1 convolution whose sums nothing has changed yet."""
    if type(layer) is not Conv2d or layer.activation or layer.groups != 1:
        return False
    kernel, stride, sides, _ = layer.window
    return kernel == stride == (1, 1) and not any(sides)
