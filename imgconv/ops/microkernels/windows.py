"""Pools of windows of any size, stride, dilation and type, a row of outputs at a time.

Windows that see only the map's columns are taken a row of taps at a time: the innermost loop runs
over outputs, which makes vectors of them and ten times the speed of window by window. The few
windows at the borders follow one by one. `pool` has the small windows of float32 in registers.
"""

from typing import Any, NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit.record import record
from imgconv.ops import epilogue
from imgconv.typing import Dtype

LANES = 32  # partial sums of a plane's mean


@record
class PoolShape(NamedTuple):
    """The sizes of a map and its pool; pad_y and pad_x are above and left of the map."""

    height: int
    width: int
    out_height: int
    out_width: int
    stride_y: int = 1
    stride_x: int = 1
    pad_y: int = 0
    pad_x: int = 0
    dilation_y: int = 1
    dilation_x: int = 1
    kernel_height: int = 1
    kernel_width: int = 1


def _smaller(a, b):  # type: ignore[no-untyped-def]
    # NaN on either side stays NaN.
    return a if a < b or a != a else b


PICKS = {"max": epilogue.larger, "min": _smaller}


def blank_of(kind: str, dtype: Dtype) -> Any:
    """What a window holds whose taps all lie in the padding, as in PyTorch: −∞ for a maximum."""
    if kind not in PICKS:
        return 0
    if dtype.kind == "b":
        return kind == "min"
    if dtype.kind == "f":
        return -np.inf if kind == "max" else np.inf
    return np.iinfo(dtype).min if kind == "max" else np.iinfo(dtype).max


def _merger(kind: str) -> jit.Helper:
    """A helper (new value, so far) → so far: the pick of max and min, else the sum."""
    return jit.Helper(PICKS.get(kind, epilogue.add))


def _power(cast: Any, exponent: float) -> jit.Helper:
    """A helper v → v to a power, by the roots and products that PyTorch takes for some of them."""
    one, given = cast(1), cast(exponent)
    known = {
        1.0: lambda v: v,
        2.0: lambda v: v * v,
        3.0: lambda v: v * v * v,
        0.5: lambda v: np.sqrt(v),
        -0.5: lambda v: one / np.sqrt(v),
        -1.0: lambda v: one / v,
        -2.0: lambda v: one / (v * v),
    }
    return jit.Helper(known.get(exponent, lambda v: v**given))


