"""Boxes by running sums: the time hardly depends on the size.

A sum down each column loses the row that leaves the window and gains the one that enters. Along
the row, sums of √kw neighbors are added up to the window: fewer than 2 √kw + 2 additions of whole
vectors, faster than a running sum, of which each waits for the one before. Only for integer images
under a kernel of one integer, where every sum is exact: in floats the running sums would keep what
rounding left of rows long gone, and a NaN for ever. So the sums are 32-bit integers where they fit,
and are converted when they are complete.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit import scratch, simd
from imgconv.jit.loop import Built, Helper, Wanted, loop
from imgconv.jit.record import array, record
from imgconv.ops import epilogue, exact
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import Band, Layout, Strip, band_rows, over_tasks, round_up
from imgconv.ops.microkernels import sums as microkernel

STRIP = 2048  # elements of a row, whose sums lie in the first-level cache
BLOCK = 64  # elements whose sums stay in registers


@record
class Box(NamedTuple):
    """Rows and columns of the kernel; how many columns are added up at a time.

    parts: where sums of so many neighbors stand, after the sums of columns.
    """

    rows: int
    columns: int
    inner: int
    parts: int


@record
class Seen(NamedTuple):
    """Padded columns x…x + width − 1; first…end − 1 of them stand in the source in one piece."""

    x: int
    width: int
    first: int
    end: int


@functools.cache
def _slide(whole: str) -> Helper:
    """A helper that lets padded row `row` into the sums of columns, and the one that leaves out."""
    number = jit.DTYPES[whole].type

    def slide(columns, source, index, geometry, band, seen, row, height, fill):  # type: ignore[no-untyped-def]
        run = geometry.run
        pixel = geometry.pixel_stride
        new, full = index.rows[row], row >= band.top + height
        old = index.rows[row - height] if full else np.int64(-1)
        gone = fill if full else fill - fill
        here = band.start_in + new * geometry.row_stride
        there = band.start_in + old * geometry.row_stride
        first, end = seen.first, seen.end
        inside = (seen.x + first - geometry.near) * pixel
        at, count = first * run, (end - first) * run
        if new >= 0 and old >= 0:
            for i in range(count):
                columns[at + i] += number(source[here + inside + i]) - number(
                    source[there + inside + i]
                )
        elif new >= 0:
            for i in range(count):
                columns[at + i] += number(source[here + inside + i]) - gone
        elif old >= 0:
            for i in range(count):
                columns[at + i] += fill - number(source[there + inside + i])
        else:
            for i in range(count):
                columns[at + i] += fill - gone
        for side in range(2):
            for c in range(end if side else 0, seen.width if side else first):
                column = index.columns[seen.x + c]
                place = column * pixel  # below 0 where columns are read backwards
                for e in range(run):
                    enters, leaves = fill, gone
                    if new >= 0 and column >= 0:
                        enters = number(source[here + place + e])
                    if old >= 0 and column >= 0:
                        leaves = number(source[there + place + e])
                    columns[c * run + e] += enters - leaves

    return Helper(slide)


@loop
def box_rows(
    source: str, element: str, whole: str, real: str, divided: bool, activation: str
) -> Built:
    """Output rows of a band, pixels of a strip, of one unit.

    whole: the type of the sums; weights: the kernel's integer.
    """
    store = epilogue.store(element, real, divided, False, activation)
    lanes = microkernel.lanes(whole)
    block = simd.Tile(1, BLOCK // lanes, lanes, whole)
    finished = simd.Tile(1, BLOCK // lanes, lanes, real)
    slide = _slide(whole)
    number, zero = jit.DTYPES[whole].type, jit.DTYPES[whole].type(0)

    def body(  # type: ignore[no-untyped-def]
        out, source, columns, sums, weights, bias, values, index, box, geometry, band, strip
    ):
        run, x, pixels = geometry.run, strip.x, strip.pixels
        kh, kw, inner = box.rows, box.columns, box.inner
        count, outer = pixels + kw - 1, kw // inner
        parts = simd.at(columns, box.parts)
        near = geometry.near
        level = geometry.pixel_stride == run
        first = min(max(near - x, 0), count) if level else count
        end = min(max(near + geometry.width - x, first), count) if level else count
        seen = Seen(x, count, first, end)
        fill = number(values[epilogue.FILL])
        for i in range(count * run):
            columns[i] = zero
        for row in range(band.top, band.bottom + kh - 1):
            slide(columns, source, index, geometry, band, seen, row, kh, fill)
            if row < band.top + kh - 1:
                continue
            for i in range(0, (pixels + (outer - 1) * inner) * run, BLOCK):
                total = simd.zeros(block)
                for k in range(inner):
                    total = total + simd.load(block, columns, i + k * run)
                simd.store(parts, i, total)
            for i in range(0, pixels * run, BLOCK):
                total = simd.zeros(block)
                for k in range(outer):
                    total = total + simd.load(block, parts, i + k * inner * run)
                for k in range(outer * inner, kw):
                    total = total + simd.load(block, columns, i + k * run)
                scaled = simd.convert(finished, total) * simd.splat(finished, weights[0])
                simd.store(sums, i, scaled)
            place = band.start_out + (row - kh + 1) * geometry.out_row + x * run
            store(out, place, sums, np.int64(0), pixels * run, bias[0], values)

    arguments = (
        f"disjoint {element}* {source}* {whole}* {real}* {real}* {real}* {real}* "
        "Maps Box Geometry* Band Strip"
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
    # Measured, u8, on a faster CPU than the others' constants: 5×5 0.27, 15×15 0.34, 31×31 0.45,
    # 63×63 0.58; the separable passes 0.31, 0.50, 0.85 and 1.55.
    cost = 0.25 + 0.5 * traffic(job) + 0.07 * math.sqrt(kw)
    cost /= 0.65 if job.real == "f64" else 1.0
    return Candidate("box", cost, f"running sums over {kh}×{kw} (exact)")


def loops(job: ConvProblem, choice: Candidate) -> list[Wanted]:
    """The loops that `run` needs."""
    constants = (
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype], _whole(job),
        job.real, job.divisor != 1.0, job.activation,
    )  # fmt: skip
    return [Wanted(box_rows, constants)]


def _whole(job: ConvProblem) -> str:
    """The type of the sums before the kernel's integer."""
    _, _, _, kh, kw = job.weights.shape
    most = kh * kw * max(exact.largest(job.source.dtype), abs(job.fill))
    return "i32" if most < 2**31 else "f64"


