"""The way of one image through a network: read → preprocess → trace → finish → write."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from imgconv.io import scaling
from imgconv.io.image import Image
from imgconv.io.publish import Piece, publish
from imgconv.io.reading import count_frames, read_images
from imgconv.io.source import StandardInput, is_special
from imgconv.io.writing import Record, encode, encode_archive
from imgconv.nn.fusion import FusedGraph
from imgconv.nn.layers import Shape
from imgconv.pipeline.networks.firing import Firing, maps_of
from imgconv.pipeline.networks.gathering import Gathered, Gathering
from imgconv.pipeline.networks.outputs import LayerOutputs, LayerRow, numbered, of_one_image
from imgconv.pipeline.networks.report import heats_of, page_of, scores_of, section_maker
from imgconv.pipeline.networks.request import Request
from imgconv.pipeline.plan import check_against_input
from imgconv.pipeline.records.origin import Origin, taken
from imgconv.typing import Array

if TYPE_CHECKING:
    from imgconv.viz.report.sections import Section

# Of a layer and a map's number, None where a file holds all of them.
Note = Callable[[str | None, str | None], Record]


class Features:
    """Writes the maps of one image after the other; `batch.runner.run` calls it.

    given: the image's bytes, or its path, where it was opened before. origin: what is recorded of
    it, where that is known. only: layer and number of the one
    map that is wanted, as `NetworkProvenance.record` names it. save: takes a file's path and
    pieces, instead of publishing them.
    """

    def __init__(
        self, request: Request, given: str | bytes | None = None,
        origin: Origin | None = None, only: tuple[str | None, str | None] | None = None,
        save: Callable[[str, Iterable[Piece]], None] | None = None,
    ) -> None:  # fmt: skip
        self.request, self.out = request, LayerOutputs(request)
        self.given, self.stdin = given, StandardInput(request.settings.preprocess.max_pixels)
        self._known, self._only, self._save = origin, only, save or self._publish
        limit = request.network.preprocess.max_pixels
        self.fused = FusedGraph(request.network.graph, request.values, request.made.archive, limit)
        scaling.check_rule(request.scale)
        top = request.settings.maps.top_maps
        self.firing = Firing(top) if top else None
        self.heats = heats_of(request.network, request.settings.maps)
        gather = None if request.settings.maps.dry_run else request.settings.maps.gather
        self.gathering = Gathering(gather, request.settings.write.overwrite) if gather else None

    def gathered(self) -> Gathered | None:
        """Write what was gathered of all images; return its row, None where nothing was."""
        if self.gathering is None:
            return None
        weights = os.path.basename(self.request.weights)
        return self.gathering.publish({"network": self.request.network.name, "weights": weights})

    def plan(self, source: str, index: int) -> None:
        """Name an image's outputs before any work, so that collisions are found now."""
        self.out.claims.input(source)
        if self.gathering:
            check_against_input(self.gathering.path, source, False)
        self._intended(source, index)

    def __call__(self, source: str, index: int) -> list[LayerRow]:
        """Write an image's maps; return one row per layer. Raises ImgconvError."""
        request, out, results = self.request, self.out, list[LayerRow]()
        if request.settings.maps.dry_run:
            for rows, page in self._intended(source, index):
                results += out.unneeded(rows, page) or rows
            return results
        wanted = request.settings.preprocess
        data = taken(source, wanted.max_pixels, self.stdin, self.given)
        origin = self._origin(source, data)
        for image in self._read(source, data):
            frame = image.frame if wanted.frame == "all" else 0
            tensor = request.network.preprocess(image.pixels, image.full_scale, image.alpha)
            shapes = self.fused.at(tensor.shape).shapes({self.fused.input: tensor.shape})
            rows, page = out.rows(source, index, frame, shapes), out.page(source, index, frame)
            left = out.unneeded(rows, page)
            if left is None:
                note = self._noting(origin, image.frame)
                sections, scores = self._write(image, tensor, rows, note)
                if self.gathering:
                    self.gathering.commit(source, frame if wanted.frame == "all" else None)
                if out.reports and page:
                    above = [section(image, tensor, len(sections)) for section in self.heats]
                    content = page_of(
                        request.network, request.weights, image, [*above, *sections], scores
                    )
                    out.reports.write(content, page, out.replaces)
            results += rows if left is None else left
        return results

    def _read(self, source: str, data: str | bytes) -> Iterator[Image]:
        name = "standard input" if source == "-" else source
        wanted = self.request.settings.preprocess
        yield from read_images(data, frame=wanted.frame, max_pixels=wanted.max_pixels, name=name)

    def _write(
        self, image: Image, tensor: Array, rows: list[LayerRow], note: Note
    ) -> tuple[list["Section"], Array | None]:
        """Compute and write an image's maps; return what its report shows of them, and scores."""
        request, sections = self.request, list["Section"]()
        section, scores, wanted, classes = None, None, {*request.values}, None
        if self.out.reports:
            section = section_maker(request.network, tensor.shape, len(request.values))
            classes = scores_of(request.network)
            wanted |= {classes} if classes else set()
        together: dict[str, Array] = {}
        by_name = {row["layer"]: row for row in rows}
        for layer, values in self.fused.at(tensor.shape).trace(tensor, wanted):
            scores = values if layer == classes else scores
            if layer not in by_name:
                continue
            values = values.reshape(of_one_image(values.shape))
            maps = values.reshape(self.out.shape(values.shape))
            if section:
                sections.append(section(layer, maps))
            if self.firing:
                by_name[layer]["top_maps"] = self.firing.of_image(layer, maps_of(values))
            if self.gathering:
                self.gathering.add(layer, values)
            if request.made.archive and not request.only_report:
                together[self.out.layers[layer]] = np.ascontiguousarray(maps)
            elif not request.only_report:
                for path, (number, samples) in zip(
                    by_name[layer]["paths"], _finish(request, image, layer, maps), strict=True
                ):
                    if self._wants(layer, number):
                        self._save(path, encode(
                            np.ascontiguousarray(samples), request.made, compress="fast",
                            record=note(layer, number),
                        ))  # fmt: skip
        if together and self._wants(None, None):
            pieces = encode_archive(together, request.made, note(None, None))
            self._save(rows[0]["paths"][0], pieces)
        return sections, scores

    def _intended(self, source: str, index: int) -> list[tuple[list[LayerRow], str | None]]:
        """The rows of all frames of an image before they are made, and its pages."""
        frames, wanted = 1, self.request.settings.preprocess
        if wanted.frame == "all" and not is_special(source):
            data = self.stdin() if source == "-" else source
            frames = count_frames(self.given or data, wanted.max_pixels, name=source).number
        shapes = self._shapes(source)
        pages = [self.out.page(source, index, frame) for frame in range(frames)]
        return [(self.out.rows(source, index, frame, shapes), pages[frame])
                for frame in range(frames)]  # fmt: skip

    def _shapes(self, source: str) -> dict[str, Shape]:
        """The shapes of all values for an image; it is opened only where its size decides."""
        network = self.request.network
        size = network.preprocess.crop or network.preprocess.resize
        if not isinstance(size, tuple):
            limit = self.request.settings.preprocess.max_pixels
            data = taken(source, limit, self.stdin, self.given)
            image = next(self._read(source, data))
            size = network.preprocess.size_of(image.pixels.shape[0], image.pixels.shape[1])
        inputs = {self.fused.input: (*network.input_shape[:2], *size)}
        return network.graph.at(inputs).shapes(inputs)

    def _origin(self, source: str, data: str | bytes) -> Origin | None:
        """What the records say of the input, if there are any."""
        request = self.request
        if request.provenance is None or not request.made.note or request.only_report:
            return None
        return self._known or Origin(source, data if isinstance(data, bytes) else None)

    def _noting(self, origin: Origin | None, frame: int) -> Note:
        """What makes the record of an output."""
        provenance, made = self.request.provenance, self.request.made
        if origin is None or provenance is None:
            return lambda layer, number: None
        return lambda layer, number: provenance.record(origin, frame, made, layer, number)

    def _wants(self, layer: str | None, number: str | None) -> bool:
        """Whether an output is to be made."""
        return self._only in (None, (layer, number))

    def _publish(self, path: str, pieces: Iterable[Piece]) -> None:
        publish(path, pieces, self.out.replaces)


