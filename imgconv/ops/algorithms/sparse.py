"""Sparse kernels and small jobs: each output is the sum of its taps' elements of a tile.

Only taps whose weight is not zero cost anything; every geometry is possible, with one compiled
loop for all kernels. A weight, once read, meets ROWS rows by some vectors of pixels, whose sums
stay in registers from the first tap to the last: as many as it takes that none waits for its last
product, and that narrow images fill them too.
"""

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
    loop_of,
    over_tasks,
    round_up,
    tap_order,
)
from imgconv.ops.microkernels import sums as microkernel


def add_taps(real: str) -> Helper:
    """A helper that sums the taps first ≤ t < last of ROWS rows.

    sums[r·length + i] = Σ weights[t] · tile[taps[t] + r·apart + i] for i < count, and some beyond.
    """
    lanes = microkernel.lanes(real)
    own, registers = cache.vectors()
    vectors = registers // (2 * ROWS) * own * 4 // (lanes * jit.DTYPES[real].itemsize)
    several, single = (microkernel.anywhere(real, ROWS, n) for n in (vectors, 1))
    block = vectors * lanes

    def body(sums, length, tile, apart, taps, weights, first, last, count):  # type: ignore[no-untyped-def]
        whole = count // block * block
        for i in range(0, whole, block):
            several(simd.at(sums, i), length, simd.at(tile, i), apart, taps, weights, first, last)
        for i in range(whole, count, lanes):
            single(simd.at(sums, i), length, simd.at(tile, i), apart, taps, weights, first, last)

    return Helper(body)


@record
class SparseTaps(NamedTuple):
    """Offsets of taps in a tile; the first tap after each map's."""

    places: Annotated[Any, "i64*"]
    ends: Annotated[Any, "i64*"]


