"""`imgconv net draw` and `imgconv net receptive`: networks and their receptive fields, drawn."""

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from imgconv.cli.commands.net import options
from imgconv.cli.help import Command
from imgconv.cli.options import KINDS, options_of
from imgconv.console import echo
from imgconv.pipeline.settings import WriteSettings
from imgconv.pipeline.settings.network import NetSettings

if TYPE_CHECKING:
    from imgconv.pipeline.networks.receptive import FieldFacts, Place, UnitFacts


@click.command(cls=Command)
@options.network
@options.form
@options.picture("SVG file, or -; default: NETWORK.svg.")
@options_of(WriteSettings, "overwrite")
@options.settings
def draw(network: str, picture: str | None, settings: NetSettings) -> None:
    """Draw a network as SVG: what each layer does, its shape, blocks and skips.

    \b
    imgconv net draw resnet18
    imgconv net draw googlenet:aux=true -o googlenet.svg
    imgconv net draw model.onnx -o - | rsvg-convert -o model.png

    Normalizations and activations are drawn in the box of the layer that they follow. Needs no
    weights.
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
    help="Layer, as `net summary` names it; layer3 is the output of that whole part.",
)
@click.option(
    "--at",
    "unit",
    type=KINDS["unit"],
    metavar="ROW,COLUMN",
    help="Row and column of the unit; without it, only the field's size is printed.",
)
@options.weights
@options.preprocess
@options.picture("Picture to write; default: IMAGE-receptive.png.")
@options_of(WriteSettings, "overwrite")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@options.settings
def receptive(
    network: str, image: str | None, layer: str, unit: tuple[int, int] | None,
    picture: str | None, settings: NetSettings,
) -> None:  # fmt: skip
    """Show exactly which input pixels one unit of a layer sees, and draw them on an image.

    \b
    imgconv net receptive resnet50 --layer layer3
    imgconv net receptive vgg16 --layer features.30 --at 3,3
    imgconv net receptive vgg16 --layer features.28 --at 7,6 photo.jpg --seed 1 -o field.png

    The field is whatever any path through the network reaches. With weights, the effective field
    is drawn beside it: how much each pixel counts, as the root of the gradient's expected square
    under independent signs of the weights.
    """
    from imgconv.console import say
    from imgconv.errors import UsageError
    from imgconv.io.reading import read_input
    from imgconv.pipeline.networks.loading import settled
    from imgconv.pipeline.networks.receptive import Receptive

    if picture and not image:
        raise UsageError("--output: expected an image to draw on")
    if image and unit is None:
        raise UsageError(f"{image}: expected --at ROW,COLUMN, whose region is to be drawn")
    found, read, shown = settled(network, settings), settings.preprocess, None
    if image:
        shown = next(read_input(image, frame=read.frame, max_pixels=read.max_pixels))
    work = Receptive(found, layer, shown)
    if unit is None:
        for told in work.of_layers():
            echo(json.dumps(told) if settings.batch.as_json else _told(told))
        return
    facts, everywhere = work.of_unit(unit, settings, picture, lambda text: say(f"imgconv: {text}"))
    echo(json.dumps(facts) if settings.batch.as_json else _said(facts, everywhere))


def _told(facts: "FieldFacts") -> str:
    """The facts of a field as a sentence."""
    size, stride = ("×".join(f"{n:g}" for n in both) for both in (facts["size"], facts["stride"]))
    center = ",".join(f"{n:g}" for n in facts["center"])
    more = " and, through gates or norms, the whole image" if facts["everywhere"] else ""
    return (
        f"{facts['layer']}: its field is {size} pixels{more}, at a stride of {stride}; "
        f"that of unit 0,0 is centered on {center}"
    )


def _said(facts: "UnitFacts", everywhere: bool) -> str:
    """The facts as sentences."""

    def place(part: "Place") -> tuple[str, str]:
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
