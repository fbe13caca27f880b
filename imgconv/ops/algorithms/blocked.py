"""Depthwise layers with as many channels side by side as a vector has lanes.

A block of channels is turned so that a pixel is a vector, padded, summed row by row and turned
back, all in the second-level cache. Kernels, strides and paddings of every kind are one loop; only
small kernels, which have few multiplications to pay for the turning, are better read where they lie
(`depthwise`). The terms are added in the order (ky, kx) onto the bias, as there.
"""

from typing import NamedTuple

import numpy as np

from imgconv.jit import cache as machine
from imgconv.jit import loop as jit
from imgconv.jit import scratch, simd
from imgconv.jit.loop import Built, loop
from imgconv.jit.parallel import num_threads, over_bands
from imgconv.jit.record import record
from imgconv.ops import epilogue
from imgconv.ops.algorithms.gemm_layout import LEVEL2
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import round_up
from imgconv.ops.arrays import contiguous
from imgconv.ops.microkernels import blocked
from imgconv.typing import Array, Float32

COLUMNS = 8, 7  # outputs at a time: a multiply-add waits four cycles for the last, and two begin
CALL = 75_000  # cycles until another thread helps


@record
class Planes(NamedTuple):
    """The planes of a layer.

    height, across: of a result. rows, width: of the source, rows `row_apart` and channels
    `channel_apart` elements apart. pitch: pixels of a padded row. down: the stride.
    tall, wide, rows_apart, columns_apart: a kernel's size and dilation.
    turned, weights: where those begin in the scratch memory, in floats, after the padded planes.
    """

    channels: int
    images: int
    height: int
    across: int
    rows: int
    width: int
    row_apart: int
    channel_apart: int
    pitch: int
    down: int
    tall: int
    wide: int
    rows_apart: int
    columns_apart: int
    turned: int
    weights: int


