"""The way of one input: read → filter → finish → write.

An image comes as rows: in bands while the rest is still in the file, or as one band that holds it
all. So do its maps, and whatever of an image, a map or a recipe needs the whole makes one band.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from imgconv.errors import ImgconvError, OutputError
from imgconv.io.formats import FORMATS, Format, output_dtype
from imgconv.io.image import Image
from imgconv.io.publish import Output, held, leads_to_a_stream, publish_together
from imgconv.io.reading import count_frames
from imgconv.io.source import is_zarr
from imgconv.io.streamed import Streamed, rows_of
from imgconv.io.writing import encode, encode_archive, encode_rows, writing_loops
from imgconv.jit import ahead
from imgconv.ops.rows import WatchedRows
from imgconv.pipeline import everyday, finish
from imgconv.pipeline.bands.maps import MapRows, map_rows
from imgconv.pipeline.item import Input
from imgconv.pipeline.outputs import Outputs, Planned, Request, Row, skipped
from imgconv.pipeline.recipe import names_of
from imgconv.pipeline.records.origin import Origin, taken
from imgconv.pipeline.results import results_of
from imgconv.pipeline.whole import Map
from imgconv.typing import Array


class Work:
    """Makes the outputs of inputs, each on its own.

    origin: what is recorded of the input, where that is known. watch: is told the rows that are
    done of one large image, and how many it has.
    """

    watch: Callable[[int, int], None] | None = None

    def __init__(self, out: Outputs, origin: Origin | None = None) -> None:
        self.out, self.origin = out, origin

    def __getstate__(self) -> dict[str, object]:
        """A copy for another process, which has no bar to move."""
        return {**vars(self), "watch": None}

    def __call__(self, source: str, index: int, replace: bool = False) -> list[Row]:
        """Make an input's results; `replace`: over any that exist. Raises ImgconvError."""
        planned = self.out.planned(source, index)
        rows = self.out.unneeded(source, planned, replace)
        if rows is not None:
            return rows
        item = Input(self.out, source, index, replace, self.origin)
        item.watch = self.watch
        if self.out.request.settings.batch.cluster:  # whose tasks know at once what is there
            return _filter(item, planned)
        with held():
            return _filter(item, planned)

    def outputs(self, source: str, index: int) -> list[str]:
        """The paths of all results of an input; finds collisions."""
        return [item.path for item in self.out.planned(source, index)]

    def apart(self) -> None:
        """This is a worker's copy: what an output is called collides with nothing here."""
        self.out.plan.claims = None
        if self.out.reports:
            self.out.reports.plan.claims = None

    def warm(self) -> None:
        """Compile or load what this work runs, by doing it to small images."""
        write, recipe = self.out.request.settings.write, self.out.request.recipe
        format = self.out.made or FORMATS["png"]
        level = finish.level_of(write.compress)
        for channels in (1, 3):
            for dtype in (np.uint8, np.uint16):
                blank = Image(np.zeros((64, 64, channels), dtype))
                with contextlib.suppress(ImgconvError):
                    kind = output_dtype(format, write.depth, blank.pixels.dtype)
                    for map in results_of(blank, recipe, kind, format.raw):
                        list(encode(map.samples, format, compress=level))


def _filter(item: Input, planned: list[Planned]) -> list[Row]:
    """Read an input, filter its images, finish their maps and write them."""
    out, source, request = item.out, item.source, item.out.request
    read, every = request.settings.read, request.settings.read.frame == "all"
    data = taken(source, read.max_pixels, out.stdin, out.given)
    item.origin = item.origin or finish.origin_of(out, source, data)
    if read.frame is None and not out.reports and _in_files(source, planned):
        rows = _filter_file(item, data)
        if rows is not None:
            return rows
    results: list[Row] = []
    together = False  # whether the frames go into one file
    if every:
        frames = count_frames(data, read.max_pixels, request.settings.batch.memory, source)
        together = out.in_one_file(source, planned[0].path, frames)
    if together:
        from imgconv.pipeline.frames import filter_frames

        results = filter_frames(item, lambda: item.images(data), filter_whole, frames.number)
        if not out.reports:
            return results
    for image in item.images(data):
        if not together:
            item.tell(*finish.notes_of(request, image))
            # MPO is a camera's JPEG: its further frames are previews of the old picture.
            if request.settings.write.in_place and image.frames > 1 and image.format != "MPO":
                raise OutputError(
                    f"{source}: --in-place would lose frames of its {image.frames}; "
                    "--frame all filters them all"
                )
            results += filter_image(item, image) or []
        if out.reports:
            from imgconv.pipeline.report import report_of

            path = out.reports.path(source, item.index, image.frame * every)
            page = report_of(image, request.recipe)
            size = out.reports.write(page, path, item.replace or out.replacing)
            results.append({"input": source, "output": path, "map": "report", "bytes": size})
    return results


def _filter_file(item: Input, data: str | bytes) -> list[Row] | None:
    """Filter a file whose rows are read while others are written; None where that does not go."""
    from imgconv.io.png.chunks import Unusual

    image = None if item.out.together(item.source) else item.rows(data)
    if image is None:
        return None
    item.tell(*finish.notes_of(item.out.request, image))
    with contextlib.closing(image.rows):
        try:
            return filter_image(item, image)
        except Unusual:
            return None  # the file is damaged: the whole of it is left to Pillow


