"""Reading images: from a path, bytes or a sample's name to `Image`s.

What each of Pillow's modes becomes is in `pillow`; NPY and NPZ in `arrays`; number grids in
`text`; PGM, PPM and PFM in `netpbm`; 16-bit, float and many-band TIFF in `tiff_reader`; PNG in
`png`. EXIF orientation is applied, once, and is then 1 in `Image.info`. A gAMA chunk is reported
and not applied: samples stay as they are in the file. A profile is kept in `Image.icc` as long
as it describes the pixels.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any, NamedTuple

import numpy as np

from imgconv.errors import ImageError, LimitError, UsageError
from imgconv.io import pillow
from imgconv.io.formats import ANIMATIONS, sniff
from imgconv.io.image import Image, holder, rounded_note
from imgconv.io.limits import MAX_PIXELS, check_frames, check_size, file_limit
from imgconv.io.pyramid import check_level
from imgconv.io.remote import is_url
from imgconv.io.source import Source, is_zarr
from imgconv.io.truncation import missing_end
from imgconv.typing import Array

_SAMPLE = "sample:"

Frame = int | str | None


def read_images(
    source: str | os.PathLike[str] | bytes | memoryview,
    *,
    format: str | None = None,
    frame: Frame = None,
    max_pixels: int | None = None,
    name: str = "",
    level: int = 0,
    memory: int | None = None,
    cmyk: bool = False,
) -> Iterator[Image]:
    """Yield the images of a file, of bytes, or of `sample:NAME`.

    format: what the bytes are (`png`, `csv`, …) where neither they nor the name say so.
    frame: which frame of an animation or multi-page file: a number from 0, `"all"`, or None for
    the first, with a line in `Image.notes` when there are more. max_pixels: refuse a frame that
    declares more, before allocating; MAX_PIXELS by default. name: how messages call the image
    (the path by default, `-` for bytes). level: of a TIFF's or Zarr's pyramid, 0 is the largest.
    memory: bytes that one chunk of a Zarr may take, which is decoded whole. cmyk: keep the inks
    of a TIFF in CMYK, which become RGB otherwise.

    Raises ImageError for what cannot be read (missing, broken, truncated, not an image),
    LimitError beyond `max_pixels`, UsageError for a bad `format` or `frame`.
    """
    wanted = parse_frame(frame)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(source, str) and source.startswith(_SAMPLE):
        from imgconv.io.sample import sample

        check_level(source, level)
        image = sample(source)
        if image.pixels.shape[0] * image.pixels.shape[1] > limit:
            raise LimitError(f"{source}: larger than the limit of {limit} pixels (--max-pixels)")
        yield image
        return
    origin = source
    path = "" if isinstance(source, (bytes, bytearray, memoryview)) else os.fspath(source)
    if is_zarr(path):
        from imgconv.io import zarr_arrays

        yield from zarr_arrays.images(
            path,
            wanted,
            lambda height, width: check_size(path, height, width, limit),
            level,
            memory,
        )
        return
    if is_url(path):
        from imgconv.io.remote import fetch

        name = name or path
        origin = fetch(path, file_limit(limit))
    with Source(origin, name) as opened:
        kind = sniff(opened.prefix, opened.name, format)
        if kind is None:
            raise ImageError(f"{opened.name}: {_unknown(opened.prefix)}")
        yield from _Reader(opened, kind, wanted, limit, level, cmyk).images()


def as_image(image: "Image | Array | str | os.PathLike[str]") -> Image:
    """Return what functions take for an image: one, an array (H, W) or (H, W, C), or what is read.

    Raises ImageError for what cannot be read, UsageError for an array of no image.
    """
    if isinstance(image, Image):
        return image
    if isinstance(image, str | bytes | os.PathLike):
        return next(read_images(image))
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise UsageError(f"image: an array of shape {pixels.shape}, expected (H, W) or (H, W, C)")
    try:
        held, stored = holder(pixels.dtype)
    except KeyError:
        raise UsageError(f"image: samples of {pixels.dtype}, expected real numbers") from None
    return Image(np.ascontiguousarray(pixels, held), name="image", stored=stored)


class Frames(NamedTuple):
    """How many frames there are, and whether they are an animation's or pages."""

    number: int
    animated: bool = False


