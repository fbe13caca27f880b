"""Convolution of many channels as a matrix product: (maps × taps) · (taps × pixels).

The right side is never formed. A tile holds a block of channels for some output rows, padded,
and split by the phases of the stride, so that tap (c, ky, kx) of consecutive output pixels is a
run of consecutive floats at a fixed offset: `microkernel` reads it there. Tile rows follow each
other without a gap, so a panel of pixels crosses row ends; what it computes between two rows is
not stored. Where padding is a fill value one column serves as the right border of a row and the
left border of the next: a 7×7 map under 3×3 costs 55 columns for its 49. Rows of whole vectors have
panels of their own instead, which leave the registers for the output: ResNet-50's first layer takes
a fifth less. Small maps of a batch under 1×1 or strided kernels share a tile: four of 7×7 are 13
vectors, not 16.

Weights are read where they lie, as (maps, taps) rows: nothing is packed or copied, which matters
for 100 million weights and a batch of one; networks that are played again have `packed`. Sums are
added in the order (c, ky, kx) whatever the tiles, so results do not depend on threads, tiles or
batch.
"""

from typing import NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit import scratch, simd
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.parallel import over_bands
from imgconv.jit.record import array, dtype_of
from imgconv.ops import epilogue
from imgconv.ops.algorithms import copies, gemm_tile, packed, packed_layout, tiles
from imgconv.ops.algorithms.gemm_geometry import (
    GemmArrays,
    GemmCut,
    GemmRun,
    GemmScratch,
    GemmTables,
    GemmUnit,
)
from imgconv.ops.algorithms.gemm_layout import Layout
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import panel_at
from imgconv.ops.arrays import contiguous
from imgconv.ops.microkernels import copy as copying
from imgconv.ops.microkernels import gemm
from imgconv.typing import Array, Float32


@loop
def finish_runs(lanes: int) -> Built:
    """Store those sums that belong to pixels.

    `sums` are the panels', `out` is the first map's output. Each map is written from end to end:
    writing panel by panel would touch a page a map, again and again.
    """
    copy = copying.copy(lanes)

    def body(out, out_map, sums, maps, runs, count):  # type: ignore[no-untyped-def]
        for m in range(maps):
            for number in range(count):
                run = runs[number]
                first = run.panel * maps + m * run.width + run.column
                copy(simd.at(out, m * out_map + run.place), simd.at(sums, first), run.length)

    return "disjoint f32* i64 f32* i64 GemmRun* i64", body


def _cutter(lanes: int, most: int) -> Helper:
    """A helper (geometry, rows, units) that cuts `rows` rows of outputs of joined units."""

    def cut(geometry, rows, units):  # type: ignore[no-untyped-def]
        across = geometry.out_width
        columns = (units - 1) * geometry.apart + (rows - 1) * geometry.pitch + across
        vectors = (columns + lanes - 1) // lanes
        panels = (vectors + most - 1) // most
        each = panels
        if geometry.rowwise:
            columns = rows * across
            vectors = across // lanes
            each = (vectors + most - 1) // most
            panels = rows * each
        # Whole panels without a gap between rows are summed where the output stands, and read
        # where a 1×1's source does.
        whole = panels if columns % lanes == 0 else panels - 1
        direct = whole if geometry.direct else 0
        near = whole if geometry.lying else 0
        left = panel_at(near, vectors, panels)[0] * lanes
        return GemmCut(columns, vectors, panels, each, direct, near, left)

    return Helper(cut)


def _lister(lanes: int) -> Helper:
    """A helper that lists the runs of pixels among a tile's columns and returns how many.

    Of the panels from the first that is not `direct` on. unit: the first of `count` that take
    turns, of which each row of columns has one, or −1.
    """

    def list_runs(runs, cut, pitch, across, units, unit, count):  # type: ignore[no-untyped-def]
        listed = 0
        for number in range(cut.direct, cut.panels):
            spot = panel_at(number, cut.vectors, cut.panels)
            first, width = spot[0] * lanes, spot[1] * lanes
            end = min(first + width, cut.columns)
            column = first
            while column < end:
                row = column // pitch
                x = column - row * pitch
                # Rows without a gap between them are one run.
                length = end - column
                if across != pitch or unit >= 0:
                    length = min(across - x, length)
                if length > 0:
                    place = row * across
                    if unit >= 0:
                        turn = row // count
                        other = unit + row - turn * count
                        place = turn * across + units[other].out - units[unit].out
                    run = runs[listed]
                    run.panel, run.width, run.place = first, width, place + x
                    run.column, run.length = column - first, length
                    listed += 1
                    column += length
                else:
                    column = (row + 1) * pitch
        return listed

    return Helper(list_runs)


