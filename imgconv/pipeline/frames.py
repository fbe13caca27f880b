"""An input of several frames whose results of one map go into one file."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from imgconv.errors import LimitError
from imgconv.io import frames as encoding
from imgconv.io.formats import Format
from imgconv.io.frames import Frame, encode_frames
from imgconv.io.image import Image
from imgconv.io.limits import MAX_PIXELS, file_limit
from imgconv.io.publish import Output, Piece, joined, leads_to_a_stream, publish_together
from imgconv.io.writing import encode_archive
from imgconv.pipeline import finish
from imgconv.pipeline.filtering import Map
from imgconv.pipeline.origin import Origin
from imgconv.pipeline.outputs import Row, skipped
from imgconv.pipeline.pictured import names_of

if TYPE_CHECKING:
    from imgconv.pipeline.filter import Work


def filter_frames(
    work: "Work", source: str, index: int, read: Callable[[], Iterator[Image]],
    filter: Callable[[Image, Format], Iterable[Map]], count: int, replace: bool,
    origin: Origin | None,
) -> list[Row]:  # fmt: skip
    """Write each map of all frames into a file of its own, or all maps into one archive.

    read: yields the frames, from the first one each time it is called. filter: makes the maps of
    one for a format.
    """
    out = work.out
    paths = {
        one.name: out.path(source, one.part, index, 0) for one in names_of(work.request.recipe)
    }
    made = out.format(source, next(iter(paths.values())))
    rows = {name: skipped(source, path, name) for name, path in paths.items()}
    wanted = [name for name, path in paths.items() if not out.finished(source, path, replace)]
    together = out.together(source)
    groups = [wanted] if wanted else []
    if not together and len(wanted) > 1 and not out.side_by_side(list(paths.values()), made):
        groups = [[name] for name in wanted]  # each by a reading of its own
    for group in groups:
        images = read() if made.name == "tiff" else encoding.alike(read)
        if group is groups[0]:
            images = _told(work, source, images, made)
        chosen = {name: paths[name] for name in group}
        maps = _Frames(work, source, images, filter, made, chosen, count, origin)
        if together:
            sizes = [out.publish(paths[group[0]], maps.archive(), replace)] * len(group)
        else:
            sizes = maps.write(replace)
        rows |= {name: maps.rows[name] | {"frames": count, "bytes": size}
                 for name, size in zip(group, sizes, strict=True)}  # fmt: skip
    return list(rows.values())


def _told(work: "Work", source: str, images: Iterator[Image], made: Format) -> Iterator[Image]:
    for image in images:
        work.tell(finish.notes_of(work.request, image))
        if image.frame == 0:
            work.tell([finish.note_of_opacity(work.request, source, image, made)])
        yield image


class _Frames:
    """The maps of all frames; rows: a --json line of each map, once its first frame is made."""

    def __init__(
        self, work: "Work", source: str, images: Iterator[Image],
        filter: Callable[[Image, Format], Iterable[Map]], made: Format, paths: dict[str, str],
        count: int, origin: Origin | None,
    ) -> None:  # fmt: skip
        self.work, self.source, self.made, self.paths = work, source, made, paths
        self.count = count
        self.rows: dict[str, Row] = {}
        self._filter, self._origin = filter, origin
        first = next(images)
        self.loops: int | None = first.info.get("loop", 0)
        self.frames = map(self._filtered, itertools.chain([first], images))

    def _filtered(self, image: Image) -> dict[str, Frame]:
        """A frame of each map."""
        out, frames = self.work.out, {}
        shown = image.info.get("duration")
        duration = encoding.DURATION if shown is None else float(shown)
        for one in self._filter(image, self.made):
            if one.name not in self.paths:
                continue
            path, record = self.paths[one.name], None
            if one.name not in self.rows:
                _, raw = finish.sample_type(self.work.request, self.made, image)
                self.rows[one.name] = finish.row_of(self.source, path, one, raw)
                record = finish.record_of(out, self.source, self._origin, None, one.name, self.made)
                if warning := one.warning():
                    self.work.tell([f"{self.source}: {warning}"])
            options = finish.encode_options(out, path, record, image, one)
            frames[one.name] = Frame(one.samples, options, duration)
        return frames

    def write(self, replace: bool) -> list[int]:
        """Write a file for each map, side by side; return their sizes."""
        out, outputs = self.work.out, []
        done = dict.fromkeys(self.paths, 0)
        ready: dict[str, deque[Frame]] = {name: deque() for name in self.paths}

        def frames_of(name: str) -> Iterator[Frame]:
            """A map's frames; an image is filtered when the first of its maps is asked for."""
            while True:
                if not ready[name]:
                    for other, frame in next(self.frames, {}).items():
                        ready[other].append(frame)
                if not ready[name]:
                    return
                done[name] += 1
                yield ready[name].popleft()

        for name, path in self.paths.items():
            pieces: Iterable[Piece]
            pieces = encode_frames(frames_of(name), self.count, self.made, self.loops)
            if path == "-" or leads_to_a_stream(path):
                pieces = [joined(pieces)]
            outputs.append(Output(path, pieces, functools.partial(done.__getitem__, name)))
        if len(outputs) > 1:
            return publish_together(outputs, replace or out.replacing)
        return [out.publish(outputs[0].path, outputs[0].pieces, replace)]

    def archive(self) -> Iterable[Piece]:
        """The pieces of a file of arrays (frames, H, W, C), one a map."""
        taken = list[dict[str, Frame]]()
        limit = file_limit(self.work.request.settings.read.max_pixels or MAX_PIXELS)
        size = 0
        for frames in self.frames:
            taken.append(frames)
            size += sum(frame.samples.nbytes for frame in frames.values())
            if size > limit:
                raise LimitError(
                    f"{self.made.name}: {self.count} frames of this size take more than {limit} "
                    "bytes together; write npy or tiff, or a file a frame with {frame}"
                )
        arrays = {name or "image": encoding.stacked([frames[name].samples for frames in taken],
                  self.made) for name in self.paths}  # fmt: skip
        record = next(iter(taken[0].values())).options.get("record")
        return encode_archive(arrays, self.made, record)
