"""Kernels of low rank: a sum of a few products of a column and a row, as passes of one tap each.

A strip of columns goes down its rows once. Each padded row is converted, filtered along x and put
into a ring of as many rows as the kernel has, which stays in the second-level cache; each output
row is a sum down the ring, four rows at a time. No intermediate image exists. Every output is
summed in one order by one code, so neither bands nor strips nor threads change a bit.

Factors come from the singular value decomposition, or, where image and kernel are integers, from
an exact factorisation into integers: then every sum is an exact integer.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.compute import epilogue, exact, jit, plan, store, tiles
from imgconv.compute.bands import over_bands
from imgconv.compute.jit import Built, loop
from imgconv.compute.plan import Offer
from imgconv.compute.tiles import Job, Layout, band_rows, convert_row, round_up
from imgconv.compute.vectors import dot, dot_rows

RESIDUE = 1e-6  # what factors may leave of a kernel, of its absolute sum
MOST = 8  # factors of a kernel; more cost as much as a Fourier transform
GROWTH = 4.0  # how much larger the factors' absolute sum may be: rounding grows with it
BLOCK = 64  # elements whose sums stay in registers over all taps across
# And down, for ROWS rows: two vectors of AVX-512 each, so that no sum waits for its last product.
SHARED = 32 if store.vectors()[0] == 16 else 16
RING = 48_000  # floats of all rings of a strip
PIXELS = 512  # of a strip at least where the ring allows it

ROWS = 4  # output rows that share each row loaded from the ring
_ACROSS = dot(BLOCK // SHARED, SHARED)
_DOWN = dot_rows(ROWS, SHARED)


@loop
def separable_rows(
    source: str, element: str, real: str, combine: str, divided: bool, activation: str
) -> Built:
    """Output rows top…bottom − 1 of the pixels from x on, of one unit.

    ring: for each factor and group of SHARED columns the rows of the ring, one behind the other
    (rows a page apart would each wait for the cache); places: where each row begins, twice over.
    across, down: the factors, a row each; ends[m] is the first factor after map m's.
    """
    combined = combine != "none"
    fold = epilogue.fold(combine, real, divided)
    write = epilogue.store(element, real, divided, combined, activation)
    zero = jit.DTYPES[real].type(0)
    sum_across, sum_down = _ACROSS, _DOWN

    def body(  # type: ignore[no-untyped-def]
        out, source, line, ring, sums, row_map, col_map, places, across, down, ends, bias, values,
        geometry, kh, kw, start_in, start_out, top, bottom, x, pixels,
    ):  # fmt: skip
        run = geometry[tiles.RUN]
        maps = geometry[tiles.MAPS]
        count = pixels * run
        pitch = geometry[tiles.SUMS]
        size = kh + ROWS - 1
        new = ROWS * pitch if combined else np.int64(0)
        ready = top
        for group in range((bottom - top + ROWS - 1) // ROWS):
            y = top + group * ROWS
            rows = min(ROWS, bottom - y)
            for j in range(ready, y + rows + kh - 1):
                convert_row(
                    line, np.int64(0), source, row_map[j],
                    start_in + row_map[j] * geometry[tiles.ROW_STRIDE], x, pixels + kw - 1, col_map,
                    geometry, values[epilogue.FILL],
                )  # fmt: skip
                for r in range(ends[maps - 1]):
                    to = r * size * pitch + places[j % size]
                    for b in range((count + BLOCK - 1) // BLOCK):
                        sum_across(
                            ring, to + b * BLOCK * size, SHARED * size, line, b * BLOCK, run, kw,
                            across, r * kw,
                        )  # fmt: skip
            ready = y + rows + kh - 1
            place = start_out + y * geometry[tiles.OUT_ROW] + x * run
            for m in range(maps):
                first = ends[m - 1] if m else 0
                for r in range(first, ends[m]):
                    for b in range((count + SHARED - 1) // SHARED):
                        sum_down(
                            sums, new + b * SHARED, pitch, ring, (r * pitch + b * SHARED) * size,
                            places, y % size, kh, down, r * kh, 1 if r == first else 0,
                        )  # fmt: skip
                for j in range(rows):
                    at = j * pitch
                    if combined:
                        fold(sums, at, new + at, count, m, maps, bias, values)
                    if not combined or m == maps - 1:
                        to = place + j * geometry[tiles.OUT_ROW]
                        if not combined:
                            to += m * geometry[tiles.OUT_MAP]
                        write(out, to, sums, at, count, zero if combined else bias[m], values)

    arguments = (
        f"disjoint {element}* {source}* {real}* {real}* {real}* i64* i64* i64* {real}* {real}* "
        f"i64* {real}* {real}* i64* i64 i64 i64 i64 i64 i64 i64 i64"
    )
    return arguments, body


class Factors(NamedTuple):
    """A kernel as Σ down[r] ⊗ across[r]; exact where all of them are integers."""

    down: npt.NDArray[np.float64]
    across: npt.NDArray[np.float64]


def integer_factors(kernel: npt.NDArray[np.float64]) -> Factors | None:
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


def real_factors(kernel: npt.NDArray[np.float64], most: int) -> Factors | None:
    """At most `most` factors that leave no more than RESIDUE of the kernel, or None."""
    total = np.abs(kernel).sum()
    if not np.isfinite(total) or total == 0:
        return None
    u, values, vt = np.linalg.svd(kernel, full_matrices=False)
    for rank in range(1, min(most, len(values)) + 1):
        scale = np.sqrt(values[:rank])
        down, across = (u[:, :rank] * scale).T, vt[:rank] * scale[:, None]
        if np.abs(kernel - down.T @ across).sum() <= RESIDUE * total:
            growth = (np.abs(down).sum(1) * np.abs(across).sum(1)).sum()
            return Factors(down, across) if growth <= GROWTH * total else None
    return None


def offer(job: Job) -> Offer | None:
    """For one input channel, no stride and no dilation, where the factors are few enough.

    Float sums miss the exact ones by less than 1e-5 of the kernel's absolute sum times the largest
    value. A float image must be met by no zero tap (a NaN there would spread) and by one factor
    alone (Inf − Inf would be a NaN).
    """
    groups, maps, channels, kh, kw = job.weights.shape
    if channels > 1 or job.stride != (1, 1) or job.dilation != (1, 1) or min(kh, kw) < ROWS:
        return None
    if job.outputs * kh * kw < plan.SMALL:
        return None
    whole = exact.is_integer(job.source.dtype, job.weights, job.fill)
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
    # Measured, u8 and float32, output pages included: 5×5 0.95 where direct takes 0.85; 9×9 1.0
    # and 1.9, 17×17 1.4 and 2.3, 41×41 4.4 and 5.0.
    cost = (0.5 + 0.036 * rank * (kh + kw)) / lanes
    kind = "in integers, exact" if whole else f"{rank:g} of rank one a map"
    return Offer("separable", cost, f"rows, then columns of {kh}×{kw} taps ({kind})", found)


def run(job: Job, choice: Offer) -> None:
    """Compute the job's outputs, threads over bands of rows and strips of columns."""
    groups, maps, _, kh, kw = job.weights.shape
    real = jit.DTYPES[job.real]
    banks = []
    for group in range(groups):
        factors = choice.detail[group * maps : (group + 1) * maps]
        ends = np.cumsum([len(factor.down) for factor in factors]).astype(np.int64)
        # C order: the decomposition's own arrays are transposed.
        down = np.concatenate([factor.down for factor in factors]).astype(real, "C")
        across = np.concatenate([factor.across for factor in factors]).astype(real, "C")
        banks.append((across, down, ends, np.ascontiguousarray(job.bias[group], real)))
    rank = max(int(ends[-1]) for _, _, ends, _ in banks)
    height, width = job.out_size
    wide = min(width, max(RING // (rank * kh * job.run), min(PIXELS, 2 * kw)))
    strips = -(-width // wide)
    wide = -(-width // strips)
    geometry = Layout.of(job).geometry(job, wide, 1)
    pitch = round_up(wide * job.run, BLOCK)
    geometry[tiles.SUMS] = pitch
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    rows_loop = separable_rows(
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype],
        job.real, job.combine, job.divisor != 1.0, job.activation,
    )  # fmt: skip
    size = kh + ROWS - 1
    places = np.tile(np.arange(size, dtype=np.int64) * SHARED, 2)
    # A band filters kh − 1 rows more than it has.
    band = max(band_rows(height, 1, len(job.starts_in) * strips), min(height, 4 * kh))
    per_unit = -(-height // band) * strips

    def work(first: int, last: int) -> None:
        line = np.zeros((wide + kw) * job.run + 2 * BLOCK, real)
        ring = _aligned(rank * (kh + ROWS - 1) * pitch + BLOCK, real)
        sums = np.empty(2 * ROWS * pitch + BLOCK, real)
        for index in range(first, last):
            unit, rest = divmod(index, per_unit)
            turn, strip = divmod(rest, strips)
            rows_loop(
                job.out, job.source, line, ring, sums, job.row_map, job.col_map, places,
                *banks[unit % groups], values, geometry, kh, kw,
                job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                turn * band, min(height, (turn + 1) * band),
                strip * wide, min(wide, width - strip * wide),
            )  # fmt: skip

    over_bands(per_unit * len(job.starts_in), 1, work)


def _aligned(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Zeros that begin at a line of the cache, so that no vector of them straddles two."""
    spare = 64 // dtype.itemsize
    found = np.zeros(count + spare, dtype)
    first = -found.__array_interface__["data"][0] % 64 // dtype.itemsize
    return found[first : first + count]
