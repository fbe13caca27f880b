"""Where in an image a class score comes from: class activation maps, and occlusion.

With A_k the maps of a layer, y the score of a class and Z the pixels of a map,

    Grad-CAM   ReLU(Σ_k α_k A_k),   α_k = 1/Z Σ_ij ∂y / ∂A_k,ij
    CAM        Σ_k w_k A_k,         w_k the class's weights of the last dense layer

R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
localization", ICCV 2017 (arXiv:1610.02391); B. Zhou et al., "Learning deep features for
discriminative localization", CVPR 2016 (arXiv:1512.04150). CAM is there for networks that end in a
global mean and one dense layer; there Z α_k = w_k, so that it is Grad-CAM but for ReLU and Z.
Occlusion (M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014)
covers a window of the input at a time and says how far the score falls; it needs no gradient.
"""

from typing import NamedTuple

import numpy as np

from imgconv.errors import ImgconvError, UsageError
from imgconv.nn import layers
from imgconv.nn.analysis.gradient import between, gradient
from imgconv.nn.fusion import FusedGraph
from imgconv.nn.graph import Graph
from imgconv.nn.layers.base import Shape
from imgconv.nn.layers.functions import Reduce
from imgconv.nn.layers.tensors import Reshape
from imgconv.nn.models import Network
from imgconv.shapes import Pair
from imgconv.typing import Array

_POOLS = (
    layers.WindowPool, layers.AdaptiveAvgPool2d, layers.AdaptiveMaxPool2d, layers.Identity,
)  # fmt: skip
# What may lie beside the dense layer where plain CAM is defined.
_LINEAR = (
    layers.AdaptiveAvgPool2d, layers.AvgPool2d, Reduce, layers.Flatten, Reshape, layers.Identity,
)  # fmt: skip


class ClassMap(NamedTuple):
    """A class's map (h, w) of a layer, and the weight of each of the layer's maps in it."""

    number: int
    score: float
    layer: str
    values: Array
    weights: Array


class ClassMaps:
    """Makes class maps of many images.

    Parameters
    ----------
    network
        A network with weights whose output is a score for each class.
    layer
        Whose maps; by default those of the last layer that sees an image, before pools.
    plain
        CAM instead of Grad-CAM.

    """

    def __init__(self, network: Network, layer: str | None = None, plain: bool = False) -> None:
        self.network, self.layer, self.plain = network, layer, plain
        self.score = score_of(network.graph)
        self._fused: dict[Shape, tuple[Graph, str, FusedGraph]] = {}

    def __call__(self, tensor: Array, number: int | None = None) -> ClassMap:
        """Return the map of a class, of the likeliest by default, for one image (1, C, H, W).

        Raises ModelError where a layer on the way has no gradient, UsageError for a class that
        there is not.
        """
        graph, layer, fused = self._prepared(tensor.shape)
        nodes = between(graph, layer, self.score)
        wanted = {name for node in nodes for name in (*node.inputs, *node.outputs)}
        values = dict(fused.at(tensor.shape).trace(tensor, {*wanted, layer, self.score}))
        values = dict.fromkeys(graph.inputs, tensor) | values
        scores = values[self.score].reshape(-1)
        chosen = int(scores.argmax()) if number is None else number
        if chosen >= scores.size:
            raise UsageError(f"class {chosen} of {scores.size}, expected at most {scores.size - 1}")
        seed = np.zeros(values[self.score].shape, np.float32)
        seed.reshape(-1)[chosen] = 1
        slopes = gradient(graph, layer, self.score, seed, values)[0]
        maps = values[layer][0]
        weights = slopes.mean(axis=(1, 2), dtype=np.float64)
        found = np.tensordot(weights, maps.astype(np.float64), 1)
        if self.plain:
            size = maps[0].size
            weights, found = weights * size, found * size
        else:
            found = np.maximum(found, 0)
        return ClassMap(
            chosen, float(scores[chosen]), layer, found.astype(np.float32),
            weights.astype(np.float32),
        )  # fmt: skip

    def _prepared(self, shape: Shape) -> tuple[Graph, str, FusedGraph]:
        """The graph for inputs of a shape, the layer, and what computes all that is needed."""
        if shape not in self._fused:
            graph = self.network.graph.at({next(iter(self.network.graph.inputs)): shape})
            shapes = graph.shapes({next(iter(graph.inputs)): shape})
            if np.prod(shapes[self.score][2:], initial=1) != 1:
                raise UsageError(
                    f"{self.network.name}: output of shape {shapes[self.score]}, expected a score "
                    "for each class; `imgconv net occlusion` works for any network"
                )
            layer = self.layer or last_maps(graph, self.score, shapes)
            if len(shapes[layer]) != 4:
                raise UsageError(f"--layer {layer}: {shapes[layer]}, expected maps (N, C, H, W)")
            nodes = between(graph, layer, self.score)
            if self.plain:
                _check_plain(self.network.name, graph, layer, self.score, shapes)
            wanted = {name for node in nodes for name in (*node.inputs, *node.outputs)}
            limit = self.network.preprocess.max_pixels
            fused = FusedGraph(self.network.graph, [*wanted, layer, self.score], True, limit)
            self._fused = {shape: (graph, layer, fused)}
        return self._fused[shape]


def score_of(graph: Graph) -> str:
    """The value of the class scores: the first output, before softmax."""
    output = graph.outputs[0]
    maker = graph.producers.get(output)
    while maker is not None and isinstance(maker.layer, layers.Softmax | layers.Identity):
        output = maker.inputs[0]
        maker = graph.producers.get(output)
    return output


