"""TIFF samples that Pillow would narrow or refuse, read as they are.

Pillow reduces 16-bit RGB to 8 bits and refuses float RGB and most band counts. Here: unsigned,
signed and float samples of 8 to 64 bits, any number of bands, chunky or planar, in strips or
tiles, uncompressed or compressed without loss. Deflate is inflated here; other codecs (LZW,
PackBits, ZSTD, LZMA) run through libtiff in Pillow, by presenting a chunk's bytes as an 8-bit gray
image, since decompression knows nothing of samples.
"""

import io
import math
import struct
import zlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import bands
from imgconv.errors import ImageError
from imgconv.images import tiff_tags as tags
from imgconv.images.image import Image
from imgconv.images.tiff_tags import Directory

_DEFLATE = (8, 32946)
_CODECS = {1: "none", 5: "LZW", 32773: "PackBits", 34925: "LZMA", 50000: "ZSTD"}
_STORED = {
    (1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (1, 64): "u8", (2, 8): "i1", (2, 16): "i2",
    (2, 32): "i4", (2, 64): "i8", (3, 16): "f2", (3, 32): "f4", (3, 64): "f8",
}  # fmt: skip
_RESULT = {
    "u1": np.uint8, "u2": np.uint16, "u4": np.float64, "u8": np.float64, "i1": np.int16,
    "i2": np.int16, "i4": np.int32, "i8": np.float64, "f2": np.float32, "f4": np.float32,
    "f8": np.float64,
}  # fmt: skip


def plain_for_pillow(directory: Directory) -> bool:
    """Whether Pillow reads a frame without loss: 8-bit pictures, and all that is not samples."""
    bits = set(directory.tags.get(tags.BITS, (1,)))
    photometric = directory.one(tags.PHOTOMETRIC, 1)
    if photometric not in (0, 1, 2) or directory.one(tags.FILL_ORDER, 1) != 1:
        return True
    if max(bits) < 8 or bits == {12}:
        return True
    extras = directory.tags.get(tags.EXTRA_SAMPLES, ())
    samples = directory.one(tags.SAMPLES, 1)
    simple = directory.one(tags.SAMPLE_FORMAT, 1) in (1, 4)
    known = (samples, extras) in (
        (1, ()), (2, (1,)), (2, (2,)), (3, ()), (4, ()), (4, (1,)), (4, (2,)),
    )  # fmt: skip
    return bits == {8} and simple and known


def check_present(directory: Directory, size: int, name: str) -> None:
    """Raise ImageError when a strip or tile lies beyond the end of the file."""
    for offset, count in directory.chunks():
        if offset + count > size:
            raise ImageError(
                f"{name}: truncated TIFF: image data up to byte {offset + count}, the file has "
                f"{size}"
            )


class Entered(io.RawIOBase):
    """A file whose first bytes are others: a header that leads to another directory."""

    def __init__(self, file: IO[bytes], head: bytes) -> None:
        self._file, self._head = file, head

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        place = self._file.tell()
        content = self._file.read(len(buffer))
        head = self._head[place : place + len(content)]
        buffer[: len(content)] = head + content[len(head) :]
        return len(content)


class Layout:
    """How the samples of one frame lie in its chunks. Raises ImageError for the impossible."""

    def __init__(self, directory: Directory, name: str) -> None:
        self.name = name
        self.height, self.width = directory.size
        self.samples = directory.one(tags.SAMPLES, 1)
        bits = set(directory.tags.get(tags.BITS, (1,)))
        formats = set(directory.tags.get(tags.SAMPLE_FORMAT, (1,)))
        self.code = _STORED.get((min(formats) if min(formats) != 4 else 1, min(bits)), "")
        if len(bits) > 1 or len(formats) > 1 or not self.code:
            raise ImageError(
                f"{name}: TIFF with samples of {_list(bits)} bits and sample format "
                f"{_list(formats)} cannot be read without loss"
            )
        self.compression = directory.one(tags.COMPRESSION, 1)
        if self.compression not in _DEFLATE and self.compression not in _CODECS:
            raise ImageError(
                f"{name}: TIFF of {min(bits)}-bit samples in compression {self.compression} "
                "cannot be read without loss"
            )
        self.predictor = directory.one(tags.PREDICTOR, 1)
        self.planar = directory.one(tags.PLANAR, 1) == 2 and self.samples > 1
        self.per_pixel = 1 if self.planar else self.samples
        self.stored = np.dtype(directory.order + self.code)
        if directory.tiled:
            self.rows = directory.one(tags.TILE_HEIGHT, 0)
            self.columns = directory.one(tags.TILE_WIDTH, 0)
        else:
            self.rows = min(directory.one(tags.ROWS_PER_STRIP, self.height), self.height)
            self.columns = self.width
        self.tiled = directory.tiled
        if min(self.height, self.width, self.samples, self.rows, self.columns) < 1:
            raise ImageError(f"{name}: broken TIFF: a size of zero")
        if self.samples > 65535 or self.columns > 4 * self.width + 65536:
            raise ImageError(f"{name}: broken TIFF: tiles of {self.columns} columns")
        self.across = math.ceil(self.width / self.columns)
        self.down = math.ceil(self.height / self.rows)
        self.chunks = directory.chunks()
        needed = self.across * self.down * (self.samples if self.planar else 1)
        if len(self.chunks) < needed:
            raise ImageError(
                f"{name}: broken TIFF: {len(self.chunks)} strips or tiles, expected {needed}"
            )
        self.chunks = self.chunks[:needed]

    def place(self, index: int) -> tuple[int, int, int, int]:
        """(plane, first row, first column, rows stored) of a chunk."""
        plane, rest = divmod(index, self.across * self.down)
        row, column = divmod(rest, self.across)
        top = row * self.rows
        rows = self.rows if self.tiled else min(self.rows, self.height - top)
        return plane, top, column * self.columns, rows


def _list(values: set[int]) -> str:
    return "/".join(map(str, sorted(values)))


def decode(directory: Directory, file: IO[bytes], size: int, name: str) -> Image:
    """Decode one frame. The caller has checked its declared size against the limit.

    Opacity that is premultiplied in the file (associated alpha) is divided out again.
    """
    check_present(directory, size, name)
    layout = Layout(directory, name)
    shape = (layout.height, layout.width, layout.samples)
    check_amount(layout)
    pixels = np.empty(shape, layout.stored.newbyteorder("="))
    raw = []
    for offset, count in layout.chunks:
        file.seek(offset)
        raw.append(file.read(count))

    def work(start: int, stop: int) -> None:
        for index in range(start, stop):
            place_chunk(pixels, layout, index, raw[index])

    bands.over_bands(len(raw), 1, work)
    return as_image(pixels, layout, directory, name)


def check_amount(layout: Layout) -> None:
    """Raise ImageError when a frame's chunks are too short for the samples that it declares."""
    least = layout.height * layout.width * layout.samples * layout.stored.itemsize
    stored = sum(count for _, count in layout.chunks)
    # LZMA packs zeros about 7,000 to 1; nothing that is read here goes further.
    if least > 10_000 * stored or (layout.compression == 1 and least > stored):
        raise ImageError(f"{layout.name}: truncated TIFF: {least} bytes of samples from {stored}")


def place_chunk(
    pixels: npt.NDArray[Any], layout: Layout, index: int, raw: bytes, first_row: int = 0
) -> None:
    """Decode a chunk into the rows from `first_row` on of its frame. Raises ImageError."""
    plane, top, left, rows = layout.place(index)
    top -= first_row
    row_bytes = layout.columns * layout.per_pixel * layout.stored.itemsize
    content = _decompress(raw, layout, rows, row_bytes)
    chunk = np.frombuffer(content, np.uint8, rows * row_bytes)
    values = _unpredict(chunk.reshape(rows, row_bytes), layout)
    height = min(rows, len(pixels) - top)
    width = min(layout.columns, layout.width - left)
    first = plane if layout.planar else 0
    target = pixels[top : top + height, left : left + width, first : first + layout.per_pixel]
    target[...] = values[:height, :width]


def _decompress(raw: bytes, layout: Layout, rows: int, row_bytes: int) -> bytes:
    needed = rows * row_bytes
    if layout.compression in _DEFLATE:
        try:
            stream = zlib.decompressobj()
            content = stream.decompress(raw, needed)
            # A last strip may hold rows beyond the image; the checksum stands after them.
            beyond = layout.rows * row_bytes
            while beyond and not stream.eof:
                extra = stream.decompress(stream.unconsumed_tail, 1 << 16)
                beyond = max(0, beyond - len(extra)) if extra else 0
                if extra and not beyond:
                    raise ImageError(f"{layout.name}: broken TIFF: a strip longer than its rows")
        except zlib.error as error:
            raise ImageError(f"{layout.name}: broken TIFF: {error}") from None
    elif layout.compression == 1:
        content = raw
    else:
        content = _by_libtiff(raw, layout, rows, row_bytes)
    if len(content) < needed:
        raise ImageError(
            f"{layout.name}: truncated TIFF: a strip of {len(content)} bytes, expected {needed}"
        )
    return content


def _by_libtiff(raw: bytes, layout: Layout, rows: int, row_bytes: int) -> bytes:
    """Decompress a chunk as the only strip of an 8-bit gray TIFF."""
    from PIL import TiffImagePlugin

    from imgconv.images.pillow import silence_libtiff

    silence_libtiff()

    entries = [
        (tags.WIDTH, row_bytes), (tags.HEIGHT, rows), (tags.BITS, 8),
        (tags.COMPRESSION, layout.compression), (tags.PHOTOMETRIC, 1),
        (tags.STRIP_OFFSETS, 8), (tags.SAMPLES, 1), (tags.ROWS_PER_STRIP, rows),
        (tags.STRIP_COUNTS, len(raw)),
    ]  # fmt: skip
    padded = raw + b"\0" * (len(raw) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(padded))
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    file = io.BytesIO(head + padded + directory + b"\0\0\0\0")
    with TiffImagePlugin.TiffImageFile(file) as opened:
        opened.load()
        return opened.tobytes()


def _unpredict(chunk: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[Any]:
    """Return (rows, columns, samples) from the bytes of a chunk's rows."""
    rows = len(chunk)
    shape = (rows, layout.columns, layout.per_pixel)
    if layout.predictor == 3 and layout.code[0] == "f":
        # TIFF Technical Note 3: bytes by significance, each row differenced.
        size = layout.stored.itemsize
        sums = np.add.accumulate(chunk.reshape(rows, -1, layout.per_pixel), axis=1, dtype=np.uint8)
        planes = sums.reshape(rows, size, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(planes).view(f">f{size}").reshape(shape)
    values = np.ascontiguousarray(chunk).view(layout.stored).reshape(shape)
    if layout.predictor == 2 and layout.code[0] != "f":
        native = values.astype(layout.stored.newbyteorder("="))
        return np.add.accumulate(native, axis=1, dtype=native.dtype)
    if layout.predictor not in (1, 2, 3):
        raise ImageError(f"{layout.name}: TIFF predictor {layout.predictor}, expected 1 to 3")
    return values


def as_image(pixels: npt.NDArray[Any], layout: Layout, directory: Directory, name: str) -> Image:
    """Return stored samples (H, W, C), or rows of them, as an image; may change them in place."""
    extras = directory.tags.get(tags.EXTRA_SAMPLES, ())
    photometric = directory.one(tags.PHOTOMETRIC, 1)
    if photometric == 0 and layout.code[0] == "u":
        np.subtract(np.iinfo(pixels.dtype).max, pixels, out=pixels)
    colours = 3 if photometric == 2 else 1
    alpha = layout.samples == colours + 1 and (
        extras in ((1,), (2,)) or (colours == 3 and not extras)
    )
    if alpha and extras == (1,):
        pixels = _divided_by_alpha(pixels)
    result = pixels.astype(_RESULT[layout.code], copy=False)
    icc = directory.tags.get(tags.ICC)
    return Image(
        result,
        alpha=alpha,
        name=name,
        icc=bytes(icc) if icc else None,
        format="TIFF",
        info={"orientation": directory.one(tags.ORIENTATION, 1)},
    )


def _divided_by_alpha(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
    opacity = pixels[..., -1:].astype(np.float64)
    colour = np.divide(
        pixels[..., :-1].astype(np.float64) * full, opacity, where=opacity > 0,
        out=np.zeros(pixels[..., :-1].shape),
    )  # fmt: skip
    if pixels.dtype.kind == "u":
        colour = np.rint(np.minimum(colour, full))
    pixels[..., :-1] = colour
    return pixels
