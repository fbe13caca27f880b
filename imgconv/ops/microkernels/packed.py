"""The innermost loops of products with maps in the lanes: pixels that meet vectors of maps."""

from typing import NamedTuple

from imgconv.jit import cache, simd
from imgconv.jit.loop import Built, Helper, Part, loop
from imgconv.jit.record import record
from imgconv.ops.microkernels.gemm import Heights

LINE = 16  # floats of a cache line


def blocks() -> Heights:
    """Pixels that meet 1, 2, … vectors of maps, as `microkernel.blocks` has rows and vectors."""
    if cache.vectors()[1] >= 32:
        return ((8, 4, 1), (8, 4, 1), (8, 4, 1), (6, 4, 2, 1))
    return ((8, 4, 1), (6, 4, 1))


def panel(lanes: int, heights: Heights) -> Part:
    """Sums of some pixels, compiled once for all loops that call it: see `panel_rows`."""
    return panel_rows.part(lanes, heights)


@record
class PackedPanel(NamedTuple):
    """Which sums a panel has, and what they begin and end with.

    vectors: of maps. terms: of each sum. ahead: from these weights to those needed next. fresh:
    whether sums begin with the bias, not with what they were. floor: what is less at the end
    becomes that (NaN is not less).
    """

    pixels: int
    vectors: int
    terms: int
    ahead: int
    fresh: int
    floor: float


@loop
def panel_rows(lanes: int, heights: Heights) -> Built:
    """sums[i·width + j] += Σₖ weights[k·width + j] · data[spots[i] + offsets[k]]

    for i < pixels and j < width = vectors · lanes. bias: of each map.
    """
    rows = _panel(lanes, heights)

    def body(sums, data, spots, offsets, weights, bias, shape):  # type: ignore[no-untyped-def]
        rows(0, sums, data, spots, offsets, weights, bias, shape)

    return "disjoint f32* f32* i64* i64* f32* f32* PackedPanel", body


def _panel(lanes: int, heights: Heights) -> Helper:
    """A helper that sums all pixels from pixel i on by as many vectors as there are."""
    wide = len(heights)
    rows = _groups(lanes, wide, heights[-1], True)
    narrower = _panel(lanes, heights[:-1]) if wide > 1 else None

    def panel(i, sums, data, spots, offsets, weights, bias, shape):  # type: ignore[no-untyped-def]
        if shape.vectors == wide:
            rows(i, sums, data, spots, offsets, weights, bias, shape)
        elif narrower is not None:
            narrower(i, sums, data, spots, offsets, weights, bias, shape)

    return Helper(panel)


def _groups(lanes: int, vectors: int, heights: tuple[int, ...], first: bool) -> Helper:
    """A helper that sums pixels from pixel i on: the largest groups while they fit, then the next.

    first: whether these groups are the panel's first.
    """
    groups = _group(lanes, vectors, heights[0], first)
    if len(heights) == 1:
        return groups
    smaller = _groups(lanes, vectors, heights[1:], False)

    def rows(i, sums, data, spots, offsets, weights, bias, shape):  # type: ignore[no-untyped-def]
        i = groups(i, sums, data, spots, offsets, weights, bias, shape)
        return smaller(i, sums, data, spots, offsets, weights, bias, shape)

    return Helper(rows)


def _group(lanes: int, vectors: int, rows: int, first: bool) -> Helper:
    """A helper that sums groups of `rows` pixels from pixel i on and returns the first one left."""
    block, line = simd.Tile(rows, vectors, lanes), simd.Tile(1, vectors, lanes)
    width = vectors * lanes

    def group(i, sums, data, spots, offsets, weights, bias, shape):  # type: ignore[no-untyped-def]
        terms = shape.terms
        while i + rows <= shape.pixels:
            out = simd.at(sums, i * width)
            places = simd.offsets(block, spots, i)
            total = simd.load_rows(block, bias, 0, 0) if shape.fresh else simd.load(block, out, 0)
            # The first groups ask for the next block's weights, a line for each tap.
            asked = i // rows * terms * LINE
            asked = shape.ahead + asked if asked < terms * width else 0
            for k in range(terms):
                if first:
                    simd.prefetch(line, weights, asked + k * LINE, 0)
                maps = simd.load(line, weights, k * width)
                total = simd.outer_fma(total, data, offsets[k], places, maps)
            simd.store(out, 0, simd.clamp_min(total, shape.floor))
            i += rows
        return i

    return Helper(group)


def turn(lanes: int, more: bool) -> Helper:
    """A helper (out, apart, sums, width, residual, floor): `lanes` pixels by as many maps, turned.

    more: whether the residual, laid out as out, is added, and what is then less than `floor`
    becomes that.
    """
    square = simd.Tile(lanes, 1, lanes)

    def turned(out, apart, sums, width, residual, floor):  # type: ignore[no-untyped-def]
        maps = simd.transpose(simd.load_rows(square, sums, 0, width))
        if more:
            maps = maps + simd.load_rows(square, residual, 0, apart)
            maps = simd.clamp_min(maps, floor)
        simd.store_rows(out, 0, apart, maps)

    return Helper(turned)
