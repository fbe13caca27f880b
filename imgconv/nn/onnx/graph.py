"""The graph of an ONNX model, which fits itself to the shapes of its inputs."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from imgconv.errors import ImgconvError, ModelError, ShapeError
from imgconv.nn.graph import Graph
from imgconv.nn.layers import Shape
from imgconv.nn.onnx import (
    indexing,
    normalization,
    pointwise,
    quantization,
    recurrent,
    reductions,
    tensors,
    windows,
)
from imgconv.nn.onnx.folding import fold, supported
from imgconv.nn.onnx.images import shown
from imgconv.nn.onnx.reading import MAX_ELEMENTS, Dimension, Model, read_model
from imgconv.typing import Array

# Importing them registers their operators; named so that the imports are not taken for unused.
BUILDERS = (
    indexing,
    normalization,
    pointwise,
    quantization,
    recurrent,
    reductions,
    tensors,
    windows,
)
# What a free height and width are taken for until an image comes: the first that fits.
FREE_SIZES = (224, 256, 320, 640, 48, 32, 64, 128, 512)


class OnnxGraph(Graph):
    """The graph of a model, folded for the shapes of its inputs.

    It computes on inputs of other shapes too, where the model leaves them free: `shapes` and
    `trace` fold it for them. Weights are shared by all of these.
    """

    def __init__(self, model: Model, inputs: Mapping[str, Shape] | None = None) -> None:
        self.model = model
        folded = _folded(model, dict(inputs or {}))
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
    or width the first of FREE_SIZES that fits. Raises ModelError naming file, node and operator.
    """
    return OnnxGraph(read_model(path), inputs)


def _folded(model: Model, given: dict[str, Shape]) -> Graph:
    """The model folded for these shapes; where it leaves others free, for usual ones."""
    supported(model)
    if given.keys() >= model.inputs.keys() or not any(
        is_free(n) for _, declared in model.inputs.values() for n in (declared or ("",) * 4)[2:]
    ):
        return fold(model, {name: usual(model, name) for name in model.inputs} | given)
    first: ImgconvError | None = None
    for size in FREE_SIZES:
        try:
            return fold(model, {name: usual(model, name, size) for name in model.inputs} | given)
        except (ModelError, ShapeError) as error:
            first = first or error
    raise ModelError(
        f"{first}; its height and width are free, and of {FREE_SIZES[0]} here: --size HxW may help"
    )


def is_free(n: Dimension) -> bool:
    """Whether a declared length is none: a name, 0, or −1 as some exporters write it."""
    return not isinstance(n, int) or n < 1


def usual(model: Model, name: str, size: int = FREE_SIZES[0]) -> Shape:
    """An input's shape as the model declares it; a free height and width are `size`."""
    _, declared = model.inputs[name]
    declared = ("",) * 4 if declared is None else declared
    free = [1 if axis < 2 else size for axis in range(len(declared))]
    if len(declared) == 4:
        free[1] = 3
    return tuple(free[axis] if is_free(n) else int(n) for axis, n in enumerate(declared))


def _check(model: Model, name: str, shape: Shape) -> None:
    """Raise ShapeError unless an input may have this shape."""
    if math.prod(shape) > MAX_ELEMENTS:
        raise ShapeError(f"an input of shape {shape}, expected at most {MAX_ELEMENTS} elements")
    _, declared = model.inputs[name]
    if declared is None:
        return
    fits = len(declared) == len(shape) and all(
        is_free(n) or n == got for n, got in zip(declared, shape, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"{model.path}: input {name!r} of shape {shape}, expected {shown(declared)}"
        )
