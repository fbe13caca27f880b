"""Work on an input of several frames whose results of one map go into one file."""

import functools
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

from imgconv.cli.bands import InBands, skipped
from imgconv.errors import LimitError
from imgconv.io import frames as encoding
from imgconv.io.formats import Format
from imgconv.io.frames import Frame, encode_frames
from imgconv.io.image import Image
from imgconv.io.limits import MAX_PIXELS, file_limit
from imgconv.io.publish import Output, joined, leads_to_a_stream, publish_together
from imgconv.io.reading import read_images
from imgconv.io.writing import encode_archive
from imgconv.pipeline.carrying import Result
from imgconv.pipeline.origin import Origin
from imgconv.pipeline.pictured import names_of, results_of


class InFrames(InBands):
    """Results that hold all frames of an input."""

    def _write_frames(
        self, source: str, index: int, data: Any, count: int, replace: bool, origin: Origin | None
    ) -> list[dict[str, Any]]:
        """Write each map of all frames into a file of its own, or all maps into one archive."""
        named = names_of(self.request.recipe)
        paths = [self._path(source, one.part, index, 0) for one in named]
        made = self.format(source, paths[0])
        results = [skipped(source, path, one.name) for path, one in zip(paths, named, strict=True)]
        wanted = [
            place for place, path in enumerate(paths)
            if not self._finished(source, path, replace)
        ]  # fmt: skip
        if self.together(source):
            groups = [wanted] if wanted else []
        elif len(wanted) > 1 and not self._side_by_side(paths, made):
            groups = [[place] for place in wanted]  # each by a reading of its own
        else:
            groups = [wanted] if wanted else []
        for group in groups:
            told = group is groups[0]
            images = self._frames_of(source, index, data, made, told)
            maps = _Maps(self, source, paths, group, images, made, count, origin)
            if self.together(source):
                sizes = [self._publish(paths[0], self._archive(maps, group), replace)] * len(group)
            else:
                sizes = self._publish_frames(maps, paths, group, replace)
            for place, size in zip(group, sizes, strict=True):
                results[place] = maps.rows[place] | {"bytes": size}
        return results

    def _images(self, source: str, index: int, data: Any) -> Iterator[Image]:
        """The wanted images of an input."""
        read = self.request.settings.read
        return read_images(
            data, frame=read.frame, max_pixels=read.max_pixels, level=read.level,
            memory=self.request.settings.batch.memory, cmyk=self._keeps_inks(source, index),
            name="standard input" if source == "-" else source,
        )  # fmt: skip

    def _frames_of(
        self, source: str, index: int, data: Any, made: Format, told: bool
    ) -> Iterator[Image]:
        """The frames of an input; told: whether their notes are printed."""
        images = functools.partial(self._images, source, index, data)
        for image in images() if made.name == "tiff" else encoding.alike(images):
            if told:
                self._tell_of(image)
            if told and image.frame == 0:
                self._warn_of_opacity(source, image.alpha, made)
            yield image

    def _publish_frames(
        self, maps: "_Maps", paths: list[str], wanted: list[int], replace: bool
    ) -> list[int]:
        """Write a file for each wanted map, side by side; return their sizes."""
        outputs = []
        for place in wanted:
            pieces = encode_frames(maps.of(place), maps.count, maps.made, maps.loops)
            if paths[place] == "-" or leads_to_a_stream(paths[place]):
                pieces = [joined(pieces)]
            done = functools.partial(maps.done.__getitem__, place)
            outputs.append(Output(paths[place], pieces, done))
        if len(outputs) > 1:
            return publish_together(outputs, replace or self.replacing)
        return [self._publish(paths[wanted[0]], outputs[0].pieces, replace)]

    def _archive(self, maps: "_Maps", wanted: list[int]) -> Any:
        """The pieces of a file of arrays (frames, H, W, C), one a map."""
        named = names_of(self.request.recipe)
        frames: dict[int, list[Any]] = {place: [] for place in wanted}
        limit = file_limit(self.request.settings.read.max_pixels or MAX_PIXELS)
        record = None
        for held in itertools.zip_longest(*(maps.of(place) for place in wanted)):
            for place, frame in zip(wanted, held, strict=True):
                record = record or frame.options.get("record")
                frames[place].append(frame.samples)
            if sum(sum(one.nbytes for one in each) for each in frames.values()) > limit:
                raise LimitError(
                    f"{maps.made.name}: {maps.count} frames of this size take more than {limit} "
                    "bytes together; write npy or tiff, or a file a frame with {frame}"
                )
        arrays = {named[place].name or "image": encoding.stacked(frames[place], maps.made)
                  for place in wanted}  # fmt: skip
        return encode_archive(arrays, maps.made, record)


class _Maps:
    """The maps of all frames; a frame is read when a map of it is first asked for.

    rows: a --json line of each, done: how many frames of it were taken.
    """

    def __init__(
        self, work: InFrames, source: str, paths: list[str], wanted: list[int],
        images: Iterator[Image], made: Format, count: int, origin: Origin | None,
    ) -> None:  # fmt: skip
        self._work, self._source, self._paths, self._origin = work, source, paths, origin
        self._places = {one.name: at for at, one in enumerate(names_of(work.request.recipe))}
        self._ready: dict[int, deque[Frame]] = {place: deque() for place in wanted}
        self.made, self.count = made, count
        self.rows: dict[int, dict[str, Any]] = {}
        self.done = dict.fromkeys(wanted, 0)
        first = next(images)
        self._images = itertools.chain([first], images)
        self.loops: int | None = first.info.get("loop", 0)

    def of(self, place: int) -> Iterator[Frame]:
        """The frames of a wanted map."""
        while True:
            if not self._ready[place]:
                image = next(self._images, None)
                if image is None:
                    return
                self._filter(image)
            self.done[place] += 1
            yield self._ready[place].popleft()

    def _filter(self, image: Image) -> None:
        """Make the wanted maps of a frame."""
        work, made = self._work, self.made
        dtype, raw = work._samples(made, image)
        shown = image.info.get("duration")
        for result in results_of(image, work._recipe(made), dtype, raw):
            place = self._places[result.name]
            if place not in self._ready:
                continue
            samples, alpha = result.samples, result.alpha
            if alpha and not made.alpha:
                samples, alpha = samples[..., :-1], False
            record = None
            if place not in self.rows:
                height, width, channels = samples.shape
                self.rows[place] = {
                    "input": self._source, "output": self._paths[place],
                    "kernel": result.kernel.name, "map": result.name, "width": width,
                    "height": height, "channels": channels, "dtype": str(samples.dtype),
                    "scale": "none" if raw else result.scale, "frames": self.count,
                }  # fmt: skip
                record = work._record(self._source, self._origin, None, result.name, made)
                work._warn(self._source, result.warning)
            kind = Result(result.kernel, result.name, samples.shape, samples.dtype, alpha)
            options = work._options(self._paths[place], record, image, kind)
            duration = encoding.DURATION if shown is None else float(shown)
            self._ready[place].append(Frame(samples, options, duration))
