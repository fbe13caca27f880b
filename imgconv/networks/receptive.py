"""What a unit of any map sees of the input, through branches and residuals.

Fields follow the arithmetic of Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional
Neural Networks", Distill 2019; where branches meet, a unit sees the union of what they see.
"""

from dataclasses import dataclass

import numpy as np

from imgconv.errors import ModelError, ShapeError
from imgconv.networks.graph import Graph, Node
from imgconv.networks.layers.base import Places, Shape
from imgconv.shapes import ReceptiveField


@dataclass(frozen=True)
class Field:
    """The receptive field of a value down and across, before it is cut off at the image's edges.

    everywhere: besides this window a unit sees all of the image, since a gate or a mean of whole
    maps (squeeze and excitation) is multiplied or added to it.
    """

    down: ReceptiveField
    across: ReceptiveField
    everywhere: bool = False

    @property
    def axes(self) -> tuple[ReceptiveField, ReceptiveField]:
        """Down and across."""
        return self.down, self.across


def fields(graph: Graph, shapes: dict[str, Shape]) -> dict[str, Field]:
    """The field of every value, in one forward walk. shapes: as `graph.shapes` gives them."""
    found = dict.fromkeys(graph.inputs, Field(ReceptiveField(), ReceptiveField()))
    for node in graph.nodes:
        sources = [name for name in node.inputs if name in found]
        for output in node.outputs:
            after = shapes[output]
            seen = [_after(node, found[name], shapes[name], after) for name in sources]
            if not seen:
                continue  # a constant
            spread = [
                _is_spread(shapes[name], after) and len(sources) > 1 for name in sources
            ]  # fmt: skip
            local = [field for field, wide in zip(seen, spread, strict=True) if not wide] or seen
            everywhere = any(spread) or any(field.everywhere for field in seen)
            found[output] = Field(
                _union([field.down for field in local]),
                _union([field.across for field in local]), everywhere,
            )  # fmt: skip
    return found


def region(
    graph: Graph, value: str, unit: tuple[int, int], shapes: dict[str, Shape]
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right), inclusive: the input pixels that one unit of a map can see.

    Exact: every tap is followed back, so neither padding nor holes of dilation are counted.
    Raises ModelError for a value that is not there or sees no pixel, ShapeError for a unit
    outside the map.
    """
    if value not in graph.producers and value not in graph.inputs:
        raise ModelError(f"{value!r}: no such value in the network")
    height, width = _size(shapes[value])
    if not (0 <= unit[0] < height and 0 <= unit[1] < width):
        got = f"{unit[0]},{unit[1]}"
        raise ShapeError(f"unit {got} of {value}, expected one within {height}×{width}")
    seen: dict[str, list[Places]] = {value: [np.array([place]) for place in unit]}
    for node in reversed(graph.nodes):
        for output in node.outputs:
            units = seen.pop(output, None)
            for name in node.inputs if units else ():
                assert units is not None
                places = [
                    _before(node, axis, units[axis], shapes[name], shapes[output])
                    for axis in (0, 1)
                ]  # fmt: skip
                if all(len(axis) for axis in places):
                    found = zip(seen.get(name, places), places, strict=True)
                    seen[name] = [np.union1d(old, new) for old, new in found]
    image = [axes for name, axes in seen.items() if name in graph.inputs]
    if not image:
        raise ModelError(f"unit {unit[0]},{unit[1]} of {value} sees no pixel of the input")
    down, across = (np.concatenate(axis) for axis in zip(*image, strict=True))
    return int(down.min()), int(down.max()), int(across.min()), int(across.max())


def _size(shape: Shape) -> tuple[int, int]:
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def _is_spread(before: Shape, after: Shape) -> bool:
    """Whether one unit of an input is used by all units of a map."""
    return _size(before) == (1, 1) != _size(after)


def _after(node: Node, field: Field, before: Shape, after: Shape) -> Field:
    down, across = (
        old.through(*node.layer.reach(axis, before, after)) for axis, old in enumerate(field.axes)
    )
    return Field(down, across, field.everywhere)


def _union(axis: list[ReceptiveField]) -> ReceptiveField:
    """What any of the fields sees; their jumps are equal where branches of one size meet."""
    low = min(field.start - (field.size - 1) / 2 for field in axis)
    high = max(field.start + (field.size - 1) / 2 for field in axis)
    return ReceptiveField(high - low + 1, axis[0].jump, (low + high) / 2)


def _before(node: Node, axis: int, units: Places, before: Shape, after: Shape) -> Places:
    if len(before) != 4:
        return np.zeros(1, np.int64)
    size = before[2 + axis]
    places = node.layer.sees(axis, units, before, after)
    return np.unique(places[(places >= 0) & (places < size)])
