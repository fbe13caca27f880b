"""3×3 convolutions of many channels in a quarter of the multiplications: F(4×4, 3×3).

A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: tiles of 6×6
padded pixels, four apart, and the kernels are transformed to 36 numbers each; for each of the 36
places the channels are summed by a matrix product; an inverse transform gives 4×4 outputs a tile.

A transform spreads a pixel's rounding over its tile. Where the largest pixel is more than 2¹⁰
times the largest that one of the tile's outputs sees, or not finite, these outputs are summed tap
by tap (`_mark_tiles`): a NaN, an infinity or a 1e30 reaches no output that does not see it. The
tiles' grid begins at the map's corner and channels are summed in order, so results do not depend
on how work is divided.

Kernels are transformed for each call, so small maps, which would pay for that with too few pixels,
are left to `matmul`. A network that is played again keeps them in four times the memory of the
weights: 512 to 512 maps at 28×28 then take 7.8 ms instead of 14.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.jit import loop as jit
from imgconv.jit import scratch
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.parallel import num_threads, over_bands
from imgconv.ops import epilogue
from imgconv.ops.algorithms import copies, tiles
from imgconv.ops.algorithms.problem import Candidate, ConvProblem
from imgconv.ops.algorithms.tiles import convert_row, panel_at, round_up
from imgconv.ops.arrays import contiguous
from imgconv.ops.microkernels import copy as copying
from imgconv.ops.microkernels import gemm

SIDE = 4  # outputs of a tile
SEEN = 6  # pixels of a tile
PLACES = SEEN * SEEN
LEAST_MAPS = 16
LEAST_AREA = 576  # outputs a map
TILES = 160  # a task: fewer, and transforming the kernels counts; more, and nothing stays near
MAPS = 64  # maps whose transformed kernels are kept at once
VECTOR = 16

# The tiles' polynomials are multiplied at 0, ±5/8, ±3/2 and infinity. Errors are then half of those
# at 0, ±1 and ±2, since no power of a point is far from 1 (S. A. Alam et al., "Winograd Convolution
# for Deep Neural Networks: Efficient Point Selection", ACM TECS 21(6), 2022); and every number but
# the kernels' is exact.
_near, _far = 5 / 8, 3 / 2
_NEAR, _NEAR2, _NEAR3, _FAR, _FAR2, _FAR3, _BOTH2, _SUM2 = (
    np.float32(value)
    for value in (_near, _near**2, _near**3, _far, _far**2, _far**3, (_near * _far) ** 2,
                  _near**2 + _far**2)
)  # fmt: skip
_G_NONE, _G_NEAR, _G_NEAR1, _G_FAR, _G_FAR1 = (
    np.float32(value)
    for value in (1 / (_near * _far) ** 2, 1 / (2 * _near**2 * (_near**2 - _far**2)),
                  1 / (2 * _near * (_near**2 - _far**2)), 1 / (2 * _far**2 * (_far**2 - _near**2)),
                  1 / (2 * _far * (_far**2 - _near**2)))
)  # fmt: skip

# Bits: 2¹⁰ times a number, what counts for 0, and what might overflow where tiles are transformed.
SPREAD = 10 << 23
NOTHING, HUGE = (int(np.float32(value).view(np.int32)) for value in (16, 1e30))

# Places in the loop's geometry, after those of `tiles`.
CHANNELS, ACROSS, COLUMNS, OUT_HEIGHT, FIELDS = range(tiles.FIELDS, tiles.FIELDS + 5)


def _inputs(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """Bᵀ of six numbers."""
    p, q = e - _FAR2 * c, d - _FAR2 * b
    r, s = e - _NEAR2 * c, d - _NEAR2 * b
    return (
        _BOTH2 * a - _SUM2 * c + e, p + _NEAR * q, p - _NEAR * q, r + _FAR * s, r - _FAR * s,
        _BOTH2 * b - _SUM2 * d + f,
    )  # fmt: skip


def _kernels(a, b, c):  # type: ignore[no-untyped-def]
    """G of three numbers."""
    p, r = _G_NEAR * (a + _NEAR2 * c), _G_NEAR1 * b
    s, t = _G_FAR * (a + _FAR2 * c), _G_FAR1 * b
    return _G_NONE * a, p + r, p - r, s + t, s - t, c


def _outputs(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """Aᵀ of six numbers."""
    p, q, r, s = b + c, b - c, d + e, d - e
    return (
        a + p + r, _NEAR * q + _FAR * s, _NEAR2 * p + _FAR2 * r, _NEAR3 * q + _FAR3 * s + f,
    )  # fmt: skip


def _magnitude(value):  # type: ignore[no-untyped-def]
    """The bits of |value|, which are in the order of numbers; NaN comes after infinity."""
    return np.int32(np.float32(value).view(np.int32) & np.int32(0x7FFFFFFF))


magnitude = Helper(_magnitude)
inputs, kernels, outputs = Helper(_inputs), Helper(_kernels), Helper(_outputs)


def _transform_kernels(target, to, weights, w, planes, maps, channels):  # type: ignore[no-untyped-def]
    """target[to…] as [t][m][c] from weights[w…] (maps, channels, 3, 3)."""
    for m in range(maps):
        row = w + m * channels * 9
        for t in range(9):
            for c in range(channels):
                planes[t * channels + c] = weights[row + 9 * c + t]
        # Columns first: six rows of three, after the nine planes.
        for j in range(3):
            for c in range(channels):
                u = kernels(
                    planes[j * channels + c], planes[(3 + j) * channels + c],
                    planes[(6 + j) * channels + c],
                )  # fmt: skip
                at = (9 + j) * channels + c
                planes[at] = u[0]
                planes[at + 3 * channels] = u[1]
                planes[at + 6 * channels] = u[2]
                planes[at + 9 * channels] = u[3]
                planes[at + 12 * channels] = u[4]
                planes[at + 15 * channels] = u[5]
        for i in range(6):
            near = (9 + 3 * i) * channels
            at = to + (6 * i * maps + m) * channels
            step = maps * channels
            for c in range(channels):
                u = kernels(
                    planes[near + c], planes[near + channels + c], planes[near + 2 * channels + c]
                )
                target[at + c] = u[0]
                target[at + step + c] = u[1]
                target[at + 2 * step + c] = u[2]
                target[at + 3 * step + c] = u[3]
                target[at + 4 * step + c] = u[4]
                target[at + 5 * step + c] = u[5]


transform_kernels = Helper(_transform_kernels)


def _transform_inputs(  # type: ignore[no-untyped-def]
    target, rows, marks, source, start, row_map, col_map, channels, geometry, filling, top, bottom
):
    """target[t][c][p] for the tiles of tile rows top…bottom − 1.

    marks: the bits of the largest |pixel| of all channels, for each padded row and column.
    """
    across, columns = geometry[ACROSS], geometry[COLUMNS]
    count = geometry[CHANNELS]
    pitch = geometry[tiles.PITCH]
    seen = (SIDE * across + 2 + 15) // 16 * 16
    whole = (across + 15) // 16 * 16  # what is beyond is written over, or lies between two rows
    step = count * columns
    # Tiles beyond the last are summed too: left as memory was, they may be subnormal numbers.
    end = ((bottom - top) * across - 1) // 16 * 16
    for c in range(count):
        for t in range(PLACES):
            for i in range(16):
                target[t * step + c * columns + end + i] = filling
        for y in range(top, bottom):
            for i in range(6):
                padded = 4 * y + i
                line = row_map[padded] if padded < geometry[tiles.PADDED] else np.int64(-1)
                row = start + channels[c] + line * geometry[tiles.ROW_STRIDE]
                convert_row(
                    rows, i * pitch, source, line, row, 0, 4 * across + 2, col_map, geometry,
                    filling,
                )  # fmt: skip
            # The tiles' last two rows are the first of those below.
            for i in range(SEEN if y == bottom - 1 else SIDE):
                most = ((y - top) * SIDE + i) * pitch
                for x in range(seen):
                    size = magnitude(rows[i * pitch + x])
                    marks[most + x] = size if c == 0 else max(size, marks[most + x])
            for x in range(pitch):
                v = inputs(
                    rows[x], rows[pitch + x], rows[2 * pitch + x], rows[3 * pitch + x],
                    rows[4 * pitch + x], rows[5 * pitch + x],
                )  # fmt: skip
                rows[x] = v[0]
                rows[pitch + x] = v[1]
                rows[2 * pitch + x] = v[2]
                rows[3 * pitch + x] = v[3]
                rows[4 * pitch + x] = v[4]
                rows[5 * pitch + x] = v[5]
            for i in range(6):
                at = (6 * i * count + c) * columns + (y - top) * across
                row = i * pitch
                for x in range(whole):
                    near = row + 4 * x
                    v = inputs(
                        rows[near], rows[near + 1], rows[near + 2], rows[near + 3],
                        rows[near + 4], rows[near + 5],
                    )  # fmt: skip
                    target[at + x] = v[0]
                    target[at + step + x] = v[1]
                    target[at + 2 * step + x] = v[2]
                    target[at + 3 * step + x] = v[3]
                    target[at + 4 * step + x] = v[4]
                    target[at + 5 * step + x] = v[5]


transform_inputs = Helper(_transform_inputs)


def _mark_tiles(marks, at, geometry, top, bottom):  # type: ignore[no-untyped-def]
    """Mark the tiles of rows top…bottom − 1 whose outputs are summed one by one, from marks[at] on.

    Each is one where the largest pixel of a tile is beyond SPREAD times the largest that some
    output sees, beyond HUGE or not a number. Return how many there are. marks: those of
    `transform_inputs`; between them and `at` is room for two rows.
    """
    across, pitch, width = geometry[ACROSS], geometry[tiles.PITCH], geometry[tiles.OUT_WIDTH]
    high, low = at - 2 * pitch, at - pitch
    count = 0
    for y in range(top, bottom):
        base = (y - top) * SIDE * pitch
        for x in range(SIDE * across + 2):
            most = marks[base + x]
            for i in range(1, SEEN):
                most = max(most, marks[base + i * pitch + x])
            marks[high + x] = most
        for i in range(min(SIDE, geometry[OUT_HEIGHT] - SIDE * y)):
            place = base + i * pitch
            for x in range(width):
                most = marks[place + x]
                for j in range(3):
                    for k in range(3):
                        most = max(most, marks[place + j * pitch + x + k])
                marks[low + x] = most if i == 0 else min(most, marks[low + x])
        most, least = marks[high], marks[low]
        for x in range(width):
            least = min(least, marks[low + x])
        for x in range(SIDE * across + 2):
            most = max(most, marks[high + x])
        for tile in range(across):
            marks[at + (y - top) * across + tile] = 0
        if least > 0 and np.int64(most) <= np.int64(least) + SPREAD and most < HUGE:
            continue
        for tile in range(across):
            x = SIDE * tile
            most, least = marks[high + x], marks[low + x]
            for i in range(SEEN):
                most = max(most, marks[high + x + i])
            for i in range(min(SIDE, width - x)):
                least = min(least, marks[low + x + i])
            least = least if least > 0 else NOTHING
            if np.int64(most) > np.int64(least) + SPREAD or most >= HUGE:
                marks[at + (y - top) * across + tile] = 1
                count += 1
    return count


mark_tiles = Helper(_mark_tiles)


def _one_by_one(activation: str) -> Helper:
    """A helper that sums one map's outputs of the marked tiles in the usual way."""
    act = epilogue.activation_of(activation, "f32")

    def compute(  # type: ignore[no-untyped-def]
        out, place, source, start, weights, w, bias, floor, filling, marks, at, row_map, col_map,
        channels, geometry, top, bottom,
    ):  # fmt: skip
        across, width = geometry[ACROSS], geometry[tiles.OUT_WIDTH]
        for tile in range((bottom - top) * across):
            if marks[at + tile] == 0:
                continue
            first_row = SIDE * (top + tile // across)
            first = SIDE * (tile - tile // across * across)
            for y in range(first_row, min(first_row + SIDE, geometry[OUT_HEIGHT])):
                for x in range(first, min(first + SIDE, width)):
                    total = bias
                    for c in range(geometry[CHANNELS]):
                        for i in range(3):
                            line = row_map[y + i]
                            row = start + channels[c] + line * geometry[tiles.ROW_STRIDE]
                            for j in range(3):
                                column = col_map[x + j]
                                value = filling
                                if line >= 0 and column >= 0:
                                    value = source[row + column * geometry[tiles.PIXEL_STRIDE]]
                                total += weights[w + 9 * c + 3 * i + j] * value
                    out[place + y * width + x] = act(floor if total < floor else total)

    return Helper(compute)


def _writer(lanes: int, most: int, activation: str) -> Helper:
    """A helper that transforms one map's sums to outputs and stores them."""
    copy = copying.copy(lanes)
    act = epilogue.activation_of(activation, "f32")

    def write(  # type: ignore[no-untyped-def]
        out, place, sums, rows, m, maps, bias, floor, geometry, top, bottom
    ):
        across, columns = geometry[ACROSS], geometry[COLUMNS]
        count = (bottom - top) * across
        step = maps * columns
        # Four rows of outputs for all tiles, after the six rows of the first transform.
        lines = 24 * columns
        vectors = (count + lanes - 1) // lanes
        panels = (vectors + most - 1) // most
        for number in range(panels):
            panel = panel_at(number, vectors, panels)
            first, width = panel[0] * lanes, panel[1] * lanes
            at = first * maps + m * width
            for j in range(6):
                for i in range(width):
                    s = at + j * step + i
                    v = outputs(
                        sums[s], sums[s + 6 * step], sums[s + 12 * step], sums[s + 18 * step],
                        sums[s + 24 * step], sums[s + 30 * step],
                    )  # fmt: skip
                    r = j * columns + first + i
                    rows[r] = v[0]
                    rows[r + 6 * columns] = v[1]
                    rows[r + 12 * columns] = v[2]
                    rows[r + 18 * columns] = v[3]
        for r in range(4):
            near = 6 * r * columns
            to = lines + r * 4 * columns
            for i in range((count + 15) // 16 * 16):
                v = outputs(
                    rows[near + i], rows[near + columns + i], rows[near + 2 * columns + i],
                    rows[near + 3 * columns + i], rows[near + 4 * columns + i],
                    rows[near + 5 * columns + i],
                )  # fmt: skip
                rows[to + 4 * i] = v[0] + bias
                rows[to + 4 * i + 1] = v[1] + bias
                rows[to + 4 * i + 2] = v[2] + bias
                rows[to + 4 * i + 3] = v[3] + bias
        for i in range(lines, lines + 16 * columns):
            value = rows[i]
            rows[i] = act(floor if value < floor else value)
        for y in range(top, bottom):
            for r in range(min(4, geometry[OUT_HEIGHT] - 4 * y)):
                copy(
                    out, place + (4 * y + r) * geometry[tiles.OUT_WIDTH],
                    rows, lines + 4 * (r * columns + (y - top) * across),
                    geometry[tiles.OUT_WIDTH],
                )  # fmt: skip

    return Helper(write)


@loop
def turn_kernels() -> Built:
    """The transformed kernels of maps low…high − 1, MAPS by MAPS from place 0 on."""

    def body(target, weights, planes, count, low, high):  # type: ignore[no-untyped-def]
        for first in range(low, high, MAPS):
            maps = min(MAPS, high - first)
            transform_kernels(
                target, first * PLACES * count, weights, first * count * 9, planes, maps, count
            )  # fmt: skip

    return "disjoint f32* f32* f32* i64 i64 i64", body


@loop
def winograd_rows(lanes: int, heights: gemm.Heights, activation: str, kept: bool) -> Built:
    """Tile rows top…bottom − 1 of maps low…high − 1 of a unit.

    kept: whether `turned` has the transformed kernels of all maps, as `turn_kernels` leaves them.
    """
    most = len(heights)
    panel = gemm.panel(lanes, heights)
    write = _writer(lanes, most, activation)
    sum_tiles = _one_by_one(activation)

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, values, row_map, col_map, channels, offsets, starts, geometry,
        rows, pixels, turned, sums, marks, zeros, unit, top, bottom, low, high,
    ):  # fmt: skip
        count = geometry[CHANNELS]
        columns = geometry[COLUMNS]
        held = (bottom - top) * geometry[ACROSS]
        vectors = (held + lanes - 1) // lanes
        panels = (vectors + most - 1) // most
        lowest = np.float32(-np.inf)
        transform_inputs(
            pixels, rows, marks, source, starts[3 * unit], row_map, col_map, channels, geometry,
            values[epilogue.FILL], top, bottom,
        )  # fmt: skip
        at = ((bottom - top) * SIDE + 4) * geometry[tiles.PITCH]
        marked = mark_tiles(marks, at, geometry, top, bottom)
        ahead = starts[3 * unit + 2] * geometry[tiles.MAPS]
        for first in range(low, high, MAPS):
            maps = min(MAPS, high - first)
            m = ahead + first
            begin = m * PLACES * count if kept else 0
            if not kept:
                transform_kernels(turned, 0, weights, m * count * 9, rows, maps, count)
            for t in range(PLACES):
                for number in range(panels):
                    place = panel_at(number, vectors, panels)
                    p = place[0] * lanes
                    width = place[1] * lanes
                    panel(
                        sums, t * maps * columns + p * maps, width, pixels,
                        t * count * columns + p, offsets, 0, turned, begin + t * maps * count,
                        count, count, maps, width, zeros, 0, 1, lowest, zeros, 0,
                    )  # fmt: skip
            for k in range(maps):
                write(
                    out, starts[3 * unit + 1] + (first + k) * geometry[tiles.OUT_MAP], sums, rows,
                    k, maps, bias[m + k], values[epilogue.OFFSET], geometry, top, bottom,
                )  # fmt: skip
            for k in range(maps if marked else 0):
                sum_tiles(
                    out, starts[3 * unit + 1] + (first + k) * geometry[tiles.OUT_MAP], source,
                    starts[3 * unit], weights, (m + k) * count * 9, bias[m + k],
                    values[epilogue.OFFSET], values[epilogue.FILL], marks, at, row_map, col_map,
                    channels, geometry, top, bottom,
                )  # fmt: skip

    kinds = "f32* " * 5 + "i64* " * 6 + "f32* " * 4 + "i32* f32* " + "i64 " * 5
    return "disjoint " + kinds, body


def offer(job: ConvProblem) -> Candidate | None:
    """For 3×3 over many channels and maps and enough outputs of one image."""
    maps, channels, *kernel = job.weights.shape[1:]
    height, width = job.out_size
    if not job.is_plain or kernel != [3, 3] or not job.stride == job.dilation == (1, 1):
        return None
    if min(maps, channels) < LEAST_MAPS or height * width < LEAST_AREA or width > tiles.WIDEST:
        return None
    taps = 9 * channels
    reason = f"Winograd, transformed tiles of 4×4 outputs, {maps} maps of {taps} taps"
    return Candidate("winograd", 0.05 + 0.003 * taps, reason)


class Product:
    """All that a job says beside its numbers: as `matmul.Product`."""

    def __init__(self, job: ConvProblem) -> None:
        groups, maps, channels = job.weights.shape[:3]
        height, width = job.out_size
        lanes, heights = gemm.blocks()
        floor, activation = (0.0, "") if job.activation == "relu" else (-np.inf, job.activation)
        self._constants = lanes, heights, activation
        self._kernels = groups, maps, channels
        self._values = epilogue.make_values("f32", job.fill, 1.0, floor, 1.0)
        units = len(job.starts_in)
        self._starts = np.empty((units, 3), np.int64)
        self._starts[:, 0], self._starts[:, 1] = job.starts_in, job.starts_out
        self._starts[:, 2] = np.arange(units) % groups
        self._channels = np.array(job.channels, np.int64)
        self._row_map = job.row_map
        across, down = -(-width // SIDE), -(-height // SIDE)
        bands = max(1, round(across * down / TILES))
        # A thread that waits costs more than kernels transformed twice.
        bands = max(bands, min(down, -(-num_threads() // units)))
        tall = -(-down // bands)
        # Columns beyond the last are read as fill, and give outputs that are not stored.
        pitch = SIDE * round_up(across, VECTOR) + VECTOR
        self._col_map = job.col_map
        if len(self._col_map) < pitch:
            spare = np.full(pitch - len(self._col_map), -1, np.int64)
            self._col_map = np.concatenate([self._col_map, spare])
        columns = round_up(tall * across, VECTOR) + VECTOR
        geometry = np.zeros(FIELDS, np.int64)
        for place, value in {
            tiles.ROW_STRIDE: job.row_stride, tiles.PIXEL_STRIDE: job.pixel_stride, tiles.RUN: 1,
            tiles.MAPS: maps, tiles.OUT_WIDTH: width, tiles.OUT_MAP: job.out_map, tiles.STEP: 1,
            tiles.NEAR: job.near, tiles.WIDTH: job.width, tiles.PITCH: pitch,
            tiles.PADDED: len(job.row_map), CHANNELS: channels, ACROSS: across, COLUMNS: columns,
            OUT_HEIGHT: height,
        }.items():  # fmt: skip
            geometry[place] = value
        self._geometry = geometry
        self._offsets = np.arange(channels, dtype=np.int64) * columns
        kept = min(MAPS, maps)
        self._sizes = {
            "rows": max(SEEN * pitch, 27 * channels, 40 * columns) + VECTOR,
            "tile": PLACES * channels * columns + 4 * VECTOR * len(heights),
            "kernels": PLACES * kept * channels,
            "sums": PLACES * kept * columns,
            "marks": (tall * SIDE + 4) * pitch + tall * across,
        }
        self._zeros = np.zeros(kept, np.float32)
        self._tasks = [
            (unit, top, min(top + tall, down), 0, maps)
            for unit in range(units) for top in range(0, down, tall)
        ]  # fmt: skip

    def __call__(
        self, out: npt.NDArray[np.float32], source: npt.NDArray[np.float32],
        weights: npt.NDArray[Any], bias: npt.NDArray[Any],
    ) -> None:  # fmt: skip
        """Compute out; source, weights (groups, M, …) and bias are laid out as in the job."""
        weights = contiguous(weights, np.float32)
        kept = None
        if copies.wanted():
            kept = copies.copy_of(weights, ("transformed",), lambda: self._transformed(weights))
        rows_loop = winograd_rows(*self._constants, kept is not None).fix(
            out, source, weights,
            np.ascontiguousarray(bias, np.float32), self._values, self._row_map, self._col_map,
            self._channels, self._offsets, self._starts, self._geometry,
        )  # fmt: skip

        def work(first: int, last: int) -> None:
            buffers = [
                jit.address(kept) if kept is not None and name == "kernels"
                else scratch.address(name, size)
                for name, size in self._sizes.items()
            ]  # fmt: skip
            for task in self._tasks[first:last]:
                rows_loop(*buffers, self._zeros, *task)

        over_bands(len(self._tasks), 1, work)

    def _transformed(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        groups, maps, channels = self._kernels
        target = np.empty(groups * maps * PLACES * channels, np.float32)
        turn = turn_kernels().fix(target, weights)

        def work(first: int, last: int) -> None:
            planes = scratch.address("rows", self._sizes["rows"])
            for group in range(groups):
                turn(planes, channels, group * maps + first, group * maps + last)

        over_bands(maps, MAPS, work)
        return target
