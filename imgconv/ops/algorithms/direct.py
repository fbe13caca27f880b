"""Direct convolution for dense kernels: four output rows at a time, whole columns of taps a pass.

Four output rows under a column of H taps need only H + 3 rows of the image, so a loaded vector
meets up to four weights; one output row alone would be bound by its unaligned loads, one for each
multiplication. Columns go outside and rows inside, so that a column's weights stay in registers
(7×7, float32: 30 ms against 38 ms on one core the other way round). Few taps are unrolled. Over
more of them a loop runs, with the sums of four rows by four vectors in registers from the first
tap to the last (11×11, 12 MP RGB float32: 79 ms of one core, 104 in unrolled passes with sums in
the first-level cache between them; 21×21: 242 and 464). Where vertical stride or dilation keep
rows apart, such passes of one column of a few taps remain (`tiles.row_chunks`).

Small kernels read the image where it lies, in its own type; only borders go through a tile.
"""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np

from imgconv.jit import cache, scratch, simd
from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, Helper, Wanted, loop
from imgconv.jit.record import array, record
from imgconv.ops import epilogue
from imgconv.ops.algorithms import tiles
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import (
    ROWS,
    Band,
    Geometry,
    Layout,
    band_rows,
    fill_tile,
    over_tasks,
    round_up,
    row_chunks,
)
from imgconv.ops.microkernels import sums as microkernel
from imgconv.ops.microkernels.unrolled import Passes, all_passes
from imgconv.typing import Array, Int64

BLOCK = 1024  # elements a pass: eight rows of sums are 32 kB
CACHE = 400_000  # bytes of source rows that one strip of columns may keep alive


