"""Images as rows that come in order, and a filter of them: only bands are in memory.

A source hands its rows out from top to bottom. `FilteredRows` is a source made of another: it
keeps the rows that the next outputs see and asks for more as it goes, so sources form a chain in
which decoding, filtering and encoding overlap. Its values are those of `filter_image` bit for
bit, whatever the bands.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Unpack

import numpy as np

from imgconv.jit.loop import Wanted
from imgconv.ops.algorithms import select
from imgconv.ops.arrays import contiguous, supported
from imgconv.ops.filter import make_job
from imgconv.shapes import FilterOptions
from imgconv.typing import Array, Dtype, Int64

if TYPE_CHECKING:
    from imgconv.ops.algorithms.problem import ConvProblem

BAND = 1 << 20  # bytes of input a band, so that it is in the cache when the next step reads it


class RowSource(Protocol):
    """Rows of an image (height, width, channels) from top to bottom."""

    height: int
    width: int
    channels: int
    dtype: Dtype

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows into out[:count]; return how many, 0 after the last.

        out: (rows, width, channels) of `dtype`, C-contiguous. count: rows of `out` by default.
        """

    def close(self) -> None:
        """End what runs in the background; rows not read yet are lost."""


class ArrayRows:
    """The rows of an array (H, W, C)."""

    def __init__(self, pixels: Array) -> None:
        self.pixels = contiguous(pixels)
        self.height, self.width, self.channels = pixels.shape
        self.dtype = self.pixels.dtype
        self._next = 0

    def rows_into(self, out: Array, count: int | None = None) -> int:
        count = min(len(out) if count is None else count, self.height - self._next)
        out[:count] = self.pixels[self._next : self._next + count]
        self._next += count
        return count

    def done(self) -> int:
        """How many rows were handed out."""
        return self._next

    def start_at(self, row: int) -> None:
        self._next = row

    def close(self) -> None:
        return None


class WatchedRows:
    """The rows of a source; `tell` is called with how many were read and how many there are."""

    def __init__(self, source: RowSource, tell: Callable[[int, int], None]) -> None:
        self._source, self._tell, self._done = source, tell, 0
        self.height, self.width, self.channels = source.height, source.width, source.channels
        self.dtype = source.dtype

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        got = self._source.rows_into(out, count)
        self._done += got
        self._tell(self._done, self.height)
        return got

    def close(self) -> None:
        self._source.close()


def read_rows(source: RowSource, out: Array) -> None:
    """Fill `out` with the next rows; a source may give fewer at a time than it is asked for."""
    done = 0
    while done < len(out):
        count = source.rows_into(out[done:])
        assert count, "a source ended before its height"
        done += count


def loops_of(source: RowSource) -> list[Wanted]:
    """The loops that reading rows needs, as far as the source has a method `loops` to say so."""
    told = getattr(source, "loops", None)
    return told() if told else []


def start_at(source: RowSource, row: int) -> None:
    """Make `row` the next one of a source that no row was read of.

    Sources that can do that without reading what is above have a method of this name.
    """
    jump = getattr(source, "start_at", None)
    (jump or functools.partial(pass_over, source))(row)


def pass_over(source: RowSource, count: int) -> None:
    """Read rows and forget them."""
    rows = max(1, min(count, band_rows(source)))
    scratch = np.empty((rows, source.width, source.channels), source.dtype)
    for done in range(0, count, rows):
        read_rows(source, scratch[: count - done])


