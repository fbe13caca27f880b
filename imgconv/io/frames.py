"""Files of several frames: pages of TIFF, animated GIF, WebP and PNG, stacks of NPY and Zarr.

Animations are put together from still images as `writing` encodes them: each frame is whole and
replaces the one before, so nothing depends on how frames were disposed of or blended in the input.

Sources: "GIF89a specification" and Netscape's looping extension; "WebP Container Specification",
section "Animation"; PNG specification, third edition, sections 11.3.6 (acTL, fcTL, fdAT).
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

import numpy as np

from imgconv.errors import OutputError
from imgconv.io.formats import Format
from imgconv.io.image import Image
from imgconv.io.publish import Folder, Patch, Piece, joined
from imgconv.io.writing import EncodeOptions, encode, page_options
from imgconv.typing import Array, Dtype

DURATION = 100.0  # milliseconds that a frame is shown where the input does not say: its pages
_EVERY = ("alpha", "compress", "quality")  # options of every frame; others are of the whole
_GIF_IMAGE, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9
_GIF_LOOP = b"\x21\xff\x0bNETSCAPE2.0"
# GIF's disposal: leave the frame, which the next one covers; or remove it, which shows through.
_KEEP, _REMOVE = 1 << 2, 2 << 2
_NO_BLENDING = 1 << 1  # of a WebP's frame


class Frame(NamedTuple):
    """A frame to write: samples (H, W, C), the options of `encode`, milliseconds to show it."""

    samples: Array
    options: EncodeOptions
    duration: float = DURATION


def encode_frames(
    frames: Iterable[Frame], count: int, made: Format, loops: int | None = 0
) -> Iterable[Piece]:
    """Return the pieces of a file of `count` frames, `Patch`es among them.

    loops: the number that the format has for how often an animation is played: 0 for ever, None
    where a GIF is to have none and is played once. Memory: about one frame.

    Raises OutputError for frames that do not fit together: all but TIFF's have one size, one type
    of samples and one number of channels.
    """
    frames = iter(frames)
    if made.name == "tiff":
        from imgconv.io.tiff.writer import encode_pages

        return encode_pages(((one.samples, page_options(one.options)) for one in frames), count)
    if made.name == "zarr":
        return _zarr(_alike(frames, made), count)
    return {"gif": _gif, "webp": _webp, "png": _png, "npy": _npy}[made.name](
        _alike(frames, made), count, made, loops
    )


def _alike(frames: Iterator[Frame], made: Format) -> Iterator[Frame]:
    """The frames, once each has been seen to be as the first."""
    first: tuple[tuple[int, ...], Dtype] | None = None
    for number, frame in enumerate(frames):
        got = frame.samples.shape, frame.samples.dtype
        first = first or got
        if got != first:
            (height, width, channels), dtype = got
            raise OutputError(
                f"frame {number} is {width}×{height}×{channels} {dtype}, the first "
                f"{first[0][1]}×{first[0][0]}×{first[0][2]} {first[1]}: {made.name} holds frames "
                "of one kind; write tiff, or one file per frame with {frame}"
            )
        yield frame


def alike(images: Callable[[], Iterator[Image]]) -> Iterator[Image]:
    """The images that `images()` reads, with the channels that any of them has.

    An animation's frames come as gray, RGB or with opacity, each as it was stored; they are gone
    through twice, so that one is in memory at a time.
    """
    channels, alpha = 1, False
    for image in images():
        channels = max(channels, image.pixels.shape[2] - image.alpha)
        alpha = alpha or image.alpha
    for image in images():
        colors = image.pixels.shape[2] - image.alpha
        parts = [image.pixels[..., :colors]]
        if colors == 1 and channels == 3:
            parts *= 3
        if image.alpha:
            parts.append(image.pixels[..., -1:])
        elif alpha:
            white = np.array(image.full_scale).astype(image.pixels.dtype)
            parts.append(np.broadcast_to(white, (*image.pixels.shape[:2], 1)))
        if len(parts) > 1 + image.alpha:
            image.pixels = np.concatenate(parts, axis=2)
            image.alpha = alpha
        yield image


def stacked(frames: list[Array], made: Format) -> Array:
    """Frames (H, W, C) as one array (frames, H, W, C)."""
    return np.stack([frame.samples for frame in _alike(iter(map(_bare, frames)), made)])


def _bare(samples: Array) -> Frame:
    return Frame(samples, {})


def _still(frame: Frame, made: Format, first: bool) -> bytes:
    """A frame as a file of its own; what is said of the whole stands in the first."""
    options = frame.options
    if not first:
        every = {name: value for name, value in options.items() if name in _EVERY}
        options = cast(EncodeOptions, every)
    return joined(encode(frame.samples, made, **options))


def _zarr(frames: Iterator[Frame], count: int) -> Folder:
    def write(folder: str) -> None:
        from imgconv.io.zarr import arrays as zarr_arrays

        told = (
            (one.samples, one.options.get("pyramid", False), one.options.get("record"))
            for one in frames
        )
        zarr_arrays.write_frames(folder, told, count)

    return Folder(write)


def _npy(frames: Iterator[Frame], count: int, made: Format, loops: int | None) -> Iterator[Piece]:
    from imgconv.npy import encode_npy

    for number, frame in enumerate(frames):
        head, content = encode_npy(frame.samples, () if number else (count,))
        if not number:
            yield head
        yield content


def _png(frames: Iterator[Frame], count: int, made: Format, loops: int | None) -> Iterator[bytes]:
    number = 0  # of fcTL and fdAT chunks so far
    after: list[bytes] = []
    for index, frame in enumerate(frames):
        still = _still(frame, made, not index)
        height, width, _ = frame.samples.shape
        shown = min(round(frame.duration), 65535)
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, shown, 1000, 0, 0)
        number += 1
        if not index:
            yield still[:8]
        began = False
        for kind, payload, whole in _png_chunks(still):
            if kind == b"IDAT":
                if not began:
                    yield _png_chunk(b"fcTL", control)
                began = True
                if index:
                    yield _png_chunk(b"fdAT", struct.pack(">I", number) + payload)
                    number += 1
                else:
                    yield whole
            elif not index and began:
                after.append(whole)
            elif not index:
                yield whole
                if kind == b"IHDR":
                    yield _png_chunk(b"acTL", struct.pack(">II", count, _times(loops)))
    yield b"".join(after)


def _times(loops: int | None) -> int:
    """How often PNG and WebP play an animation: 0 is for ever."""
    return 1 if loops is None else loops


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(kind, payload, the whole chunk) of each."""
    at = 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : end - 4], data[at:end]
        at = end


