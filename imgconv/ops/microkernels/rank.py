"""Windows whose elements are sorted: medians and other ranks, exact for every type.

A list of exchanges (`network`) puts the element of a rank in its place whatever the elements are,
so that many windows can be sorted side by side in the lanes of vectors:

- `small_windows` holds the elements of a window in registers, for up to REGISTERS of them;
- `network_rows` holds them in memory, the k-th elements of a block of windows side by side. It has
  windows of every size, those at the borders, and those that see missing samples;
- `histogram_rows` counts instead, for bytes: moving a window costs the same for every size of it.

A window that sees m of its n elements has the element of rank ⌊rank · (m − 1) / (n − 1)⌋ of those.
"""

import functools
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, loop
from imgconv.jit.record import record
from imgconv.ops.microkernels.windows import blank_of
from imgconv.typing import Int64

REGISTERS = 25  # elements; 49 take four times as long to compile
BLOCK = 512  # bytes of a row of taps: those of 7×7 lie in the first cache
VALUES, COARSE = 256, 16  # counts of a column: of each value of a byte, then of its upper half


@functools.lru_cache(256)
def network(count: int, rank: int) -> Int64:
    """Exchanges (i, j), one per row: x[i], x[j] = min, max of the two in this order sort x[rank].

    Batcher's merge exchange without the exchanges that x[rank] does not depend on.

    References
    ----------
    D. E. Knuth, The Art of Computer Programming, vol. 3, 2nd ed., 5.2.2, algorithm M.
    """
    pairs = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    stage = top if count > 1 else 0
    while stage:
        group, offset, distance = top, 0, stage
        while True:
            pairs += [(i, i + distance) for i in range(count - distance) if i & stage == offset]
            if group == stage:
                break
            distance, group, offset = group - stage, group // 2, stage
        stage //= 2
    needed, used = {rank}, []
    for low, high in reversed(pairs):
        if low in needed or high in needed:
            needed |= {low, high}
            used.append((low, high))
    return np.array(used[::-1], np.int64).reshape(-1, 2)


def _picker(kernel: tuple[int, int], rank: int) -> Callable[..., object]:
    """A function (x, start, down, across) → the element of a window whose elements lie `down` and
    `across` apart.

    It is spelled as text, a line for each exchange, since Numba has no loop that it would unroll
    over variables.
    """
    height, width = kernel
    lines = [
        f"v{m * width + n} = x[start + {m} * down + {n} * across]"
        for m in range(height) for n in range(width)
    ]  # fmt: skip
    for i, j in network(height * width, rank).tolist():
        lines.append(f"v{i}, v{j} = min(v{i}, v{j}), max(v{i}, v{j})")
    text = "\n".join([*lines, f"return v{rank}"])
    names: dict[str, Callable[..., object]] = {}
    exec(f"def pick(x, start, down, across):\n{textwrap.indent(text, '    ')}", names)
    return names["pick"]