def _joiner(activation: str) -> Helper:
    """A helper that adds the residual to one map's runs, then floor and activation."""
    act = epilogue.activation_of(activation, "f32")

    def join(out, residual, runs, count, floor):  # type: ignore[no-untyped-def]
        for number in range(count):
            at = runs[number].place
            for i in range(at, at + runs[number].length):
                total = out[i] + residual[i]
                out[i] = act(floor if total < floor else total)

    return Helper(join)


class Block(NamedTuple):
    """Channels first…end − 1, and where the sums of `maps` maps from map m on stand.

    pixels: of the first channel in the source. out, sums: of the first map in the output and among
    the sums. closing: whether these are the last channels.
    """

    first: int
    end: int
    m: int
    maps: int
    pixels: int
    out: int
    sums: int
    closing: bool


def _multiplier(lanes: int, heights: gemm.Heights, activation: str, more: bool) -> Helper:
    """A helper that adds a block's products to its sums, panel by panel."""
    panel = gemm.panel(lanes, heights)
    activate = epilogue.activated(activation)

    def multiply(arrays, tables, scratch, geometry, cut, block):  # type: ignore[no-untyped-def]
        taps, span = geometry.taps, geometry.channels * geometry.taps
        weights = simd.at(arrays.weights, block.m * span + block.first * taps)
        for number in range(cut.panels):
            row = number // cut.each
            spot = panel_at(number - row * cut.each, cut.vectors, cut.each)
            first, width = row * geometry.pitch + spot[0] * lanes, spot[1] * lanes
            direct, near = number < cut.direct, number < cut.near
            target = arrays.out if direct else scratch.sums
            place = block.sums + first * block.maps
            if direct:
                place = block.out + row * geometry.out_width + spot[0] * lanes
            apart = geometry.out_map if direct else width
            ends = block.closing and (direct or not more)
            panel(
                simd.at(target, place),
                simd.at(arrays.source, block.pixels + first)
                if near else simd.at(scratch.tile, first - cut.left),
                simd.at(tables.offsets, geometry.block if near else 0), weights,
                simd.at(arrays.bias, block.m), simd.at(arrays.residual, place),
                gemm.Panel(
                    maps=block.maps, width=width, terms=(block.end - block.first) * taps,
                    apart=apart, span=span, fresh=block.first == 0, adds=more and ends,
                    floor=geometry.floor if ends else -np.inf,
                ),
            )  # fmt: skip
            if activate is not None:
                for k in range(block.maps if ends else 0):
                    activate(target, place + k * apart, width)

    return Helper(multiply)


