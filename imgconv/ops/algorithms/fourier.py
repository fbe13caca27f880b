"""Large dense kernels by Fourier transforms of overlapping tiles (overlap-save).

A tile of n × n padded samples, transformed, multiplied and transformed back, gives
(n − kh + 1) × (n − kw + 1) outputs. Two tiles, one above the other, ride together as the real and
imaginary parts of one complex tile, since the kernel is real. The tiles' grid is fixed by the
image, so neither threads nor bands change a bit.

Integer images under integer kernels are transformed in float64 and their sums rounded: the error
is proved to be under a quarter, so the sums are exact. A tile with a NaN, an Inf or a value that
might overflow is summed tap by tap, so that they spread no further than the kernel.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, Helper, Wanted, loop
from imgconv.jit.parallel import over_bands
from imgconv.jit.vectors import Call, Index, Pointer, Table, Traced, transpose
from imgconv.ops import epilogue, exact
from imgconv.ops.algorithms import fft, tiles
from imgconv.ops.algorithms.fft import LANES
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import Layout, convert_row

SIZES = (128, 256, 512)
HUGE = 1e30  # larger values might overflow in a sum of n² of them
WIDEST = 16  # elements of a pixel, beyond which a tile would be too long for the caches
# Nanoseconds a complex number of a tile: filling and forward; multiplying, inverse and storing.
COSTS = {128: (2.35, 3.35), 256: (3.5, 4.8), 512: (6.0, 7.6)}
DOUBLE = 2.4  # times as much in float64


def _rounder(real: str, sums: str, rounds: bool) -> Helper:
    number = jit.DTYPES[sums].type
    if rounds:
        return Helper(lambda value: number(np.rint(value)))
    return Helper(lambda value: number(value))


# Places in the `sizes` array: outputs of a tile and of the image, padded columns, elements of a
# pixel, rows of a tile.
TALL, WIDE, HEIGHT, WIDTH, COLUMNS, PIXEL, LENGTH = range(7)


def _fill(source: str, real: str) -> Helper:
    """A helper that fills both tiles and counts the values that are not finite or too large."""
    number = jit.DTYPES[real].type
    zero, huge = number(0), number(HUGE)
    floats = source in ("f32", "f64")

    def fill(  # type: ignore[no-untyped-def]
        tile, source, start, row_map, col_map, geometry, sizes, value, y, x
    ):
        n, pitch = sizes[LENGTH], geometry[tiles.PITCH]
        columns = min(n, sizes[COLUMNS] - x)
        bad = 0
        for half in range(2):
            top = y + half * sizes[TALL]
            rows = max(0, min(n, geometry[tiles.PADDED] - top))
            for j in range(n):
                at = (half * n + j) * pitch
                filled = 0
                if j < rows:
                    line = row_map[top + j]
                    row = start + line * geometry[tiles.ROW_STRIDE]
                    convert_row(
                        tile, at, source, line, row, x, columns, col_map, geometry, value
                    )  # fmt: skip
                    filled = columns * geometry[tiles.RUN]
                    if floats:
                        for i in range(filled):
                            bad += 0 if abs(tile[at + i]) < huge else 1
                for i in range(filled, pitch):
                    tile[at + i] = zero
        return bad

    return Helper(fill)


def _turn_out(turned: Pointer, rows: Table, r: Index, at: Index, source: Pointer, i: Index) -> None:
    """Write LANES rows of a panel at i as columns: lane k to turned[rows[r + k] + at…]."""
    size = turned.lanes
    for across in range(0, LANES, size):
        places = [rows[r + (across + k)] + at for k in range(size)]
        for down in range(0, LANES, size):
            block = [source.get(i + ((down + k) * LANES + across)) for k in range(size)]
            for place, column in zip(places, transpose(block), strict=True):
                turned.put(place + down, column)


def _turn_in(panel: Pointer, i: Index, turned: Pointer, rows: Table, r: Index, at: Index) -> None:
    """The way back: lane k of LANES rows of a panel from turned[rows[r + k] + at…]."""
    size = turned.lanes
    for across in range(0, LANES, size):
        places = [rows[r + (across + k)] + at for k in range(size)]
        for down in range(0, LANES, size):
            block = [turned.get(place + down) for place in places]
            for k, row in enumerate(transpose(block)):
                panel.put(i + ((down + k) * LANES + across), row)


def _move(to: Pointer, at: Index, source: Pointer, start: Index) -> None:
    """Copy a row of a panel."""
    for lane in range(0, LANES, to.lanes):
        to.put(at + lane, source.get(start + lane))


def _times(re: Pointer, im: Pointer, i: Index, kernels: Pointer, at: Index, plane: Index) -> None:
    """Multiply a row of a panel by a kernel's frequencies."""
    for lane in range(0, LANES, re.lanes):
        a, b = re.get(i + lane), im.get(i + lane)
        c, d = kernels.get(at + lane), kernels.get(at + plane + lane)
        re.put(i + lane, a * c - b * d)
        im.put(i + lane, a * d + b * c)