def _png_chunk(kind: bytes, payload: bytes) -> bytes:
    checked = kind + payload
    return struct.pack(">I", len(payload)) + checked + struct.pack(">I", zlib.crc32(checked))


def _gif(frames: Iterator[Frame], count: int, made: Format, loops: int | None) -> Iterator[bytes]:
    for index, frame in enumerate(frames):
        still = _still(frame, made, not index)
        size = still[10] & 7
        colors = still[13 : 13 + (3 << (size + 1))]
        at = 13 + len(colors)
        extensions = []
        disposal, clear = _KEEP, 0
        while still[at] == _GIF_EXTENSION:
            end = _gif_end(still, at + 2)
            if still[at + 1] != _GIF_CONTROL:
                extensions.append(still[at:end])
            elif still[at + 3] & 1:
                disposal, clear = _REMOVE | 1, still[at + 6]
            at = end
        if not index:
            height, width, _ = frame.samples.shape
            yield b"GIF89a" + struct.pack("<HHBBB", width, height, still[10] & 0x70, 0, 0)
            if loops is not None:
                yield _GIF_LOOP + struct.pack("<BBHB", 3, 1, min(loops, 65535), 0)
            yield b"".join(extensions)
        # A palette of its own for each frame, whose place among the others is the whole picture.
        delay = min(round(frame.duration / 10), 65535)
        yield b"\x21\xf9" + struct.pack("<BBHBB", 4, disposal, delay, clear, 0)
        flags = still[at + 9] & 0x40 | 0x80 | size
        yield still[at : at + 9] + bytes([flags]) + colors
        yield still[at + 10 : _gif_end(still, at + 11)]
    yield b";"


def _gif_end(data: bytes, at: int) -> int:
    """Where a run of sub-blocks that begins at `at` ends."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


def _webp(frames: Iterator[Frame], count: int, made: Format, loops: int | None) -> Iterator[Piece]:
    written = 12
    after: list[bytes] = []
    for index, frame in enumerate(frames):
        chunks = list(_webp_chunks(_still(frame, made, not index)))
        height, width, channels = frame.samples.shape
        image = b"".join(whole for kind, whole in chunks if kind in (b"ALPH", b"VP8 ", b"VP8L"))
        pieces = []
        if not index:
            yield b"RIFF\0\0\0\0WEBP"
            kinds = {kind for kind, _ in chunks}
            flags = 0x02 | 0x20 * (b"ICCP" in kinds) | 0x10 * (channels in (2, 4))
            flags |= 0x08 * (b"EXIF" in kinds) | 0x04 * (b"XMP " in kinds)
            canvas = bytes([flags, 0, 0, 0]) + _three(width - 1) + _three(height - 1)
            pieces.append(_webp_chunk(b"VP8X", canvas))
            pieces += [whole for kind, whole in chunks if kind == b"ICCP"]
            pieces.append(_webp_chunk(b"ANIM", struct.pack("<IH", 0, min(_times(loops), 65535))))
            known = (b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L")
            after = [whole for kind, whole in chunks if kind not in known]
        shown = _three(min(round(frame.duration), (1 << 24) - 1))
        place = bytes(6) + _three(width - 1) + _three(height - 1) + shown + bytes([_NO_BLENDING])
        pieces.append(_webp_chunk(b"ANMF", place + image))
        written += sum(map(len, pieces))
        yield from pieces
    yield b"".join(after)
    written += sum(map(len, after))
    yield Patch(4, struct.pack("<I", written - 8))


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, the whole chunk) of each."""
    at = 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        yield data[at : at + 4], data[at:end]
        at = end


def _webp_chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")
