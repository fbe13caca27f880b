"""The innermost loops of matrix products: blocks of sums that stay in registers.

R rows of weights meet V vectors of pixels: each step loads V vectors and R weights for R · V
multiply-adds, and the sums leave the registers once, at the end. How tall and wide a block is
decides the speed: an AVX2 core whose two units could do 106 GFLOP/s does 95 with 4 rows of 3
vectors and 40 with 1 row of 4.

The pixels of step k stand at data[places[k]…]: a matrix for a convolution that is never formed,
since neighbouring taps read the same pixels.
"""

import functools

from imgconv.jit import cache, simd
from imgconv.jit.loop import Built, Helper, Part, loop

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


def panel(lanes: int, heights: Heights) -> Part:
    """A panel of sums, compiled once for all loops that call it: see `panel_rows`."""
    return panel_rows.part(lanes, heights)


@loop
def panel_rows(lanes: int, heights: Heights) -> Built:
    """sums[at + m·apart + i] += Σₖ weights[w + m·span + k] · data[p + places[k] + i]

    for m < maps and i < width, where places are offsets[o…] and width is `lanes` times the least
    number of vectors that holds `left` pixels, at most all len(heights). fresh ≠ 0 starts the sums
    with bias[b + m]; what is less than `floor` at the end becomes `floor` (NaN is not less).
    The terms are added in the order of k, each by one fused multiply-add where the CPU has it.
    adds ≠ 0 adds what stands in `residual` where the sums do in theirs, before the floor;
    otherwise `residual` is not looked at.
    """
    rows = _panel(lanes, heights)

    def body(  # type: ignore[no-untyped-def]
        sums, at, apart, data, p, offsets, o, weights, w, span, count, maps, left, bias, b, fresh,
        floor, residual, adds,
    ):  # fmt: skip
        rows(
            left, maps, simd.at(sums, at), apart, simd.at(data, p), simd.at(offsets, o),
            simd.at(weights, w), span, count, simd.at(bias, b), fresh, floor,
            simd.at(residual, at), adds,
        )  # fmt: skip

    kinds = "f32* i64 i64 f32* i64 i64* i64 f32* i64 i64 i64 i64 i64 f32* i64 i64 f32 f32* i64"
    return f"disjoint {kinds}", body


def _panel(lanes: int, heights: Heights) -> Helper:
    """A helper that sums all maps of `left` pixels, by as few vectors as hold them."""
    fewer = (len(heights) - 1) * lanes
    rows = _strips(lanes, len(heights), heights[-1])
    narrower = _panel(lanes, heights[:-1]) if fewer else None

    def panel(  # type: ignore[no-untyped-def]
        left, maps, sums, apart, data, places, weights, span, count, bias, fresh, floor, residual,
        adds,
    ):  # fmt: skip
        if left > fewer:
            rows(
                0, maps, sums, apart, data, places, weights, span, count, bias, fresh, floor,
                residual, adds,
            )  # fmt: skip
        elif narrower is not None:
            narrower(
                left, maps, sums, apart, data, places, weights, span, count, bias, fresh, floor,
                residual, adds,
            )  # fmt: skip

    return Helper(panel)


def _strips(lanes: int, vectors: int, heights: tuple[int, ...]) -> Helper:
    """A helper that sums maps from map m on: the tallest strips while they fit, then the next."""
    strips = _strip(lanes, vectors, heights[0])
    if len(heights) == 1:
        return strips
    lower = _strips(lanes, vectors, heights[1:])

    def rows(  # type: ignore[no-untyped-def]
        m, maps, sums, apart, data, places, weights, span, count, bias, fresh, floor, residual,
        adds,
    ):  # fmt: skip
        m = strips(
            m, maps, sums, apart, data, places, weights, span, count, bias, fresh, floor, residual,
            adds,
        )  # fmt: skip
        return lower(
            m, maps, sums, apart, data, places, weights, span, count, bias, fresh, floor, residual,
            adds,
        )  # fmt: skip

    return Helper(rows)


def _strip(lanes: int, vectors: int, rows: int) -> Helper:
    """A helper that sums strips of `rows` maps from map m on and returns the first map left."""
    block, line = simd.Tile(rows, vectors, lanes), simd.Tile(1, vectors, lanes)
    width = vectors * lanes

    def strip(  # type: ignore[no-untyped-def]
        m, maps, sums, apart, data, places, weights, span, count, bias, fresh, floor, residual,
        adds,
    ):  # fmt: skip
        while m + rows <= maps:
            out = simd.at(sums, m * apart)
            other = simd.at(residual, m * apart)
            filters = simd.at(weights, m * span)
            if fresh:
                total = simd.splat_rows(block, bias, m, 1)
            else:
                total = simd.load_rows(block, out, 0, apart)
            for k in range(count):
                if k & 15 == 0:
                    # Short rows far apart begin too often for a CPU's own prefetching: the next
                    # strip's weights are asked for a cache line ahead of their use, and so are the
                    # next panel's sums, not all at once, since they would wait for each other.
                    # ResNet-50's 64 to 256 maps with a residual: 6.9 ms for eight images without
                    # that, 4.7 with it.
                    simd.prefetch(block, filters, k + rows * span, span)
                    ahead = width + (k >> 4 & 3) * lanes
                    simd.prefetch_write(block, out, ahead, apart)
                    if adds:
                        simd.prefetch_near(block, other, ahead, apart)
                pixels = simd.load(line, data, places[k])
                total = simd.outer_fma(total, filters, k, span, pixels)
            if adds:
                total = total + simd.load_rows(block, other, 0, apart)
            simd.store_rows(out, 0, apart, simd.clamp_min(total, floor))
            m += rows
        return m

    return Helper(strip)
