"""A tile of the padded input as floats: what every convolution loop reads.

A tile holds, for each plane, the padded rows and columns that a block of outputs sees, converted
once to the type of the sums. Borders come from index maps, so no padded copy of the input exists;
only tiles (a few hundred kB, in the second-level cache) do.

A plane is one channel, or all channels of an interleaved image (`run` elements a pixel: a
depthwise filter is then one long row with tap distance `run`). With a horizontal stride s the
pixels x ≡ p (mod s) form a plane of their own, so strided outputs are computed directly from
contiguous elements.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.jit.loop import Helper
from imgconv.jit.parallel import num_threads, over_bands
from imgconv.ops.algorithms.problem import ConvProblem

# Places in the `geometry` array of a loop; lengths in elements unless said.
(
    ROW_STRIDE,  # of the source
    PIXEL_STRIDE,  # of the source
    RUN,  # elements a pixel of a plane has
    PLANES,
    MAPS,
    OUT_WIDTH,  # pixels
    OUT_MAP,  # distance of two output maps
    OUT_ROW,  # distance of two output rows
    STRIDE_Y,
    STEP,  # source pixels from one pixel of a plane to the next (the horizontal stride)
    NEAR,  # padded columns before the source's first
    WIDTH,  # source pixels a row has
    EXTENT,  # padded rows that one output row sees
    SHIFT,  # pixels that a tile has beyond its outputs
    TILE_ROWS,  # output rows a tile
    TILE_WIDTH,  # output pixels a tile
    PITCH,  # distance of two rows of a tile's plane
    PLANE,  # distance of two planes of a tile
    SUMS,  # distance of two rows of sums
    PADDED,  # padded rows
    PLAIN_FROM,  # first output pixel whose taps all stand inside the source
    PLAIN_TO,  # and the end of these pixels
    FIELDS,
) = range(23)

# Stands for the offset of a row of padding: no view's own, whatever the signs of its strides.
NOWHERE = int(np.iinfo(np.int64).min)

TILE_FLOATS = 49152  # 192 kB of float32: with the output's lines it stays in a 512 kB L2
ROWS = 4  # output rows that the direct loop sums at a time
FEW = 36  # taps up to which they are unrolled (`direct`); beyond, a loop over them is as fast
UNROLLED = 81
TALLEST = 8
WIDEST = 4096  # output columns of a product; beyond them a row of a tile leaves the cache
WORTH = 2e6  # multiplications from which on another thread gains more than waking it takes
VECTOR = 16  # lanes of the widest vector; loops run over multiples of it where they may


class Sampling(NamedTuple):
    """What a row of a plane takes of a source: see the places of those names above."""

    run: int
    step: int
    pixel_stride: int
    near: int
    width: int


def _fill_row(  # type: ignore[no-untyped-def]
    tile, at, source, line, row, first, count, col_map, sampling, fill
):
    """Write `count` pixels of one padded row, from padded column `first`, to tile[at…].

    line: the source row, or −1 for a row of fill; row: its offset in the source. sampling: a record
    with the fields of `Sampling`.
    """
    run, step, pixel = sampling.run, sampling.step, sampling.pixel_stride
    if line < 0:
        for i in range(count * run):
            tile[at + i] = fill
        return
    near = sampling.near
    # Pixels a…b − 1 stand inside the source; the others go through the map.
    a = min(max((near - first + step - 1) // step, 0), count)
    b = min(max((near + sampling.width - first + step - 1) // step, a), count)
    for side in range(2):
        for i in range(b if side else 0, count if side else a):
            column = col_map[first + i * step]
            for e in range(run):
                place = row + column * pixel + e
                tile[at + i * run + e] = source[place] if column >= 0 else fill
    start = row + (first + a * step - near) * pixel
    at += a * run
    if pixel * step == run:
        for i in range((b - a) * run):
            tile[at + i] = source[start + i]
    elif run == 1:
        for i in range(b - a):
            tile[at + i] = source[start + i * pixel * step]
    else:
        for i in range(b - a):
            for e in range(run):
                tile[at + i * run + e] = source[start + i * pixel * step + e]


fill_row = Helper(_fill_row)


def _convert_row(  # type: ignore[no-untyped-def]
    tile, at, source, line, row, first, count, col_map, geometry, fill
):
    """`fill_row` for a geometry."""
    sampling = Sampling(
        geometry[RUN], geometry[STEP], geometry[PIXEL_STRIDE], geometry[NEAR], geometry[WIDTH]
    )
    fill_row(tile, at, source, line, row, first, count, col_map, sampling, fill)


convert_row = Helper(_convert_row)


def _even_rows(row_map, top, step, rows, padded):  # type: ignore[no-untyped-def]
    """Return (first, end) of the rows that stand in the source; (0, 0) if at unequal distances.

    Of `rows` rows, `step` padded rows apart, from padded row `top` on.
    """
    first, end = 0, rows
    while end > 0:
        last = top + (end - 1) * step
        if last < padded and row_map[last] >= 0:
            break
        end -= 1
    while first < end and row_map[top + first * step] < 0:
        first += 1
    # No map goes faster from row to row than by one.
    if first < end:
        seen = row_map[top + (end - 1) * step] - row_map[top + first * step]
        if seen != (end - 1 - first) * step:
            return 0, 0
    return first, end


even_rows = Helper(_even_rows)


def _fill_tile(  # type: ignore[no-untyped-def]
    tile, source, start, row_map, col_map, planes, geometry, fill, top, rows, left, width
):
    """Fill a tile: padded rows top…top + rows − 1, `width` pixels from output column `left`.

    start: offset of this unit in the source; planes: (offset, phase) of each plane.
    """
    pitch = geometry[PITCH]
    for q in range(geometry[PLANES]):
        first = left * geometry[STEP] + planes[2 * q + 1]
        for j in range(rows):
            line = row_map[top + j]
            row = start + planes[2 * q] + line * geometry[ROW_STRIDE]
            at = q * geometry[PLANE] + j * pitch
            convert_row(
                tile, at, source, line, row, first, width, col_map, geometry, fill
            )  # fmt: skip


fill_tile = Helper(_fill_tile)


def _panel_at(number, vectors, panels):  # type: ignore[no-untyped-def]
    """Return (first vector, vectors) of one of `panels` panels: they differ by at most one.

    196 columns are panels of 4, 3, 3 and 3 vectors, since one of a single vector is slow.
    """
    each = vectors // panels
    more = vectors - each * panels
    return number * each + min(number, more), each + (1 if number < more else 0)


panel_at = Helper(_panel_at)


@dataclass(eq=False, repr=False)
class Layout:
    """Where a job's planes and taps stand in a tile.

    planes: (source offset, phase) of each plane; where: the plane of a (channel, phase).
    shift: pixels a tile has beyond its outputs.
    """

    planes: list[tuple[int, int]]
    where: dict[tuple[int, int], int]
    shift: int

    @classmethod
    def of(cls, job: ConvProblem) -> "Layout":
        """The planes of a job: one for each channel and each phase of the horizontal stride."""
        kw, step = job.weights.shape[4], job.stride[1]
        phases = sorted({kx * job.dilation[1] % step for kx in range(kw)})
        places = [(c, phase) for c in range(len(job.channels)) for phase in phases]
        return cls(
            [(job.channels[c], phase) for c, phase in places],
            {place: index for index, place in enumerate(places)},
            (kw - 1) * job.dilation[1] // step,
        )

    def geometry(self, job: ConvProblem, width: int, rows: int) -> npt.NDArray[np.int64]:
        """The geometry of tiles of `rows` by `width` outputs."""
        seen = (rows - 1) * job.stride[0] + job.extent[0]
        pitch = round_up((width + self.shift) * job.run, VECTOR) + VECTOR
        inside = job.width - job.extent[1] + 1
        fields = np.zeros(FIELDS, np.int64)
        for place, value in {
            ROW_STRIDE: job.row_stride,
            PIXEL_STRIDE: job.pixel_stride,
            RUN: job.run,
            PLANES: len(self.planes),
            MAPS: job.weights.shape[1],
            OUT_WIDTH: job.out_size[1],
            OUT_MAP: job.out_map,
            OUT_ROW: job.out_row,
            STRIDE_Y: job.stride[0],
            STEP: job.stride[1],
            NEAR: job.near,
            WIDTH: job.width,
            EXTENT: job.extent[0],
            SHIFT: self.shift,
            TILE_ROWS: rows,
            TILE_WIDTH: width,
            PITCH: pitch,
            PLANE: pitch * seen,
            SUMS: round_up(width * job.run, VECTOR),
            PADDED: len(job.row_map),
            PLAIN_FROM: min(max(job.near, 0), job.out_size[1]),
            PLAIN_TO: min(max(job.near + inside, 0), job.out_size[1]),
        }.items():
            fields[place] = value
        return fields


def in_registers(job: ConvProblem) -> bool:
    """Whether the direct loop keeps the sums of some rows in registers over all taps at once."""
    _, _, channels, kh, kw = job.weights.shape
    steps = job.stride[0] == job.dilation[0] == 1
    return bool(steps and kh >= ROWS and channels * kh * kw > FEW)


def row_chunks(job: ConvProblem) -> list[int]:
    """How a kernel's rows are cut for one pass over a column: the taller chunks first.

    Up to UNROLLED taps make one chunk; beyond that no chunk is taller than TALLEST, and they
    differ by at most one row, so that two unrolled loops do for any kernel.
    """
    _, _, channels, rows, columns = job.weights.shape
    whole = in_registers(job) or channels * rows * columns <= UNROLLED
    count = 1 if whole else -(-rows // TALLEST)
    low, more = divmod(rows, count)
    return [low + 1] * more + [low] * (count - more)


def tap_order(job: ConvProblem) -> list[tuple[int, int, int]]:
    """(channel, row, column) of every tap in the order in which direct algorithms add them.

    One order for all of them: rounding, and so the result's bits, then do not depend on which ran.
    """
    channels, _, kw = job.weights.shape[2:]
    order = []
    top = 0
    for height in row_chunks(job):
        for c in range(channels):
            for kx in range(kw):
                order += [(c, ky, kx) for ky in range(top, top + height)]
        top += height
    return order


def round_up(value: int, unit: int) -> int:
    """The least multiple of `unit` that is not less than `value`."""
    return -(-value // unit) * unit


def _bands(job: ConvProblem) -> int:
    """How many bands are worth having: some a thread for balance, none too small to wake one."""
    work = job.outputs * math.prod(job.weights.shape[1:])
    return max(1, min(4 * num_threads(), int(work / WORTH)))


def band_rows(job: ConvProblem, tile_rows: int, units: int) -> int:
    """Rows a band: whole tiles where there are enough. units: parts with as many rows."""
    height = job.out_size[0]
    wanted = -(-height * units // _bands(job))
    return min(max(round_up(wanted, tile_rows), tile_rows), max(height, 1))


def over_tasks(job: ConvProblem, count: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for parts of range(count), tasks of which a band has one or several.

    Small images of several planes are one task, too.
    """
    over_bands(count, count // _bands(job), work)


def aligned(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Zeros that begin at a line of the cache, so that no vector of them straddles two."""
    spare = 64 // dtype.itemsize
    room = np.zeros(count + spare, dtype)
    first = -room.__array_interface__["data"][0] % 64 // dtype.itemsize
    return room[first : first + count]