turn_out, turn_in = Traced(_turn_out), Traced(_turn_in)
move, times = Traced(_move), Traced(_times)


@loop
def transform(real: str) -> Built:
    """Steps begin…end − 1 of the way of a pair of tiles to the frequencies and back.

    With P panels of LANES columns in an interleaved tile, step p < P transforms one panel of
    columns and writes it as rows of `turned`, each element of a pixel in a plane of its own (so
    interleaved channels part at no cost); step P + p transforms a panel of rows, multiplies and
    turns it back; step 2 P + p leaves LANES columns of the result in re, im.
    keep: 0 to use the frequencies at once, 1 to keep them too, 2 to take those that were kept.
    """
    ahead, back = fft.columns(True), fft.columns(False)

    def body(  # type: ignore[no-untyped-def]
        tile, turned, kept, kernels, re, im, table, rows, n, run, at, keep, begin, end
    ):
        wide, pitch = n * run + LANES, n + LANES
        panels, area = n // LANES, n * n
        plane = run * n * pitch
        for step in range(begin, end):
            phase = step // (panels * run)
            p = step - phase * panels * run
            # The first element of this panel of rows, and of what belongs to it elsewhere.
            place = p // panels * n * pitch + p % panels * LANES
            k = at + p % panels * n * LANES
            store = p * n * LANES
            if phase == 0:
                for y in range(n):
                    move(re, y * LANES, tile, y * wide + p * LANES)
                    move(im, y * LANES, tile, (n + y) * wide + p * LANES)
            elif phase == 1 and keep < 2:
                for y in range(n):
                    move(re, y * LANES, turned, place + y * pitch)
                    move(im, y * LANES, turned, plane + place + y * pitch)
            elif phase == 1:
                for y in range(n):
                    move(re, y * LANES, kept, store + y * LANES)
                    move(im, y * LANES, kept, run * area + store + y * LANES)
            else:
                for b in range(panels):
                    turn_in(re, b * LANES * LANES, turned, rows, p * LANES, b * LANES)
                    turn_in(im, b * LANES * LANES, turned, rows, p * LANES, plane + b * LANES)
            if phase < 2 and keep < 2:
                ahead(re, im, table, n)
            if phase == 1 and keep == 1:
                for y in range(n):
                    move(kept, store + y * LANES, re, y * LANES)
                    move(kept, run * area + store + y * LANES, im, y * LANES)
            if phase == 0:
                for b in range(panels):
                    turn_out(turned, rows, p * LANES, b * LANES, re, b * LANES * LANES)
                    turn_out(turned, rows, p * LANES, plane + b * LANES, im, b * LANES * LANES)
            else:
                if phase == 1:
                    for y in range(n):
                        times(re, im, y * LANES, kernels, k + y * LANES, area)
                back(re, im, table, n)
                if phase == 1:
                    for y in range(n):
                        move(turned, place + y * pitch, re, y * LANES)
                        move(turned, plane + place + y * pitch, im, y * LANES)

    pointers = " ".join([f"{real}*"] * 7)
    return f"disjoint {pointers} i64* i64 i64 i64 i64 i64 i64", body