def count_frames(
    source: str | os.PathLike[str] | bytes | memoryview,
    max_pixels: int | None = None,
    memory: int | None = None,
) -> Frames:
    """How many images `read_images` yields for `frame="all"`, by the file's structure alone.

    No pixel is decoded, but files that are not on this machine are fetched. Raises ImageError and
    LimitError as `read_images` does, for what the structure shows.
    """
    path = "" if isinstance(source, (bytes, bytearray, memoryview)) else os.fspath(source)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if path.startswith(_SAMPLE):
        return Frames(1)
    if is_zarr(path):
        from imgconv.io.zarr_arrays import frames_in

        return Frames(frames_in(path, memory))
    if is_url(path):
        from imgconv.io.remote import fetch

        source = fetch(path, file_limit(limit))
    with Source(source, path) as opened:
        kind = sniff(opened.prefix, opened.name)
        number = 1 if kind is None else _Reader(opened, kind, None, limit, 0, False).count()
        check_frames(path or opened.name, number)
        return Frames(number, kind in ANIMATIONS)


def parse_frame(frame: Frame) -> int | None:
    """Return a frame number, −1 for all, None for the default. Raises UsageError."""
    if frame is None:
        return None
    if frame == "all":
        return -1
    if (isinstance(frame, str) and frame.isdigit()) or (isinstance(frame, int) and frame >= 0):
        return int(frame)
    raise UsageError(f"frame {frame!r}: expected a number from 0, or all")


def _unknown(prefix: bytes) -> str:
    for signature, what in ((b"%!", "PostScript"), (b"%PDF", "PDF"), (b"\xc5\xd0\xd3\xc6", "EPS")):
        if prefix.startswith(signature):
            return f"{what} is not read: it would need another program"
    return "not an image that is known (PNG, JPEG, TIFF, WebP, GIF, PNM, PFM, NPY, CSV, …)"


def first_of(name: str, count: int) -> tuple[str, ...]:
    """The note that a file has more frames than the one that is read, if it has."""
    return (f"{name}: the first of {count} frames is read; --frame N or all",) * (count > 1)


