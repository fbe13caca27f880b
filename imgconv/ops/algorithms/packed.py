"""Matrix products whose weights were laid out before: maps in the lanes, not pixels.

Small maps fill no vectors of pixels: 7×7 outputs take 4 vectors of 16, and under 3×3 with its
borders 14×14 take 14 where 12.25 would do. Maps do, so here V vectors of maps meet R pixels, each
of them one float that is read where it lies. What that needs is weights in the order
(block of maps, tap, map), a copy that a network makes once it is played again (`replay`).

Each sum is added in the same order as in `gemm`, (c, ky, kx) onto the bias, so its bits are the
same; and a task may take other images or maps than there.
"""

import numpy as np

from imgconv.jit import cache, scratch, simd
from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.parallel import over_bands
from imgconv.ops import epilogue
from imgconv.ops.algorithms import copies
from imgconv.ops.algorithms.gemm_geometry import GemmArrays
from imgconv.ops.algorithms.packed_layout import Layout, PackedScratch, PackedTables
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.algorithms.tiles import even_rows, round_up
from imgconv.ops.microkernels import copy
from imgconv.ops.microkernels import packed as packed_kernel
from imgconv.ops.microkernels.gemm import Heights
from imgconv.typing import Float32


def _filler(lanes: int) -> Helper:
    """A helper that fills a unit's tile: a block's channels, `rows` padded rows from `top` on."""
    fill_rows = copy.fill_rows(lanes)

    def fill(tile, source, start, tables, geometry, first, top, rows):  # type: ignore[no-untyped-def]
        pitch, apart = geometry.pitch, geometry.row_stride
        near = min(geometry.near, pitch)
        inside = min(geometry.width, pitch - near)
        upper, lower = even_rows(tables.row_map, top, 1, rows, top + rows)
        for c in range(first, min(first + geometry.block, geometry.channels)):
            plane = simd.at(tile, (c - first) * geometry.plane)
            origin = start + tables.channels[c]
            if upper < lower:
                beyond = 0
                if c + copy.AHEAD < geometry.channels:
                    beyond = tables.channels[c + copy.AHEAD] - tables.channels[c]
                taken = copy.Rows(
                    pitch, apart, lower - upper, near, inside, pitch - near - inside, 1, beyond
                )
                above = simd.at(source, origin + tables.row_map[top + upper] * apart)
                fill_rows(simd.at(plane, upper * pitch), above, taken, geometry.fill)
            for side in range(2):
                for j in range(lower if side else 0, rows if side else upper):
                    line = tables.row_map[top + j]
                    at_row = origin + line * apart - near
                    for i in range(pitch):
                        seen = line >= 0 and near <= i < near + inside
                        plane[j * pitch + i] = source[at_row + i] if seen else geometry.fill

    return Helper(fill)


def _list_spots(spots, units, geometry, task):  # type: ignore[no-untyped-def]
    """List where the first tap of each of a task's pixels is."""
    across, stride = geometry.out_width, geometry.stride_y
    pitch = geometry.row_stride if geometry.lying else geometry.pitch
    area = (task.bottom - task.top) * across
    for unit in range(task.first, task.last):
        begin = (unit - task.first) * geometry.unit
        if geometry.lying:
            begin = units[unit].source + task.top * stride * pitch
        for p in range(area):
            y = p // across
            place = begin + y * stride * pitch + (p - y * across) * geometry.step
            spots[(unit - task.first) * area + p] = place


list_spots = Helper(_list_spots)


