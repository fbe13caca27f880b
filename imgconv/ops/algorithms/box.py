"""Boxes by running sums: the time hardly depends on the size.

A sum down each column loses the row that leaves the window and gains the one that enters. Along
the row, sums of √kw neighbours are added up to the window: fewer than 2 √kw + 2 additions of whole
vectors, faster than a running sum, of which each waits for the one before (12 MP RGB u8: 53 ms of
CPU at 15×15, 40 now). Only for integer images under a kernel of one integer, where every sum is
exact: in floats the running sums would keep what rounding left of rows long gone, and a NaN for
ever.
"""

import math

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit import simd
from imgconv.jit.loop import Built, Helper, Wanted, loop
from imgconv.ops import epilogue, exact
from imgconv.ops.algorithms import tiles
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import Layout, band_rows, convert_row, over_tasks
from imgconv.ops.microkernels import sums as microkernel

STRIP = 2048  # elements of a row, five lines of which lie in the first-level cache
BLOCK = 64  # elements whose sums stay in registers


def _enter(  # type: ignore[no-untyped-def]
    line, source, row, start, x, seen, row_map, col_map, geometry, values
):
    """Write padded row `row` from padded column x to line."""
    at = row_map[row]
    convert_row(
        line, np.int64(0), source, at, start + at * geometry[tiles.ROW_STRIDE], x, seen, col_map,
        geometry, values[epilogue.FILL],
    )  # fmt: skip


enter = Helper(_enter)


@loop
def box_rows(source: str, element: str, real: str, divided: bool, activation: str) -> Built:
    """Output rows top…bottom − 1 of the pixels from x on, of one unit.

    inner: neighbours that `parts` adds up; ones, weights: kw times 1 and the kernel's integer.
    """
    store = epilogue.store(element, real, divided, False, activation)
    zero = jit.DTYPES[real].type(0)
    add_up = microkernel.along(real, BLOCK // microkernel.lanes(real))

    def body(  # type: ignore[no-untyped-def]
        out, source, line, gone, columns, parts, sums, row_map, col_map, ones, weights, bias,
        values, geometry, kh, kw, inner, start_in, start_out, top, bottom, x, pixels,
    ):  # fmt: skip
        run = geometry[tiles.RUN]
        seen = pixels + kw - 1
        count = pixels * run
        outer = kw // inner
        blocks = (count + BLOCK - 1) // BLOCK
        wider = (count + (outer - 1) * inner * run + BLOCK - 1) // BLOCK
        for i in range(seen * run):
            columns[i] = zero
        for row in range(top, bottom + kh - 1):
            enter(
                line, source, row, start_in, x, seen, row_map, col_map, geometry, values
            )  # fmt: skip
            if row < top + kh:
                for i in range(seen * run):
                    columns[i] += line[i]
            else:
                enter(
                    gone, source, row - kh, start_in, x, seen, row_map, col_map, geometry, values
                )  # fmt: skip
                for i in range(seen * run):
                    columns[i] += line[i] - gone[i]
            if row < top + kh - 1:
                continue
            for b in range(wider):
                at = b * BLOCK
                add_up(simd.at(parts, at), simd.at(columns, at), run, inner, ones)
            for b in range(blocks):
                at = b * BLOCK
                add_up(simd.at(sums, at), simd.at(parts, at), inner * run, outer, weights)
            for k in range(outer * inner, kw):
                for i in range(count):
                    sums[i] += weights[0] * columns[i + k * run]
            place = start_out + (row - kh + 1) * geometry[tiles.OUT_ROW] + x * run
            store(out, place, sums, np.int64(0), count, bias[0], values)

    arguments = (
        f"disjoint {element}* {source}* {real}* {real}* {real}* {real}* {real}* i64* i64* {real}* "
        f"{real}* {real}* {real}* i64* i64 i64 i64 i64 i64 i64 i64 i64 i64"
    )
    return arguments, body


def offer(job: ConvProblem) -> Candidate | None:
    """For one map of one channel, without stride or dilation, of one integer all over."""
    _, maps, channels, kh, kw = job.weights.shape
    if channels > 1 or maps > 1 or job.stride != (1, 1) or job.dilation != (1, 1):
        return None
    if job.is_small(kh * kw) or (job.weights != job.weights[0, 0, 0, 0, 0]).any():
        return None
    if not exact.is_integer(job.source.dtype, job.weights, job.fill):
        return None
    # Measured, u8: 5×5 0.7, 15×15 0.8, 31×31 1.1, 63×63 1.2.
    cost = 0.3 + 0.9 * traffic(job) + 0.08 * math.sqrt(kw)
    cost /= 0.5 if job.real == "f64" else 1.0
    return Candidate("box", cost, f"running sums over {kh}×{kw} (exact)")


def loops(job: ConvProblem, choice: Candidate) -> list[Wanted]:
    """The loops that `run` needs."""
    constants = (
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype], job.real,
        job.divisor != 1.0, job.activation,
    )  # fmt: skip
    return [Wanted(box_rows, constants)]


def run(job: ConvProblem, choice: Candidate) -> None:
    """Compute the job's outputs, threads over bands of rows and strips of columns."""
    groups, _, _, kh, kw = job.weights.shape
    real = jit.DTYPES[job.real]
    height, width = job.out_size
    strips = max(1, -(-width * job.run // max(STRIP, 2 * kw * job.run)))
    wide = -(-width // strips)
    geometry = Layout.of(job).geometry(job, wide, 1)
    bias = np.ascontiguousarray(job.bias, real)
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    rows_loop = loops(job, choice)[0].load()
    weights = np.full(kw, job.weights[0, 0, 0, 0, 0], real)
    ones = np.ones(kw, real)
    inner = math.isqrt(kw)
    # A band begins with kh rows that give no output.
    band = max(band_rows(job, 1, len(job.starts_in) * strips), min(height, 4 * kh))
    per_unit = -(-height // band) * strips

    def work(first: int, last: int) -> None:
        size = (wide + 2 * kw) * job.run + 2 * BLOCK
        line, gone, columns, parts, sums = np.zeros((5, size), real)
        for index in range(first, last):
            unit, rest = divmod(index, per_unit)
            turn, strip = divmod(rest, strips)
            pixels = min(wide, width - strip * wide)
            if pixels > 0:
                rows_loop(
                    job.out, job.source, line, gone, columns, parts, sums, job.row_map,
                    job.col_map, ones, weights, bias[unit % groups], values, geometry, kh, kw,
                    inner, job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                    turn * band, min(height, (turn + 1) * band), strip * wide, pixels,
                )  # fmt: skip

    over_tasks(job, per_unit * len(job.starts_in), work)
