"""The page of one image under a network: its layers' maps, and what speaks for its class."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imgconv.errors import ModelError, UsageError
from imgconv.io.image import Image
from imgconv.nn.layers import Shape
from imgconv.nn.models import Network
from imgconv.pipeline.settings.network import MapSettings, OcclusionSettings
from imgconv.typing import Array

if TYPE_CHECKING:
    from imgconv.viz.report.sections import Section

_LIKELIEST = 5

Heated = Callable[[Image, Array, int], "Section"]


def section_maker(network: Network, shape: Shape, count: int) -> "Callable[[str, Array], Section]":
    """(layer, maps) → its section. shape: of the input; count: of sections on the page."""
    from imgconv.nn.analysis.receptive import fields
    from imgconv.nn.layers import Conv2d
    from imgconv.viz.network_drawing import does
    from imgconv.viz.report.sections import dense_section, section

    inputs = {next(iter(network.graph.inputs)): shape}
    graph = network.graph.at(inputs)
    shapes = graph.shapes(inputs)
    seen = fields(graph, shapes)
    scores = scores_of(network)
    maker = graph.producers.get(scores or "")
    # What a softmax turns into probabilities scores the classes too.
    scoring = {scores, *(maker.inputs if maker else ())}

    def make(layer: str, maps: Array) -> "Section":
        node = graph.producers[layer]
        if is_dense(shapes[layer]):
            named = layer in scoring and maps.size == len(network.labels)
            return dense_section(layer, does(node), maps, network.labels if named else ())
        weights = node.layer.parameter("weight") if isinstance(node.layer, Conv2d) else None
        if weights is not None and len(weights) != len(maps):  # each of several windows has them
            weights = None
        labels = [f"channel {number}" for number in range(len(maps))]
        return section(layer, does(node), maps, labels, count, seen.get(layer), weights=weights)

    return make


def scores_of(network: Network) -> str | None:
    """The output that scores classes, None of a network without classes."""
    try:
        return network.scores
    except ModelError:
        return None


def is_dense(shape: Shape) -> bool:
    """Whether a value has single numbers instead of maps."""
    return shape[0] == 1 and (len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)))


def heats_of(network: Network, wanted: MapSettings) -> list[Heated]:
    """What makes the sections of the likeliest class: (image, tensor, other sections) → one.

    Raises UsageError where they are asked for without a report.
    """
    if not (wanted.cam or wanted.occlusion):
        return []
    if not wanted.report:
        raise UsageError(f"--{'cam' if wanted.cam else 'occlusion'} needs --report")
    from imgconv.pipeline.networks.attribution import by_gradient, by_occlusion, heat_section

    found: list[Heated] = []
    if wanted.cam:
        found.append(partial(heat_section, network, by_gradient(network, None), "Grad-CAM"))
    if wanted.occlusion:
        make = by_occlusion(network, None, OcclusionSettings())
        found.append(partial(heat_section, network, make, "Occlusion"))
    return found


def page_of(
    network: Network, weights: str, image: Image, sections: "Sequence[Section]",
    scores: Array | None,
) -> bytes:  # fmt: skip
    """The page. weights: what they are, of whose path only the name is shown.

    scores: of the classes, where the network has classes.
    """
    from imgconv.viz.report.page import Page, render

    view = network.preprocess.view(image.pixels, image.full_scale, image.alpha)
    # Only the name: a page is given away, and folders are nobody's business.
    facts = [("network", network.name), ("variant", network.variant),
             ("weights", os.path.basename(weights)), ("source", network.citation)]  # fmt: skip
    title = f"{network.name} on {image.name}"
    likeliest = () if scores is None else network.likeliest(scores.reshape(-1), _LIKELIEST)
    classes = [(one.label or f"class {one.number}", one.probability) for one in likeliest]
    return render(Page(title, [fact for fact in facts if fact[1]], view, sections, classes))
