"""From the bytes of a strip or tile to its samples.

Codecs that keep bytes as they are (deflate, LZW, PackBits, LZMA, Zstandard) are undone within
bounds: a strip cannot become more than its samples need. LZW, PackBits, LZMA and Zstandard run
through libtiff in Pillow, by presenting a strip's bytes as an 8-bit gray image, since they know
nothing of samples. Codecs of pictures (JPEG 2000, JPEG XL, LERC, …) are tifffile's, which takes
them from imagecodecs, the extra `imgconv[tiff]`.

Sources: TIFF Revision 6.0 (Adobe, 1992), sections 9, 13 and 14; Adobe Photoshop TIFF Technical
Note 3 (2005) for predictor 3 and floats of 16 and 24 bits.
"""

import functools
import importlib.util
import io
import struct

import numpy as np

from imgconv.errors import ImageError
from imgconv.io.codecs.deflate import CODEC_ERRORS, codec
from imgconv.typing import Array

DEFLATE = frozenset({8, 32946, 50013})
BY_LIBTIFF = frozenset({5, 32773, 34925, 50000})
BYTE_CODECS = frozenset({1}) | DEFLATE | BY_LIBTIFF
# Codecs of pictures that imagecodecs has; JPEG XR's library prints megabytes of what is wrong.
_BY_IMAGECODECS = frozenset({
    2, 3, 4, 6, 7, 33003, 33004, 33005, 33007, 34712, 34887, 34892, 34926, 34927, 34933, 50001,
    50002, 52546,
})  # fmt: skip
# Codecs whose strips and tiles are whole files that Pillow reads.
_FILES = {33004: "JPEG2000", 33005: "JPEG2000", 34712: "JPEG2000", 34933: "PNG", 50001: "WEBP"}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # of FillOrder 2
_PIECE = 1 << 20  # packed bytes that are spread at once


@functools.cache
def has_imagecodecs() -> bool:
    """Whether the extra `imgconv[tiff]` is installed."""
    return importlib.util.find_spec("imagecodecs") is not None


def check_codec(compression: int, name: str) -> None:
    """Raise ImageError for a compression that cannot be undone here, and say what would."""
    import tifffile

    if compression in BYTE_CODECS:
        return
    try:
        called = f"compression {compression} ({tifffile.COMPRESSION(compression).name})"
    except ValueError:
        called = f"compression {compression}"
    if compression not in _BY_IMAGECODECS:
        raise ImageError(f"{name}: TIFF in {called} is not read")
    if not has_imagecodecs() and compression not in _FILES:
        raise ImageError(f"{name}: TIFF in {called} needs imagecodecs: pip install 'imgconv[tiff]'")