def _finish(
    request: Request, image: Image, layer: str, maps: Array
) -> Iterator[tuple[str | None, Array]]:
    """A layer's maps (C, H, W) as the samples of its files, each with the number of its map."""
    if request.sheet:
        yield None, _sheet(request, image, layer, maps)
    elif request.pictures:
        yield from zip(numbered(len(maps)), _pictures(request, maps), strict=True)
    else:
        # Channels last where the format is read as an image; NPY is (C, H, W) as computed.
        yield None, maps if request.made.name == "npy" else maps.transpose(1, 2, 0)


def _pictures(request: Request, maps: Array) -> Iterator[Array]:
    from imgconv.viz.colormaps import colorize

    rule, shown = request.scale, request.settings.maps
    deep = shown.depth == "16" and shown.colormap is None
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    shared = scaling.limits_of(maps, rule, 1.0) if shown.share_scale else None
    for plane in maps:
        samples, _ = scaling.scale_map(plane[..., None], rule, 1.0, dtype, shared)
        yield colorize(samples, shown.colormap, plane) if shown.colormap else samples


def _sheet(request: Request, image: Image, layer: str, maps: Array) -> Array:
    """The maps behind what the network was given of the image."""
    from imgconv.viz.sheet import Shown, Tile, draw_maps

    assert request.sheet is not None
    numbers = numbered(len(maps))
    shown = [Shown(number, plane[..., None], request.scale)
             for number, plane in zip(numbers, maps, strict=True)]  # fmt: skip
    title = f"{layer}: {len(maps)} × {maps.shape[1]} × {maps.shape[2]}"
    view = request.network.preprocess.view(image.pixels, image.full_scale, image.alpha)
    return draw_maps(
        shown, 1.0, request.sheet, request.settings.maps.colormap, [Tile("input", view)], title
    )