call_transform = Call(
    "tile", "turned", "kept", "kernels", "re", "im", "table", "rows",
    "n", "run", "at", "keep", "begin", "end",
)  # fmt: skip


def _plain_sums(real: str) -> Helper:
    """A helper that sums one panel of both tiles tap by tap."""
    zero = jit.DTYPES[real].type(0)

    def add(tile, n, pitch, p, re, im, taps, weights, first, last, tall):  # type: ignore[no-untyped-def]
        for y in range(tall):
            for i in range(y * LANES, (y + 1) * LANES):
                re[i] = zero
                im[i] = zero
            for t in range(first, last):
                at = y * pitch + p * LANES + taps[t]
                for i in range(LANES):
                    re[y * LANES + i] += weights[t] * tile[at + i]
                    im[y * LANES + i] += weights[t] * tile[n * pitch + at + i]

    return Helper(add)


@loop
def fourier_tiles(
    source: str, element: str, real: str, sums_type: str, rounds: bool,
    combine: str, divided: bool, activation: str,
) -> Built:  # fmt: skip
    """The outputs of two tiles from row y and column x, of every map.

    kernels: each map's frequencies, panel by panel, real and imaginary planes. taps, ends, weights:
    as for `sparse`, for tiles that are not finite. rows: where each column of a tile stands turned.
    """
    combined = combine != "none"
    fold = epilogue.fold(combine, sums_type, divided)
    store = epilogue.store(element, sums_type, divided, combined, activation)
    number = jit.DTYPES[sums_type].type
    zero = number(0)
    fill = _fill(source, real)
    plain_sums = _plain_sums(real)
    finish = Helper((lambda v: number(np.rint(v))) if rounds else (lambda v: number(v)))

    def body(  # type: ignore[no-untyped-def]
        out, source, tile, turned, kept, kernels, re, im, table, rows, sums, row_map, col_map,
        taps, ends, weights, bias, values, geometry, sizes, call, start_in, start_out, y, x,
    ):  # fmt: skip
        n, run, tall = sizes[LENGTH], geometry[tiles.RUN], sizes[TALL]
        maps = geometry[tiles.MAPS]
        elements = min(sizes[WIDE], sizes[WIDTH] - x) * run
        live = (elements + LANES - 1) // LANES
        length = live * LANES
        panels = n * run // LANES
        new = 2 * tall * length if combined else np.int64(0)
        lines = min(2 * tall, sizes[HEIGHT] - y)
        bad = fill(
            tile, source, start_in, row_map, col_map, geometry, sizes, values[epilogue.FILL], y, x
        )  # fmt: skip
        for m in range(maps):
            at = 2 * m * n * n
            if bad == 0:
                keep = (2 if m else 1) if maps > 1 else 0
                call_transform(
                    call, tile, turned, kept, kernels, re, im, table, rows, n, run, at, keep,
                    panels if m else 0, 2 * panels,
                )  # fmt: skip
            for p in range(live):
                if bad == 0:
                    step = 2 * panels + p
                    call_transform(
                        call, tile, turned, kept, kernels, re, im, table, rows, n, run, at, 0,
                        step, step + 1,
                    )  # fmt: skip
                else:
                    first = ends[m - 1] if m else 0
                    plain_sums(
                        tile, n, geometry[tiles.PITCH], p, re, im, taps, weights, first, ends[m],
                        tall,
                    )  # fmt: skip
                for j in range(tall):
                    to = new + j * length + p * LANES
                    for i in range(LANES):
                        sums[to + i] = finish(re[j * LANES + i])
                    to += tall * length
                    for i in range(LANES):
                        sums[to + i] = finish(im[j * LANES + i])
            if combined:
                fold(sums, 0, new, lines * length, m, maps, bias, values)
            if not combined or m == maps - 1:
                place = start_out + y * geometry[tiles.OUT_ROW] + x * run
                if not combined:
                    place += m * geometry[tiles.OUT_MAP]
                add = zero if combined else bias[m]
                for j in range(lines):
                    store(
                        out, place + j * geometry[tiles.OUT_ROW], sums, j * length, elements, add,
                        values,
                    )  # fmt: skip

    arguments = (
        f"disjoint {element}* {source}* {real}* {real}* {real}* {real}* {real}* {real}* {real}* "
        f"i64* {sums_type}* i64* i64* i64* i64* {real}* {sums_type}* {sums_type}* i64* i64* "
        "i64 i64 i64 i64 i64"
    )
    return arguments, body