class _Reader:
    """Decodes the wanted frames of one source."""

    def __init__(
        self, source: Source, kind: str, wanted: int | None, limit: int, level: int, cmyk: bool
    ) -> None:
        self.source, self.kind, self.wanted, self.limit = source, kind, wanted, limit
        self.level, self.cmyk = level, cmyk
        self.name = source.name
        self.byte_limit = file_limit(limit)

    def images(self) -> Iterator[Image]:
        """Yield the wanted frames, oriented."""
        reader = {
            "NPY": self._npy, "NPZ": self._npz, "TEXT": self._text, "NETPBM": self._netpbm,
            "PNG": self._png, "TIFF": self._tiff,
        }.get(self.kind, self._pillow)  # fmt: skip
        if self.level and self.kind != "TIFF":
            check_level(self.name, self.level)
        for image in reader():
            yield _oriented(image)

    def count(self) -> int:
        """How many frames there are."""
        file = self.source.file(self.byte_limit)
        if self.kind == "NPY":
            from imgconv import npy

            with npy.reported_as(ImageError):
                shape = npy.parse_header(file.read(npy.HEADER_LIMIT + 12), self.name).shape
            return shape[0] if len(shape) == 4 else 1
        if self.kind == "NPZ":
            from imgconv.io import arrays

            return sum(frames for _, frames, _ in arrays.open_npz(file, self.name, self.limit))
        if self.kind == "TIFF":
            from imgconv.io.tiff_pages import TiffPages, reported

            size = self.source.size
            if size is None:
                size = len(self.source.data(self.byte_limit))
            with reported(self.name, self.limit):
                return len(TiffPages(file, size, self.name))
        if self.kind in ("TEXT", "NETPBM"):
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
        from imgconv.io import arrays

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
        from imgconv.io import arrays

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
        from imgconv.io import text

        yield self._one(text.decode(self.source.data(self.byte_limit), self.name, self.limit))

    def _netpbm(self) -> Iterator[Image]:
        from imgconv.io import netpbm

        data = self.source.data(self.byte_limit)
        image = netpbm.decode(data, self.name, self.check)
        if image is None:
            self.kind = "PPM"
            yield from self._pillow()
        else:
            yield self._one(image)

    def _png(self) -> Iterator[Image]:
        from imgconv.io import png

        data = self.source.data(self.byte_limit)
        if data.startswith(b"\x89PNG"):
            image = png.decode(data, max_pixels=self.limit, name=self.name)
            if image is not None:
                yield self._one(image)
                return
        yield from self._pillow()

    def _tiff(self) -> Iterator[Image]:
        from imgconv.io.metadata.tiff import TiffMetadata
        from imgconv.io.tiff_pages import TiffPages, reported
        from imgconv.io.tiff_reader import TiffFrame

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
        which, notes = self._frames(count)
        for index in which:
            with reported(self.name, self.limit):
                page, depth = pages.frame(index, self.level)
                self.check(int(page.imagelength), int(page.imagewidth))
                frame = TiffFrame(page, depth, size, self.name, self.cmyk)
                image = self._tiff_frame(frame, pages.alone(page), file)
                image.metadata = told.of(index, self.level)
                image.nodata = pages.nodata(index, self.level)
            image.frame, image.frames = index, count
            image.notes += notes
            yield image

    def _tiff_frame(self, frame: Any, alone: IO[bytes], file: IO[bytes]) -> Image:
        from imgconv.io.tiff_samples import has_imagecodecs

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
        from imgconv.io import png_chunks
        from imgconv.io.metadata.reading import of_pillow

        data = self.source.data(self.byte_limit)
        missing = missing_end(self.kind, data)
        if missing:
            raise ImageError(f"{self.name}: truncated {self.kind}: {missing}")
        file = self.source.file(self.byte_limit)
        if self.kind == "PNG":
            from imgconv.io.metadata.reading import without_texts

            file = io.BytesIO(without_texts(data))
        with pillow.decoding(self.name, self.limit):
            opened = pillow.open_image(file, self.kind, self.name)
            self.check(opened.height, opened.width)
            count = pillow.frame_count(opened)
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
            image.notes += notes + _narrowed(data, opened, self.name)
            yield image

    def _decoded(self, opened: Any, index: int) -> Image:
        if index:
            opened.seek(index)
        self.check(opened.height, opened.width)
        # Pillow applies the orientation of a TIFF itself while it loads.
        # Loading comes first: for EXIF Pillow loads a PNG and forgets what was wrong with it.
        opened.load()
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


def _narrowed(data: bytes, opened: Any, name: str) -> list[str]:
    """Say it where Pillow had to reduce an animated or damaged 16-bit PNG."""
    if opened.format == "PNG" and data[24:25] == b"\x10" and not opened.mode.startswith("I"):
        return [f"{name}: 16-bit samples were reduced to 8 bits: the PNG is animated or damaged"]
    return []


def _oriented(image: Image) -> Image:
    """Apply EXIF orientation once: afterwards info says 1."""
    orientation = image.info.get("orientation", 1)
    if orientation != 1:
        image.pixels = np.ascontiguousarray(oriented(image.pixels, orientation))
        image.info["orientation"] = 1
        image.info["oriented"] = orientation
        if image.metadata is not None:
            image.metadata = replace(image.metadata, orientation=orientation)
    return image


def oriented(pixels: Array, orientation: int) -> Array:
    """Return a view of (H, W, C) as EXIF orientation 1…8 says it is to be seen.

    Source: Exif 2.32 (CIPA DC-008), tag 0x0112: where row 0 and column 0 of the stored image are.
    """
    if orientation >= 5:  # row 0 is a vertical side
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
