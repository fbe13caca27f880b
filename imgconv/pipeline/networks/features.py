"""Feature maps of a network's layers, from image files to files."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np

from imgconv.errors import OutputError
from imgconv.io import scaling
from imgconv.io.complete import is_complete
from imgconv.io.formats import Format, format_named
from imgconv.io.image import Image
from imgconv.io.publish import EXISTS, Piece, exists, publish
from imgconv.io.reading import count_frames, read_images
from imgconv.io.source import StandardInput, is_special
from imgconv.io.writing import Record, encode, encode_archive
from imgconv.nn.find import select_values
from imgconv.nn.fusion import FusedGraph
from imgconv.nn.layers import Shape
from imgconv.nn.models import Network
from imgconv.pipeline.naming import Template, below, component, parent_of, split_source, unique
from imgconv.pipeline.networks.firing import Fired, Firing, maps_of
from imgconv.pipeline.networks.gathering import Gathered, Gathering
from imgconv.pipeline.networks.report import heats_of, page_of, section_maker
from imgconv.pipeline.plan import Claims, Reports, check_against_input
from imgconv.pipeline.recipe import layout_of
from imgconv.pipeline.records.network_provenance import NetworkProvenance
from imgconv.pipeline.records.origin import Origin, taken
from imgconv.pipeline.settings.network import NetSettings
from imgconv.typing import Array
from imgconv.viz.colormaps import default_rule
from imgconv.viz.layout import Layout

if TYPE_CHECKING:
    from imgconv.viz.report.sections import Section

FIELDS = ("stem", "parent", "index", "frame", "layer", "map")
_BYTES = 4  # of a float32
Note = Callable[[str | None, str | None], Record]


class LayerRow(TypedDict):
    """What --json says of a layer's maps; paths: of their files, which are left out there."""

    input: str
    output: str
    layer: str
    maps: int
    height: int
    width: int
    bytes: int
    paths: list[str]
    skipped: NotRequired[bool]
    top_maps: NotRequired[list[Fired]]


@dataclass(frozen=True)
class Request:
    """What is to be written, and how.

    values: names of the network's values. made: the output format: a picture a map (a layer with
    `sheet`), one array (C, H, W) a layer, or one archive an image. weights: what they are, for
    people. only_report: of the page and the maps only the page. provenance: makes the records
    of outputs.
    """

    network: Network
    values: tuple[str, ...]
    made: Format
    weights: str
    settings: NetSettings
    sheet: Layout | None = None
    only_report: bool = False  # and what is told, such as the maps that fire most
    provenance: NetworkProvenance | None = None

    @property
    def scale(self) -> str:
        """How maps become pictures."""
        maps = self.settings.maps
        return maps.scale or default_rule(maps.colormap or "gray")

    @property
    def pictures(self) -> bool:
        """Whether maps become pictures, instead of arrays of what was computed."""
        return not self.made.raw


def request_of(
    network: Network, weights: str, provenance: NetworkProvenance | None, settings: NetSettings,
    patterns: tuple[str, ...], only_report: bool = False,
) -> Request:  # fmt: skip
    """What the options ask of a network with its weights. Raises UsageError."""
    return Request(
        network, select_values(network.graph, patterns), format_named(settings.maps.format),
        weights, settings, layout_of(settings.maps), only_report, provenance,
    )  # fmt: skip


