"""Class maps and occlusion of images, from image files to pictures, arrays and pages."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

import numpy as np

from imgconv.errors import OutputError, UsageError
from imgconv.io.complete import is_complete
from imgconv.io.formats import format_named, format_of
from imgconv.io.image import Image
from imgconv.io.publish import EXISTS, exists, publish
from imgconv.io.reading import read_input
from imgconv.io.writing import encode, encode_archive
from imgconv.nn.analysis.attribution import ClassMaps, Occlusion, windows
from imgconv.nn.analysis.receptive import fields
from imgconv.nn.models import Network
from imgconv.npy import encode_npy
from imgconv.pipeline.naming import Part
from imgconv.pipeline.plan import Plan, check_against_input
from imgconv.pipeline.settings.network import HeatSettings, NetSettings, OcclusionSettings
from imgconv.typing import Array
from imgconv.viz.heat import overlay
from imgconv.viz.report.sections import Section, section


@dataclass(frozen=True)
class Heat:
    """A map (h, w) of what matters for a class; layer: whose maps it is made of, if of any's."""

    number: int
    score: float
    values: Array
    layer: str = ""


_Class = TypedDict("_Class", {"class": NotRequired[int]})  # a word of Python's


class HeatRow(_Class):
    """What --json says of a map; all but the names is left out of one that was there already."""

    input: str
    output: str
    skipped: NotRequired[bool]
    label: NotRequired[str | None]
    score: NotRequired[float]
    layer: NotRequired[str]
    height: NotRequired[int]
    width: NotRequired[int]
    largest: NotRequired[float]
    at: NotRequired[list[int]]


Maker = Callable[[Array], Heat]


