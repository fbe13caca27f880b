"""`imgconv net`: published networks, ONNX models and one's own, on images."""

import json
import math
from collections.abc import Iterable

import click

from imgconv.cli.commands.net import options
from imgconv.cli.help import Group
from imgconv.cli.options import options_of
from imgconv.console import echo
from imgconv.errors import ImageError
from imgconv.pipeline.settings import BatchSettings, WriteSettings
from imgconv.pipeline.settings.network import (
    MapSettings,
    NetSettings,
    PredictSettings,
    WeightSettings,
)

# Command → the module that it is in, which is imported when it is used.
ELSEWHERE = {
    name: f"imgconv.cli.commands.net.{module}"
    for name, module in {
        "cam": "attribution", "occlusion": "attribution", "filters": "weights", "diff": "weights",
        "draw": "drawing", "receptive": "drawing",
    }.items()
}  # fmt: skip


@click.group(cls=Group, elsewhere=ELSEWHERE)
def net() -> None:
    """Run CNNs and write the feature maps of any layer.

    \b
    imgconv net list
    imgconv net summary resnet50
    imgconv net draw resnet50 -o resnet50.svg
    imgconv net predict lenet5 sample:digit
    imgconv net cam lenet5 sample:digit
    imgconv net features lenet5 sample:digit --layer 'c*' -o maps/
    imgconv net features vgg16 photo.jpg --seed 1 --layer features.2 --sheet -o maps/

    A network is a published name (`net list`), name:option=value, a TOML or ONNX file, or a chain
    such as 'gray | conv sobel | relu | maxpool 2'.
    """


@net.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per network.")
def list_(as_json: bool) -> None:
    """List the published networks and their variants."""
    from imgconv.nn.analysis.summary import summarize
    from imgconv.nn.models import families, get_network

    for family in families():
        if not as_json:
            forms = ", ".join(
                f"{key}={'|'.join(str(c).lower() for c in choices) or default}"
                for key, (default, choices) in family.options.items()
            )
            echo(f"{family.title}: {family.citation}\n  options: {forms}")
        for name in family.names:
            network = get_network(name)
            summary = summarize(network.graph)
            row = {
                "name": name, "family": family.title, "input": list(summary.input_shape[1:]),
                "parameters": summary.parameters, "multiply_adds": summary.multiply_adds,
                "variant": network.variant, "citation": network.citation,
                "weights": network.weights is not None,
            }  # fmt: skip
            if as_json:
                echo(json.dumps(row))
                continue
            shipped = " (weights included)" if network.weights else ""
            echo(
                f"  {name:16} {_times(summary.input_shape[1:]):10} "
                f"{summary.parameters:>11,} parameters  "
                f"{_short(summary.multiply_adds):>7} multiply-adds  {network.variant}{shipped}"
            )


@net.command()
@options.network
@options.form
@click.option("--json", "as_json", is_flag=True, help="One JSON object for the network.")
@options.settings
def summary(network: str, settings: NetSettings) -> None:
    """Show every layer's shape, parameters, work, receptive field and memory; needs no weights.

    \b
    imgconv net summary vgg16
    imgconv net summary resnet50:form=v1 --size 320x480
    imgconv net summary 'conv2d 8 3 padding=1 | relu | maxpool 2 | flatten | linear 10'
    """
    from imgconv.nn.analysis.summary import summarize
    from imgconv.pipeline.networks.loading import settled

    found = settled(network, settings)
    result = summarize(found.graph)
    if settings.batch.as_json:
        from imgconv.cli.commands.net.text import as_json as facts

        echo(json.dumps(facts(found, result)))
        return
    from imgconv.cli.commands.net.text import table

    echo(table(found, result))


