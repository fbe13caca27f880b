"""Kernels of low rank: a sum of a few products of a column and a row, as passes of one tap each.

Square by square: as many output rows and as many elements of each as a vector has lanes, 16 with
AVX-512. Down, a square's sums stay in registers over all taps; then the square is turned by a
quarter, so that a vector holds one column. Across, the same code then runs again and turns the
result back: every vector that is read stands aligned in the first or second level cache, where
sums along the row would each read over the end of a cache line (41×41, 12 MP RGB u8, one core:
140 ms that way). No intermediate image exists. Every output is summed in one order by one code,
so neither bands nor strips nor threads change a bit.

Factors come from the singular value decomposition, or, where image and kernel are integers, from
an exact factorisation into integers: then every sum is an exact integer.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit import scratch, simd
from imgconv.jit.loop import Built, Helper, Wanted, loop
from imgconv.jit.record import array, record
from imgconv.ops import epilogue, exact
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import (
    Band,
    Layout,
    Strip,
    band_rows,
    loop_of,
    over_tasks,
    round_up,
)
from imgconv.ops.microkernels import sums as microkernel
from imgconv.ops.microkernels.sums import NOWHERE
from imgconv.typing import Float64

RESIDUE = 1e-6  # what factors may leave of a kernel, of its absolute sum
MOST = 8  # factors of a kernel; more cost as much as a Fourier transform
SPARE = 4  # rows and columns more than factors that may span a kernel
GROWTH = 4.0  # how much larger the factors' absolute sum may be: rounding grows with it
LEAST = 4  # rows and columns of a kernel; under that the dense sum is cheaper
STRIP = 2048  # elements of an output row that a strip has
CHUNK = 256  # elements of a square's rows that are finished and stored at a time


def _gather(real: str) -> Helper:
    """A helper: a vector of each of `rows` padded rows, from element e on, to a block of floats.

    places: where each row begins in the source, or NOWHERE for a row of fill.
    """

    side, convert = microkernel.lanes(real), microkernel.converted_rows(real)

    def body(block, source, places, rows, e, col_map, geometry, values):  # type: ignore[no-untyped-def]
        run = geometry.run
        first = e - geometry.near * run
        pixel = geometry.pixel_stride
        if pixel == run and first >= 0 and first + side <= geometry.width * run:
            convert(block, source, places, first, rows, values[epilogue.FILL])
            return
        for i in range(side):
            x = (e + i) // run
            column = col_map[x] if x < geometry.shift else np.int64(-1)
            at = column * pixel + (e + i) - x * run
            for j in range(rows):
                inside = column >= 0 and places[j] != NOWHERE
                block[j * side + i] = source[places[j] + at] if inside else values[epilogue.FILL]

    return Helper(body)


@record
class Passes(NamedTuple):
    """A kernel's factors: `kh` weights down of each, then `kw` across of each.

    ends[m]: the first factor after map m's. turned, sums: where these parts of the room begin.
    """

    ends: Annotated[Any, "i64*"]
    kh: int
    kw: int
    turned: int
    sums: int


@loop
def separable_rows(
    source: str, element: str, real: str, combine: str, divided: bool, activation: str
) -> Built:
    """Output rows of a band, pixels of a strip, of one unit.

    room: the rows that a square sees, for each factor the squares of a strip after the pass down,
    and finished rows of squares. places: where the rows that a square sees begin in the source.
    """
    combined = combine != "none"
    fold = epilogue.fold(combine, real, divided)
    write = epilogue.store_past_caches(element, real, divided, combined, activation)
    zero = jit.DTYPES[real].type(0)
    side = microkernel.lanes(real)
    square = side * side
    gather, sum_square = _gather(real), microkernel.turned_square(real)
    new = side * CHUNK if combined else 0

    def body(  # type: ignore[no-untyped-def]
        out, source, room, places, weights, bias, values, index, passes, geometry, band, strip
    ):
        run, maps, far = geometry.run, geometry.maps, geometry.plane
        kh, kw, ends = passes.kh, passes.kw, passes.ends
        turned, sums = simd.at(room, passes.turned), simd.at(room, passes.sums)
        across = simd.at(weights, ends[maps - 1] * kh)
        top, bottom, x = band.top, band.bottom, strip.x
        elements = strip.pixels * run
        seen = kh + side - 1
        squares = (elements + (kw - 1) * run + side - 1) // side
        for group in range((bottom - top + side - 1) // side):
            y = top + group * side
            rows = min(side, bottom - y)
            for j in range(seen):
                line = index.rows[min(y + j, bottom + kh - 2)]
                place = band.start_in + line * geometry.row_stride
                places[j] = place if line >= 0 else NOWHERE
            for b in range(squares):
                gather(
                    room, source, places, seen, x * run + b * side, index.columns, geometry, values
                )  # fmt: skip
                for r in range(ends[maps - 1]):
                    sum_square(
                        simd.at(turned, r * far + b * square), side, room, side, kh, 0, 1,
                        simd.at(weights, r * kh),
                    )  # fmt: skip
            for c in range((elements + CHUNK - 1) // CHUNK):
                count = min(CHUNK, elements - c * CHUNK)
                place = band.start_out + y * geometry.out_row + x * run + c * CHUNK
                for m in range(maps):
                    first = ends[m - 1] if m else 0
                    for b in range((count + side - 1) // side):
                        sum_square(
                            simd.at(sums, new + b * side), CHUNK,
                            simd.at(turned, first * far + (c * CHUNK + b * side) * side),
                            run * side, kw, far, ends[m] - first, simd.at(across, first * kw),
                        )  # fmt: skip
                    for j in range(rows):
                        at = j * CHUNK
                        if combined:
                            fold(sums, at, new + at, count, m, maps, bias, values)
                        if not combined or m == maps - 1:
                            to = place + j * geometry.out_row
                            if not combined:
                                to += m * geometry.out_map
                            write(out, to, sums, at, count, zero if combined else bias[m], values)
        simd.fence()

    arguments = (
        f"disjoint {element}* {source}* {real}* i64* {real}* {real}* {real}* Maps Passes Geometry* "
        "Band Strip"
    )
    return arguments, body


class Factors(NamedTuple):
    """A kernel as Σ down[r] ⊗ across[r]; exact where all of them are integers."""

    down: Float64
    across: Float64


def integer_factors(kernel: Float64) -> Factors | None:
    """The factors of an integer kernel of rank one in integers without a common divisor across."""
    rows, columns = np.nonzero(kernel)
    if rows.size == 0 or np.abs(kernel).max() >= exact.EXACT["f64"]:
        return None
    row = kernel[rows[0]]
    across = row / math.gcd(*(int(value) for value in row))
    down = kernel[:, columns[0]] / across[columns[0]]
    if (down != np.rint(down)).any() or (np.outer(down, across) != kernel).any():
        return None
    return Factors(down[None], across[None])


def real_factors(kernel: Float64, most: int) -> Factors | None:
    """At most `most` factors that leave no more than RESIDUE of the kernel, or None."""
    total = np.abs(kernel).sum()
    if not np.isfinite(total) or total == 0:
        return None
    for u, values, vt in _decomposed(kernel, most):
        scale = np.sqrt(values)
        down, across = (u * scale).T, vt * scale[:, None]
        if np.abs(kernel - down.T @ across).sum() <= RESIDUE * total:
            growth = (np.abs(down).sum(1) * np.abs(across).sum(1)).sum()
            return Factors(down, across) if growth <= GROWTH * total else None
    return None


def _decomposed(kernel: Float64, most: int) -> Iterator[tuple[Float64, Float64, Float64]]:
    """Singular value decompositions of rank 1, 2, … up to `most`, if so many say enough.

    Of a few rows and columns that span the kernel (elimination with complete pivoting): that of
    the kernel itself lets LAPACK's threads spin for 75 ms on both cores, from 41×41 on.
    """
    rest = kernel.copy()
    limit = RESIDUE / 8 * np.abs(kernel).sum()
    columns: list[Float64] = []
    rows: list[Float64] = []
    while np.abs(rest).sum() > limit:
        if len(rows) == min(most + SPARE, *kernel.shape):
            return
        i, j = np.unravel_index(np.abs(rest).argmax(), rest.shape)
        columns.append(rest[:, j] / rest[i, j])
        rows.append(rest[i].copy())
        rest -= np.outer(columns[-1], rows[-1])
    left, upper = np.linalg.qr(np.stack(columns, 1))
    right, lower = np.linalg.qr(np.stack(rows, 1))
    u, values, vt = np.linalg.svd(upper @ lower.T)
    for rank in range(1, min(most, len(values)) + 1):
        yield left @ u[:, :rank], values[:rank], vt[:rank] @ right.T


def offer(job: ConvProblem) -> Candidate | None:
    """For one input channel, no stride and no dilation, where the factors are few enough.

    Float sums miss the exact ones by less than 1e-5 of the kernel's absolute sum times the largest
    value. A float image must be met by no zero tap (a NaN there would spread) and by one factor
    alone (Inf − Inf would be a NaN).
    """
    groups, maps, channels, kh, kw = job.weights.shape
    if channels > 1 or job.stride != (1, 1) or job.dilation != (1, 1) or min(kh, kw) < LEAST:
        return None
    if job.is_small(kh * kw):
        return None
    whole = job.whole or exact.is_integer(job.source.dtype, job.weights, job.fill)
    floats = not np.issubdtype(job.source.dtype, np.integer)
    if floats and not job.weights.all():
        return None
    most = 1 if floats or whole else MOST
    found = []
    for kernel in job.weights.reshape(groups * maps, kh, kw):
        factors = integer_factors(kernel) if whole else real_factors(kernel, most)
        if factors is None:
            return None
        found.append(factors)
    rank = sum(len(factors.down) for factors in found) / len(found)
    lanes = 0.5 if job.real == "f64" else 1.0
    # Measured, u8 and float32: 9×9 0.7 and 1.0, 15×15 0.9 and 1.2, 31×31 1.4 and 1.8, 63×63 2.3
    # and 3.1; of rank two 15×15 1.2, 31×31 2.1.
    # What is not u8 leaves the first-level cache between squares.
    wide = 0.008 * kh if job.source.itemsize > 1 else 0.0
    cost = (0.28 + 0.5 * traffic(job) + wide + 0.0155 * rank * (kh + kw)) / lanes
    kind = "in integers, exact" if whole else f"{rank:g} of rank one a map"
    return Candidate("separable", cost, f"rows, then columns of {kh}×{kw} taps ({kind})", found)


def loops(job: ConvProblem, choice: Candidate) -> list[Wanted]:
    """The loops that `run` needs."""
    return [loop_of(separable_rows, job)]


def run(job: ConvProblem, choice: Candidate) -> None:
    """Compute the job's outputs, threads over bands of rows and strips of columns."""
    groups, maps, _, kh, kw = job.weights.shape
    real = jit.DTYPES[job.real]
    height, width = job.out_size
    strips = max(1, width * job.run // STRIP)
    wide = -(-width // strips)
    strips = -(-width // wide)
    side = microkernel.lanes(job.real)
    far = round_up((wide + kw) * job.run + side, CHUNK) * side
    turned = (kh + side) * side
    banks = []
    for group in range(groups):
        factors = choice.detail[group * maps : (group + 1) * maps]
        ends = np.cumsum([len(factor.down) for factor in factors]).astype(np.int64)
        passes = Passes(ends, kh, kw, turned, turned + int(ends[-1]) * far)
        weights = [factor.down.ravel() for factor in factors]
        weights += [factor.across.ravel() for factor in factors]
        banks.append(
            (np.concatenate(weights).astype(real), np.ascontiguousarray(job.bias[group], real),
             passes)
        )  # fmt: skip
    size = max(passes.sums for _, _, passes in banks) + 2 * side * CHUNK
    layout = Layout.of(job)
    geometry = array(layout.geometry(job, wide, 1)._replace(shift=len(job.col_map), plane=far))
    index = layout.maps(job)
    values = epilogue.make_values(
        job.real, job.fill, job.gain, job.offset, job.divisor, job.out.nbytes
    )
    rows_loop = loops(job, choice)[0].load()
    band = band_rows(job, side, len(job.starts_in) * strips)
    per_unit = -(-height // band) * strips

    def work(first: int, last: int) -> None:
        room = scratch.address("squares", size, real)
        places = scratch.address("places", kh + side, np.int64)
        for number in range(first, last):
            unit, rest = divmod(number, per_unit)
            turn, strip = divmod(rest, strips)
            weights, bias, passes = banks[unit % groups]
            rows_loop(
                job.out, job.source, room, places, weights, bias, values, index, passes, geometry,
                Band(
                    job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                    turn * band, min(height, (turn + 1) * band),
                ),
                Strip(strip * wide, min(wide, width - strip * wide)),
            )  # fmt: skip

    over_tasks(job, per_unit * len(job.starts_in), work)
