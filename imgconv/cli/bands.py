"""Work on an image whose rows come in order: its maps are written while it is read."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from imgconv.cli.outputs import Outputs
from imgconv.errors import ImageError
from imgconv.io import formats
from imgconv.io.publish import Output, leads_to_a_stream, publish_together
from imgconv.io.remote import is_url
from imgconv.io.scaling import Lost
from imgconv.io.source import is_zarr
from imgconv.io.streamed import Streamed, open_rows
from imgconv.io.writing import EncodeOptions, encode_rows, writing_loops
from imgconv.jit import ahead
from imgconv.ops.rows import WatchedRows, read_rows
from imgconv.pipeline.carrying import Result
from imgconv.pipeline.division import Divided, Division, rows_of_part
from imgconv.pipeline.origin import Origin
from imgconv.pipeline.pictured import names_of
from imgconv.pipeline.streaming import MapRows, map_rows


class _Output(NamedTuple):
    """A map as rows, the format to write, the options of `encode_rows` and the --json line."""

    rows: MapRows
    made: formats.Format
    options: EncodeOptions
    result: dict[str, Any]

    def divided(self, path: str, part: int) -> Division:
        """The map as parts of so many rows each."""
        rows = self.rows
        return Division(
            (rows.height, rows.width, rows.channels), rows.dtype, part, path, self.made,
            self.options, self.result, rows.scaling,
        )  # fmt: skip


class InBands(Outputs):
    """Results of images that go in bands; the methods return None for those that do not."""

    def _streamed(
        self, source: str, index: int, replace: bool, origin: Origin | None
    ) -> list[dict[str, Any]] | None:
        """The results of a file whose rows are read while others are written, where that goes."""
        from imgconv.io.png_chunks import Unusual

        if self.together(source):
            return None
        image = self._open(source, index)
        if image is None:
            return None
        self._tell_of(image)
        with contextlib.closing(image.rows):
            try:
                return self._write_rows(source, index, image, 0, replace, origin)
            except Unusual:
                return None  # the file is damaged: the whole of it is left to Pillow

    def _open(self, source: str, index: int) -> Streamed | None:
        settings = self.request.settings
        return open_rows(
            source, settings.read.max_pixels, settings.batch.memory, settings.read.level,
            self._keeps_inks(source, index),
        )  # fmt: skip

    def _write_rows(
        self, source: str, index: int, image: Streamed, frame: int, replace: bool,
        origin: Origin | None,
    ) -> list[dict[str, Any]] | None:  # fmt: skip
        """Write the maps of an image whose rows come in order; None where that does not go."""
        settings, recipe = self.request.settings, self.request.recipe
        named = names_of(recipe)
        if self.together(source) or not named:
            return None
        paths = [self._path(source, one.part, index, frame) for one in named]
        made = self.format(source, paths[0])
        if len(paths) > 1 and not self._side_by_side(paths, made):
            return None
        results = [skipped(source, path, one.name) for path, one in zip(paths, named, strict=True)]
        wanted = [
            place for place, path in enumerate(paths)
            if not self._finished(source, path, replace)
        ]  # fmt: skip
        if not wanted:
            return results
        chosen = [paths[place] for place in wanted]
        maps = self._maps(source, chosen, image, wanted, frame, origin)
        if maps is None:
            return None
        first = maps[0]
        part = settings.batch.cluster and rows_of_part(
            image, first.rows, made, settings.batch.memory
        )
        if part:
            raise Divided(first.divided(paths[0], part))
        ahead.compile_missing(
            [*writing_loops(made), *(loop for one in maps for loop in one.rows.loops())]
        )
        sizes = self._publish_maps(maps, paths, wanted, replace)
        for place, one, size in zip(wanted, maps, sizes, strict=True):
            self._warn(source, one.rows.warning())
            results[place] = one.result | {"bytes": size}
        return results

    def _side_by_side(self, paths: list[str], made: formats.Format) -> bool:
        """Whether several outputs can be written at once: files on this machine."""
        if self.request.settings.batch.cluster or made.name == "zarr":
            return False
        return not any(path == "-" or is_url(path) or leads_to_a_stream(path) for path in paths)

    def _maps(
        self, source: str, paths: list[str], image: Streamed, wanted: Sequence[int] = (0,),
        frame: int = 0, origin: Origin | None = None,
    ) -> "list[_Output] | None":  # fmt: skip
        """The wanted maps of an image as rows to write to paths; None where it has no rows."""
        made = self.format(source, paths[0])
        recipe = self._recipe(made)
        dtype, raw = self._samples(made, image)
        maps = map_rows(image, recipe, dtype, raw, made.alpha, wanted)
        if maps is None:
            return None
        self._warn_of_opacity(source, image.alpha, made)
        self._tell_of_type(image, made, dtype, raw)
        found = []
        for path, rows in zip(paths, maps, strict=True):
            record = self._record(source, origin, frame, rows.name, made)
            shape = rows.height, rows.width, rows.channels
            shown = Result(rows.kernel, rows.name, shape, rows.dtype, rows.alpha)
            options = self._options(path, record, image, shown)
            result = {"input": source, "output": path, "kernel": rows.kernel.name,
                      "map": rows.name, "width": rows.width, "height": rows.height,
                      "channels": rows.channels, "dtype": str(rows.dtype),
                      "scale": rows.rule}  # fmt: skip
            found.append(_Output(rows, made, options, result))
        return found

    def _publish_maps(
        self, maps: "list[_Output]", paths: list[str], wanted: list[int], replace: bool
    ) -> list[int]:
        """Write maps side by side, or the only one there is; return the sizes of their files."""
        outputs = []
        for place, (rows, made, options, _) in zip(wanted, maps, strict=True):
            last = rows is maps[-1].rows
            watched = WatchedRows(rows, self.tell) if self.tell and last else rows
            stream = paths[place] == "-" or leads_to_a_stream(paths[place])
            pieces = encode_rows(watched, made, **options, patched=not stream)
            outputs.append(Output(paths[place], pieces, rows.done))
        if len(paths) > 1:
            return publish_together(outputs, replace or self.replacing)
        return [self._publish(paths[0], outputs[0].pieces, replace)]

    def part(
        self, source: str, index: int, start: int, stop: int, folder: str | None
    ) -> tuple[Any, Lost]:
        """Make rows start…stop − 1 of a divided image, in a folder's Zarr image if one is given.

        Return (the samples, or None where they were written; how many were lost).
        """
        image = self._open(source, index)
        path = self._path(source, names_of(self.request.recipe)[0].part, index, 0)
        maps = image and self._maps(source, [path], image)
        if not image or not maps:
            raise ImageError(f"{source}: changed while it was read")
        with contextlib.closing(image.rows):
            rows = maps[0].rows
            rows.start_at(start)
            if folder is not None:
                from imgconv.io import zarr_arrays

                zarr_arrays.write_rows(folder, rows, start, stop)
                return None, rows.lost
            samples = np.empty((stop - start, rows.width, rows.channels), rows.dtype)
            read_rows(rows, samples)
            return samples, rows.lost

    def assembled(
        self, source: str, division: Division, rows: Any, replace: bool
    ) -> dict[str, Any]:
        """Write the file of a divided image whose rows come from workers."""
        watched = rows
        if self.tell and division.made.name != "zarr":
            watched = WatchedRows(rows, self.tell)
        size = self._publish(
            division.path,
            encode_rows(watched, division.made, **division.options, patched=True), replace,
        )  # fmt: skip
        self._warn(source, division.warning(rows.lost))
        return division.result | {"input": source, "bytes": size}


def in_files(source: str, path: str) -> bool:
    """Whether both are files: a pipe is read once, and takes back nothing of a damaged image."""
    return (
        (os.path.isfile(source) or is_zarr(source)) and path != "-" and not leads_to_a_stream(path)
    )


def skipped(source: str, path: str, name: str) -> dict[str, Any]:
    """The --json line of an output that --skip-existing leaves alone."""
    return {"input": source, "output": path, "map": name, "skipped": True}