@net.command()
@options.network
@options.inputs
@options.weights
@click.option(
    "--layer", "patterns", multiple=True, required=True, metavar="GLOB",
    help="Layers to write maps of: 'layer2.*', '*'; repeatable.",
)  # fmt: skip
@options.preprocess
@options_of(MapSettings)
@options.many
@options_of(WriteSettings, "no_metadata", "overwrite", "skip_existing")
@options.settings
def features(
    network: str, inputs: tuple[str, ...], patterns: tuple[str, ...], settings: NetSettings
) -> int:
    """Write the feature maps of a network's layers.

    \b
    imgconv net features lenet5 sample:digit --layer 'c*' -o maps/
    imgconv net features resnet50 photos/*.jpg --weights resnet50.safetensors \\
        --layer layer2 --format npz -o maps/
    imgconv net features vgg16 photo.jpg --seed 1 --layer '*' --dry-run
    imgconv net features vgg16 photo.jpg --seed 1 --layer 'features.*' --report vgg16.html

    NPY, NPZ and safetensors hold the maps (C, H, W) as computed; in pictures they are scaled.
    """
    from imgconv.batch.networks import feature_maps
    from imgconv.cli.commands.net.printing import FeaturePrinter
    from imgconv.cli.printing import Printer
    from imgconv.pipeline.networks.features import Features
    from imgconv.pipeline.networks.request import request_of
    from imgconv.pipeline.records.network_provenance import provenance_of

    found, source = options.ready(network, settings)
    provenance = None
    if not settings.write.no_metadata:
        provenance = provenance_of(network, source, settings, patterns)
    only_report = options.only_report(settings.maps)
    request = request_of(found, source, provenance, settings, patterns, only_report)
    work = Features(request)
    shown = FeaturePrinter(work, settings.batch)
    with (
        feature_maps(work, inputs, settings.batch) as (outcomes, total),
        Printer(total, settings.batch, shown.show, bar=not settings.maps.dry_run) as printer,
    ):
        for outcome in outcomes:
            printer.tell(outcome)
    shown.end()
    return printer.exit_code


@net.command()
@options.network
@options.inputs
@options.weights
@options_of(PredictSettings)
@options.preprocess
@options.many
@options.settings
def predict(network: str, inputs: tuple[str, ...], settings: NetSettings) -> int:
    """Classify images: print the likeliest classes and their probabilities.

    \b
    imgconv net predict lenet5 sample:digit
    imgconv net predict resnet50 photo.jpg --weights resnet50.pth
    imgconv net predict model.onnx photo.jpg --labels imagenet

    Published networks with 1,000 classes use ImageNet's names.
    """
    from dataclasses import replace

    from imgconv.batch.inputs import Scan, check_names
    from imgconv.batch.prediction import Prediction
    from imgconv.cli.commands.net.printing import show_classes
    from imgconv.cli.printing import Printer
    from imgconv.nn.labels import read_labels

    found, _ = options.ready(network, settings)
    wanted, read = settings.predict, settings.preprocess
    if wanted.labels:
        found = replace(found, labels=read_labels(wanted.labels))
    work = Prediction(found, wanted.top, read.frame, read.max_pixels, wanted.batch)
    batch = settings.batch
    check_names(inputs, batch)
    scan = Scan(batch.recursive)
    sources: Iterable[str | ImageError] = scan.expand(inputs, batch.files_from, batch.null)
    if batch.files_from is None:
        sources = list(sources)
    total = len(sources) if isinstance(sources, list) else None
    with Printer(total, batch, show_classes(batch), bar=False) as printer:
        for outcome in work.outcomes(sources):
            printer.tell(outcome)
    return printer.exit_code


@net.command()
@options.network
@options.weights
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="A .safetensors, .npz or .onnx file to write.",
)
@options_of(WriteSettings, "overwrite")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def convert(
    network: str, weights: str | None, seed: int | None, output: str, overwrite: bool, quiet: bool
) -> None:
    """Convert a network's weights to another format, after checking names and shapes.

    An .onnx file holds the whole network, its preprocessing and its labels.

    \b
    imgconv net convert resnet50 --weights resnet50.npz -o resnet50.safetensors
    imgconv net convert lenet5 -o lenet5.onnx
    """
    from imgconv.pipeline.networks.loading import convert as convert_weights

    settings = NetSettings(
        WeightSettings(weights=weights, seed=seed), batch=BatchSettings(quiet=quiet)
    )
    found, source = options.ready(network, settings)
    size = convert_weights(found, source, output, overwrite)
    count = sum(math.prod(p.shape) for p in found.graph.counted().values())
    if not quiet:
        echo(f"{output}: {found.name}, {count:,} numbers, {size:,} bytes", err=True)


def _times(numbers: Iterable[int]) -> str:
    return "×".join(map(str, numbers))


def _short(number: int) -> str:
    """1.8 G, 385 M, 4.1 k."""
    for factor, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {letter}"
    return str(number)
