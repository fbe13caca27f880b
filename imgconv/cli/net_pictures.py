"""`imgconv net draw` and `imgconv net receptive`: networks and their receptive fields, drawn."""

import json
import os
import sys
from typing import TYPE_CHECKING, NotRequired, TypedDict

import click

from imgconv.cli import net_options as options
from imgconv.cli.help import Command
from imgconv.cli.options import KINDS
from imgconv.pipeline.settings.network import NetSettings, PreprocessSettings, WeightSettings

if TYPE_CHECKING:
    from imgconv.io.image import Image
    from imgconv.nn.layers import Shape
    from imgconv.nn.models import Network
    from imgconv.nn.receptive import Field
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


@click.command(cls=Command)
@options.network
@options.form
@click.option(
    "-o",
    "--output",
    "picture",
    type=options.IMAGE,
    metavar="PATH",
    help="SVG file, or -; default: NETWORK.svg.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.settings
def draw(network: str, picture: str | None, settings: NetSettings) -> None:
    """Draw a network as SVG: what each layer does, its shape, blocks and skips.

    \b
    imgconv net draw resnet18
    imgconv net draw googlenet:aux=true -o googlenet.svg
    imgconv net draw model.onnx -o - | rsvg-convert -o model.png

    Normalisation and activations stand in the box of the layer that they follow. No weights are
    needed.
    """
    from imgconv.errors import UsageError
    from imgconv.io.publish import publish
    from imgconv.pipeline.naming import spelled
    from imgconv.pipeline.networks.loading import settled
    from imgconv.viz.network_drawing import draw_network

    found = settled(network, settings)
    text = draw_network(found.graph, found.name)
    if picture == "-":
        sys.stdout.buffer.write(text.encode())
        return
    path = picture or f"{spelled(found.name)}.svg"
    if os.path.splitext(path)[1].lower() != ".svg":
        raise UsageError(f"{path}: expected a name that ends in .svg")
    publish(path, [text.encode()], settings.write.overwrite)


@click.command(cls=Command)
@options.network
@click.argument("image", required=False, type=options.IMAGE)
@click.option(
    "--layer",
    required=True,
    metavar="GLOB",
    help="The layer, as `net summary` has it; layer3 is the output of that part.",
)
@click.option(
    "--at",
    "unit",
    type=KINDS["unit"],
    metavar="ROW,COLUMN",
    help="The unit: its row and column; without it only the field's size is told.",
)
@options.weights
@options.preprocess
@click.option(
    "-o",
    "--output",
    "picture",
    type=options.IMAGE,
    metavar="PATH",
    help="Picture to write; default: IMAGE-receptive.png.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@options.settings
def receptive(
    network: str, image: str | None, layer: str, unit: tuple[int, int] | None,
    picture: str | None, settings: NetSettings,
) -> None:  # fmt: skip
    """Say which pixels of the input one unit of a layer sees, exactly, and draw them on an image.

    \b
    imgconv net receptive resnet50 --layer layer3
    imgconv net receptive vgg16 --layer features.30 --at 3,3
    imgconv net receptive vgg16 --layer features.28 --at 7,6 photo.jpg --seed 1 -o field.png

    The field is what any path reaches. With weights, the effective field is shown beside it: how
    much each pixel weighs, the root of the gradient's expected square if the weights' signs were
    independent.
    """
    from imgconv.errors import UsageError
    from imgconv.nn.find import select_values
    from imgconv.nn.receptive import fields, region
    from imgconv.pipeline.networks.loading import settled

    if picture and not image:
        raise UsageError("--output: expected an image to draw on")
    if image and unit is None:
        raise UsageError(f"{image}: expected --at ROW,COLUMN, whose region is to be drawn")
    found = settled(network, settings)
    shown = _read(image, settings.preprocess) if image else None
    shape = found.input_shape
    if shown:
        pixels = shown.pixels
        shape = (*shape[:2], *found.preprocess.size_of(pixels.shape[0], pixels.shape[1]))
    inputs = {next(iter(found.graph.inputs)): shape}
    graph = found.graph.at(inputs)
    shapes = graph.shapes(inputs)
    known = layer in graph.inputs or layer in graph.producers
    layers = (layer,) if known else select_values(graph, (layer,))
    seen = fields(graph, shapes)
    if unit is None:
        for name in layers:
            if name in seen:
                told = _field(found.name, name, seen[name], shape[2:])
                click.echo(json.dumps(told) if settings.batch.as_json else _told(told))
        return
    if len(layers) > 1:
        raise UsageError(f"--layer {layer}: {len(layers)} layers, expected one with --at")
    layer = layers[0]
    box = region(graph, layer, unit, shapes)
    weights = _effective(found, layer, unit, inputs, settings.weights)
    field = seen[layer]
    facts: UnitFacts = {
        "network": found.name, "layer": layer, "unit": list(unit), "input": list(shape[2:]),
        "rows": list(box[:2]), "columns": list(box[2:]), "size": [axis.size for axis in field.axes],
    }  # fmt: skip
    if weights is not None:
        from imgconv.viz.receptive import spread_of

        inner = spread_of(weights).region((shape[2], shape[3]))
        facts["effective"] = {"rows": list(inner[:2]), "columns": list(inner[2:])}
    if shown:
        title = f"{layer} at {unit[0]},{unit[1]}"
        facts["output"] = _drawn(
            found, shown, box, weights, title, picture, settings.write.overwrite
        )
    click.echo(json.dumps(facts) if settings.batch.as_json else _said(facts, field.everywhere))


def _field(network: str, layer: str, field: "Field", size: tuple[int, ...]) -> FieldFacts:
    """The facts of a layer's field, whichever the unit."""
    return {
        "network": network, "layer": layer, "input": list(size),
        "size": [axis.size for axis in field.axes], "stride": [axis.jump for axis in field.axes],
        "center": [axis.start for axis in field.axes], "everywhere": field.everywhere,
    }  # fmt: skip


def _told(facts: FieldFacts) -> str:
    """The facts of a field as a sentence."""
    size, stride = ("×".join(f"{n:g}" for n in both) for both in (facts["size"], facts["stride"]))
    center = ",".join(f"{n:g}" for n in facts["center"])
    more = " and, through gates or norms, the whole image" if facts["everywhere"] else ""
    return (
        f"{facts['layer']}: its field is {size} pixels{more}, at a stride of {stride}; "
        f"that of unit 0,0 is centered on {center}"
    )


def _said(facts: UnitFacts, everywhere: bool) -> str:
    """The facts as sentences."""

    def place(part: Place) -> tuple[str, str]:
        (top, bottom), (left, right) = part["rows"], part["columns"]
        words = f"rows {top} to {bottom} and columns {left} to {right}"
        return words, f"{bottom - top + 1}×{right - left + 1} pixels"

    words, size = place(facts)
    unit, image = ",".join(map(str, facts["unit"])), "×".join(map(str, facts["input"]))
    field = "×".join(f"{length:g}" for length in facts["size"])
    more = " and, through gates or norms, the whole image" if everywhere else ""
    lines = [
        f"{facts['layer']} at {unit} sees {words} of {image}: {size}",
        f"its field, before the image's edges cut it: {field}{more}",
    ]
    if "effective" in facts:
        words, size = place(facts["effective"])
        lines.append(f"effective: within two deviations {words}: {size}")
    return "\n".join(lines)


def _read(image: str, wanted: PreprocessSettings) -> "Image":
    from imgconv.io.reading import read_images
    from imgconv.io.source import read_stdin

    data: str | bytes = read_stdin() if image == "-" else image
    name = "standard input" if image == "-" else ""
    return next(read_images(data, frame=wanted.frame, max_pixels=wanted.max_pixels, name=name))


def _effective(
    network: "Network", layer: str, unit: "Pair", inputs: "dict[str, Shape]", wanted: WeightSettings
) -> "Array | None":
    """The weights of the field's pixels; None without weights, or where a layer has none."""
    from imgconv.console import say
    from imgconv.errors import ModelError
    from imgconv.nn.effective import effective_field
    from imgconv.nn.find import with_weights

    asked = wanted.weights is not None or wanted.seed is not None
    nodes = network.graph.nodes
    missing = any(n.layer.parameter_shapes().keys() - n.layer.parameters.keys() for n in nodes)
    if missing and not asked and network.weights is None:
        return None
    ready, _ = with_weights(network, wanted.weights, wanted.seed)
    graph = ready.graph.at(inputs)
    try:
        return effective_field(graph, layer, unit, graph.shapes(inputs))
    except ModelError as error:
        say(f"imgconv: {layer}: only the theoretical field: {error}")
        return None


def _drawn(
    network: "Network",
    image: "Image",
    box: "tuple[int, int, int, int]",
    weights: "Array | None",
    title: str,
    path: str | None,
    overwrite: bool,
) -> str:
    """Write the picture; return its path."""
    from imgconv.io.formats import format_of
    from imgconv.io.publish import publish
    from imgconv.io.writing import encode
    from imgconv.pipeline.naming import split_source
    from imgconv.pipeline.plan import check_against_input
    from imgconv.viz.receptive import draw_fields

    view = network.preprocess.view(image.pixels, image.full_scale, image.alpha)
    stem = "stdin" if image.name == "standard input" else split_source(image.name)[0]
    path = path or f"{stem}-receptive.png"
    check_against_input(path, image.name, False, "expected another name")
    made = format_of(path)
    publish(path, encode(draw_fields(view, box, weights, title), made), overwrite)
    return path
