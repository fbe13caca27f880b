"""Matrix products whose weights were laid out before: maps in the lanes, not pixels.

Small maps fill no vectors of pixels: 7×7 outputs take 4 vectors of 16, and under 3×3 with its
borders 14×14 take 14 where 12.25 would do. Maps do, so here V vectors of maps meet R pixels, each
of them one float that is read where it lies. What that needs is weights in the order
(block of maps, tap, map), a copy that a network makes once it is played again (`replay`).

Each sum is added in the same order as in `matmul`, (c, ky, kx) onto the bias, so its bits are the
same; and a task may take other images or maps than there.
"""

import numpy as np
import numpy.typing as npt

from imgconv.jit import cache, scratch
from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.parallel import num_threads, over_bands
from imgconv.ops import epilogue
from imgconv.ops.algorithms import copies, tiles
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.algorithms.tiles import even_rows, round_up
from imgconv.ops.microkernels import copy
from imgconv.ops.microkernels import packed as packed_kernel
from imgconv.ops.microkernels.gemm import Heights

# Places in the loop's geometry, after those of `tiles`.
CHANNELS, STEP, TAPS, UNIT, LYING, FIELDS = range(tiles.FIELDS, tiles.FIELDS + 6)

STEPS = 96  # taps of a block: with 64 maps their weights are 24 kB of the L1
PIXELS = 400  # a task, of several images where one has fewer
SUMS = 110_000  # floats of sums kept between blocks of taps
WASTE = 1.05  # pixels that `matmul` computes for each output, from which on this is better


def _fill(lanes: int) -> Helper:
    """A helper that puts channels first…last − 1 of a unit into a tile, from place `at` on.

    Of the padded rows it takes `rows` from row `top` on.
    """
    fill_rows = copy.fill_rows(lanes)

    def fill(  # type: ignore[no-untyped-def]
        tile, at, source, start, row_map, geometry, channels, filling, first, last, top, rows
    ):
        pitch = geometry[tiles.PITCH]
        near = min(geometry[tiles.NEAR], pitch)
        inside = min(geometry[tiles.WIDTH], pitch - near)
        upper, lower = even_rows(row_map, top, 1, rows, top + rows)
        for c in range(first, last):
            place = at + (c - first) * geometry[tiles.PLANE]
            origin = start + channels[c]
            if upper < lower:
                beyond = np.int64(0)
                if c + copy.AHEAD < geometry[CHANNELS]:
                    beyond = channels[c + copy.AHEAD] - channels[c]
                fill_rows(
                    tile, place + upper * pitch, pitch, source,
                    origin + row_map[top + upper] * geometry[tiles.ROW_STRIDE],
                    geometry[tiles.ROW_STRIDE], lower - upper, near, inside,
                    pitch - near - inside, 1, beyond, filling,
                )  # fmt: skip
            for side in range(2):
                for j in range(lower if side else 0, rows if side else upper):
                    line = row_map[top + j]
                    at_row = origin + line * geometry[tiles.ROW_STRIDE] - near
                    for i in range(pitch):
                        seen = line >= 0 and near <= i < near + inside
                        tile[place + j * pitch + i] = source[at_row + i] if seen else filling

    return Helper(fill)