def last_maps(graph: Graph, score: str, shapes: dict[str, Shape]) -> str:
    """The last maps of more than a pixel that no pool made. Raises UsageError where none are."""
    nodes = [n for n in reversed(graph.needed([score])) if not isinstance(n.layer, _POOLS)]
    maps = [name for node in nodes for name in node.outputs if len(shapes[name]) == 4]
    # A vector in channels' last place, as around a LayerNorm, looks like maps of one row.
    for least in (2, 1):
        for name in maps:
            height, width = shapes[name][2:]
            if min(height, width) >= least and height * width > 1:
                return name
    raise UsageError("no layer has maps of more than one pixel, expected --layer NAME")


def _check_plain(
    name: str, graph: Graph, layer: str, score: str, shapes: dict[str, Shape]
) -> None:  # fmt: skip
    """Raise UsageError unless a global mean and one dense layer are all that follows."""
    nodes = between(graph, layer, score)
    dense = [node for node in nodes if isinstance(node.layer, layers.Linear)]
    others = [node for node in nodes if not isinstance(node.layer, (*_LINEAR, layers.Linear))]
    means = [
        node for node in nodes
        if isinstance(node.layer, _LINEAR[:3]) and np.prod(shapes[node.outputs[0]][2:]) == 1
    ]  # fmt: skip
    if others or len(dense) != 1 or not means:
        what = others[0].name if others else f"{len(dense)} dense layers"
        raise UsageError(
            f"{name}: {what} behind {layer}; CAM is defined for a global mean and one dense layer, "
            "--method grad-cam for any"
        )


class Windows(NamedTuple):
    """Where the windows of an occlusion lie: their size, and their first rows and columns."""

    size: Pair
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def windows(size: Pair, window: Pair | None, stride: Pair | None) -> Windows:
    """The windows that cover an input of a size (H, W); the last ones end where it does.

    window: by default a seventh of the shorter side. stride: by default half the window. Raises
    UsageError for a window that is larger than the input.
    """
    seventh = max(1, round(min(size) / 7))
    window = window or (seventh, seventh)
    steps = stride or (max(1, window[0] // 2), max(1, window[1] // 2))
    starts = []
    for length, side, step in zip(size, window, steps, strict=True):
        if step > side:
            raise UsageError(f"--stride {step}, expected at most the window's {side}")
        if side > length:
            raise UsageError(f"--window {window[0]},{window[1]} on {size[0]}×{size[1]} pixels")
        last = length - side
        starts.append(tuple(sorted({*range(0, last + 1, step), last})))
    return Windows(window, starts[0], starts[1])


class Occlusion:
    """Covers windows of images and says how far the score of a class falls.

    Parameters
    ----------
    network
        Any network with weights and one image as its input.
    batch
        Windows in one walk through the network.

    """

    def __init__(self, network: Network, batch: int = 8) -> None:
        self.network, self.batch = network, batch
        self.score = score_of(network.graph)
        limit = network.preprocess.max_pixels
        self.fused = FusedGraph(network.graph, [self.score], max_pixels=limit)

    def __call__(
        self, tensor: Array, number: int | None, where: Windows, fill: Array
    ) -> tuple[int, float, Array]:
        """Return the class, its score, and (H, W): by how much it falls where a pixel is covered.

        A pixel's value is the mean over the windows that cover it. fill: (C, 1, 1), what stands in
        a window. Of an output that is not one number a class, a class's mean is its score.
        """
        places = [
            (slice(row, row + where.size[0]), slice(column, column + where.size[1]))
            for row in where.rows for column in where.columns
        ]  # fmt: skip
        scores = self._covered(tensor, [None, *places], fill)
        chosen = int(scores[0].argmax()) if number is None else number
        if chosen >= scores.shape[1]:
            raise UsageError(f"class {chosen}, expected at most {scores.shape[1] - 1}")
        total, count = np.zeros(tensor.shape[2:]), np.zeros(tensor.shape[2:])
        for place, score in zip(places, scores[1:, chosen], strict=True):
            total[place] += scores[0, chosen] - score
            count[place] += 1
        return chosen, float(scores[0, chosen]), (total / count).astype(np.float32)

    def _covered(
        self, tensor: Array, places: list[tuple[slice, slice] | None], fill: Array
    ) -> Array:
        """(places, classes): the scores with each place covered, with nothing where it is None."""
        rows = []
        for start in range(0, len(places), self.batch):
            part = places[start : start + self.batch]
            covered = np.repeat(tensor, self.batch, axis=0)  # always as many: they share a plan
            for image, place in zip(covered, part, strict=False):
                if place is not None:
                    image[(slice(None), *place)] = fill
            try:
                rows.append(self._scores(covered)[: len(part)])
            except ImgconvError:
                if self.batch == 1:
                    raise
                self.batch = 1  # a model may be made for one image
                return self._covered(tensor, places, fill)
        return np.concatenate(rows)

    def _scores(self, tensor: Array) -> Array:
        """(N, classes) in float64."""
        graph = self.fused.at(tensor.shape)
        result = dict(graph.trace(tensor, [self.score]))[self.score]
        if result.ndim < 2 or len(result) != len(tensor):
            raise UsageError(f"output of shape {result.shape}, expected a score for each class")
        flat = result.reshape(*result.shape[:2], -1).astype(np.float64)
        return np.asarray(flat.mean(axis=2))