def class_number(network: Network, text: str | None) -> int | None:
    """The class of a number or a name; None for the likeliest. Raises UsageError."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        count = network.graph.shapes()[network.graph.outputs[0]][1:2]
        if count and int(text) >= count[0]:
            raise UsageError(f"--class {text} of {count[0]}, expected 0 to {count[0] - 1}")
        return int(text)
    folded = [label.casefold() for label in network.labels]
    if folded.count(text.casefold()) == 1:
        return folded.index(text.casefold())
    near = difflib.get_close_matches(text.casefold(), folded, 1)
    hint = f"; did you mean {network.labels[folded.index(near[0])]}?" if near else ""
    raise UsageError(f"--class {text}: no class of {network.name}, expected a number or name{hint}")


def by_gradient(
    network: Network, number: int | None, layer: str | None = None, plain: bool = False
) -> Maker:
    """What makes class maps; see `ClassMaps`."""
    maps = ClassMaps(network, layer, plain)

    def make(tensor: Array) -> Heat:
        found = maps(tensor, number)
        return Heat(found.number, found.score, found.values, found.layer)

    return make


def by_occlusion(network: Network, number: int | None, wanted: OcclusionSettings) -> Maker:
    """What covers windows of images; see `Occlusion`."""
    occlusion = Occlusion(network, wanted.batch)
    settings = network.preprocess

    def make(tensor: Array) -> Heat:
        size = tensor.shape[2], tensor.shape[3]
        where = windows(size, _pair(wanted.window), _pair(wanted.stride))
        if wanted.fill == "mean":
            fill = tensor[0].mean(axis=(1, 2), keepdims=True)
        else:
            shade = {"black": 0.0, "gray": 0.5, "white": 1.0}[wanted.fill]
            shade = 1 - shade if settings.invert else shade
            colors = (shade * settings.scale - np.array(settings.mean)) / np.array(settings.std)
            fill = np.broadcast_to(colors.astype(np.float32), tensor.shape[1]).reshape(-1, 1, 1)
        number_, score, values = occlusion(tensor, number, where, fill)
        return Heat(number_, score, values)

    return make


def _pair(value: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (value, value) if isinstance(value, int) else value


class Attribution:
    """Writes the map of one image after the other; `batch.runner.run` calls it.

    name: what default names end in. signed: maps have values below 0 that mean something.
    """

    def __init__(
        self, network: Network, settings: NetSettings, heat: HeatSettings, make: Maker, name: str,
        signed: bool,
    ) -> None:  # fmt: skip
        self.network, self.settings, self.make, self.name = network, settings, make, name
        self.colormap = heat.colormap or ("coolwarm" if signed else "magma")
        suffix = format_named(heat.format or "png").suffixes[0]
        advice = "use -o DIR/ or a template such as -o '{parent}-{stem}.png'"
        if heat.output == "-":
            raise UsageError("-o -: expected a file, a folder/ or a template with {stem}")
        self.plan = Plan(heat.output, suffix, advice=advice)

    def path(self, source: str, index: int, frame: int = 0) -> str:
        """The output of an image. Raises UsageError where another image has it, or is it."""
        path = self.plan.path(source, Part(self.name, "", self.name), index, frame)
        if path == "-":  # of an image from standard input, whose picture has a name too
            path = f"stdin-{self.name}{self.plan.suffix}"
        check_against_input(path, source, False, "expected another name")
        return path

    def __call__(self, source: str, index: int) -> list[HeatRow]:
        """Write an image's map; return one row per frame. Raises ImgconvError."""
        wanted = self.settings.preprocess
        images = read_input(source, frame=wanted.frame, max_pixels=wanted.max_pixels)
        several = wanted.frame == "all"
        return [
            self._one(image, self.path(source, index, image.frame if several else 0), source)
            for image in images
        ]

    def _one(self, image: Image, path: str, source: str) -> HeatRow:
        write, made = self.settings.write, format_of(path)
        if write.skip_existing and is_complete(path, made.name):
            return {"input": source, "output": path, "skipped": True}
        if not (write.overwrite or write.skip_existing) and exists(path):
            raise OutputError(f"{path}: {EXISTS}")
        preprocess = self.network.preprocess
        tensor = preprocess(image.pixels, image.full_scale, image.alpha)
        heat = self.make(tensor)
        if made.archive:
            pieces = encode_archive({self.name: heat.values}, made)
        elif made.raw:
            whole = made.name == "npy"  # (H, W), as computed
            pieces = encode_npy(heat.values) if whole else encode(heat.values[..., None], made)
        else:
            view = preprocess.view(image.pixels, image.full_scale, image.alpha)
            pieces = encode(overlay(view, heat.values, self.colormap), made)
        publish(path, pieces, write.overwrite or write.skip_existing)
        peak = np.unravel_index(int(heat.values.argmax()), heat.values.shape)
        return {
            "input": source, "output": path,
            "class": heat.number, "label": label_of(self.network, heat.number),
            "score": heat.score, "layer": heat.layer, "height": heat.values.shape[0],
            "width": heat.values.shape[1], "largest": float(heat.values.max()),
            "at": [int(place) for place in peak],
        }  # fmt: skip


def label_of(network: Network, number: int) -> str | None:
    """A class's name, None where it is not known."""
    return network.labels[number] if number < len(network.labels) else None


def heat_section(
    network: Network, make: Maker, what: str, image: Image, tensor: Array, layers: int
) -> Section:
    """A report's section of a map: its values, over the image too, and what each of them sees.

    layers: how many other sections the page has.
    """
    heat = make(tensor)
    label = label_of(network, heat.number) or f"class {heat.number}"
    field = None
    if heat.layer:
        inputs = {next(iter(network.graph.inputs)): tensor.shape}
        graph = network.graph.at(inputs)
        field = fields(graph, graph.shapes(inputs)).get(heat.layer)
    title = f"{what} of {heat.layer}" if heat.layer else what
    view = network.preprocess.view(image.pixels, image.full_scale, image.alpha)
    shown = overlay(view, heat.values, "magma" if heat.layer else "coolwarm")
    found = section(title, f"what speaks for {label}, score {heat.score:.4g}", heat.values[None],
                    [label], layers + 1, field)  # fmt: skip
    return replace(found, picture=shown)
