"""Pooling with the semantics of torch.nn.functional, on (C, H, W) or (N, C, H, W) arrays.

Source of formulas: PyTorch documentation, MaxPool2d, AvgPool2d, LPPool2d, AdaptiveAvgPool2d.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.errors import ShapeError
from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.jit.record import array
from imgconv.ops import exact
from imgconv.ops.arrays import readable
from imgconv.ops.linear import linear
from imgconv.ops.microkernels import pool
from imgconv.ops.microkernels.windows import (
    LANES,
    PICKS,
    PoolShape,
    adaptive_rows,
    divide,
    max_indices,
    plane_means,
    pool_rows,
)
from imgconv.shapes import Pair, Sides, output_size, pair, pool_sides
from imgconv.typing import Array, Dtype

Ints = int | tuple[int, int]
Padding = int | Sequence[int]

FEW = 1 << 16  # elements; below this a thread costs more than it saves


# What holds every number of a type that the loops do not read.
_WIDER = {
    np.dtype(narrow): np.dtype(wider)
    for narrow, wider in (("?", "u1"), ("i1", "i2"), ("u8", "f8"), ("f2", "f4"))
}


def planes_of(x: Array, operation: str) -> Array:
    """x, contiguous and of a type that the loops read. Raises ShapeError for other dimensions."""
    if x.ndim not in (3, 4) or 0 in x.shape[-2:]:
        raise ShapeError(
            f"{operation}: input {x.shape}, expected a non-empty (C, H, W) or (N, C, H, W)"
        )
    x = readable(x)
    if x.dtype not in jit.ELEMENT_NAMES:
        x = x.astype(_WIDER.get(x.dtype, np.float32))
    return np.ascontiguousarray(x)


def as_given(out: Array, dtype: Dtype) -> Array:
    """Elements that were picked from an array of this type, which the loops read as a wider one."""
    if dtype == out.dtype:
        return out
    dtype = dtype.newbyteorder("=")
    if dtype.kind in "iu":  # a window of padding alone holds the wider type's limit
        out = np.clip(out, np.iinfo(dtype).min, np.iinfo(dtype).max)
    return out.astype(dtype)


class PoolWindow(NamedTuple):
    """A pool's window resolved against a map's size."""

    kernel: Pair
    stride: Pair
    sides: Sides
    dilation: Pair
    size: Pair

    def counts(self, axis: int, length: int, include_pad: bool) -> Array:
        """Elements that a window counts along one axis, for every output."""
        near, far = self.sides[2 * axis : 2 * axis + 2]
        starts = np.arange(self.size[axis], dtype=np.int64) * self.stride[axis] - near
        low, high = (-near, length + far) if include_pad else (0, length)
        taps = np.arange(self.kernel[axis], dtype=np.int64) * self.dilation[axis]
        places = starts[:, None] + taps
        return np.ascontiguousarray(((places >= low) & (places < high)).sum(axis=1))


def _window(
    shape: Pair, kernel_size: Ints, stride: Ints | None, padding: Padding, dilation: Ints,
    ceil_mode: bool, operation: str,
) -> PoolWindow:  # fmt: skip
    kernel = pair(kernel_size, "kernel_size")
    step = pair(kernel if stride is None else stride, "stride")
    spread = pair(dilation, "dilation")
    try:
        sides = pool_sides(padding, kernel, spread)
        size = output_size(shape, kernel, step, sides, spread, ceil_mode)
    except ShapeError as error:
        raise ShapeError(f"{operation}: {error}") from None
    return PoolWindow(kernel, step, sides, spread, size)


class PoolPlan(NamedTuple):
    """What a pool over maps of one size needs: `pool_rows`' rows, columns and shape."""

    window: PoolWindow
    rows: Array
    columns: Array
    shape: npt.NDArray[np.void]
    counts: Array  # rows, then columns, as float32


@functools.lru_cache(256, typed=True)
def pool_plan(
    shape: Pair, kernel_size: Ints, stride: Ints | None, padding: Padding, dilation: Ints,
    ceil_mode: bool, operation: str, include_pad: bool, divisor: int | None,
) -> PoolPlan:  # fmt: skip
    """Kept: working it out takes 0.06 ms of the 0.09 that a pool of 6×28×28 took."""
    window = _window(shape, kernel_size, stride, padding, dilation, ceil_mode, operation)
    rows, columns = (window.counts(a, shape[a], include_pad) for a in (0, 1))
    check_divisor(divisor)
    if divisor is not None:
        rows, columns = np.full_like(rows, divisor), np.ones_like(columns)
    near = window.sides.top, window.sides.left
    sizes = PoolShape(*shape, *window.size, *window.stride, *near, *window.dilation, *window.kernel)
    counts = np.concatenate([rows, columns]).astype(np.float32)
    return PoolPlan(window, rows, columns, array(sizes), counts)


def check_divisor(divisor: int | None) -> None:
    """Raise ShapeError for a `divisor_override` of 0."""
    if divisor == 0:
        raise ShapeError("divisor_override=0: expected another number")


