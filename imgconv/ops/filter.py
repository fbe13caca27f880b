"""filter_image: a bank of filters over an interleaved image, from its dtype to the output's."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from imgconv import shapes
from imgconv.errors import ShapeError
from imgconv.jit import memory
from imgconv.jit.loop import DTYPES, ELEMENT_NAMES
from imgconv.ops import epilogue, exact, plans
from imgconv.ops.algorithms import select
from imgconv.ops.algorithms.problem import Candidate, ConvProblem
from imgconv.ops.arrays import supported
from imgconv.ops.window import Ints, Window, check_bias, check_weights
from imgconv.shapes import FilterOptions
from imgconv.typing import Array

if TYPE_CHECKING:
    from imgconv.ops.missing import Mask


def filter_image(
    pixels: Array,
    weights: Array,
    bias: Array | None = None,
    *,
    missing: float | None = None,
    missing_fill: str = "keep",
    **options: Unpack[FilterOptions],
) -> Array:
    """Return the maps of an image under filters.

    Parameters
    ----------
    pixels
        (H, W, C).
    weights
        (K, C_in/groups, kH, kW). With one input channel, every image channel is filtered
        separately; otherwise there must be as many as the image has.
    bias
        (K,), added to each response.
    missing
        Samples of this value, or NaN, are ignored, and the remaining weights are renormalized
        (`ops.missing`). Where that is impossible, the result is NaN; in integers it is `missing`,
        or 0 if they cannot hold that.
    missing_fill
        `keep` leaves a result missing if the pixel in its middle is; `interpolate` fills it from
        the neighbors.
    stride, padding, dilation, padding_mode, pad_value, flip
        As for `conv2d`; by default the padding is `same` and its mode `reflect`.
    groups
        As for `conv2d`: filter k sees only the channels of group k · groups // K, and its map has
        one channel. Cannot be combined.
    anchor
        (row, column) of the tap, in `weights` as given, that lies on the output pixel; by default
        the middle one, or the tap before it. Needs padding `same`.
    combine
        Make one map of all: `magnitude`, `max`, `sum`, `mean`, or `shrink`, the sum in which a map
        counts where its magnitude reaches its bias, which then is a limit and not added.
    divisor, activation, gain, offset
        value = activation(combine(response / divisor + bias)) · gain + offset.
    out_dtype
        Of the result, float32 by default. Integers round half to even and saturate, and NaN becomes
        0. None is the type of the sums: float64 where float32 would round a result that is rounded
        again later.

    Returns
    -------
    ndarray
        (K, H', W', C), or (K, H', W', 1) if the filters mix channels; (1, …) if combined.

    Raises
    ------
    ShapeError
        Sizes do not fit together.
    UsageError
        There is no such rule or mode.
    ValueRangeError
        Sums of integers might exceed 2⁵³ (2⁵² with a divisor).

    Notes
    -----
    For integer images and weights that are integers, integers over a divisor, or decimals of up to
    seven places, sums are exact and a result is rounded once.
    """
    if missing is None:
        key = plans.key_of(pixels, weights, bias, tuple(options.items()))
        maps = plans.again(key, pixels)
        if maps is not None:
            return maps
        job = make_job(pixels, weights, bias, **options)
        plans.run(job, pixels, key, job.out.shape)
        return job.out
    from imgconv.ops.missing import mark, mask_of

    mask = mask_of(pixels, missing)
    out, marks = filter_masked(pixels, mask, weights, bias, fill=missing_fill, **options)
    mark(out, marks, missing)
    return out


def filter_masked(
    pixels: Array, mask: "Mask", weights: Array,
    bias: Array | None = None, *, fill: str = "keep", **options: Unpack[FilterOptions],
) -> tuple[Array, "Mask"]:  # fmt: skip
    """`filter_image`'s maps of an image whose samples are missing where `mask` says so.

    Return (maps, which of their samples have no result and hold any number). fill: `missing_fill`.
    options, errors: those of `make_job`.
    """
    from imgconv.ops.missing import Centers, check_fill, renormalize, without

    check_fill(fill)
    some = bool(mask.any())
    job = make_job(without(pixels, mask) if some else pixels, weights, bias, **options)
    size = pixels.shape[0], pixels.shape[1]
    centers = Centers(job, size) if fill == "keep" else None
    select.run(job)
    if not some:
        return job.out, np.zeros(job.out.shape, bool)
    marks = renormalize(job, mask)
    if centers is not None:
        middles = centers.missing(mask, 0, job.out_size[0], 0, job)
        marks |= middles.repeat(len(marks) // len(middles), axis=0)
    return job.out, marks


class Bank(NamedTuple):
    """Filters of one size; their weights are divided by the divisor."""

    weights: Array
    bias: Array | None = None
    divisor: float = 1.0


def filter_banks(
    pixels: Array,
    banks: Iterable[tuple[Array, Array | None] | tuple[Array, Array | None, float]],
    **options: Unpack[FilterOptions],
) -> list[Array]:
    """The maps of an image (H, W, C) under each bank: `filter_image`'s, bit for bit.

    Neighbors in `banks` that the planner sums tap by tap, in one type and over one window, share
    one walk over the image: each of its rows meets all their taps while it is in the first-level
    cache. banks: (weights, bias, divisor) of each. options: those of `make_job`; its errors.
    """
    jobs = []
    for weights, bias, divisor in (Bank(*bank) for bank in banks):
        own = options | {"divisor": divisor}
        jobs.append(make_job(pixels, weights, bias, **own, allocate=False))
    offers = [select.choose(job) if job.out.size else None for job in jobs]
    found: list[Array] = []
    while len(found) < len(jobs):
        first = len(found)
        end = first + 1
        while end < len(jobs) and _alike(jobs[first], offers[first], jobs[end], offers[end]):
            end += 1
        offer = offers[first]
        joined = _joined(jobs[first:end])
        if offer is not None:
            select.run_by(joined, offer)
        ends = np.cumsum([0] + [len(job.out) for job in jobs[first:end]])
        found += [joined.out[a:b] for a, b in itertools.pairwise(ends)]
    return found


def _alike(
    a: ConvProblem, first: Candidate | None, b: ConvProblem, second: Candidate | None
) -> bool:
    """Whether two jobs over one image are summed by one loop over one window."""
    return (
        first is not None and second is not None
        and first.algorithm == second.algorithm and first.algorithm in ("direct", "sparse")
        and a.combine == b.combine == "none" and len(a.starts_in) == len(b.starts_in) == 1
        and a.weights.shape[2:] == b.weights.shape[2:] and a.out.shape[1:] == b.out.shape[1:]
        and (a.real, a.divisor, a.near) == (b.real, b.divisor, b.near)
        and a.out.dtype == b.out.dtype and a.limit == b.limit
        and np.array_equal(a.row_map, b.row_map) and np.array_equal(a.col_map, b.col_map)
    )  # fmt: skip


def _joined(jobs: list[ConvProblem]) -> ConvProblem:
    """One job of all maps of jobs that are alike, its result not yet computed."""
    maps = sum(len(job.out) for job in jobs)
    return replace(
        jobs[0],
        weights=np.concatenate([job.weights for job in jobs], axis=1),
        bias=np.concatenate([job.bias for job in jobs], axis=1),
        out=memory.empty((maps, *jobs[0].out.shape[1:]), jobs[0].out.dtype),
    )


def make_job(
    pixels: Array,
    weights: Array,
    bias: Array | None = None,
    *,
    stride: Ints = 1,
    padding: int | str | Sequence[int] = "same",
    dilation: Ints = 1,
    padding_mode: str = "reflect",
    pad_value: float = 0.0,
    flip: bool = False,
    groups: int | None = None,
    combine: str = "none",
    activation: object = None,
    gain: float = 1.0,
    offset: float = 0.0,
    out_dtype: npt.DTypeLike | None = np.float32,
    divisor: float = 1.0,
    later: tuple[float, float] = (1.0, 0.0),
    anchor: Ints | None = None,
    allocate: bool = True,
) -> ConvProblem:
    """Check the arguments of `filter_image` and lay the work out; its result is the job's out.

    later: gain and offset that the caller gives results before it rounds them to integers.
    allocate: False where only the layout is wanted; then `out` must not be written to.
    """
    if pixels.ndim != 3 or pixels.shape[2] == 0:
        raise ShapeError(f"filter: image of shape {pixels.shape}, expected (H, W, C)")
    source = supported(pixels)
    height, width, channels = source.shape
    bank = check_weights(weights, flip, "filter")
    count, per_group, kh, kw = bank.shape
    if groups is not None:
        _check_groups(groups, channels, count, per_group, combine)
    elif per_group not in (1, channels):
        raise ShapeError(
            f"filter: the kernel has {per_group} input channels, the image {channels}; "
            "expected 1 or as many, or --groups"
        )
    epilogue.check_combine(combine)
    offsets = check_bias(bias, count, "filter")
    if anchor is not None:
        padding = _anchored(anchor, (kh, kw), dilation, padding, flip)
    window = Window(height, width, (kh, kw), stride, padding, dilation, padding_mode, pad_value)
    middle = (
        window.sides[::2] if anchor is not None
        else ((kh - 1) * window.dilation[0] // 2, (kw - 1) * window.dilation[1] // 2)
    )  # fmt: skip
    mixing = groups is not None or (per_group == channels and channels > 1)
    units = groups or 1
    if not mixing and source.strides[2] != source.itemsize and channels > 1:
        source = np.ascontiguousarray(source)
    bank, divisor = exact.rational_form(source.dtype, bank, divisor, window.fill)
    real = exact.sums_type(
        source.dtype, bank, offsets, window.fill, divisor, combine, gain, offset, later
    )
    dtype = DTYPES[real] if out_dtype is None else np.dtype(out_dtype)
    if dtype not in ELEMENT_NAMES or dtype == np.int64:
        raise ShapeError(f"filter: out_dtype={dtype}, expected uint8, uint16, int16, int32, "
                         "uint32, float32 or float64")  # fmt: skip
    run = 1 if mixing else channels
    out_height, out_width = window.out_size
    maps = count if combine == "none" else 1
    out_map = out_height * out_width * run
    shape = (maps, out_height, out_width, run)
    out = memory.empty(shape, dtype) if allocate else np.broadcast_to(np.empty(1, dtype), shape)
    sy, sx, sc = (step // source.itemsize for step in source.strides)
    return ConvProblem(
        source=source,
        starts_in=[unit * per_group * sc for unit in range(units)],
        channels=[c * sc for c in range(per_group)],
        row_stride=sy,
        pixel_stride=sx,
        run=run,
        near=window.sides.left,
        width=width,
        row_map=window.row_map,
        col_map=window.col_map,
        weights=bank.reshape(units, count // units, per_group, kh, kw),
        bias=offsets.reshape(units, count // units),
        stride=window.stride,
        dilation=window.dilation,
        out=out,
        starts_out=[unit * (count // units) * out_map for unit in range(units)],
        out_size=window.out_size,
        out_map=out_map,
        out_row=out_width * run,
        real=real,
        combine=combine,
        activation=epilogue.activation_key(activation),
        fill=window.fill,
        gain=gain,
        offset=offset,
        divisor=divisor,
        limit=exact.limit_of(source.dtype, bank, window.fill, divisor,
                             count if combine in ("sum", "mean") else 1),
        middle=middle,
    )  # fmt: skip


def _anchored(
    anchor: Ints, size: shapes.Pair, dilation: Ints, padding: int | str | Sequence[int], flip: bool
) -> shapes.Sides:
    """The padding that puts the tap at `anchor`, of the kernel before its flip, on the output."""
    if padding != "same":
        raise ShapeError(f"filter: anchor={anchor} with padding={padding}, expected padding=same")
    shapes.anchored_sides(anchor, size)  # named as it was given
    place = shapes.flipped_anchor(anchor, size) if flip else anchor
    return shapes.anchored_sides(place, size, shapes.pair(dilation, "dilation"))


def _check_groups(groups: int, channels: int, count: int, per_group: int, combine: str) -> None:
    shapes.check_groups(channels, count, groups, "filter")
    if per_group * groups != channels:
        raise ShapeError(
            f"filter: {per_group} input channels a filter with groups={groups} expect an image of "
            f"{per_group * groups} channels, got {channels}"
        )
    if groups > 1 and combine != "none":
        raise ShapeError(f"filter: combine={combine} with groups={groups}, expected groups=1")
