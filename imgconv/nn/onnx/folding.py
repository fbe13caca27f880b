"""From a model's operations to a graph of layers, for inputs of fixed shape.

With the inputs' shapes fixed all arithmetic on shapes is constant (Shape, Gather, Concat,
ConstantOfShape, …): it is computed once, here, and what remains reads the image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from imgconv.errors import ModelError, ShapeError
from imgconv.nn.graph import Graph, Node, topological
from imgconv.nn.layers import Layer, Shape
from imgconv.nn.layers.tensors import Constant
from imgconv.nn.layers.wrappers import Bound
from imgconv.nn.onnx import sequences
from imgconv.nn.onnx.operation import Operation
from imgconv.nn.onnx.reading import MAX_ELEMENTS, Model
from imgconv.typing import Array

T = TypeVar("T")

# Bytes of all constants that folding may make: twice VGG-19's weights, which ONNX's own models fill
# in so.
MAX_CONSTANTS = 1 << 30


@dataclass(frozen=True)
class Use:
    """A layer and the operands that it reads, by position."""

    layer: Layer
    places: tuple[int, ...] = (0,)


class Call:
    """What an operator's builder knows: attributes, opset, and its operands as far as known.

    shapes: of every operand, None for one left out. constants: its array where it depends on no
    input, else None. turned: transposes of constants by their identity.
    """

    def __init__(
        self, operation: Operation, opset: int, shapes: Sequence[Shape | None],
        constants: Sequence[Array | None], turned: dict[int, Array],
    ) -> None:  # fmt: skip
        self._turned = turned
        self.operation = operation
        self.opset = opset
        self.shapes = shapes
        self.constants = constants

    @property
    def kind(self) -> str:
        """The operator."""
        return self.operation.kind

    @property
    def places(self) -> tuple[int, ...]:
        """Positions of the operands that are given."""
        return tuple(place for place, shape in enumerate(self.shapes) if shape is not None)

    def has(self, place: int) -> bool:
        """Whether an operand is given."""
        return place < len(self.shapes) and self.shapes[place] is not None

    def shape(self, place: int = 0) -> Shape:
        """An operand's shape. Raises ModelError where it was left out."""
        found = self.shapes[place] if place < len(self.shapes) else None
        if found is None:
            raise ModelError(f"operand {place} is missing")
        return found

    @overload
    def attribute(self, name: str, default: T) -> T: ...
    @overload
    def attribute(self, name: str) -> Any: ...
    def attribute(self, name: str, default: object = None) -> object:
        """An attribute's value, whose type was checked when the model was read."""
        return self.operation.attributes.get(name, default)

    def constant(self, place: int) -> Array | None:
        """An operand's array where it is known."""
        return self.constants[place] if place < len(self.constants) else None

    def transposed(self, place: int) -> Array:
        """The transpose of a known operand: one array, however many operators use it."""
        matrix = self.constants[place]
        assert matrix is not None
        if id(matrix) not in self._turned:
            self._turned[id(matrix)] = np.ascontiguousarray(matrix.T)
        return self._turned[id(matrix)]

    def fixed(self, place: int, name: str) -> Array:
        """An operand that must not depend on the image. Raises ModelError."""
        found = self.constant(place)
        if found is None:
            self.shape(place)
            value = self.operation.operands[place]
            raise ModelError(
                f"its {name} depends on the image, expected a constant; --outputs {value} stops "
                "before it"
            )
        return found

    def numbers(self, place: int, name: str) -> list[int]:
        """A fixed operand's integers, or those of the attribute that it was in older opsets."""
        if self.has(place):
            return [int(n) for n in self.fixed(place, name).reshape(-1)]
        return [int(n) for n in self.attribute(name) or ()]


Builder = Callable[[Call], Use]
OPERATORS: dict[str, Builder] = {}
# Operands that must be constants, by operator.
FIXED: dict[str, tuple[int, ...]] = {}


def operator(*kinds: str, fixed: tuple[int, ...] = ()) -> Callable[[Builder], Builder]:
    """Register the builder of some operators; fixed: operands that must not depend on the image."""

    def register(builder: Builder) -> Builder:
        for kind in kinds:
            OPERATORS[kind] = builder
            FIXED[kind] = fixed
        return builder

    return register


def supported(model: Model) -> None:
    """Raise ModelError naming the first operation whose operator there is not."""
    for operation in model.operations:
        if not _is_known(operation):
            raise ModelError(
                f"{model.path}: {operation.title}: the operator is not supported{_way_out(model)}"
            )


def _is_known(operation: Operation) -> bool:
    return operation.kind in OPERATORS or operation.kind in sequences.KINDS


def _way_out(model: Model) -> str:
    """Which values can be had without the operators that there are not, for a message."""
    lost: set[str] = set()
    whole: list[str] = []
    made = {name for operation in model.operations for name in operation.outputs}
    for operation in topological(model.operations, [*model.inputs, *model.constants]):
        if _is_known(operation) and lost.isdisjoint(operation.inputs):
            continue
        lost.update(operation.outputs)
        whole += [name for name in operation.inputs if name in made and name not in lost]
    whole += [name for name in model.outputs if name in made]
    ends = [name for name in dict.fromkeys(whole) if name not in lost]
    if not ends:
        return ""
    return f"; --outputs {','.join(ends)} leaves it out" if len(ends) < 9 else (
        "; --outputs NAME,… leaves it out, with values before it"
    )  # fmt: skip


