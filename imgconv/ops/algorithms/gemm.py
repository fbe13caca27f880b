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

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.jit import loop as jit
from imgconv.jit import scratch, simd
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.parallel import over_bands
from imgconv.ops import epilogue
from imgconv.ops.algorithms import copies, gemm_layout, packed, tiles
from imgconv.ops.algorithms.gemm_layout import Layout
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import convert_row, even_rows, panel_at
from imgconv.ops.arrays import contiguous
from imgconv.ops.microkernels import copy as copying
from imgconv.ops.microkernels import gemm


def _finisher(lanes: int) -> Helper:
    """A helper that stores those sums that belong to pixels.

    The panels' sums begin at `at`, the first map's output at `base`. Each map is written from end
    to end: writing panel by panel would touch a page a map, again and again.
    """
    copy = copying.copy(lanes)

    def finish(out, base, sums, at, maps, runs, out_map):  # type: ignore[no-untyped-def]
        for m in range(maps):
            place = base + m * out_map
            for run in range(runs[0]):
                copy(
                    out, place + runs[5 * run + 3],
                    sums, at + runs[5 * run + 1] * maps + m * runs[5 * run + 2] + runs[5 * run + 4],
                    runs[5 * run + 5],
                )  # fmt: skip

    return Helper(finish)


def _list_runs(  # type: ignore[no-untyped-def]
    runs, columns, first, panels, lanes, pitch, across, starts, unit, units
):
    """List the runs of pixels among a tile's columns, panel by panel from panel `first` on.

    unit: the first of `units` that take turns, a row of `pitch` columns each, or −1.
    runs: how many; then each one's panel, its panel's width, its offset in a map, its
    first column in the panel, and its length: five places a run.
    """
    count = 0
    vectors = (columns + lanes - 1) // lanes
    for number in range(first, panels):
        place = panel_at(number, vectors, panels)
        p = place[0] * lanes
        width = place[1] * lanes
        end = min(p + width, columns)
        q = p
        while q < end:
            row = q // pitch
            x = q - row * pitch
            # Rows without a gap between them are one run.
            length = end - q if across == pitch and unit < 0 else min(across - x, end - q)
            if length > 0:
                apart = row * across
                if unit >= 0:
                    turn = row // units
                    other = unit + row - turn * units
                    apart = turn * across + starts[3 * other + 1] - starts[3 * unit + 1]
                runs[5 * count + 1] = p
                runs[5 * count + 2] = width
                runs[5 * count + 3] = apart + x
                runs[5 * count + 4] = q - p
                runs[5 * count + 5] = length
                count += 1
                q += length
            else:
                q = (row + 1) * pitch
    runs[0] = count


list_runs = Helper(_list_runs)


def _filler(lanes: int) -> Helper:
    """A helper that fills a tile.

    It takes channels first…last − 1, and for each phase `rows` padded rows from `top` on; `shift`
    columns of every plane are left out. tail: the first of the columns beyond the pixels that
    vectors read, or −1 where they are filled; what memory happens to hold may be subnormal numbers,
    under which a product takes ten times as long.
    """
    copy = copying.copy(lanes)
    fill_rows = copying.fill_rows(lanes)

    def fill(  # type: ignore[no-untyped-def]
        tile, source, start, row_map, col_map, channels, phases, geometry, filling, first, last,
        top, rows, shift, tail,
    ):  # fmt: skip
        pitch = geometry[tiles.PITCH]
        own = geometry[gemm_layout.OWN]
        near = geometry[tiles.NEAR]
        step = geometry[tiles.STEP]
        down_step = geometry[tiles.STRIDE_Y]
        apart = geometry[tiles.ROW_STRIDE]
        line = row_map[top]
        end = top + (rows - 1) * down_step
        # A tile that is a part of the source as it lies.
        level = geometry[gemm_layout.PLAIN] == 2 and line >= 0 and row_map[end] - line == rows - 1
        for c in range(first, last):
            for phase in range(geometry[gemm_layout.PHASES]):
                down, across = phases[4 * phase], phases[4 * phase + 1]
                before, inside = phases[4 * phase + 2], phases[4 * phase + 3]
                plane = (c - first) * geometry[gemm_layout.PHASES] + phase
                at = plane * geometry[tiles.PLANE] + shift
                origin = start + channels[c]
                if tail >= 0:
                    # They may reach into the next plane, which is filled later.
                    for i in range(lanes):
                        tile[at + tail + i] = filling
                if level:
                    copy(tile, at, source, origin + line * apart, rows * pitch)
                    continue
                upper, lower = even_rows(
                    row_map, top + down, down_step, rows if inside > 0 else 0,
                    geometry[tiles.PADDED],
                )  # fmt: skip
                if upper < lower:
                    above = row_map[top + down + upper * down_step]
                    beyond = np.int64(0)
                    if c + copying.AHEAD < geometry[gemm_layout.CHANNELS] and (
                        phase == 0 or phases[4 * phase - 4] != down
                    ):
                        beyond = channels[c + copying.AHEAD] - channels[c]
                    fill_rows(
                        tile, at + upper * pitch, pitch, source,
                        origin + above * apart + across + before * step - near, apart * down_step,
                        lower - upper, before, inside, own - before - inside, step, beyond,
                        filling,
                    )  # fmt: skip
                for side in range(2):
                    for j in range(lower if side else 0, rows if side else upper):
                        padded = top + down + j * down_step
                        line = row_map[padded] if padded < geometry[tiles.PADDED] else np.int64(-1)
                        convert_row(
                            tile, at + j * pitch, source, line, origin + line * apart, across,
                            own, col_map, geometry, filling,
                        )  # fmt: skip
                for i in range(geometry[gemm_layout.SHARED]):
                    tile[at + rows * pitch + i] = filling

    return Helper(fill)


