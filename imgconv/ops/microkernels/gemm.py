"""The innermost loops of matrix products: blocks of sums that stay in registers.

R rows of weights meet V vectors of pixels: each step loads V vectors and R weights for R · V
multiply-adds, and the sums leave the registers once, at the end. How tall and wide a block is
decides the speed: an AVX2 core whose two units could do 106 GFLOP/s does 95 with 4 rows of 3
vectors and 40 with 1 row of 4.

The pixels of step k stand at data[places[k]…]: a matrix for a convolution that is never formed,
since neighboring taps read the same pixels.
"""

import functools
from typing import NamedTuple

from imgconv.jit import cache, simd
from imgconv.jit.loop import Built, Helper, Part, loop
from imgconv.jit.record import record

Heights = tuple[tuple[int, ...], ...]


@functools.cache
def blocks() -> tuple[int, Heights]:
    """Return (lanes of a vector, heights): heights[V − 1] are the row counts for V vectors.

    Tallest first; R · V sums, V pixels and a weight fit the registers. The last height is 1.
    """
    lanes, registers = cache.vectors()
    if registers >= 32:
        return lanes, ((8, 4, 1), (12, 4, 1), (8, 4, 1), (6, 4, 2, 1))
    return lanes, ((8, 4, 1), (6, 4, 1), (4, 1))


@functools.cache
def lines() -> tuple[int, Heights]:
    """Blocks for a single map: a weight meets eight vectors, so that additions overlap."""
    return cache.vectors()[0], ((1,),) * 8


@record
class Panel(NamedTuple):
    """Which sums a panel has, and what they begin and end with.

    width: pixels, as many vectors as hold them, at most all. terms: of each sum. apart: from a
    map's sums to the next one's. span: from a map's weights to the next one's. fresh: whether sums
    begin with the bias, not with what they were. adds: whether the residual is added at the end.
    floor: what is less at the very end becomes that (NaN is not less).
    """

    maps: int
    width: int
    terms: int
    apart: int
    span: int
    fresh: int
    adds: int
    floor: float


def panel(lanes: int, heights: Heights) -> Part:
    """A panel of sums, compiled once for all loops that call it: see `panel_rows`."""
    return panel_rows.part(lanes, heights)


@loop
def panel_rows(lanes: int, heights: Heights) -> Built:
    """sums[m·apart + i] += Σₖ weights[m·span + k] · data[places[k] + i] for m < maps, i < width

    The terms are added in the order of k, each by one fused multiply-add where the CPU has it.
    bias: of each map. residual: laid out as `sums`; not looked at unless it is added.
    """
    rows = _panel(lanes, heights)

    def body(sums, data, places, weights, bias, residual, shape):  # type: ignore[no-untyped-def]
        rows(0, sums, data, places, weights, bias, residual, shape)

    return "disjoint f32* f32* i64* f32* f32* f32* Panel", body


def _panel(lanes: int, heights: Heights) -> Helper:
    """A helper that sums all maps from map m on, by as few vectors as hold the pixels."""
    fewer = (len(heights) - 1) * lanes
    rows = _strips(lanes, len(heights), heights[-1])
    narrower = _panel(lanes, heights[:-1]) if fewer else None

    def panel(m, sums, data, places, weights, bias, residual, shape):  # type: ignore[no-untyped-def]
        if shape.width > fewer:
            rows(m, sums, data, places, weights, bias, residual, shape)
        elif narrower is not None:
            narrower(m, sums, data, places, weights, bias, residual, shape)

    return Helper(panel)


def _strips(lanes: int, vectors: int, heights: tuple[int, ...]) -> Helper:
    """A helper that sums maps from map m on: the tallest strips while they fit, then the next."""
    strips = _strip(lanes, vectors, heights[0])
    if len(heights) == 1:
        return strips
    lower = _strips(lanes, vectors, heights[1:])

    def rows(m, sums, data, places, weights, bias, residual, shape):  # type: ignore[no-untyped-def]
        m = strips(m, sums, data, places, weights, bias, residual, shape)
        return lower(m, sums, data, places, weights, bias, residual, shape)

    return Helper(rows)


def _strip(lanes: int, vectors: int, rows: int) -> Helper:
    """A helper that sums strips of `rows` maps from map m on and returns the first map left."""
    block, line = simd.Tile(rows, vectors, lanes), simd.Tile(1, vectors, lanes)
    width = vectors * lanes

    def strip(m, sums, data, places, weights, bias, residual, shape):  # type: ignore[no-untyped-def]
        apart, span = shape.apart, shape.span
        while m + rows <= shape.maps:
            out = simd.at(sums, m * apart)
            other = simd.at(residual, m * apart)
            filters = simd.at(weights, m * span)
            if shape.fresh:
                total = simd.splat_rows(block, bias, m, 1)
            else:
                total = simd.load_rows(block, out, 0, apart)
            for k in range(shape.terms):
                if k & 15 == 0:
                    # Short rows far apart begin too often for a CPU's own prefetching: the next
                    # strip's weights are asked for a cache line ahead of their use, and so are the
                    # next panel's sums, not all at once, since they would wait for each other.
                    # ResNet-50's 64 to 256 maps with a residual: 6.9 ms for eight images without
                    # that, 4.7 with it.
                    simd.prefetch(block, filters, k + rows * span, span)
                    ahead = width + (k >> 4 & 3) * lanes
                    simd.prefetch_write(block, out, ahead, apart)
                    if shape.adds:
                        simd.prefetch_near(block, other, ahead, apart)
                pixels = simd.load(line, data, places[k])
                total = simd.outer_fma(total, filters, k, span, pixels)
            if shape.adds:
                total = total + simd.load_rows(block, other, 0, apart)
            simd.store_rows(out, 0, apart, simd.clamp_min(total, shape.floor))
            m += rows
        return m

    return Helper(strip)
