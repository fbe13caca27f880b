"""PNG writing: rows filtered and deflated in strips by several threads.

Each strip of rows is a deflate stream of its own that ends on a byte boundary (full flush), so
strips are compressed side by side and joined; their Adler-32 sums are combined. Where a strip
begins depends on the image alone, so the file does not depend on the number of threads.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from imgconv.errors import OutputError
from imgconv.io.codecs.deflate import codec
from imgconv.io.png.chunks import SIGNATURE, pack
from imgconv.io.png.crew import Crew
from imgconv.jit import parallel
from imgconv.ops.microkernels import png_rows
from imgconv.ops.rows import ArrayRows, RowSource, read_rows
from imgconv.typing import Array, Bytes

_COLOR = {1: 0, 2: 4, 3: 2, 4: 6}
_ADLER = 65521
_CHUNK = 1 << 30  # a chunk's length is below 2³¹
_IDAT = zlib.crc32(b"IDAT")
_LONG = 1024  # text beyond this many bytes is deflated
# isal 1.9.1 files a stream's third byte under a hash of the stream's address, so that one strip in
# 4,500 found a match fewer than it did in another process. A first block that is no longer than
# what its vector loop leaves to the scalar one avoids that, for 10 bytes a strip.
_FIRST_BLOCK = 16

Pixels = Array


class _Recipe(NamedTuple):
    """One way to deflate a strip. level 0 stores; fast: by isal where there is one."""

    level: int
    strategy: int
    fast: bool
    filtered: bool

    def deflate(self, scanlines: Bytes, last: bool) -> bytes:
        pieces: list[bytes] = []
        if self.fast:
            stream = codec.compressobj(self.level, zlib.DEFLATED, -15)
            pieces.append(stream.compress(scanlines[:_FIRST_BLOCK]))
            pieces.append(stream.flush(zlib.Z_SYNC_FLUSH))
            scanlines = scanlines[_FIRST_BLOCK:]
        else:
            stream = zlib.compressobj(self.level, zlib.DEFLATED, -15, 9, self.strategy)
        pieces.append(stream.compress(scanlines))
        pieces.append(stream.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH))
        return b"".join(pieces)


def _recipes(compress: int | str) -> tuple[_Recipe, ...]:
    """What to try for a strip; the smallest result is kept.

    Z_FILTERED suits differences of rows. Noisy photos deflate better with Huffman codes alone
    (a run of three equal bytes by chance costs more as a match): 8% on a 12-megapixel photo.
    Drawings often deflate best unfiltered.
    """
    if compress == "fast":
        compress = 1
    if compress == "small":
        return (
            _Recipe(9, zlib.Z_FILTERED, False, True),
            _Recipe(9, zlib.Z_RLE, False, True),
            _Recipe(9, zlib.Z_DEFAULT_STRATEGY, False, False),
        )
    if not isinstance(compress, int) or not 0 <= compress <= 9:
        raise OutputError(f"compress={compress!r}: expected 0 to 9, fast or small")
    if compress == 0:
        return (_Recipe(0, zlib.Z_DEFAULT_STRATEGY, False, False),)
    if compress <= 3:
        return (_Recipe(compress, zlib.Z_DEFAULT_STRATEGY, True, True),)
    return (_Recipe(compress, zlib.Z_FILTERED, False, True),)


class _Strip(NamedTuple):
    """A deflated strip: its bytes, and the rows, number and Adler-32 of what it inflates to."""

    content: bytes
    rows: int
    length: int
    adler: int


def _deflate(
    rows: Pixels, above: Pixels | None, step: int, recipes: tuple[_Recipe, ...], last: bool
) -> _Strip:
    """Filter and deflate rows (n, samples); above: the row before them, None before the first."""
    if rows.dtype == np.uint16:
        rows = rows.astype(">u2").view(np.uint8)
        above = None if above is None else above.astype(">u2").view(np.uint8)
    count, width = rows.shape
    if above is None:
        above = np.zeros(width, np.uint8)
    best: _Strip | None = None
    scanlines = np.empty((count, 1 + width), np.uint8)
    filtered: bool | None = None
    for recipe in recipes:
        if recipe.filtered != filtered:
            filtered = recipe.filtered
            if filtered:
                png_rows.filter_rows()(scanlines, rows, above, count, width, step)
            else:
                scanlines[:, 0] = png_rows.NONE
                scanlines[:, 1:] = rows
        flat = scanlines.reshape(-1)
        content = recipe.deflate(flat, last)
        if best is None or len(content) < len(best.content):
            best = _Strip(content, count, flat.size, codec.adler32(flat))
    assert best is not None
    return best


def _joined_adler(first: int, second: int, length: int) -> int:
    """Adler-32 of two pieces from those of each; length: of the second (RFC 1950, section 8.2)."""
    a1, b1 = first & 0xFFFF, first >> 16
    a2, b2 = second & 0xFFFF, second >> 16
    return (b1 + b2 + length * (a1 - 1)) % _ADLER << 16 | (a1 + a2 - 1) % _ADLER


class Writer:
    """Writes a PNG from bands of rows as they come.

    sink: called with pieces of the file, in order, by the thread that calls `write` and
    `finish`. channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha. dtype: uint8 or uint16.
    compress: 0 (stored) to 9; "fast" is 1; "small" tries several ways per strip and takes long.
    text: keyword → value. icc: a profile that describes the pixels. chunks: (kind, payload) of
    others to write before the pixels. threads: 0 for one per CPU.

    At most 2 × threads + 1 strips are held. Raises OutputError for what PNG cannot hold.
    """

    def __init__(
        self,
        sink: Callable[[bytes], object],
        width: int,
        height: int,
        channels: int,
        dtype: npt.DTypeLike = np.uint8,
        *,
        compress: int | str = "fast",
        text: dict[str, str] | None = None,
        icc: bytes | None = None,
        chunks: Iterable[tuple[bytes, bytes]] = (),
        threads: int = 0,
    ) -> None:
        self.dtype = np.dtype(dtype)
        if channels not in _COLOR or self.dtype not in (np.uint8, np.uint16):
            raise OutputError(
                f"PNG holds 1 to 4 channels of uint8 or uint16, got {channels} of {self.dtype}"
            )
        if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
            raise OutputError(f"PNG holds 1 to 2147483647 pixels a side, got {width}×{height}")
        self.width, self.height, self.channels = width, height, channels
        self._sink = sink
        self._recipes = _recipes(compress)
        self._step = channels * self.dtype.itemsize
        self.strip_rows = _strip_rows(1 + width * self._step, height)
        self._band = np.empty((0, 0), self.dtype)
        self._above: Pixels | None = None
        self._received = self._queued = self._written = 0  # rows
        self._adler = 1
        self._crew = Crew(threads or parallel.num_threads())
        header = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        header += bytes((8 * self.dtype.itemsize, _COLOR[channels], 0, 0, 0))
        sink(SIGNATURE + pack(b"IHDR", header) + _metadata(text or {}, icc, chunks))

    def write(self, rows: Pixels) -> None:
        """Take the next rows, (n, width, channels); the array may be reused afterwards."""
        if rows.dtype != self.dtype or rows.shape[1:] != (self.width, self.channels):
            raise TypeError(
                f"PNG writer: expected {self.dtype} of (rows, {self.width}, {self.channels}), "
                f"got {rows.dtype} of {rows.shape}"
            )
        if self._received + len(rows) > self.height:
            raise ValueError(f"PNG writer: more rows than the height of {self.height}")
        done = 0
        while done < len(rows):
            place = self._received - self._queued
            if place == 0:
                size = min(self.strip_rows, self.height - self._queued)
                self._band = np.empty((size, self.width * self.channels), self.dtype)
            count = min(len(self._band) - place, len(rows) - done)
            self._band[place : place + count] = rows[done : done + count].reshape(count, -1)
            done += count
            self._received += count
            if place + count == len(self._band):
                self.queue(self._band)

    def queue(self, strip: Pixels) -> None:
        """Start on a whole strip, (strip_rows or what is left, width × channels), uncopied."""
        above = self._above
        self._above = strip[-1]
        self._queued += len(strip)
        self._received = self._queued
        last = self._queued == self.height
        self._crew.start(lambda: _deflate(strip, above, self._step, self._recipes, last))
        while len(self._crew) > 2 * self._crew.size:
            self._emit()

    def finish(self) -> None:
        """Write what is still being deflated and the end. Raises ValueError for missing rows."""
        if self._received != self.height:
            raise ValueError(f"PNG writer: {self._received} rows of {self.height} were written")
        while len(self._crew):
            self._emit()
        self._sink(pack(b"IEND", b""))
        self.close()

    def close(self) -> None:
        """End the threads; a file that is not finished stays incomplete."""
        self._crew.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _emit(self) -> None:
        """Write the oldest strip as image data."""
        strip: _Strip = self._crew.next()
        content = strip.content
        if self._written == 0:
            content = b"\x78\x01" + content  # deflate with a window of 32 KiB
        self._adler = _joined_adler(self._adler, strip.adler, strip.length)
        self._written += strip.rows
        if self._written == self.height:
            content += self._adler.to_bytes(4, "big")
        for start in range(0, len(content), _CHUNK):
            piece = content[start : start + _CHUNK]
            self._sink(len(piece).to_bytes(4, "big") + b"IDAT")
            self._sink(piece)
            self._sink(codec.crc32(piece, _IDAT).to_bytes(4, "big"))


class PngOptions(TypedDict, total=False):
    """What of a PNG is not its pixels; see `Writer`."""

    compress: int | str
    text: dict[str, str]
    icc: bytes | None
    chunks: Iterable[tuple[bytes, bytes]]


def encode(
    pixels: Pixels, *, alpha: bool = False, **options: Unpack[PngOptions]
) -> Iterator[bytes]:
    """Return the pieces of a PNG file; joined they are the file.

    pixels: (H, W, C) or (H, W), uint8 or uint16. The rest as for `encode_rows`.
    """
    return encode_rows(ArrayRows(pixels[..., None] if pixels.ndim == 2 else pixels), alpha=alpha,
                       **options)  # fmt: skip


def encode_rows(
    source: RowSource,
    *,
    alpha: bool = False,
    compress: int | str = "fast",
    text: dict[str, str] | None = None,
    icc: bytes | None = None,
    chunks: Iterable[tuple[bytes, bytes]] = (),
    threads: int = 0,
) -> Iterator[bytes]:
    """Return the pieces of a PNG file, each made as soon as the rows it holds have come.

    alpha: whether the last of 2 or 4 channels is opacity; PNG has no other meaning for it. The
    rest as for `Writer`. Raises OutputError at once for what PNG cannot hold.
    """
    if alpha != (source.channels in (2, 4)):
        raise OutputError(
            f"PNG holds gray or RGB with or without alpha, got {source.channels} channels "
            f"{'with' if alpha else 'without'} alpha"
        )
    pieces: list[bytes] = []
    writer = Writer(
        pieces.append, source.width, source.height, source.channels, source.dtype,
        compress=compress, text=text, icc=icc, chunks=chunks, threads=threads,
    )  # fmt: skip
    return _encoded(writer, source, pieces)


def _encoded(writer: Writer, source: RowSource, pieces: list[bytes]) -> Iterator[bytes]:
    with writer:
        for start in range(0, writer.height, writer.strip_rows):
            rows = min(writer.strip_rows, writer.height - start)
            if isinstance(source, ArrayRows):
                strip = source.pixels[start : start + rows]
            else:
                strip = np.empty((rows, writer.width, writer.channels), writer.dtype)
                read_rows(source, strip)
            writer.queue(strip.reshape(rows, -1))
            yield from pieces
            pieces.clear()
        writer.finish()
        yield from pieces


def _strip_rows(row_bytes: int, height: int) -> int:
    """Rows of a strip: equal ones of at most 512 KiB, or of an eighth of a larger image to 1 MiB.

    A strip costs 0.2 ms whatever its size, for calls and for codes of its own, and cannot refer to
    the 32 KiB before it.
    """
    target = min(1 << 20, max(512 << 10, row_bytes * height // 8))
    return -(-height // -(-row_bytes * height // target))


def _metadata(
    text: dict[str, str], icc: bytes | None, chunks: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The chunks between the header and the image data."""
    found = b""
    if icc is not None:
        found += pack(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc, 9))
    for kind, payload in chunks:
        found += pack(kind, payload)
    for keyword, value in text.items():
        wrong = not 1 <= len(keyword) <= 79 or max(keyword) > "\xff" or keyword != keyword.strip()
        if wrong or "\0" in keyword + value:
            raise OutputError(f"PNG text {keyword!r}: expected 1 to 79 Latin-1 characters, no NUL")
        key = keyword.encode("latin-1")
        try:
            plain = value.encode("latin-1")
            kind, packed_kind, start, packed_start = b"tEXt", b"zTXt", b"", b"\0"
        except UnicodeEncodeError:
            plain = value.encode()
            kind = packed_kind = b"iTXt"
            start, packed_start = b"\0\0\0\0", b"\1\0\0\0"
        if len(plain) > _LONG:
            found += pack(packed_kind, key + b"\0" + packed_start + zlib.compress(plain, 9))
        else:
            found += pack(kind, key + b"\0" + start + plain)
    return found