@loop
def packed_rows(lanes: int, heights: Heights, activation: str, more: bool) -> Built:
    """Output rows top…bottom − 1 of maps low…high − 1 of units first…last − 1.

    low is where a block of maps begins.

    more: whether `residual`, laid out as out, is added before the activation.
    """
    wide = lanes * len(heights)
    block_of_sums = packed_kernel.panel(lanes, heights)
    square = packed_kernel.turn(lanes, more)
    fill = _fill(lanes)
    activate = epilogue.activate_run(activation)

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, residual, values, row_map, channels, offsets, starts, geometry,
        tile, sums, spots, first, last, top, bottom, low, high,
    ):  # fmt: skip
        across = geometry[tiles.OUT_WIDTH]
        out_map = geometry[tiles.OUT_MAP]
        area = (bottom - top) * across
        taps = geometry[TAPS]
        span = geometry[CHANNELS] * taps
        step = geometry[STEP]
        lying = geometry[LYING]
        pixels = (last - first) * area
        maps = geometry[tiles.MAPS]
        lowest = np.float32(-np.inf)
        floor = values[epilogue.OFFSET]
        pitch = geometry[tiles.ROW_STRIDE] if lying else geometry[tiles.PITCH]
        for unit in range(first, last):
            begin = (unit - first) * geometry[UNIT]
            if lying:
                begin = starts[2 * unit] + top * geometry[tiles.STRIDE_Y] * pitch
            for p in range(area):
                y = p // across
                spots[(unit - first) * area + p] = (
                    begin + y * geometry[tiles.STRIDE_Y] * pitch
                    + (p - y * across) * geometry[tiles.STEP]
                )  # fmt: skip
        blocks = (geometry[CHANNELS] + step - 1) // step
        for block in range(blocks):
            c = block * step
            end = min(c + step, geometry[CHANNELS])
            count = (end - c) * taps
            closing = block == blocks - 1
            for unit in range(last if lying else first, last):
                fill(
                    tile, (unit - first) * geometry[UNIT], source, starts[2 * unit], row_map,
                    geometry, channels, values[epilogue.FILL], c, end,
                    top * geometry[tiles.STRIDE_Y],
                    (bottom - top - 1) * geometry[tiles.STRIDE_Y] + geometry[tiles.EXTENT],
                )  # fmt: skip
            for m in range(low, high, wide):
                vectors = (min(wide, maps - m) + lanes - 1) // lanes
                width = vectors * lanes
                at = (m - low) * pixels
                w = m * span + c * taps * width
                further = m + wide
                ahead = w
                if further < high:
                    ahead = further * span + c * taps * min(wide, maps - further)
                elif not closing:
                    ahead = low * span + end * taps * min(wide, maps - low)
                block_of_sums(
                    sums, at, source if lying else tile, channels[c] if lying else 0, spots, 0,
                    pixels, offsets, weights, w, count, vectors, ahead, bias, m, block == 0,
                    floor if closing and not more else lowest,
                )  # fmt: skip
                if not closing:
                    continue
                for unit in range(first, last):
                    base = starts[2 * unit + 1] + m * out_map + top * across
                    held = at + (unit - first) * area * width
                    for v in range(vectors):
                        left = min(maps - m - v * lanes, lanes)
                        if area < lanes or left < lanes:
                            for k in range(v * lanes, v * lanes + left):
                                for p in range(area):
                                    total = sums[held + p * width + k]
                                    place = base + k * out_map + p
                                    if more:
                                        total += residual[place]
                                    out[place] = floor if total < floor else total
                            continue
                        for number in range((area + lanes - 1) // lanes):
                            p = min(number * lanes, area - lanes)
                            square(
                                out, base + v * lanes * out_map + p, out_map, sums,
                                held + p * width + v * lanes, width, residual, values,
                            )  # fmt: skip
                    for k in range(min(wide, maps - m)):
                        activate(out, base + k * out_map, area)

    return "disjoint " + "f32* " * 6 + "i64* " * 5 + "f32* f32* i64* " + "i64 " * 6, body


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
                            target, m * span + k * width + v, width, weights, (m + v) * span + k,
                            span, target, target,
                        )  # fmt: skip
                else:
                    for k in range(span):
                        for j in range(lanes):
                            value = np.float32(0)
                            if j < left:
                                value = weights[(m + v + j) * span + k]
                            target[m * span + k * width + v + j] = value

    return "disjoint f32* f32* i64 i64 i64 i64", body


def pack(weights: npt.NDArray[np.float32], lanes: int, wide: int) -> npt.NDArray[np.float32]:
    """Weights (maps, span) as `packed_rows` reads them, maps filled up to whole vectors."""
    maps, span = weights.shape
    target = np.empty(round_up(maps, lanes) * span, np.float32)
    over_bands(maps, wide, pack_rows(lanes, wide).fix(target, weights, maps, span))
    return target


def applies(job: ConvProblem, computed: float) -> bool:
    """Whether maps in the lanes are better, where `matmul` computes so many pixels an image."""
    groups, maps, channels, kh, kw = job.weights.shape
    area = job.out_size[0] * job.out_size[1]
    if groups > 1 or maps < 32 or channels * kh * kw < 64 or computed < WASTE * area:
        return False
    needed = (job.out_size[1] - 1) * job.stride[1] + job.extent[1]
    seen = job.col_map[:needed]
    places = np.arange(-job.near, len(seen) - job.near)
    places[(places < 0) | (places >= job.width)] = -1
    lies = job.pixel_stride == 1 and job.near >= 0
    return lies and area > 1 and bool((seen == places).all())