def fold(model: Model, shapes: Mapping[str, Shape]) -> Graph:
    """Return the graph for inputs of these shapes.

    Raises ModelError naming file, operator and node for what cannot be built, for shapes that do
    not fit, and for values larger than MAX_ELEMENTS.
    """
    supported(model)
    for name, shape in shapes.items():
        if math.prod(shape) > MAX_ELEMENTS:
            raise ModelError(
                f"{model.path}: input {name!r} of shape {shape}, at most {MAX_ELEMENTS} elements"
            )
    try:
        order = topological(model.operations, [*model.inputs, *model.constants])
    except ModelError as error:
        raise ModelError(f"{model.path}: {error}") from None
    folding = _Folding(model, shapes)
    for operation in order:
        try:
            folding.add(operation)
        except (ModelError, ShapeError) as error:
            raise ModelError(f"{model.path}: {operation.title}: {error}") from None
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            # Attributes of the wrong type or length, which builders take as they are.
            line = " ".join(str(error).split())
            raise ModelError(f"{model.path}: {operation.title}: malformed: {line}") from None
    return folding.graph()


class _Folding:
    def __init__(self, model: Model, shapes: Mapping[str, Shape]) -> None:
        self.model = model
        self.inputs = dict(shapes)
        self.shapes: dict[str, Shape] = dict(shapes)
        self.constants: dict[str, Array] = dict(model.constants)
        self.turned: dict[int, Array] = {}
        self.nodes: list[Node] = []
        self.made = 0
        self.dropped: dict[str, str] = {}
        self.sequences = sequences.Sequences(self.constants.get, self._shape)

    def _shape(self, name: str) -> Shape:
        array = self.constants.get(name)
        return self.shapes[name] if array is None else array.shape

    def add(self, operation: Operation) -> None:
        if operation.kind in sequences.KINDS:
            for step in self.sequences.steps(operation):
                self.add(step)
            return
        for name in operation.inputs:
            if name in self.dropped:
                raise ModelError(f"reads {name!r}, {self.dropped[name]}")
        constants = [self.constants.get(name) if name else None for name in operation.operands]
        shapes = [None if not name else self._shape(name) for name in operation.operands]
        call = Call(operation, self.model.opset, shapes, constants, self.turned)
        use = OPERATORS[operation.kind](call)
        arrays = [constants[place] for place in use.places]
        made = use.layer.output_shapes(*(call.shape(place) for place in use.places))
        for shape in made:
            if math.prod(shape) > MAX_ELEMENTS:
                raise ModelError(f"a result of shape {shape}, at most {MAX_ELEMENTS} elements")
        for name in operation.results[len(made) :]:
            if name:
                self.dropped[name] = f"an output of {operation.title} that is not supported"
        known = [array for array in arrays if array is not None]
        if len(known) == len(arrays):
            self._fold(operation, use.layer, known, made)
        else:
            self._keep(operation, use, arrays, made)

    def _fold(
        self,
        operation: Operation,
        layer: Layer,
        arrays: list[Array],
        made: tuple[Shape, ...],
    ) -> None:
        if self.made + 4 * sum(map(math.prod, made)) > MAX_CONSTANTS:
            raise ModelError(f"its constants pass {MAX_CONSTANTS} bytes in all")
        for name, array in zip(operation.results, layer.run(*arrays), strict=False):
            self.made += array.nbytes
            if name:
                self.constants[name] = array

    def _keep(
        self, operation: Operation, use: Use, arrays: list[Array | None], made: tuple[Shape, ...]
    ) -> None:
        fixed = {place: array for place, array in enumerate(arrays) if array is not None}
        layer = use.layer
        if fixed:
            shapes = {place: array.shape for place, array in fixed.items()}
            named = {f"input{place}": array for place, array in fixed.items()}
            layer = Bound(layer, shapes, parameters=named)
        reads = [operation.operands[place] for place in use.places]
        names = tuple(
            name or f"{operation.name}:{number}"
            for number, name in enumerate((*operation.results, *[""] * len(made))[: len(made)])
        )
        inputs = tuple(
            name for name, array in zip(reads, arrays, strict=True) if array is None
        )  # fmt: skip
        self.nodes.append(Node(operation.name, layer, inputs, names))
        self.shapes.update(zip(names, made, strict=True))

    def graph(self) -> Graph:
        held = self.sequences.held
        outputs = [part for name in self.model.outputs for part in held.get(name, (name,))]
        for name in outputs:
            if name in self.dropped:
                raise ModelError(f"{self.model.path}: output {name!r}, {self.dropped[name]}")
            if name in self.constants:
                array = np.asarray(self.constants[name])
                layer = Constant(array.shape, parameters={"value": array})
                self.nodes.append(Node(f"constant:{name}", layer, (), (name,)))
        try:
            return Graph(self.inputs, self.nodes, outputs)
        except ModelError as error:
            raise ModelError(f"{self.model.path}: {error}") from None
