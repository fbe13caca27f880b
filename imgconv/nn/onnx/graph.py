"""The graph of an ONNX model, which fits itself to the shapes of its inputs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from imgconv.errors import ShapeError
from imgconv.nn.graph import Graph
from imgconv.nn.layers import Shape
from imgconv.nn.onnx import pointwise, reductions, tensors, windows
from imgconv.nn.onnx.folding import fold
from imgconv.nn.onnx.reading import Model, read_model
from imgconv.typing import Array

# Importing them registers their operators.
BUILDERS = (pointwise, reductions, tensors, windows)
FREE_SIZE = 224  # what a free height or width is taken for, until an image comes


class OnnxGraph(Graph):
    """The graph of a model, folded for the shapes of its inputs.

    It computes on inputs of other shapes too, where the model leaves them free: `shapes` and
    `trace` fold it for them. Weights are shared by all of these.
    """

    def __init__(self, model: Model, inputs: Mapping[str, Shape] | None = None) -> None:
        self.model = model
        usual = {name: _usual(model, name) for name in model.inputs}
        folded = fold(model, usual | dict(inputs or {}))
        super().__init__(folded.inputs, folded.nodes, folded.outputs)
        self._folded: dict[tuple[Shape, ...], Graph] = {tuple(self.inputs.values()): folded}

    def at(self, shapes: Mapping[str, Shape]) -> Graph:
        """The graph for inputs of these shapes. Raises ModelError where the model forbids them."""
        wanted = {name: tuple(shapes.get(name, usual)) for name, usual in self.inputs.items()}
        key = tuple(wanted.values())
        if key not in self._folded:
            for name, shape in wanted.items():
                _check(self.model, name, shape)
            # A folded graph is small; a different one a photo would still add up.
            while len(self._folded) > 8:
                self._folded.pop(next(iter(self._folded)))
            self._folded[key] = fold(self.model, wanted)
        return self._folded[key]

    def sized(self, shapes: Mapping[str, Shape]) -> "OnnxGraph":
        for name, shape in shapes.items():
            _check(self.model, name, shape)
        return OnnxGraph(self.model, shapes)

    def shapes(self, inputs: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
        graph = self.at(inputs or {})
        return Graph.shapes(graph)

    def trace(
        self, values: Array | Mapping[str, Array], wanted: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Array]]:
        given = self._fed(values)
        graph = self.at({name: array.shape for name, array in given.items()})
        return Graph.trace(graph, given, wanted)


def load_onnx(path: str | Path, inputs: Mapping[str, Shape] | None = None) -> OnnxGraph:
    """Return the graph of a model with its weights.

    inputs: shapes by name where they are not the model's own; a free batch is 1 and a free height
    or width FREE_SIZE. Raises ModelError naming file, node and operator.
    """
    return OnnxGraph(read_model(path), inputs)


def _usual(model: Model, name: str) -> Shape:
    """An input's shape as the model declares it."""
    _, declared = model.inputs[name]
    if declared is None:
        return (1, 3, FREE_SIZE, FREE_SIZE)
    free = [1 if axis < 2 else FREE_SIZE for axis in range(len(declared))]
    if len(declared) == 4 and not isinstance(declared[1], int):
        free[1] = 3
    return tuple(
        n if isinstance(n, int) and n > 0 else free[axis] for axis, n in enumerate(declared)
    )


def _check(model: Model, name: str, shape: Shape) -> None:
    """Raise ShapeError unless an input may have this shape."""
    _, declared = model.inputs[name]
    if declared is None:
        return
    fits = len(declared) == len(shape) and all(
        not isinstance(n, int) or n in (0, got) for n, got in zip(declared, shape, strict=True)
    )
    if not fits:
        text = ", ".join(str(n) or "?" for n in declared)
        raise ShapeError(f"{model.path}: input {name!r} of shape {shape}, expected ({text})")
