"""Recurrent layers, as text recognizers have them behind their convolutions.

Source of formulas: ONNX operators RNN, GRU and LSTM, and ONNX Runtime's DynamicQuantizeLSTM.
"""

from collections.abc import Callable
from dataclasses import field

import numpy as np

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import Everything, Layer, Shape
from imgconv.nn.layers.quantized import DynamicQuantizeLinear
from imgconv.ops.exact import Part, parts
from imgconv.ops.linear import linear
from imgconv.typing import Array


def _sigmoid(x: Array) -> Array:
    from imgconv.ops.activation import activate

    return activate(x, "sigmoid")


def _tanh(x: Array) -> Array:
    from imgconv.ops.activation import activate

    return activate(x, "tanh")


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": _sigmoid, "Tanh": _tanh, "Relu": _relu,
}  # fmt: skip
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


class Matrix:
    """A matrix (outputs, features) that rows are multiplied by, quantized where it has a scale.

    given: the operands that it was made of.
    """

    def __init__(
        self, matrix: Array, scale: Array | None = None, zero: Array | None = None,
        given: tuple[Array, ...] = (),
    ) -> None:  # fmt: skip
        self.given = given
        self.matrix = np.ascontiguousarray(matrix)
        self.scale = scale
        self.parts: list[Part] | None = None
        if scale is not None and zero is not None:
            self.matrix = self.matrix.astype(np.float64) - zero.reshape(-1, 1)
            self.parts = parts(self.matrix, 255)  # bytes, and differences of bytes

    def __call__(self, rows: Array) -> Array:
        if self.scale is None:
            return linear(rows, self.matrix)
        levels, scale, zero = DynamicQuantizeLinear().run(rows)
        moved = levels.astype(np.float32) - zero
        if self.parts is None:
            sums = moved @ self.matrix.T
        else:
            each = [linear(moved[:, part], weights) for part, weights in self.parts]
            sums = each[0] if len(each) == 1 else np.sum(each, 0, np.float64)
        product: Array = sums.astype(np.float32) * (scale * self.scale.reshape(-1))
        return product