class Names:
    """Output paths. claims: whose each is, so that two images never write to one.

    folders: those that inputs were looked for in, below which outputs lie as the inputs do. Raises
    UsageError for fields that there are not.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.claims = Claims()
        self.folders: set[str] = set()
        self.layers = dict(
            zip(request.values, unique(map(component, request.values)), strict=True)
        )  # fmt: skip
        self._template = Template(request.settings.maps.output, FIELDS)

    def path(self, source: str, index: int, frame: int, layer: str = "", number: str = "") -> str:
        """The path of a map, of a layer (no number), or of an image (no layer).

        Raises UsageError where another image has it, or is it.
        """
        template, output = self._template, self.request.settings.maps.output
        suffix = self.request.made.suffixes[0]
        stem, name = split_source(source)[0], self.layers.get(layer, "")
        if frame and "frame" not in template.used:
            stem += f"-{frame}"
        if template:
            output = template.fill({
                "stem": stem, "index": index, "layer": name, "map": number, "frame": frame,
                "parent": parent_of(source),
            })  # fmt: skip
        if template and not output.endswith(("/", os.sep)):
            path = output
        else:
            parts = (below(source, self.folders), stem, name, number)
            path = os.path.join(output, *filter(None, parts)) + suffix
        what = f"{layer}\0{number}\0{f'frame {frame}' if frame else ''}".strip("\0")
        self.claims.output(path, source, what, _ADVICE)
        check_against_input(path, source, False)
        return path


_ADVICE = "use a template such as -o 'maps/{parent}-{stem}-{frame}/{layer}/{map}.png'"


class Features:
    """Writes the maps of one image after the other; `batch.runner.run` calls it.

    origin: what is recorded of the image, where that is known. only: layer and number of the one
    map that is wanted, as `NetworkProvenance.record` names it. save: takes a file's path and
    pieces, instead of publishing them.
    """

    def __init__(
        self, request: Request, stdin: Callable[[], bytes] | None = None,
        origin: Origin | None = None, only: tuple[str | None, str | None] | None = None,
        save: Callable[[str, Iterable[Piece]], None] | None = None,
    ) -> None:  # fmt: skip
        self.request = request
        self.names = Names(request)
        self.stdin = stdin or StandardInput()
        self._known, self._only, self._save = origin, only, save or self._publish
        self.fused = FusedGraph(request.network.graph, request.values)
        scaling.check_rule(request.scale)
        report = request.settings.maps.report
        self.reports = Reports(report, several=True) if report else None
        top = request.settings.maps.top_maps
        self.firing = Firing(top) if top else None
        maps = request.settings.maps
        self.heats = heats_of(request.network, maps)
        self.gathering = None
        if maps.gather and not maps.dry_run:
            self.gathering = Gathering(maps.gather, request.settings.write.overwrite)

    def follow(self, folders: set[str], claims: Claims) -> None:
        """Let outputs lie as the inputs do below folders; claims: what finds collisions."""
        self.names.folders, self.names.claims = folders, claims
        if self.reports:
            self.reports.plan.folders, self.reports.plan.claims = folders, claims

    def gathered(self) -> Gathered | None:
        """Write what was gathered of all images; return its row, None where nothing was."""
        if self.gathering is None:
            return None
        request = self.request
        weights = os.path.basename(request.weights)
        return self.gathering.publish({"network": request.network.name, "weights": weights})

    def plan(self, source: str, index: int) -> None:
        """Name an image's outputs before any work, so that collisions are found now."""
        self.names.claims.input(source)
        if self.gathering:
            check_against_input(self.gathering.path, source, False)
        self._intended(source, index)

    def _intended(self, source: str, index: int) -> list[list[LayerRow]]:
        """The rows of all frames of an image before they are made."""
        frames = 1
        if self.request.settings.preprocess.frame == "all" and not is_special(source):
            data = self.stdin() if source == "-" else source
            frames = count_frames(data, self.request.settings.preprocess.max_pixels).number
        shapes = self._planned(source)
        if self.reports:
            for frame in range(frames):
                self.reports.path(source, index, frame)
        return [list(self._outputs(source, index, frame, shapes)) for frame in range(frames)]

    def _left(
        self, rows: list[LayerRow], page: str | None
    ) -> list[LayerRow] | None:  # fmt: skip
        """The rows of a frame whose outputs are complete and stay, None where they are to be made.

        Raises OutputError for an output that exists and is not to be replaced.
        """
        request = self.request
        paths = [path for row in rows for path in row["paths"]]
        if request.settings.write.skip_existing:
            done = all(is_complete(path, request.made.name) for path in paths)
            if done and (paths or page) and (page is None or os.path.exists(page)):
                return [row | {"skipped": True} for row in rows]
        elif not request.settings.write.overwrite:
            for path in filter(None, (*paths, page)):
                if exists(path):
                    raise OutputError(f"{path}: {EXISTS}")
        return None

    def __call__(self, source: str, index: int) -> list[LayerRow]:
        """Write an image's maps; return a row a layer. Raises ImgconvError."""
        request = self.request
        if request.settings.maps.dry_run:
            found = []
            for frame, rows in enumerate(self._intended(source, index)):
                page = self.reports.path(source, index, frame) if self.reports else None
                found += self._left(rows, page) or rows
            return found
        data = taken(source, request.settings.preprocess.max_pixels, self.stdin)
        origin = self._origin(source, data)
        results = []
        several = request.settings.preprocess.frame == "all"
        for image in self._images(source, data):
            frame = image.frame if several else 0
            tensor = request.network.preprocess(image.pixels, image.full_scale, image.alpha)
            shapes = self.fused.at(tensor.shape).shapes({self.fused.input: tensor.shape})
            rows = list(self._outputs(source, index, frame, shapes))
            page = self.reports.path(source, index, frame) if self.reports else None
            left = self._left(rows, page)
            if left is None:
                sections = self._write(tensor, rows, self._noting(origin, image.frame))
                if self.gathering:
                    self.gathering.commit(source, frame if several else None)
                if self.reports and page:
                    above = [section(image, tensor, len(sections)) for section in self.heats]
                    content = page_of(request.network, request.weights, image, [*above, *sections])
                    self.reports.write(content, page, self._replaces)
            results += rows if left is None else left
        return results

    def _origin(self, source: str, data: str | bytes) -> Origin | None:
        """What the records say of the input, if there are any."""
        if (
            self.request.provenance is None
            or not self.request.made.note
            or self.request.only_report
        ):
            return None
        return self._known or Origin(source, data if isinstance(data, bytes) else None)

    def _noting(self, origin: Origin | None, frame: int) -> Note:
        """(layer, map's number) → the record of that output."""
        request = self.request

        def note(layer: str | None, number: str | None) -> Record:
            if origin is None or request.provenance is None:
                return None
            return request.provenance.record(origin, frame, request.made, layer, number)

        return note

    def _images(self, source: str, data: str | bytes) -> Iterator[Image]:
        name = "standard input" if source == "-" else source
        wanted = self.request.settings.preprocess
        yield from read_images(data, frame=wanted.frame, max_pixels=wanted.max_pixels, name=name)

    def _planned(self, source: str) -> dict[str, Shape]:
        """The shapes of all values for an image; it is opened only where its size decides."""
        preprocess = self.request.network.preprocess
        size = preprocess.crop or preprocess.resize
        if not isinstance(size, tuple):
            data = taken(source, self.request.settings.preprocess.max_pixels, self.stdin)
            image = next(self._images(source, data))
            size = preprocess.size_of(image.pixels.shape[0], image.pixels.shape[1])
        shape = (*self.request.network.input_shape[:2], *size)
        graph = self.request.network.graph.at({self.fused.input: shape})
        return graph.shapes({self.fused.input: shape})

    def _maps(self, shape: Shape) -> tuple[int, int, int]:
        """(C, H, W) of a value; (N, features), and maps of one unit in pictures, are one row."""
        if len(shape) == 4 and (shape[2:] != (1, 1) or not self.request.pictures):
            return shape[1], shape[2], shape[3]
        return 1, 1, math.prod(shape[1:])

    def _outputs(
        self, source: str, index: int, frame: int, shapes: dict[str, Shape]
    ) -> Iterator[LayerRow]:
        """A row a layer: what it will write, where, and how many maps and bytes that is."""
        request = self.request
        for layer in request.values:
            maps, height, width = self._maps(shapes[layer])
            if request.only_report:
                paths, output = [], request.settings.maps.report or ""
            elif request.made.archive:
                paths = [self.names.path(source, index, frame)]
                output = paths[0]
            elif request.sheet or not request.pictures:
                paths = [self.names.path(source, index, frame, layer)]
                output = paths[0]
            else:
                digits = len(str(maps - 1))
                numbers = [f"{number:0{digits}d}" for number in range(maps)]
                paths = [self.names.path(source, index, frame, layer, n) for n in numbers]
                output = paths[0] if maps == 1 else os.path.dirname(paths[0]) + os.sep
            yield {
                "input": source, "output": output, "layer": layer, "maps": maps, "height": height,
                "width": width, "bytes": _BYTES * maps * height * width, "paths": paths,
            }  # fmt: skip

    def _write(self, tensor: Array, rows: list[LayerRow], note: Note) -> list["Section"]:
        """Compute and write an image's maps; return what its report shows of them."""
        request = self.request
        sections = None
        if self.reports:
            sections = section_maker(request.network.graph, tensor.shape, len(request.values))
        kept: dict[str, Array] = {}
        by_name = {row["layer"]: row for row in rows}
        found = []
        for layer, values in self.fused.at(tensor.shape).trace(tensor, request.values):
            maps = values.reshape(self._maps(values.shape))
            if sections:
                found.append(sections(layer, maps))
            if self.firing:
                by_name[layer]["top_maps"] = self.firing.of_image(layer, maps_of(values))
            if self.gathering:
                self.gathering.add(layer, values)
            if request.only_report:
                continue
            if request.made.archive:
                kept[self.names.layers[layer]] = np.ascontiguousarray(maps)
            else:
                self._write_layer(layer, maps, by_name[layer]["paths"], note)
        if kept and self._wants(None, None):
            pieces = encode_archive(kept, request.made, note(None, None))
            self._save(rows[0]["paths"][0], pieces)
        return found

    def _write_layer(self, layer: str, maps: Array, paths: list[str], note: Note) -> None:
        request = self.request
        if request.pictures and not request.sheet:
            digits = len(str(len(maps) - 1))
            for number, path, picture in zip(
                range(len(maps)), paths, self._pictures(maps), strict=True
            ):
                self._encode(path, picture, layer, f"{number:0{digits}d}", note)
        elif request.sheet:
            self._encode(paths[0], self._sheet(layer, maps), layer, None, note)
        else:
            # Channels last where the format is read as an image; NPY is (C, H, W) as computed.
            samples = maps if request.made.name == "npy" else maps.transpose(1, 2, 0)
            self._encode(paths[0], samples, layer, None, note)

    def _encode(
        self, path: str, samples: Array, layer: str, number: str | None, note: Note
    ) -> None:
        if self._wants(layer, number):
            self._save(path, encode(
                np.ascontiguousarray(samples), self.request.made, compress="fast",
                record=note(layer, number),
            ))  # fmt: skip

    def _wants(self, layer: str | None, number: str | None) -> bool:
        """Whether an output is to be made."""
        return self._only in (None, (layer, number))

    def _publish(self, path: str, pieces: Iterable[Piece]) -> None:
        publish(path, pieces, self._replaces)

    @property
    def _replaces(self) -> bool:
        return self.request.settings.write.overwrite or self.request.settings.write.skip_existing

    def _pictures(self, maps: Array) -> Iterator[Array]:
        from imgconv.viz.colormaps import colorize

        rule, shown = self.request.scale, self.request.settings.maps
        deep = shown.depth == "16" and shown.colormap is None
        dtype = np.dtype(np.uint16 if deep else np.uint8)
        shared = scaling.limits_of(maps, rule, 1.0) if shown.share_scale else None
        for plane in maps:
            samples, _ = scaling.scale_map(plane[..., None], rule, 1.0, dtype, shared)
            yield colorize(samples, shown.colormap) if shown.colormap else samples

    def _sheet(self, layer: str, maps: Array) -> Array:
        from imgconv.viz.sheet import Shown, draw_maps

        request = self.request
        assert request.sheet is not None
        digits = len(str(len(maps) - 1))
        shown = [
            Shown(f"{number:0{digits}d}", plane[..., None], request.scale)
            for number, plane in enumerate(maps)
        ]
        return draw_maps(shown, 1.0, request.sheet, request.settings.maps.colormap)
