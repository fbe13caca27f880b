"""Missing samples: taps on them are left out, and the weights that remain are renormalized.

Of a window with missing samples the result is Σ w·f over the others times (Σ w of the whole kernel
/ Σ w of the others), as astropy.convolution does with `nan_treatment="interpolate"` and the
kernel as it is. There is none where no sample of the image remains, where the remaining weights
sum to zero, and where the kernel itself does (derivatives: of two sides of an edge one is unknown);
such results are missing too. What padding adds is known: zeros and constants count as samples.

Windows without a missing sample are left to the usual algorithms, whose bits they keep. The others
are summed one by one in float64, so that their results depend on nothing but their own samples.
"""

import inspect
import math
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.errors import UsageError
from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, loop
from imgconv.jit.parallel import over_bands
from imgconv.jit.record import array, record
from imgconv.ops import epilogue
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.microkernels.windows import blank_of
from imgconv.typing import Array, Dtype, Int64

Mask = npt.NDArray[np.bool_]

FILLS = ("keep", "interpolate")
# Parts of Σ|w| up to which Σw is zero: kernels of float32 files sum to a few of its roundings.
ZERO = 1e-6
_WINDOW = frozenset({"kernel_size", "stride", "padding", "ceil_mode", "dilation", "output_size"})
_TAPS = 1 << 16  # of a band of rows: enough that handing it to a thread does not count


@record
class MissingSeen(NamedTuple):
    """Which samples are missing, pixels with one of them, rows with one; marks: no result there."""

    samples: Annotated[Any, "u8*"]
    pixels: Annotated[Any, "u8*"]
    rows: Annotated[Any, "u8*"]
    marks: Annotated[Any, "u8*"]


@record
class Places(NamedTuple):
    """Source row and pixel of each padded row and column; where units begin in source and out."""

    rows: Annotated[Any, "i64*"]
    columns: Annotated[Any, "i64*"]
    starts_in: Annotated[Any, "i64*"]
    starts_out: Annotated[Any, "i64*"]


@record
class KnownTaps(NamedTuple):
    """Taps of weights other than 0, by maps.

    places: padded row and column, channel, and the channel's place in the source. ends: where those
    of each map begin. totals: Σ w of each map, 0 where the kernel cannot be renormalized.
    """

    places: Annotated[Any, "i64*"]
    weights: Annotated[Any, "f64*"]
    ends: Annotated[Any, "i64*"]
    totals: Annotated[Any, "f64*"]


@record
class Sizes(NamedTuple):
    """Sizes of the outputs, the window and the source; lengths in elements unless said.

    width: pixels of an output row. channels: of a unit. taps_down: the kernel's rows; extent:
    columns that one output sees; padded: columns that all see. mask_width: pixels; mask_depth:
    channels of the mask.
    """

    height: int
    width: int
    out_map: int
    out_row: int
    run: int
    maps: int
    groups: int
    channels: int
    taps_down: int
    extent: int
    stride_y: int
    stride_x: int
    dilation_y: int
    row_stride: int
    pixel_stride: int
    mask_width: int
    mask_depth: int
    padded: int


def check_fill(fill: str) -> None:
    """Raise UsageError unless `fill` is one of FILLS."""
    if fill not in FILLS:
        raise UsageError(f"missing_fill={fill!r}, expected {' or '.join(FILLS)}")


def held_by(value: float, dtype: Dtype) -> bool:
    """Whether a sample of this type can be the value."""
    if dtype.kind == "f":
        return True
    bounds = np.iinfo(dtype)
    return math.isfinite(value) and value == int(value) and bounds.min <= value <= bounds.max


def mask_of(pixels: Array, value: float) -> Mask:
    """Which samples are missing: equal to the value in their own type, NaN for NaN."""
    if math.isnan(value):
        return np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, bool)
    if not held_by(value, pixels.dtype):
        return np.zeros(pixels.shape, bool)
    with np.errstate(over="ignore"):
        found: Mask = pixels == np.array(value).astype(pixels.dtype)
    return found


def without(pixels: Array, mask: Mask) -> Array:
    """A copy whose missing samples are 0, which no algorithm can smear."""
    return np.where(mask, pixels.dtype.type(0), pixels)


def mark(values: Array, mask: Mask, value: float) -> None:
    """Make missing results NaN in floats, in integers the value, or 0 where they cannot hold it."""
    if values.dtype.kind == "f":
        values[mask] = np.nan
    else:
        values[mask] = int(value) if held_by(value, values.dtype) else 0


