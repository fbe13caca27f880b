"""What a unit of any map sees of the input, through branches and residuals.

Fields follow the arithmetic of Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional
Neural Networks", Distill 2019; where branches meet, a unit sees the union of what they see. Where
maps are enlarged, units differ from their neighbors in what they see: a field holds as many of them
as there are kinds.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.errors import ModelError, ShapeError
from imgconv.nn.graph import Graph
from imgconv.nn.layers.base import NOWHERE, Layer, Places, Shape
from imgconv.shapes import ReceptiveField

_MOST = 4096  # kinds of units that are told apart

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """The receptive field of a value down and across, before it is cut off at the image's edges.

    everywhere: besides this window a unit sees all of the image, since a gate or a mean of whole
    maps (squeeze and excitation, instance norm) is multiplied or added to it.
    """

    down: ReceptiveField
    across: ReceptiveField
    everywhere: bool = False

    @property
    def axes(self) -> tuple[ReceptiveField, ReceptiveField]:
        """Down and across."""
        return self.down, self.across


class _Spans(NamedTuple):
    """What units of a map without ends see of the input along one axis.

    Unit i sees positions low[i] to high[i] for i < len(low), inf to −inf where it sees none; each
    `len(low)` units further on it is the same, `jump` · len(low) positions further on.
    """

    low: Floats
    high: Floats
    jump: Fraction

    def of(self, units: Places) -> tuple[Floats, Floats]:
        """Lows and highs of any units."""
        turns, kinds = np.divmod(units, len(self.low))
        moved = turns * float(self.jump * len(self.low))
        return self.low[kinds] + moved, self.high[kinds] + moved

    def field(self) -> ReceptiveField:
        """The widest span, and the middle of all on average."""
        known = np.isfinite(self.low)
        if not known.any():
            return ReceptiveField(0, _whole(self.jump), 0.0)
        low, high, units = self.low[known], self.high[known], np.flatnonzero(known)
        middles = (low + high) / 2 - units * float(self.jump)
        return ReceptiveField(
            _whole((high - low).max() + 1), _whole(self.jump), float(middles.mean())
        )


def _whole(number: Fraction | float) -> float:
    return int(number) if number == int(number) else float(number)


_POINT = _Spans(np.zeros(1), np.zeros(1), Fraction(1))


def fields(graph: Graph, shapes: dict[str, Shape]) -> dict[str, Field]:
    """The field of every value, in one forward walk. shapes: as `graph.shapes` gives them."""
    found = dict.fromkeys(graph.inputs, ((_POINT, _POINT), False))
    for node in graph.nodes:
        given = tuple(shapes[name] for name in node.inputs)
        sources = [(place, name) for place, name in enumerate(node.inputs) if name in found]
        for number, output in enumerate(node.outputs):
            if not sources:
                continue  # a constant
            after = shapes[output]
            seen, local = [], []
            everywhere = any(found[name][1] for _, name in sources) or node.layer.everywhere
            for place, name in sources:
                layer = node.layer.between(place, number, given)
                spans = found[name][0][:: -1 if layer.turns else 1]
                axes = [
                    _after(layer, axis, spans[axis], shapes[name], after) for axis in (0, 1)
                ]  # fmt: skip
                seen.append(axes)
                if _is_spread(shapes[name], after) and len(sources) > 1:
                    everywhere = True
                else:
                    local.append(axes)
            down, across = (_union([axes[axis] for axes in local or seen]) for axis in (0, 1))
            found[output] = (down, across), everywhere
    return {
        name: Field(down.field(), across.field(), everywhere)
        for name, ((down, across), everywhere) in found.items()
    }


def _after(layer: Layer, axis: int, spans: _Spans, before: Shape, after: Shape) -> _Spans:
    """What units of a layer's output see, from what those of its input see."""
    advance = layer.advance(axis, before, after)
    kinds, step = advance.denominator, advance.numerator
    # So many times the layer's kinds of units are whole turns of the input's.
    count = kinds * (len(spans.low) // math.gcd(step, len(spans.low)))
    units = np.arange(min(count, _MOST))
    turns, own = np.divmod(units, kinds)
    taps = layer.taps(axis, own, before, after)
    there = taps != NOWHERE
    low, high = spans.of(np.where(there, taps + turns[:, None] * step, 0))
    return _Spans(
        np.where(there, low, np.inf).min(axis=1), np.where(there, high, -np.inf).max(axis=1),
        spans.jump * advance,
    )  # fmt: skip


def _union(axes: list[_Spans]) -> _Spans:
    """What any of the branches sees; their jumps are equal where maps of one size meet."""
    if len(axes) == 1:
        return axes[0]
    jump = axes[0].jump
    count = math.lcm(*(len(spans.low) for spans in axes))
    if count > _MOST or any(spans.jump != jump for spans in axes):
        fields = [spans.field() for spans in axes]
        low = min(field.start - (field.size - 1) / 2 for field in fields)
        high = max(field.start + (field.size - 1) / 2 for field in fields)
        return _Spans(np.array([low]), np.array([high]), jump)
    ends = [spans.of(np.arange(count)) for spans in axes]
    return _Spans(
        np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0), jump
    )