def fixed(value: Any) -> Any:
    """A sequence as a tuple, which can be looked up."""
    if value is None or isinstance(value, int | tuple):
        return value  # asking whether it is a Sequence takes a microsecond
    return tuple(value) if isinstance(value, Sequence | np.ndarray) else value


def _pool(
    x: Array, kind: str, kernel_size: Ints, stride: Ints | None, padding: Padding, dilation: Ints,
    ceil_mode: bool, *, include_pad: bool = True, divisor: int | None = None, power: float = 1.0,
) -> tuple[Array, npt.NDArray[np.void]]:  # fmt: skip
    """The pooled maps and the `PoolShape` of the pool."""
    operation = f"{kind}_pool2d"
    source = planes_of(x, operation)
    height, width = source.shape[-2:]
    window, rows, columns, shape, counts = pool_plan(
        (height, width), fixed(kernel_size), fixed(stride), fixed(padding), fixed(dilation),
        ceil_mode, operation, include_pad, divisor,
    )  # fmt: skip
    keep = kind in PICKS
    dtype = source.dtype if keep else exact.mean_type(source.dtype, math.prod(window.kernel))
    out = np.empty((*source.shape[:-2], *window.size), dtype)
    if _in_vectors(window, kind, source, pool.usable()):
        if out.size:
            pool.pool(out, source, kind, window.kernel, window.stride, shape, counts)
        return (as_given(out, x.dtype) if keep else out), shape
    constants = window.kernel if max(window.kernel) <= 3 else (0, 0)
    step = window.stride[1] if window.stride[1] <= 2 else 0
    names = jit.ELEMENT_NAMES[source.dtype], jit.ELEMENT_NAMES[dtype]
    work = pool_rows(*names, kind, *constants, step, float(power))
    total = out.size // window.size[1]
    taps = window.kernel[0] * window.kernel[1]
    band = band_of(total, FEW // max(1, window.size[1] * taps))
    if out.size:
        over_bands(total, band, lambda a, b: work(out, source, rows, columns, shape, a, b))
    return (as_given(out, x.dtype) if keep else out), shape


def _in_vectors(window: PoolWindow, kind: str, source: Array, usable: bool) -> bool:
    """Whether `planes` has the pool: a float32 map's small windows."""
    small = max(window.kernel) <= 3 and max(window.stride) <= 2 and window.dilation == (1, 1)
    return kind in pool.BLANK and source.dtype == np.float32 and small and usable


def max_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Return the largest element of every window, in x's dtype; NaN wins.

    Parameters
    ----------
    x
        (C, H, W) or (N, C, H, W).
    kernel_size
        A number, or a (vertical, horizontal) pair.
    stride
        A number or a pair; by default the kernel's size.
    padding
        A number or a pair, at most half the window; or (top, bottom, left, right), less than the
        window. Padding is never the maximum.
    dilation
        Distance between a window's elements.
    ceil_mode
        Allow a last window that reaches beyond the padding.
    return_indices
        Also return the flat position (row · W + column) of each maximum.

    Returns
    -------
    ndarray, or a pair of them
        (…, H', W'). A window that sees nothing but padding gives −∞ or an integer type's smallest
        number, and the position −1.

    Raises
    ------
    ShapeError
        Sizes do not fit together.
    """
    out, shape = _pool(x, "max", kernel_size, stride, padding, dilation, ceil_mode)
    if not return_indices:
        return out
    source = planes_of(x, "max_pool2d")
    indices = np.empty(out.shape, np.int64)
    work = max_indices(jit.ELEMENT_NAMES[source.dtype])
    total = out.size // max(1, out.shape[-1])
    over_bands(total, total, lambda a, b: work(indices, source, shape, a, b))
    return out, indices


def min_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    dilation: Ints = 1, ceil_mode: bool = False,
) -> Array:  # fmt: skip
    """Return the smallest element of every window.

    Parameters and errors are those of `max_pool2d`; a window of padding alone gives the largest
    number.
    """
    return _pool(x, "min", kernel_size, stride, padding, dilation, ceil_mode)[0]


def avg_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
    dilation: Ints = 1,
) -> Array:  # fmt: skip
    """Return the mean of every window, float64 if x is float64, else float32.

    Parameters
    ----------
    x
        (C, H, W) or (N, C, H, W).
    kernel_size
        A number, or a (vertical, horizontal) pair.
    stride
        A number or a pair; by default the kernel's size.
    padding
        Zeros, as many as for `max_pool2d`.
    ceil_mode
        Allow a last window that reaches beyond the padding.
    count_include_pad
        Count zero padding as elements. Without it, a window that sees nothing else gives NaN.
    divisor_override
        Divide by this instead of the number of elements.
    dilation
        Distance between a window's elements, as in ONNX's AveragePool.

    Raises
    ------
    ShapeError
        Sizes do not fit together.

    Notes
    -----
    Means of integers are exact sums, rounded once. They are float64 where sums may exceed 2²³,
    since float32 would round some of them to half an integer.
    """
    return _pool(x, "avg", kernel_size, stride, padding, dilation, ceil_mode,
                 include_pad=count_include_pad, divisor=divisor_override)[0]  # fmt: skip


def lp_pool2d(
    x: Array, norm_type: float, kernel_size: Ints, stride: Ints | None = None,
    ceil_mode: bool = False, padding: Padding = 0, dilation: Ints = 1,
) -> Array:  # fmt: skip
    """Return (Σ xᵖ)^(1/p) of every window, as PyTorch does: without taking magnitudes first.

    Parameters
    ----------
    x
        (C, H, W) or (N, C, H, W).
    norm_type
        p. An odd p gives NaN where the sum is negative; 1 gives the sum itself; ∞ and −∞ give the
        largest and the smallest |x|.
    kernel_size, stride, ceil_mode
        As for `max_pool2d`.
    padding, dilation
        Of zeros, and between elements, as in ONNX's LpPool.

    Raises
    ------
    ShapeError
        Sizes do not fit together.
    """
    if norm_type == 0 or math.isnan(norm_type):
        raise ShapeError(f"lp_pool2d: norm_type={norm_type:g}, expected another number")
    values = x if x.dtype.kind == "f" else x.astype(np.float32)
    if math.isinf(norm_type):
        pick = max_pool2d if norm_type > 0 else min_pool2d
        found: Array = pick(np.abs(values), kernel_size, stride, padding, dilation, ceil_mode)
        return found
    return _pool(values, "lp", kernel_size, stride, padding, dilation, ceil_mode,
                 power=norm_type)[0]  # fmt: skip


def _means(source: Array) -> Array:
    """The mean of every plane, (…, 1, 1)."""
    size = source.shape[-2] * source.shape[-1]
    dtype = exact.mean_type(source.dtype, size)
    if source.dtype == np.float32 and pool.usable():
        out = np.empty((*source.shape[:-2], 1, 1), dtype)
        pool.means(out, source, size)
        return out
    if source.dtype == np.float32:
        # A sum is a dot product with ones, whose registers hold the sums of several planes.
        sums = linear(np.ones((1, size), np.float32), source.reshape(-1, size))
        divide("f32")(sums, size, sums.size)
        return sums.reshape(*source.shape[:-2], 1, 1)
    out = np.empty((*source.shape[:-2], 1, 1), dtype)
    work = plane_means(jit.ELEMENT_NAMES[source.dtype], jit.ELEMENT_NAMES[dtype])
    band = band_of(out.size, FEW // size)
    over_bands(
        out.size, band, lambda a, b: work(out, source, np.empty(LANES, dtype), size, a, b)
    )  # fmt: skip
    return out


def _adaptive(x: Array, output_size: Ints, kind: str) -> Array:
    source = planes_of(x, f"adaptive_{kind}_pool2d")
    size = pair(output_size, "output_size")
    if size[0] * size[1] >= 1 << 31:
        raise ShapeError(
            f"adaptive_{kind}_pool2d: output_size={size[0]},{size[1]}, "
            "expected fewer than 2147483648 elements"
        )
    if kind == "avg" and size == (1, 1):
        return _means(source)
    spans = []
    height, width = source.shape[-2:]
    for length, count in zip((height, width), size, strict=True):
        index = np.arange(count, dtype=np.int64)
        spans += [index * length // count, -(-(index + 1) * length // count)]
    longest = math.prod(2 + n // m for n, m in zip((height, width), size, strict=True))
    dtype = source.dtype if kind == "max" else exact.mean_type(source.dtype, longest)
    out = np.empty((*source.shape[:-2], *size), dtype)
    shape = array(PoolShape(height, width, *size))
    work = adaptive_rows(jit.ELEMENT_NAMES[source.dtype], jit.ELEMENT_NAMES[dtype], kind)
    total = out.size // size[1]
    band = band_of(total)
    over_bands(total, band, lambda a, b: work(out, source, *spans, shape, a, b))
    return as_given(out, x.dtype) if kind == "max" else out


def adaptive_avg_pool2d(x: Array, output_size: Ints) -> Array:
    """Return a map of the given size: the means over windows floor(i·H/out) … ceil((i+1)·H/out).

    Parameters
    ----------
    x
        (C, H, W) or (N, C, H, W).
    output_size
        A number, or a (height, width) pair.
    """
    return _adaptive(x, output_size, "avg")


def adaptive_max_pool2d(x: Array, output_size: Ints) -> Array:
    """Return a map of the given size: the maxima over the windows of `adaptive_avg_pool2d`."""
    return _adaptive(x, output_size, "max")


def global_avg_pool2d(x: Array) -> Array:
    """Return the mean of every map, (…, C, 1, 1)."""
    return _means(planes_of(x, "global_avg_pool2d"))


def global_max_pool2d(x: Array) -> Array:
    """Return the maximum of every map, (…, C, 1, 1)."""
    return _adaptive(x, 1, "max")