def filter_image(item: Input, image: Image | Streamed) -> list[Row] | None:
    """Filter an image, finish its maps and write them; None where it has to be in memory."""
    out, source, request = item.out, item.source, item.out.request
    named = names_of(request.recipe)
    if not named:
        return None
    number = image.frame if isinstance(image, Image) else 0
    frame = number * (request.settings.read.frame == "all")
    paths = {part.name: out.path(source, part.part, item.index, frame) for part in named}
    format = out.format(source, paths[named[0].name])
    rows = {name: skipped(source, path, name) for name, path in paths.items()}
    wanted = [place for place, part in enumerate(named)
              if not out.finished(source, paths[part.name], item.replace)]  # fmt: skip
    if not wanted:
        return list(rows.values())
    together = out.together(source)
    maps = None
    if not together and (len(paths) == 1 or out.side_by_side(list(paths.values()), format)):
        maps = filter_bands(request, rows_of(image), format, wanted)
    if maps is None and not isinstance(image, Image):
        return None
    item.tell(
        finish.note_of_opacity(request, source, image, format),
        finish.note_of_type(request, image, format),
    )
    files = _Files(item, image, format, paths, number)
    if maps is not None:
        rows |= files.write(maps)
    elif isinstance(image, Image):
        chosen = {named[place].name for place in wanted}
        whole = (map for map in filter_whole(request, image, format) if map.name in chosen)
        if together:
            rows |= files.write_archive(whole)
        else:
            for map in whole:  # each is written before the next one is made
                rows |= files.write([map])
    return list(rows.values())


def filter_bands(
    request: Request, image: Streamed, format: Format, wanted: Sequence[int]
) -> list[MapRows] | None:
    """The wanted maps of an image as rows; None where one of them needs the whole image."""
    dtype, raw = finish.sample_type(request, format, image)
    return map_rows(image, finish.recipe_for(request, format), dtype, raw, format.alpha, wanted)


def filter_whole(request: Request, image: Image, format: Format) -> Iterator[Map]:
    """The maps of an image, of one band each."""
    dtype, raw = finish.sample_type(request, format, image)
    for map in results_of(image, finish.recipe_for(request, format), dtype, raw):
        yield map if format.alpha else map.opaque()


class _Files:
    """Where the maps of one image go, by their names, and what their files say.

    frame: of the input's, for the records.
    """

    def __init__(
        self, item: Input, image: Image | Streamed, format: Format, paths: dict[str, str],
        frame: int,
    ) -> None:  # fmt: skip
        self.item, self.image, self.format, self.paths = item, image, format, paths
        self.frame = frame

    def write(self, maps: Sequence[Map | MapRows]) -> dict[str, Row]:
        """Write maps side by side while they are made; return a row of each by its name."""
        out, watch = self.item.out, self.item.watch
        outputs, rows = [], {}
        for map in maps:
            path, rows[map.name] = self.paths[map.name], self._row(map)
            record = finish.record_of(
                out, self.item.source, self.item.origin, self.frame, map.name, self.format
            )
            options = finish.encode_options(out, path, record, self.image, map)
            if out.request.settings.batch.cluster:
                from imgconv.pipeline.division import check_undivided

                check_undivided(self.image, map, path, self.format, options, rows[map.name],
                                out.request.settings.batch.memory)  # fmt: skip
            watched = WatchedRows(map, watch) if watch and map is maps[-1] else map
            patched = path != "-" and not leads_to_a_stream(path)
            pieces = encode_rows(watched, self.format, **options, patched=patched)
            outputs.append(Output(path, pieces, map.done))
        loops = (loop for map in maps for loop in map.loops())
        ahead.compile_missing([*writing_loops(self.format), *loops], everyday.loops)
        if len(outputs) > 1:
            sizes = publish_together(outputs, self.item.replace or out.replacing)
        else:
            sizes = [out.publisher(self.item.replace)(outputs[0].path, outputs[0].pieces)]
        for map, size in zip(maps, sizes, strict=True):
            rows[map.name]["bytes"] = size
            self._warn(map)
        return rows

    def write_archive(self, maps: Iterable[Map]) -> dict[str, Row]:
        """Write all maps into one file."""
        arrays: dict[str, Array] = {}
        rows: dict[str, Row] = {}
        for map in maps:
            arrays[map.name or "image"] = map.samples
            rows[map.name] = self._row(map)
            self._warn(map)
        out, source = self.item.out, self.item.source
        record = finish.record_of(out, source, self.item.origin, self.frame, "", self.format)
        pieces = encode_archive(arrays, self.format, record)
        size = out.publisher(self.item.replace)(next(iter(self.paths.values())), pieces)
        return {name: row | {"bytes": size} for name, row in rows.items()}

    def _row(self, map: Map | MapRows) -> Row:
        _, raw = finish.sample_type(self.item.out.request, self.format, self.image)
        return finish.row_of(self.item.source, self.paths[map.name], map, raw)

    def _warn(self, map: Map | MapRows) -> None:
        if warning := map.warning():
            self.item.tell(f"{self.item.source}: {warning}")


def _in_files(source: str, planned: list[Planned]) -> bool:
    """Whether all are files: a pipe is read once, and takes back nothing of a damaged image."""
    return (os.path.isfile(source) or is_zarr(source)) and not any(
        item.path == "-" or leads_to_a_stream(item.path) for item in planned
    )
