"""`imgconv net filters` and `imgconv net diff`: what weights look like, and how two sets differ."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from imgconv.cli.commands.net import options
from imgconv.cli.help import Command
from imgconv.cli.options import gathered, options_of
from imgconv.console import echo
from imgconv.errors import ImgconvError, UsageError
from imgconv.pipeline.settings.network import DiffSettings, FilterSettings, NetSettings

if TYPE_CHECKING:
    from imgconv.io.publish import Piece
    from imgconv.nn.analysis.difference import LayerDifference
    from imgconv.nn.models import Network
    from imgconv.shapes import Pair


@click.command(cls=Command)
@options.network
@options.weights
@options_of(FilterSettings)
@gathered(FilterSettings, "wanted")
@options.settings
def filters(network: str, wanted: FilterSettings, settings: NetSettings) -> None:
    """Draw a convolution's filters, in color where they take RGB.

    \b
    imgconv net filters lenet5
    imgconv net filters resnet50 --weights resnet50.pth -o conv1.png
    imgconv net filters vgg16 --weights vgg16.pth --layer features.2 -o features.2.npy

    NPY holds the weights unchanged, (C_out, C_in, kH, kW).
    """
    from imgconv.io.formats import format_of
    from imgconv.io.publish import publish
    from imgconv.io.writing import encode
    from imgconv.nn.find import select_values
    from imgconv.nn.layers import Conv2d
    from imgconv.npy import encode_npy
    from imgconv.pipeline.naming import spelled
    from imgconv.viz.filters import draw_filters
    from imgconv.viz.layout import Layout

    found, _ = options.ready(network, settings)
    graph = found.graph
    names = select_values(graph, (wanted.layer,)) if wanted.layer else tuple(graph.values)
    layers = [(name, graph.producers[name].layer) for name in names]
    chosen = [(name, layer) for name, layer in layers if isinstance(layer, Conv2d)]
    if not chosen:
        raise UsageError(f"{wanted.layer or found.name}: no convolution, expected --layer of one")
    name, layer = chosen[0]
    filters = layer.parameter("weight")
    path = wanted.output or f"{spelled(found.name)}-{spelled(name)}.png"
    made = format_of(path)
    if made.name == "npy":
        pieces: Iterable[Piece] = encode_npy(filters)
    else:
        reverse = found.preprocess.channels == "bgr"
        pieces = encode(draw_filters(filters, Layout(wanted.columns, wanted.tile), reverse), made)
    publish(path, pieces, wanted.overwrite)
    echo(f"{name}: {' × '.join(map(str, filters.shape))} -> {path}")


@click.command(cls=Command)
@click.argument("first", type=options.NETWORK)
@click.argument("second", type=options.NETWORK)
@options_of(DiffSettings)
@gathered(DiffSettings)
def diff(first: str, second: str, settings: DiffSettings) -> int:
    """Compare two networks layer by layer: structure, shapes and weights.

    \b
    imgconv net diff a.onnx b.onnx
    imgconv net diff resnet50 resnet50:form=v1
    imgconv net diff resnet50 resnet50 --weights a.pth --second-weights b.pth

    The exit code is 0 if the networks are equal, 1 if they differ and 2 if they cannot be
    compared. Weights are compared where both networks have them.
    """
    from imgconv.nn.analysis.difference import differences

    weights = settings.first_weights
    try:
        one = _loaded(first, weights, settings.size)
        other = _loaded(second, settings.second_weights or weights, settings.size)
        found = differences(one.graph, other.graph)
    except ImgconvError as error:
        error.exit_code = 2  # as of cmp and diff: 1 says that they differ
        raise
    different = [layer for layer in found if layer.differs]
    if settings.as_json:
        for layer in different:
            echo(json.dumps(asdict(layer)))
        return int(bool(different))
    for layer in different:
        echo(_told(layer))
    echo(_total(found, first, second))
    return int(bool(different))


def _loaded(name: str, path: str | None, size: "Pair | None") -> "Network":
    """A network, with weights where they are named or its own."""
    from imgconv.nn.find import find_network, with_weights

    network = find_network(name, size)
    if path is None and network.weights is None:
        return network
    return with_weights(network, path, None)[0]


def _told(layer: "LayerDifference") -> str:
    """A line of a layer."""
    if not layer.first or not layer.second:
        place = 0 if layer.first else 1
        size = "×".join(map(str, (layer.shapes[place] or ())[1:]))
        return f"{'-+'[place]} {layer.first or layer.second}: {layer.kinds[place]} {size}".rstrip()
    parts = [f"{name} {a or 'nothing'} → {b or 'nothing'}" for name, a, b in layer.options]
    parts += [f"{w.name} differs by up to {w.largest:.4g} of {w.scale:.4g}" for w in layer.weights]
    name = layer.first if layer.first == layer.second else f"{layer.first} = {layer.second}"
    return f"~ {name}: {'; '.join(parts)}"


def _total(found: "list[LayerDifference]", first: str, second: str) -> str:
    """The last line: how many layers differ, and the largest difference of weights."""
    alone = [sum(not layer.second for layer in found), sum(not layer.first for layer in found)]
    paired = [layer for layer in found if layer.first and layer.second]
    changed = sum(layer.differs for layer in paired)
    if not changed and not any(alone):
        return f"equal: {len(paired)} layers"
    text = (
        f"{changed} of {len(paired)} layers differ, {alone[0]} only in {first}, "
        f"{alone[1]} only in {second}"
    )
    weights = [(w.largest, f"{layer.first}.{w.name}") for layer in paired for w in layer.weights]
    if weights:
        text += f"; weights by up to {max(weights)[0]:.4g} ({max(weights)[1]})"
    return text
