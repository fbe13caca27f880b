"""An input of several frames whose results of one map go into one file."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from imgconv.errors import LimitError
from imgconv.io import frames as encoding
from imgconv.io.formats import Format
from imgconv.io.frames import Frame, encode_frames
from imgconv.io.image import Image
from imgconv.io.limits import MAX_PIXELS, file_limit
from imgconv.io.publish import Output, Piece, joined, leads_to_a_stream, publish_together
from imgconv.io.writing import encode_archive
from imgconv.pipeline import finish
from imgconv.pipeline.item import Input
from imgconv.pipeline.outputs import Request, Row, skipped
from imgconv.pipeline.recipe import names_of
from imgconv.pipeline.whole import Map


def filter_frames(
    item: Input, read: Callable[[], Iterator[Image]],
    filter: Callable[[Request, Image, Format], Iterable[Map]], count: int,
) -> list[Row]:  # fmt: skip
    """Write each map of all frames into a file of its own, or all maps into one archive.

    read: yields the frames, from the first one each time it is called. filter: makes the maps of
    one for a format.
    """
    out, source = item.out, item.source
    named = names_of(out.request.recipe)
    paths = {part.name: out.path(source, part.part, item.index, 0) for part in named}
    format = out.format(source, next(iter(paths.values())))
    rows = {name: skipped(source, path, name) for name, path in paths.items()}
    wanted = [name for name, path in paths.items() if not out.finished(source, path, item.replace)]
    together = out.together(source)
    groups = [wanted] if wanted else []
    if not together and len(wanted) > 1 and not out.side_by_side(list(paths.values()), format):
        groups = [[name] for name in wanted]  # each by a reading of its own
    for group in groups:
        images = read() if format.name == "tiff" else encoding.alike(read)
        if group is groups[0]:
            images = _told(item, images, format)
        frames = _Frames(item, images, filter, format, {name: paths[name] for name in group}, count)
        if together:
            publish = out.publisher(item.replace)
            sizes = [publish(paths[group[0]], frames.archive())] * len(group)
        else:
            sizes = frames.write()
        rows |= {name: frames.rows[name] | {"frames": count, "bytes": size}
                 for name, size in zip(group, sizes, strict=True)}  # fmt: skip
    return list(rows.values())


def _told(item: Input, images: Iterator[Image], format: Format) -> Iterator[Image]:
    """The frames, once it is said what there is to be said of each."""
    for image in images:
        item.tell(*finish.notes_of(item.out.request, image))
        if image.frame == 0:
            item.tell(finish.note_of_opacity(item.out.request, item.source, image, format))
        yield image


class _Frames:
    """The maps of all frames; rows: a --json line of each map, once its first frame is made."""

    def __init__(
        self, item: Input, images: Iterator[Image],
        filter: Callable[[Request, Image, Format], Iterable[Map]], format: Format,
        paths: dict[str, str], count: int,
    ) -> None:  # fmt: skip
        self.item, self.out, self.format = item, item.out, format
        self.paths, self.count = paths, count
        self.rows: dict[str, Row] = {}
        self._filter = filter
        first = next(images)
        self.loops: int | None = first.info.get("loop", 0)
        self.frames = map(self._filtered, itertools.chain([first], images))

    def _filtered(self, image: Image) -> dict[str, Frame]:
        """A frame of each map."""
        source, request, frames = self.item.source, self.out.request, {}
        shown = image.info.get("duration")
        duration = encoding.DURATION if shown is None else float(shown)
        for map in self._filter(request, image, self.format):
            if map.name not in self.paths:
                continue
            path, record = self.paths[map.name], None
            if map.name not in self.rows:
                _, raw = finish.sample_type(request, self.format, image)
                self.rows[map.name] = finish.row_of(source, path, map, raw)
                origin = self.item.origin
                record = finish.record_of(self.out, source, origin, None, map.name, self.format)
                if warning := map.warning():
                    self.item.tell(f"{source}: {warning}")
            options = finish.encode_options(self.out, path, record, image, map)
            frames[map.name] = Frame(map.samples, options, duration)
        return frames

    def write(self) -> list[int]:
        """Write a file for each map, side by side; return their sizes."""
        outputs = []
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
            pieces = encode_frames(frames_of(name), self.count, self.format, self.loops)
            if path == "-" or leads_to_a_stream(path):
                pieces = [joined(pieces)]
            outputs.append(Output(path, pieces, functools.partial(done.__getitem__, name)))
        if len(outputs) > 1:
            return publish_together(outputs, self.item.replace or self.out.replacing)
        return [self.out.publisher(self.item.replace)(outputs[0].path, outputs[0].pieces)]

    def archive(self) -> Iterable[Piece]:
        """The pieces of a file of arrays (frames, H, W, C), one a map."""
        taken = list[dict[str, Frame]]()
        limit = file_limit(self.out.request.settings.read.max_pixels or MAX_PIXELS)
        size = 0
        for frames in self.frames:
            taken.append(frames)
            size += sum(frame.samples.nbytes for frame in frames.values())
            if size > limit:
                raise LimitError(
                    f"{self.format.name}: {self.count} frames of this size take more than {limit} "
                    "bytes together; write npy or tiff, or one file per frame with {frame}"
                )
        arrays = {name or "image": encoding.stacked([frames[name].samples for frames in taken],
                  self.format) for name in self.paths}  # fmt: skip
        record = next(iter(taken[0].values())).options.get("record")
        return encode_archive(arrays, self.format, record)
