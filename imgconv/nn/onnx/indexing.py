"""Builders of operators that pick and place elements by their indices, or sum along an axis.

Source of formulas: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

from collections.abc import Callable

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.layers import Layer, Shape
from imgconv.nn.layers.base import Everything
from imgconv.nn.layers.functions import reported
from imgconv.nn.layers.tensors import Constant, axis_of
from imgconv.nn.onnx.folding import Call, Use, operator
from imgconv.typing import Array


class Applied(Layer):
    """A function of arrays whose result has this shape, any part of which may depend on all."""

    name: str
    function: Callable[..., Array]
    shape: Shape

    @property
    def kind(self) -> str:
        return self.name

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Everything()

    def forward(self, *inputs: Array) -> Array:
        with np.errstate(all="ignore"), reported(self.name):
            try:
                return np.asarray(self.function(*inputs))
            except IndexError as error:
                raise ModelError(f"{self.name}: {error}") from None


@operator("CumSum", fixed=(1,))
def _cum_sum(call: Call) -> Use:
    axis = axis_of(int(call.fixed(1, "axis").reshape(-1)[0]), len(call.shape()), "CumSum")
    late, turned = bool(call.attribute("exclusive", 0)), bool(call.attribute("reverse", 0))

    def total(x: Array) -> Array:
        x = np.flip(x, axis) if turned else x
        sums = np.cumsum(x, axis, dtype=x.dtype)
        if late:
            first = np.zeros_like(np.take(sums, [0], axis)) if x.shape[axis] else sums
            rest = np.take(sums, range(max(x.shape[axis] - 1, 0)), axis)
            sums = np.concatenate([first, rest], axis)
        return np.flip(sums, axis) if turned else sums

    return Use(Applied("CumSum", total, call.shape()))


_JOINS = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _join(call: Call) -> np.ufunc | None:
    """How updates are joined with what is there; None: they replace it. Raises ModelError."""
    how = call.attribute("reduction", "none")
    if how not in _JOINS:
        raise ModelError(f"reduction={how!r}, expected {', '.join(_JOINS)}")
    return _JOINS[how]


def _place(join: np.ufunc | None, out: Array, at: tuple[Array, ...], values: Array) -> Array:
    """Elements of `out` replaced, or joined with values, one after the other."""
    if join is None:
        out[at] = values
    else:
        join.at(out, at, values)
    return out


@operator("ScatterND")
def _scatter_nd(call: Call) -> Use:
    shape, indices = call.shape(), call.shape(1)
    if not indices or indices[-1] > len(shape):
        raise ModelError(f"indices {indices} of an input {shape}")
    wanted = indices[:-1] + shape[indices[-1] :]
    if call.shape(2) != wanted:
        raise ModelError(f"updates {call.shape(2)}, expected {wanted}")
    join = _join(call)

    def scatter(x: Array, at: Array, values: Array) -> Array:
        return _place(join, x.copy(), tuple(np.moveaxis(at.astype(np.int64), -1, 0)), values)

    return Use(Applied(call.kind, scatter, shape), (0, 1, 2))


def _grid(at: Array, axis: int) -> tuple[Array, ...]:
    """The indices of elements that lie where they are but along an axis."""
    places: list[Array] = list(np.indices(at.shape, sparse=True))
    places[axis] = at.astype(np.int64)
    return tuple(places)


@operator("ScatterElements", "Scatter")
def _scatter_elements(call: Call) -> Use:
    shape = call.shape()
    axis = axis_of(call.attribute("axis", 0), len(shape), call.kind)
    if len(call.shape(1)) != len(shape) or call.shape(1) != call.shape(2):
        raise ModelError(f"indices {call.shape(1)}, updates {call.shape(2)} of an input {shape}")
    join = _join(call)

    def scatter(x: Array, at: Array, values: Array) -> Array:
        return _place(join, x.copy(), _grid(at, axis), values)

    return Use(Applied(call.kind, scatter, shape), (0, 1, 2))


@operator("GatherElements")
def _gather_elements(call: Call) -> Use:
    shape, indices = call.shape(), call.shape(1)
    axis = axis_of(call.attribute("axis", 0), len(shape), call.kind)
    if len(indices) != len(shape):
        raise ModelError(f"indices {indices} of an input {shape}")

    def gather(x: Array, at: Array) -> Array:
        found: Array = x[_grid(at, axis)]
        return found

    return Use(Applied(call.kind, gather, indices), (0, 1))


@operator("GatherND")
def _gather_nd(call: Call) -> Use:
    shape, indices = call.shape(), call.shape(1)
    batch = call.attribute("batch_dims", 0)
    if not indices or not 0 <= batch < min(len(shape), len(indices)) or (
        shape[:batch] != indices[:batch] or indices[-1] > len(shape) - batch
    ):  # fmt: skip
        raise ModelError(f"indices {indices} of an input {shape}, batch_dims={batch}")
    made = indices[:-1] + shape[batch + indices[-1] :]

    def gather(x: Array, at: Array) -> Array:
        rows = np.indices(indices[:-1], sparse=True)[:batch]
        found: Array = x[(*rows, *np.moveaxis(at.astype(np.int64), -1, 0))]
        return found

    return Use(Applied(call.kind, gather, made), (0, 1))


@operator("OneHot", fixed=(1,))
def _one_hot(call: Call) -> Use:
    depth, shape = int(call.fixed(1, "depth").reshape(-1)[0]), call.shape()
    axis = axis_of(call.attribute("axis", -1), len(shape) + 1, "OneHot")
    if depth < 1:
        raise ModelError(f"depth {depth}, expected 1 or more")

    def encode(at: Array, values: Array) -> Array:
        whole = at.astype(np.int64)
        known = np.expand_dims(np.where(whole < 0, whole + depth, whole), axis)
        places = np.arange(depth).reshape([-1 if i == axis else 1 for i in range(len(shape) + 1)])
        chosen: Array = np.where(known == places, values[1], values[0])
        return chosen

    return Use(Applied("OneHot", encode, (*shape[:axis], depth, *shape[axis:])), (0, 2))


@operator("Trilu", fixed=(1,))
def _trilu(call: Call) -> Use:
    offset = int(call.fixed(1, "k").reshape(-1)[0]) if call.has(1) else 0
    part = np.triu if call.attribute("upper", 1) else np.tril
    return Use(Applied("Trilu", lambda x: part(x, offset), call.shape()))


def _known(array: Array) -> Use:
    return Use(Constant(array.shape, parameters={"value": array}), ())


@operator("NonZero", fixed=(0,))
def _non_zero(call: Call) -> Use:
    return _known(np.array(np.nonzero(call.fixed(0, "operand")), np.int64))


@operator("Compress", fixed=(1,))
def _compress(call: Call) -> Use:
    shape, axis = call.shape(), call.attribute("axis")
    chosen = np.flatnonzero(call.fixed(1, "condition"))
    if axis is None:
        made: Shape = (len(chosen),)
    else:
        axis = axis_of(axis, len(shape), "Compress")
        made = (*shape[:axis], len(chosen), *shape[axis + 1 :])
    return Use(Applied("Compress", lambda x: np.take(x, chosen, axis), made))


@operator("Einsum")
def _einsum(call: Call) -> Use:
    text = call.attribute("equation", "").replace(" ", "")
    shapes = [call.shape(place) for place in call.places]
    with reported("Einsum"):
        made = _einsum_shape(text, shapes)

    def multiply(*inputs: Array) -> Array:
        return np.asarray(np.einsum(text, *inputs, optimize=True), inputs[0].dtype)

    return Use(Applied("Einsum", multiply, made), call.places)


def _einsum_shape(text: str, inputs: list[Shape]) -> Shape:
    """The shape of a sum of products, with nothing computed. Raises ValueError."""
    given, arrow, result = text.partition("->")
    terms = given.split(",")
    if len(terms) != len(inputs):
        raise ValueError(f"equation {text!r} for {len(inputs)} operands")
    sizes: dict[str, int] = {}
    dots: list[Shape] = []
    for term, shape in zip(terms, inputs, strict=True):
        first, several, last = term.partition("...")
        spare = len(shape) - len(first) - len(last)
        if spare < 0 or (spare and not several):
            raise ValueError(f"equation {text!r}: {term} for an operand {shape}")
        dots.append(shape[len(first) : len(first) + spare])
        ends = shape[: len(first)] + shape[len(shape) - len(last) :]
        for letter, n in zip(first + last, ends, strict=True):
            if sizes.setdefault(letter, n) != n:
                raise ValueError(f"equation {text!r}: {letter} is {sizes[letter]} and {n}")
    if not arrow:
        letters = given.replace(",", "").replace(".", "")
        once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        result = "..." * any(dots) + "".join(once)
    first, several, last = result.partition("...")
    middle = np.broadcast_shapes(*dots) if several else ()
    return (*(sizes[x] for x in first), *middle, *(sizes[x] for x in last))