def _cut(
    groups: int, together: int, maps: int, wide: int, job: ConvProblem, lying: bool
) -> tuple[int, int]:
    """How many maps and rows a task has, where threads share `groups` of `together` images.

    192 maps are three blocks: two threads then wait for each other, unless rows are divided.
    """
    height, width = job.out_size
    span, threads = job.weights[0, 0].size, num_threads()
    found = []
    for parts in range(1, -(-maps // wide) + 1):
        share = round_up(-(-maps // parts), wide)
        for bands in range(1, min(height, 2 * threads) + 1):
            high = -(-height // bands)
            pixels = high * width * together
            if share * pixels > SUMS and (share > wide or bands < min(height, 2 * threads)):
                continue
            tasks = groups * -(-maps // share) * -(-height // high)
            # In cycles: sums, a tile's pixels, and weights from the third level.
            work = span * (min(share, maps) * pixels / 32 + share * 0.4)
            work += 0 if lying else span * pixels * 0.1
            found.append((-(-tasks // threads) * work + 500 * tasks, share, high))
    return min(found)[1:]


class Product:
    """All that a job says beside its numbers: as `matmul.Product`."""

    def __init__(self, job: ConvProblem) -> None:
        _, maps, channels, kh, kw = job.weights.shape
        self._lanes, tall = cache.vectors()[0], packed_kernel.blocks()
        self._wide = self._lanes * len(tall)
        floor, activation = (0.0, "") if job.activation == "relu" else (-np.inf, job.activation)
        self._constants = self._lanes, tall, activation, job.residual is not None
        (height, width), (sy, sx), (dy, dx) = job.out_size, job.stride, job.dilation
        area, taps = height * width, kh * kw
        rows = (height - 1) * sy + job.extent[0]
        pitch = (width - 1) * sx + job.extent[1]
        inside = job.near == 0 and pitch <= job.width
        apart = job.channels[1] - job.channels[0] if channels > 1 else 0
        lying = (
            inside and np.array_equal(job.row_map[:rows], np.arange(rows))
            and job.channels == [job.channels[0] + c * apart for c in range(channels)]
        )  # fmt: skip
        step = min(channels, max(1, STEPS // taps))
        units = len(job.starts_in)
        together = min(units, max(1, PIXELS // area))
        share, high = _cut(-(-units // together), together, maps, self._wide, job, lying)
        seen = (high - 1) * sy + job.extent[0]
        plane = seen * pitch
        self._tasks = [
            (unit, min(unit + together, units), top, min(top + high, height), low,
             min(low + share, maps))
            for unit in range(0, units, together) for top in range(0, height, high)
            for low in range(0, maps, share)
        ]  # fmt: skip
        geometry = np.zeros(FIELDS, np.int64)
        for place, value in {
            tiles.ROW_STRIDE: job.row_stride, tiles.MAPS: maps, tiles.OUT_WIDTH: width,
            tiles.OUT_MAP: job.out_map, tiles.STRIDE_Y: sy, tiles.STEP: sx, tiles.NEAR: job.near,
            tiles.WIDTH: job.width, tiles.EXTENT: job.extent[0], tiles.PITCH: pitch,
            tiles.PLANE: plane, CHANNELS: channels, STEP: step, TAPS: taps, UNIT: step * plane,
            LYING: lying,
        }.items():  # fmt: skip
            geometry[place] = value
        far, line = (apart, job.row_stride) if lying else (plane, pitch)
        offsets = [
            c * far + ky * dy * line + kx * dx
            for c in range(step) for ky in range(kh) for kx in range(kw)
        ]  # fmt: skip
        starts = np.array([job.starts_in, job.starts_out], np.int64).T.copy()
        self._arrays = (
            epilogue.make_values("f32", job.fill, 1.0, floor, 1.0), job.row_map,
            np.array(job.channels, np.int64), np.array(offsets, np.int64), starts, geometry,
        )  # fmt: skip
        self._addresses = [jit.address(array) for array in self._arrays]
        self._sizes = {
            "tile": together * step * plane,
            "sums": round_up(share, self._lanes) * high * width * together,
        }
        self._pixels = together * high * width

    def __call__(
        self,
        out: npt.NDArray[np.float32],
        source: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        residual: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Compute out; the arguments are laid out as in the job."""
        maps = bias.size
        rows, form = weights.reshape(maps, -1), (self._lanes, self._wide)
        packed = copies.copy_of(rows, ("packed", *form), lambda: pack(rows, *form))
        biases = np.zeros(round_up(maps, self._lanes), np.float32)
        biases[:maps] = bias.reshape(-1)
        rows_loop = packed_rows(*self._constants).fix(
            out, source, packed, biases, out if residual is None else residual,
            *self._addresses,
        )  # fmt: skip

        def work(first: int, last: int) -> None:
            buffers = (
                *(scratch.address(name, size) for name, size in self._sizes.items()),
                scratch.address("spots", self._pixels, np.int64),
            )
            for task in self._tasks[first:last]:
                rows_loop(*buffers, *task)

        over_bands(len(self._tasks), 1, work)
