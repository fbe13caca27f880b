"""The frames of one opened file, by the reader of its format.

What each of Pillow's modes becomes is in `pillow`; NPY and NPZ in `arrays`; number grids in
`text`; PGM, PPM and PFM in `netpbm`; 16-bit, float and many-band TIFF in `tiff_reader`; PNG in
`png`; BMP with bit fields in `bmp`. What damaged files still hold is in `recovery`.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import numpy as np

from imgconv.errors import ImageError, LimitError
from imgconv.io.codecs import pillow, recovery
from imgconv.io.codecs.orientation import as_seen
from imgconv.io.formats import ANIMATIONS
from imgconv.io.image import Image, rounded_note
from imgconv.io.limits import check_passes, check_size, file_limit, scans_of
from imgconv.io.pyramid import check_level
from imgconv.io.source import Source
from imgconv.typing import Array

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from imgconv.io.tiff.reader import TiffFrame


def first_of(name: str, count: int) -> tuple[str, ...]:
    """The note that a file has more frames than the one that is read, if it has."""
    return (f"{name}: only the first of {count} frames is read; see --frame",) * (count > 1)


class Decoder:
    """Decodes the wanted frames of one source."""

    def __init__(
        self, source: Source, kind: str, wanted: int | None, limit: int, level: int = 0,
        cmyk: bool = False, partial: bool = False,
    ) -> None:  # fmt: skip
        self.source, self.kind, self.wanted, self.limit = source, kind, wanted, limit
        self.level, self.cmyk, self.partial = level, cmyk, partial
        self.name = source.name
        self.byte_limit = file_limit(limit)

    def images(self) -> Iterator[Image]:
        """Yield the wanted frames, oriented."""
        reader = {
            "NPY": self._npy, "NPZ": self._npz, "TEXT": self._text, "NETPBM": self._netpbm,
            "PNG": self._png, "TIFF": self._tiff, "BMP": self._bmp,
        }.get(self.kind, self._pillow)  # fmt: skip
        if self.level and self.kind != "TIFF":
            check_level(self.name, self.level)
        for image in reader():
            yield as_seen(image)

    def count(self) -> int:
        """How many frames there are."""
        file = self.source.file(self.byte_limit)
        if self.kind == "NPY":
            from imgconv import npy

            with npy.reported_as(ImageError):
                shape = npy.parse_header(file.read(npy.HEADER_LIMIT + 12), self.name).shape
            return shape[0] if len(shape) == 4 else 1
        if self.kind == "NPZ":
            from imgconv.io.codecs import arrays

            return sum(frames for _, frames, _ in arrays.open_npz(file, self.name, self.limit))
        if self.kind == "TIFF":
            from imgconv.io.tiff.pages import TiffPages, reported

            size = self.source.size
            if size is None:
                size = len(self.source.data(self.byte_limit))
            with reported(self.name, self.limit):
                pages = TiffPages(file, size, self.name)
            if pages.broken:
                raise pages.broken
            return len(pages)
        if self.kind == "NETPBM":
            from imgconv.io.codecs import netpbm

            return len(netpbm.starts(self.source.data(self.byte_limit), self.name))
        if self.kind == "TEXT":
            return 1
        with pillow.decoding(self.name, self.limit):
            return pillow.frame_count(pillow.open_image(file, self.kind, self.name))

    def check(self, height: int, width: int) -> None:
        """Raise LimitError for a declared size beyond the limit, ImageError for an empty one."""
        check_size(self.name, height, width, self.limit)

    def _frames(self, count: int, noted: bool = True) -> tuple[range, list[str]]:
        """Which of `count` frames to read, and the note that there are others."""
        if self.wanted == -1:
            return range(count), []
        if self.wanted is None:
            return range(1), list(first_of(self.name, count)) if noted else []
        if self.wanted >= count:
            raise ImageError(
                f"{self.name}: no frame {self.wanted}: it has {count} (0 to {count - 1})"
            )
        return range(self.wanted, self.wanted + 1), []

    def _one(self, image: Image) -> Image:
        """An image of a format that has no frames."""
        self._frames(1)
        return image

    def _npy(self) -> Iterator[Image]:
        from imgconv.io.codecs import arrays

        array = arrays.decode_npy(self.source.data(2 * self.byte_limit), self.name, self.limit)
        count = array.shape[0] if array.ndim == 4 else 1
        which, notes = self._frames(count)
        notes += rounded_note(array, self.name)
        for index, pixels in enumerate(arrays.frames_of(array)):
            if index in which:
                yield Image(
                    pixels, name=self.name, frame=index, frames=count, format="NPY",
                    notes=notes + _axes_note(pixels, self.name), stored=arrays.stored(array.dtype),
                )  # fmt: skip

    def _npz(self) -> Iterator[Image]:
        from imgconv.io.codecs import arrays

        members = arrays.open_npz(self.source.file(self.byte_limit), self.name, self.limit)
        count = sum(frames for _, frames, _ in members)
        which, notes = self._frames(count)
        index = 0
        for member, frames, load in members:
            if index < which.stop and index + frames > which.start:
                array = load()
                told = notes + rounded_note(array, f"{self.name}: {member}")
                for offset, pixels in enumerate(arrays.frames_of(array)):
                    if index + offset in which:
                        yield Image(
                            pixels, name=self.name, frame=index + offset, frames=count,
                            format="NPZ", notes=told + _axes_note(pixels, self.name),
                            info={"member": member}, stored=arrays.stored(array.dtype),
                        )  # fmt: skip
            index += frames

    def _text(self) -> Iterator[Image]:
        from imgconv.io.codecs import text

        yield self._one(text.decode(self.source.data(self.byte_limit), self.name, self.limit))

    def _netpbm(self) -> Iterator[Image]:
        from imgconv.io.codecs import netpbm

        data = self.source.data(self.byte_limit)
        if data.startswith(b"P1"):
            self.kind = "PPM"
            yield from self._pillow()
            return
        starts = netpbm.starts(data, self.name)
        which, notes = self._frames(len(starts))
        for index in which:
            image = netpbm.decode(data, self.name, self.check, starts[index])
            if image is None:
                raise ImageError(
                    f"{self.name}: frame {index} is a bitmap in plain text, expected it alone"
                )
            image.frame, image.frames = index, len(starts)
            image.notes += notes
            yield image

    def _png(self) -> Iterator[Image]:
        from imgconv.io.png import reader as png_reader

        data, image = self.source.data(self.byte_limit), None
        if data.startswith(b"\x89PNG"):
            try:
                image = png_reader.decode(data, max_pixels=self.limit, name=self.name)
            except LimitError:
                raise
            except ImageError:
                if not self.partial:
                    raise
                image = None
        yield from self._one_or_pillow(image)

    def _bmp(self) -> Iterator[Image]:
        from imgconv.io.codecs import bmp

        image = bmp.decode(self.source.data(self.byte_limit), self.name, self.check)
        yield from self._one_or_pillow(image)

    def _one_or_pillow(self, image: Image | None) -> Iterator[Image]:
        """A file's only image, or those of a file that a decoder of ours leaves to Pillow."""
        if image is None:
            yield from self._pillow()
        else:
            yield self._one(image)

    def _tiff(self) -> Iterator[Image]:
        from imgconv.io.metadata.tiff import TiffMetadata
        from imgconv.io.tiff.pages import TiffPages, reported
        from imgconv.io.tiff.reader import TiffFrame

        file = self.source.file(self.byte_limit)
        size = self.source.size
        if size is None:
            size = len(self.source.data(self.byte_limit))
        with reported(self.name, self.limit):
            pages = TiffPages(file, size, self.name)
        told = TiffMetadata(pages, self.name)
        count = len(pages)
        if count == 0:
            raise ImageError(f"{self.name}: TIFF without an image")
        if pages.broken and (self.wanted == -1 or (self.wanted or 0) >= count):
            raise pages.broken
        which, notes = self._frames(count)
        notes += [str(pages.broken)] if pages.broken else []
        for index in which:
            with reported(self.name, self.limit):
                page, depth = pages.frame(index, self.level)
                self.check(int(page.imagelength), int(page.imagewidth))
                frame = TiffFrame(page, depth, size, self.name, self.cmyk)
                frame.check_work(file, self.limit)
                image = self._tiff_frame(frame, pages.alone(page), file)
                image.metadata = told.of(index, self.level)
                image.nodata = pages.nodata(index, self.level)
            image.frame, image.frames = index, count
            image.notes += notes
            yield image

    def _tiff_frame(self, frame: "TiffFrame", alone: IO[bytes], file: IO[bytes]) -> Image:
        from imgconv.io.tiff.samples import has_imagecodecs

        if frame.for_pillow or frame.quick_by_pillow:
            try:
                with pillow.decoding(self.name, self.limit):
                    return self._decoded(pillow.open_image(alone, self.kind, self.name), 0)
            except ImageError:
                if frame.for_pillow and not has_imagecodecs():
                    raise
        frame.check_amount(self.limit)
        image: Image = frame.image(file)
        return image

    def _pillow(self) -> Iterator[Image]:
        from imgconv.io.metadata.reading import of_pillow, without_texts
        from imgconv.io.png import chunks as png_chunks

        data = self.source.data(self.byte_limit)
        data, told = recovery.ended(self.kind, data, self.name, self.limit, self.partial)
        shown = without_texts(data) if self.kind == "PNG" else data
        (opened, count), more = recovery.opened_by_pillow(self.kind, shown, self.name, self._opened)
        told += more
        # The second picture in a camera's JPEG is a preview or a depth map, not news to anyone.
        which, notes = self._frames(count, noted=opened.format != "MPO")
        # What is said beside the pixels is said of all frames, and what is wrong with it once.
        with pillow.decoding(self.name, self.limit):
            metadata = of_pillow(opened, data, self.name)
        turned = png_chunks.carried_facts(data).orientation if self.kind == "PNG" else None
        for index in which:
            with pillow.decoding(self.name, self.limit):
                image = self._decoded(opened, index)
            if turned is not None:
                image.info["orientation"] = turned
            image.metadata, metadata = metadata, replace(metadata, notes=())
            image.frames = count
            if count > 1 and self.kind in ANIMATIONS:
                image.info |= {key: opened.info.get(key) for key in ("duration", "loop")}
            image.notes += told + notes + _narrowed(data, opened, self.name)
            yield image

    def _opened(self, data: bytes) -> "tuple[ImageFile, int]":
        """Pillow's image, whose first frame is decoded, and how many frames there are."""
        with pillow.decoding(self.name, self.limit):
            opened = pillow.open_image(io.BytesIO(data), self.kind, self.name)
            self.check(opened.height, opened.width)
            if self.kind == "JPEG":
                pixels = opened.height * opened.width
                check_passes(self.name, scans_of(data), pixels, self.limit)
            if self.kind == "PNG" and not self.partial:
                opened.load()  # what is wrong in an animation is told only then
            return opened, pillow.frame_count(opened)

    def _decoded(self, opened: "ImageFile", index: int) -> Image:
        if index:
            opened.seek(index)
        self.check(opened.height, opened.width)
        # Pillow applies the orientation of a TIFF itself while it loads.
        # Loading comes first: for EXIF Pillow loads a PNG and forgets what was wrong with it.
        cut = pillow.load(opened, self.partial)
        orientation = 1 if self.kind == "TIFF" else pillow.orientation_of(opened)
        self.check(opened.height, opened.width)
        pixels, alpha, profiled = pillow.to_array(opened)
        icc = opened.info.get("icc_profile") if profiled else None
        return Image(
            np.ascontiguousarray(pixels),
            alpha=alpha,
            name=self.name,
            frame=index,
            icc=icc or None,
            format=opened.format or self.kind,
            notes=[f"{self.name}: {cut}; what is missing is 0"] if cut else [],
            info={"orientation": orientation, "mode": opened.mode},
        )


def _axes_note(pixels: Array, name: str) -> list[str]:
    height, width, channels = pixels.shape
    if channels > 4 >= height:
        return [
            f"{name}: read as {height} rows × {width} columns × {channels} channels; "
            "if it is channels first, transpose it to rows × columns × channels"
        ]
    return []


def _narrowed(data: bytes, opened: "ImageFile", name: str) -> list[str]:
    """Say it where Pillow had to reduce an animated or damaged 16-bit PNG."""
    if opened.format == "PNG" and data[24:25] == b"\x10" and not opened.mode.startswith("I"):
        return [f"{name}: 16-bit samples were reduced to 8 bits: the PNG is animated or damaged"]
    return []
