"""Convolution of many channels as a matrix product: (maps × taps) · (taps × pixels).

The right side is never formed. A tile holds a block of channels for some output rows, padded,
and split by the phases of the stride, so that tap (c, ky, kx) of consecutive output pixels is a
run of consecutive floats at a fixed offset: `microkernel` reads it there. Tile rows follow each
other without a gap, so a panel of pixels crosses row ends; what it computes between two rows is
not stored. Where padding is a fill value one column serves as the right border of a row and the
left border of the next: a 7×7 map under 3×3 costs 55 columns for its 49.

Weights are read where they lie, as (maps, taps) rows: nothing is packed or copied, which matters
for 100 million weights and a batch of one. Sums are added in the order (c, ky, kx) whatever the
tiles, so results do not depend on threads, tiles or batch.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.compute import epilogue, microkernel, tiles
from imgconv.compute.bands import num_threads, over_bands
from imgconv.compute.jit import Built, Helper, loop
from imgconv.compute.plan import Offer
from imgconv.compute.tiles import Job, convert_row, round_up

# Places in the loop's `layout` array; the geometry of `tiles` stands before them.
(
    CHANNELS,
    STEP,  # channels a block
    TAPS,  # of one channel
    PHASES,
    ROWS,  # rows of one plane of a tile
    SHARED,  # columns at a row's end that are the next row's first
    CHUNK,  # maps whose weights for one block of channels stay in the cache
    FILLED,  # whether both ends of a row are fill, the source between them without a gap
    LAYOUT,
) = range(tiles.FIELDS, tiles.FIELDS + 9)

PANEL = 20_000  # bytes of pixels that one panel may read: they stay in a 32 kB L1
TILE = 40_000  # floats of a tile: with the sums and a strip of weights within a 512 kB L2
SUMS = 50_000  # floats of sums kept between channel blocks
WIDEST = 4096  # output columns; beyond them a row of a tile leaves the cache
CALL = 100_000  # cycles of work that make ten times the cost of handing out a task
WEIGHTS = 40_000  # floats of weights that all panels of a tile meet before the next ones


def _finisher(lanes: int, activation: str) -> Helper:
    """A helper that applies the activation to sums and stores what belongs to pixels.

    The panels' sums begin at `at`, the first map's output at `base`. Each map is written from end
    to end: writing panel by panel would touch a page a map, again and again.
    """
    act = epilogue.activation_of(activation, "f32")
    copy = microkernel.copy(lanes)

    def finish(out, base, sums, at, columns, maps, runs, out_map):  # type: ignore[no-untyped-def]
        if activation:
            for i in range(at, at + maps * columns):
                sums[i] = act(sums[i])
        for m in range(maps):
            place = base + m * out_map
            for run in range(runs[0]):
                copy(
                    out, place + runs[5 * run + 3],
                    sums, at + runs[5 * run + 1] * maps + m * runs[5 * run + 2] + runs[5 * run + 4],
                    runs[5 * run + 5],
                )  # fmt: skip

    return Helper(finish)


def _list_runs(runs, columns, widest, lanes, pitch, across):  # type: ignore[no-untyped-def]
    """List the runs of pixels among a tile's columns, panel by panel.

    runs: how many; then each one's panel, its panel's width, its offset in a map, its
    first column in the panel, and its length: five places a run.
    """
    count = 0
    for number in range((columns + widest - 1) // widest):
        p = number * widest
        end = min(p + widest, columns)
        width = (end - p + lanes - 1) // lanes * lanes
        q = p
        while q < end:
            row = q // pitch
            x = q - row * pitch
            # Rows without a gap between them are one run.
            length = end - q if across == pitch else min(across - x, end - q)
            if length > 0:
                runs[5 * count + 1] = p
                runs[5 * count + 2] = width
                runs[5 * count + 3] = row * across + x
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

    It takes channels first…last − 1, and for each phase `rows` padded rows from `top` on.
    """
    copy = microkernel.copy(lanes)

    def fill(  # type: ignore[no-untyped-def]
        tile, source, start, row_map, col_map, channels, phases, geometry, filling, first, last,
        top, rows,
    ):  # fmt: skip
        pitch = geometry[tiles.PITCH]
        near = geometry[tiles.NEAR]
        width = geometry[tiles.WIDTH]
        # Rows of which only both ends come from the border, and the rest lies as the tile wants it.
        plain = geometry[tiles.STEP] == 1 and geometry[tiles.PIXEL_STRIDE] == 1
        plain = plain and geometry[FILLED] == 1
        inside = min(width, pitch - near)
        for c in range(first, last):
            for phase in range(geometry[PHASES]):
                down, across = phases[2 * phase], phases[2 * phase + 1]
                at = ((c - first) * geometry[PHASES] + phase) * geometry[tiles.PLANE]
                for j in range(rows):
                    padded = top + down + j * geometry[tiles.STRIDE_Y]
                    line = row_map[padded] if padded < geometry[tiles.PADDED] else np.int64(-1)
                    row = start + channels[c] + line * geometry[tiles.ROW_STRIDE]
                    if plain and line >= 0:
                        for i in range(near):
                            tile[at + i] = filling
                        copy(tile, at + near, source, row, inside)
                        for i in range(near + inside, pitch):
                            tile[at + i] = filling
                    else:
                        convert_row(
                            tile, at, source, line, row, across, pitch, col_map, geometry, filling
                        )  # fmt: skip
                    at += pitch
                for i in range(geometry[SHARED]):
                    tile[at + i] = filling

    return Helper(fill)


