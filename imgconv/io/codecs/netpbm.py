"""PBM, PGM, PPM and PFM, read and written with NumPy alone.

Binary gray and color maps (P5, P6; 8 bit, or 16 bit big-endian), their plain-text forms (P2,
P3), binary bitmaps (P4), and portable float maps (Pf gray, PF RGB; rows from the bottom up, the
sign of the scale factor is the byte order). Samples of a maximum other than 255 or 65535 are scaled
to the full range of uint8 or uint16, rounded to nearest. Binary images may follow each other in
one file or stream. Sources: Netpbm's `pbm(5)`, `pgm(5)`, `ppm(5)`; Paul Debevec's "PFM Portable
FloatMap Image Format".
"""

import re
from collections.abc import Callable, Iterator

import numpy as np

from imgconv.errors import ImageError, OutputError
from imgconv.io.image import Image
from imgconv.io.publish import Piece
from imgconv.ops.rows import RowSource, band_rows, read_rows
from imgconv.typing import Array, Dtype

_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([^\s#]+)")
_HEADER_LIMIT = 1 << 16
_SPACE = re.compile(rb"\s*")
_BINARY = frozenset({b"P4", b"P5", b"P6", b"PF", b"Pf"})
_MAGICS = _BINARY | {b"P1", b"P2", b"P3"}


def starts(data: bytes, name: str) -> list[int]:
    """Where the images of a file begin; what is broken in them, `decode` says."""
    found, at = [0], 0
    while data[at : at + 2] in _BINARY:
        try:
            at = _end(data, name, at)
        except ImageError:
            break
        gap = _SPACE.match(data, min(at, len(data)))
        at = gap.end() if gap else at
        if data[at : at + 2] not in _MAGICS or not data[at + 2 : at + 3].isspace():
            break
        found.append(at)
    return found


def _end(data: bytes, name: str, at: int) -> int:
    """Where a binary image's samples end."""
    magic = data[at : at + 2]
    fields, start = _header(data, name, at)
    width, height = _size(fields[0], name), _size(fields[1], name)
    if magic == b"P4":
        return start + height * ((width + 7) // 8)
    wide = 4 if magic in (b"PF", b"Pf") else 1 if _size(fields[2], name) < 256 else 2
    return start + height * width * _channels(magic) * wide


def decode(
    data: bytes, name: str, check: Callable[[int, int], None], at: int = 0
) -> Image | None:  # fmt: skip
    """Decode the image at an offset; None for a bitmap in plain text (P1), left to Pillow.

    check: called with the declared (height, width) before anything is allocated.
    Raises ImageError for what is broken or truncated.
    """
    magic = data[at : at + 2]
    if magic == b"P1":
        return None
    channels = _channels(magic)
    fields, start = _header(data, name, at)
    width, height = _size(fields[0], name), _size(fields[1], name)
    check(height, width)
    shape = (height, width, channels)
    if magic == b"P4":
        return Image(_bits(data, start, height, width, name), name=name, format="PBM")
    if magic in (b"PF", b"Pf"):
        pixels = _floats(data, start, shape, fields[2], name)
    else:
        maximum = _size(fields[2], name)
        if maximum > 65535:
            raise ImageError(f"{name}: maximum sample of {maximum}, expected 1 to 65535")
        if magic in (b"P2", b"P3"):
            pixels = _plain(data, start, shape, maximum, name)
        else:
            pixels = _binary(data, start, shape, maximum, name)
    return Image(pixels, name=name, format="PFM" if magic in (b"PF", b"Pf") else "PPM")


def _channels(magic: bytes) -> int:
    return 3 if magic in (b"P3", b"P6", b"PF") else 1


def _bits(data: bytes, start: int, height: int, width: int, name: str) -> Array:
    rows = _take(data, start, (height, (width + 7) // 8, 1), np.dtype(np.uint8), name)
    ink = np.unpackbits(rows[..., 0], axis=1, count=width)
    return ((1 - ink) * np.uint8(255))[..., None]


def _header(data: bytes, name: str, at: int) -> tuple[list[bytes], int]:
    """Return width, height and maximum (or scale) as written, and where samples begin."""
    fields = []
    position = at + 2
    for _ in range(2 if data[at : at + 2] == b"P4" else 3):
        match = _TOKEN.match(data, position, min(len(data), position + _HEADER_LIMIT))
        if match is None:
            raise ImageError(f"{name}: truncated or broken PNM header")
        fields.append(match.group(1))
        position = match.end()
    if data[position : position + 2] == b"\r\n" and data[at : at + 2] in (b"PF", b"Pf"):
        position += 1
    return fields, position + 1


def _size(text: bytes, name: str) -> int:
    if not text.isdigit() or len(text) > 10 or int(text) == 0:
        shown = text[:20].decode("ascii", "replace")
        raise ImageError(f"{name}: PNM header has {shown!r}, expected a positive integer")
    return int(text)


def _take(data: bytes, start: int, shape: tuple[int, int, int], dtype: Dtype, name: str) -> Array:
    count = shape[0] * shape[1] * shape[2]
    present = max(0, len(data) - start)
    if count * dtype.itemsize > present:
        raise ImageError(
            f"{name}: truncated: {count * dtype.itemsize} bytes of samples declared, "
            f"{present} present"
        )
    return np.frombuffer(data, dtype, count, start).reshape(shape)


def _binary(data: bytes, start: int, shape: tuple[int, int, int], maximum: int, name: str) -> Array:
    stored = np.dtype(np.uint8 if maximum < 256 else ">u2")
    samples = _take(data, start, shape, stored, name)
    if maximum == 255:
        return samples
    return _scaled(samples, maximum, name)


def _plain(data: bytes, start: int, shape: tuple[int, int, int], maximum: int, name: str) -> Array:
    count = shape[0] * shape[1] * shape[2]
    text = re.sub(rb"#[^\n\r]*", b"", data[start:])
    if count * 2 - 1 > len(text):
        raise ImageError(f"{name}: truncated: {count} samples declared in {len(text)} bytes")
    words = text.split(None, count)[:count]
    if len(words) < count:
        raise ImageError(f"{name}: truncated: {count} samples declared, {len(words)} present")
    wrong = next((word for word in words if not word.isdigit() or len(word) > 5), None)
    if wrong is not None:
        shown = wrong[:20].decode("ascii", "replace")
        raise ImageError(f"{name}: {shown!r}, expected an integer from 0 to {maximum}")
    return _scaled(np.array(words, np.uint32).reshape(shape), maximum, name)


def _scaled(samples: Array, maximum: int, name: str) -> Array:
    full, dtype = (255, np.uint8) if maximum < 256 else (65535, np.uint16)
    if int(samples.max()) > maximum:
        raise ImageError(f"{name}: a sample of {int(samples.max())} above the maximum {maximum}")
    if maximum == full:
        return samples.astype(dtype)
    wide = samples.astype(np.uint32)
    return ((wide * full + maximum // 2) // maximum).astype(dtype)


def _floats(data: bytes, start: int, shape: tuple[int, int, int], scale: bytes, name: str) -> Array:
    try:
        little = float(scale) < 0
    except ValueError:
        shown = scale[:20].decode("ascii", "replace")
        raise ImageError(f"{name}: PFM scale of {shown!r}, expected a number") from None
    samples = _take(data, start, shape, np.dtype("<f4" if little else ">f4"), name)
    return np.ascontiguousarray(samples[::-1], dtype=np.float32)


def encode(samples: Array, made: str) -> list[Piece]:
    """Return the pieces of a file. samples: (H, W, 1 or 3).

    made: `pgm` (1 channel), `ppm` (gray is repeated into 3 channels), `pnm` (whichever fits) for
    uint8 and uint16, `pfm` for float32. Raises OutputError for what does not fit.
    """
    height, width, channels = samples.shape
    if channels not in (1, 3) or (made == "pgm" and channels != 1):
        raise _unfit(made, channels)
    if made == "pfm":
        kind = "PF" if channels == 3 else "Pf"
        rows = np.ascontiguousarray(samples[::-1], dtype="<f4")
        return [f"{kind}\n{width} {height}\n-1.0\n".encode(), rows.data.cast("B")]
    return [_head(made, height, width, channels, samples.dtype), _stored(made, samples)]


def encode_rows(source: RowSource, made: str) -> Iterator[Piece]:
    """As `encode`, of rows that come in order, for `pgm`, `ppm` and `pnm`."""
    if source.channels not in (1, 3) or (made == "pgm" and source.channels != 1):
        raise _unfit(made, source.channels)
    return _pieces(source, made)


def _pieces(source: RowSource, made: str) -> Iterator[Piece]:
    yield _head(made, source.height, source.width, source.channels, source.dtype)
    rows = band_rows(source)
    for start in range(0, source.height, rows):
        count = min(rows, source.height - start)
        band = np.empty((count, source.width, source.channels), source.dtype)
        read_rows(source, band)
        yield _stored(made, band)


def _unfit(made: str, channels: int) -> OutputError:
    expected = "1 channel" if made == "pgm" else "1 or 3 channels"
    return OutputError(f"{made} holds {expected}, got {channels}")


def _head(made: str, height: int, width: int, channels: int, dtype: Dtype) -> bytes:
    kind = "P6" if channels == 3 or made == "ppm" else "P5"
    return f"{kind}\n{width} {height}\n{np.iinfo(dtype).max}\n".encode()


def _stored(made: str, samples: Array) -> memoryview:
    if made == "ppm" and samples.shape[2] == 1:
        samples = np.repeat(samples, 3, axis=2)
    stored = np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder(">"))
    return stored.view(np.uint8).data.cast("B")
