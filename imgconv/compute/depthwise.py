"""Depthwise convolutions of a network: every channel by a kernel of its own, without a tile.

Rows of a plane are read where they lie, by vectors whose lanes beyond the plane are masked to
zero; a row above or below the plane is one of zeros. A block of ROWS output rows stays in
registers while the rows that it sees pass by, each read once for every column of taps. Stride 2
reads two vectors and takes every other lane. Copying 7×7 planes into a tile and back took twice as
long as the multiplications do.

The terms are added in the order (ky, kx) from the bias on, as `matmul` adds them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import epilogue, jit, masked
from imgconv.compute import store as machine
from imgconv.compute.bands import over_bands
from imgconv.compute.instructions import fmuladd, splat
from imgconv.compute.jit import Built, Emitter, loop
from imgconv.compute.tiles import Job

ROWS = 7  # divides the maps of 7, 14, 28, 56 and 112 rows that networks have
LARGEST = 5  # taps a side; unrolled, seven rows of 7×7 taps are 343 multiplications
CALL = 75_000  # cycles until another thread helps


def rows_of_taps(
    lanes: int, rows: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> Emitter:
    """Emit `rows` output rows of a vector: out[o + r·apart…] = bias[b] + Σ weights[w…] · pixels.

    Row j that the outputs see begins at source[base + lines[first + j]], or is zeros where that
    line is −1. Output x of a row sees its columns from x·stride − near on; columns under 0 and from
    `width` on are zero. `left` outputs of the vector are stored; what is less than `floor` becomes
    `floor` (NaN is not less).
    """
    (tall, wide), (down, step) = kernel, stride

    def emit(  # type: ignore[no-untyped-def]
        builder, out, o, apart, source, base, lines, first, zeros, weights, w, bias, b, x, near,
        width, left, floor,
    ):  # fmt: skip
        from llvmlite import ir

        i64 = ir.IntType(64)
        fma = fmuladd(builder.module, ir.VectorType(ir.FloatType(), lanes))
        begin = builder.sub(builder.mul(x, i64(step)), near)
        columns = masked.columns(builder, lanes, step, wide, begin, width, 0.0)
        factors = [
            [
                splat(builder, builder.load(builder.gep(weights, [builder.add(w, i64(t))])), lanes)
                for t in range(ky * wide, (ky + 1) * wide)
            ]
            for ky in range(tall)
        ]
        sums = [splat(builder, builder.load(builder.gep(bias, [b])), lanes)] * rows
        for j in range((rows - 1) * down + tall):
            line = builder.load(builder.gep(lines, [builder.add(first, i64(j))]))
            row = builder.select(
                builder.icmp_signed("<", line, i64(0)), zeros,
                builder.gep(source, [builder.add(base, line)]),
            )  # fmt: skip
            for kx, pixel in enumerate(columns(row)):
                for r in range(rows):
                    ky = j - r * down
                    if 0 <= ky < tall:
                        sums[r] = builder.call(fma, [factors[ky][kx], pixel, sums[r]])
        least = splat(builder, floor, lanes)
        sums = [
            builder.select(builder.fcmp_ordered("<", value, least), least, value) for value in sums
        ]
        masked.store_rows(builder, lanes, out, o, apart, sums, left)

    kinds = "f32* i64 i64 f32* i64 i64* i64 f32* f32* i64 f32* i64 i64 i64 i64 i64 f32"
    return Emitter(kinds, emit)


@loop
def depthwise_planes(
    lanes: int, kernel: tuple[int, int], stride: tuple[int, int], activation: str
) -> Built:
    """Planes first…last − 1, which lie one after the other in `out`."""
    many = rows_of_taps(lanes, ROWS, kernel, stride)
    one = rows_of_taps(lanes, 1, kernel, stride)
    activate = epilogue.activate_run(activation)
    taps = kernel[0] * kernel[1]
    down = stride[0]

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, starts, lines, zeros, height, across, width, near, floor,
        first, last,
    ):  # fmt: skip
        area = height * across
        for plane in range(first, last):
            base, channel = starts[2 * plane], starts[2 * plane + 1]
            for y in range(height // ROWS):
                for block in range((across + lanes - 1) // lanes):
                    x = block * lanes
                    many(
                        out, plane * area + y * ROWS * across + x, across, source, base, lines,
                        y * ROWS * down, zeros, weights, channel * taps, bias, channel, x, near,
                        width, across - x, floor,
                    )  # fmt: skip
            for y in range(height // ROWS * ROWS, height):
                for block in range((across + lanes - 1) // lanes):
                    x = block * lanes
                    one(
                        out, plane * area + y * across + x, across, source, base, lines, y * down,
                        zeros, weights, channel * taps, bias, channel, x, near, width, across - x,
                        floor,
                    )  # fmt: skip
        activate(out, first * area, (last - first) * area)

    kinds = "f32* f32* f32* f32* i64* i64* f32* i64 i64 i64 i64 f32 i64 i64"
    return "disjoint " + kinds, body


def applies(job: Job) -> bool:
    """Whether a job that `matmul` takes is computed here: one channel a map, zeros around it."""
    _, maps, channels, *kernel = job.weights.shape
    area = job.out_size[0] * job.out_size[1]
    columns = np.arange(-job.near, len(job.col_map) - job.near)
    columns[columns >= job.width] = -1
    return bool(
        maps == channels == job.pixel_stride == 1
        and job.fill == 0 and max(kernel) <= LARGEST and max(job.stride) <= 2
        and job.dilation == (1, 1) and machine.vectors()[0] >= 8  # without AVX lanes have no masks
        and job.starts_out == [unit * area for unit in range(len(job.starts_in))]
        and (np.maximum(job.col_map, -1) == np.maximum(columns, -1)).all()
    )  # fmt: skip


class Product:
    """All that a job says beside its numbers: as `matmul.Product`."""

    def __init__(self, job: Job) -> None:
        height, across = job.out_size
        kernel = job.weights.shape[3], job.weights.shape[4]
        self._floor = 0.0 if job.activation == "relu" else -np.inf
        activation = "" if job.activation == "relu" else job.activation
        lanes = machine.vectors()[0]
        self._constants = lanes, kernel, job.stride, activation
        self._units = len(job.starts_in)
        starts = np.empty((self._units, 2), np.int64)
        starts[:, 0] = job.starts_in
        starts[:, 1] = np.arange(self._units) % len(job.weights)
        lines = np.where(job.row_map < 0, -1, job.row_map * job.row_stride)
        self._arrays = starts, lines, np.zeros(job.width, np.float32)
        self._addresses = [jit.address(array) for array in self._arrays]
        self._sizes = height, across, job.width, job.near, self._floor
        vectors = height * -(-across // lanes)
        work = vectors * (kernel[0] * kernel[1] / 2 + (30 if activation else 6)) + 60
        self._band = max(int(CALL // work), 1)

    def __call__(
        self, out: npt.NDArray[np.float32], source: npt.NDArray[np.float32],
        weights: npt.NDArray[Any], bias: npt.NDArray[Any],
    ) -> None:  # fmt: skip
        """Compute out; source, weights (groups, M, …) and bias are laid out as in the job."""
        weights = np.ascontiguousarray(weights, np.float32)
        bias = np.ascontiguousarray(bias, np.float32)
        work = depthwise_planes(*self._constants).fix(
            out, source, weights, bias, *self._addresses, *self._sizes
        )
        over_bands(self._units, self._band, work)