@loop
def product_rows(lanes: int, heights: gemm.Heights, activation: str, more: bool) -> Built:
    """A task: turns of joined units, of each the blocks of channels, of each the parts of the maps.

    heights: of the micro-kernels for 1, 2, … vectors; a panel is as many vectors as there are.
    more: whether the residual is added before the activation.
    """
    widest = len(heights) * lanes
    cutter, list_runs = _cutter(lanes, len(heights)), _lister(lanes)
    fill = gemm_tile.filled_tile.part(lanes)
    multiply = _multiplier(lanes, heights, activation, more)
    finish, join = finish_runs.part(lanes), _joiner(activation)

    def body(arrays, tables, units, geometry, scratch, task):  # type: ignore[no-untyped-def]
        top, out_map, joined = task.top, geometry.out_map, geometry.joined
        runs, maps = 0, task.high - task.low
        for turn in range((task.last - task.first + joined - 1) // joined):
            unit = task.first + turn * joined
            count = min(joined, task.last - unit)
            cut = cutter(geometry, task.bottom - top, count)
            # Rows of a tile take turns among joined units; those of one are the same each turn.
            if joined > 1 or turn == 0:
                pitch, across, first = geometry.pitch, geometry.out_width, np.int64(-1)
                if joined > 1:
                    pitch, across, first = geometry.apart, geometry.apart, unit
                runs = list_runs(scratch.runs, cut, pitch, across, units, first, count)
            # Maps are counted over all groups: map m is row m of the weights.
            ahead = units[unit].group * geometry.maps
            base = units[unit].out + top * geometry.out_width - ahead * out_map
            for number in range((geometry.channels + geometry.block - 1) // geometry.block):
                first = number * geometry.block
                end = min(first + geometry.block, geometry.channels)
                fill(scratch.tile, arrays.source, tables, units, geometry, cut, task, unit, first)
                pixels = units[unit].source + tables.channels[first] + top * geometry.row_stride
                for chunk in range((maps + geometry.chunk - 1) // geometry.chunk):
                    low = chunk * geometry.chunk
                    m, part = ahead + task.low + low, min(geometry.chunk, maps - low)
                    # Sums of a first block are taken up by the next one.
                    sums = low * cut.panels * widest if geometry.block < geometry.channels else 0
                    closing = end == geometry.channels
                    out = base + m * out_map
                    block = Block(first, end, m, part, pixels, out, sums, closing)
                    multiply(arrays, tables, scratch, geometry, cut, block)
                    if closing:
                        finish(
                            simd.at(arrays.out, out), out_map, simd.at(scratch.sums, sums), part,
                            scratch.runs, runs,
                        )  # fmt: skip
                    if more:
                        for k in range(part if closing else 0):
                            place = out + k * out_map
                            join(
                                simd.at(arrays.out, place), simd.at(arrays.residual, place),
                                scratch.runs, runs, geometry.floor,
                            )  # fmt: skip

    return "disjoint GemmArrays GemmTables GemmUnit* GemmGeometry* GemmScratch GemmTask", body


def offer(job: ConvProblem) -> Candidate | None:
    """For banks of several channels or maps, judged by one image's layer alone."""
    groups, maps, channels, kh, kw = job.weights.shape
    taps = channels * kh * kw
    if not job.is_plain or job.out_size[1] > tiles.WIDEST:
        return None
    if not ((maps >= 4 and taps >= 8) or taps >= 64 or groups >= 8):
        return None
    # Where one map alone meets a loaded pixel, the load counts: 9×9 3.9 on large planes.
    cost = 0.05 + 0.01 * taps if maps > 1 else 0.3 + traffic(job) + 0.03 * taps
    return Candidate("gemm", cost, f"matrix product, {maps} maps of {taps} taps")


class Product:
    """All that a job says beside its numbers: an output of the same shapes is one call."""

    def __init__(self, job: ConvProblem) -> None:
        groups, maps = job.weights.shape[:2]
        lanes, heights = gemm.blocks() if maps > 1 else gemm.lines()
        self.layout = Layout.of(job, lanes, lanes * len(heights))
        # ReLU costs nothing where the sums leave the registers: no pass of its own.
        floor, activation = (0.0, "") if job.activation == "relu" else (-np.inf, job.activation)
        self._constants = lanes, heights, activation, job.residual is not None
        starts = zip(job.starts_in, job.starts_out, strict=True)
        self._arrays = (
            job.row_map, job.col_map, np.array(job.channels, np.int64), self.layout.phases,
            self.layout.offsets,
            array(*(GemmUnit(*start, unit % groups) for unit, start in enumerate(starts))),
            array(self.layout.geometry._replace(fill=job.fill, floor=floor)),
        )  # fmt: skip
        *tables, units, geometry = map(jit.address, self._arrays)  # a microsecond each
        self._records = GemmTables(*tables), units, geometry
        self._tasks = self.layout.tasks(len(job.starts_in), job.out_size[0], maps)
        self._packed = (
            packed.Product(job) if packed_layout.applies(job, self.layout.computed) else None
        )

    def __call__(
        self,
        out: Float32,
        source: Float32,
        weights: Array,
        bias: Array,
        residual: Float32 | None = None,
    ) -> None:
        """Compute out; source, weights (groups, M, …) and bias are laid out as in the job.

        residual: for a job with one; it is added while a task's outputs are in registers.
        """
        layout = self.layout
        weights = contiguous(weights, np.float32)
        bias = np.ascontiguousarray(bias, np.float32)
        if self._packed is not None and copies.wanted():
            self._packed(out, source, weights, bias, residual)
            return
        arrays = GemmArrays(out, source, weights, bias, out if residual is None else residual)
        rows_loop = product_rows(*self._constants).fix(arrays, *self._records)

        def work(first: int, last: int) -> None:
            buffers = GemmScratch(
                scratch.address("tile", layout.tile_size),
                scratch.address("sums", layout.sums_size),
                scratch.address("runs", layout.runs_size, dtype_of(GemmRun)),
            )
            for task in self._tasks[first:last]:
                rows_loop(buffers, task)

        over_bands(len(self._tasks), 1, work)
