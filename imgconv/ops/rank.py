"""Medians and other ranks of windows, and the difference of their greatest and least elements."""

import numpy as np
import numpy.typing as npt

from imgconv.errors import ShapeError
from imgconv.jit import loop as jit
from imgconv.jit import memory
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops.microkernels import rank as microkernels
from imgconv.ops.microkernels.rank import Order
from imgconv.ops.microkernels.windows import blank_of
from imgconv.ops.pool import (
    FEW,
    Ints,
    Padding,
    PoolPlan,
    PoolWindow,
    as_given,
    fixed,
    max_pool2d,
    min_pool2d,
    planes_of,
    pool_plan,
)
from imgconv.shapes import Pair
from imgconv.typing import Array

Mask = npt.NDArray[np.bool_]

# Bytes of windows with more elements are counted rather than sorted.
COUNTED = 100


def rank_pool2d(
    x: Array, rank: int, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False, *, missing: Mask | None = None,
) -> Array:  # fmt: skip
    """Return the element at a position of every window in sorted order, in x's dtype; NaN wins.

    Parameters
    ----------
    x
        (C, H, W) or (N, C, H, W), of any real type.
    rank
        0 is the smallest element and kernel height · kernel width − 1 the largest; −1 is the
        largest, −2 the one before it, as in SciPy's rank_filter. A window that sees only m of its
        n elements gives the one at ⌊rank · (m − 1) / (n − 1)⌋.
    kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool2d`. Padding is not among the elements; a window of padding alone gives −∞
        or an integer type's smallest number.
    missing
        Of x's shape: which elements are left out as well.

    Raises
    ------
    ShapeError
        Sizes do not fit together, or a window has no such rank.

    Examples
    --------
    >>> import numpy as np
    >>> rank_pool2d(np.array([[[5, 1, 4], [3, 9, 2], [8, 7, 6]]], np.uint8), -2, 3)
    array([[[8]]], dtype=uint8)
    """
    return _ranked(x, rank, "rank_pool2d", kernel_size, stride, padding, dilation, ceil_mode,
                   missing)  # fmt: skip


def median_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False, *, missing: Mask | None = None,
) -> Array:  # fmt: skip
    """Return the median of every window, in x's dtype; NaN wins.

    Of an even number of elements it is the lower one of the middle two, as in torch.median.
    Parameters and errors are those of `rank_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> median_pool2d(np.array([[[5, 1, 4], [3, 9, 2], [8, 7, 6]]], np.uint8), 3)
    array([[[5]]], dtype=uint8)
    """
    return _ranked(x, None, "median_pool2d", kernel_size, stride, padding, dilation, ceil_mode,
                   missing)  # fmt: skip


def range_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False, *, missing: Mask | None = None,
) -> Array:  # fmt: skip
    """Return the largest minus the smallest element of every window: the morphological gradient.

    Signed integers give the next wider type, which holds the difference; other types stay. A window
    of padding alone gives 0. Parameters and errors are those of `rank_pool2d`.
    """
    x = np.asarray(x)
    options = kernel_size, stride, padding, dilation, ceil_mode
    greatest = max_pool2d(_left_out(x, missing, "max"), *options)
    least = min_pool2d(_left_out(x, missing, "min"), *options)
    if x.dtype.kind == "b":
        return np.asarray(greatest & ~least)
    if x.dtype.kind == "i":
        wider = np.promote_types(x.dtype, f"u{x.dtype.itemsize}")
        greatest, least = greatest.astype(wider), least.astype(wider)
    blank = greatest < least
    with np.errstate(invalid="ignore", over="ignore"):  # ∞ − ∞ is NaN
        difference: Array = np.where(blank, greatest.dtype.type(0), greatest - least)
    return difference


def index_of(rank: int, kernel: Pair) -> int:
    """A rank from 0. Raises ShapeError where a window has no such element."""
    taps = kernel[0] * kernel[1]
    if not -taps <= rank < taps:
        raise ShapeError(f"rank={rank}, expected {-taps} to {taps - 1}")
    return rank % taps


