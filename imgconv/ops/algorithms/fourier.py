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
from typing import Annotated, Any, NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit import scratch, simd
from imgconv.jit.loop import Built, Helper, Wanted, loop
from imgconv.jit.parallel import over_bands
from imgconv.jit.record import array, record
from imgconv.ops import epilogue, exact
from imgconv.ops.algorithms.problem import Candidate, ConvProblem, traffic
from imgconv.ops.algorithms.tiles import Layout, fill_row
from imgconv.ops.algorithms.transform import TransformSteps, transform
from imgconv.ops.microkernels import fft
from imgconv.ops.microkernels.fft import LANES, ROW
from imgconv.typing import Float64

SIZES = (128, 256, 512)
HUGE = 1e30  # larger values might overflow in a sum of n² of them
WIDEST = 16  # elements of a pixel, beyond which a tile would be too long for the caches
# Nanoseconds a complex number of a tile: filling and forward; multiplying, inverse and storing.
COSTS = {128: (2.35, 3.35), 256: (3.5, 4.8), 512: (6.0, 7.6)}
DOUBLE = 2.4  # times as much in float64


@record
class TileSizes(NamedTuple):
    """The sizes of an image's tiles. tall, wide: outputs of a tile; height, width: of the image.

    columns: padded columns of the image. n: rows and columns of a tile. turned, kept, panel: where
    these parts of the room begin, after the tiles.
    """

    tall: int
    wide: int
    height: int
    width: int
    columns: int
    n: int
    turned: int
    kept: int
    panel: int


@record
class TilePair(NamedTuple):
    """Where a pair of tiles stands: its unit in source and out, its first output row and column."""

    start_in: int
    start_out: int
    y: int
    x: int


@record
class TileTables(NamedTuple):
    """Where things stand. row_map, col_map: source row and pixel of each padded row and column.

    rows: each column of a tile when it is turned. taps, ends: offsets of taps in a tile, and the
    end of each map's, for tiles that are not finite.
    """

    row_map: Annotated[Any, "i64*"]
    col_map: Annotated[Any, "i64*"]
    rows: Annotated[Any, "i64*"]
    taps: Annotated[Any, "i64*"]
    ends: Annotated[Any, "i64*"]


def _fill(source: str, real: str) -> Helper:
    """A helper that fills both tiles and counts the values that are not finite or too large."""
    number = jit.DTYPES[real].type
    zero, huge = number(0), number(HUGE)
    floats = source in ("f32", "f64")

    def fill(  # type: ignore[no-untyped-def]
        tile, source, spot, row_map, col_map, geometry, shape, value
    ):
        n, pitch = shape.n, geometry.pitch
        columns = min(n, shape.columns - spot.x)
        bad = 0
        for half in range(2):
            top = spot.y + half * shape.tall
            rows = max(0, min(n, geometry.padded - top))
            for j in range(n):
                at = (half * n + j) * pitch
                filled = 0
                if j < rows:
                    line = row_map[top + j]
                    row = spot.start_in + line * geometry.row_stride
                    fill_row(
                        tile, at, source, line, row, spot.x, columns, col_map, geometry, value
                    )  # fmt: skip
                    filled = columns * geometry.run
                    if floats:
                        for i in range(filled):
                            bad += 0 if abs(tile[at + i]) < huge else 1
                for i in range(filled, pitch):
                    tile[at + i] = zero
        return bad

    return Helper(fill)


def _plain_sums(real: str) -> Helper:
    """A helper that sums one panel of both tiles tap by tap."""
    vector = fft.complex_vector(real)
    lanes = vector.lanes

    def add(tile, far, pitch, panel, taps, weights, first, last, tall):  # type: ignore[no-untyped-def]
        for y in range(tall):
            for lane in range(0, LANES, lanes):
                row = simd.at(tile, y * pitch + lane)
                total = simd.zeros(vector)
                for t in range(first, last):
                    weight = simd.splat(vector, weights[t])
                    total = simd.fma(weight, simd.load_rows(vector, row, taps[t], far), total)
                simd.store_rows(panel, y * ROW + lane, LANES, total)

    return Helper(add)


