"""Layers without a window: activations, identities, and what joins branches."""

import math

import numpy as np

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import Layer, Reach, Shape, along
from imgconv.typing import Array


class Activation(Layer):
    """An element-wise activation, by the text that `pointwise.parse_activation` takes."""

    name: str

    @property
    def kind(self) -> str:
        return self.name

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.activation import activate

        return activate(inputs[0], self.name)


class Softmax(Layer):
    """torch.nn.Softmax over an axis."""

    axis: int = 1

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.activation import softmax

        return softmax(inputs[0], self.axis)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        return along(self.axis, axis, before) or super().reach(axis, before, after)


class Identity(Layer):
    """The input itself."""

    def forward(self, *inputs: Array) -> Array:
        return inputs[0]


class Dropout(Identity):
    """torch.nn.Dropout in evaluation: the identity."""

    p: float = 0.5


class Flatten(Layer):
    """torch.nn.Flatten: axes from start_axis on become one."""

    start_axis: int = 1

    def output_shape(self, *given: Shape) -> Shape:
        return (*given[0][: self.start_axis], math.prod(given[0][self.start_axis :]))

    def forward(self, *inputs: Array) -> Array:
        return inputs[0].reshape(self.output_shape(inputs[0].shape))


class Elementwise(Layer):
    """Two or more inputs by NumPy's broadcasting; the activation comes last."""

    activation: str | None = None

    def output_shape(self, *given: Shape) -> Shape:
        try:
            return np.broadcast_shapes(*given)
        except ValueError:
            names = " and ".join(map(str, given))
            raise ShapeError(f"{self.kind}: inputs {names} do not fit together") from None

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        repeated = len(before) == 4 and before[2 + axis] == 1 != after[2 + axis]
        return Reach(1, 0) if repeated else super().reach(axis, before[:2] + after[2:], after)

    def _finish(self, result: Array) -> Array:
        if self.activation is None:
            return result
        from imgconv.ops.activation import activate

        own = result if result.dtype in (np.float32, np.float64) else None
        return activate(result, self.activation, out=own)


class Add(Elementwise):
    """The sum of its inputs."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.arithmetic import add

        if len(inputs) == 1:
            return self._finish(inputs[0].copy())
        result = inputs[0]
        for more in inputs[1:-1]:
            result = add(result, more)
        return add(result, inputs[-1], self.activation)


class Mul(Elementwise):
    """The product of its inputs."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.arithmetic import multiply

        if len(inputs) == 1:
            return self._finish(inputs[0].copy())
        result = inputs[0]
        for more in inputs[1:-1]:
            result = multiply(result, more)
        return multiply(result, inputs[-1], self.activation)


class Concat(Layer):
    """Its inputs one after the other along an axis, channels by default."""

    axis: int = 1

    def output_shape(self, *given: Shape) -> Shape:
        axes = len(given[0])
        if not isinstance(self.axis, int) or not -axes <= self.axis < axes:
            raise ShapeError(f"Concat: axis={self.axis!r}, expected {-axes} to {axes - 1}")
        axis = self.axis % axes
        others = {shape[:axis] + shape[axis + 1 :] for shape in given}
        if len(others) != 1:
            names = " and ".join(map(str, given))
            raise ShapeError(f"Concat: inputs {names} differ beyond axis {axis}")
        total = sum(shape[axis] for shape in given)
        return (*given[0][:axis], total, *given[0][axis + 1 :])

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        from imgconv.nn.layers.tensors import Pad

        axis = self.axis % len(given[0])
        sizes = [shape[axis] for shape in given]
        amounts = [(0, 0)] * len(given[0])
        amounts[axis] = sum(sizes[:source]), sum(sizes[source + 1 :])
        return Pad(tuple(amounts))

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.arithmetic import concatenate

        return concatenate(inputs, self.axis)