@loop
def blocked_planes(lanes: int, columns: int, step: int, pairs: bool, activation: str) -> Built:
    """Results of the pairs (block of channels, image) first…last − 1, images changing faster.

    The last block of channels ends with the last channel and may repeat some of the one before;
    whoever computes them writes the same bits. pairs: whether rows are summed by twos.
    """
    turn_in, turn_out = blocked.turn_in(lanes), blocked.turn_out(lanes)
    spread, window = blocked.spread(lanes), blocked.window(lanes, columns, step)
    together = 2 if pairs else 1
    windows = blocked.window_pair(lanes, columns, step) if pairs else window
    pixel = simd.Vec(lanes)
    activate = epilogue.activated(activation)

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, starts, row_map, col_map, planes, floor, padded, first, last
    ):
        area = planes.height * planes.across
        taps = planes.tall * planes.wide
        turned = simd.at(padded, planes.turned)  # the source's pixels, then the results
        kernels = simd.at(padded, planes.weights)
        known = np.int64(-1)
        for index in range(first, last):
            block = index // planes.images
            image = index - block * planes.images
            channel = min(block * lanes, planes.channels - lanes)
            if block != known:
                turn_in(kernels, simd.at(weights, channel * taps), taps, taps)
                known = block
            base = simd.at(source, starts[image * planes.channels + channel])
            for j in range(planes.rows):
                if planes.row_apart != planes.width:
                    row = simd.at(base, j * planes.row_apart)
                    turn_in(turned, row, planes.channel_apart, planes.width)
                elif j == 0:
                    turn_in(turned, base, planes.channel_apart, planes.rows * planes.width)
                line = 0 if planes.row_apart != planes.width else j * planes.width
                spread(
                    simd.at(padded, j * planes.pitch * lanes), simd.at(turned, line * lanes),
                    col_map, planes.pitch,
                )  # fmt: skip
            breadth = (planes.across + columns - 1) // columns * columns
            whole = planes.height // together * together
            for b in range(breadth // columns):
                line = simd.at(padded, b * columns * step * lanes)
                for pair in range(planes.height // together):
                    y = pair * together
                    sums = simd.at(turned, (y * breadth + b * columns) * lanes)
                    windows(
                        sums, simd.at(sums, breadth * lanes), line, planes.pitch,
                        simd.at(row_map, y * planes.down), planes.rows_apart, kernels, planes.tall,
                        planes.wide, planes.columns_apart, simd.at(bias, channel), floor,
                    )  # fmt: skip
                if whole < planes.height:
                    sums = simd.at(turned, (whole * breadth + b * columns) * lanes)
                    window(
                        sums, sums, line, planes.pitch, simd.at(row_map, whole * planes.down),
                        planes.rows_apart, kernels, planes.tall, planes.wide,
                        planes.columns_apart, simd.at(bias, channel), floor,
                    )  # fmt: skip
            for i in range(planes.across, area if breadth > planes.across else 0):
                y = i // planes.across
                place = y * breadth + i - y * planes.across
                simd.store(turned, i * lanes, simd.load(pixel, turned, place * lanes))
            if activate is not None:
                activate(turned, 0, area * lanes)
            result = simd.at(out, (image * planes.channels + channel) * area)
            turn_out(result, area, turned, area)

    return "disjoint f32* f32* f32* f32* i64* i64* i64* Planes f32 f32* i64 i64", body


def offer(job: ConvProblem) -> Candidate | None:
    """For layers of one channel and one map per group, as many as a vector has lanes, or more."""
    groups, maps, channels, kh, kw = job.weights.shape
    lanes = machine.vectors()[0]
    if not job.is_plain or groups < lanes or not maps == channels == job.pixel_stride == 1:
        return None
    planes, _ = _planes(job)
    if job.fill != 0 or planes.channel_apart < 0 or 4 * planes.turned > 4 * LEVEL2:
        return None
    reason = f"blocks of {lanes} channels, {groups} of {kh}×{kw} taps"
    return Candidate("blocked", 0.5 + 0.6 * traffic(job) + 0.015 * kh * kw, reason)


def _planes(job: ConvProblem) -> tuple[Planes, int]:
    """The planes of a layer and how many outputs are summed at a time."""
    groups, _, _, kh, kw = job.weights.shape
    height, across = job.out_size
    columns = min(COLUMNS, key=lambda count: round_up(across, count))
    wide = round_up(across, columns)
    pitch = (wide - 1) * job.stride[1] + (kw - 1) * job.dilation[1] + 1
    seen = job.row_map[: (height - 1) * job.stride[0] + job.extent[0]]
    rows = max(int(seen.max()) + 1, 1)
    starts = np.array(job.starts_in).reshape(-1, groups)
    apart = np.diff(starts, axis=1)
    even = apart.size > 0 and (apart == apart[0, 0]).all()
    lanes = machine.vectors()[0]
    turned = blocked.floats(lanes, rows * pitch)
    kernels = turned + blocked.floats(lanes, max(rows * job.width, height * wide))
    return Planes(
        groups, len(starts), height, across, rows, job.width, job.row_stride,
        int(apart[0, 0]) if even else -1, pitch, job.stride[0], kh, kw, *job.dilation, turned,
        kernels,
    ), columns  # fmt: skip


class Product:
    """All that a layer says beside its numbers: an output of the same shapes is one call."""

    def __init__(self, job: ConvProblem) -> None:
        floor, activation = (0.0, "") if job.activation == "relu" else (-np.inf, job.activation)
        lanes = machine.vectors()[0]
        planes, columns = _planes(job)
        self._planes = planes
        pairs = job.stride[0] == job.dilation[0] == 1 and machine.vectors()[1] >= 32
        self._constants = lanes, columns, job.stride[1], pairs, activation
        self._floor = floor
        col_map = np.full(planes.pitch, -1, np.int64)
        count = min(len(job.col_map), planes.pitch)
        col_map[:count] = job.col_map[:count]
        self._arrays = np.array(job.starts_in, np.int64), job.row_map, col_map
        self._addresses = [jit.address(array) for array in self._arrays]
        taps = planes.tall * planes.wide
        self._room = planes.weights + blocked.floats(lanes, taps)
        self._count = -(-planes.channels // lanes) * planes.images
        work = planes.height * planes.across * (taps * 0.55 + 8)
        tasks = max(1, min(int(self._count * work // CALL), 8 * num_threads()))
        self._band = -(-self._count // tasks)

    def __call__(
        self, out: Float32, source: Float32,
        weights: Array, bias: Array,
    ) -> None:  # fmt: skip
        """Compute out; source, weights (groups, M, …) and bias are laid out as in the job."""
        planes_loop = blocked_planes(*self._constants).fix(
            out, source, contiguous(weights, np.float32), np.ascontiguousarray(bias, np.float32),
            *self._addresses, self._planes, self._floor,
        )  # fmt: skip

        def work(first: int, last: int) -> None:
            planes_loop(scratch.address("tile", self._room), first, last)

        over_bands(self._count, self._band, work)