class Centers:
    """The source pixel in the middle of each output's window, where it decides what is kept.

    Of a map of the image's own size it is the pixel that the output stands for. rows, columns: −1
    where padding stands there.
    """

    def __init__(self, job: ConvProblem, size: tuple[int, int]) -> None:
        self.rows: Int64
        self.columns: Int64
        if job.out_size == size and job.stride == (1, 1):
            self.rows, self.columns = (np.arange(length) for length in size)
            return
        down, across = job.middle
        self.rows = job.row_map[down :: job.stride[0]][: job.out_size[0]]
        self.columns = job.col_map[across :: job.stride[1]][: job.out_size[1]]

    def missing(self, mask: Mask, first: int, count: int, top: int, job: ConvProblem) -> Mask:
        """Which units of output rows first…first + count − 1 are missing in their middle.

        mask: of the source's rows from `top` on. Return (units, count, width, run).
        """
        rows, columns = self.rows[first : first + count], self.columns
        seen: Mask = mask[np.ix_(np.maximum(rows - top, 0), np.maximum(columns, 0))]
        seen &= (rows >= 0)[:, None, None] & (columns >= 0)[None, :, None]
        if job.run > 1 or mask.shape[2] == 1:
            return seen[None]
        # A filter that mixes channels has a middle as long as one of them is known.
        units = len(job.starts_in)
        whole: Mask = np.logical_and.reduce(seen.reshape(*seen.shape[:2], units, -1), 3)
        return whole.transpose(2, 0, 1)[..., None]


@loop
def renormalized_rows(source: str, element: str, combine: str, activation: str) -> Built:
    """Rows first…last − 1, over all units, of the outputs that see a missing sample.

    following: scratch, one per padded column. sums: scratch of two numbers.
    """
    combined = combine != "none"
    fold = epilogue.fold(combine, "f64", False)
    store = epilogue.store(element, "f64", False, combined, activation)
    zero = np.float64(0)

    def body(  # type: ignore[no-untyped-def]
        out, source, seen, places, taps, bias, values, sizes, following, sums, first, last
    ):
        height, width, run, maps = sizes.height, sizes.width, sizes.run, sizes.maps
        depth, kh, dy, sx = sizes.channels, sizes.taps_down, sizes.dilation_y, sizes.stride_x
        padded, extent = sizes.padded, sizes.extent
        fill = values[epilogue.FILL]
        divisor = values[epilogue.DIVISOR]
        for r in range(first, last):
            unit, y = r // height, r % height
            group = unit % sizes.groups
            top = y * sizes.stride_y
            some = False
            for ky in range(kh):
                line = places.rows[top + ky * dy]
                some = some or (line >= 0 and seen.rows[line] != 0)
            if not some:
                continue
            # following[p]: the first padded column from p on with a missing sample in these rows.
            after = padded + extent
            for back in range(padded):
                p = padded - 1 - back
                column = places.columns[p]
                if column >= 0:
                    for ky in range(kh):
                        line = places.rows[top + ky * dy]
                        if line >= 0 and seen.pixels[line * sizes.mask_width + column] != 0:
                            after = p
                            break
                following[p] = after
            for x in range(width):
                if following[x * sx] >= x * sx + extent:
                    continue
                for e in range(run):
                    place = places.starts_out[unit] + y * sizes.out_row + x * run + e
                    touched = False
                    lost = False
                    for m in range(maps):
                        number = group * maps + m
                        total, whole, size = zero, zero, zero
                        known, unknown = 0, 0
                        for t in range(taps.ends[number], taps.ends[number + 1]):
                            weight = taps.weights[t]
                            line = places.rows[top + taps.places[4 * t]]
                            column = places.columns[x * sx + taps.places[4 * t + 1]]
                            if line < 0 or column < 0:
                                total += weight * fill
                                whole += weight
                                size += abs(weight)
                                continue
                            at = (line * sizes.mask_width + column) * sizes.mask_depth
                            absent = seen.samples[at + unit * depth + taps.places[4 * t + 2] + e]
                            at = line * sizes.row_stride + column * sizes.pixel_stride
                            at += places.starts_in[unit] + taps.places[4 * t + 3] + e
                            # Missing samples are 0, and a sum is faster than a branch.
                            total += weight * np.float64(source[at])
                            there = np.float64(1 - absent)
                            whole += weight * there
                            size += abs(weight) * there
                            known += 1 - absent
                            unknown += absent
                        gone = unknown > 0 and (
                            known == 0 or taps.totals[number] == zero or abs(whole) <= ZERO * size
                        )
                        if unknown == 0:
                            total /= divisor
                        elif not gone:
                            total = total * taps.totals[number] / (whole * divisor)
                        if unknown > 0:
                            touched = True
                        if gone:
                            lost = True
                        if combined:
                            sums[1] = total
                            fold(sums, 0, 1, 1, m, maps, bias, values)
                        elif gone:
                            seen.marks[place + m * sizes.out_map] = 1
                        elif unknown > 0:
                            sums[0] = total
                            at = place + m * sizes.out_map
                            store(out, at, sums, 0, 1, bias[number], values)
                    if combined and lost:
                        seen.marks[place] = 1
                    elif combined and touched:
                        store(out, place, sums, 0, 1, zero, values)

    arguments = (
        f"disjoint {element}* {source}* MissingSeen Places KnownTaps f64* f64* Sizes* "
        "i64* f64* i64 i64"
    )
    return arguments, body