@loop
def fourier_tiles(
    source: str, element: str, real: str, sums_type: str, rounds: bool,
    combine: str, divided: bool, activation: str,
) -> Built:  # fmt: skip
    """The outputs of two tiles, one above the other, of every map.

    room: the tiles, then what `TileSizes` says. kernels: each map's frequencies, panel by panel,
    then the weights of all taps, for tiles that are not finite.
    """
    combined = combine != "none"
    fold = epilogue.fold(combine, sums_type, divided)
    store = epilogue.store(element, sums_type, divided, combined, activation)
    number = jit.DTYPES[sums_type].type
    zero = number(0)
    fill = _fill(source, real)
    plain_sums = _plain_sums(real)
    transformed = transform.part(real)
    finish = Helper((lambda v: number(np.rint(v))) if rounds else (lambda v: number(v)))

    def body(  # type: ignore[no-untyped-def]
        out, source, room, kernels, table, sums, bias, values, tables, geometry, shape, spot
    ):  # fmt: skip
        n, run, tall, maps = shape.n, geometry.run, shape.tall, geometry.maps
        tile, panel = room, simd.at(room, shape.panel)
        turned, kept = simd.at(room, shape.turned), simd.at(room, shape.kept)
        weights = simd.at(kernels, 2 * maps * n * n)
        elements = min(shape.wide, shape.width - spot.x) * run
        live = (elements + LANES - 1) // LANES
        length = live * LANES
        panels = n * run // LANES
        new = 2 * tall * length if combined else np.int64(0)
        lines = min(2 * tall, shape.height - spot.y)
        bad = fill(
            tile, source, spot, tables.row_map, tables.col_map, geometry, shape,
            values[epilogue.FILL],
        )  # fmt: skip
        for m in range(maps):
            bank = simd.at(kernels, 2 * m * n * n)
            if bad == 0:
                keep = (2 if m else 1) if maps > 1 else 0
                first = panels if m else 0
                transformed(
                    tile, turned, kept, bank, panel, table, tables.rows,
                    TransformSteps(n, run, keep, first, 2 * panels),
                )  # fmt: skip
            for p in range(live):
                if bad == 0:
                    step = 2 * panels + p
                    transformed(
                        tile, turned, kept, bank, panel, table, tables.rows,
                        TransformSteps(n, run, 0, step, step + 1),
                    )  # fmt: skip
                else:
                    first = tables.ends[m - 1] if m else 0
                    pitch = geometry.pitch
                    plain_sums(
                        simd.at(tile, p * LANES), n * pitch, pitch, panel, tables.taps, weights,
                        first, tables.ends[m], tall,
                    )  # fmt: skip
                for j in range(2 * tall):
                    half = j // tall
                    at = (j - half * tall) * ROW + half * LANES
                    for i in range(LANES):
                        sums[new + j * length + p * LANES + i] = finish(panel[at + i])
            if combined:
                fold(sums, 0, new, lines * length, m, maps, bias, values)
            if not combined or m == maps - 1:
                place = spot.start_out + spot.y * geometry.out_row + spot.x * run
                if not combined:
                    place += m * geometry.out_map
                add = zero if combined else bias[m]
                for j in range(lines):
                    store(
                        out, place + j * geometry.out_row, sums, j * length, elements, add,
                        values,
                    )  # fmt: skip

    arguments = (
        f"disjoint {element}* {source}* {real}* {real}* {real}* {sums_type}* {sums_type}* "
        f"{sums_type}* TileTables Geometry* TileSizes TilePair"
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
    if job.whole:
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


def _frequencies(weights: Float64, dilation: tuple[int, int], n: int) -> Any:
    """The multipliers of a kernel's cross-correlation, in the order in which tiles stand."""
    spread = np.zeros((n, n))
    kh, kw = weights.shape
    spread[: kh * dilation[0] : dilation[0], : kw * dilation[1] : dilation[1]][:kh, :kw] = weights
    frequencies = np.conj(np.fft.fft2(spread)) / n**2
    places = fft.order(n)
    turned = frequencies[np.ix_(places, places)].T  # [x][y]
    panels = turned.reshape(n, n // LANES, LANES).transpose(1, 0, 2)
    return np.stack([panels.real, panels.imag], 2).reshape(-1)


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
    geometry = array(Layout.of(job).geometry(job, wide, tall)._replace(pitch=pitch))
    plain = [_taps(job, group, pitch) for group in range(groups)]
    kernels = [
        np.concatenate(
            [*(_frequencies(bank[0], job.dilation, n) for bank in group), weights], dtype=dtype
        )
        for group, (_, _, weights) in zip(job.weights, plain, strict=True)
    ]
    sums_dtype = jit.DTYPES[job.real]
    bias = np.ascontiguousarray(job.bias, sums_dtype)
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    table = fft.twiddles(n, detail.real)
    pixel, element = np.divmod(np.arange(n * job.run), job.run)
    rows = (element * n + pixel) * (n + LANES)
    tiles_loop = loops(job, choice)[0].load()
    turned = 2 * n * pitch
    kept = turned + 2 * job.run * n * (n + LANES)
    panel = kept + (2 * n * n * job.run if maps > 1 else 0)
    shape = TileSizes(tall, wide, height, width, len(job.col_map), n, turned, kept, panel)
    blocks = 2 if job.combine != "none" else 1
    across = -(-width // wide)
    per_unit = -(-height // (2 * tall)) * across

    def work(first: int, last: int) -> None:
        room = scratch.address("tile", panel + n * ROW, dtype)
        sums = scratch.address("sums", blocks * 2 * tall * (wide * job.run + LANES), sums_dtype)
        for index in range(first, last):
            unit, rest = divmod(index, per_unit)
            down, over = divmod(rest, across)
            group = unit % groups
            taps, ends, _ = plain[group]
            tiles_loop(
                job.out, job.source, room, kernels[group], table, sums, bias[group],
                values, TileTables(job.row_map, job.col_map, rows, taps, ends), geometry, shape,
                TilePair(
                    job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                    down * 2 * tall, over * wide,
                ),
            )  # fmt: skip

    over_bands(per_unit * len(job.starts_in), 4, work)


def _taps(job: ConvProblem, group: int, pitch: int) -> tuple[Any, Any, Any]:
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
        np.concatenate(weights),
    )
