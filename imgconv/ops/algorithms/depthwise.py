"""Depthwise convolutions of a network: every channel by a small kernel of its own, without a tile.

Planes are read and written where they lie (`microkernels.depthwise`). An activation follows over
what was computed last, while it is in a cache.
"""

from typing import NamedTuple

import numpy as np

from imgconv.jit import cache as machine
from imgconv.jit import loop as jit
from imgconv.jit import simd
from imgconv.jit.loop import Built, loop
from imgconv.jit.parallel import over_bands
from imgconv.jit.record import record
from imgconv.ops import epilogue
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.arrays import contiguous
from imgconv.ops.microkernels import depthwise
from imgconv.ops.microkernels.depthwise import NOWHERE, Form
from imgconv.typing import Array, Float32

FEWEST = 8  # planes of a layer
LARGEST = 7  # taps a side
SUMS = {16: 24, 8: 10}  # vectors of sums that registers hold, by a vector's lanes
CALL = 75_000  # cycles until another thread helps


@record
class DepthwiseLayer(NamedTuple):
    """channels: of an image, their planes `apart` in the source, rows of `width` columns.

    height, across: of a plane of outputs.
    """

    channels: int
    apart: int
    width: int
    height: int
    across: int


@record
class Swept(NamedTuple):
    """A plane that is swept, and how far apart the parts of a second are."""

    apart: int
    taps_apart: int
    bias_apart: int
    out_apart: int
    width: int
    height: int
    across: int


@loop
def depthwise_planes(form: Form, activation: str) -> Built:
    """Planes first…last − 1, which lie one after the other in `out`."""
    sweep = depthwise.sweep(form)
    activate = epilogue.activated(activation)
    taps, block = form.kernel[0] * form.kernel[1], form.vectors * form.lanes
    pair = form.pair

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, starts, lines, zeros, layer, floor, first, last
    ):
        area = layer.height * layer.across
        plane = first
        while plane < last:
            channel = plane % layer.channels
            # Where there is no other plane, the second is the same once more.
            both = 1 if pair and plane + 1 < last and channel + 1 < layer.channels else 0
            swept = Swept(
                both * layer.apart, both * taps, both, both * area, layer.width, layer.height,
                layer.across,
            )  # fmt: skip
            for x in range(0, layer.across, block):
                sweep(
                    simd.at(out, plane * area), simd.at(source, starts[plane]),
                    simd.at(weights, channel * taps), simd.at(bias, channel), lines, zeros, swept,
                    x, floor,
                )  # fmt: skip
            if activate is not None:
                activate(out, plane * area, area + both * area)
            plane += 1 + both

    return "disjoint f32* f32* f32* f32* i64* i64* f32* DepthwiseLayer f32 i64 i64", body


def form_of(lanes: int, registers: int, job: ConvProblem) -> Form:
    """The form for a layer's planes."""
    across, width, step = job.out_size[1], job.width, job.stride[1]
    kernel = job.weights.shape[3], job.weights.shape[4]
    live = -(-kernel[0] // job.stride[0])
    if across <= lanes // 2 and width <= lanes // 2 * step:
        return Form(lanes, kernel, job.stride, job.near, True, 1, False, False)
    needed = -(-across // lanes)
    most = max(SUMS[lanes] // live, 1)
    # As many vectors as waste the fewest lanes.
    vectors = min(range(min(most, needed), 0, -1), key=lambda count: -(-needed // count) * count)
    full = (vectors - 1) * lanes * step <= width <= vectors * lanes * step
    whole = vectors == needed and full
    anew = live * vectors + kernel[0] * kernel[1] > registers
    return Form(lanes, kernel, job.stride, job.near, False, vectors, whole, anew)


def offer(job: ConvProblem) -> Candidate | None:
    """For layers of one channel and one map per group with zeros around them."""
    groups, _, _, kh, kw = job.weights.shape
    if not job.is_plain or groups < FEWEST or not _lies(job):
        return None
    reason = f"planes where they lie, {groups} of {kh}×{kw} taps"
    # Pairs of planes take mixed taps from the stack, a load per multiply-add.
    tap = 0.022 if job.out_size[1] <= machine.vectors()[0] // 2 else 0.02
    return Candidate("depthwise", 0.25 + 0.6 * traffic(job) + tap * kh * kw, reason)


def _lies(job: ConvProblem) -> bool:
    """Whether vectors can read the planes where they lie."""
    _, maps, channels, *kernel = job.weights.shape
    area = job.out_size[0] * job.out_size[1]
    columns = np.arange(-job.near, len(job.col_map) - job.near)
    columns[columns >= job.width] = -1
    reach = job.stride[1] * machine.vectors()[0]  # columns of the vectors beside one
    apart = np.diff(np.reshape(job.starts_in, (-1, len(job.weights))), axis=1)
    return bool(
        (apart == apart[0, 0]).all()
        and maps == channels == job.pixel_stride == 1
        and LARGEST - reach <= job.near <= reach
        and job.fill == 0 and max(kernel) <= LARGEST and max(job.stride) <= 2
        and job.dilation == (1, 1) and machine.vectors()[0] >= 8  # without AVX lanes have no masks
        and job.starts_out == [unit * area for unit in range(len(job.starts_in))]
        and (np.maximum(job.col_map, -1) == np.maximum(columns, -1)).all()
    )  # fmt: skip


class Product:
    """All that a job says beside its numbers: as `matmul.Product`."""

    def __init__(self, job: ConvProblem) -> None:
        height, across = job.out_size
        self._floor = 0.0 if job.activation == "relu" else -np.inf
        activation = "" if job.activation == "relu" else job.activation
        lanes, groups = machine.vectors()[0], len(job.weights)
        form = form_of(lanes, machine.vectors()[1], job)
        self._constants = form, activation
        self._units = len(job.starts_in)
        starts = np.array(job.starts_in, np.int64)
        apart = int(starts[1] - starts[0])
        self._layer = DepthwiseLayer(groups, apart, job.width, height, across)
        rows = (height - 1) * job.stride[0] + form.kernel[0]
        lines = np.full((height + form.live) * job.stride[0], NOWHERE, np.int64)
        seen = job.row_map[:rows]
        lines[:rows] = np.where(seen < 0, NOWHERE, seen * job.row_stride)
        self._arrays = starts, lines, np.zeros(lanes, np.float32)
        self._addresses = [jit.address(array) for array in self._arrays]
        vectors = height * -(-across // lanes)
        work = vectors * (form.kernel[0] * form.kernel[1] / 2 + (30 if activation else 6)) + 60
        self._band = max(int(CALL // work) // 2 * 2, 1 + form.pair)

    def __call__(
        self, out: Float32, source: Float32,
        weights: Array, bias: Array,
    ) -> None:  # fmt: skip
        """Compute out; source, weights (groups, M, …) and bias are laid out as in the job."""
        weights = contiguous(weights, np.float32)
        bias = np.ascontiguousarray(bias, np.float32)
        work = depthwise_planes(*self._constants).fix(
            out, source, weights, bias, *self._addresses, self._layer, self._floor
        )
        over_bands(self._units, self._band, work)
