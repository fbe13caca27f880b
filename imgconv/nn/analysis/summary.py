"""What a network is made of, known without a single weight."""

import math
from collections import Counter
from dataclasses import dataclass

from imgconv.errors import ModelError
from imgconv.nn.analysis.receptive import Field, fields
from imgconv.nn.graph import Graph
from imgconv.nn.layers import Conv2d, Shape
from imgconv.typing import JSON

_BYTES = 4  # of a float32


@dataclass(frozen=True)
class Row:
    """One value: what makes it, and what it costs for one image.

    parameters: trainable numbers, without batch norm's statistics and without those of a weight
    that a layer before it has too. memory: bytes of the maps.
    """

    name: str
    kind: str
    shape: Shape
    parameters: int
    multiply_adds: int
    field: Field | None
    memory: int

    def as_dict(self) -> dict[str, JSON]:
        """The row for JSON; sizes are [down, across]."""
        seen: dict[str, JSON] | None = None
        if self.field:
            axes = self.field.axes
            seen = {
                "size": [_whole(axis.size) for axis in axes],
                "stride": [_whole(axis.jump) for axis in axes],
                "center": [_whole(axis.start) for axis in axes],
                "everywhere": self.field.everywhere,
            }
        return {
            "layer": self.name, "type": self.kind, "output_shape": list(self.shape),
            "parameters": self.parameters, "multiply_adds": self.multiply_adds,
            "receptive_field": seen, "memory_bytes": self.memory,
        }  # fmt: skip


@dataclass(frozen=True)
class Dense:
    """The lecture's argument: the first convolution against a layer that joins all to all.

    units: its filters. weights: what as many fully connected units need, H·W·C each;
    convolution: what the convolution has. Biases are left out of both.
    """

    layer: str
    inputs: Shape
    units: int
    weights: int
    convolution: int


@dataclass(frozen=True)
class Summary:
    """All rows and their totals for an input of this shape.

    weights: bytes of parameters and statistics. peak: the most bytes of maps that are alive at
    once in the walk, which frees what nobody needs any more.
    """

    input_shape: Shape
    rows: tuple[Row, ...]
    parameters: int
    multiply_adds: int
    weights: int
    maps: int
    peak: int
    dense: Dense | None


def summarize(graph: Graph, input_shape: Shape | None = None) -> Summary:
    """Return the summary for an input (N, C, H, W), the usual one by default.

    Raises ModelError for a graph of several inputs, ShapeError for a size that does not fit.
    """
    if len(graph.inputs) != 1:
        raise ModelError(f"a summary needs one input, got {', '.join(graph.inputs)}")
    name, usual = next(iter(graph.inputs.items()))
    shape = input_shape or usual
    graph = graph.at({name: shape})
    shapes = graph.shapes({name: shape})
    seen = fields(graph, shapes)
    rows, dense = [], None
    parameters = graph.counted()
    for node in graph.nodes:
        given = [shapes[value] for value in node.inputs]
        own = [parameters.get(f"{node.name}.{key}") for key in node.layer.parameter_shapes()]
        counted = sum(math.prod(p.shape) for p in own if p and not p.buffer)
        for place, value in enumerate(node.outputs):
            work = node.layer.multiply_adds(*given) if place == 0 else 0
            rows.append(
                Row(value, node.layer.kind, shapes[value], counted * (place == 0), work,
                    seen.get(value), _BYTES * math.prod(shapes[value]))
            )  # fmt: skip
        if dense is None and isinstance(node.layer, Conv2d):
            dense = _dense(node.name, node.layer, given[0])
    weights = _BYTES * sum(math.prod(p.shape) for p in parameters.values())
    return Summary(
        shape, tuple(rows), sum(row.parameters for row in rows),
        sum(row.multiply_adds for row in rows), weights,
        sum(row.memory for row in rows), _peak(graph, shapes), dense,
    )  # fmt: skip


def _dense(name: str, layer: Conv2d, shape: Shape) -> Dense:
    one = math.prod(shape[1:])
    own = math.prod(layer.parameter_shapes()["weight"])
    return Dense(name, shape[1:], layer.out_channels, one * layer.out_channels, own)


def _peak(graph: Graph, shapes: dict[str, Shape]) -> int:
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    live = {name: _BYTES * math.prod(shapes[name]) for name in graph.inputs}
    most = sum(live.values())
    for node in graph.nodes:
        live.update({name: _BYTES * math.prod(shapes[name]) for name in node.outputs})
        most = max(most, sum(live.values()))
        for name in node.inputs:
            readers[name] -= 1
            if not readers[name]:
                live.pop(name, None)
        for name in node.outputs:
            if not readers[name]:
                live.pop(name, None)
    return most


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number
