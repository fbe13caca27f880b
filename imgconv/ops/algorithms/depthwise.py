"""Depthwise convolutions of a network: every channel by a kernel of its own, without a tile.

A block of ROWS output rows stays in registers while the rows that it sees pass by. Each row is read
once, where it lies, and the columns of the taps are slid out of its vectors: reading a row once a
column, by vectors masked to the plane, took a cycle and a half a multiplication. Only vectors at a
plane's sides are masked; a row above or below it is one of zeros. Planes of half a vector's width
go by pairs. Stride 2 takes every other lane of two vectors.

An activation follows over what was computed last, while it is in the first cache.

The terms are added in the order (ky, kx) from the bias on, as `matmul` adds them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.jit import cache as machine
from imgconv.jit import loop as jit
from imgconv.jit.instructions import fmuladd, not_under, prefetch, splat, vector_at
from imgconv.jit.loop import Built, Emitter, loop
from imgconv.jit.parallel import over_bands
from imgconv.ops import epilogue
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import NOWHERE
from imgconv.ops.arrays import contiguous
from imgconv.ops.microkernels import masked

ROWS = 7  # divides the maps of 7, 14, 28, 56 and 112 rows that networks have
FEWEST = 8  # planes of a layer
LARGEST = 5  # taps a side; unrolled, seven rows of 7×7 taps are 343 multiplications
CALL = 75_000  # cycles until another thread helps
SOME = 512  # outputs from which on their activation follows


class Form(NamedTuple):
    """What a block is: ROWS rows of `vectors` vectors.

    pair: a vector's halves are two planes.
    whole: the vectors hold all columns of a row, and all but the last are full.
    ahead: whether the next block's rows are asked for.
    inside: where one block is all outputs, which of the rows that it sees are the plane's, else ().
    """

    vectors: int
    pair: bool
    whole: bool
    ahead: bool
    inside: tuple[int, ...]

    @classmethod
    def of(cls, lanes: int, job: ConvProblem) -> "Form":
        """The form for a job's planes."""
        (height, across), width, step = job.out_size, job.width, job.stride[1]
        pair = across <= lanes // 2 and width <= lanes // 2 * step
        vectors = 1 if pair else min(-(-across // lanes), 4 if lanes == 16 else 2)
        full = (vectors - 1) * lanes * step <= width <= vectors * lanes * step
        whole = pair or (across <= vectors * lanes and full)
        # Where those beside are read too, three: 3×3 on 112×112 takes a seventh less than by four.
        vectors = vectors if whole else min(vectors, 3)
        # 5×5 of stride 2 on 56×56: half the time; what comes from memory, a fifth less.
        ahead = not whole or (step == 2 and vectors > 1)
        inside: tuple[int, ...] = ()
        if height == ROWS:
            found = np.flatnonzero(job.row_map >= 0)
            inside = int(found[0]), int(found[-1]) + 1
        return cls(vectors, pair, whole, ahead, inside)


def rows_of_taps(
    lanes: int, rows: int, kernel: tuple[int, int], stride: tuple[int, int], near: int, form: Form
) -> Emitter:
    """Emit `rows` output rows of a block: out[o + r·apart…] = bias[b] + Σ weights[w…] · pixels.

    Row j that the outputs see begins at source[base + lines[first + j]], or is zeros where that
    line is NOWHERE. Output x of a row sees its columns from x·stride − near on; columns under 0
    and from `width` on are zero. `left` outputs of a row are stored; what is less than `floor`
    becomes `floor` (NaN is not less). Of a pair, the second plane is that of o2, base2, w2, b2.

    A row is read once; the columns of the taps are made of it in registers.
    """
    (tall, wide), (down, step) = kernel, stride
    half = lanes // 2

    def emit(  # type: ignore[no-untyped-def]
        builder, out, o, o2, apart, source, base, base2, lines, first, zeros, weights, w, w2, bias,
        b, b2, x, width, left, floor,
    ):  # fmt: skip
        from llvmlite import ir

        i32, i64 = ir.IntType(32), ir.IntType(64)
        numbers, vector = ir.VectorType(i32, lanes), ir.VectorType(ir.FloatType(), lanes)
        fma = fmuladd(builder.module, vector)
        zero = ir.Constant(vector, [0.0] * lanes)
        begin = builder.mul(x, i64(step))
        # Zeros that LLVM does not know to be zeros: with those it slides by vexpandps, which is
        # slower (5×5 on 14×14: 585 cycles a plane instead of 330).
        hidden = builder.load(vector_at(builder, zeros, i64(0), lanes), align=4)

        def under(limit: Any, start: Any, ramp: Sequence[int] = range(lanes)) -> Any:
            """Whether start + ramp is in 0…limit − 1."""
            start, limit = (
                splat(builder, builder.trunc(value, i32), lanes) for value in (start, limit)
            )
            places = builder.add(start, ir.Constant(numbers, list(ramp)))
            return builder.icmp_unsigned("<", places, limit)

        def pick(low: Any, high: Any, places: list[int]) -> Any:
            return builder.shuffle_vector(low, high, ir.Constant(numbers, places))

        beyond = 0 if form.whole else 1  # vectors beside the block's that are read too
        bare = (form.vectors - 1) * step if form.whole else 0  # inside, whatever the width
        reads = range(-beyond * step, (form.vectors + beyond) * step)
        if form.pair:
            reads = range(1)
        starts = {n: builder.add(begin, i64(n * lanes)) for n in reads}
        masks = {n: under(width, starts[n]) for n in reads if n >= bare or not form.whole}
        if form.pair and step == 1:
            # Lanes of the other half are far beyond any width.
            far = 1 << 30
            masks = {
                0: under(width, i64(0), [*range(half), *[far] * half]),
                1: under(width, i64(0), [*[far] * half, *range(half)]),
            }

        def read(row: Any, n: int) -> Any:
            place = vector_at(builder, row, starts[n], lanes)
            if n not in masks:
                return builder.load(place, align=4)
            return masked.load(builder, place, masks[n], zero)

        def columns(row: Any, second: Any) -> list[list[Any]]:
            """For each column of taps the block's vectors of pixels."""
            if form.pair and step == 1:
                place = vector_at(builder, second, i64(-half), lanes)
                found = {(0, 0): masked.load(builder, place, masks[1], read(row, 0))}
            elif form.pair:
                low, high = read(row, 0), read(second, 0)
                found = {(p, 0): pick(low, high, [*range(p, 2 * lanes, 2)]) for p in range(2)}
            else:
                loaded = {n: read(row, n) for n in reads}
                found = {(0, n): value for n, value in loaded.items()}
                if step == 2:
                    found = {
                        (p, n // 2): pick(loaded[n], loaded[n + 1], [*range(p, 2 * lanes, 2)])
                        for p in range(2) for n in reads[::2]
                    }  # fmt: skip
            made = []
            for kx in range(wide):
                shift, phase = divmod(kx - near, step)
                if form.pair:
                    places = [
                        lane + shift if 0 <= lane % half + shift < half else lanes
                        for lane in range(lanes)
                    ]
                    made.append([pick(found[phase, 0], zero, places)])
                    continue
                made.append([])
                for v in range(form.vectors):
                    left_of = v - (shift < 0)
                    inner = form.whole and 0 <= left_of < form.vectors - 2
                    if shift == 0:
                        made[-1].append(found[phase, v])
                    elif step == 1 and inner:
                        place = builder.add(starts[v], i64(shift))
                        place = vector_at(builder, row, place, lanes)
                        made[-1].append(builder.load(place, align=4))
                    else:
                        low, high = (found.get((phase, n), hidden) for n in (left_of, left_of + 1))
                        first = (v - left_of) * lanes + shift
                        made[-1].append(pick(low, high, [*range(first, first + lanes)]))
            return made

        def number(array: Any, place: Any, other: Any, more: int = 0) -> Any:
            """A number of the plane in all lanes; of a pair, the second's in half of them."""
            one, two = (
                splat(
                    builder, builder.load(builder.gep(array, [builder.add(at, i64(more))])), lanes
                )
                for at in (place, other)
            )
            return pick(one, two, [*range(half), *range(lanes, lanes + half)]) if form.pair else one

        factors = [
            [number(weights, w, w2, ky * wide + kx) for kx in range(wide)] for ky in range(tall)
        ]
        stored = [under(left, i64(v * lanes)) for v in range(form.vectors)]
        if form.pair:
            stored = [
                under(left, i64(0), [*range(half), *[1 << 30] * half]),
                under(left, i64(0), [*[1 << 30] * half, *range(half)]),
            ]

        def store(value: Any, place: Any, v: int) -> None:
            spot = vector_at(builder, out, place, lanes)
            if form.whole and v < form.vectors - 1:
                builder.store(value, spot, align=4)
            else:
                masked.store(builder, value, spot, stored[v])

        least = splat(builder, floor, lanes)
        start = number(bias, b, b2)
        further = builder.mul(width, i64(rows * down))  # of the next block's rows
        sums = [[start] * form.vectors for _ in range(rows)]
        for j in range((rows - 1) * down + tall):
            line = builder.load(builder.gep(lines, [builder.add(first, i64(j))]))
            seen = [(r, j - r * down) for r in range(rows) if 0 <= j - r * down < tall]
            row, second = (builder.gep(source, [builder.add(at, line)]) for at in (base, base2))
            if rows == 1 or not form.inside:
                outside = builder.icmp_signed("==", line, i64(NOWHERE))
                row, second = (builder.select(outside, zeros, place) for place in (row, second))
            elif not form.inside[0] <= j < form.inside[1]:
                row = None
            pixels = columns(row, second) if row else []
            if form.ahead and rows > 1 and j < rows * down:
                for n in range(form.vectors * step):
                    place = builder.add(builder.add(base, line), builder.add(starts[n], further))
                    prefetch(builder, builder.gep(source, [place]))
            for kx in range(wide if row else 0):
                for r, ky in seen:
                    for v in range(form.vectors):
                        values = [factors[ky][kx], pixels[kx][v], sums[r][v]]
                        sums[r][v] = builder.call(fma, values)
            for r, ky in seen:
                if ky < tall - 1:
                    continue
                below = builder.mul(apart, i64(r))
                for v, value in enumerate(sums[r]):
                    value = not_under(builder, value, least)
                    store(value, builder.add(builder.add(o, below), i64(v * lanes)), v)
                    if form.pair:
                        store(value, builder.add(builder.add(o2, below), i64(-half)), 1)

    kinds = "f32* i64 i64 i64 f32* i64 i64 i64* i64 f32* f32* i64 i64 f32* i64 i64 i64 i64 i64 f32"
    return Emitter(kinds, emit)


@loop
def depthwise_planes(
    lanes: int, kernel: tuple[int, int], stride: tuple[int, int], near: int, form: Form,
    activation: str,
) -> Built:  # fmt: skip
    """Planes first…last − 1, which lie one after the other in `out`."""
    many = rows_of_taps(lanes, ROWS, kernel, stride, near, form)
    one = rows_of_taps(lanes, 1, kernel, stride, near, form)
    activate = epilogue.activate_outputs.part(activation) if activation else None
    taps = kernel[0] * kernel[1]
    down = stride[0]
    block = form.vectors * lanes
    abreast = 2 if form.pair else 1

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, starts, lines, zeros, height, across, width, floor,
        first, last,
    ):  # fmt: skip
        area = height * across
        done = first * area
        for number in range((last - first + abreast - 1) // abreast):
            plane = first + number * abreast
            # Where there is no other plane, the second is the same once more.
            second = min(plane + abreast - 1, last - 1)
            base, channel = starts[2 * plane], starts[2 * plane + 1]
            base2, channel2 = starts[2 * second], starts[2 * second + 1]
            blocks = height // ROWS
            for y in range(blocks + 1):
                for x in range(0, across if y < blocks else 0, block):
                    o = y * ROWS * across + x
                    many(
                        out, plane * area + o, second * area + o, across, source, base, base2,
                        lines, y * ROWS * down, zeros, weights, channel * taps, channel2 * taps,
                        bias, channel, channel2, x, width, across - x, floor,
                    )  # fmt: skip
                for row in range(y * ROWS, height if y == blocks else 0):
                    for x in range(0, across, block):
                        o = row * across + x
                        one(
                            out, plane * area + o, second * area + o, across, source, base, base2,
                            lines, row * down, zeros, weights, channel * taps, channel2 * taps,
                            bias, channel, channel2, x, width, across - x, floor,
                        )  # fmt: skip
                ready = plane * area + min((y + 1) * ROWS, height) * across - done
                if y == blocks:
                    ready = (second + 1) * area - done
                elif abreast > 1:
                    ready = 0
                # In whole vectors but at the end, and while the sums are in the first cache.
                if y < blocks or second + 1 < last:
                    ready = ready // epilogue.BLOCK * epilogue.BLOCK if ready >= SOME else 0
                if activate is not None:
                    activate(out, done, ready)
                done += ready

    kinds = "f32* f32* f32* f32* i64* i64* f32* i64 i64 i64 f32 i64 i64"
    return "disjoint " + kinds, body


def offer(job: ConvProblem) -> Candidate | None:
    """For layers of one channel and one map per group with zeros around them."""
    groups, _, _, kh, kw = job.weights.shape
    if not job.is_plain or groups < FEWEST or not _lies(job):
        return None
    reason = f"planes where they lie, {groups} of {kh}×{kw} taps"
    return Candidate("depthwise", 0.25 + 0.6 * traffic(job) + 0.02 * kh * kw, reason)


def _lies(job: ConvProblem) -> bool:
    """Whether vectors can read the planes where they lie."""
    _, maps, channels, *kernel = job.weights.shape
    area = job.out_size[0] * job.out_size[1]
    columns = np.arange(-job.near, len(job.col_map) - job.near)
    columns[columns >= job.width] = -1
    reach = job.stride[1] * machine.vectors()[0]  # columns of the vectors beside one
    return bool(
        maps == channels == job.pixel_stride == 1
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
        kernel = job.weights.shape[3], job.weights.shape[4]
        self._floor = 0.0 if job.activation == "relu" else -np.inf
        activation = "" if job.activation == "relu" else job.activation
        lanes = machine.vectors()[0]
        form = Form.of(lanes, job)
        self._constants = lanes, kernel, job.stride, job.near, form, activation
        self._units = len(job.starts_in)
        starts = np.empty((self._units, 2), np.int64)
        starts[:, 0] = job.starts_in
        starts[:, 1] = np.arange(self._units) % len(job.weights)
        lines = np.where(job.row_map < 0, NOWHERE, job.row_map * job.row_stride)
        columns = max(job.width, form.vectors * lanes * job.stride[1])
        self._arrays = starts, lines, np.zeros(columns, np.float32)
        self._addresses = [jit.address(array) for array in self._arrays]
        self._sizes = height, across, job.width, self._floor
        vectors = height * -(-across // lanes)
        work = vectors * (kernel[0] * kernel[1] / 2 + (30 if activation else 6)) + 60
        self._band = max(int(CALL // work), 1)

    def __call__(
        self, out: npt.NDArray[np.float32], source: npt.NDArray[np.float32],
        weights: npt.NDArray[Any], bias: npt.NDArray[Any],
    ) -> None:  # fmt: skip
        """Compute out; source, weights (groups, M, …) and bias are laid out as in the job."""
        weights = contiguous(weights, np.float32)
        bias = np.ascontiguousarray(bias, np.float32)
        work = depthwise_planes(*self._constants).fix(
            out, source, weights, bias, *self._addresses, *self._sizes
        )
        over_bands(self._units, self._band, work)