class _Plan(NamedTuple):
    """The transform's length and type, and whether sums are rounded to integers."""

    n: int
    real: str
    rounds: bool


def offer(job: ConvProblem) -> Candidate | None:
    """For one input channel and no stride; the cost is that of all tiles, edges included.

    Float sums miss the exact ones by less than 1e-5 of the kernel's absolute sum times the largest
    value of a tile: measured 4e-7 for n = 512 (float32).
    """
    _, maps, channels, kh, kw = job.weights.shape
    if job.stride != (1, 1) or channels > 1 or job.is_small(kh * kw) or job.run > WIDEST:
        return None
    high, wide = job.extent
    real, rounds = job.real, False
    if exact.is_integer(job.source.dtype, job.weights, job.fill):
        real, rounds = "f64", True
    best = None
    for n in SIZES:
        if 4 * max(high, wide) > 3 * n:
            continue
        if rounds and not _rounds_right(job, n):
            continue
        pairs = -(-job.out_size[0] // (2 * (n - high + 1))) * -(-job.out_size[1] // (n - wide + 1))
        ahead, back = COSTS[n]
        factor = DOUBLE if real == "f64" else 1.0
        area = pairs * n * n * job.run * len(job.weights)
        cost = area * factor * (ahead / maps + back) / job.outputs + traffic(job)
        if best is None or cost < best[0]:
            best = cost, n
    if best is None:
        return None
    cost, n = best
    kind = "float64, rounded: exact" if rounds else {"f32": "float32", "f64": "float64"}[real]
    reason = f"Fourier, tiles of {n}×{n} ({kind})"
    return Candidate("fourier", cost, reason, _Plan(n, real, rounds))


def _rounds_right(job: ConvProblem, n: int) -> bool:
    """Whether the float64 sums are proved to be within a quarter of the integers.

    A transform of n² points errs by at most 8 · 2⁻⁵³ a binary step relative to its Euclidean norm
    (Higham, Accuracy and Stability of Numerical Algorithms, theorem 24.2, with room for the
    factors' own error); forward, product and inverse make three such errors, and the largest
    value of a tile is at most 1/n-th of its norm.
    """
    gain = np.abs(job.weights).sum(axis=(-3, -2, -1)).max(initial=0.0)
    bound = gain * max(exact.largest(job.source.dtype), abs(job.fill))
    steps = 2 * math.log2(n)
    return bool(3 * steps * 8 * 2.0**-53 * n * bound * math.sqrt(2) < 0.25)


def _frequencies(weights: npt.NDArray[np.float64], dilation: tuple[int, int], n: int) -> Any:
    """The multipliers of a kernel's cross-correlation, in the order in which tiles stand."""
    spread = np.zeros((n, n))
    kh, kw = weights.shape
    spread[: kh * dilation[0] : dilation[0], : kw * dilation[1] : dilation[1]][:kh, :kw] = weights
    found = np.conj(np.fft.fft2(spread)) / n**2
    places = fft.order(n)
    turned = found[np.ix_(places, places)].T  # [x][y]
    panels = turned.reshape(n, n // LANES, LANES).transpose(1, 0, 2)
    return np.stack([panels.real, panels.imag]).reshape(-1)


def rows_of_tiles(job: ConvProblem, choice: Candidate) -> int:
    """Output rows of a pair of tiles: where those of a band begin, its own grid must begin too."""
    return 2 * int(choice.detail.n - job.extent[0] + 1)


def loops(job: ConvProblem, choice: Candidate) -> list[Wanted]:
    """The loops that `run` needs."""
    detail: _Plan = choice.detail
    constants = (
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype], detail.real,
        job.real, detail.rounds, job.combine, job.divisor != 1.0, job.activation,
    )  # fmt: skip
    return [Wanted(fourier_tiles, constants), Wanted(transform, (detail.real,))]


def run(job: ConvProblem, choice: Candidate) -> None:
    """Compute the job's outputs, threads over pairs of tiles."""
    detail: _Plan = choice.detail
    n, dtype = detail.n, jit.DTYPES[detail.real]
    groups, maps = job.weights.shape[:2]
    tall, wide = (n - extent + 1 for extent in job.extent)
    height, width = job.out_size
    pitch = n * job.run + LANES
    geometry = Layout.of(job).geometry(job, wide, tall)
    geometry[tiles.PITCH] = pitch
    sizes = np.array([tall, wide, height, width, len(job.col_map), job.run, n], np.int64)
    kernels = [
        np.concatenate([_frequencies(bank[0], job.dilation, n) for bank in group]).astype(dtype)
        for group in job.weights
    ]
    plain = [_taps(job, group, pitch, dtype) for group in range(groups)]
    sums_dtype = jit.DTYPES[job.real]
    bias = np.ascontiguousarray(job.bias, sums_dtype)
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    table = fft.twiddles(n, detail.real)
    pixel, element = np.divmod(np.arange(n * job.run), job.run)
    rows = (element * n + pixel) * (n + LANES)
    tiles_loop = loops(job, choice)[0].load()
    call = transform.address(detail.real)
    blocks = 2 if job.combine != "none" else 1
    across = -(-width // wide)
    per_unit = -(-height // (2 * tall)) * across

    def work(first: int, last: int) -> None:
        tile = np.empty(2 * n * pitch, dtype)
        turned = np.empty(2 * job.run * n * (n + LANES), dtype)
        kept = np.empty(2 * n * n * job.run if maps > 1 else 0, dtype)
        re, im = np.empty(n * LANES, dtype), np.empty(n * LANES, dtype)
        sums = np.empty(blocks * 2 * tall * (wide * job.run + LANES), sums_dtype)
        for index in range(first, last):
            unit, rest = divmod(index, per_unit)
            down, over = divmod(rest, across)
            group = unit % groups
            tiles_loop(
                job.out, job.source, tile, turned, kept, kernels[group], re, im, table, rows, sums,
                job.row_map, job.col_map, *plain[group], bias[group], values, geometry, sizes,
                call, job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                down * 2 * tall, over * wide,
            )  # fmt: skip

    over_bands(per_unit * len(job.starts_in), 4, work)


def _taps(job: ConvProblem, group: int, pitch: int, dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """Tap offsets in a tile, the end of each map's taps, and their weights."""
    offsets, ends, weights = [], [], []
    for bank in job.weights[group, :, 0]:
        rows, columns = np.nonzero(bank)
        offsets.append(rows * job.dilation[0] * pitch + columns * job.dilation[1] * job.run)
        weights.append(bank[rows, columns])
        ends.append(sum(map(len, weights)))
    return (
        np.concatenate(offsets).astype(np.int64),
        np.array(ends, np.int64),
        np.concatenate(weights).astype(dtype),
    )