def decompress(
    raw: bytes, compression: int, needed: int, row_bytes: int, spare: int, name: str
) -> bytes:
    """Return the `needed` bytes of a strip or tile, which are rows of `row_bytes`.

    spare: bytes that may stand after them. Raises ImageError where there are fewer or more.
    """
    if compression in DEFLATE:
        content = _inflated(raw, needed, spare, name)
    elif compression == 1:
        content = raw
    else:
        content = _by_libtiff(raw, compression, needed // row_bytes, row_bytes)
    if len(content) < needed:
        raise ImageError(
            f"{name}: truncated TIFF: a strip of {len(content)} bytes, expected {needed}"
        )
    return content


def _inflated(raw: bytes, needed: int, spare: int, name: str) -> bytes:
    try:
        stream = codec.decompressobj()
        content: bytes = stream.decompress(raw, needed)
        # A last strip may hold rows beyond the image; the checksum stands after them.
        while spare and not stream.eof:
            extra = stream.decompress(stream.unconsumed_tail, 1 << 16)
            spare = max(0, spare - len(extra)) if extra else 0
            if extra and not spare:
                raise ImageError(f"{name}: broken TIFF: a strip longer than its rows")
    except CODEC_ERRORS as error:
        raise ImageError(f"{name}: broken TIFF: {error}") from None
    return content


def _by_libtiff(raw: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Decompress a strip as the only one of an 8-bit gray TIFF."""
    from PIL import TiffImagePlugin

    from imgconv.io.codecs.pillow import silence_libtiff

    silence_libtiff()
    entries = [
        (256, row_bytes), (257, rows), (258, 8), (259, compression), (262, 1), (273, 8), (277, 1),
        (278, rows), (279, len(raw)),
    ]  # fmt: skip
    padded = raw + b"\0" * (len(raw) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(padded))
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    file = io.BytesIO(head + padded + directory + b"\0\0\0\0")
    with TiffImagePlugin.TiffImageFile(file) as opened:
        opened.load()
        return opened.tobytes()


def check_file(raw: bytes, compression: int, size: tuple[int, ...], name: str) -> None:
    """Raise ImageError where a tile that is a file of its own declares more than (rows, columns).

    Codecs allocate what these files declare.
    """
    from imgconv.io.codecs import pillow

    if compression not in _FILES:
        return
    opened = pillow.open_image(io.BytesIO(raw), _FILES[compression], name)
    if opened.width > size[1] or opened.height > size[0]:
        raise ImageError(
            f"{name}: broken TIFF: {opened.width}×{opened.height} pixels in a tile of "
            f"{size[1]}×{size[0]}"
        )


def from_file(raw: bytes, compression: int, shape: tuple[int, int, int], name: str) -> Array:
    """Return the samples (rows, columns, samples) of a strip or tile that is a file of its own.

    Opacity that such a file leaves out is whole. Raises ImageError for a file of another size.
    """
    from imgconv.io.codecs import pillow

    check_file(raw, compression, shape[:2], name)
    opened = pillow.open_image(io.BytesIO(raw), _FILES[compression], name)
    opened.load()
    samples = shape[2]
    pixels: Array = np.asarray(opened)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[2] == 3 and samples == 4:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    if pixels.shape[2] != samples:
        raise ImageError(f"{name}: broken TIFF: {pixels.shape[2]} of {samples} samples in a tile")
    return pixels


def spread(content: bytes, rows: int, columns: int, across: int, down: int) -> Array:
    """Return YCbCr (rows, columns, 3) of 8 bits where `across` × `down` pixels share a color.

    Of each such square come its lumas, then Cb and Cr.
    """
    high, wide = -(-rows // down), -(-columns // across)
    units = np.frombuffer(content, np.uint8, high * wide * (across * down + 2))
    units = units.reshape(high, wide, across * down + 2)
    found = np.empty((high * down, wide * across, 3), np.uint8)
    luma = units[..., :-2].reshape(high, wide, down, across).transpose(0, 2, 1, 3)
    found[..., 0] = luma.reshape(high * down, wide * across)
    for place in (1, 2):
        color = units[..., place - 3].repeat(down, axis=0).repeat(across, axis=1)
        found[..., place] = color
    return found[:rows, :columns]


def unpacked(
    content: bytes, shape: tuple[int, int, int], bits: tuple[int, ...], kind: str, order: str,
    predictor: int, name: str,
) -> Array:  # fmt: skip
    """Return samples (rows, columns, samples) from the bytes of rows that each start at a byte.

    Parameters
    ----------
    bits: of each sample of a pixel. kind: `u`, `i` or `f`. order: `<` or `>`.
    predictor: 1 none, 2 differences of integers (behind floats too), 3 of floats' bytes.

    Returns: native integers that hold the bits, unscaled; floats, those of 24 bits in float32.
    Raises ImageError for a predictor that is not known or does not fit the samples.
    """
    rows, columns, samples = shape
    width = bits[0]
    row_bytes = -(-columns * sum(bits) // 8)
    if predictor not in (1, 2, 3) or (predictor == 3) > (kind == "f"):
        raise ImageError(f"{name}: TIFF predictor {predictor} for samples of kind {kind}{width}")
    chunk = np.frombuffer(content, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    if predictor == 3:
        size = width // 8
        sums = np.add.accumulate(chunk.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        planes = sums.reshape(rows, size, -1).transpose(0, 2, 1)
        chunk, order = np.ascontiguousarray(planes).reshape(rows, row_bytes), ">"
    if len(set(bits)) > 1:
        return _mixed(chunk, shape, bits)
    if width % 8 or width == 24:
        values = _packed(chunk, columns * samples, width, order if kind == "f" else ">")
        values = values.reshape(shape)
    else:
        stored = np.dtype(f"{order}{'u' if kind == 'f' else kind}{width // 8}")
        values = chunk.view(stored).reshape(shape)
        values = values.astype(stored.newbyteorder("="), copy=False)
    if predictor == 2:
        values = np.add.accumulate(values, axis=1, dtype=values.dtype)
        if width not in (8, 16, 32, 64):
            values &= (1 << width) - 1
    if kind == "f":
        return _from_24_bits(values) if width == 24 else values.view(f"f{width // 8}")
    return values


def _packed(chunk: Array, count: int, width: int, order: str) -> Array:
    """Return `count` unsigned integers of `width` bits from each row of bytes.

    The first bit is the highest; of whole bytes (24 bits) the first is that in `order` ">".
    """
    if width % 8 == 0:
        parts = chunk.reshape(len(chunk), count, width // 8)
        parts = parts if order == ">" else parts[..., ::-1]
        values: Array = np.zeros((len(chunk), count), np.uint32)
        for byte in range(width // 8):
            values = values << np.uint32(8) | parts[..., byte]
        return values
    dtype: type[np.unsignedinteger] = (
        np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint32
    )
    found = np.zeros((len(chunk), count), dtype)
    step = max(1, _PIECE // max(1, chunk.shape[1]))
    for top in range(0, len(chunk), step):
        spread = np.unpackbits(chunk[top : top + step], axis=1)[:, : count * width]
        spread = spread.reshape(len(spread), count, width)
        part: Array = found[top : top + step]
        for bit in range(width):
            part <<= dtype(1)
            part |= spread[..., bit]
    return found


def _mixed(chunk: Array, shape: tuple[int, int, int], bits: tuple[int, ...]) -> Array:
    """Samples of a pixel that differ in bits, such as 5, 6, 5: in integers of the widest."""
    rows, columns, _ = shape
    dtype: type[np.unsignedinteger] = (
        np.uint8 if max(bits) <= 8 else np.uint16 if max(bits) <= 16 else np.uint32
    )
    spread = np.unpackbits(chunk, axis=1)[:, : columns * sum(bits)]
    spread = spread.reshape(rows, columns, sum(bits))
    found: Array = np.zeros(shape, dtype)
    place = 0
    for sample, width in enumerate(bits):
        for _ in range(width):
            found[..., sample] = found[..., sample] << dtype(1) | spread[..., place]
            place += 1
    return found


def _from_24_bits(values: Array) -> Array:
    """Floats of a sign, 7 bits of exponent (63 is 0) and 16 of fraction."""
    sign, exponent = values >> 23, (values >> 16) & 127
    fraction = (values & 0xFFFF).astype(np.float32)
    with np.errstate(over="ignore"):
        normal = np.ldexp(1 + fraction / 65536, exponent.astype(np.int32) - 63)
        tiny = np.ldexp(fraction / 65536, np.int32(-62))
    found = np.where(exponent == 0, tiny, normal).astype(np.float32)
    found = np.where(exponent == 127, np.where(fraction > 0, np.nan, np.inf), found)
    return np.where(sign == 1, -found, found).astype(np.float32)