class Recurrent(Layer):
    """RNN, GRU or LSTM over x (T, N, I): all states (T, D, N, H), and the last of each (D, N, H).

    name: of the operator. ways: forward, reverse or bidirectional, which has two directions D.
    activations: by direction. given: which of x, W, R, B, lengths, initial h, initial c, P there
    are; then, for quantized weights (I, gates · H), W's scale and zero point and R's. by_item:
    shapes begin with N. after: GRU's reset gate works behind its product.
    """

    name: str
    hidden: int
    given: tuple[int, ...]
    ways: str = "forward"
    activations: tuple[tuple[str, ...], ...] = ()
    after: bool = False
    clip: float = 0.0
    by_item: bool = False
    quantized: bool = False
    matrices: dict[tuple[int, int], Matrix] = field(default_factory=dict)  # of the last run

    @property
    def kind(self) -> str:
        return self.name

    @property
    def directions(self) -> int:
        """One, or two."""
        return 2 if self.ways == "bidirectional" else 1

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        rows, count, hidden = GATES[self.name] * self.hidden, self.directions, self.hidden
        found = dict(zip(self.given, shapes, strict=True))
        x = found[0]
        if len(x) != 3:
            raise ShapeError(f"{self.name}: input {x}, expected (T, N, I)")
        length, items = (x[1], x[0]) if self.by_item else x[:2]
        first = (items, count, hidden) if self.by_item else (count, items, hidden)
        wanted = {
            1: (count, rows, x[2]), 2: (count, rows, hidden), 3: (count, 2 * rows), 4: (items,),
            5: first, 6: first, 7: (count, 3 * hidden),
        }  # fmt: skip
        if self.quantized:
            wanted |= {1: (count, x[2], rows), 2: (count, hidden, rows)}
        for place, shape in wanted.items():
            if place in found and found[place] != shape:
                raise ShapeError(
                    f"{self.name}: operand {place} of shape {found[place]}, expected {shape}"
                )
        whole = (length, count, items, hidden)
        if self.by_item:
            whole = (items, length, count, hidden)
        return (whole, first, first)[: 3 if self.name == "LSTM" else 2]

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.output_shapes(*shapes)[0]

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> Layer:
        return Everything()

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        found: dict[int, Array] = dict(zip(self.given, inputs, strict=True))
        x = found[0].swapaxes(0, 1) if self.by_item else found[0]
        shape = (x.shape[1], self.hidden)
        results = []
        for way in range(self.directions):
            turned = way == 1 or self.ways == "reverse"
            steps = x[::-1] if turned else x
            state = [self._initial(found, place, way, shape) for place in (5, 6)]
            states, last = self._walk(steps, found, way, state)
            results.append((states[::-1] if turned else states, *last))
        whole = np.stack([result[0] for result in results], axis=1)
        ends = [np.stack(parts) for parts in zip(*(result[1:] for result in results), strict=True)]
        if self.by_item:
            return whole.transpose(2, 0, 1, 3), *(end.swapaxes(0, 1) for end in ends)
        return whole, *ends

    def _initial(self, found: dict[int, Array], place: int, way: int, shape: Shape) -> Array:
        if place not in found:
            return np.zeros(shape, found[0].dtype)
        return found[place][:, way] if self.by_item else found[place][way]

    def _matrix(self, found: dict[int, Array], place: int, way: int) -> Matrix:
        if not self.quantized:
            return Matrix(found[place][way])
        at = 6 + 2 * place  # W's scale and zero point are 8 and 9, R's 10 and 11
        given, kept = (found[place], found[at], found[at + 1]), self.matrices.get((place, way))
        if kept is None or any(a is not b for a, b in zip(kept.given, given, strict=True)):
            matrix, scale, zero = (operand[way] for operand in given)
            kept = self.matrices[place, way] = Matrix(matrix.T, scale, zero, given)
        return kept

    def _walk(
        self, x: Array, found: dict[int, Array], way: int, state: list[Array]
    ) -> tuple[Array, list[Array]]:
        """All states of one direction, and the last of h, and of c where there is one."""
        rows = GATES[self.name] * self.hidden
        bias = found[3][way] if 3 in found else np.zeros(2 * rows, x.dtype)
        peep = found[7][way] if 7 in found else np.zeros(3 * self.hidden, x.dtype)
        inner = self._matrix(found, 2, way)
        outer = self._matrix(found, 1, way)(x.reshape(-1, x.shape[2])).reshape(*x.shape[:2], rows)
        functions = [ACTIVATIONS[name] for name in self.activations[way]]
        states = np.empty((*x.shape[:2], self.hidden), x.dtype)
        h, c = state
        with np.errstate(all="ignore"):
            for step, given in enumerate(outer + bias[:rows]):
                if self.name == "LSTM":
                    h, c = self._lstm(given + inner(h) + bias[rows:], c, peep, functions)
                elif self.name == "GRU":
                    h = self._gru(given, h, inner, bias[rows:], functions)
                else:
                    h = functions[0](self._cut(given + inner(h) + bias[rows:]))
                states[step] = h
        return states, [h, c] if self.name == "LSTM" else [h]

    def _cut(self, values: Array) -> Array:
        return values.clip(-self.clip, self.clip) if self.clip else values

    def _lstm(
        self, gates: Array, c: Array, peep: Array, functions: list[Callable[[Array], Array]]
    ) -> tuple[Array, Array]:
        """Gates in the order input, output, forget, cell."""
        i, o, f, g = np.split(gates, 4, axis=-1)
        pi, po, pf = np.split(peep, 3)
        gate, cell, out = functions
        kept = gate(self._cut(f + pf * c)) * c
        c = kept + gate(self._cut(i + pi * c)) * cell(self._cut(g))
        return gate(self._cut(o + po * c)) * out(c), c

    def _gru(
        self, given: Array, h: Array, inner: Matrix, bias: Array,
        functions: list[Callable[[Array], Array]],
    ) -> Array:  # fmt: skip
        """Gates in the order update, reset, hidden."""
        size = 2 * self.hidden
        gate, hidden = functions
        products = inner(h)
        z, r = np.split(gate(self._cut(given[:, :size] + products[:, :size] + bias[:size])), 2, -1)
        if self.after:
            recalled = r * (products[:, size:] + bias[size:])
        else:
            recalled = linear(r * h, inner.matrix[size:]) + bias[size:]
        mixed: Array = (1 - z) * hidden(self._cut(given[:, size:] + recalled)) + z * h
        return mixed
