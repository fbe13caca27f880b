"""TIFF writing: any number of channels of any type, which Pillow writes only in part.

Chunky strips, deflated in parallel; integers are differenced along rows first
(predictor 2, TIFF 6.0 section 14), which makes a 16-bit photo a third smaller. Files of 4 GB and
more are BigTIFF.
"""

import struct
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from imgconv.errors import OutputError
from imgconv.io.publish import Patch, Piece
from imgconv.io.pyramid import Cascade, level_sizes
from imgconv.jit import parallel
from imgconv.ops.rows import ArrayRows, RowSource, read_rows
from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    from imgconv.io.metadata import Metadata

_NEW_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_DESCRIPTION, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS = 270, 273, 277, 278, 279
_PLANAR, _PREDICTOR, _SUB_IFDS, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC = (
    284,
    317,
    330,
    338,
    339,
    34675,
)
_REDUCED = 1  # bit of _NEW_SUBFILE: a smaller version of another image
_STRIP = 1 << 20  # bytes of samples a strip: enough of them for every thread from 4 MB on
_LEVEL = 6
_ASCII, _SHORT, _LONG, _UNDEFINED, _LONG8 = 2, 3, 4, 7, 16
_CODES = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
          17: 8, 18: 8}  # fmt: skip
Entries = dict[
    int, tuple[int, bytes | list[int]]
]  # tag → (type, numbers, or bytes in little-endian order)
_UNSPECIFIED, _UNASSOCIATED = 0, 2
_CLASSIC_END = 1 << 32


class TiffOptions(TypedDict, total=False):
    """The options of `encode`."""

    alpha: bool
    note: str
    icc: bytes | None
    metadata: "Metadata | None"
    ome: bool
    cmyk: bool


class PageOptions(TiffOptions, total=False):
    """The options of `encode_rows`."""

    pyramid: bool


