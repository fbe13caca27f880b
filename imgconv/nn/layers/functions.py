"""Functions without weights beyond the usual activations: arithmetic, reductions, products."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import Everything, Layer, Reach, Shape, all_of, along
from imgconv.nn.layers.pointwise import Elementwise
from imgconv.nn.layers.tensors import axis_of
from imgconv.typing import Array


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Turn what NumPy says of types and shapes into a ShapeError."""
    try:
        yield
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ShapeError(f"{name}: {' '.join(str(error).split())}") from None


class Function(Elementwise):
    """A function of arrays that works element by element and broadcasts as NumPy does.

    same_type: the result has the type of the first input; else what the function gives. axes: along
    which an element depends on all others (of norms, say).
    """

    name: str = ""
    function: Callable[..., Array] = np.positive
    same_type: bool = True
    axes: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        return self.name

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        whole = any(along(own, axis, before) for own in self.axes)
        return all_of(before[2 + axis]) if whole else super().reach(axis, before, after)

    def forward(self, *inputs: Array) -> Array:
        with np.errstate(all="ignore"), reported(self.name):
            result = np.asarray(self.function(*inputs))
            return result.astype(inputs[0].dtype, copy=False) if self.same_type else result


class Joined(Function):
    """A function of two inputs that loops compute of float32: `join`, a name of JOINS."""

    join: str = ""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.arithmetic import join

        out = join(self.join, *inputs) if len(inputs) == 2 else None
        return super().forward(*inputs) if out is None else out


class Reduce(Layer):
    """function(x, axis=…, keepdims=…) over some axes, over all by default."""

    name: str
    function: Callable[..., npt.ArrayLike]
    axes: tuple[int, ...] | None = None
    keepdims: bool = True
    same_type: bool = True

    @property
    def kind(self) -> str:
        return self.name

    def _axes(self, ndim: int) -> tuple[int, ...]:
        if self.axes is None:
            return tuple(range(ndim))
        return tuple(sorted({axis_of(axis, ndim, self.name) for axis in self.axes}))

    def output_shape(self, *shapes: Shape) -> Shape:
        axes = self._axes(len(shapes[0]))
        if self.keepdims:
            return tuple(1 if i in axes else n for i, n in enumerate(shapes[0]))
        return tuple(n for i, n in enumerate(shapes[0]) if i not in axes)

    def forward(self, *inputs: Array) -> Array:
        x = inputs[0]
        axes = self._axes(x.ndim)
        with np.errstate(all="ignore"), reported(self.name):
            result = np.asarray(self.function(x, axis=axes, keepdims=self.keepdims))
        return result.astype(x.dtype, copy=False) if self.same_type else result


class MatMul(Layer):
    """numpy.matmul of two inputs, by `linear`, whose sums do not depend on threads."""

    def output_shape(self, *shapes: Shape) -> Shape:
        a, b = shapes
        left = (1, *a) if len(a) == 1 else a
        right = (*b, 1) if len(b) == 1 else b
        if not a or not b or left[-1] != right[-2]:
            raise ShapeError(f"MatMul: inputs {a} and {b}, expected (…, M, K) and (…, K, N)")
        try:
            outer = np.broadcast_shapes(left[:-2], right[:-2])
        except ValueError:
            raise ShapeError(f"MatMul: inputs {a} and {b} do not fit together") from None
        return (*outer, *left[-2:-1][: len(a) > 1], *right[-1:][: len(b) > 1])

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.linear import linear

        a, b = inputs
        made = self.output_shape(a.shape, b.shape)
        if a.dtype.kind != "f":
            return np.matmul(a, b)  # type: ignore[no-any-return]
        left = a[None] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        outer = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        out = np.empty((*outer, left.shape[-2], right.shape[-1]), a.dtype)
        left = np.broadcast_to(left, (*outer, *left.shape[-2:]))
        right = np.broadcast_to(right, (*outer, *right.shape[-2:]))
        for place in np.ndindex(outer):
            out[place] = linear(left[place], right[place].T)
        return out.reshape(made)

    def multiply_adds(self, *shapes: Shape) -> int:
        return math.prod(self.output_shape(*shapes)) * shapes[0][-1]

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Everything((1 - source,))  # a row of the first, a column of the second


class LogSoftmax(Layer):
    """torch.nn.LogSoftmax over an axis."""

    axis: int = 1

    def output_shape(self, *shapes: Shape) -> Shape:
        axis_of(self.axis, len(shapes[0]), "LogSoftmax")
        return shapes[0]

    def forward(self, *inputs: Array) -> Array:
        with np.errstate(all="ignore"):
            shifted = inputs[0] - inputs[0].max(axis=self.axis, keepdims=True)
            total: Array = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        return total

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        return along(self.axis, axis, before) or super().reach(axis, before, after)


class ArgReduce(Layer):
    """numpy.argmax or argmin along an axis; last: the last of equal elements instead of the first.

    name: ArgMax or ArgMin.
    """

    name: str
    axis: int = 0
    keepdims: bool = True
    last: bool = False

    @property
    def kind(self) -> str:
        return self.name

    def output_shape(self, *shapes: Shape) -> Shape:
        axis = axis_of(self.axis, len(shapes[0]), self.name)
        kept = (1,) if self.keepdims else ()
        return (*shapes[0][:axis], *kept, *shapes[0][axis + 1 :])

    def forward(self, *inputs: Array) -> Array:
        x = inputs[0]
        find = np.argmax if self.name == "ArgMax" else np.argmin
        if not self.last:
            return np.asarray(find(x, axis=self.axis, keepdims=self.keepdims))
        at = find(np.flip(x, self.axis), axis=self.axis, keepdims=self.keepdims)
        return np.asarray(x.shape[self.axis] - 1 - at)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        return along(self.axis, axis, before) or super().reach(axis, before, after)


class TopK(Layer):
    """The k largest (or smallest) elements along an axis in order, and their indices."""

    k: int
    axis: int = -1
    largest: bool = True

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        axis = axis_of(self.axis, len(shapes[0]), "TopK")
        if not 0 <= self.k <= shapes[0][axis]:
            raise ShapeError(f"TopK: k={self.k} of {shapes[0][axis]} elements")
        return ((*shapes[0][:axis], self.k, *shapes[0][axis + 1 :]),) * 2

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.output_shapes(*shapes)[0]

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        x = np.moveaxis(inputs[0], self.axis, -1)
        if self.largest:  # the first of equal elements comes first
            order = x.shape[-1] - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
        else:
            order = np.argsort(x, axis=-1, kind="stable")
        order = order[..., : self.k]
        values = np.take_along_axis(x, order, -1)
        return np.moveaxis(values, -1, self.axis), np.moveaxis(order, -1, self.axis)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        return along(self.axis, axis, before) or super().reach(axis, before, after)
