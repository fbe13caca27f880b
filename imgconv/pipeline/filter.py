"""The way of one input: read → filter → finish → write.

An image comes as rows: in bands while the rest is still in the file, or as one band that holds it
all. So do its maps, and whatever of an image, a map or a recipe needs the whole makes one band.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgconv.console import say
from imgconv.errors import ImageError, ImgconvError, OutputError
from imgconv.io.formats import FORMATS, Format, output_dtype
from imgconv.io.image import Image
from imgconv.io.publish import Output, held, leads_to_a_stream, publish_together
from imgconv.io.reading import count_frames, read_images
from imgconv.io.scaling import Lost
from imgconv.io.source import is_zarr
from imgconv.io.streamed import Streamed, open_rows, rows_of
from imgconv.io.writing import (
    EncodeOptions,
    Record,
    encode,
    encode_archive,
    encode_rows,
    writing_loops,
)
from imgconv.jit import ahead
from imgconv.ops.rows import WatchedRows, read_rows
from imgconv.pipeline import finish
from imgconv.pipeline.division import Divided, Division, rows_of_part
from imgconv.pipeline.filtering import Map
from imgconv.pipeline.origin import Origin, taken
from imgconv.pipeline.outputs import Outputs, Planned, Request, Row, skipped
from imgconv.pipeline.pictured import names_of, results_of
from imgconv.pipeline.streaming import MapRows, map_rows
from imgconv.typing import Array


@dataclass(eq=False, repr=False)
class Work:
    """Makes the outputs of inputs, each on its own.

    origin: what is recorded of the input, where that is known. watch: is told the rows that are
    done of one large image, and how many it has.
    """

    request: Request
    out: Outputs
    origin: Origin | None = None
    watch: Callable[[int, int], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy for another process, which has no bar to move."""
        return {**vars(self), "watch": None}

    def __call__(self, source: str, index: int, replace: bool = False) -> list[Row]:
        """Make an input's results; `replace`: over any that exist. Raises ImgconvError."""
        planned = self.out.planned(source, index)
        rows = _unneeded(self, source, planned, replace)
        if rows is not None:
            return rows
        if self.request.settings.batch.cluster:  # whose tasks have to know at once what is there
            return _filter(self, source, index, planned, replace)
        with held():
            return _filter(self, source, index, planned, replace)

    def outputs(self, source: str, index: int) -> list[str]:
        """The paths of all results of an input; finds collisions."""
        return [one.path for one in self.out.planned(source, index)]

    def apart(self) -> None:
        """This is a worker's copy: what an output is called collides with nothing here."""
        self.out.plan.claims = None
        if self.out.reports:
            self.out.reports.plan.claims = None

    def tell(self, notes: Iterable[str | None]) -> None:
        """Say what there is to be said, unless nothing is to be."""
        for note in () if self.request.settings.batch.quiet else notes:
            if note:
                say(f"imgconv: {note}")

    def warm(self) -> None:
        """Compile or load what this work runs, by doing it to small images."""
        write, made = self.request.settings.write, self.out.made or FORMATS["png"]
        for channels in (1, 3):
            for dtype in (np.uint8, np.uint16):
                blank = Image(np.zeros((64, 64, channels), dtype))
                with contextlib.suppress(ImgconvError):
                    kind = output_dtype(made, write.depth, blank.pixels.dtype)
                    for map in results_of(blank, self.request.recipe, kind, made.raw):
                        level = finish.level_of(write.compress)
                        list(encode(map.samples, made, compress=level))

    def part(
        self, source: str, index: int, start: int, stop: int, folder: str | None
    ) -> tuple[Array | None, Lost]:
        """Make rows start…stop − 1 of a divided image, in a folder's Zarr image if one is given.

        Return (the samples, or None where they were written; how many were lost).
        """
        image = _open_rows(self, source, index)
        path = self.out.path(source, names_of(self.request.recipe)[0].part, index, 0)
        maps = image and filter_bands(self, image, self.out.format(source, path), (0,))
        if not image or not maps:
            raise ImageError(f"{source}: changed while it was read")
        with contextlib.closing(image.rows):
            rows = maps[0]
            rows.start_at(start)
            if folder is not None:
                from imgconv.io import zarr_arrays

                zarr_arrays.write_rows(folder, rows, start, stop)
                return None, rows.lost
            samples = np.empty((stop - start, rows.width, rows.channels), rows.dtype)
            read_rows(rows, samples)
            return samples, rows.lost

    def assembled(self, source: str, division: Division, rows: Any, replace: bool) -> Row:
        """Write the file of a divided image whose rows come from workers."""
        made = division.made
        watched = WatchedRows(rows, self.watch) if self.watch and made.name != "zarr" else rows
        pieces = encode_rows(watched, made, **division.options, patched=True)
        size = self.out.publish(division.path, pieces, replace)
        if warning := division.warning(rows.lost):
            self.tell([f"{source}: {warning}"])
        return division.result | {"input": source, "bytes": size}


