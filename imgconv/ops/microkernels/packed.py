"""The innermost loops of products with maps in the lanes: pixels that meet vectors of maps."""

from imgconv.jit import cache, simd
from imgconv.jit.loop import Built, Helper, Part, loop
from imgconv.ops import epilogue
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


@loop
def panel_rows(lanes: int, heights: Heights) -> Built:
    """sums[at + i·width + j] += Σₖ weights[w + k·width + j] · data[place + offsets[k]]

    where place = d + spots[s + i], for i < pixels and j < width = vectors · lanes. fresh ≠ 0 starts
    with bias[b + j]; what is less than `floor` becomes `floor`. ahead: where the weights begin that
    will be needed next.
    """
    rows = _panel(lanes, heights)

    def body(  # type: ignore[no-untyped-def]
        sums, at, data, d, spots, s, pixels, offsets, weights, w, count, vectors, ahead, bias, b,
        fresh, floor,
    ):  # fmt: skip
        rows(
            vectors, pixels, simd.at(sums, at), simd.at(data, d), simd.at(spots, s), offsets,
            simd.at(weights, w), ahead - w, count, simd.at(bias, b), fresh, floor,
        )  # fmt: skip

    return (
        "disjoint f32* i64 f32* i64 i64* i64 i64 i64* f32* i64 i64 i64 i64 f32* i64 i64 f32",
        body,
    )


def _panel(lanes: int, heights: Heights) -> Helper:
    """A helper that sums all pixels by `vectors` vectors each."""
    wide = len(heights)
    rows = _groups(lanes, wide, heights[-1], True)
    narrower = _panel(lanes, heights[:-1]) if wide > 1 else None

    def panel(  # type: ignore[no-untyped-def]
        vectors, pixels, sums, data, spots, offsets, weights, ahead, count, bias, fresh, floor
    ):
        if vectors == wide:
            rows(
                0, pixels, sums, data, spots, offsets, weights, ahead, count, bias, fresh, floor
            )  # fmt: skip
        elif narrower is not None:
            narrower(
                vectors, pixels, sums, data, spots, offsets, weights, ahead, count, bias, fresh,
                floor,
            )  # fmt: skip

    return Helper(panel)


def _groups(lanes: int, vectors: int, heights: tuple[int, ...], first: bool) -> Helper:
    """A helper that sums pixels from pixel i on: the largest groups while they fit, then the next.

    first: whether these groups are the panel's first.
    """
    groups = _group(lanes, vectors, heights[0], first)
    if len(heights) == 1:
        return groups
    smaller = _groups(lanes, vectors, heights[1:], False)

    def rows(  # type: ignore[no-untyped-def]
        i, pixels, sums, data, spots, offsets, weights, ahead, count, bias, fresh, floor
    ):
        i = groups(
            i, pixels, sums, data, spots, offsets, weights, ahead, count, bias, fresh, floor
        )  # fmt: skip
        return smaller(
            i, pixels, sums, data, spots, offsets, weights, ahead, count, bias, fresh, floor
        )  # fmt: skip

    return Helper(rows)


def _group(lanes: int, vectors: int, rows: int, first: bool) -> Helper:
    """A helper that sums groups of `rows` pixels from pixel i on and returns the first one left."""
    block, line = simd.Tile(rows, vectors, lanes), simd.Tile(1, vectors, lanes)
    width = vectors * lanes

    def group(  # type: ignore[no-untyped-def]
        i, pixels, sums, data, spots, offsets, weights, ahead, count, bias, fresh, floor
    ):
        while i + rows <= pixels:
            out = simd.at(sums, i * width)
            places = simd.offsets(block, spots, i)
            total = simd.load_rows(block, bias, 0, 0) if fresh else simd.load(block, out, 0)
            # The first groups ask for the next block's weights, a line for each tap.
            asked = i // rows * count * LINE
            asked = ahead + asked if asked < count * width else 0
            for k in range(count):
                if first:
                    simd.prefetch(line, weights, asked + k * LINE, 0)
                maps = simd.load(line, weights, k * width)
                total = simd.outer_fma(total, data, offsets[k], places, maps)
            simd.store(out, 0, simd.clamp_min(total, floor))
            i += rows
        return i

    return Helper(group)


def turn(lanes: int, more: bool) -> Helper:
    """A square of `lanes` pixels by as many maps, turned.

    turn(out, to, apart, sums, at, width, residual, values): more adds what stands at the same place
    of `residual`, and what is then less than values[epilogue.OFFSET] becomes that.
    """
    square = simd.Tile(lanes, 1, lanes)

    def turned(out, to, apart, sums, at, width, residual, values):  # type: ignore[no-untyped-def]
        maps = simd.transpose(simd.load_rows(square, sums, at, width))
        if more:
            maps = maps + simd.load_rows(square, residual, to, apart)
            maps = simd.clamp_min(maps, values[epilogue.OFFSET])
        simd.store_rows(out, to, apart, maps)

    return Helper(turned)
