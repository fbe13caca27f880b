"""The work of a command on one input: read, filter, encode, publish."""

import contextlib
import os
from typing import Any

import numpy as np

from imgconv.cli.bands import in_files, skipped
from imgconv.cli.frames import InFrames
from imgconv.cli.outputs import Planned, level_of
from imgconv.errors import ImgconvError, OutputError
from imgconv.io import formats
from imgconv.io.image import Image
from imgconv.io.publish import held
from imgconv.io.reading import count_frames
from imgconv.io.streamed import rows_of
from imgconv.io.writing import encode, encode_archive
from imgconv.pipeline.carrying import Result
from imgconv.pipeline.origin import Origin, taken
from imgconv.pipeline.pictured import names_of, results_of


class Work(InFrames):
    """Read, filter, encode and publish one input."""

    def warm(self) -> None:
        """Compile or load what this work runs, by doing it to small images."""
        settings, made = self.request.settings, self.made or formats.FORMATS["png"]
        for channels in (1, 3):
            for dtype in (np.uint8, np.uint16):
                blank = Image(np.zeros((64, 64, channels), dtype))
                with contextlib.suppress(ImgconvError):
                    kind = formats.output_dtype(made, settings.write.depth, blank.pixels.dtype)
                    for result in results_of(blank, self.request.recipe, kind, made.raw):
                        list(
                            encode(result.samples, made, compress=level_of(settings.write.compress))
                        )

    def __call__(self, source: str, index: int, replace: bool = False) -> list[dict[str, Any]]:
        """Make an input's results; `replace`: over any that exist. Raises ImgconvError."""
        if self.request.settings.batch.cluster:  # whose tasks have to know at once what is there
            return self._made(source, index, replace)
        with held():
            return self._made(source, index, replace)

    def _made(self, source: str, index: int, replace: bool) -> list[dict[str, Any]]:
        settings, recipe = self.request.settings, self.request.recipe
        planned = self.planned(source, index)
        if self._all_finished(source, planned, replace) and self._frames(source):
            return [skipped(source, one.path, one.name) for one in planned]
        self._check_free((one.path for one in planned), replace)
        if settings.batch.dry_run:
            return [self._intended(source, one, replace) for one in planned]
        frame = settings.read.frame
        data = taken(source, settings.read.max_pixels, self.stdin)
        origin = self._origin(source, data)
        plain = frame is None and not self.reports
        if plain and all(in_files(source, one.path) for one in planned):
            streamed = self._streamed(source, index, replace, origin)
            if streamed is not None:
                return streamed
        results = []
        whole = False
        if frame == "all":
            frames = count_frames(data, settings.read.max_pixels, settings.batch.memory)
            whole = self._in_one_file(source, planned[0].path, frames)
        if whole:
            results = self._write_frames(source, index, data, frames.number, replace, origin)
            if not self.reports:
                return results
        for image in self._images(source, index, data):
            if not whole:
                self._tell_of(image)
            # MPO is a camera's JPEG: its further frames are previews of the old picture.
            if settings.write.in_place and image.frames > 1 and image.format != "MPO" and not whole:
                raise OutputError(
                    f"{source}: --in-place would lose frames of its {image.frames}; "
                    "--frame all filters them all"
                )
            if not whole:
                results += self._write(source, index, image, frame == "all", replace, origin)
            if self.reports:
                from imgconv.pipeline.reports import report_of

                path = self.reports.path(source, index, image.frame * (frame == "all"))
                made = report_of(image, recipe)
                row = self.reports.write(made, path, replace or self.replacing)
                results.append({"input": source} | row)
        return results

    def _all_finished(self, source: str, planned: list[Planned], replace: bool) -> bool:
        """Whether --skip-existing leaves all these results alone."""
        skips = self.request.settings.write.skip_existing and not replace
        return all(
            # A page appears whole or not at all.
            skips and os.path.exists(one.path)
            if one.is_page
            else self._finished(source, one.path, replace)
            for one in planned
        )

    def _intended(self, source: str, one: Planned, replace: bool) -> dict[str, Any]:
        """What --dry-run says of a result."""
        if self._all_finished(source, [one], replace):
            return skipped(source, one.path, one.name)
        return {"input": source, "output": one.path, "map": one.name, "frame": one.frame}

    def _write(
        self, source: str, index: int, image: Any, all_frames: bool, replace: bool,
        origin: Origin | None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        recipe = self.request.recipe
        frame = image.frame * all_frames
        streamed = self._write_rows(source, index, rows_of(image), frame, replace, origin)
        if streamed is not None:
            return streamed
        results: list[dict[str, Any]] = []
        archives: dict[str, tuple[dict[str, Any], Any, list[dict[str, Any]]]] = {}
        parts = {one.name: one.part for one in names_of(recipe)}
        if not parts:
            return results
        path = self._path(source, next(iter(parts.values())), index, frame)
        made = self.format(source, path)
        dtype, raw = self._samples(made, image)
        self._tell_of_type(image, made, dtype, raw)
        self._warn_of_opacity(source, image.alpha, made)
        for result in results_of(image, self._recipe(made), dtype, raw):
            path = self._path(source, parts[result.name], index, frame)
            if self._finished(source, path, replace):
                results.append(skipped(source, path, result.name))
                continue
            samples, alpha = result.samples, result.alpha
            if alpha and not made.alpha:
                samples, alpha = samples[..., :-1], False
            self._warn(source, result.warning)
            height, width, channels = samples.shape
            scale = "none" if raw else result.scale
            row = {"input": source, "output": path, "kernel": result.kernel.name,
                   "map": result.name, "width": width, "height": height, "channels": channels,
                   "dtype": str(samples.dtype), "scale": scale}  # fmt: skip
            results.append(row)
            record = self._record(source, origin, image.frame, result.name, made)
            if self.together(source):
                arrays, _, rows = archives.setdefault(path, ({}, record, []))
                arrays[result.name or "image"] = samples
                rows.append(row)
                continue
            shown = Result(result.kernel, result.name, samples.shape, samples.dtype, alpha)
            options = self._options(path, record, image, shown)
            row["bytes"] = self._publish(path, encode(samples, made, **options), replace)
        for path, (arrays, record, rows) in archives.items():
            size = self._publish(path, encode_archive(arrays, made, record), replace)
            for row in rows:
                row["bytes"] = size
        return results