def renormalize(job: ConvProblem, mask: Mask) -> Mask:
    """Compute the job's outputs that see missing samples; return which of them have no result.

    job: whose other outputs are computed, its source's missing samples being 0. mask: (rows,
    width, channels) of that source.
    """
    marks = np.zeros(job.out.shape, np.uint8)
    spots = mask[..., 0].copy()
    for channel in range(1, mask.shape[2]):  # `any` along so short an axis takes ten times as long
        spots |= mask[..., channel]
    if not spots.any() or not job.out.size:
        return marks.view(bool)
    lines = spots.any(axis=1)
    groups, maps, channels, kh, _ = job.weights.shape
    totals = job.weights.sum(axis=(2, 3, 4), dtype=np.float64)
    totals[np.abs(totals) <= ZERO * np.abs(job.weights).sum(axis=(2, 3, 4), dtype=np.float64)] = 0
    height, width = job.out_size
    padded = (width - 1) * job.stride[1] + job.extent[1]
    sizes = array(
        Sizes(
            height, width, job.out_map, job.out_row, job.run, maps, groups, channels, kh,
            job.extent[1], *job.stride, job.dilation[0], job.row_stride, job.pixel_stride,
            mask.shape[1], mask.shape[2], padded,
        )
    )  # fmt: skip
    values = epilogue.make_values("f64", job.fill, job.gain, job.offset, job.divisor)
    flat = np.ascontiguousarray(mask).view(np.uint8)
    seen = MissingSeen(flat, spots.view(np.uint8), lines.view(np.uint8), marks)
    row_map, col_map = (np.ascontiguousarray(m) for m in (job.row_map, job.col_map))
    starts = [np.array(numbers, np.int64) for numbers in (job.starts_in, job.starts_out)]
    places, known = Places(row_map, col_map, *starts), KnownTaps(*_taps(job), totals)
    rows_loop = renormalized_rows(
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype],
        job.combine, job.activation,
    )  # fmt: skip

    def work(first: int, last: int) -> None:
        rows_loop(
            job.out, job.source, seen, places, known, np.ascontiguousarray(job.bias), values,
            sizes, np.empty(padded, np.int64), np.empty(2), first, last,
        )  # fmt: skip

    units = len(job.starts_in)
    band = max(1, _TAPS // max(1, padded * len(known.weights)))
    over_bands(units * height, band, work)
    return marks.view(bool)


def _taps(job: ConvProblem) -> tuple[Array, Array, Array]:
    """The job's taps of weights other than 0, their weights, and the ends of the maps' taps."""
    groups, maps = job.weights.shape[:2]
    where = np.argwhere(job.weights != 0)
    number = where[:, 0] * maps + where[:, 1]
    ends = np.searchsorted(number, np.arange(groups * maps + 1))
    places = np.array(job.channels, np.int64)[where[:, 2]]
    steps = where[:, 3:] * np.array(job.dilation)
    taps = np.column_stack([steps, where[:, 2], places])
    weights = job.weights[tuple(where.T)].astype(np.float64)
    return np.ascontiguousarray(taps, np.int64), weights, ends.astype(np.int64)


def pool_masked(
    x: Array, mask: Mask, kind: str, options: dict[str, Any], fill: str
) -> tuple[Array, Mask]:
    """Pool (…, C, H, W) without the missing samples: a mean is that of the others.

    kind, options: of `pool.KINDS`. Sums of powers are renormalized as weights are. Return
    (the result, which of its samples are missing): those of windows without any sample and, for
    fill = "keep", those that are missing in an input of the same size.
    """
    from imgconv.ops.pool_kinds import KINDS

    pool = KINDS[kind]
    if not mask.any():
        out = pool(x, **options)
        return out, np.zeros(out.shape, bool)
    family, _, base = kind.rpartition("-")
    prefix = f"{family}-" if family else ""
    window = {key: value for key, value in options.items() if key in _WINDOW}
    any_of = KINDS[f"{prefix}max"]  # padding is none of its elements
    unknown = any_of(mask.astype(np.uint8), **window) == 1
    known = any_of((~mask).astype(np.uint8), **window) == 1
    if base in ("max", "min"):
        out = pool(np.where(mask, x.dtype.type(blank_of(base, x.dtype)), x), **options)
    elif "missing" in inspect.signature(pool).parameters:
        out = pool(x, **options, missing=mask)
    else:
        power = options.get("norm_type", 2.0) if base == "lp" else 1.0
        rest = np.where(mask, x.dtype.type(0) if power > 0 else np.inf, x)
        out = pool(rest, **options)
        if base == "avg" and not family:
            window["count_include_pad"] = options.get("count_include_pad", True)
        part = 1 - KINDS[f"{prefix}avg"](mask.astype(np.float64), **window)
        touched = unknown & known
        whole = pool(rest.astype(np.float64), **options)[touched]
        out[touched] = whole * (1 / part[touched]) ** (1 / power)
    gone = unknown & ~known
    if fill == "keep" and out.shape == x.shape:
        gone |= mask
    out[gone] = 0
    return out, gone
