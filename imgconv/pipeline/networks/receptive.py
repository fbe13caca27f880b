"""What a unit of a network's layer sees of an image, told and drawn."""

from collections.abc import Callable, Iterator
from typing import NotRequired, TypedDict

from imgconv.errors import ModelError, UsageError
from imgconv.io.formats import format_of
from imgconv.io.image import Image
from imgconv.io.publish import publish
from imgconv.io.writing import encode
from imgconv.nn.analysis.effective import effective_field
from imgconv.nn.analysis.receptive import fields, region
from imgconv.nn.find import select_values, with_weights
from imgconv.nn.models import Network
from imgconv.pipeline.naming import split_source
from imgconv.pipeline.plan import check_against_input
from imgconv.pipeline.settings.network import NetSettings, WeightSettings
from imgconv.shapes import Pair
from imgconv.typing import Array


class Place(TypedDict):
    """First and last row and column of a part of the input."""

    rows: list[int]
    columns: list[int]


class FieldFacts(TypedDict):
    """What --json says of a layer's field, whichever the unit; pairs are (down, across)."""

    network: str
    layer: str
    input: list[int]
    size: list[float]
    stride: list[float]
    center: list[float]
    everywhere: bool


class UnitFacts(Place):
    """What --json says of what one unit sees."""

    network: str
    layer: str
    unit: list[int]
    input: list[int]
    size: list[float]
    effective: NotRequired[Place]
    output: NotRequired[str]


class Receptive:
    """The receptive fields of a network's layers at its usual size, or at that of an image.

    layer: a name or a glob. Raises ModelError where it matches nothing.
    """

    def __init__(self, network: Network, layer: str, image: Image | None) -> None:
        self.network, self.pattern, self.image = network, layer, image
        shape = network.input_shape
        if image:
            height, width = image.pixels.shape[:2]
            shape = (*shape[:2], *network.preprocess.size_of(height, width))
        self.size = shape[2], shape[3]
        self._inputs = {next(iter(network.graph.inputs)): shape}
        self._graph = graph = network.graph.at(self._inputs)
        self._shapes = graph.shapes(self._inputs)
        known = layer in graph.inputs or layer in graph.producers
        self._layers = (layer,) if known else select_values(graph, (layer,))
        self._fields = fields(graph, self._shapes)

    def of_layers(self) -> Iterator[FieldFacts]:
        """The facts of the layers' fields, whichever the unit."""
        for layer in self._layers:
            if layer in self._fields:
                field = self._fields[layer]
                yield {
                    "network": self.network.name, "layer": layer, "input": list(self.size),
                    "size": [axis.size for axis in field.axes],
                    "stride": [axis.jump for axis in field.axes],
                    "center": [axis.start for axis in field.axes], "everywhere": field.everywhere,
                }  # fmt: skip

    def of_unit(
        self, unit: Pair, settings: NetSettings, path: str | None, tell: Callable[[str], None]
    ) -> tuple[UnitFacts, bool]:
        """What one unit sees, drawn where there is an image; and whether it sees all of it too.

        path: of the drawing. Raises UsageError where there are several layers.
        """
        if len(self._layers) > 1:
            raise UsageError(
                f"--layer {self.pattern}: {len(self._layers)} layers, expected one with --at"
            )
        layer = self._layers[0]
        box = region(self._graph, layer, unit, self._shapes)
        weights = self._effective(layer, unit, settings.weights, tell)
        field = self._fields[layer]
        facts: UnitFacts = {
            "network": self.network.name, "layer": layer, "unit": list(unit),
            "input": list(self.size), "rows": list(box[:2]), "columns": list(box[2:]),
            "size": [axis.size for axis in field.axes],
        }  # fmt: skip
        if weights is not None:
            from imgconv.viz.receptive import spread_of

            inner = spread_of(weights).region(self.size)
            facts["effective"] = {"rows": list(inner[:2]), "columns": list(inner[2:])}
        if self.image:
            title = f"{layer} at {unit[0]},{unit[1]}"
            facts["output"] = self._draw(
                self.image, box, weights, title, path, settings.write.overwrite
            )
        return facts, field.everywhere

    def _effective(
        self, layer: str, unit: Pair, wanted: WeightSettings, tell: Callable[[str], None]
    ) -> Array | None:
        """The weights of the field's pixels; None without weights, or where a layer has none."""
        network = self.network
        asked = wanted.weights is not None or wanted.seed is not None
        nodes = network.graph.nodes
        missing = any(n.layer.parameter_shapes().keys() - n.layer.parameters.keys() for n in nodes)
        if missing and not asked and network.weights is None:
            return None
        ready, _ = with_weights(network, wanted.weights, wanted.seed)
        graph = ready.graph.at(self._inputs)
        try:
            return effective_field(graph, layer, unit, graph.shapes(self._inputs))
        except ModelError as error:
            tell(f"{layer}: only the theoretical field: {error}")
            return None

    def _draw(
        self, image: Image, box: tuple[int, int, int, int], weights: Array | None, title: str,
        path: str | None, overwrite: bool,
    ) -> str:  # fmt: skip
        """Write the picture; return its path."""
        from imgconv.viz.receptive import draw_fields

        view = self.network.preprocess.view(image.pixels, image.full_scale, image.alpha)
        stem = "stdin" if image.name == "standard input" else split_source(image.name)[0]
        path = path or f"{stem}-receptive.png"
        check_against_input(path, image.name, False, "expected another name")
        made = format_of(path)
        publish(path, encode(draw_fields(view, box, weights, title), made), overwrite)
        return path