def band_rows(source: RowSource, seen: int = 1) -> int:
    """Rows of a band: about BAND bytes, and several times the rows that one output sees."""
    row = max(1, source.width * source.channels * source.dtype.itemsize)
    return min(max(BAND // row, 4 * seen, 1), max(source.height, 1))


class _Window:
    """The rows of a source that are still needed."""

    def __init__(self, source: RowSource, room: int) -> None:
        self._source = source
        self.first = 0  # row of the source that stands first in `rows`
        self._have = 0  # rows of the source that were read
        if isinstance(source, ArrayRows):
            self.rows, self._have = source.pixels, source.height
        else:
            shape = (min(room, source.height), source.width, source.channels)
            self.rows = np.empty(shape, source.dtype)

    def start_at(self, row: int) -> None:
        """Pass over the rows above one that are never needed."""
        if not isinstance(self._source, ArrayRows):
            start_at(self._source, row)
            self.first = self._have = row

    def need(self, low: int, high: int) -> None:
        """Have the rows low…high − 1 at hand; rows before `low` may go."""
        if high <= self._have:
            return
        if high - self.first > len(self.rows):
            kept = self.rows[low - self.first : self._have - self.first]
            self.rows[: len(kept)] = kept.copy()
            self.first = low
        read_rows(self._source, self.rows[self._have - self.first : high - self.first])
        self._have = high


class FilteredRows:
    """The rows of `filter_image` with one map, (H', W', C'), of the source's first channels.

    colors: how many channels are filtered; all by default. missing: the rule of `missing_fill` for
    sources whose last channels say which of the first are missing (`ops.missing`), as these
    rows then do. options: those of `filter_image`.
    Raises what `filter_image` raises, and ValueError where there are several maps.
    """

    def __init__(
        self, source: RowSource, weights: Array, bias: Array | None = None, *,
        colors: int | None = None, missing: str | None = None, **options: Unpack[FilterOptions],
    ) -> None:  # fmt: skip
        self._source = source
        run = source.channels if colors is None else colors
        self._colors, self._missing = run, missing is not None
        self._centers: Any = None
        if supported(np.empty(0, source.dtype)).dtype != source.dtype:
            raise TypeError(f"rows of {source.dtype}, expected a type that loops read")
        self._job = job = make_job(
            _virtual(source, run), weights, bias, allocate=False, **options
        )  # fmt: skip
        self.height: int
        maps, self.height, self.width, self.channels = job.out.shape
        if maps != 1:
            raise ValueError(f"{maps} maps, expected one")
        self.dtype = job.out.dtype
        self._next = 0
        self._ready = np.empty((0, 0, 0), self.dtype)  # rows computed before they are asked for
        # Channels that are not filtered, opacity, belong to the outputs where they stand.
        beside = source.channels - run * (1 + self._missing)
        self._beside = beside > 0 and self.height == source.height
        if missing is not None:
            self.channels *= 2
        if missing == "keep":
            from imgconv.ops import missing as masks

            self._centers = masks.Centers(job, (source.height, source.width))
        if not job.out.size:
            return
        self._offer = select.choose(job)
        self._run = select.runner(job, self._offer)
        self._unit = select.band_unit(job, self._offer)
        self.band = self._rows_of_band()
        self._see()
        self._window = _Window(source, self._room())

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Compute the next rows into `out`; see `RowSource`."""
        count = min(len(out) if count is None else count, self.height - self._next)
        if not out.size:
            return count
        if self._unit != 1:
            return self._hand_out(out, count)
        for start in range(0, count, self.band):
            rows = min(self.band, count - start)
            self._compute(out[start : start + rows])
            self._next += rows
        return count

    def _hand_out(self, out: Array, count: int) -> int:
        """Give rows of bands that are computed whole, whatever is asked for."""
        done = 0
        while done < count:
            at = self._next % self.band
            if at == 0:
                rows = min(self.band, self.height - self._next)
                if count - done >= rows:
                    self._compute(out[done : done + rows])
                    self._next += rows
                    done += rows
                    continue
                if len(self._ready) != rows:
                    self._ready = np.empty((rows, self.width, self.channels), self.dtype)
                self._compute(self._ready)
            part = self._ready[at : at + count - done]
            out[done : done + len(part)] = part
            self._next += len(part)
            done += len(part)
        return count

    def start_at(self, row: int) -> None:
        """Begin at a row; the samples are those that come when all above are computed."""
        if row >= self.height or not self._job.out.size:
            self._next = row
            return
        self._next = row if self._unit == 1 else row // self.band * self.band
        self._window.start_at(int(self._low[self._next]))
        pass_over(self, row - self._next)

    def close(self) -> None:
        self._source.close()

    def opacity(self, top: int, count: int) -> Array:
        """Rows top…top + count − 1 of the channel beside those filtered, just computed."""
        first = top - self._window.first
        return self._window.rows[first : first + count, :, self._colors : self._colors + 1]

    def _compute(self, out: Array) -> None:
        count = len(out)
        last = self._next + count - 1
        self._window.need(int(self._low[self._next]), int(self._high[last]))
        job = self._job
        values = np.empty((count, self.width, job.run), self.dtype) if self._missing else out
        top = self._next * job.stride[0]
        rows = job.row_map[top : top + (count - 1) * job.stride[0] + job.extent[0]]
        band = replace(
            job,
            source=self._window.rows,
            row_map=np.where(rows < 0, rows, rows - self._window.first),
            out=values,
            out_size=(count, self.width),
            out_map=count * job.out_row,
        )
        self._run(band, self._offer)
        if self._missing:
            self._finish(band, out)

    def _finish(self, band: "ConvProblem", out: Array) -> None:
        """Write a band's results, renormalized, and behind them which of them are missing."""
        from imgconv.ops.missing import renormalize

        count, top = len(out), int(self._low[self._next])
        high = int(self._high[self._next + count - 1])
        seen = self._window.rows[top - self._window.first : high - self._window.first]
        mask = seen[..., -self._colors :] != 0
        moved = band.row_map + (self._window.first - top)
        band = replace(band, source=seen, row_map=np.where(band.row_map < 0, -1, moved))
        marks = renormalize(band, mask)
        if self._centers is not None and mask.any():
            marks |= self._centers.missing(mask, self._next, count, top, band)[0]
        out[..., : band.run] = np.where(marks, self.dtype.type(0), band.out)
        out[..., band.run :] = marks

    def loops(self) -> list[Wanted]:
        """The loops that these rows need, with those of the source."""
        own = select.loops(self._job, self._offer) if self._job.out.size else []
        return loops_of(self._source) + own

    def _see(self) -> None:
        """Find the rows of the source from which on, and up to which, each output needs them."""
        job = self._job
        none = self._source.height
        seen = np.lib.stride_tricks.sliding_window_view(job.row_map, job.extent[0])
        seen = seen[:: job.stride[0]][: self.height]
        low = np.where(seen < 0, none, seen).min(axis=1)
        high = seen.max(axis=1) + 1
        if self._beside:
            own = np.arange(self.height)
            # Rows handed out together may be of two bands, when the second is computed.
            kept = np.maximum(0, own - self.band) if self._unit != 1 else own
            low, high = np.minimum(low, kept), np.maximum(high, own + 1)
        if self._centers is not None:
            rows = self._centers.rows
            low = np.minimum(low, np.where(rows < 0, none, rows))
            high = np.maximum(high, rows + 1)
        # Rows above are kept as long as any later output sees them: circular padding keeps all.
        low = np.minimum.accumulate(low[::-1])[::-1]
        self._high: Int64 = np.maximum.accumulate(high)
        # Rows between what two outputs see have to be read all the same.
        before = np.concatenate([[0], self._high[:-1]])
        self._low: Int64 = np.minimum(low, before)

    def _rows_of_band(self) -> int:
        if not self._unit:
            return self.height
        rows = band_rows(self._source, self._job.extent[0]) // self._job.stride[0]
        return min(self.height, max(1, rows // self._unit) * self._unit)

    def _room(self) -> int:
        """Rows of the window: what any band sees, and as much again while that is little.

        The more there are, the fewer are moved; of large bands few are moved anyway.
        """
        last = np.minimum(np.arange(self.height) + self.band, self.height) - 1
        seen = max(1, int((self._high[last] - self._low).max()))
        return seen + min(seen, 2 * band_rows(self._source, self._job.extent[0]))


def _virtual(source: RowSource, colors: int) -> Array:
    """An array of the source's shape and strides whose elements are never touched."""
    size = source.dtype.itemsize
    pixel = source.channels * size
    return np.lib.stride_tricks.as_strided(
        np.empty(1, source.dtype),
        (source.height, source.width, colors),
        (source.width * pixel, pixel, size),
    )
