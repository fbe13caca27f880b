"""Chains of layers on an image that comes in bands of rows: each step is a source of rows.

A step keeps the rows that its next outputs see, by its own kernel, stride and dilation, so a chain
holds a few bands per step. Values are those of `chain.trace` bit for bit.
"""

from dataclasses import replace

import numpy as np

from imgconv.jit.loop import Wanted
from imgconv.nn import layers
from imgconv.nn.chain import Step
from imgconv.nn.layers.base import Layer
from imgconv.nn.layers.image import Gray, KernelFilter, interleaved, planar
from imgconv.nn.layers.pooling import POOLS
from imgconv.ops.pool_text import Pool
from imgconv.ops.rows import FilteredRows, RowSource, band_rows, loops_of, read_rows, start_at
from imgconv.shapes import extent
from imgconv.typing import Array


def chain_rows(
    source: RowSource, steps: tuple[Step, ...], missing: str | None = None
) -> "FilteredRows | Wide | None":
    """The last step's maps as rows of floats, or None where a step needs the whole image.

    missing: the rule of `missing_fill` where the last half of the source's channels says which
    samples of the first are missing, as that of the rows then does.
    Those are steps that see all of it (adaptive and global pools), several filters a step, groups,
    and pools with `ceil_mode`. Raises ShapeError where sizes do not fit.
    """
    for step in steps:
        found = _rows(source, step.layer, missing)
        if found is None:
            return None
        source = found
    if isinstance(source, FilteredRows) and source.dtype.kind == "f":
        return source
    return Wide(source)


def _rows(source: RowSource, layer: Layer, missing: str | None) -> RowSource | None:
    if isinstance(layer, KernelFilter):
        window = layer.window
        if window.groups is not None or (layer.combine == "none" and len(layer.weights) > 1):
            return None
        colors = source.channels // (1 if missing is None else 2)
        return FilteredRows(
            source, layer.weights, layer.offsets, colors=colors, missing=missing,
            **layer.options(),
        )  # fmt: skip
    if isinstance(layer, (Gray, layers.Activation)):
        return PointRows(source, layer, missing)
    if isinstance(layer, layers.WindowPool) and not layer.ceil_mode:
        return PoolRows(source, layer, missing)
    return None


def pooled(source: RowSource, pool: Pool, missing: str | None = None) -> "PoolRows | None":
    """A pool of rows, or None for one that sees the whole map, or that `chain_rows` leaves.

    missing: as for `chain_rows`.
    """
    layer = POOLS.get(pool.kind)
    if layer is None or not issubclass(layer, layers.WindowPool) or pool.options.get("ceil_mode"):
        return None
    return PoolRows(source, layer(**pool.options), missing)


def _computed(layer: Layer, pixels: Array, missing: str | None) -> Array:
    """A layer's output for rows; with `missing` both have channels for what is missing."""
    if missing is None:
        return interleaved(layer.forward(planar(pixels))[0])
    from imgconv.nn.missing import forward_masked

    colors = pixels.shape[2] // 2
    values, mask = np.ascontiguousarray(pixels[..., :colors]), pixels[..., colors:] != 0
    out, gone = forward_masked(layer, planar(values), planar(mask), missing)
    both = np.concatenate([out, gone.astype(out.dtype)], axis=1)
    return interleaved(both[0])


class PointRows:
    """Rows of a layer that sees one pixel at a time."""

    def __init__(self, source: RowSource, layer: Layer, missing: str | None = None) -> None:
        self._source, self._layer, self._missing = source, layer, missing
        self.height, self.width = source.height, source.width
        probe = _computed(layer, np.zeros((1, 1, source.channels), source.dtype), missing)
        self.channels, self.dtype = probe.shape[2], probe.dtype
        shape = (band_rows(source), source.width, source.channels)
        self._band = np.empty(shape, source.dtype)

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = min(len(out) if count is None else count, len(self._band))
        got = self._source.rows_into(self._band, count)
        if got:
            out[:got] = _computed(self._layer, self._band[:got], self._missing)
        return got

    def start_at(self, row: int) -> None:
        """Begin at a row; see `start_at` of `ops.rows`."""
        start_at(self._source, row)

    def close(self) -> None:
        self._source.close()


