"""TIFF as rows that come in order: strips or tiles are decoded as they are reached.

BigTIFF, tiles, planes, predictors and codecs are those of `tiff_reader`, of which this is another
walk; so are the values. In memory are the chunks of one band: a row of tiles, or a few strips.
Strips that are not compressed are read in part, so one strip may hold the image.
"""

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import bands
from imgconv.compute.rows import ArrayRows, RowSource
from imgconv.errors import ImageError
from imgconv.images import tiff_reader
from imgconv.images import tiff_tags as tags
from imgconv.images.tiff_tags import Directories, Directory

_BAND = 1 << 24  # bytes of samples a band: strips for every thread, little beside the filter's
_MOST = 1 << 28  # of a band: a compressed strip beyond this is read whole or not at all
_PLAIN = {(1, ()), (3, ()), (2, (2,)), (4, (2,))}  # samples and extras that Pillow reads alike


class TiffRows:
    """Rows of one frame. Raises ImageError for damage when it is reached."""

    def __init__(self, path: str, directory: Directory, layout: tiff_reader.Layout) -> None:
        self._directory, self._layout, self.name = directory, layout, path
        self.height, self.width, self.channels = layout.height, layout.width, layout.samples
        probe = self._finished(np.zeros((1, 1, layout.samples), self._stored))
        self.dtype, self.alpha, self.icc = probe.pixels.dtype, probe.alpha, probe.icc
        self._step = _rows_at_once(layout)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._band = self._none = ArrayRows(np.empty((0, self.width, self.channels), self.dtype))
        self._next = 0

    @property
    def _stored(self) -> np.dtype[Any]:
        return self._layout.stored.newbyteorder("=")

    def rows_into(self, out: npt.NDArray[Any], count: int | None = None) -> int:
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
        self._next = row // self._layout.rows * self._layout.rows
        above = row - self._next
        if above and row < self.height:
            self._band = ArrayRows(self._decoded()[above:])

    def _decoded(self) -> npt.NDArray[Any]:
        """Decode the next band."""
        layout, top = self._layout, self._next
        self._next = min(top + self._step, self.height)
        pixels = np.empty((self._next - top, self.width, self.channels), self._stored)
        first, last = top // layout.rows, math.ceil(self._next / layout.rows)
        planes = layout.samples if layout.planar else 1
        wanted = [
            plane * layout.across * layout.down + row * layout.across + column
            for plane in range(planes)
            for row in range(first, last)
            for column in range(layout.across)
        ]

        def work(start: int, stop: int) -> None:
            for index in wanted[start:stop]:
                offset, size = layout.chunks[index]
                raw = os.pread(self._file, size, offset)
                tiff_reader.place_chunk(pixels, layout, index, raw, top)

        bands.over_bands(len(wanted), 1, work)
        found: npt.NDArray[Any] = self._finished(pixels).pixels
        return found

    def _finished(self, pixels: npt.NDArray[Any]) -> Any:
        return tiff_reader.as_image(pixels, self._layout, self._directory, self.name)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def open_tiff(path: str, name: str, check: Any, level: int = 0) -> tuple[TiffRows, int] | None:
    """The rows of a level of a file's first frame and how many frames it has.

    check: called with (height, width), raises beyond a limit. Returns None for what has to be
    decoded whole. Raises ImageError for a broken file.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        directories = Directories(file, size, name)
        count = len(directories)
        if not count:
            return None
        directory, _ = directories.level(0, level)
    if directory.one(tags.ORIENTATION, 1) != 1 or directory.one(tags.FILL_ORDER, 1) != 1:
        return None
    if tiff_reader.plain_for_pillow(directory) and not _pillow_agrees(directory):
        return None
    check(*directory.size)
    tiff_reader.check_present(directory, size, name)
    try:
        layout = tiff_reader.Layout(directory, name)
    except ImageError:
        return None
    tiff_reader.check_amount(layout)
    _split(layout)
    if _rows_at_once(layout) * layout.width * layout.samples * layout.stored.itemsize > _MOST:
        return None
    return TiffRows(path, directory, layout), count


def _pillow_agrees(directory: Directory) -> bool:
    """Whether a frame of 8-bit samples is to Pillow what its samples say."""
    samples = directory.one(tags.SAMPLES, 1)
    extras = directory.tags.get(tags.EXTRA_SAMPLES, ())
    photometric = directory.one(tags.PHOTOMETRIC, 1)
    return (
        set(directory.tags.get(tags.BITS, (1,))) == {8}
        and directory.one(tags.SAMPLE_FORMAT, 1) == 1
        and photometric == (2 if samples > 2 else 1)
        and (samples, extras) in _PLAIN
    )


def _split(layout: tiff_reader.Layout) -> None:
    """Take strips that are not compressed for strips of a few rows each."""
    row = layout.width * layout.per_pixel * layout.stored.itemsize
    rows = max(1, _BAND // 8 // row)
    if layout.compression != 1 or layout.tiled or layout.rows <= rows:
        return
    planes = layout.samples if layout.planar else 1
    found = []
    for index in range(planes * layout.down):
        offset, _ = layout.chunks[index]
        _, _, _, stored = layout.place(index)
        if layout.down > 1 and layout.rows % rows:
            return
        for start in range(0, stored, rows):
            found.append((offset + start * row, min(rows, stored - start) * row))
    layout.chunks = found
    layout.rows, layout.down = rows, math.ceil(layout.height / rows)


def _rows_at_once(layout: tiff_reader.Layout) -> int:
    """Rows of a band: whole chunks, of about _BAND bytes."""
    row = layout.width * layout.samples * layout.stored.itemsize
    return layout.rows * max(1, _BAND // max(1, row * layout.rows))


def is_rows(source: RowSource) -> bool:
    """Whether rows come from a file rather than from memory."""
    return not isinstance(source, ArrayRows)
