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

STRIP = 1 << 14  # elements of a row: long rows come from memory faster than pieces of them
BLOCK = 64  # elements whose sums stay in registers
DIRECT = 5  # columns of a kernel up to which neighbors are added up one by one


@record
class Box(NamedTuple):
    """Rows and columns of the kernel; how many columns are added up at a time.

    parts: where sums of so many neighbors stand: after the sums of columns, or, of one, these.
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


@functools.cache
def _sums(whole: str) -> tuple[Helper, Helper, Helper]:
    """Helpers for windows' sums: `begin`, `enter` with each padded row in turn, then `window`s."""
    lanes, zero = microkernel.lanes(whole), jit.DTYPES[whole].type(0)
    block, slide = simd.Tile(1, BLOCK // lanes, lanes, whole), _slide(whole)

    def begin(columns, box, geometry, strip):  # type: ignore[no-untyped-def]
        near, count = geometry.near, strip.pixels + box.columns - 1
        level = geometry.pixel_stride == geometry.run
        first = min(max(near - strip.x, 0), count) if level else count
        end = min(max(near + geometry.width - strip.x, first), count) if level else count
        for i in range(count * geometry.run):
            columns[i] = zero
        return Seen(strip.x, count, first, end)

    def enter(columns, source, index, box, geometry, band, seen, row, fill):  # type: ignore[no-untyped-def]
        slide(columns, source, index, geometry, band, seen, row, box.rows, fill)
        if box.inner > 1 and row >= band.top + box.rows - 1:
            for i in range(0, (seen.width - box.inner + 1) * geometry.run, BLOCK):
                total = simd.load(block, columns, i)
                for k in range(1, box.inner):
                    total = total + simd.load(block, columns, i + k * geometry.run)
                simd.store(columns, box.parts + i, total)

    def window(columns, box, run, i):  # type: ignore[no-untyped-def]
        outer = box.columns // box.inner
        total = simd.load(block, columns, box.parts + i)
        for k in range(1, outer):
            total = total + simd.load(block, columns, box.parts + i + k * box.inner * run)
        for k in range(outer * box.inner, box.columns):
            total = total + simd.load(block, columns, i + k * run)
        return total

    return Helper(begin), Helper(enter), Helper(window)


@loop
def box_rows(
    source: str, element: str, whole: str, real: str, divided: bool, activation: str
) -> Built:
    """Output rows of a band, pixels of a strip, of one unit.

    whole: the type of the sums; weights: the kernel's integer.
    """
    store = epilogue.store(element, real, divided, False, activation)
    lanes = microkernel.lanes(whole)
    finished = simd.Tile(1, BLOCK // lanes, lanes, real)
    begin, enter, window = _sums(whole)
    number = jit.DTYPES[whole].type

    def body(  # type: ignore[no-untyped-def]
        out, source, columns, sums, weights, bias, values, index, box, geometry, band, strip
    ):
        run, fill = geometry.run, number(values[epilogue.FILL])
        seen = begin(columns, box, geometry, strip)
        for row in range(band.top, band.bottom + box.rows - 1):
            enter(columns, source, index, box, geometry, band, seen, row, fill)
            if row < band.top + box.rows - 1:
                continue
            for i in range(0, strip.pixels * run, BLOCK):
                total = simd.convert(finished, window(columns, box, run, i))
                simd.store(sums, i, total * simd.splat(finished, weights[0]))
            place = band.start_out + (row - box.rows + 1) * geometry.out_row + strip.x * run
            store(out, place, sums, np.int64(0), strip.pixels * run, bias[0], values)

    arguments = (
        f"disjoint {element}* {source}* {whole}* {real}* {real}* {real}* {real}* "
        "Maps Box Geometry* Band Strip"
    )
    return arguments, body


@record
class Quotient(NamedTuple):
    """(sum + half) // divisor as mul_high(sum + half, factor, shift); fill: around the image."""

    divisor: int
    half: int
    factor: int
    shift: int
    fill: int


@loop
def box_means(source: str, element: str, whole: str, even: bool) -> Built:
    """`box_rows` of integers to integers, without floats. even: a quotient may be a tie.

    last: room for a block of results, of which a row's end may take some.
    """
    lanes = microkernel.lanes(whole)
    stored = simd.Tile(1, BLOCK // lanes, lanes, element.replace("u16", "i16"))
    begin, enter, window = _sums(whole)
    number = jit.DTYPES[whole].type

    def _divide(total, quotient):  # type: ignore[no-untyped-def]
        total = total + quotient.half
        near = simd.mul_high(total, quotient.factor, quotient.shift)
        if even:
            near = simd.select(near * quotient.divisor == total, near & -2, near)
        return simd.convert(stored, near)

    divide = Helper(_divide)

    def body(out, source, columns, last, quotient, index, box, geometry, band, strip):  # type: ignore[no-untyped-def]
        run, fill = geometry.run, number(quotient.fill)
        count = strip.pixels * run
        blocks = count // BLOCK * BLOCK
        seen = begin(columns, box, geometry, strip)
        for row in range(band.top, band.bottom + box.rows - 1):
            enter(columns, source, index, box, geometry, band, seen, row, fill)
            if row < band.top + box.rows - 1:
                continue
            place = band.start_out + (row - box.rows + 1) * geometry.out_row + strip.x * run
            for i in range(0, blocks, BLOCK):
                simd.store(out, place + i, divide(window(columns, box, run, i), quotient))
            simd.store(last, 0, divide(window(columns, box, run, blocks), quotient))
            for i in range(count - blocks):
                out[place + blocks + i] = last[i]

    arguments = (
        f"disjoint {element}* {source}* {whole}* {element}* Quotient Maps Box Geometry* Band Strip"
    )
    return arguments, body


def _mean(job: ConvProblem) -> tuple[str, Quotient] | None:
    """How sums are divided, and their type, where they and the results are integers, none clipped.

    With e = factor · divisor − 2ᵖ, N · factor / 2ᵖ is beyond N / divisor by N · e / (divisor · 2ᵖ):
    its whole part is that of N / divisor while this is less than 1 / divisor.
    """
    _, _, _, kh, kw = job.weights.shape
    kinds = job.source.dtype.kind + job.out.dtype.kind, job.combine, job.activation
    if kinds != ("uu", "none", "") or job.out.itemsize > 2 or job.bias.any() or job.fill < 0:
        return None
    if (job.gain, job.offset, job.weights.flat[0]) != (1, 0, 1) or job.divisor % 1:
        return None
    divisor, half = int(job.divisor), int(job.divisor) // 2
    most = kh * kw * int(max(exact.largest(job.source.dtype), job.fill))
    if divisor < 2 or most > divisor * exact.largest(job.out.dtype) or most + half >= 1 << 31:
        return None
    bits = 16 if most + half < 1 << 16 and job.out.itemsize == 1 else 32
    shift = (divisor - 1).bit_length() - 1
    power = 1 << (bits + shift)
    factor = -(-power // divisor)
    if (factor * divisor - power) * (most + half) >= power:
        return None
    return f"i{bits}", Quotient(divisor, half, factor, shift, int(job.fill))


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
    # 63×63 0.58; the separable passes 0.31, 0.50, 0.85 and 1.55; means 3×3 0.15, 15×15 0.21.
    cost = 0.25 + 0.5 * traffic(job) + 0.07 * math.sqrt(kw)
    mean = _mean(job)
    if mean:
        cost = 0.6 * cost + (0.2 if mean[0] == "i32" else -0.1)
    elif job.real == "f64":
        cost /= 0.65
    return Candidate("box", cost, f"running sums over {kh}×{kw} (exact)")


def loops(job: ConvProblem, choice: Candidate) -> list[Wanted]:
    """The loops that `run` needs."""
    types = jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype]
    mean = _mean(job)
    if mean:
        whole, quotient = mean
        return [Wanted(box_means, (*types, whole, quotient.divisor % 2 == 0))]
    constants = (*types, _whole(job), job.real, job.divisor != 1.0, job.activation)
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
    rows_loop, mean = loops(job, choice)[0].load(), _mean(job)
    # A band begins with kh rows that give no output.
    band = max(band_rows(job, 1, len(job.starts_in) * strips), min(height, 4 * kh))
    per_unit = -(-height // band) * strips
    size = round_up((wide + 2 * kw) * job.run, BLOCK) + 2 * BLOCK
    inner = math.isqrt(kw) if kw > DIRECT else 1
    box = Box(kh, kw, inner, size if inner > 1 else 0)
    whole = jit.DTYPES[mean[0] if mean else _whole(job)]
    bias = np.ascontiguousarray(job.bias, real)
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    weights = job.weights[0, 0, 0, 0, :1].astype(real)

    def work(first: int, last: int) -> None:
        columns = scratch.address("columns", 2 * size, whole)
        sums = scratch.address("sums", size, job.out.dtype if mean else real)
        for number in range(first, last):
            unit, rest = divmod(number, per_unit)
            turn, strip = divmod(rest, strips)
            pixels = min(wide, width - strip * wide)
            if pixels > 0:
                numbers = (mean[1],) if mean else (weights, bias[unit % groups], values)
                rows_loop(
                    job.out, job.source, columns, sums, *numbers, index, box, geometry,
                    Band(
                        job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                        turn * band, min(height, (turn + 1) * band),
                    ),
                    Strip(strip * wide, pixels),
                )  # fmt: skip

    over_tasks(job, per_unit * len(job.starts_in), work)
