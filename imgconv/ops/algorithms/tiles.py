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
from typing import Annotated, Any, NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit.loop import Helper, Loop, Wanted
from imgconv.jit.parallel import num_threads, over_bands
from imgconv.jit.record import record
from imgconv.ops.algorithms.problem import ConvProblem

TILE_FLOATS = 49152  # 192 kB of float32: with the output's lines it stays in a 512 kB L2
ROWS = 4  # output rows that the direct loop sums at a time
FEW = 36  # taps up to which they are unrolled (`direct`); beyond, a loop over them is as fast
UNROLLED = 81
TALLEST = 8
WIDEST = 4096  # output columns of a product; beyond them a row of a tile leaves the cache
WORTH = 2e6  # multiplications from which on another thread gains more than waking it takes
VECTOR = 16  # lanes of the widest vector; loops run over multiples of it where they may


@record
class Geometry(NamedTuple):
    """What is read, where tiles stand and where results go; lengths in elements unless said.

    Of the source: row_stride, pixel_stride; step: its pixels from one of a plane to the next (the
    horizontal stride); near: padded columns before its first; width: pixels a row; padded: padded
    rows. run: elements a pixel of a plane has. extent: padded rows that one output row sees.
    Of the output: maps, out_width (pixels), out_map and out_row (from map to map, row to row).
    plain_from, plain_to: the first output pixel whose taps all stand inside the source, and the end
    of these.
    Of a tile: planes; tile_rows and tile_width: its outputs; shift: the pixels beyond them; pitch
    and plane: from row to row and plane to plane. sums: from row to row of sums.
    """

    row_stride: int
    pixel_stride: int
    run: int
    planes: int
    maps: int
    out_width: int
    out_map: int
    out_row: int
    stride_y: int
    step: int
    near: int
    width: int
    extent: int
    shift: int
    tile_rows: int
    tile_width: int
    pitch: int
    plane: int
    sums: int
    padded: int
    plain_from: int
    plain_to: int


@record
class Maps(NamedTuple):
    """Source row and pixel of each padded row and column; (source offset, phase) of each plane."""

    rows: Annotated[Any, "i64*"]
    columns: Annotated[Any, "i64*"]
    planes: Annotated[Any, "i64*"]


@record
class Band(NamedTuple):
    """Output rows top…bottom − 1 of a unit, which begins so far in source and out."""

    start_in: int
    start_out: int
    top: int
    bottom: int


@record
class Strip(NamedTuple):
    """Pixels x…x + pixels − 1 of output rows."""

    x: int
    pixels: int


def _fill_row(  # type: ignore[no-untyped-def]
    tile, at, source, line, row, first, count, col_map, sampling, fill
):
    """Write `count` pixels of one padded row, from padded column `first`, to tile[at…].

    line: the source row, or −1 for a row of fill; row: its offset in the source. sampling: a record
    with the fields run, step, pixel_stride, near and width.
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
    tile, source, start, maps, geometry, fill, top, rows, left, width
):
    """Fill a tile: padded rows top…top + rows − 1, `width` pixels from output column `left`.

    start: offset of this unit in the source.
    """
    for q in range(geometry.planes):
        first = left * geometry.step + maps.planes[2 * q + 1]
        for j in range(rows):
            line = maps.rows[top + j]
            row = start + maps.planes[2 * q] + line * geometry.row_stride
            at = q * geometry.plane + j * geometry.pitch
            fill_row(
                tile, at, source, line, row, first, width, maps.columns, geometry, fill
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

    def geometry(self, job: ConvProblem, width: int, rows: int) -> Geometry:
        """The geometry of tiles of `rows` by `width` outputs."""
        seen = (rows - 1) * job.stride[0] + job.extent[0]
        pitch = round_up((width + self.shift) * job.run, VECTOR) + VECTOR
        inside = job.width - job.extent[1] + 1
        return Geometry(
            row_stride=job.row_stride, pixel_stride=job.pixel_stride, run=job.run,
            planes=len(self.planes), maps=job.weights.shape[1], out_width=job.out_size[1],
            out_map=job.out_map, out_row=job.out_row, stride_y=job.stride[0], step=job.stride[1],
            near=job.near, width=job.width, extent=job.extent[0], shift=self.shift, tile_rows=rows,
            tile_width=width, pitch=pitch, plane=pitch * seen,
            sums=round_up(width * job.run, VECTOR), padded=len(job.row_map),
            plain_from=min(max(job.near, 0), job.out_size[1]),
            plain_to=min(max(job.near + inside, 0), job.out_size[1]),
        )  # fmt: skip

    def maps(self, job: ConvProblem) -> Maps:
        """The index maps of a job and the planes, for `fill_tile`."""
        return Maps(job.row_map, job.col_map, np.array(self.planes, np.int64).ravel())


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


def loop_of(rows: Loop, job: ConvProblem) -> Wanted:
    """An algorithm's loop over rows that has the job's types and epilogue as its only constants."""
    constants = (
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype],
        job.real, job.combine, job.divisor != 1.0, job.activation,
    )  # fmt: skip
    return Wanted(rows, constants)
