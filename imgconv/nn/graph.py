"""A network: named nodes, each a layer and the names of what it reads.

Node names are those of torchvision's modules (and of its feature extractor where a module has no
parameters), so `layer1.0.conv1` owns the parameter `layer1.0.conv1.weight`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

from imgconv.errors import ModelError, ShapeError
from imgconv.nn.layers.base import Layer, Shape
from imgconv.typing import Array


@dataclass(frozen=True)
class Node:
    """One layer in its place. inputs, outputs: names of values; by default one, the node's own."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.outputs:
            object.__setattr__(self, "outputs", (self.name,))

    @property
    def title(self) -> str:
        """How messages name it."""
        return self.name


class Parameter(NamedTuple):
    """A parameter's shape, and whether it is a statistic (a buffer) that is not counted."""

    shape: Shape
    buffer: bool


class Graph:
    """Nodes in topological order.

    inputs: names and usual shapes (N, C, H, W) of what is fed. outputs: names of the results.
    optional: patterns of parameter names that weights may hold though no node needs them.
    Raises ModelError for unknown values, values made twice and cycles.
    """

    def __init__(
        self,
        inputs: Mapping[str, Shape],
        nodes: Iterable[Node],
        outputs: Sequence[str],
        optional: Sequence[str] = (),
    ) -> None:
        self.inputs = dict(inputs)
        self.nodes = topological(list(nodes), self.inputs)
        self.outputs = tuple(outputs)
        self.optional = tuple(optional)
        self.producers = {name: node for node in self.nodes for name in node.outputs}
        for name in self.outputs:
            if name not in self.producers and name not in self.inputs:
                raise ModelError(f"output {name!r}: no node makes it")

    @property
    def values(self) -> list[str]:
        """Names of all values that nodes make, in the order of computation."""
        return [name for node in self.nodes for name in node.outputs]

    def at(self, shapes: Mapping[str, Shape]) -> "Graph":
        """The graph for inputs of these shapes; itself, unless its nodes depend on them."""
        return self

    def sized(self, shapes: Mapping[str, Shape]) -> "Graph":
        """The graph whose usual inputs have these shapes. Raises ShapeError naming the node."""
        self.shapes(shapes)
        return Graph(self.inputs | dict(shapes), self.nodes, self.outputs, self.optional)

    def shapes(self, inputs: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
        """The shape of every value, nothing computed. Raises ShapeError naming the node."""
        found = dict(self.inputs) | dict(inputs or {})
        for node in self.nodes:
            with named(node):
                shapes = node.layer.output_shapes(*(found[name] for name in node.inputs))
            found.update(zip(node.outputs, shapes, strict=True))
        return found

    def memory(self, shapes: Mapping[str, Shape], held: Iterable[str] = ()) -> int:
        """The most bytes that values of these shapes take at once while they are computed.

        They are taken for float32; held: values that stay until the end.
        """
        readers = Counter(name for node in self.nodes for name in node.inputs)
        readers.update(held)
        size = {name: 4 * math.prod(shape) for name, shape in shapes.items()}
        now = most = sum(size[name] for name in self.inputs)
        for node in self.nodes:
            now += sum(size[name] for name in node.outputs)
            most = max(most, now)
            readers.subtract(node.inputs)
            now -= sum(size[name] for name in {*node.inputs, *node.outputs} if not readers[name])
        return most

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter and buffer by its full name; nothing is allocated."""
        return {
            f"{node.name}.{name}": Parameter(shape, name in node.layer.buffers)
            for node in self.nodes
            for name, shape in node.layer.parameter_shapes().items()
        }

    def counted(self) -> dict[str, Parameter]:
        """`parameters` without those that are another's array: a weight used twice is one."""
        seen: set[tuple[int, int]] = set()
        found = {}
        for node in self.nodes:
            arrays = node.layer.parameters
            for name, shape in node.layer.parameter_shapes().items():
                array = arrays.get(name)
                if array is not None and array.size:
                    own = array.__array_interface__["data"][0], array.nbytes
                    if own in seen:
                        continue
                    seen.add(own)
                found[f"{node.name}.{name}"] = Parameter(shape, name in node.layer.buffers)
        return found

    def with_parameters(self, arrays: Mapping[str, Array]) -> "Graph":
        """The graph with arrays by full name in its layers; `weights.check` compares them first."""
        nodes = []
        for node in self.nodes:
            names = node.layer.parameter_shapes()
            if names:
                own = {name: arrays[f"{node.name}.{name}"] for name in names}
                node = replace(node, layer=node.layer.with_parameters(own))
            nodes.append(node)
        return self.with_nodes(nodes)

    def with_nodes(self, nodes: Iterable[Node]) -> "Graph":
        """The graph of the same inputs and outputs with other nodes."""
        return Graph(self.inputs, nodes, self.outputs, self.optional)

    def needed(self, wanted: Iterable[str]) -> list[Node]:
        """The nodes that the wanted values depend on. Raises ModelError for an unknown value."""
        seen = set(wanted)
        for name in seen:
            if name not in self.producers and name not in self.inputs:
                raise ModelError(f"{name!r}: no such value in the network")
        found = []
        for node in reversed(self.nodes):
            if not seen.isdisjoint(node.outputs):
                seen.update(node.inputs)
                found.append(node)
        return found[::-1]

    def trace(
        self, values: Array | Mapping[str, Array], wanted: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Array]]:
        """Yield (name, maps) of the wanted values, of all by default, in one walk.

        values: the input's array, or arrays by input name. A value is kept until its last reader
        has run; nodes that no wanted value needs do not run. Raises ShapeError, ModelError.
        """
        live = self._fed(values)
        names = None if wanted is None else set(wanted)
        nodes = self.nodes if names is None else self.needed(names)
        readers = Counter(name for node in nodes for name in node.inputs)
        for name in self.inputs if names else ():
            if names and name in names:
                yield name, live[name]
        for node in nodes:
            with named(node):
                made = node.layer.run(*(live[name] for name in node.inputs))
            for name in node.inputs:
                readers[name] -= 1
                if not readers[name]:
                    live.pop(name, None)
            results = dict(zip(node.outputs, made, strict=True))
            live.update({name: maps for name, maps in results.items() if readers[name]})
            for name in node.outputs:
                maps = results.pop(name)
                if names is None or name in names:
                    yield name, maps
                del maps

    def run(self, values: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name."""
        found = dict(self.trace(values, self.outputs))
        return {name: found[name] for name in self.outputs}

    def _fed(self, values: Array | Mapping[str, Array]) -> dict[str, Array]:
        given = dict(values) if isinstance(values, Mapping) else None
        if given is None:
            if len(self.inputs) != 1:
                raise ModelError(
                    f"one array for {len(self.inputs)} inputs, expected {', '.join(self.inputs)}"
                )
            given = {next(iter(self.inputs)): values}  # type: ignore[dict-item]
        missing = [name for name in self.inputs if name not in given]
        if missing:
            raise ModelError(
                f"input {missing[0]!r} is missing, got {', '.join(given) or 'nothing'}"
            )
        return given


class named:
    """Puts the node's name before what goes wrong in its layer.

    A model's element types are checked by nobody before: what NumPy says of them is a ShapeError.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, (ShapeError, ModelError)):
            raise type(error)(f"{self.node.name}: {error}") from None
        if isinstance(error, (ValueError, TypeError, LookupError, ArithmeticError)):
            raise ShapeError(f"{self.node.name}: {' '.join(str(error).split())}") from error


class Titled(Protocol):
    """What can be sorted: a node, or an operation of a model that is being read."""

    @property
    def title(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...


Sortable = TypeVar("Sortable", bound=Titled)


def topological(nodes: Sequence[Sortable], inputs: Iterable[str]) -> list[Sortable]:
    """Return nodes in topological order, as given where that is one already. Raises ModelError."""
    makers: dict[str, str] = dict.fromkeys(inputs, "an input")
    for node in nodes:
        for name in node.outputs:
            if name in makers:
                raise ModelError(f"{name!r} is made twice: by {makers[name]} and by {node.title}")
            makers[name] = node.title
    for node in nodes:
        for name in node.inputs:
            if name not in makers:
                raise ModelError(f"{node.title}: reads {name!r}, which no node makes")
    ready = set(inputs)
    order: list[Sortable] = []
    waiting: Sequence[Sortable] = nodes
    while waiting:
        later = []
        for node in waiting:
            if ready.issuperset(node.inputs):
                ready.update(node.outputs)
                order.append(node)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ModelError(f"{later[0].title}: is part of a cycle, or depends on one")
        waiting = later
    return order
