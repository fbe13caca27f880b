"""TIFF writing: any number of 8- or 16-bit or float32 channels, which Pillow writes only in part.

One frame, chunky strips, deflated in parallel; integers are differenced along rows first
(predictor 2, TIFF 6.0 section 14), which makes a 16-bit photo a third smaller. Files of 4 GB and
more are BigTIFF.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from imgconv.compute import bands
from imgconv.compute.rows import RowSource, read_rows
from imgconv.images.publish import Patch
from imgconv.images.pyramid import Cascade, level_sizes

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
_CODES = {_ASCII: "B", _SHORT: "H", _LONG: "I", _UNDEFINED: "B", _LONG8: "Q"}
_UNSPECIFIED, _UNASSOCIATED = 0, 2
_CLASSIC_END = 1 << 32


def encode(
    samples: npt.NDArray[Any], *, alpha: bool = False, note: str = "", icc: bytes | None = None
) -> list[Any]:
    """Return the pieces of a file.

    samples: (H, W, C) uint8, uint16 or float32, none of them empty. alpha: the last channel is
    opacity, not premultiplied. note: ASCII text for ImageDescription. Three channels, or four
    with opacity, are RGB; any other count is gray with extra samples.
    """
    height, width, channels = samples.shape
    rows = max(1, min(height, _STRIP // max(1, width * channels * samples.itemsize)))
    strips = _deflated(samples, rows)
    entries = _entries(samples.shape, samples.dtype, rows, alpha, note, icc)
    entries[_STRIP_COUNTS] = (_LONG, [len(strip) for strip in strips])
    return _assembled(entries, strips)


def encode_rows(
    source: RowSource, *, alpha: bool = False, note: str = "", icc: bytes | None = None,
    pyramid: bool = False,
) -> Iterator[Any]:  # fmt: skip
    """Yield the pieces of a file of rows that come in order; the samples are those of `encode`.

    pyramid: with smaller levels as its SubIFDs. The directories stand at the end, and the last
    piece is a `Patch` that makes the header point to the first."""
    height, width, channels = source.height, source.width, source.channels
    sizes = level_sizes(height, width, pyramid)
    row = width * channels * source.dtype.itemsize
    units = [
        max(1, min(h, _STRIP // max(1, w * channels * source.dtype.itemsize))) for h, w in sizes
    ]
    most = height * (row + row // 1000 + 16) * (3 if pyramid else 2) // 2
    big = most + (1 << 20) >= _CLASSIC_END
    yield _header(big, 0)
    offsets: list[list[int]] = [[] for _ in sizes]
    counts: list[list[int]] = [[] for _ in sizes]
    position = 16 if big else 8
    cascade = Cascade(sizes, units)
    band = np.empty((units[0] * 4 * bands.num_threads(), width, channels), source.dtype)
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
    for level in (*range(1, len(sizes)), 0):
        shape = *sizes[level], channels
        entries = _entries(
            shape, source.dtype, units[level], alpha, "" if level else note, None if level else icc
        )
        entries[_STRIP_COUNTS] = (_LONG, counts[level])
        entries[_STRIP_OFFSETS] = (_LONG8 if big else _LONG, offsets[level])
        if level:
            entries[_NEW_SUBFILE] = (_LONG, [_REDUCED])
        elif places:
            entries[_SUB_IFDS] = (_LONG8 if big else _LONG, places)
        directory = _directory(entries, big, position)
        yield directory
        places.append(position)
        position += len(directory)
    yield Patch(0, _header(big, places[-1]))


def ome_note(shape: tuple[int, ...], dtype: np.dtype[Any], note: str) -> str:
    """The ImageDescription that makes a file of one frame an OME-TIFF, `note` in a comment.

    Source: the OME schema of 2016-06 and "OME-TIFF specification" of the Open Microscopy
    Environment.
    """
    height, width, channels = shape
    kind = "float" if dtype.kind == "f" else dtype.name
    comment = (
        '<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace="imgconv"><Value>'
        f"{escape(note)}</Value></CommentAnnotation></StructuredAnnotations>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="{kind}" SizeX="{width}" '
        f'SizeY="{height}" SizeC="{channels}" SizeZ="1" SizeT="1" BigEndian="false" '
        f'Interleaved="true"><Channel ID="Channel:0:0" SamplesPerPixel="{channels}"/>'
        f'<TiffData IFD="0" PlaneCount="1"/></Pixels></Image>{comment if note else ""}</OME>'
    )


def _entries(
    shape: tuple[int, ...], dtype: np.dtype[Any], rows: int, alpha: bool, note: str,
    icc: bytes | None,
) -> dict[int, tuple[int, Any]]:  # fmt: skip
    """Tags but those of the strips' places: number → (type, values)."""
    height, width, channels = shape
    colours = 3 if channels == 3 + alpha else 1
    extras = channels - colours
    floating = dtype.kind == "f"
    entries: dict[int, tuple[int, Any]] = {
        _WIDTH: (_LONG, [width]),
        _HEIGHT: (_LONG, [height]),
        _BITS: (_SHORT, [8 * dtype.itemsize] * channels),
        _COMPRESSION: (_SHORT, [8]),
        _PHOTOMETRIC: (_SHORT, [2 if colours == 3 else 1]),
        _SAMPLES: (_SHORT, [channels]),
        _ROWS_PER_STRIP: (_LONG, [rows]),
        _PLANAR: (_SHORT, [1]),
        _PREDICTOR: (_SHORT, [1 if floating else 2]),
        _SAMPLE_FORMAT: (_SHORT, [3 if floating else 1] * channels),
    }
    if extras:
        kinds = [_UNSPECIFIED] * extras
        if alpha:
            kinds[-1] = _UNASSOCIATED
        entries[_EXTRA_SAMPLES] = (_SHORT, kinds)
    if note:
        entries[_DESCRIPTION] = (_ASCII, note.encode("ascii") + b"\0")
    if icc:
        entries[_ICC] = (_UNDEFINED, icc)
    return entries


