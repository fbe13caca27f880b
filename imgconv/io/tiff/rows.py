"""TIFF as rows that come in order: strips or tiles are decoded as they are reached.

The values are those of `tiff_reader`, of which this is another walk. In memory are the chunks of
one band: a row of tiles, or a few strips. Strips that are not compressed are read in part, so one
strip may hold the image.
"""

import math
import os
from collections.abc import Callable

import numpy as np

from imgconv.io.metadata import Metadata
from imgconv.io.tiff.pages import TiffPages, reported
from imgconv.io.tiff.reader import TiffFrame
from imgconv.jit import parallel
from imgconv.ops.rows import ArrayRows
from imgconv.typing import Array

_BAND = 1 << 24  # bytes of samples a band: strips for every thread, little beside the filter's
_MOST = 1 << 28  # of a band: a compressed strip beyond this is read whole or not at all


class TiffRows:
    """Rows of one frame; metadata: what the file says of it.

    Raises ImageError for damage when it is reached.
    """

    def __init__(
        self, path: str, frame: TiffFrame, max_pixels: int, metadata: Metadata | None = None
    ) -> None:
        self.metadata = metadata
        self._frame, self.name, self._max_pixels = frame, path, max_pixels
        self.height, self.width = frame.height, frame.width
        probe = frame.meant(np.zeros((1, 1, frame.samples), frame.stored))
        self.channels = probe.pixels.shape[2]
        self.dtype, self.alpha, self.icc = probe.pixels.dtype, probe.alpha, probe.icc
        self.nodata = ""
        self.stored, self.cmyk = probe.stored, probe.cmyk
        self._step = _rows_at_once(frame)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._band = self._none = ArrayRows(np.empty((0, self.width, self.channels), self.dtype))
        self._next = 0

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = len(out) if count is None else count
        given = self._band.rows_into(out, count)
        if given or self._next == self.height:
            return given
        # The last band is let go first: a row of a large scan's tiles takes 50 MB.
        self._band = self._none
        self._band = ArrayRows(self._decoded())
        return self._band.rows_into(out, count)

    def start_at(self, row: int) -> None:
        """Begin at a row; chunks that end above it are not decoded."""
        self._next = row // self._frame.rows * self._frame.rows
        above = row - self._next
        if above and row < self.height:
            self._band = ArrayRows(self._decoded()[above:])

    def _decoded(self) -> Array:
        """Decode the next band."""
        frame, top = self._frame, self._next
        self._next = min(top + self._step, self.height)
        pixels = np.empty((self._next - top, self.width, frame.samples), frame.stored)
        first, last = top // frame.rows, math.ceil(self._next / frame.rows)
        area = frame.across * frame.down
        wanted = [
            plane + row * frame.across + column
            for plane in range(0, len(frame.chunks), area)
            for row in range(first, last)
            for column in range(frame.across)
        ]

        def work(start: int, stop: int) -> None:
            for index in wanted[start:stop]:
                chunk = frame.chunks[index]
                raw = os.pread(self._file, chunk[1], chunk[0]) if chunk else None
                frame.place(pixels, index, raw, top)

        with reported(self.name, self._max_pixels):
            parallel.over_bands(len(wanted), 1, work)
            return frame.meant(pixels).pixels

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def open_tiff(
    path: str,
    name: str,
    check: Callable[[int, int], None],
    max_pixels: int,
    level: int = 0,
    cmyk: bool = False,
) -> tuple[TiffRows, int] | None:
    """The rows of a level of a file's first frame and how many frames it has.

    check: called with (height, width), raises beyond a limit. Returns None for what has to be
    decoded whole. Raises ImageError for a broken file.
    """
    with open(path, "rb") as file, reported(name, max_pixels):
        size = os.fstat(file.fileno()).st_size
        pages = TiffPages(file, size, name)
        if not len(pages) or pages.broken:
            return None
        page, depth = pages.frame(0, level)
        check(int(page.imagelength), int(page.imagewidth))
        frame = TiffFrame(page, depth, size, name, cmyk)
        frame.check_work(file, max_pixels)
        if frame.turned or frame.for_pillow:
            return None
        frame.check_amount(max_pixels)
        frame.prepare()
        _split(frame)
        row = frame.width * frame.samples * frame.stored.itemsize
        if _rows_at_once(frame) * row > _MOST:
            return None
        from imgconv.io.metadata.tiff import TiffMetadata

        told = TiffMetadata(pages, name).of(0, level)
        rows = TiffRows(path, frame, max_pixels, told)
        rows.nodata = pages.nodata(0, level)
        return rows, len(pages)


def _split(frame: TiffFrame) -> None:
    """Take strips that are not compressed for strips of a few rows each."""
    row = -(-frame.width * sum(frame.bits[: frame.per_pixel]) // 8)
    rows = max(1, _BAND // 8 // row)
    if frame.compression != 1 or frame.tiled or frame.rows <= rows:
        return
    if frame.down > 1 and frame.rows % rows:
        return
    found: list[tuple[int, int] | None] = []
    for index, chunk in enumerate(frame.chunks):
        stored = min(frame.rows, frame.height - index % frame.down * frame.rows)
        for start in range(0, stored, rows):
            part = chunk and (chunk[0] + start * row, min(rows, stored - start) * row)
            found.append(part)
    frame.chunks = found
    frame.rows, frame.down = rows, math.ceil(frame.height / rows)


def _rows_at_once(frame: TiffFrame) -> int:
    """Rows of a band: whole chunks, of about _BAND bytes."""
    row = frame.width * frame.samples * frame.stored.itemsize
    return frame.rows * max(1, _BAND // max(1, row * frame.rows))
