"""Layers that move elements and compute nothing: views, cuts, joins and repetitions.

Axes and shapes are those of NumPy, batch included.
"""

import math

import numpy as np

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import NOWHERE, POINT, Layer, Places, Reach, Shape, all_of, padded
from imgconv.typing import Array


def axis_of(axis: int, ndim: int, operation: str) -> int:
    """The axis counted from the front. Raises ShapeError where there is none."""
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{operation}: axis {axis} of {ndim} axes")
    return axis % ndim


class Constant(Layer):
    """A value that depends on no input: the parameter `value`."""

    shape: Shape

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"value": self.shape}

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape

    def forward(self, *inputs: Array) -> Array:
        return self.parameter("value")


class Filled(Layer):
    """An array of one number, in its type."""

    shape: Shape
    value: np.generic

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape

    def forward(self, *inputs: Array) -> Array:
        return np.full(self.shape, self.value)


class Reshape(Layer):
    """numpy.reshape to a shape in which one number may be −1."""

    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        total, known = math.prod(shapes[0]), math.prod(n for n in self.shape if n != -1)
        free = self.shape.count(-1)
        if (
            free > 1
            or any(n < -1 for n in self.shape)
            or (total != known if not free else not known or total % known)
        ):
            raise ShapeError(f"Reshape: input {shapes[0]} of {total} elements to {self.shape}")
        return tuple(total // known if n == -1 else n for n in self.shape)

    def forward(self, *inputs: Array) -> Array:
        return inputs[0].reshape(self.output_shape(inputs[0].shape))

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        # Rows and columns survive only where channels alone are regrouped.
        if len(before) > 2 and before[-2:] == after[-2:]:
            return POINT
        return super().reach(axis, before, after)


class Transpose(Layer):
    """numpy.transpose; order: the input's axis for every axis of the output."""

    order: tuple[int, ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        if sorted(self.order) != list(range(len(shapes[0]))):
            raise ShapeError(f"Transpose: order {self.order} of {len(shapes[0])} axes")
        return tuple(shapes[0][axis] for axis in self.order)

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.arithmetic import transpose

        return transpose(inputs[0], self.order)

    @property
    def turns(self) -> bool:
        return self.order[2:] == (3, 2)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if self.turns or self.order[-2:] == tuple(range(len(before)))[-2:]:
            return POINT
        return all_of(before[2 + axis] if len(before) == 4 else 1)


class Slice(Layer):
    """A part of every axis: (start, stop, step) as Python's slices have them."""

    parts: tuple[tuple[int | None, int | None, int], ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(self.parts) != len(shapes[0]):
            raise ShapeError(f"Slice: {len(self.parts)} parts of {len(shapes[0])} axes")
        return tuple(
            len(range(*slice(*part).indices(n)))
            for part, n in zip(self.parts, shapes[0], strict=True)
        )

    def forward(self, *inputs: Array) -> Array:
        return inputs[0][tuple(slice(*part) for part in self.parts)]

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if len(before) != 4:
            return super().reach(axis, before, after)
        start, _, step = slice(*self.parts[2 + axis]).indices(before[2 + axis])
        return Reach(1, step, -start)


class Pad(Layer):
    """numpy.pad with (before, after) for every axis; negative numbers cut.

    mode: constant, reflect, edge or wrap.
    """

    amounts: tuple[tuple[int, int], ...]
    mode: str = "constant"
    value: float = 0.0

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(self.amounts) != len(shapes[0]):
            raise ShapeError(f"Pad: {len(self.amounts)} pairs for {len(shapes[0])} axes")
        made = tuple(n + sum(pair) for n, pair in zip(shapes[0], self.amounts, strict=True))
        kept = [
            n + sum(min(p, 0) for p in pair)
            for n, pair in zip(shapes[0], self.amounts, strict=True)
        ]
        if min(kept, default=0) < 0 or (self.mode != "constant" and 0 in kept and 0 not in made):
            raise ShapeError(f"Pad: input {shapes[0]} by {self.amounts}, nothing is left")
        return made

    def forward(self, *inputs: Array) -> Array:
        x = inputs[0]
        self.output_shape(x.shape)
        cut = tuple(
            slice(max(-a, 0), n - max(-b, 0))
            for n, (a, b) in zip(x.shape, self.amounts, strict=True)
        )
        grow = [(max(a, 0), max(b, 0)) for a, b in self.amounts]
        if self.mode == "constant":
            return np.pad(x[cut], grow, "constant", constant_values=x.dtype.type(self.value))
        return np.pad(x[cut], grow, self.mode)  # type: ignore[call-overload,no-any-return]

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if len(before) != 4:
            return super().reach(axis, before, after)
        return Reach(1, 1, self.amounts[2 + axis][0])

    def seen(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        size, places = before[2 + axis], self.taps(axis, units, before, after)
        near, far = self.amounts[2 + axis]
        # Negative amounts cut before the rest is padded.
        first, last = max(-near, 0), size - max(-far, 0)
        mode = {"constant": "zeros", "edge": "replicate", "wrap": "circular"}.get(
            self.mode, self.mode
        )
        found = padded(places - first, last - first, mode, max(near, 0), max(far, 0))
        return np.where(found == NOWHERE, NOWHERE, found + first)


class Split(Layer):
    """Parts of the given sizes along an axis, one output each."""

    sizes: tuple[int, ...]
    axis: int = 1

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        axis = axis_of(self.axis, len(shapes[0]), "Split")
        if sum(self.sizes) != shapes[0][axis] or min(self.sizes, default=0) < 0:
            raise ShapeError(f"Split: {shapes[0]} at axis {axis} into {self.sizes}")
        return tuple((*shapes[0][:axis], n, *shapes[0][axis + 1 :]) for n in self.sizes)

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.output_shapes(*shapes)[0]

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        return tuple(np.split(inputs[0], np.cumsum(self.sizes)[:-1], self.axis))

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        start = sum(self.sizes[:output])
        parts: list[tuple[int | None, int | None, int]] = [(None, None, 1)] * len(given[0])
        parts[self.axis] = (start, start + self.sizes[output], 1)
        return Slice(tuple(parts))


class Gather(Layer):
    """numpy.take of the second input's indices along an axis of the first."""

    axis: int = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        axis = axis_of(self.axis, len(shapes[0]), "Gather")
        return (*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])

    def forward(self, *inputs: Array) -> Array:
        try:
            return np.take(inputs[0], inputs[1].astype(np.int64), self.axis)
        except IndexError as error:
            raise ShapeError(f"Gather: {error}") from None

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if len(before) == 4 and self.axis % 4 < 2 and before[2:] == after[-2:]:
            return POINT
        return all_of(before[2 + axis] if len(before) == 4 else 1)


class Expand(Layer):
    """The input broadcast against a shape."""

    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        try:
            return np.broadcast_shapes(shapes[0], self.shape)
        except ValueError:
            raise ShapeError(f"Expand: input {shapes[0]} to {self.shape}") from None

    def forward(self, *inputs: Array) -> Array:
        return np.broadcast_to(inputs[0], self.output_shape(inputs[0].shape))

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        repeated = len(before) == 4 and before[2 + axis] == 1 != after[2 + axis]
        return Reach(1, 0) if repeated else super().reach(axis, before[:2] + after[2:], after)


class Tile(Layer):
    """numpy.tile with one count an axis."""

    repeats: tuple[int, ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(self.repeats) != len(shapes[0]) or min(self.repeats, default=0) < 0:
            raise ShapeError(f"Tile: repeats {self.repeats} of input {shapes[0]}")
        return tuple(n * times for n, times in zip(shapes[0], self.repeats, strict=True))

    def forward(self, *inputs: Array) -> Array:
        return np.tile(inputs[0], self.repeats)

    def seen(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        return units[:, None] % before[2 + axis]


class Rearrange(Layer):
    """A view of shape `split`, its axes in another order, then the shape `joined`.

    So pixels become channels or the other way round, as in torch.nn.PixelShuffle.
    """

    name: str
    split: Shape
    order: tuple[int, ...]
    joined: Shape

    @property
    def kind(self) -> str:
        return self.name

    def output_shape(self, *shapes: Shape) -> Shape:
        if math.prod(self.split) != math.prod(shapes[0]):
            raise ShapeError(f"{self.name}: input {shapes[0]} as {self.split}")
        return self.joined

    def forward(self, *inputs: Array) -> Array:
        return inputs[0].reshape(self.split).transpose(self.order).reshape(self.joined)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if len(before) != 4:
            return super().reach(axis, before, after)
        # A block of input rows for each output row, or one input row for several.
        from fractions import Fraction

        stride = Fraction(before[2 + axis], after[2 + axis])
        return Reach(max(1, round(stride)), stride)


class Cast(Layer):
    """The input as another type."""

    dtype: np.dtype[np.generic]

    def forward(self, *inputs: Array) -> Array:
        with np.errstate(all="ignore"):
            return inputs[0].astype(self.dtype, copy=False)