@jit.loop
def pool_rows(
    source: str, element: str, kind: str, kh: int, kw: int, step: int, power: float
) -> jit.Built:
    """Output rows first…last − 1, counted over all planes.

    kh, kw, step (the horizontal stride): 0 where it is read from the shape. rows, columns: how
    many elements the windows of an output row and column count.
    """
    cast = jit.DTYPES[element].type
    blank = cast(blank_of(kind, jit.DTYPES[element]))
    is_lp = kind == "lp"
    keeps = kind in PICKS
    merge = _merger(kind)
    lift, root = (_power(cast, exponent if is_lp else 1.0) for exponent in (power, 1 / power))

    def body(out, x, rows, columns, shape, first, last):  # type: ignore[no-untyped-def]
        height, width = shape.height, shape.width
        oh, ow = shape.out_height, shape.out_width
        sy, px, dy, dx = shape.stride_y, shape.pad_x, shape.dilation_y, shape.dilation_x
        sx = step if step > 0 else shape.stride_x
        ny = kh if kh > 0 else shape.kernel_height
        nx = kw if kw > 0 else shape.kernel_width
        # Outputs a…b − 1 see only columns of the map.
        a = min((px + sx - 1) // sx, ow)
        b = min(max((width - 1 - (nx - 1) * dx + px + sx) // sx, a), ow)
        for r in range(first, last):
            plane, y = r // oh, r % oh
            base = plane * height * width
            top = y * sy - shape.pad_y
            low = max((dy - 1 - top) // dy, 0)
            high = min((height - top + dy - 1) // dy, ny)
            at = r * ow
            for m in range(low, high):
                line = base + (top + m * dy) * width - px
                if m == low:
                    for ox in range(a, b):
                        total = lift(cast(x[line + ox * sx]))
                        for n in range(1, nx):
                            total = merge(lift(cast(x[line + ox * sx + n * dx])), total)
                        out[at + ox] = total
                else:
                    for ox in range(a, b):
                        total = out[at + ox]
                        for n in range(nx):
                            total = merge(lift(cast(x[line + ox * sx + n * dx])), total)
                        out[at + ox] = total
            for side in range(2):
                for ox in range(b if side else 0, ow if side or low >= high else a):
                    left = ox * sx - px
                    total = blank
                    seen = False
                    for m in range(low, high):
                        for n in range(nx):
                            ix = left + n * dx
                            if ix < 0 or ix >= width:
                                continue
                            v = lift(cast(x[base + (top + m * dy) * width + ix]))
                            total = merge(v, total) if seen else v
                            seen = True
                    out[at + ox] = total
            if is_lp:
                # PyTorch takes the mean times the whole window, also where ceil_mode cut it.
                for ox in range(ow):
                    total = out[at + ox] * (cast(ny * nx) / cast(rows[y] * columns[ox]))
                    out[at + ox] = root(total)
            elif not keeps:
                for ox in range(ow):
                    out[at + ox] /= cast(rows[y] * columns[ox])

    return f"disjoint {element}* {source}* i64* i64* PoolShape* i64 i64", body


@jit.loop
def max_indices(element: str) -> jit.Built:
    """Flat index (row · width + column) of the first largest element of every window."""

    def body(out, x, shape, first, last):  # type: ignore[no-untyped-def]
        height, width, oh, ow = shape.height, shape.width, shape.out_height, shape.out_width
        for r in range(first, last):
            base = r // oh * height * width
            top = r % oh * shape.stride_y - shape.pad_y
            for ox in range(ow):
                left = ox * shape.stride_x - shape.pad_x
                best = np.int64(-1)
                for m in range(shape.kernel_height):
                    iy = top + m * shape.dilation_y
                    if iy < 0 or iy >= height:
                        continue
                    for n in range(shape.kernel_width):
                        ix = left + n * shape.dilation_x
                        if ix < 0 or ix >= width:
                            continue
                        at = iy * width + ix
                        v = x[base + at]
                        if best < 0 or v > x[base + best] or v != v:
                            best = at
                out[r * ow + ox] = best

    return f"i64* {element}* PoolShape* i64 i64", body


@jit.loop
def plane_means(source: str, element: str) -> jit.Built:
    """Means of planes first…last − 1 of `size` elements; sums holds LANES elements.

    LANES partial sums are added as vectors; one after the other an addition waits for the last.
    """
    cast = jit.DTYPES[element].type

    def body(out, x, sums, size, first, last):  # type: ignore[no-untyped-def]
        whole = size // LANES
        for plane in range(first, last):
            at = plane * size
            for lane in range(LANES):
                sums[lane] = cast(0)
            for _ in range(whole):
                for lane in range(LANES):
                    sums[lane] += cast(x[at + lane])
                at += LANES
            for i in range(size - whole * LANES):
                sums[i] += cast(x[at + i])
            total = cast(0)
            for lane in range(LANES):
                total += sums[lane]
            out[plane] = total / cast(size)

    return f"disjoint {element}* {source}* {element}* i64 i64 i64", body


@jit.loop
def divide(element: str) -> jit.Built:
    """values /= divisor."""
    cast = jit.DTYPES[element].type

    def body(values, divisor, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            values[i] /= cast(divisor)

    return f"{element}* i64 i64", body


@jit.loop
def adaptive_rows(source: str, element: str, kind: str) -> jit.Built:
    """Windows given by their starts and ends, output rows first…last − 1 over all planes."""
    cast = jit.DTYPES[element].type
    is_max = kind == "max"
    merge = _merger(kind)

    def body(out, x, tops, bottoms, lefts, rights, shape, first, last):  # type: ignore[no-untyped-def]
        height, width, oh, ow = shape.height, shape.width, shape.out_height, shape.out_width
        for r in range(first, last):
            base, y = r // oh * height * width, r % oh
            for ox in range(ow):
                total = cast(0)
                if is_max:
                    total = cast(x[base + tops[y] * width + lefts[ox]])
                for iy in range(tops[y], bottoms[y]):
                    for ix in range(lefts[ox], rights[ox]):
                        v = cast(x[base + iy * width + ix])
                        total = merge(v, total)
                if not is_max:
                    total /= cast((bottoms[y] - tops[y]) * (rights[ox] - lefts[ox]))
                out[r * ow + ox] = total

    return f"{element}* {source}* i64* i64* i64* i64* PoolShape* i64 i64", body