def _ranked(
    x: Array, rank: int | None, operation: str, kernel_size: Ints, stride: Ints | None,
    padding: Padding, dilation: Ints, ceil_mode: bool, missing: Mask | None,
) -> Array:  # fmt: skip
    source = planes_of(x, operation)
    height, width = source.shape[-2:]
    sizes = (height, width), fixed(kernel_size), fixed(stride), fixed(padding), fixed(dilation)
    plan = pool_plan(*sizes, ceil_mode, operation, True, None)
    taps = plan.window.kernel[0] * plan.window.kernel[1]
    try:
        index = (taps - 1) // 2 if rank is None else index_of(rank, plan.window.kernel)
    except ShapeError as error:
        raise ShapeError(f"{operation}: {error}") from None
    out = memory.empty((*source.shape[:-2], *plan.window.size), source.dtype)
    if out.size:
        mask = None if missing is None or not missing.any() else missing
        _fill(out, source, mask, plan, Order(index, rank is None, *_inner(width, plan.window)))
    if source.dtype.kind == "f" and np.isnan(source.min()):
        nan = np.isnan(source) if missing is None else np.isnan(source) & ~missing
        if nan.any():  # what became of it among the others depends on its place
            seen = max_pool2d(nan.view(np.uint8), *sizes[1:], ceil_mode)
            out[seen == 1] = np.nan
    return as_given(out, x.dtype)


def _left_out(x: Array, missing: Mask | None, kind: str) -> Array:
    """x with what is missing replaced by what never is the maximum or minimum."""
    return x if missing is None else np.where(missing, x.dtype.type(blank_of(kind, x.dtype)), x)


def _fill(out: Array, x: Array, mask: Mask | None, plan: PoolPlan, order: Order) -> None:
    """Fill `out` with the elements of x that the order names, by the way that takes least time."""
    window, shape = plan.window, plan.shape
    taps = window.kernel[0] * window.kernel[1]
    element = jit.ELEMENT_NAMES[x.dtype]
    rows = out.size // out.shape[-1]
    # Bytes are sorted in vectors of 64: an element takes an eighth of its time in a pool.
    band = band_of(rows, 8 * FEW // (x.itemsize * out.shape[-1] * taps))
    if element == "u8" and taps > COUNTED and window.dilation == (1, 1) and mask is None:
        number = "u16" if taps < 1 << 16 else "i32"
        counting = microkernels.histogram_rows(number)
        bins = microkernels.VALUES + microkernels.COARSE

        def count(first: int, last: int) -> None:
            columns = np.empty(x.shape[-1] * bins, np.uint16)
            counting(out, x, columns, np.empty(bins, jit.DTYPES[number]), order, shape, first, last)

        over_bands(rows, band, count)
        return
    inner = mask is None and order.left < order.right
    if taps <= microkernels.REGISTERS and inner:
        small = microkernels.small_windows(element, window.kernel, order.rank)
        over_bands(rows, band, small.fix(out, x, shape, order.left, order.right))
        order = order._replace(filled=1)
    pairs = microkernels.network(taps, order.rank)
    order = order._replace(exchanges=len(pairs))
    block = microkernels.BLOCK // x.dtype.itemsize
    sorting = microkernels.network_rows(element, mask is not None)
    flags = None if mask is None else np.ascontiguousarray(mask).view(np.uint8)

    def sort(first: int, last: int) -> None:
        scratch, places = np.empty(taps * block, x.dtype), np.empty(block, np.int64)
        sorting(out, x, flags, scratch, places, pairs, order, shape, first, last)

    over_bands(rows, band, sort)


def _inner(width: int, window: PoolWindow) -> Pair:
    """The columns left…right − 1 of the output whose windows see only columns of the map."""
    stride, pad = window.stride[1], window.sides.left
    last = width - 1 - (window.kernel[1] - 1) * window.dilation[1] + pad
    left = min(-(-pad // stride), window.size[1])
    return left, max(left, min(last // stride + 1, window.size[1]))
