"""How a matrix product is cut into tasks, tiles, blocks of channels and panels."""

import functools
import operator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.jit.parallel import num_threads
from imgconv.jit.record import array
from imgconv.ops.algorithms.gemm_geometry import GemmGeometry, GemmPhase, GemmTask
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.algorithms.tiles import round_up
from imgconv.ops.microkernels import copy
from imgconv.typing import Int64


def _second_level() -> int:
    """Bytes of a core's second-level cache; 512 kB where the system does not say."""
    try:
        with open("/sys/devices/system/cpu/cpu0/cache/index2/size", encoding="ascii") as file:
            return max(int(file.read().strip().removesuffix("K")) << 10, 1 << 18)
    except (OSError, ValueError):
        return 1 << 19


# Weights and pixels are read again for every tile, from a third level that is ten times slower:
# with 2 MB a tile of 512 kB took a fifth longer.
LEVEL2 = _second_level()
# Bytes of pixels that one panel may read: an L1 holds them, or the L2 does. Where a panel read
# 12 kB, so that a 32 kB L1 held it twice, sums were put by and taken up so often that ResNet-50's
# products took a tenth longer.
PANELS = (40_000, 105_000, LEVEL2 // 6)
NEAR = 8_000  # floats of a tile that stays in the L1: up to a fifth faster where it holds enough
TILE = LEVEL2 // 13  # floats of a tile, which with the sums and a strip of weights fill the L2
SUMS = LEVEL2 // 10  # floats of sums kept between channel blocks
CALL = 100_000  # cycles until another thread helps: a quarter of EfficientNet-B0 when played back
SPREAD = 48  # maps that panel after panel writes beyond the L2
JOIN = 4  # small maps under 1×1 that are one tile: 49 columns are four vectors, 196 are thirteen
LITTLE = 100  # outputs of such a map
WEIGHTS = 40_000  # floats of weights that all panels of a tile meet before the next ones


class Shape(NamedTuple):
    """All that a layout depends on."""

    units: int
    groups: int
    maps: int
    channels: int
    size: tuple[int, int]  # of the kernel
    stride: tuple[int, int]
    dilation: tuple[int, int]
    out_size: tuple[int, int]
    out_map: int
    row_stride: int
    pixel_stride: int
    channel_stride: int  # 0 where the distance from channel to channel differs
    near: int
    width: int
    padded: int
    rows_lie: bool  # whether padded rows are the source's
    columns: bytes  # the column map
    lanes: int
    panel: int  # pixels
    threads: int


@dataclass
class Layout:
    """How a job is cut: see the module's text.

    units, tall, maps: units, output rows and maps a task. computed: pixels summed for one image.
    phases: `_rows_of` each plane (`GemmPhase`). offsets: place in a tile of each tap of a block.
    """

    units: int
    tall: int
    maps: int
    phases: npt.NDArray[np.void]
    offsets: Int64
    geometry: GemmGeometry
    tile_size: int
    sums_size: int
    runs_size: int
    computed: int

    def tasks(self, units: int, height: int, maps: int) -> list[GemmTask]:
        """Every task."""
        return [
            GemmTask(unit, min(unit + self.units, units), top, min(top + self.tall, height), low,
             min(low + self.maps, maps))
            for unit in range(0, units, self.units)
            for top in range(0, height, self.tall)
            for low in range(0, maps, self.maps)
        ]  # fmt: skip

    @classmethod
    def of(cls, job: ConvProblem, lanes: int, panel: int) -> "Layout":
        """The layout of a job for panels of `panel` pixels."""
        groups, maps, channels, kh, kw = job.weights.shape
        return layout_of(
            Shape(
                len(job.starts_in), groups, maps, channels, (kh, kw), job.stride, job.dilation,
                job.out_size, job.out_map, job.row_stride, job.pixel_stride,
                _distance(job.channels), job.near, job.width, len(job.row_map),
                np.array_equal(job.row_map, np.arange(len(job.row_map))),
                job.col_map.tobytes(), lanes, panel, num_threads(),
            )
        )  # fmt: skip


@functools.lru_cache(512)
def layout_of(shape: Shape) -> Layout:
    (kh, kw), (sy, sx) = shape.size, shape.stride
    channels, taps = shape.channels, kh * kw
    task, planes = min(
        (
            (_task(shape, _channel_step(shape, planes, size), size > PANELS[0], planes), planes)
            for planes in _arrangements(shape)
            for size in PANELS
        ),
        key=operator.itemgetter(0),
    )
    phases, below, joined, lying = planes.phases, planes.below, planes.joined, planes.lying
    step = task.step
    rows = task.tall + below
    pitch = planes.own * (joined if planes.beside else 1)
    apart = planes.own * (1 if planes.beside else rows)
    # An odd number of cache lines from plane to plane spreads them over the sets.
    plane = (joined - 1) * apart + (rows - 1) * pitch + planes.own + planes.shared
    plane = shape.panel if lying else round_up(plane, 16)
    plane += 0 if plane // 16 % 2 else 16
    columns = (joined - 1) * apart + (task.tall - 1) * pitch + shape.out_size[1]
    computed = round_up(columns, shape.lanes) * -(-shape.out_size[0] // task.tall) // joined
    columns = round_up(columns, shape.panel)
    chunk = max(24, WEIGHTS // (step * taps) // 24 * 24)
    if step == channels:
        chunk = min(chunk, max(24, SUMS // columns // 24 * 24))
    if lying and 4 * shape.maps * shape.out_map > LEVEL2:
        # An output beyond the L2 is written in few streams: a page a map for every panel took a
        # quarter longer.
        chunk = SPREAD
    kept = task.maps if step < channels else min(chunk, task.maps)
    geometry = GemmGeometry(
        row_stride=shape.row_stride,
        pixel_stride=shape.pixel_stride,
        run=1,
        step=sx,
        near=shape.near,
        width=shape.width,
        padded=shape.padded,
        stride_y=sy,
        maps=shape.maps,
        out_width=shape.out_size[1],
        out_map=shape.out_map,
        channels=channels,
        block=step,
        taps=taps,
        phases=len(phases),
        pitch=pitch,
        plane=plane,
        rows=below + 1,
        own=planes.own,
        shared=planes.shared,
        joined=joined,
        apart=apart,
        chunk=chunk,
        plain=planes.plain,
        direct=joined == 1 and (planes.rowwise or pitch == shape.out_size[1]),
        rowwise=planes.rowwise,
        lying=lying,
    )
    places = [planes.place(shape, ky, kx) for ky in range(kh) for kx in range(kw)]
    offsets = [
        (c * len(phases) + number) * plane + row * pitch + column
        for c in range(step) for number, row, column in places
    ]  # fmt: skip
    return Layout(
        task.units, task.tall, task.maps, _rows_of(shape, planes),
        np.array(offsets + [c * shape.channel_stride for c in range(step)], np.int64), geometry,
        step * len(phases) * plane + columns + below * pitch + planes.beyond + shape.lanes,
        kept * columns,
        columns // shape.panel + joined * task.tall,
        computed,
    )  # fmt: skip


class Planes(NamedTuple):
    """How rows of the padded input stand in a tile.

    phases: (row phase, first column) of each plane. own: columns of a unit's row. below, beyond:
    rows and columns that a pixel's taps reach. plain, rowwise, lying: as in `GemmGeometry`.
    shared: columns at a row's end that are the next row's first. joined: units a tile, `beside`
    each other row by row, or one after the other.
    """

    phases: list[tuple[int, int]]
    own: int
    below: int
    beyond: int
    shared: int
    plain: int
    joined: int = 1
    beside: bool = False
    rowwise: bool = False
    lying: bool = False

    def place(self, shape: Shape, ky: int, kx: int) -> tuple[int, int, int]:
        """The plane, row and column where the first pixel finds a tap."""
        row, down = divmod(ky * shape.dilation[0], shape.stride[0])
        column, across = divmod(kx * shape.dilation[1], shape.stride[1])
        if (down, across) in self.phases and column <= self.beyond:
            return self.phases.index((down, across)), row, column
        return self.phases.index((down, kx * shape.dilation[1])), row, 0


def _arrangements(shape: Shape) -> list[Planes]:
    """The ways to lay out a tile's planes.

    A plane for each phase of the stride serves all taps of the phase, with a gap between two rows.
    Rows of whole vectors have panels of their own, which leave out the gap.
    A plane for each column of a strided kernel has no gap, and units may stand side by side in it:
    256 maps of 14×14 are 13 vectors, not 14, and four of 7×7 are 13, not 16.
    """
    (kh, kw), (sy, sx), (dy, dx) = shape.size, shape.stride, shape.dilation
    col_map = np.frombuffer(shape.columns, np.int64)
    below, beyond = (kh - 1) * dy // sy, (kw - 1) * dx // sx
    phases = sorted({(ky * dy % sy, kx * dx % sx) for ky in range(kh) for kx in range(kw)})
    needed = shape.out_size[1] + beyond
    shared = min(_shared(col_map[across::sx][:needed], beyond) for _, across in phases)
    plain = _plainness(shape, col_map, max(across for _, across in phases), needed - shared)
    rowwise = needed - shared > shape.out_size[1] and shape.out_size[1] % shape.lanes == 0
    planes = Planes(phases, needed - shared, below, beyond, shared, plain, rowwise=rowwise)
    level = _level(shape, plain)
    if level or (plain and shape.size == (1, 1)):
        joined = _joined(shape)
        lying = level and joined == 1 and shape.channel_stride != 0
        return [planes._replace(joined=joined, lying=lying)]
    if not plain or sx == 1:
        return [planes]
    # Every turn is of as many units, so that no column is left unfilled.
    joined = max(n for n in range(1, _joined(shape) + 1) if shape.units % n == 0)
    phases = sorted({(ky * dy % sy, kx * dx) for ky in range(kh) for kx in range(kw)})
    return [planes, Planes(phases, shape.out_size[1], below, 0, 0, plain, joined, True)]


def _distance(channels: list[int]) -> int:
    """The distance from each channel to the next, 0 where it differs."""
    apart = channels[1] - channels[0] if len(channels) > 1 else 1
    return apart if channels == [channels[0] + k * apart for k in range(len(channels))] else 0


def _shared(columns: Int64, beyond: int) -> int:
    """Columns that are fill at both ends of every row, so that two rows can share them."""
    inside = np.flatnonzero(columns >= 0)
    if inside.size == 0:
        return 0
    return min(beyond, int(inside[0]), len(columns) - 1 - int(inside[-1]))


def _plainness(shape: Shape, columns: Int64, across: int, pitch: int) -> int:
    """`GemmGeometry.plain`: how much of the general way of filling a tile can be left out.

    across: the last phase.
    """
    seen = columns[: (pitch - 1) * shape.stride[1] + across + 1]
    places = np.arange(-shape.near, len(seen) - shape.near)
    places[(places < 0) | (places >= shape.width)] = -1
    gathered = shape.pixel_stride == 1 and shape.stride[1] in copy.STEPS
    if not gathered or (seen != places).any():
        return 0
    whole = shape.stride == (1, 1) and shape.near == 0
    return 2 if whole and pitch == shape.width == shape.row_stride else 1


def _rows_of(shape: Shape, planes: Planes) -> npt.NDArray[np.void]:
    """What each plane's rows are of."""
    step, phases = shape.stride[1], []
    for down, across in planes.phases:
        before = min(max(-((across - shape.near) // step), 0), planes.own)
        end = min(-((across - shape.near - shape.width) // step), planes.own)
        inside = max(end - before, 0) if planes.plain else 0
        phases.append(GemmPhase(down, across, before, inside))
    return array(*phases)


def _joined(shape: Shape) -> int:
    """Units a tile: several where one's columns leave much of a vector idle."""
    outputs = shape.out_size[0] * shape.out_size[1]
    small = shape.groups == 1 and outputs <= LITTLE and outputs % shape.lanes
    return min(JOIN, shape.units) if small else 1


def _level(shape: Shape, plain: int) -> bool:
    """Whether a 1×1's columns are the source's pixels, one after the other."""
    return plain == 2 and shape.size == (1, 1) and shape.rows_lie


def _channel_step(shape: Shape, planes: Planes, size: int) -> int:
    """Channels a block, so that a panel reads at most `size` bytes."""
    kh, kw = shape.size
    runs, reach = (kh * kw, 0) if planes.beside else (kh, kw - 1)
    lines = -(-(shape.panel + reach) // 16) + 1
    most = max(1, size // (runs * lines * 64))
    return -(-shape.channels // -(-shape.channels // most))


class Task(NamedTuple):
    """What one call of the loop computes, with its estimated cost for the whole job in cycles."""

    cost: float
    units: int
    tall: int
    maps: int
    step: int


def _task(shape: Shape, step: int, far: bool, planes: Planes) -> Task:
    """The cheapest task for blocks of `step` channels; far: pixels come from the second level."""
    height, lanes = shape.out_size[0], shape.lanes
    joined, below, pitch = planes.joined, planes.below, planes.own
    taps = shape.channels * shape.size[0] * shape.size[1]
    blocks = -(-shape.channels // step)
    heights = sorted({-(-height // bands) for bands in range(1, height + 1)})
    if joined > 1:
        heights = [height]
    tiles_in = -(-shape.units // joined)
    found = []
    for parts in (1, 2, 4, 8, 16):
        share = min(round_up(-(-shape.maps // parts), 8), shape.maps)
        for tall in heights:
            columns = joined * ((tall - 1) * pitch + shape.out_size[1])
            tile = joined * step * len(planes.phases) * (tall + below) * pitch
            if planes.rowwise:
                columns = tall * shape.out_size[1]
            kept = columns * (share if blocks > 1 else min(share, 24))
            last = parts == 16 if joined > 1 else tall == 1
            if (tile > TILE or kept > SUMS) and not last:
                continue
            # Two multiply-adds of a vector are a cycle, except in panels of one vector.
            vectors = max(-(-columns // lanes), 1.5)
            work = (
                share * taps * vectors / 2 * (1.03 if far else 1.0) * (1.1 if tile > NEAR else 1.0)
            )
            # Rows of a tile, weights from the third level, sums put by and taken up, results.
            if not planes.lying:
                rows = joined * shape.channels * len(planes.phases) * (tall + below)
                work += rows * (pitch / 3 + 25)
            work += share * taps * 0.7 + share * columns * (blocks / 3 + 1)
            units = max(1, min(int(CALL // work), tiles_in // (4 * shape.threads)))
            tasks = -(-tiles_in // units) * -(-height // tall) * -(-shape.maps // share)
            cost = -(-tasks // shape.threads) * (units * work + CALL / 10)
            cost += CALL if tasks > 1 and shape.threads > 1 else 0
            found.append(Task(cost, units * joined, tall, share, step))
    return min(found)