def _writer(lanes: int, activation: str, more: bool) -> Helper:
    """A helper that stores `maps` maps of a unit, `area` pixels each, whose sums are done.

    sums: (pixel, map), `width` from pixel to pixel.
    """
    square = packed_kernel.turn(lanes, more)
    activate = epilogue.activated(activation)

    def write(out, residual, sums, maps, area, width, geometry):  # type: ignore[no-untyped-def]
        out_map, floor = geometry.out_map, geometry.floor
        for v in range((maps + lanes - 1) // lanes):
            first = v * lanes
            if area < lanes or maps - first < lanes:
                for k in range(first, min(first + lanes, maps)):
                    for p in range(area):
                        total = sums[p * width + k]
                        if more:
                            total += residual[k * out_map + p]
                        out[k * out_map + p] = floor if total < floor else total
                continue
            for number in range((area + lanes - 1) // lanes):
                p = min(number * lanes, area - lanes)
                place = first * out_map + p
                square(
                    simd.at(out, place), out_map, simd.at(sums, p * width + first), width,
                    simd.at(residual, place), floor,
                )  # fmt: skip
        if activate is not None:
            for k in range(maps):
                activate(out, k * out_map, area)

    return Helper(write)


def _multiplier(lanes: int, heights: Heights, more: bool) -> Helper:
    """A helper that adds the products of a block of channels from c on to a block of maps' sums."""
    wide = lanes * len(heights)
    panel = packed_kernel.panel(lanes, heights)

    def multiply(arrays, tables, scratch, geometry, task, m, c, pixels):  # type: ignore[no-untyped-def]
        taps, maps = geometry.taps, geometry.maps
        span = geometry.channels * taps
        end = min(c + geometry.block, geometry.channels)
        closing = end == geometry.channels
        vectors = (min(wide, maps - m) + lanes - 1) // lanes
        weights = m * span + c * taps * vectors * lanes
        following, ahead = m + wide, weights
        if following < task.high:
            ahead = following * span + c * taps * min(wide, maps - following)
        elif not closing:
            ahead = task.low * span + end * taps * min(wide, maps - task.low)
        panel(
            simd.at(scratch.sums, (m - task.low) * pixels),
            simd.at(arrays.source, tables.channels[c]) if geometry.lying else scratch.tile,
            scratch.spots, tables.offsets, simd.at(arrays.weights, weights),
            simd.at(arrays.bias, m),
            packed_kernel.PackedPanel(
                pixels, vectors, (end - c) * taps, ahead - weights, c == 0,
                geometry.floor if closing and not more else -np.inf,
            ),
        )  # fmt: skip

    return Helper(multiply)


@loop
def packed_rows(lanes: int, heights: Heights, activation: str, more: bool) -> Built:
    """A task: for each block of channels its tiles, and for each block of maps their sums.

    task.low is where a block of maps begins. more: whether the residual is added before the
    activation.
    """
    wide = lanes * len(heights)
    fill, multiply = _filler(lanes), _multiplier(lanes, heights, more)
    write = _writer(lanes, activation, more)

    def body(arrays, tables, units, geometry, scratch, task):  # type: ignore[no-untyped-def]
        top, stride = task.top, geometry.stride_y
        area = (task.bottom - top) * geometry.out_width
        pixels = (task.last - task.first) * area
        rows = (task.bottom - top - 1) * stride + geometry.extent
        list_spots(scratch.spots, units, geometry, task)
        for block in range((geometry.channels + geometry.block - 1) // geometry.block):
            c = block * geometry.block
            for unit in range(task.last if geometry.lying else task.first, task.last):
                tile = simd.at(scratch.tile, (unit - task.first) * geometry.unit)
                start = units[unit].source
                fill(tile, arrays.source, start, tables, geometry, c, top * stride, rows)
            for m in range(task.low, task.high, wide):
                multiply(arrays, tables, scratch, geometry, task, m, c, pixels)
                if c + geometry.block < geometry.channels:
                    continue
                maps = min(wide, geometry.maps - m)
                width = (maps + lanes - 1) // lanes * lanes
                sums = (m - task.low) * pixels
                for unit in range(task.first, task.last):
                    place = units[unit].out + m * geometry.out_map + top * geometry.out_width
                    write(
                        simd.at(arrays.out, place), simd.at(arrays.residual, place),
                        simd.at(scratch.sums, sums + (unit - task.first) * area * width), maps,
                        area, width, geometry,
                    )  # fmt: skip

    return (
        "disjoint GemmArrays PackedTables PackedUnit* PackedGeometry* PackedScratch GemmTask",
        body,
    )


@loop
def pack_rows(lanes: int, wide: int) -> Built:
    """Weights (maps, span) of maps low…high − 1, each block of `wide` of them as (span, width)."""
    square = packed_kernel.turn(lanes, False)

    def body(target, weights, maps, span, low, high):  # type: ignore[no-untyped-def]
        for m in range(low, high, wide):
            width = (min(wide, maps - m) + lanes - 1) // lanes * lanes
            for v in range(0, width, lanes):
                left = min(maps - m - v, lanes)
                if left == lanes and span >= lanes:
                    for number in range((span + lanes - 1) // lanes):
                        k = min(number * lanes, span - lanes)
                        square(
                            simd.at(target, m * span + k * width + v), width,
                            simd.at(weights, (m + v) * span + k), span, target, 0.0,
                        )  # fmt: skip
                else:
                    for k in range(span):
                        for j in range(lanes):
                            value = np.float32(0)
                            if j < left:
                                value = weights[(m + v + j) * span + k]
                            target[m * span + k * width + v + j] = value

    return "disjoint f32* f32* i64 i64 i64 i64", body


def pack(weights: Float32, lanes: int, wide: int) -> Float32:
    """Weights (maps, span) as `packed_rows` reads them, maps filled up to whole vectors."""
    maps, span = weights.shape
    target = np.empty(round_up(maps, lanes) * span, np.float32)
    over_bands(maps, wide, pack_rows(lanes, wide).fix(target, weights, maps, span))
    return target


class Product:
    """All that a problem says beside its numbers: as `gemm.Product`."""

    def __init__(self, job: ConvProblem) -> None:
        self._lanes, tall = cache.vectors()[0], packed_kernel.blocks()
        self._wide = self._lanes * len(tall)
        activation = "" if job.activation == "relu" else job.activation
        self._constants = self._lanes, tall, activation, job.residual is not None
        self._layout = Layout.of(job, self._lanes, self._wide)
        *tables, units, geometry = map(jit.address, self._layout.arrays)
        self._records = PackedTables(*tables), units, geometry

    def __call__(
        self,
        out: Float32,
        source: Float32,
        weights: Float32,
        bias: Float32,
        residual: Float32 | None = None,
    ) -> None:
        """Compute out; the arguments are laid out as in the job."""
        maps = bias.size
        rows, form = weights.reshape(maps, -1), (self._lanes, self._wide)
        packed = copies.copy_of(rows, ("packed", *form), lambda: pack(rows, *form))
        biases = np.zeros(round_up(maps, self._lanes), np.float32)
        biases[:maps] = bias.reshape(-1)
        layout = self._layout
        arrays = GemmArrays(out, source, packed, biases, out if residual is None else residual)
        rows_loop = packed_rows(*self._constants).fix(arrays, *self._records)

        def work(first: int, last: int) -> None:
            buffers = PackedScratch(
                scratch.address("tile", layout.tile),
                scratch.address("sums", layout.sums),
                scratch.address("spots", layout.pixels, np.int64),
            )
            for task in layout.tasks[first:last]:
                rows_loop(buffers, task)

        over_bands(len(layout.tasks), 1, work)
