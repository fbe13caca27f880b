"""The page of one image under a network: its layers' maps, and what speaks for its class."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imgconv.errors import UsageError
from imgconv.io.image import Image
from imgconv.nn.graph import Graph
from imgconv.nn.layers import Shape
from imgconv.nn.models import Network
from imgconv.pipeline.settings.network import MapSettings, OcclusionSettings
from imgconv.typing import Array

if TYPE_CHECKING:
    from imgconv.viz.report.sections import Section

Heated = Callable[[Image, Array, int], "Section"]


def section_maker(graph: Graph, shape: Shape, count: int) -> "Callable[[str, Array], Section]":
    """(layer, maps) → its section. shape: of the input; count: of sections on the page."""
    from imgconv.nn.analysis.receptive import fields
    from imgconv.nn.layers import Conv2d
    from imgconv.viz.network_drawing import does
    from imgconv.viz.report.sections import section

    inputs = {next(iter(graph.inputs)): shape}
    graph = graph.at(inputs)
    seen = fields(graph, graph.shapes(inputs))

    def make(layer: str, maps: Array) -> "Section":
        node = graph.producers[layer]
        weights = node.layer.parameter("weight") if isinstance(node.layer, Conv2d) else None
        if weights is not None and len(weights) != len(maps):  # each of several windows has them
            weights = None
        labels = [f"channel {number}" for number in range(len(maps))]
        field = seen.get(layer) if maps.shape[1:] != (1, 1) or len(maps) > 1 else None
        return section(layer, does(node), maps, labels, count, field, weights=weights)

    return make


def heats_of(network: Network, wanted: MapSettings) -> list[Heated]:
    """What makes the sections of the likeliest class: (image, tensor, other sections) → one.

    Raises UsageError where they are asked for without a report.
    """
    if not (wanted.cam or wanted.occlusion):
        return []
    if not wanted.report:
        raise UsageError(f"--{'cam' if wanted.cam else 'occlusion'}: expected --report with it")
    from imgconv.pipeline.networks.attribution import by_gradient, by_occlusion, heat_section

    found: list[Heated] = []
    if wanted.cam:
        found.append(partial(heat_section, network, by_gradient(network, None), "Grad-CAM"))
    if wanted.occlusion:
        make = by_occlusion(network, None, OcclusionSettings())
        found.append(partial(heat_section, network, make, "Occlusion"))
    return found


def page_of(
    network: Network, weights: str, image: Image, sections: "Sequence[Section]"
) -> bytes:  # fmt: skip
    """The page. weights: what they are, of whose path only the name is shown."""
    from imgconv.viz.report.page import Page, render

    view = network.preprocess.view(image.pixels, image.full_scale, image.alpha)
    # Only the name: a page is given away, and folders are nobody's business.
    facts = [("network", network.name), ("variant", network.variant),
             ("weights", os.path.basename(weights)), ("source", network.citation)]  # fmt: skip
    title = f"{network.name} on {image.name}"
    return render(Page(title, [fact for fact in facts if fact[1]], view, sections))
