"""`imgconv net cam` and `imgconv net occlusion`: where in an image a class score comes from."""

from typing import TYPE_CHECKING

import click

from imgconv.cli.commands.net import options
from imgconv.cli.help import Command
from imgconv.cli.options import gathered, options_of, together
from imgconv.pipeline.settings import BatchSettings, WriteSettings
from imgconv.pipeline.settings.network import (
    AttributionSettings,
    CamSettings,
    HeatSettings,
    NetSettings,
    OcclusionSettings,
)

if TYPE_CHECKING:
    from imgconv.nn.models import Network
    from imgconv.pipeline.networks.attribution import Attribution

_write = options_of(WriteSettings, "overwrite", "skip_existing")


_settings = together((gathered(AttributionSettings, "wanted"), options.settings))  # own ones first


@click.command(cls=Command)
@options.network
@options.inputs
@options.weights
@options_of(HeatSettings)
@options_of(CamSettings)
@options.preprocess
@options.many
@_write
@_settings
def cam(
    network: str, inputs: tuple[str, ...], settings: NetSettings, wanted: AttributionSettings
) -> int:
    """Show which parts of an image a class score comes from, by Grad-CAM or CAM.

    \b
    imgconv net cam lenet5 sample:digit
    imgconv net cam resnet50 photo.jpg --weights resnet50.pth --class tabby -o tabby.png
    imgconv net cam vgg16 photos/ --weights vgg16.pth --format npy -o maps/

    Pictures show the map over the part of the image that the network saw; NPY holds it (H, W) as
    computed, one number per position of the layer.
    """
    from imgconv.nn.find import select_values
    from imgconv.pipeline.networks.attribution import Attribution, by_gradient, class_number

    found = _ready(network, settings, wanted.heat)
    layer, plain = wanted.cam.layer, wanted.cam.method == "cam"
    if layer is not None:
        layer = select_values(found.graph, (layer,))[-1]
    number = class_number(found, wanted.heat.category)
    make = by_gradient(found, number, layer, plain)
    work = Attribution(found, settings, wanted.heat, make, "cam", signed=plain)
    return _write_maps(work, inputs, settings.batch)


@click.command(cls=Command)
@options.network
@options.inputs
@options.weights
@options_of(HeatSettings)
@options_of(OcclusionSettings)
@options.preprocess
@options.many
@_write
@_settings
def occlusion(
    network: str, inputs: tuple[str, ...], settings: NetSettings, wanted: AttributionSettings
) -> int:
    """Cover windows of an image and show how much a class score falls; works for any network.

    \b
    imgconv net occlusion lenet5 sample:digit --window 6 --stride 2
    imgconv net occlusion resnet50 photo.jpg --weights resnet50.pth --fill gray
    imgconv net occlusion model.onnx photo.jpg --class 3 --format npy

    A pixel's value is the mean over the windows that cover it; NPY holds all values (H, W). Red
    pixels speak for the class, blue ones against it.
    """
    from imgconv.pipeline.networks.attribution import Attribution, by_occlusion, class_number

    found = _ready(network, settings, wanted.heat)
    number = class_number(found, wanted.heat.category)
    make = by_occlusion(found, number, wanted.occlusion)
    work = Attribution(found, settings, wanted.heat, make, "occlusion", signed=True)
    return _write_maps(work, inputs, settings.batch)


def _ready(name: str, settings: NetSettings, heat: HeatSettings) -> "Network":
    """The network with its weights and labels."""
    from dataclasses import replace

    from imgconv.nn.labels import check_labels, read_labels

    found, _ = options.ready(name, settings)
    if heat.labels:
        found = replace(found, labels=read_labels(heat.labels))
    check_labels(found)
    return found


def _write_maps(work: "Attribution", inputs: tuple[str, ...], batch: BatchSettings) -> int:
    """Write every image's map; return the exit code. Raises UsageError before any work."""
    from imgconv.batch.networks import heat_maps
    from imgconv.cli.commands.net.printing import show_heat
    from imgconv.cli.printing import Printer

    outcomes, total = heat_maps(work, inputs, batch)
    with Printer(total, batch, show_heat(batch)) as printer:
        for outcome in outcomes:
            printer.tell(outcome)
    return printer.exit_code
