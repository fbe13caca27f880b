"""Layers that feed another layer: with fixed inputs, with weights as inputs, in another shape."""

import math
from collections.abc import Mapping
from typing import TypeVar

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import Everything, Layer, Shape
from imgconv.typing import Array

T = TypeVar("T")


class _Wrapper(Layer):
    layer: Layer

    @property
    def kind(self) -> str:
        return self.layer.kind

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return self.layer.between(source, output, given)


class Bound(_Wrapper):
    """A layer some of whose inputs are constants: position → shape.

    They are parameters `input0`, `input1`, …; with all of them the layer is a constant itself.
    """

    fixed: Mapping[int, Shape]

    def parameter_shapes(self) -> dict[str, Shape]:
        return {f"input{place}": shape for place, shape in self.fixed.items()}

    def _merged(self, fixed: Mapping[int, T], given: tuple[T, ...]) -> list[T]:
        rest = iter(given)
        total = len(fixed) + len(given)
        return [fixed[place] if place in fixed else next(rest) for place in range(total)]

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return self.layer.output_shapes(*self._merged(self.fixed, shapes))

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.output_shapes(*shapes)[0]

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        free = [p for p in range(len(self.fixed) + len(given)) if p not in self.fixed]
        every = tuple(self._merged(self.fixed, given))
        return self.layer.between(free[source], output, every)

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        fixed = {place: self.parameter(f"input{place}") for place in self.fixed}
        return self.layer.run(*self._merged(fixed, inputs))

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.layer.multiply_adds(*self._merged(self.fixed, shapes))


class Fed(_Wrapper):
    """A layer whose parameters are computed by other layers: its further inputs, in this order."""

    names: tuple[str, ...]

    def _check(self, shapes: tuple[Shape, ...]) -> None:
        wanted = self.layer.parameter_shapes()
        for name, shape in zip(self.names, shapes[1:], strict=True):
            if wanted.get(name) != shape:
                raise ShapeError(f"{name} of shape {shape}, expected {wanted.get(name)}")

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        self._check(shapes)
        return self.layer.output_shapes(shapes[0])

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.output_shapes(*shapes)[0]

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Everything() if source else self.layer.between(0, output, given[:1])

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        arrays = dict(zip(self.names, inputs[1:], strict=True))
        return self.layer.with_parameters(arrays).run(inputs[0])

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.layer.multiply_adds(shapes[0])


class Viewed(_Wrapper):
    """A layer of one input that sees it in the shape `before`; its result gets the shape `after`.

    So a 2-D layer serves maps of one spatial axis, (N, C, L) seen as (N, C, 1, L).
    """

    before: Shape
    after: Shape

    def __post_init__(self) -> None:
        if self.parameters:
            object.__setattr__(self, "layer", self.layer.with_parameters(self.parameters))

    def parameter_shapes(self) -> dict[str, Shape]:
        return self.layer.parameter_shapes()

    def output_shape(self, *shapes: Shape) -> Shape:
        made = self.layer.output_shape(self.before)
        if math.prod(shapes[0]) != math.prod(self.before) or math.prod(made) != math.prod(
            self.after
        ):
            raise ShapeError(
                f"{self.kind}: input {shapes[0]} seen as {self.before}, output {made} "
                f"as {self.after}"
            )
        return self.after

    def forward(self, *inputs: Array) -> Array:
        return self.layer.forward(inputs[0].reshape(self.before)).reshape(self.after)

    def multiply_adds(self, *shapes: Shape) -> int:
        return self.layer.multiply_adds(self.before)

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Everything()