def _grid(real: str) -> Helper:
    """The same in one pass whatever the taps: `full` columns of `many` rows of them."""
    vectors = 4 if cache.vectors()[0] == 16 else 2  # so that all sums have registers
    lanes = microkernel.lanes(real)
    block = vectors * lanes
    several, single = microkernel.four_rows(real, vectors), microkernel.four_rows(real, 1)

    def body(  # type: ignore[no-untyped-def]
        sums, length, data, at, pitch, columns, starts, weights, count, full, many
    ):
        blocks = count // block
        for b in range(blocks):
            i = b * block
            several(
                simd.at(sums, i), length, simd.at(data, at + i), pitch, columns, full, many,
                weights,
            )  # fmt: skip
        for b in range((count - blocks * block) // lanes):
            i = blocks * block + b * lanes
            single(
                simd.at(sums, i), length, simd.at(data, at + i), pitch, columns, full, many,
                weights,
            )  # fmt: skip

    return Helper(body)


@record
class DirectTables(NamedTuple):
    """cuts: the columns at which blocks begin. columns: offsets of columns of taps in a tile.

    passes: (first column, first row, first weight) of each of `many` passes, of which the first
    `full` are of the greater height; or none for `full` columns of `many` taps in one pass. span:
    weights a map has.
    """

    cuts: Annotated[Any, "i64*"]
    columns: Annotated[Any, "i64*"]
    passes: Annotated[Any, "i64*"]
    full: int
    many: int
    span: int


@record
class Blocks(NamedTuple):
    """Blocks first…end − 1 of columns."""

    first: int
    end: int


@loop
def direct_rows(
    source: str, data: str, element: str, real: str,
    height: int, second: int, across: int, one: bool, stride: int, dilation: int,
    combine: str, divided: bool, activation: str,
) -> Built:  # fmt: skip
    """Output rows of a band, some blocks of columns, of one unit.

    data: the type of a tile; the source's own where the loop may read the source in place. height,
    second, across, one: as in `Passes`.
    """
    combined = combine != "none"
    fold = epilogue.fold(combine, real, divided)
    write = epilogue.store_past_caches(element, real, divided, combined, activation)
    zero = jit.DTYPES[real].type(0)
    passes_of = Passes(height, second, across, one)
    run_all = _grid(real) if height == 0 else all_passes(passes_of, real, stride, dilation)
    in_place = source == data
    pick = Helper(
        (lambda source, tile, plain: source if plain else tile)
        if in_place
        else (lambda source, tile, plain: tile)
    )

    def body(  # type: ignore[no-untyped-def]
        out, source, tile, sums, weights, bias, values, index, tables, geometry, band, blocks
    ):
        run = geometry.run
        maps = geometry.maps
        length = geometry.sums
        new = 4 * length
        tall = geometry.tile_rows
        seen = (tall - 1) * stride + geometry.extent
        for down in range((band.bottom - band.top + tall - 1) // tall):
            y = band.top + down * tall
            rows = min(tall, band.bottom - y)
            first = y * stride
            line = index.rows[first]
            exist = min(seen, geometry.padded - first)
            # Rows of the source that follow each other: no step of a map is longer than one.
            level = exist == seen and line >= 0 and index.rows[first + seen - 1] == line + seen - 1
            for b in range(blocks.first, blocks.end):
                x = tables.cuts[b]
                pixels = tables.cuts[b + 1] - x
                plain = (
                    in_place
                    and level
                    and x >= geometry.plain_from
                    and x + pixels <= geometry.plain_to
                )
                if plain:
                    pitch = geometry.row_stride
                    base = band.start_in + index.planes[0] + line * pitch
                    base += (x - geometry.near) * run
                else:
                    pitch = geometry.pitch
                    base = np.int64(0)
                    fill_tile(
                        tile, source, band.start_in, index, geometry, values[epilogue.FILL], first,
                        exist, x, pixels + geometry.shift,
                    )  # fmt: skip
                data = pick(source, tile, plain)
                elements = pixels * run
                # Whole vectors: the rest of the last one is computed and not stored.
                count = (elements + 15) // 16 * 16
                for group in range((rows + 3) // 4):
                    at = base + group * 4 * stride * pitch
                    place = band.start_out + (y + group * 4) * geometry.out_row + x * run
                    for m in range(maps):
                        run_all(
                            simd.at(sums, new), length, data, at, pitch, tables.columns,
                            tables.passes, simd.at(weights, m * tables.span), count, tables.full,
                            tables.many,
                        )  # fmt: skip
                        for r in range(min(4, rows - group * 4)):
                            to = place + r * geometry.out_row
                            here = new + r * length
                            if combined:
                                fold(
                                    sums, r * length, here, elements, m, maps, bias, values
                                )  # fmt: skip
                                here = r * length
                            else:
                                to += m * geometry.out_map
                            if not combined or m == maps - 1:
                                add = zero if combined else bias[m]
                                write(out, to, sums, here, elements, add, values)
        simd.fence()

    arguments = (
        f"disjoint {element}* {source}* {data}* {real}* {real}* {real}* {real}* Maps DirectTables "
        "Geometry* Band Blocks"
    )
    return arguments, body


def offer(job: ConvProblem) -> Candidate | None:
    """For all but small jobs; the cost is that of all taps of the kernel's rectangle.

    A loop is compiled for each kernel size (about a second, once a machine). `sparse` sums the
    same taps in the same order, so its bits are the same and a small job can go there.
    """
    kh, kw = job.weights.shape[3:]
    taps = len(job.channels) * kh * kw
    if job.is_small(taps):
        return None
    lanes = 0.5 if job.real == "f64" else 1.0
    # Measured, u8 and float32: 3×3 0.4 and 0.9, 5×5 0.8 and 1.0, 7×7 1.0 and 1.4, 9×9 1.5 and 1.7,
    # 15×15 3.2 and 3.6, 21×21 6.0 and 6.5, 47×47 29; in several passes 11×11 3.0 to 3.7.
    moved = traffic(job)
    if tiles.in_registers(job):
        cost = 0.15 + 0.6 * moved + 0.0134 * taps
    elif taps <= tiles.UNROLLED:
        cost = 0.2 + max(0.0245 * taps, moved - 0.1)
    else:
        cost = 0.6 + 0.027 * taps
    cost /= lanes
    return Candidate("direct", cost, f"direct, {kh}×{kw} taps of {len(job.channels)} channel(s)")


def loops(job: ConvProblem, choice: Candidate) -> list[Wanted]:
    """The loops that `run` needs."""
    return [_wanted(job, _Taps.of(job, Layout.of(job)).passes)]


def _wanted(job: ConvProblem, passes: Passes) -> Wanted:
    data = job.source.dtype if _reads_in_place(job, passes) else jit.DTYPES[job.real]
    constants = (
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[data],
        jit.ELEMENT_NAMES[job.out.dtype], job.real, *passes,
        job.stride[0], job.dilation[0], job.combine, job.divisor != 1.0, job.activation,
    )  # fmt: skip
    return Wanted(direct_rows, constants)


def run(job: ConvProblem, choice: Candidate) -> None:
    """Compute the job's outputs, threads over bands of rows and strips of columns."""
    height, _ = job.out_size
    layout = Layout.of(job)
    taps = _Taps.of(job, layout)
    in_place = _reads_in_place(job, taps.passes)
    data = job.source.dtype if in_place else jit.DTYPES[job.real]
    cuts, strips = _cuts(job, in_place)
    wide = int(np.diff(cuts).max())
    tall = ROWS if in_place else _tile_rows(job, layout, wide)
    geometry = layout.geometry(job, wide, tall)
    rows_loop = _wanted(job, taps.passes).load()
    shape, index = array(geometry), layout.maps(job)
    tables = DirectTables(
        cuts, taps.columns(geometry), taps.starts, taps.full, len(taps.starts) // 3, taps.span
    )
    real = jit.DTYPES[job.real]
    bias = np.ascontiguousarray(job.bias, real)
    values = epilogue.make_values(
        job.real, job.fill, job.gain, job.offset, job.divisor, job.out.nbytes
    )
    tile_size = geometry.plane * len(layout.planes) + 4 * tiles.VECTOR
    parts = len(strips) - 1
    band = band_rows(job, tall, len(job.starts_in) * parts)
    per_unit = -(-height // band) * parts

    def work(first: int, last: int) -> None:
        tile = scratch.address("tile", tile_size, data)
        sums = scratch.address("sums", 2 * ROWS * geometry.sums, real)
        for number in range(first, last):
            unit, rest = divmod(number, per_unit)
            turn, strip = divmod(rest, parts)
            group = unit % len(job.weights)
            rows_loop(
                job.out, job.source, tile, sums, taps.weights[group], bias[group], values, index,
                tables, shape,
                Band(
                    job.starts_in[unit], job.starts_out[unit],
                    turn * band, min(height, (turn + 1) * band),
                ),
                Blocks(strips[strip], strips[strip + 1]),
            )  # fmt: skip

    over_tasks(job, per_unit * len(job.starts_in), work)


@dataclass(eq=False, repr=False)
class _Taps:
    """The passes' tables; `places` is (plane, element offset) of each column of taps."""

    passes: Passes
    places: list[tuple[int, int]]
    starts: Int64
    full: int
    span: int
    weights: list[Array]

    @classmethod
    def of(cls, job: ConvProblem, layout: Layout) -> "_Taps":
        groups, maps, channels, kh, kw = job.weights.shape
        places = []
        for c in range(channels):
            for kx in range(kw):
                column, phase = divmod(kx * job.dilation[1], job.stride[1])
                places.append((layout.where[c, phase], column * job.run))
        # (groups, M, columns, kH): a column's weights lie together.
        bank = job.weights.transpose(0, 1, 2, 4, 3).reshape(groups, maps, channels * kw, kh)
        if tiles.in_registers(job):
            whole = list(bank.reshape(groups, maps, -1).astype(jit.DTYPES[job.real]))
            passes, none = Passes(0, 0, 0, True), np.zeros(3 * kh, np.int64)
            return cls(passes, places, none, len(places), channels * kh * kw, whole)
        heights = row_chunks(job)
        # Columns are helpers within helpers, which at 192 passes Numba's recursion.
        one = len(heights) == 1 and len(places) <= tiles.UNROLLED
        second = heights[-1] if heights[-1] != heights[0] else 0
        passes = Passes(heights[0], second, len(places) if one else 1, one)
        starts, pieces = [], []
        top = at = 0
        for height in heights:
            for column in range(0, len(places), passes.across):
                starts += [column, top * job.dilation[0], at]
                piece = bank[:, :, column : column + passes.across, top : top + height]
                pieces.append(piece.reshape(groups, maps, -1))
                at += height * passes.across
            top += height
        flat = np.concatenate(pieces, axis=2).astype(jit.DTYPES[job.real])
        full = heights.count(heights[0]) * len(places) // passes.across
        weights = [np.ascontiguousarray(group) for group in flat]
        return cls(passes, places, np.array(starts, np.int64), full, at, weights)

    def columns(self, geometry: Geometry) -> Int64:
        """Offsets of the columns in a tile."""
        plane = geometry.plane
        return np.array([q * plane + offset for q, offset in self.places], np.int64)


def _reads_in_place(job: ConvProblem, passes: Passes) -> bool:
    """Whether the taps can be read where the image lies, and gain by it.

    A tile pays where each element is converted for many taps; float images are never converted.
    """
    contiguous = job.stride[1] == 1 and len(job.channels) == 1 and job.pixel_stride == job.run
    fits = bool(job.source.dtype.type(job.fill) == job.fill)
    few = passes.one and passes.height > 0
    return contiguous and fits and (few or job.source.dtype == jit.DTYPES[job.real])


def _cuts(job: ConvProblem, in_place: bool) -> tuple[Int64, list[int]]:
    """Return the output columns at which blocks begin, and the blocks at which strips begin.

    Blocks that read the image in place are whole vectors, since a vector reads to its end.
    """
    width = job.out_size[1]
    block = max(tiles.VECTOR, BLOCK // job.run // tiles.VECTOR * tiles.VECTOR)
    cuts = {0, width}
    right = 0
    if in_place:
        left = min(max(job.near, 0), width)
        right = min(max(job.near + job.width - job.extent[1] + 1, left), width)
        right = left + (right - left) // tiles.VECTOR * tiles.VECTOR
        cuts |= {*range(left, right, block), right}
    cuts |= {*range(right, width, block)}
    blocks = len(cuts) - 1
    strip = blocks
    if in_place:
        reach = (job.extent[0] + ROWS) * block * job.run * job.source.itemsize
        strip = max(1, CACHE // reach)
    return np.array(sorted(cuts), np.int64), sorted({*range(0, blocks, strip), blocks})


def _tile_rows(job: ConvProblem, layout: Layout, wide: int) -> int:
    """Output rows of a tile: as many as fit the second-level cache, at least ROWS."""
    row = len(layout.planes) * (wide + layout.shift) * job.run
    rows = (tiles.TILE_FLOATS // row - job.extent[0]) // job.stride[0] + 1
    return min(64, max(rows // ROWS, 1) * ROWS, round_up(job.out_size[0], ROWS))