def _filter(
    work: Work, source: str, index: int, planned: list[Planned], replace: bool
) -> list[Row]:
    """Read an input, filter its images, finish their maps and write them."""
    settings, out = work.request.settings, work.out
    data = taken(source, settings.read.max_pixels, out.stdin)
    origin = work.origin or _origin(out, source, data)
    if settings.read.frame is None and not out.reports and _in_files(source, planned):
        rows = _filter_file(work, source, index, replace, origin)
        if rows is not None:
            return rows
    frames = 0  # that go into one file
    if settings.read.frame == "all":
        counted = count_frames(data, settings.read.max_pixels, settings.batch.memory)
        frames = counted.number * out.in_one_file(source, planned[0].path, counted)
    results: list[Row] = []
    if frames:
        from imgconv.pipeline.frames import filter_frames

        results = filter_frames(
            work, source, index, functools.partial(read, work, source, index, data),
            functools.partial(filter_whole, work), frames, replace, origin,
        )  # fmt: skip
        if not out.reports:
            return results
    for image in read(work, source, index, data):
        if not frames:
            work.tell(finish.notes_of(work.request, image))
            _check_in_place(work.request, source, image)
            results += filter_image(work, source, index, image, replace, origin) or []
        if out.reports:
            from imgconv.pipeline.reports import report_of

            path = out.reports.path(source, index, image.frame * (settings.read.frame == "all"))
            page = report_of(image, work.request.recipe)
            row = out.reports.write(page, path, replace or out.replacing)
            results.append({"input": source} | row)
    return results


def read(work: Work, source: str, index: int, data: Any) -> Iterator[Image]:
    """The wanted images of an input, each in memory as a whole."""
    settings = work.request.settings
    return read_images(
        data, frame=settings.read.frame, max_pixels=settings.read.max_pixels,
        level=settings.read.level, memory=settings.batch.memory,
        cmyk=finish.keeps_inks(work.out, source, index),
        name="standard input" if source == "-" else source,
        partial=settings.read.truncated == "allow",
    )  # fmt: skip


def _open_rows(work: Work, source: str, index: int) -> Streamed | None:
    settings = work.request.settings
    if settings.read.truncated == "allow":
        return None  # a cut would be found when rows are written already
    return open_rows(
        source, settings.read.max_pixels, settings.batch.memory, settings.read.level,
        finish.keeps_inks(work.out, source, index),
    )  # fmt: skip


def _filter_file(
    work: Work, source: str, index: int, replace: bool, origin: Origin | None
) -> list[Row] | None:
    """Filter a file whose rows are read while others are written; None where that does not go."""
    from imgconv.io.png_chunks import Unusual

    if work.out.together(source):
        return None
    image = _open_rows(work, source, index)
    if image is None:
        return None
    work.tell(finish.notes_of(work.request, image))
    with contextlib.closing(image.rows):
        try:
            return filter_image(work, source, index, image, replace, origin)
        except Unusual:
            return None  # the file is damaged: the whole of it is left to Pillow


def filter_image(
    work: Work, source: str, index: int, image: Image | Streamed, replace: bool,
    origin: Origin | None,
) -> list[Row] | None:  # fmt: skip
    """Filter an image, finish its maps and write them; None for rows that are too few for that.

    A map that needs the whole image needs it in memory.
    """
    out, named = work.out, names_of(work.request.recipe)
    if not named:
        return None
    number = image.frame if isinstance(image, Image) else 0
    frame = number * (work.request.settings.read.frame == "all")
    paths = [out.path(source, one.part, index, frame) for one in named]
    made = out.format(source, paths[0])
    rows = {one.name: skipped(source, path, one.name)
            for one, path in zip(named, paths, strict=True)}  # fmt: skip
    wanted = [place for place, path in enumerate(paths) if not out.finished(source, path, replace)]
    if not wanted:
        return list(rows.values())
    bands = not out.together(source) and (len(paths) == 1 or out.side_by_side(paths, made))
    maps = filter_bands(work, rows_of(image), made, wanted) if bands else None
    if maps is None and not isinstance(image, Image):
        return None
    work.tell([
        finish.note_of_opacity(work.request, source, image, made),
        finish.note_of_type(work.request, image, made),
    ])  # fmt: skip
    chosen = {named[place].name: paths[place] for place in wanted}
    files = _Files(work, source, image, made, chosen, origin, number, replace)
    if maps is not None:
        rows |= files.write(maps)
    elif isinstance(image, Image):
        whole = (map for map in filter_whole(work, image, made) if map.name in chosen)
        if out.together(source):
            rows |= files.write_archive(whole)
        else:
            for map in whole:  # each is written before the next one is made
                rows |= files.write([map])
    return list(rows.values())


def filter_bands(
    work: Work, image: Streamed, made: Format, wanted: Sequence[int]
) -> list[MapRows] | None:
    """The wanted maps of an image as rows; None where one of them needs the whole image."""
    dtype, raw = finish.sample_type(work.request, made, image)
    recipe = finish.recipe_for(work.request, made)
    return map_rows(image, recipe, dtype, raw, made.alpha, wanted)


