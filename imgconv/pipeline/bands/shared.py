"""One source of rows for several readers: an image is decoded once, however many maps it has."""

from collections import deque

import numpy as np

from imgconv.jit.loop import Wanted
from imgconv.ops.rows import ArrayRows, RowSource, band_rows, loops_of, read_rows
from imgconv.typing import Array


def shared(source: RowSource, count: int) -> list[RowSource]:
    """The source `count` times. Who reads them keeps them near each other, all in one thread.

    A band is read for the first that asks for it and kept until the last has had it.
    """
    if count == 1:
        return [source]
    if isinstance(source, ArrayRows):
        return [ArrayRows(source.pixels) for _ in range(count)]
    return list(_Bands(source, count).readers)


class _Bands:
    """The bands that some of the readers still need."""

    def __init__(self, source: RowSource, count: int) -> None:
        self.source = source
        self._rows = band_rows(source)
        self._kept: deque[Array] = deque()
        self._first = self._end = 0  # rows of the source: the first kept, the next to be read
        self.readers = [_Reader(self, source) for _ in range(count)]

    def at(self, row: int) -> Array:
        """The rows from `row` on that lie together, at least one."""
        if row == self._end:
            self._read()
        band = self._kept[(row - self._first) // self._rows]
        return band[(row - self._first) % self._rows :]

    def _read(self) -> None:
        slowest = min(reader.next for reader in self.readers)
        free = None
        while self._kept and self._first + len(self._kept[0]) <= slowest:
            free = self._kept.popleft()
            self._first += len(free)
        rows = min(self._rows, self.source.height - self._end)
        if free is None or len(free) != rows:
            shape = (rows, self.source.width, self.source.channels)
            free = np.empty(shape, self.source.dtype)
        read_rows(self.source, free)
        self._kept.append(free)
        self._end += rows


class _Reader:
    """A source of its own to whoever reads it."""

    def __init__(self, bands: _Bands, source: RowSource) -> None:
        self._bands = bands
        self.height, self.width, self.channels = source.height, source.width, source.channels
        self.dtype = source.dtype
        self.next = 0

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = min(len(out) if count is None else count, self.height - self.next)
        done = 0
        while done < count:
            part = self._bands.at(self.next)[: count - done]
            out[done : done + len(part)] = part
            self.next += len(part)
            done += len(part)
        return count

    def loops(self) -> list[Wanted]:
        return loops_of(self._bands.source)

    def close(self) -> None:
        self._bands.source.close()