@loop
def sparse_rows(
    source: str, element: str, real: str, combine: str, divided: bool, activation: str
) -> Built:
    """Output rows of a band of one unit."""
    combined = combine != "none"
    fold = epilogue.fold(combine, real, divided)
    store = epilogue.store(element, real, divided, combined, activation)
    zero = jit.DTYPES[real].type(0)
    add = add_taps(real)

    def body(  # type: ignore[no-untyped-def]
        out, source, tile, sums, weights, bias, values, index, taps, geometry, band
    ):
        width = geometry.out_width
        run = geometry.run
        maps = geometry.maps
        spare = geometry.sums
        stride = geometry.stride_y
        tall = geometry.tile_rows
        wide = geometry.tile_width
        pitch = geometry.pitch
        length = spare * ROWS
        # Rows without a gap between them are finished as one.
        joined = geometry.out_row == spare
        # A range with a variable step may raise, and so would need Numba's runtime.
        for down in range((band.bottom - band.top + tall - 1) // tall):
            y = band.top + down * tall
            rows = min(tall, band.bottom - y)
            for across in range((width + wide - 1) // wide):
                x = across * wide
                pixels = min(wide, width - x)
                fill_tile(
                    tile, source, band.start_in, index, geometry, values[epilogue.FILL], y * stride,
                    (rows - 1) * stride + geometry.extent,
                    x, pixels + geometry.shift,
                )  # fmt: skip
                count = pixels * run
                for j in range(0, rows, ROWS):
                    seen = simd.at(tile, j * stride * pitch)
                    left = min(ROWS, rows - j)
                    parts = 1 if joined else left
                    size = left * spare if joined else count
                    at = band.start_out + (y + j) * geometry.out_row + x * run
                    for m in range(maps):
                        first, end = taps.ends[m - 1] if m else 0, taps.ends[m]
                        add(
                            simd.at(sums, length), spare, seen, stride * pitch, taps.places,
                            weights, first, end, count,
                        )  # fmt: skip
                        if combined:
                            fold(sums, 0, length, length, m, maps, bias, values)
                        else:
                            for r in range(parts):
                                place = at + m * geometry.out_map
                                place += r * geometry.out_row
                                start = length + r * spare
                                store(out, place, sums, start, size, bias[m], values)
                    if combined:
                        for r in range(parts):
                            place = at + r * geometry.out_row
                            store(out, place, sums, r * spare, size, zero, values)

    arguments = (
        f"disjoint {element}* {source}* {real}* {real}* {real}* {real}* {real}* Maps SparseTaps "
        "Geometry* Band"
    )
    return arguments, body


def offer(job: ConvProblem) -> Candidate:
    """Always possible; the cost is that of the taps that are not zero."""
    taps = np.count_nonzero(job.weights) / float(job.weights.shape[0] * job.weights.shape[1])
    # Measured, u8 and float32: 9 taps 0.7 and 1.0, 25 taps 1.2 and 1.5, 81 taps 3.0 and 3.5,
    # 225 taps 8.1 and 8.7. Of a tall kernel the rows stand in the second-level cache: 31×31 with
    # 145 taps 8.2.
    moved = traffic(job)
    tap = 0.029 + 0.0008 * job.weights.shape[3]
    cost = max(0.34 + 0.4 * moved + tap * taps, 0.15 + moved)
    cost /= 0.5 if job.real == "f64" else 1.0
    return Candidate("sparse", cost, f"direct, tap by tap, {taps:g} taps an output")


def loops(job: ConvProblem, choice: Candidate) -> list[Wanted]:
    """The loops that `run` needs."""
    return [loop_of(sparse_rows, job)]


def run(job: ConvProblem, choice: Candidate) -> None:
    """Compute the job's outputs, threads over bands of rows."""
    height, width = job.out_size
    layout = Layout.of(job)
    wide = max(1, min(width, max(64, 1536 // job.run)))
    row = len(layout.planes) * (wide + layout.shift) * job.run
    tall = (tiles.TILE_FLOATS // row - job.extent[0]) // job.stride[0] + 1
    geometry = layout.geometry(job, wide, min(round_up(height, ROWS), 64, max(tall, 1)))
    real = jit.DTYPES[job.real]
    banks = [_taps(job, group, layout, geometry) for group in range(len(job.weights))]
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    rows_loop = loops(job, choice)[0].load()
    shape, index = array(geometry), layout.maps(job)
    # Of the last rows, ROWS are summed where fewer are wanted.
    spare = (ROWS - 1) * job.stride[0] * geometry.pitch
    tile_size = geometry.plane * len(layout.planes) + spare
    band = band_rows(job, geometry.tile_rows, len(job.starts_in))
    per_unit = -(-height // band)

    def work(first: int, last: int) -> None:
        tile = scratch.address("tile", tile_size, real)
        sums = scratch.address("sums", 2 * ROWS * geometry.sums, real)
        for number in range(first, last):
            unit, turn = divmod(number, per_unit)
            taps, ends, weights, bias = banks[unit % len(banks)]
            rows_loop(
                job.out, job.source, tile, sums, weights, bias, values, index,
                SparseTaps(taps, ends), shape,
                Band(
                    job.starts_in[unit], job.starts_out[unit],
                    turn * band, min(height, (turn + 1) * band),
                ),
            )  # fmt: skip

    over_tasks(job, per_unit * len(job.starts_in), work)


def _taps(
    job: ConvProblem, group: int, layout: Layout, geometry: Geometry
) -> tuple[Any, Any, Any, Any]:
    """Tap offsets in a tile, the end of each map's taps, their weights, and the bias."""
    taps, ends, weights = [], [], []
    order = tap_order(job)
    for bank in job.weights[group]:
        for c, ky, kx in order:
            if bank[c, ky, kx] == 0:
                continue
            column, phase = divmod(kx * job.dilation[1], job.stride[1])
            taps.append(
                layout.where[c, phase] * geometry.plane
                + ky * job.dilation[0] * geometry.pitch
                + column * job.run
            )
            weights.append(bank[c, ky, kx])
        ends.append(len(taps))
    real = jit.DTYPES[job.real]
    return (
        np.array(taps, np.int64),
        np.array(ends, np.int64),
        np.array(weights, real),
        np.ascontiguousarray(job.bias[group], real),
    )