def run(job: ConvProblem, choice: Candidate) -> None:
    """Compute the job's outputs, threads over bands of rows and strips of columns."""
    groups, _, _, kh, kw = job.weights.shape
    real = jit.DTYPES[job.real]
    height, width = job.out_size
    strips = max(1, -(-width * job.run // max(STRIP, 2 * kw * job.run)))
    wide = -(-width // strips)
    layout = Layout.of(job)
    geometry, index = array(layout.geometry(job, wide, 1)), layout.maps(job)
    bias = np.ascontiguousarray(job.bias, real)
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    rows_loop = loops(job, choice)[0].load()
    weights = job.weights[0, 0, 0, 0, :1].astype(real)
    # A band begins with kh rows that give no output.
    band = max(band_rows(job, 1, len(job.starts_in) * strips), min(height, 4 * kh))
    per_unit = -(-height // band) * strips
    size = round_up((wide + 2 * kw) * job.run, BLOCK) + 2 * BLOCK
    box = Box(kh, kw, math.isqrt(kw), size)
    whole = jit.DTYPES[_whole(job)]

    def work(first: int, last: int) -> None:
        columns = scratch.address("columns", 2 * size, whole)
        sums = scratch.address("sums", size, real)
        for number in range(first, last):
            unit, rest = divmod(number, per_unit)
            turn, strip = divmod(rest, strips)
            pixels = min(wide, width - strip * wide)
            if pixels > 0:
                rows_loop(
                    job.out, job.source, columns, sums, weights, bias[unit % groups], values,
                    index, box, geometry,
                    Band(
                        job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                        turn * band, min(height, (turn + 1) * band),
                    ),
                    Strip(strip * wide, pixels),
                )  # fmt: skip

    over_tasks(job, per_unit * len(job.starts_in), work)