def _joiner(activation: str) -> Helper:
    """A helper that adds the residual to one map's runs, then floor and activation."""
    act = epilogue.activation_of(activation, "f32")

    def join(out, residual, base, runs, floor):  # type: ignore[no-untyped-def]
        for run in range(runs[0]):
            at = base + runs[5 * run + 3]
            for i in range(at, at + runs[5 * run + 5]):
                total = out[i] + residual[i]
                out[i] = act(floor if total < floor else total)

    return Helper(join)


@loop
def product_rows(
    lanes: int, heights: tuple[tuple[int, ...], ...], activation: str, more: bool
) -> Built:
    """Output rows top…bottom − 1 of maps low…high − 1 of units first…last − 1.

    heights: of the micro-kernels for 1, 2, … vectors; a panel is as many vectors as there are.
    more: whether `residual`, laid out as out, is added before the activation.
    """
    most = len(heights)
    widest = most * lanes
    panel = gemm.panel(lanes, heights)
    fill = _filler(lanes)
    copy = copying.copy(lanes)
    finish = _finisher(lanes)
    activate = epilogue.activate_run(activation)
    join = _joiner(activation)

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, residual, values, row_map, col_map, channels, phases, offsets,
        starts, geometry, tile, sums, runs, first, last, top, bottom, low, high,
    ):  # fmt: skip
        pitch = geometry[tiles.PITCH]
        across = geometry[tiles.OUT_WIDTH]
        out_map = geometry[tiles.OUT_MAP]
        maps = high - low
        taps = geometry[gemm_layout.TAPS]
        span = geometry[gemm_layout.CHANNELS] * taps
        step = geometry[gemm_layout.STEP]
        blocks = (geometry[gemm_layout.CHANNELS] + step - 1) // step
        one = (bottom - top - 1) * pitch + across
        lowest = -np.inf
        floor = values[epilogue.OFFSET]
        chunk = geometry[gemm_layout.CHUNK]
        rows = bottom - top - 1 + geometry[gemm_layout.ROWS]
        joined = geometry[gemm_layout.JOINED]
        between = geometry[gemm_layout.APART]
        lying = geometry[gemm_layout.LYING]
        for turn in range((last - first + joined - 1) // joined):
            unit = first + turn * joined
            units = min(joined, last - unit)
            columns = (units - 1) * between + one
            vectors = (columns + lanes - 1) // lanes
            panels = (vectors + most - 1) // most
            each = panels  # panels until a gap that none of them covers
            if geometry[gemm_layout.ROWWISE]:
                columns = (bottom - top) * across
                vectors = across // lanes
                each = (vectors + most - 1) // most
                panels = (bottom - top) * each
            whole = panels if columns % lanes == 0 else panels - 1
            # Whole panels without a gap between rows are summed where the output stands, and read
            # where a 1×1's source does.
            direct = whole if geometry[gemm_layout.DIRECT] else 0
            near = whole if lying else 0
            left = panel_at(near, vectors, panels)[0] * lanes
            if joined > 1:
                list_runs(
                    runs, columns, direct, panels, lanes, between, between, starts, unit, units
                )
            elif turn == 0:
                list_runs(runs, columns, direct, panels, lanes, pitch, across, starts, -1, 1)
            # Maps are counted over all groups: map m is row m of the weights.
            ahead = starts[3 * unit + 2] * geometry[tiles.MAPS]
            base = starts[3 * unit + 1] + top * across - ahead * out_map
            for block in range(blocks):
                c = block * step
                end = min(c + step, geometry[gemm_layout.CHANNELS])
                closing = block == blocks - 1
                here = starts[3 * unit] + channels[c] + top * geometry[tiles.ROW_STRIDE]
                if lying and near < panels:
                    for k in range(end - c):
                        at = k * geometry[tiles.PLANE]
                        copy(tile, at, source, here + offsets[step + k] + left, columns - left)
                        for i in range(at + columns - left, at + vectors * lanes - left):
                            tile[i] = values[epilogue.FILL]
                for k in range(0 if lying else units):
                    tail = (units - 1) * between + (rows - 1) * pitch + geometry[gemm_layout.OWN]
                    tail += geometry[gemm_layout.SHARED]
                    fill(
                        tile, source, starts[3 * (unit + k)], row_map, col_map, channels, phases,
                        geometry, values[epilogue.FILL], c, end, top * geometry[tiles.STRIDE_Y],
                        rows, k * between, -1 if k else tail,
                    )  # fmt: skip
                for part in range((maps + chunk - 1) // chunk):
                    m = ahead + low + part * chunk
                    count = min(chunk, maps - part * chunk)
                    at = part * chunk * panels * widest if blocks > 1 else 0
                    for number in range(panels):
                        row = number // each
                        spot = panel_at(number - row * each, vectors, each)
                        p = row * pitch + spot[0] * lanes
                        width = spot[1] * lanes
                        target = out if number < direct else sums
                        place = base + m * out_map + row * across + spot[0] * lanes
                        if number >= direct:
                            place = at + p * count
                        apart = out_map if number < direct else width
                        data = source if number < near else tile
                        begin = here + p if number < near else p - left
                        ends = closing and (number < direct or not more)
                        panel(
                            simd.at(target, place), simd.at(data, begin),
                            simd.at(offsets, step if number < near else 0),
                            simd.at(weights, m * span + c * taps), simd.at(bias, m),
                            simd.at(residual, place),
                            gemm.Panel(
                                maps=count, width=width, terms=(end - c) * taps, apart=apart,
                                span=span, fresh=block == 0, adds=more and ends,
                                floor=floor if ends else lowest,
                            ),
                        )  # fmt: skip
                        if activation and ends:
                            for k in range(count):
                                activate(target, place + k * apart, width)
                    if closing:
                        finish(out, base + m * out_map, sums, at, count, runs, out_map)
                    if closing and more:
                        for k in range(count):
                            join(out, residual, base + (m + k) * out_map, runs, floor)

    return "disjoint " + "f32* " * 6 + "i64* " * 7 + "f32* f32* i64* " + "i64 " * 6, body


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
        starts = np.empty((len(job.starts_in), 3), np.int64)
        starts[:, 0], starts[:, 1] = job.starts_in, job.starts_out
        starts[:, 2] = np.arange(len(starts)) % groups
        self._arrays = (
            epilogue.make_values("f32", job.fill, 1.0, floor, 1.0), job.row_map, job.col_map,
            np.array(job.channels, np.int64), self.layout.phases, self.layout.offsets, starts,
            self.layout.geometry,
        )  # fmt: skip
        self._addresses = [jit.address(array) for array in self._arrays]  # a microsecond each
        self._tasks = self.layout.tasks(len(job.starts_in), job.out_size[0], maps)
        self._packed = packed.Product(job) if packed.applies(job, self.layout.computed) else None

    def __call__(
        self,
        out: npt.NDArray[np.float32],
        source: npt.NDArray[np.float32],
        weights: npt.NDArray[Any],
        bias: npt.NDArray[Any],
        residual: npt.NDArray[np.float32] | None = None,
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
        rows_loop = product_rows(*self._constants).fix(
            out, source, weights, bias, out if residual is None else residual, *self._addresses
        )

        def work(first: int, last: int) -> None:
            buffers = (
                scratch.address("tile", layout.tile_size),
                scratch.address("sums", layout.sums_size),
                scratch.address("runs", layout.runs_size, np.int64),
            )
            for task in self._tasks[first:last]:
                rows_loop(*buffers, *task)

        over_bands(len(self._tasks), 1, work)
