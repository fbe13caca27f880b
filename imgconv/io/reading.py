"""Reading images: from a path, bytes or a sample's name to `Image`s.

The frames of a file are `decoder`'s. EXIF orientation is applied, once, and is then 1 in
`Image.info`. A gAMA chunk is reported and not applied: samples stay as they are in the file. A
profile is kept in `Image.icc` as long as it describes the pixels.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from imgconv.errors import ImageError, LimitError, UsageError
from imgconv.io.codecs.decoder import Decoder
from imgconv.io.formats import ANIMATIONS, sniff
from imgconv.io.image import Image, holder
from imgconv.io.limits import MAX_PIXELS, check_frames, check_size, file_limit
from imgconv.io.pyramid import check_level
from imgconv.io.remote import is_url
from imgconv.io.source import Source, StandardInput, is_zarr
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
    partial: bool = False,
) -> Iterator[Image]:
    """Yield the images of a file, of bytes, or of `sample:NAME`.

    format: what the bytes are (`png`, `csv`, …) where neither they nor the name say so.
    frame: which frame of an animation or multi-page file: a number from 0, `"all"`, or None for
    the first, with a line in `Image.notes` when there are more. max_pixels: refuse a frame that
    declares more, before allocating; MAX_PIXELS by default. name: how messages call the image
    (the path by default, `-` for bytes). level: of a TIFF's or Zarr's pyramid, 0 is the largest.
    memory: bytes that one chunk of a Zarr may take, which is decoded whole. cmyk: keep the inks
    of a TIFF in CMYK, which become RGB otherwise. partial: of a file that was cut, take the pixels
    before the cut, with a note; it is refused otherwise.

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
        from imgconv.io.zarr import arrays as zarr_arrays

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
        yield from Decoder(opened, kind, wanted, limit, level, cmyk, partial).images()


def read_input(
    source: str, *, frame: Frame = None, max_pixels: int | None = None
) -> Iterator[Image]:
    """`read_images` of what a command is given: its `source`, or `-` for standard input."""
    if source == "-":
        data = StandardInput(max_pixels)()
        return read_images(data, frame=frame, max_pixels=max_pixels, name="standard input")
    return read_images(source, frame=frame, max_pixels=max_pixels)


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
    name: str = "",
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
        from imgconv.io.zarr.arrays import frames_in

        return Frames(frames_in(path, memory))
    if is_url(path):
        from imgconv.io.remote import fetch

        source = fetch(path, file_limit(limit))
    with Source(source, name or path) as opened:
        kind = sniff(opened.prefix, opened.name)
        number = 1 if kind is None else Decoder(opened, kind, None, limit).count()
        check_frames(opened.name, number)
        return Frames(number, kind in ANIMATIONS)


def parse_frame(frame: Frame) -> int | None:
    """Return a frame number, −1 for all, None for the default. Raises UsageError."""
    if frame is None:
        return None
    if frame == "all":
        return -1
    if isinstance(frame, str) and frame.isdecimal() and len(frame) <= 18:
        return int(frame)
    if isinstance(frame, int) and frame >= 0:
        return frame
    raise UsageError(f"frame {str(frame)[:40]!r}: expected a number from 0, or all")


def _unknown(prefix: bytes) -> str:
    for signature, what in ((b"%!", "PostScript"), (b"%PDF", "PDF"), (b"\xc5\xd0\xd3\xc6", "EPS")):
        if prefix.startswith(signature):
            return f"{what} is not read: it would need another program"
    return "not an image in a known format (PNG, JPEG, TIFF, WebP, GIF, PNM, PFM, NPY, CSV, …)"