class _Units(NamedTuple):
    """Units of a map: some of those in these rows and columns."""

    rows: Places
    columns: Places
    chosen: npt.NDArray[np.bool_]

    def joined(self, other: "_Units") -> "_Units":
        """The units of both."""
        rows, columns = np.union1d(self.rows, other.rows), np.union1d(self.columns, other.columns)
        chosen = np.zeros((len(rows), len(columns)), bool)
        for units in (self, other):
            place = np.searchsorted(rows, units.rows), np.searchsorted(columns, units.columns)
            chosen[np.ix_(*place)] |= units.chosen
        return _Units(rows, columns, chosen)


def region(
    graph: Graph, value: str, unit: tuple[int, int], shapes: dict[str, Shape]
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right), inclusive: the input pixels that one unit of a map can see.

    Exact: every tap is followed back, so neither padding nor holes of dilation are counted; all
    channels of a map are taken to see what any does. Layers that move rows and columns about
    (Gather, Reshape, Flatten, other orders than rows and columns) are taken to see all.

    Raises ModelError for a value that is not there or sees no pixel, ShapeError for a unit outside
    the map.
    """
    if value not in graph.producers and value not in graph.inputs:
        raise ModelError(f"{value!r}: no such value in the network")
    height, width = _size(shapes[value])
    if not (0 <= unit[0] < height and 0 <= unit[1] < width):
        got = f"{unit[0]},{unit[1]}"
        raise ShapeError(f"unit {got} of {value}, expected one within {height}×{width}")
    row, column = (np.array([place]) for place in unit)
    seen = {value: _Units(row, column, np.ones((1, 1), bool))}
    for node in reversed(graph.nodes):
        given = tuple(shapes[name] for name in node.inputs)
        for number, output in enumerate(node.outputs):
            units = seen.pop(output, None)
            for place, name in enumerate(node.inputs if units else ()):
                assert units is not None
                layer = node.layer.between(place, number, given)
                found = _before(layer, units, given[place], shapes[output])
                if node.layer.everywhere:
                    found = _all(given[place])
                if found is not None:
                    seen[name] = seen[name].joined(found) if name in seen else found
    image = [units for name, units in seen.items() if name in graph.inputs]
    if not image:
        raise ModelError(f"unit {unit[0]},{unit[1]} of {value} sees no pixel of the input")
    rows = np.concatenate([units.rows[units.chosen.any(axis=1)] for units in image])
    columns = np.concatenate([units.columns[units.chosen.any(axis=0)] for units in image])
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def _size(shape: Shape) -> tuple[int, int]:
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def _is_spread(before: Shape, after: Shape) -> bool:
    """Whether one unit of an input is used by all units of a map."""
    return _size(before) == (1, 1) != _size(after)


def _all(shape: Shape) -> _Units:
    height, width = _size(shape)
    return _Units(np.arange(height), np.arange(width), np.ones((height, width), bool))


def _before(layer: Layer, units: _Units, before: Shape, after: Shape) -> _Units | None:
    """The units of a layer's input that units of its output see, or None."""
    if len(before) != 4:
        return _all(before)
    if layer.turns:
        return _Units(units.columns, units.rows, units.chosen.T)
    down = layer.seen(0, units.rows, before, after)
    across = layer.seen(1, units.columns, before, after)
    rows, columns = (np.unique(taps[taps != NOWHERE]) for taps in (down, across))
    if units.chosen.all():  # as of one unit through most networks
        used = np.ones((len(rows), len(columns)), bool)
    else:
        chosen = units.chosen.astype(np.float32)
        used = _sees(down, rows).T @ chosen @ _sees(across, columns) > 0
    return _Units(rows, columns, used) if used.any() else None


def _sees(taps: Places, places: Places) -> npt.NDArray[np.float32]:
    """(units, places): 1 where the unit has a tap there."""
    sees = np.zeros((len(taps), len(places)), np.float32)
    rows, columns = np.nonzero(taps != NOWHERE)
    sees[rows, np.searchsorted(places, taps[rows, columns])] = 1
    return sees
