"""How products with packed weights are cut into tasks, and what their loop is told of a layer."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np

from imgconv.jit.parallel import num_threads
from imgconv.jit.record import array, record
from imgconv.ops.algorithms.gemm_geometry import Floats, GemmTask, Integers
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.algorithms.tiles import round_up
from imgconv.typing import Array, Int64

STEPS = 96  # taps of a block: with 64 maps their weights are 24 kB of the L1
PIXELS = 400  # a task, of several images where one has fewer
SUMS = 110_000  # floats of sums kept between blocks of taps
WASTE = 1.05  # pixels that `gemm` computes for each output, from which on this is better


@record
class PackedGeometry(NamedTuple):
    """A layer and its tiles; lengths in elements.

    Of the source: row_stride; near: padded columns before its first; width: pixels a row; step and
    stride_y: the strides; extent: padded rows that one row of outputs sees. Of the output: maps,
    out_width, out_map (from map to map). Of a tile: pitch (from row to row), plane (from channel
    to channel), unit (from unit to unit). block: channels a block, with `taps` taps each.
    lying: whether pixels are read in the source, where all that is seen is inside.
    """

    row_stride: int
    near: int
    width: int
    step: int
    stride_y: int
    extent: int
    maps: int
    out_width: int
    out_map: int
    pitch: int
    plane: int
    unit: int
    channels: int
    block: int
    taps: int
    lying: int
    fill: float
    floor: float


@record
class PackedUnit(NamedTuple):
    """Where an image begins in source and output."""

    source: int
    out: int


@record
class PackedTables(NamedTuple):
    """The map of padded rows, channels' offsets, and those of a block's taps."""

    row_map: Integers
    channels: Integers
    offsets: Integers


@record
class PackedScratch(NamedTuple):
    """A thread's memory; spots: where the first tap of each pixel is."""

    tile: Floats
    sums: Floats
    spots: Annotated[Any, "i64*"]


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


@dataclass
class Layout:
    """How a problem is cut. arrays: `PackedTables`, the units and the geometry.

    tile, sums, pixels: elements of each buffer of `PackedScratch`.
    """

    arrays: tuple[Array, ...]
    tasks: list[GemmTask]
    tile: int
    sums: int
    pixels: int

    @classmethod
    def of(cls, job: ConvProblem, lanes: int, wide: int) -> "Layout":
        """The layout of a problem for blocks of `wide` maps."""
        maps, (height, width) = job.weights.shape[1], job.out_size
        units = len(job.starts_in)
        together = min(units, max(1, PIXELS // (height * width)))
        lying = _lies(job)
        share, high = _cut(-(-units // together), together, maps, wide, job, lying)
        geometry = _geometry(job, high, lying)
        starts = zip(job.starts_in, job.starts_out, strict=True)
        return cls(
            (
                job.row_map, np.array(job.channels, np.int64), _offsets(job, geometry),
                array(*(PackedUnit(*start) for start in starts)), array(geometry),
            ),
            [
                GemmTask(
                    unit, min(unit + together, units), top, min(top + high, height), low,
                    min(low + share, maps),
                )
                for unit in range(0, units, together) for top in range(0, height, high)
                for low in range(0, maps, share)
            ],
            together * geometry.unit,
            round_up(share, lanes) * high * width * together,
            together * high * width,
        )  # fmt: skip


def _lies(job: ConvProblem) -> bool:
    """Whether all that is seen is inside the source, whose channels are equally far apart."""
    rows = (job.out_size[0] - 1) * job.stride[0] + job.extent[0]
    columns = (job.out_size[1] - 1) * job.stride[1] + job.extent[1]
    if job.near != 0 or columns > job.width:
        return False
    apart = np.diff(job.channels)
    return np.array_equal(job.row_map[:rows], np.arange(rows)) and bool((apart == apart[:1]).all())


def _geometry(job: ConvProblem, high: int, lying: bool) -> PackedGeometry:
    """The geometry of tasks of `high` rows of outputs."""
    maps, channels, kh, kw = job.weights.shape[1:]
    pitch = (job.out_size[1] - 1) * job.stride[1] + job.extent[1]
    plane = ((high - 1) * job.stride[0] + job.extent[0]) * pitch
    block = min(channels, max(1, STEPS // (kh * kw)))
    return PackedGeometry(
        row_stride=job.row_stride,
        near=job.near,
        width=job.width,
        step=job.stride[1],
        stride_y=job.stride[0],
        extent=job.extent[0],
        maps=maps,
        out_width=job.out_size[1],
        out_map=job.out_map,
        pitch=pitch,
        plane=plane,
        unit=block * plane,
        channels=channels,
        block=block,
        taps=kh * kw,
        lying=lying,
        fill=job.fill,
        floor=0.0 if job.activation == "relu" else -np.inf,
    )


def _offsets(job: ConvProblem, geometry: PackedGeometry) -> Int64:
    """Where a block's taps are, from the first of a pixel."""
    far, line = geometry.plane, geometry.pitch
    if geometry.lying:
        far = job.channels[1] - job.channels[0] if len(job.channels) > 1 else 0
        line = job.row_stride
    (kh, kw), (dy, dx) = job.weights.shape[3:], job.dilation
    c, ky, kx = np.ogrid[: geometry.block, :kh, :kw]
    return np.asarray(c * far + ky * dy * line + kx * dx, np.int64).ravel()
