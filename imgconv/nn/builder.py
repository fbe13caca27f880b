"""Building a graph layer by layer."""

from collections.abc import Sequence

from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers.base import Layer, Shape


class Builder:
    """Collects nodes; `add` returns the value's name, which later layers read.

    shape: (C, H, W) of the usual input, the value `input`.
    """

    def __init__(self, *shape: int) -> None:
        self.shapes: dict[str, Shape] = {"input": (1, *shape)}
        self.inputs = dict(self.shapes)
        self.nodes: list[Node] = []
        self.last = "input"

    def add(self, name: str, layer: Layer, *inputs: str) -> str:
        """Append a layer that reads `inputs`, the last value by default.

        A name used before gets `_1`, `_2`, …, as torchvision's feature extractor names them.
        Raises ShapeError where the shapes do not fit.
        """
        free, number = name, 0
        while free in self.shapes:
            number += 1
            free = f"{name}_{number}"
        read = inputs or (self.last,)
        self.shapes[free] = layer.output_shape(*(self.shapes[value] for value in read))
        self.nodes.append(Node(free, layer, read))
        self.last = free
        return free

    def channels(self, value: str | None = None) -> int:
        """The channels (or features) of a value, of the last by default."""
        return self.shapes[value or self.last][1]

    def graph(self, *outputs: str, optional: Sequence[str] = ()) -> Graph:
        """The graph; its output is the last value by default."""
        return Graph(self.inputs, self.nodes, outputs or (self.last,), optional)
