"""What tells two networks apart, layer by layer: structure, options, shapes and weights."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers.base import Layer, Shape

Pair = tuple[Node | None, Node | None]
Shapes = tuple[dict[str, Shape], dict[str, Shape]]
_HIDDEN = ("parameters", "function")
# Said as a whole by `window`, whichever way a layer writes them.
_WINDOW = ("kernel_size", "stride", "padding", "dilation")


@dataclass(frozen=True)
class Weight:
    """How far a parameter's arrays are apart: the largest difference, and the largest number."""

    name: str
    largest: float
    scale: float


@dataclass(frozen=True)
class LayerDifference:
    """A layer of the first network and its counterpart; "" and None where it has none.

    options: (name, of the first, of the second) where they differ, the shape under `output`.
    weights: of parameters whose numbers differ.
    """

    first: str
    second: str
    kinds: tuple[str, str]
    shapes: tuple[Shape | None, Shape | None]
    options: tuple[tuple[str, str, str], ...] = ()
    weights: tuple[Weight, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether there is anything to tell."""
        return not (self.first and self.second) or bool(self.options or self.weights)


def differences(first: Graph, second: Graph) -> list[LayerDifference]:
    """Return every layer of two graphs, in order, with what differs; see `LayerDifference`.

    Layers are paired by name, or by what they do and their order, whichever leaves less to tell.
    Parameters of which one network has no numbers are not compared.
    """
    shapes = first.shapes(), second.shapes()
    names = [[node.name for node in graph.nodes] for graph in (first, second)]
    kinds = [
        [_key(node, found) for node in graph.nodes]
        for graph, found in zip((first, second), shapes, strict=True)
    ]
    counterpart = {name: name for name in first.inputs}
    if len(first.inputs) == len(second.inputs):
        counterpart = dict(zip(second.inputs, first.inputs, strict=True))
    candidates = [
        list(_all(_paired(first.nodes, second.nodes, *keys), shapes, dict(counterpart)))
        for keys in (names, kinds)
    ]
    best = min(candidates, key=lambda pairs: sum(layer.differs for _, layer in pairs))
    return [
        dataclasses.replace(layer, weights=tuple(_weights(*pair))) for pair, layer in best
    ]  # fmt: skip


def _all(
    pairs: Iterable[Pair], shapes: Shapes, counterpart: dict[str, str]
) -> Iterator[tuple[Pair, LayerDifference]]:
    """What differs of each pair but for weights. counterpart: values of the second → the first."""
    for one, other in pairs:
        if one and other:
            counterpart.update(zip(other.outputs, one.outputs, strict=False))
        yield (one, other), _compared(one, other, shapes, counterpart)


def _key(node: Node, shapes: Mapping[str, Shape]) -> str:
    return f"{node.layer.kind} {_options(node.layer)} {shapes[node.outputs[0]][1:]}"


def _paired(first: list[Node], second: list[Node], a: list[str], b: list[str]) -> Iterator[Pair]:
    """Nodes with their counterparts. In a stretch that differs, those of one kind are paired."""
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for what, i, i_end, j, j_end in matcher.get_opcodes():
        left, right = first[i:i_end], second[j:j_end]
        if what == "equal":
            yield from zip(left, right, strict=True)
            continue
        start = 0
        for one in left:
            kinds = [node.layer.kind for node in right[start:]]
            if one.layer.kind not in kinds:
                yield one, None
                continue
            place = start + kinds.index(one.layer.kind)
            yield from ((None, node) for node in right[start:place])
            yield one, right[place]
            start = place + 1
        yield from ((None, node) for node in right[start:])


def _options(layer: Layer) -> dict[str, str]:
    """A layer's options as text, without its arrays."""
    found: dict[str, str] = {}
    for field in dataclasses.fields(layer):
        value: object = getattr(layer, field.name)
        if isinstance(value, Layer):
            found |= {f"{field.name}.{key}": text for key, text in _options(value).items()}
            found[field.name] = value.kind
        elif field.name not in _HIDDEN and not callable(value):
            found[field.name] = str(value)
    window = getattr(layer, "window", None)
    if window:
        sizes = zip(_WINDOW, window, strict=False)
        found |= {name: _times((0, *size)) for name, size in sizes if name in found}
    return found


def _compared(
    one: Node | None, other: Node | None, shapes: Shapes, counterpart: Mapping[str, str]
) -> LayerDifference:  # fmt: skip
    names = one.name if one else "", other.name if other else ""
    kinds = one.layer.kind if one else "", other.layer.kind if other else ""
    sizes = (
        shapes[0][one.outputs[0]] if one else None,
        shapes[1][other.outputs[0]] if other else None,
    )
    if one is None or other is None:
        return LayerDifference(*names, kinds, sizes)
    left, right = {"type": kinds[0]}, {"type": kinds[1]}
    if kinds[0] == kinds[1]:
        left |= _options(one.layer)
        right |= _options(other.layer)
    left["output"], right["output"] = _times(sizes[0]), _times(sizes[1])
    read = [counterpart.get(name, f"{name} of the second") for name in other.inputs]
    left["reads"], right["reads"] = ", ".join(one.inputs), ", ".join(read)
    options = [
        (key, left.get(key, "none"), right.get(key, "none"))
        for key in {**left, **right} if left.get(key) != right.get(key)
    ]  # fmt: skip
    return LayerDifference(*names, kinds, sizes, tuple(options))


def _times(shape: Shape | None) -> str:
    return "×".join(map(str, (shape or ())[1:]))


def _weights(one: Node | None, other: Node | None) -> Iterator[Weight]:
    """Parameters of one shape whose numbers differ; where only one is NaN, by infinity."""
    if one is None or other is None:
        return
    for key in one.layer.parameter_shapes():
        a, b = (node.layer.parameters.get(key) for node in (one, other))
        if a is None or b is None or a.shape != b.shape:
            continue
        scale = max(float(np.abs(x).max(initial=0)) for x in (a, b))
        with np.errstate(invalid="ignore"):
            gaps = np.abs(a.astype(np.float64) - b)
            gaps[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
        largest = float(np.nan_to_num(gaps, nan=np.inf).max(initial=0))
        if largest:
            yield Weight(key, largest, scale)