@loop
def product_rows(lanes: int, heights: tuple[tuple[int, ...], ...], activation: str) -> Built:
    """Output rows top…bottom − 1 of maps low…high − 1 of units first…last − 1.

    heights: of the micro-kernels for 1, 2, … vectors; a panel is as many vectors as there are.
    """
    widest = len(heights) * lanes
    panel = microkernel.panel(lanes, heights)
    fill = _filler(lanes)
    finish = _finisher(lanes, activation)

    def body(  # type: ignore[no-untyped-def]
        out, source, tile, sums, weights, bias, values, row_map, col_map, channels, phases,
        offsets, starts, runs, geometry, first, last, top, bottom, low, high,
    ):  # fmt: skip
        pitch = geometry[tiles.PITCH]
        across = geometry[tiles.OUT_WIDTH]
        out_map = geometry[tiles.OUT_MAP]
        maps = high - low
        taps = geometry[TAPS]
        span = geometry[CHANNELS] * taps
        step = geometry[STEP]
        blocks = (geometry[CHANNELS] + step - 1) // step
        columns = (bottom - top - 1) * pitch + across
        panels = (columns + widest - 1) // widest
        vectors = (columns + lanes - 1) // lanes
        chunk = geometry[CHUNK]
        rows = bottom - top - 1 + geometry[ROWS]
        list_runs(runs, columns, widest, lanes, pitch, across)
        for unit in range(first, last):
            # Maps are counted over all groups: map m is row m of the weights.
            ahead = starts[3 * unit + 2] * geometry[tiles.MAPS]
            base = starts[3 * unit + 1] + top * across - ahead * out_map
            for block in range(blocks):
                c = block * step
                end = min(c + step, geometry[CHANNELS])
                fill(
                    tile, source, starts[3 * unit], row_map, col_map, channels, phases, geometry,
                    values[epilogue.FILL], c, end, top * geometry[tiles.STRIDE_Y], rows,
                )  # fmt: skip
                for part in range((maps + chunk - 1) // chunk):
                    m = ahead + low + part * chunk
                    count = min(chunk, maps - part * chunk)
                    at = part * chunk * panels * widest if blocks > 1 else 0
                    for number in range(panels):
                        p = number * widest
                        panel(
                            sums, at + p * count, tile, p, offsets, weights, m * span + c * taps,
                            span, (end - c) * taps, count, columns - p, bias, m, block == 0,
                        )  # fmt: skip
                    if block == blocks - 1:
                        finish(
                            out, base + m * out_map, sums, at, vectors * lanes, count, runs,
                            out_map,
                        )  # fmt: skip

    return "disjoint " + "f32* " * 7 + "i64* " * 8 + "i64 " * 6, body


def offer(job: Job) -> Offer | None:
    """For float32 images of several channels or maps, judged by one image's layer alone.

    The choice must not depend on the batch: these sums are added in another order than those of
    the direct algorithms.
    """
    groups, maps, channels, kh, kw = job.weights.shape
    plain = job.run == 1 and job.combine == "none" and job.divisor == job.gain == 1.0
    plain = plain and job.offset == 0.0 and job.out_row == job.out_size[1] <= WIDEST
    if not plain or not job.source.dtype == job.out.dtype == np.float32 or job.real != "f32":
        return None
    taps = channels * kh * kw
    if (maps >= 4 and taps >= 8) or taps >= 64 or groups >= 8:
        # Under direct's estimate for any kernel, so that a batch never changes the choice.
        return Offer("matmul", 0.05 + 0.01 * taps, f"matrix product, {maps} maps of {taps} taps")
    return None


def run(job: Job, choice: Offer) -> None:
    """Compute the job's outputs; threads over units, bands of rows and ranges of maps."""
    lanes, heights = microkernel.blocks() if job.weights.shape[1] > 1 else microkernel.lines()
    layout = Layout.of(job, lanes, lanes * len(heights))
    weights = np.ascontiguousarray(job.weights, np.float32)
    bias = np.ascontiguousarray(job.bias, np.float32)
    values = epilogue.make_values("f32", job.fill, 1.0, 0.0, 1.0)
    rows_loop = product_rows(lanes, heights, job.activation)
    groups, units = len(job.weights), len(job.starts_in)
    starts = np.empty((units, 3), np.int64)
    starts[:, 0], starts[:, 1] = job.starts_in, job.starts_out
    starts[:, 2] = np.arange(units) % groups
    channels = np.array(job.channels, np.int64)
    height, maps = job.out_size[0], job.weights.shape[1]
    tasks = [
        (unit, min(unit + layout.units, units), top, min(top + layout.tall, height), low,
         min(low + layout.maps, maps))
        for unit in range(0, units, layout.units)
        for top in range(0, height, layout.tall)
        for low in range(0, maps, layout.maps)
    ]  # fmt: skip

    def work(first: int, last: int) -> None:
        tile = np.empty(layout.tile_size, np.float32)
        sums = np.empty(layout.sums_size, np.float32)
        runs = np.empty(layout.runs_size, np.int64)
        for task in tasks[first:last]:
            rows_loop(
                job.out, job.source, tile, sums, weights, bias, values, job.row_map, job.col_map,
                channels, layout.phases, layout.offsets, starts, runs, layout.geometry, *task,
            )  # fmt: skip

    over_bands(len(tasks), 1, work)


class Shape(NamedTuple):
    """All that a layout depends on."""

    units: int
    maps: int
    channels: int
    size: tuple[int, int]  # of the kernel
    stride: tuple[int, int]
    dilation: tuple[int, int]
    out_size: tuple[int, int]
    out_map: int
    row_stride: int
    pixel_stride: int
    near: int
    width: int
    padded: int
    columns: bytes  # the column map
    lanes: int
    panel: int  # pixels
    threads: int


@dataclass
class Layout:
    """How a job is cut: see the module's text.

    units, tall, maps: units, output rows and maps a task.
    phases: (row, column) phase of each plane. offsets: place in a tile of each tap of a block.
    """

    units: int
    tall: int
    maps: int
    phases: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    geometry: npt.NDArray[np.int64]
    tile_size: int
    sums_size: int
    runs_size: int

    @classmethod
    def of(cls, job: Job, lanes: int, panel: int) -> "Layout":
        """The layout of a job for panels of `panel` pixels."""
        _, maps, channels, kh, kw = job.weights.shape
        return layout_of(
            Shape(
                len(job.starts_in), maps, channels, (kh, kw), job.stride, job.dilation,
                job.out_size, job.out_map, job.row_stride, job.pixel_stride, job.near, job.width,
                len(job.row_map), job.col_map.tobytes(), lanes, panel, num_threads(),
            )
        )  # fmt: skip


@functools.lru_cache(512)
def layout_of(shape: Shape) -> Layout:
    (kh, kw), (sy, sx), (dy, dx) = shape.size, shape.stride, shape.dilation
    channels, taps = shape.channels, kh * kw
    col_map = np.frombuffer(shape.columns, np.int64)
    phases = sorted({(ky * dy % sy, kx * dx % sx) for ky in range(kh) for kx in range(kw)})
    below, beyond = (kh - 1) * dy // sy, (kw - 1) * dx // sx
    needed = shape.out_size[1] + beyond
    shared = min(_shared(col_map[across::sx][:needed], beyond) for _, across in phases)
    pitch = needed - shared
    step = _channel_step(channels, kh, kw, shape.panel)
    task = _task(shape, step, len(phases), pitch, below)
    rows = task.tall + below
    # An odd number of cache lines from plane to plane spreads them over the sets.
    plane = round_up(rows * pitch + shared, 16)
    plane += 0 if plane // 16 % 2 else 16
    columns = round_up((task.tall - 1) * pitch + shape.out_size[1], shape.panel)
    chunk = max(24, WEIGHTS // (step * taps) // 24 * 24)
    if step == channels:
        chunk = min(chunk, max(24, SUMS // columns // 24 * 24))
    kept = task.maps if step < channels else min(chunk, task.maps)
    geometry = np.zeros(LAYOUT, np.int64)
    for place, value in {
        tiles.ROW_STRIDE: shape.row_stride,
        tiles.PIXEL_STRIDE: shape.pixel_stride,
        tiles.RUN: 1,
        tiles.MAPS: shape.maps,
        tiles.OUT_WIDTH: shape.out_size[1],
        tiles.OUT_MAP: shape.out_map,
        tiles.STRIDE_Y: sy,
        tiles.STEP: sx,
        tiles.NEAR: shape.near,
        tiles.WIDTH: shape.width,
        tiles.PITCH: pitch,
        tiles.PLANE: plane,
        tiles.PADDED: shape.padded,
        CHANNELS: channels,
        STEP: step,
        TAPS: taps,
        PHASES: len(phases),
        ROWS: below + 1,
        SHARED: shared,
        FILLED: _is_filled(col_map[:pitch], shape.near, shape.width),
        CHUNK: chunk,
    }.items():
        geometry[place] = value
    offsets = [
        (c * len(phases) + phases.index((ky * dy % sy, kx * dx % sx))) * plane
        + ky * dy // sy * pitch + kx * dx // sx
        for c in range(step) for ky in range(kh) for kx in range(kw)
    ]  # fmt: skip
    return Layout(
        task.units, task.tall, task.maps, np.array(phases, np.int64).ravel(),
        np.array(offsets, np.int64), geometry,
        step * len(phases) * plane + columns + below * pitch + beyond, kept * columns,
        5 * (columns // shape.panel + task.tall) + 1,
    )  # fmt: skip


def _shared(columns: npt.NDArray[np.int64], beyond: int) -> int:
    """Columns that are fill at both ends of every row, so that two rows can share them."""
    inside = np.flatnonzero(columns >= 0)
    if inside.size == 0:
        return 0
    return min(beyond, int(inside[0]), len(columns) - 1 - int(inside[-1]))


def _is_filled(columns: npt.NDArray[np.int64], near: int, width: int) -> bool:
    """Whether a row of a tile is `near` columns of fill, the source from its first pixel, fill."""
    if not 0 <= near < len(columns):
        return False
    places = np.arange(-near, len(columns) - near)
    places[(places < 0) | (places >= width)] = -1
    return bool((columns == places).all())


def _channel_step(channels: int, kh: int, kw: int, panel: int) -> int:
    """Channels a block, so that what a panel reads stays in the first-level cache."""
    lines = -(-(panel + kw - 1) // 16) + 1
    most = max(1, PANEL // (kh * lines * 64))
    return -(-channels // -(-channels // most))


class Task(NamedTuple):
    """What one call of the loop computes."""

    units: int
    tall: int
    maps: int


def _task(shape: Shape, step: int, phases: int, pitch: int, below: int) -> Task:
    """The task size that a count of cycles finds cheapest."""
    height = shape.out_size[0]
    taps = shape.channels * shape.size[0] * shape.size[1]
    best = (np.inf, Task(1, 1, shape.maps))
    for parts in (1, shape.threads, 2 * shape.threads):
        share = min(round_up(-(-shape.maps // parts), 4), shape.maps)
        for tall in sorted({-(-height // bands) for bands in range(1, height + 1)}):
            columns = round_up((tall - 1) * pitch + shape.out_size[1], shape.lanes)
            tile = step * phases * (tall + below) * pitch
            kept = columns * (share if step < shape.channels else min(share, 24))
            if (tile > TILE or kept > SUMS) and tall > 1:
                continue
            # Two multiply-adds of a vector are a cycle; an element of a tile takes about one.
            work = share * taps * columns / (2 * shape.lanes)
            work += shape.channels * phases * (tall + below) * (pitch + 30)
            units = max(1, min(int(CALL // work), shape.units // (4 * shape.threads)))
            tasks = -(-shape.units // units) * -(-height // tall) * -(-shape.maps // share)
            cost = -(-tasks // shape.threads) * (units * work + CALL / 10)
            best = min(best, (cost, Task(units, tall, share)))
    return best[1]
