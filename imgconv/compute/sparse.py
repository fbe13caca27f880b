"""Sparse kernels and small jobs: each output row is the sum of its taps' rows, four taps a pass.

Only taps whose weight is not zero cost anything; every geometry is possible, with one compiled
loop for all kernels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import epilogue, jit, tiles
from imgconv.compute.bands import over_bands
from imgconv.compute.jit import Built, Helper, loop
from imgconv.compute.plan import Offer
from imgconv.compute.tiles import Job, Layout, band_rows, fill_tile, tap_order


def _add_taps(  # type: ignore[no-untyped-def]
    sums, at, tile, base, taps, weights, first, last, count
):
    """sums[at…] = Σ weights[t] · tile[base + taps[t]…] over first ≤ t < last.

    The fewer passes over the sums, the better: 3×3 Sobel takes 0.85 ms of 512×512 RGB where zeros
    were stored first and taps beyond four added one by one in 1.1.
    """
    t = first
    if t + 4 <= last:
        a, b = base + taps[t], base + taps[t + 1]
        c, d = base + taps[t + 2], base + taps[t + 3]
        wa, wb, wc, wd = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        for i in range(count):
            total = type(wa)(0)
            total += wa * tile[a + i]
            total += wb * tile[b + i]
            total += wc * tile[c + i]
            total += wd * tile[d + i]
            sums[at + i] = total
        t += 4
    else:
        for i in range(count):
            sums[at + i] = 0
    while t + 4 <= last:
        a, b = base + taps[t], base + taps[t + 1]
        c, d = base + taps[t + 2], base + taps[t + 3]
        wa, wb, wc, wd = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        for i in range(count):
            total = sums[at + i]
            total += wa * tile[a + i]
            total += wb * tile[b + i]
            total += wc * tile[c + i]
            total += wd * tile[d + i]
            sums[at + i] = total
        t += 4
    if t + 2 <= last:
        a, b = base + taps[t], base + taps[t + 1]
        wa, wb = weights[t], weights[t + 1]
        for i in range(count):
            total = sums[at + i]
            total += wa * tile[a + i]
            total += wb * tile[b + i]
            sums[at + i] = total
        t += 2
    if t < last:
        a = base + taps[t]
        wa = weights[t]
        for i in range(count):
            sums[at + i] += wa * tile[a + i]


add_taps = Helper(_add_taps)


@loop
def sparse_rows(
    source: str, element: str, real: str, combine: str, divided: bool, activation: str
) -> Built:
    """Output rows top…bottom − 1 of one unit. ends[m] is the first tap after map m's."""
    combined = combine != "none"
    fold = epilogue.fold(combine, real, divided)
    store = epilogue.store(element, real, divided, combined, activation)
    zero = jit.DTYPES[real].type(0)

    def body(  # type: ignore[no-untyped-def]
        out, source, tile, sums, row_map, col_map, planes, taps, ends, weights, bias, values,
        geometry, start_in, start_out, top, bottom,
    ):  # fmt: skip
        width = geometry[tiles.OUT_WIDTH]
        run = geometry[tiles.RUN]
        maps = geometry[tiles.MAPS]
        spare = geometry[tiles.SUMS]
        stride = geometry[tiles.STRIDE_Y]
        tall = geometry[tiles.TILE_ROWS]
        wide = geometry[tiles.TILE_WIDTH]
        # A range with a variable step may raise, and so would need Numba's runtime.
        for down in range((bottom - top + tall - 1) // tall):
            y = top + down * tall
            rows = min(tall, bottom - y)
            for across in range((width + wide - 1) // wide):
                x = across * wide
                pixels = min(wide, width - x)
                fill_tile(
                    tile, source, start_in, row_map, col_map, planes, geometry,
                    values[epilogue.FILL], y * stride,
                    (rows - 1) * stride + geometry[tiles.EXTENT],
                    x, pixels + geometry[tiles.SHIFT],
                )  # fmt: skip
                count = pixels * run
                for j in range(rows):
                    base = j * stride * geometry[tiles.PITCH]
                    at = start_out + (y + j) * geometry[tiles.OUT_ROW] + x * run
                    for m in range(maps):
                        first = ends[m - 1] if m else 0
                        add_taps(sums, spare, tile, base, taps, weights, first, ends[m], count)
                        if combined:
                            fold(sums, 0, spare, count, m, maps, bias, values)
                        else:
                            place = at + m * geometry[tiles.OUT_MAP]
                            store(out, place, sums, spare, count, bias[m], values)
                    if combined:
                        store(out, at, sums, 0, count, zero, values)

    arguments = (
        f"disjoint {element}* {source}* {real}* {real}* i64* i64* i64* i64* i64* {real}* {real}* "
        f"{real}* i64* i64 i64 i64 i64"
    )
    return arguments, body


def offer(job: Job) -> Offer:
    """Always possible; the cost is that of the taps that are not zero."""
    taps = np.count_nonzero(job.weights) / (job.weights.shape[0] * job.weights.shape[1])
    # Measured, u8 and float32: 9 taps 0.7 and 1.3, 25 taps 1.3 and 2.0, 81 taps 3.4 and 4.0,
    # 225 taps 13, 441 taps 25.
    cost = (0.35 + 0.05 * taps) / (0.5 if job.real == "f64" else 1.0)
    return Offer("sparse", cost, f"direct, tap by tap, {taps:g} taps an output")


def run(job: Job, choice: Offer) -> None:
    """Compute the job's outputs, threads over bands of rows."""
    height, width = job.out_size
    layout = Layout.of(job)
    wide = max(1, min(width, max(64, 2048 // job.run)))
    row = len(layout.planes) * (wide + layout.shift) * job.run
    tall = (tiles.TILE_FLOATS // row - job.extent[0]) // job.stride[0] + 1
    geometry = layout.geometry(job, wide, max(1, min(height, 64, tall)))
    real = jit.DTYPES[job.real]
    banks = [_taps(job, group, layout, geometry) for group in range(len(job.weights))]
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    rows_loop = sparse_rows(
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype],
        job.real, job.combine, job.divisor != 1.0, job.activation,
    )  # fmt: skip
    planes = np.array(layout.planes, np.int64).ravel()
    tile_size = int(geometry[tiles.PLANE]) * len(layout.planes)
    band = band_rows(height, int(geometry[tiles.TILE_ROWS]), len(job.starts_in))
    per_unit = -(-height // band)

    def work(first: int, last: int) -> None:
        tile = np.empty(tile_size, real)
        sums = np.empty(2 * int(geometry[tiles.SUMS]), real)
        for index in range(first, last):
            unit, turn = divmod(index, per_unit)
            taps, ends, weights, bias = banks[unit % len(banks)]
            rows_loop(
                job.out, job.source, tile, sums, job.row_map, job.col_map, planes,
                taps, ends, weights, bias, values, geometry,
                job.starts_in[unit], job.starts_out[unit],
                turn * band, min(height, (turn + 1) * band),
            )  # fmt: skip

    over_bands(per_unit * len(job.starts_in), 1, work)


def _taps(
    job: Job, group: int, layout: Layout, geometry: npt.NDArray[np.int64]
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
                layout.where[c, phase] * int(geometry[tiles.PLANE])
                + ky * job.dilation[0] * int(geometry[tiles.PITCH])
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