def _deflated(samples: npt.NDArray[Any], rows: int) -> list[bytes]:
    tops = range(0, len(samples), rows)
    strips = [b""] * len(tops)

    def work(first: int, last: int) -> None:
        for index in range(first, last):
            strip = samples[tops[index] : tops[index] + rows]
            if strip.dtype.kind != "f":
                strip = np.concatenate([strip[:, :1], np.diff(strip, axis=1)], axis=1)
            stored = np.ascontiguousarray(strip, strip.dtype.newbyteorder("<"))
            strips[index] = zlib.compress(stored.view(np.uint8).data, _LEVEL)

    bands.over_bands(len(strips), 1, work)
    return strips


def _assembled(entries: dict[int, tuple[int, Any]], strips: list[bytes]) -> list[Any]:
    """Header, directory, the values that do not fit into it, then the strips."""
    beside = sum(len(values) * 8 for _, values in entries.values())
    data = sum(map(len, strips)) + 8 * len(strips)
    big = 1024 + beside + data >= _CLASSIC_END
    head = _header(big, 16 if big else 8)
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
        return struct.pack("<2sHHHQ", b"II", 43, 8, 0, directory)
    return b"II*\0" + struct.pack("<I", directory)


def _directory(entries: dict[int, tuple[int, Any]], big: bool, start: int) -> bytes:
    """The directory that stands at `start`, and after it the values that do not fit into it."""
    word, inline = ("Q", 8) if big else ("I", 4)
    count_width = 8 if big else 2
    position = start + count_width + len(entries) * (20 if big else 12) + inline
    table = struct.pack("<Q" if big else "<H", len(entries))
    tail = b""
    for tag in sorted(entries):
        kind, values = entries[tag]
        stored = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
        table += struct.pack(f"<HH{word}", tag, kind, len(values))
        if len(stored) > inline:
            table += struct.pack(f"<{word}", position + len(tail))
            tail += stored + b"\0" * (len(stored) % 2)
        else:
            table += stored.ljust(inline, b"\0")
    return table + b"\0" * inline + tail