@loop
def small_windows(element: str, kernel: tuple[int, int], rank: int) -> Built:
    """Windows that see only the map, of output rows first…last − 1, counted over all planes."""
    pick = jit.Helper(_picker(kernel, rank))

    def body(out, x, shape, left, right, first, last):  # type: ignore[no-untyped-def]
        down, across = shape.dilation_y * shape.width, shape.dilation_x
        for r in range(first, last):
            top = r % shape.out_height * shape.stride_y - shape.pad_y
            if top < 0 or top + (shape.kernel_height - 1) * shape.dilation_y >= shape.height:
                continue
            start = (r // shape.out_height * shape.height + top) * shape.width - shape.pad_x
            if shape.stride_x == 1:
                for i in range(left, right):
                    out[r * shape.out_width + i] = pick(x, start + i, down, across)
            else:
                for i in range(left, right):
                    at = start + i * shape.stride_x
                    out[r * shape.out_width + i] = pick(x, at, down, across)

    return f"disjoint {element}* {element}* PoolShape* i64 i64 i64 i64", body


@record
class Order(NamedTuple):
    """What sorts windows: pairs of `network`, the rank and its rule, and what is done before.

    median: the rank is that of the lower median of the elements that a window sees.
    left, right: the columns from `left` to right − 1 see only columns of the map. filled:
    `small_windows` has done those that see only rows of it, too.
    """

    rank: int
    median: int
    left: int
    right: int
    exchanges: int = 0
    filled: int = 0


@jit.helper
def _wanted(seen, order, taps):  # type: ignore[no-untyped-def]
    """The rank among the `seen` of a window's `taps` elements."""
    return (seen - 1) // 2 if order.median else order.rank * (seen - 1) // max(taps - 1, 1)


@jit.helper
def _sort(taps, pairs, exchanges, block, count):  # type: ignore[no-untyped-def]
    for p in range(exchanges):
        low, high = pairs[2 * p] * block, pairs[2 * p + 1] * block
        for i in range(count):
            a, b = taps[low + i], taps[high + i]
            taps[low + i], taps[high + i] = min(a, b), max(a, b)


@loop
def network_rows(element: str, masked: bool) -> Built:
    """Windows of output rows first…last − 1, counted over all planes, by `network`'s pairs.

    x: the map, and with `masked` what to leave out of it, where missing[i] is not 0.
    taps: scratch, BLOCK bytes for each element of a window. places: scratch, where in `out` each
    result of a block goes that does not see the map alone; they are gathered from several rows.
    """
    block = BLOCK // jit.DTYPES[element].itemsize
    collect = jit.Helper(_collector(element, masked, block))

    def body(out, x, missing, taps, places, pairs, order, shape, first, last):  # type: ignore[no-untyped-def]
        sx, rank = shape.stride_x, order.rank * block
        gathered = np.int64(0)
        for r in range(first, last):
            top = r % shape.out_height * shape.stride_y - shape.pad_y
            inside = top >= 0 and top + (shape.kernel_height - 1) * shape.dilation_y < shape.height
            left, right = order.left, order.right
            if masked or not inside:
                left, right = shape.out_width, shape.out_width
            start = (r // shape.out_height * shape.height + top) * shape.width - shape.pad_x
            begin = right if order.filled else left
            while begin < right:
                count, tap = min(block, right - begin), 0
                for m in range(shape.kernel_height):
                    line = start + m * shape.dilation_y * shape.width + begin * sx
                    for n in range(shape.kernel_width):
                        at = line + n * shape.dilation_x
                        if sx == 1:
                            for i in range(count):
                                taps[tap + i] = x[at + i]
                        else:
                            for i in range(count):
                                taps[tap + i] = x[at + i * sx]
                        tap += block
                _sort(taps, pairs, order.exchanges, block, count)
                for i in range(count):
                    out[r * shape.out_width + begin + i] = taps[rank + i]
                begin += count
            for other in range(shape.out_width - (right - left)):
                ox = other if other < left else other + right - left
                places[gathered] = r * shape.out_width + ox
                gathered += 1
                if gathered == block:
                    collect(x, missing, taps, places, gathered, order, shape)
                    _sort(taps, pairs, order.exchanges, block, gathered)
                    for i in range(gathered):
                        out[places[i]] = taps[rank + i]
                    gathered = np.int64(0)
        collect(x, missing, taps, places, gathered, order, shape)
        _sort(taps, pairs, order.exchanges, block, gathered)
        for i in range(gathered):
            out[places[i]] = taps[rank + i]

    signature = f"{element}* {element}* u8* {element}* i64* i64* Order PoolShape* i64 i64"
    return f"disjoint {signature}", body


def _collector(element: str, masked: bool, block: int) -> Callable[..., object]:
    """A function that fills `taps` with the elements of windows anywhere on the map.

    Those that a window does not see are replaced by the type's least and greatest numbers: by as
    many least ones as move the wanted element to `rank`.
    """
    dtype = jit.DTYPES[element]
    least, greatest = (dtype.type(blank_of(kind, dtype)) for kind in ("max", "min"))

    def collect(x, missing, taps, places, count, order, shape):  # type: ignore[no-untyped-def]
        elements = shape.kernel_height * shape.kernel_width
        for i in range(count):
            r, ox = places[i] // shape.out_width, places[i] % shape.out_width
            base = r // shape.out_height * shape.height * shape.width
            top = r % shape.out_height * shape.stride_y - shape.pad_y
            left = ox * shape.stride_x - shape.pad_x
            seen = np.int64(0)
            for m in range(shape.kernel_height):
                iy = top + m * shape.dilation_y
                if iy < 0 or iy >= shape.height:
                    continue
                for n in range(shape.kernel_width):
                    ix = left + n * shape.dilation_x
                    at = base + iy * shape.width + ix
                    if ix < 0 or ix >= shape.width or (masked and missing[at]):
                        continue
                    taps[seen * block + i] = x[at]
                    seen += 1
            lesser = seen + order.rank - _wanted(seen, order, elements) if seen else elements
            for tap in range(seen, elements):
                taps[tap * block + i] = least if tap < lesser else greatest

    return collect


@loop
def histogram_rows(count: str) -> Built:
    """Windows of bytes without dilation, of output rows first…last − 1, counted over all planes.

    count: a type that holds the number of a window's elements. columns[c]: how many elements of
    column c, in the window's rows, have each value, then how many have each upper half of a value.
    Between two output rows of a plane only the rows that leave the window and those that come are
    counted; between two windows of a row, columns.

    References
    ----------
    S. Perreault and P. Hébert, Median filtering in constant time, IEEE Transactions on Image
    Processing 16 (9), 2007.
    """
    bins = VALUES + COARSE

    def body(out, x, columns, counts, order, shape, first, last):  # type: ignore[no-untyped-def]
        height, width = shape.height, shape.width
        taps = shape.kernel_height * shape.kernel_width
        low = high = np.int64(0)  # the rows that the columns count
        for r in range(first, last):
            plane, y = r // shape.out_height, r % shape.out_height
            top = y * shape.stride_y - shape.pad_y
            bottom = min(top + shape.kernel_height, height)
            top = max(top, 0)
            if r == first or y == 0 or top >= high:
                for i in range(width * bins):
                    columns[i] = 0
                low = high = top
            for row in range(low, bottom):
                if top <= row < high:
                    continue
                step = 1 if row >= high else -1
                for c in range(width):
                    value = np.int64(x[(plane * height + row) * width + c])
                    columns[c * bins + value] += step
                    columns[c * bins + VALUES + value // COARSE] += step
            low, high = top, bottom
            for i in range(bins):
                counts[i] = 0
            left = right = np.int64(0)  # the columns that the window counts
            for ox in range(shape.out_width):
                near = ox * shape.stride_x - shape.pad_x
                far = min(near + shape.kernel_width, width)
                near = max(near, 0)
                old, new = left, max(right, near)
                if min(near, right) - old == 1 and far - new == 1:
                    for i in range(bins):
                        counts[i] += columns[new * bins + i] - columns[old * bins + i]
                    old, new = near, far
                for c in range(old, min(near, right)):
                    for i in range(bins):
                        counts[i] -= columns[c * bins + i]
                for c in range(new, far):
                    for i in range(bins):
                        counts[i] += columns[c * bins + i]
                left, right = near, max(far, near)
                seen = max(far - near, 0) * max(bottom - top, 0)
                rest = _wanted(seen, order, taps)
                half = np.int64(0)
                while half < COARSE - 1 and counts[VALUES + half] <= rest:
                    rest -= counts[VALUES + half]
                    half += 1
                value = half * COARSE
                while value < half * COARSE + COARSE - 1 and counts[value] <= rest:
                    rest -= counts[value]
                    value += 1
                out[r * shape.out_width + ox] = value if seen else 0

    return f"disjoint u8* u8* u16* {count}* Order PoolShape* i64 i64", body