def filter_whole(work: Work, image: Image, made: Format) -> Iterator[Map]:
    """The maps of an image, of one band each."""
    dtype, raw = finish.sample_type(work.request, made, image)
    for map in results_of(image, finish.recipe_for(work.request, made), dtype, raw):
        yield map if made.alpha else map.opaque()


@dataclass(eq=False, repr=False)
class _Files:
    """Where the maps of one image go, by their names, and what their files say.

    frame: of the input's, for the records.
    """

    work: Work
    source: str
    image: Image | Streamed
    made: Format
    paths: dict[str, str]
    origin: Origin | None
    frame: int
    replace: bool

    def write(self, maps: Sequence[Map | MapRows]) -> dict[str, Row]:
        """Write maps side by side while they are made; return a row of each by its name."""
        work, out, made = self.work, self.work.out, self.made
        outputs, rows = [], {}
        for map in maps:
            path = self.paths[map.name]
            record = self._record(map.name)
            options = finish.encode_options(out, path, record, self.image, map)
            rows[map.name] = self._row(map)
            self._divide(map, options, rows[map.name])
            watched = WatchedRows(map, work.watch) if work.watch and map is maps[-1] else map
            stream = path == "-" or leads_to_a_stream(path)
            pieces = encode_rows(watched, made, **options, patched=not stream)
            outputs.append(Output(path, pieces, map.done))
        loops = (loop for map in maps for loop in map.loops())
        ahead.compile_missing([*writing_loops(made), *loops])
        if len(outputs) > 1:
            sizes = publish_together(outputs, self.replace or out.replacing)
        else:
            sizes = [out.publish(outputs[0].path, outputs[0].pieces, self.replace)]
        for map, size in zip(maps, sizes, strict=True):
            rows[map.name]["bytes"] = size
            self._warn(map)
        return rows

    def write_archive(self, maps: Iterable[Map]) -> dict[str, Row]:
        """Write all maps into one file."""
        arrays, rows = {}, {}
        path = next(iter(self.paths.values()))
        for map in maps:
            arrays[map.name or "image"] = map.samples
            rows[map.name] = self._row(map)
            self._warn(map)
        pieces = encode_archive(arrays, self.made, self._record(""))
        size = self.work.out.publish(path, pieces, self.replace)
        return {name: row | {"bytes": size} for name, row in rows.items()}

    def _record(self, name: str) -> Record:
        return finish.record_of(
            self.work.out, self.source, self.origin, self.frame, name, self.made
        )

    def _row(self, map: Map | MapRows) -> Row:
        _, raw = finish.sample_type(self.work.request, self.made, self.image)
        return finish.row_of(self.source, self.paths[map.name], map, raw)

    def _warn(self, map: Map | MapRows) -> None:
        if warning := map.warning():
            self.work.tell([f"{self.source}: {warning}"])

    def _divide(self, map: Map | MapRows, options: EncodeOptions, row: Row) -> None:
        """Raise Divided for a map that a cluster is to make in parts."""
        batch = self.work.request.settings.batch
        if not batch.cluster or isinstance(map, Map) or isinstance(self.image, Image):
            return
        part = rows_of_part(self.image, map, self.made, batch.memory)
        if part:
            shape = map.height, map.width, map.channels
            raise Divided(Division(
                shape, map.dtype, part, self.paths[map.name], self.made, options, row, map.scaling
            ))  # fmt: skip


def _unneeded(work: Work, source: str, planned: list[Planned], replace: bool) -> list[Row] | None:
    """The rows of an input that is left alone, or only looked at; None where it is to be made.

    Raises OutputError for an output that exists and is not to be replaced.
    """
    out = work.out
    if out.all_finished(source, planned, replace) and out.frames(source):
        return [skipped(source, one.path, one.name) for one in planned]
    out.check_free((one.path for one in planned), replace)
    if not work.request.settings.batch.dry_run:
        return None
    return [
        skipped(source, one.path, one.name)
        if out.all_finished(source, [one], replace)
        else {"input": source, "output": one.path, "map": one.name, "frame": one.frame}
        for one in planned
    ]


def _origin(out: Outputs, source: str, data: Any) -> Origin | None:
    """What the records say of the input, if there are any."""
    write = out.request.settings.write
    without = write.no_metadata or write.no_record or out.request.recipe.only_report
    if without or not (out.made is None or out.made.note):
        return None
    return Origin(source, data if isinstance(data, bytes) else None)


def _in_files(source: str, planned: list[Planned]) -> bool:
    """Whether all are files: a pipe is read once, and takes back nothing of a damaged image."""
    return (os.path.isfile(source) or is_zarr(source)) and not any(
        one.path == "-" or leads_to_a_stream(one.path) for one in planned
    )


def _check_in_place(request: Request, source: str, image: Image) -> None:
    # MPO is a camera's JPEG: its further frames are previews of the old picture.
    if request.settings.write.in_place and image.frames > 1 and image.format != "MPO":
        raise OutputError(
            f"{source}: --in-place would lose frames of its {image.frames}; "
            "--frame all filters them all"
        )