class PoolRows:
    """Rows of a pool by windows: bands of its input with their halos, pads at the ends only."""

    def __init__(
        self, source: RowSource, layer: layers.WindowPool, missing: str | None = None
    ) -> None:
        self._source, self._layer, self._missing = source, layer, missing
        (taps, _), (self._stride, _), sides, (spread, _) = layer.window
        self._seen = extent(taps, spread)
        self._top, _, self._left, self._right = sides
        given = (1, source.channels, source.height, source.width)
        _, self.channels, self.height, self.width = layer.output_shape(given)
        probe = np.zeros((self._seen, source.width, source.channels), source.dtype)
        free = replace(layer, padding=(0, 0, self._left, self._right))
        self.dtype = _computed(free, probe, None).dtype
        same = (self.height, self.width) == (source.height, source.width)
        self._keeps = missing == "keep" and same
        self._next = 0
        self._first = 0  # row of the source that stands first in `_rows`
        self._rows = np.empty((0, source.width, source.channels), source.dtype)
        self._most = max(1, band_rows(source, self._seen) // self._stride)

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = len(out) if count is None else count
        count = min(count, self._most, self.height - self._next)
        if not count:
            return 0
        low = self._next * self._stride - self._top
        high = (self._next + count - 1) * self._stride - self._top + self._seen
        self._have(max(0, low), min(high, self._source.height))
        pads = (max(0, -low), max(0, high - self._source.height), self._left, self._right)
        layer = replace(self._layer, padding=pads)
        if self._missing is None:
            out[:count] = _computed(layer, self._rows, None)
        else:
            out[:count] = _computed(layer, self._rows, "interpolate")
            if self._keeps:
                self._keep(out[:count])
        self._next += count
        return count

    def _keep(self, out: Array) -> None:
        """Leave missing what is missing in the source, whose size the map has."""
        first, colors = self._next - self._first, self.channels // 2
        mask = self._rows[first : first + len(out), :, colors:] != 0
        out[..., :colors][mask] = 0
        out[..., colors:][mask] = 1

    def start_at(self, row: int) -> None:
        """Begin at a row; see `start_at` of `ops.rows`."""
        self._next = row
        self._first = min(max(0, row * self._stride - self._top), self._source.height)
        start_at(self._source, self._first)

    def _have(self, low: int, high: int) -> None:
        """Hold the source's rows low…high − 1 and no others."""
        end = self._first + len(self._rows)
        if low > end:  # rows between two windows, which nobody sees
            read_rows(self._source, np.empty((low - end, *self._rows.shape[1:]), self._rows.dtype))
            end = low
        kept = self._rows[low - self._first :]
        rows = np.empty((high - low, *self._rows.shape[1:]), self._rows.dtype)
        rows[: len(kept)] = kept
        read_rows(self._source, rows[len(kept) :])
        self._rows, self._first = rows, low

    def close(self) -> None:
        self._source.close()


class Wide:
    """Rows as float32, or float64 where that does not hold them: the responses that are scaled."""

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self.height, self.width, self.channels = source.height, source.width, source.channels
        self.dtype = np.dtype(np.float64 if source.dtype in (np.float64, np.int32) else np.float32)
        self.band = band_rows(source)
        self._next = 0

    def loops(self) -> list[Wanted]:
        """As of `FilteredRows`; those of pools and points were loaded to know their types."""
        source = self._source
        while isinstance(source, (PointRows, PoolRows)):
            source = source._source
        return loops_of(source)

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write all of the next rows that are asked for; see `RowSource`."""
        count = min(len(out) if count is None else count, self.height - self._next)
        if self._source.dtype == out.dtype:
            read_rows(self._source, out[:count])
        else:
            rows = np.empty((count, self.width, self.channels), self._source.dtype)
            read_rows(self._source, rows)
            out[:count] = rows
        self._next += count
        return count

    def start_at(self, row: int) -> None:
        """Begin at a row; see `start_at` of `ops.rows`."""
        self._next = row
        start_at(self._source, row)

    def close(self) -> None:
        self._source.close()