def encode(
    samples: Array, *, alpha: bool = False, note: str = "", icc: bytes | None = None,
    metadata: "Metadata | None" = None, ome: bool = False, cmyk: bool = False,
) -> list[Piece]:  # fmt: skip
    """Return the pieces of a file.

    samples: (H, W, C) integers or floats of 8 to 64 bits, none of them empty. alpha: the last
    channel is opacity, not premultiplied. note: our record, ASCII. metadata: the input's. ome:
    whether the file is described as OME-TIFF. cmyk: the first four channels are inks. Three
    channels, or four with opacity, are RGB; any other count is gray with extra samples.
    """
    height, width, channels = samples.shape
    rows = max(1, min(height, _STRIP // max(1, width * channels * samples.itemsize)))
    strips = _deflated(samples, rows)
    entries = _entries(samples.shape, samples.dtype, rows, alpha, icc, cmyk)
    entries[_STRIP_COUNTS] = (_LONG, [len(strip) for strip in strips])

    def head(start: int, big: bool) -> tuple[bytes, Entries]:
        return _head(metadata, note, ome, samples.shape, samples.dtype, start, big)

    return _assembled(entries, strips, head)


def encode_rows(
    source: RowSource, *, alpha: bool = False, note: str = "", icc: bytes | None = None,
    metadata: "Metadata | None" = None, ome: bool = False, cmyk: bool = False,
    pyramid: bool = False,
) -> Iterator[Piece]:  # fmt: skip
    """Yield the pieces of a file of rows that come in order; the samples are those of `encode`.

    pyramid: with smaller levels as its SubIFDs. The directories stand at the end, and the last
    piece is a `Patch` that makes the header point to the first."""
    big = _is_big(source, 1, pyramid)
    yield _header(big, 0)
    page = yield from _page(
        source, 16 if big else 8, big, alpha=alpha, note=note, icc=icc, metadata=metadata, ome=ome,
        cmyk=cmyk, pyramid=pyramid,
    )  # fmt: skip
    yield Patch(0, _header(big, page.place))


def encode_pages(pages: Iterable[tuple[Array, PageOptions]], count: int) -> Iterator[Piece]:
    """Yield the pieces of a file of `count` pages: samples and the options of `encode_rows`.

    The first page's record, and its description by ImageJ or OME, are of them all. Memory: one
    page and what makes the next. Raises OutputError where pages grow beyond what the first
    promised, and the file beyond 4 GB.
    """
    position, link, big = 0, 0, False
    for samples, options in pages:
        rows = ArrayRows(samples)
        if not link:
            big = _is_big(rows, count, options.get("pyramid", False))
            yield _header(big, 0)
            position = 16 if big else 8
        else:
            own = options.get("metadata")
            own = own and replace(own, calibration=None)
            options = {**options, "note": "", "ome": False, "metadata": own}
        page = yield from _page(rows, position, big, pages=count, **options)
        if page.end >= _CLASSIC_END and not big:
            raise OutputError("tiff: pages grow beyond 4 GB; expected pages of about one size")
        yield Patch(link, _word(big, page.place)) if link else Patch(0, _header(big, page.place))
        position, link = page.end, page.link


class _Page(NamedTuple):
    """Where a page's directory stands, the word in it that leads to the next, and its end."""

    place: int
    link: int
    end: int


def _is_big(source: RowSource, count: int, pyramid: bool) -> bool:
    """Whether a file of so many pages like this may need BigTIFF."""
    row = source.width * source.channels * source.dtype.itemsize
    most = count * source.height * (row + row // 1000 + 16) * (3 if pyramid else 2) // 2
    return most + (1 << 20) >= _CLASSIC_END


def _page(
    source: RowSource, position: int, big: bool, *, alpha: bool = False, note: str = "",
    icc: bytes | None = None, metadata: "Metadata | None" = None, ome: bool = False,
    cmyk: bool = False, pyramid: bool = False, pages: int = 1,
) -> Generator[Piece, None, _Page]:  # fmt: skip
    """Yield what of a page stands from a position on: metadata, strips, directories."""
    height, width, channels = source.height, source.width, source.channels
    sizes = level_sizes(height, width, pyramid)
    units = [
        max(1, min(h, _STRIP // max(1, w * channels * source.dtype.itemsize))) for h, w in sizes
    ]
    shape = height, width, channels
    prefix, told = _head(metadata, note, ome, shape, source.dtype, position, big, pages)
    yield prefix
    position += len(prefix)
    offsets: list[list[int]] = [[] for _ in sizes]
    counts: list[list[int]] = [[] for _ in sizes]
    cascade = Cascade(sizes, units)
    band = np.empty((units[0] * 4 * parallel.num_threads(), width, channels), source.dtype)
    for top in range(0, height, len(band)):
        part = band[: min(len(band), height - top)]
        read_rows(source, part)
        for level, ready in cascade.add(part):
            for strip in _deflated(ready, units[level]):
                offsets[level].append(position)
                counts[level].append(len(strip))
                position += len(strip)
                yield strip
    yield b"\0" * (position % 2)
    position += position % 2
    places: list[int] = []
    link = 0
    for level in (*range(1, len(sizes)), 0):
        shape = *sizes[level], channels
        profile = None if level else icc
        entries = _entries(shape, source.dtype, units[level], alpha, profile, cmyk)
        entries |= {} if level else told
        entries[_STRIP_COUNTS] = (_LONG, counts[level])
        entries[_STRIP_OFFSETS] = (_LONG8 if big else _LONG, offsets[level])
        if level:
            entries[_NEW_SUBFILE] = (_LONG, [_REDUCED])
        elif places:
            entries[_SUB_IFDS] = (_LONG8 if big else _LONG, places)
        directory = _directory(entries, big, position)
        yield directory
        places.append(position)
        link = position + (8 + 20 * len(entries) if big else 2 + 12 * len(entries))
        position += len(directory)
    return _Page(places[-1], link, position)


def _entries(
    shape: tuple[int, ...], dtype: Dtype, rows: int, alpha: bool, icc: bytes | None,
    cmyk: bool,
) -> Entries:  # fmt: skip
    """Tags but those of the strips' places: number → (type, values)."""
    height, width, channels = shape
    colors = 4 if cmyk else 3 if channels == 3 + alpha else 1
    extras = channels - colors
    entries: Entries = {
        _WIDTH: (_LONG, [width]),
        _HEIGHT: (_LONG, [height]),
        _BITS: (_SHORT, [8 * dtype.itemsize] * channels),
        _COMPRESSION: (_SHORT, [8]),
        _PHOTOMETRIC: (_SHORT, [{1: 1, 3: 2, 4: 5}[colors]]),
        _SAMPLES: (_SHORT, [channels]),
        _ROWS_PER_STRIP: (_LONG, [rows]),
        _PLANAR: (_SHORT, [1]),
        _PREDICTOR: (_SHORT, [2 if _differenced(dtype) else 1]),
        _SAMPLE_FORMAT: (_SHORT, [{"u": 1, "i": 2, "f": 3}[dtype.kind]] * channels),
    }
    if extras:
        kinds = [_UNSPECIFIED] * extras
        if alpha:
            kinds[-1] = _UNASSOCIATED
        entries[_EXTRA_SAMPLES] = (_SHORT, kinds)
    if icc:
        entries[_ICC] = (_UNDEFINED, icc)
    return entries


def _differenced(dtype: Dtype) -> bool:
    """Whether rows are stored as differences, which readers undo in up to 32 bits."""
    return dtype.kind != "f" and dtype.itemsize <= 4


def _deflated(samples: Array, rows: int) -> list[bytes]:
    tops = range(0, len(samples), rows)
    strips = [b""] * len(tops)

    def work(first: int, last: int) -> None:
        for index in range(first, last):
            strip = samples[tops[index] : tops[index] + rows]
            if _differenced(strip.dtype):
                strip = np.concatenate([strip[:, :1], np.diff(strip, axis=1)], axis=1)
            stored = np.ascontiguousarray(strip, strip.dtype.newbyteorder("<"))
            strips[index] = zlib.compress(stored.view(np.uint8).data, _LEVEL)

    parallel.over_bands(len(strips), 1, work)
    return strips


def _head(
    metadata: "Metadata | None", record: str, ome: bool, shape: tuple[int, ...],
    dtype: Dtype, start: int, big: bool, pages: int = 1,
) -> tuple[bytes, Entries]:  # fmt: skip
    """What stands behind the header, and the tags that describe the image."""
    if metadata is None and not ome:
        return b"", {_DESCRIPTION: (_ASCII, record.encode("ascii") + b"\0")} if record else {}
    from imgconv.io.metadata.tiff import head_of

    def directory(values: Entries, at: int, placed: dict[int, int]) -> bytes:
        return _directory(values, big, at, placed)

    height, width, channels = shape
    prefix, told = head_of(
        metadata, record, ome, (height, width, channels), dtype, start, directory, pages
    )
    return prefix, dict(told)


def _assembled(
    entries: Entries, strips: list[bytes], make_head: Callable[[int, bool], tuple[bytes, Entries]]
) -> list[Piece]:
    """Header, metadata, directory, the values that do not fit into it, then the strips."""
    beside = sum(len(values) * 8 for _, values in entries.values())
    data = sum(map(len, strips)) + 8 * len(strips)
    beside += sum(len(values) for _, values in make_head(8, False)[1].values())
    big = (1 << 20) + beside + data >= _CLASSIC_END
    start = 16 if big else 8
    prefix, told = make_head(start, big)
    entries |= told
    head = _header(big, start + len(prefix)) + prefix
    entries[_STRIP_OFFSETS] = (_LONG8 if big else _LONG, [0] * len(strips))
    position = len(head) + len(_directory(entries, big, len(head)))
    offsets = []
    for strip in strips:
        offsets.append(position)
        position += len(strip)
    entries[_STRIP_OFFSETS] = (entries[_STRIP_OFFSETS][0], offsets)
    return [head + _directory(entries, big, len(head)), *strips]


def _header(big: bool, directory: int) -> bytes:
    if big:
        return struct.pack("<2sHHH", b"II", 43, 8, 0) + _word(big, directory)
    return b"II*\0" + _word(big, directory)


def _word(big: bool, place: int) -> bytes:
    """A place in the file as the format has it; beyond 4 GB it has no number in a small file."""
    return struct.pack("<Q", place) if big else struct.pack("<I", place % _CLASSIC_END)


def _directory(
    entries: Entries, big: bool, start: int, placed: Mapping[int, int] | None = None
) -> bytes:
    """The directory that stands at `start`, and after it the values that do not fit into it.

    placed: where the values of tags stand already.
    """
    word, inline = ("Q", 8) if big else ("I", 4)
    count_width = 8 if big else 2
    position = start + count_width + len(entries) * (20 if big else 12) + inline
    table = struct.pack("<Q" if big else "<H", len(entries))
    tail = b""
    for tag in sorted(entries):
        kind, values = entries[tag]
        if isinstance(values, bytes):
            stored, count = values, len(values) // _SIZES[kind]
        else:
            stored, count = struct.pack(f"<{len(values)}{_CODES[kind]}", *values), len(values)
        table += struct.pack(f"<HH{word}", tag, kind, count)
        if placed and tag in placed and len(stored) > inline:
            table += struct.pack(f"<{word}", placed[tag])
        elif len(stored) > inline:
            table += struct.pack(f"<{word}", position + len(tail))
            tail += stored + b"\0" * (len(stored) % 2)
        else:
            table += stored.ljust(inline, b"\0")
    return table + b"\0" * inline + tail
