"""Dot products of rows of weights with the items of a batch, in registers."""

from imgconv.jit import simd
from imgconv.jit.loop import Built, Helper, Part, loop

# Items that meet so many rows of weights at once; the last rows are few.
ITEMS = {4: (3, 2, 1), 1: (1,)}


def dots(lanes: int) -> Part:
    """Dot products, compiled once for all loops that call them: see `dot_products`."""
    return dot_products.part(lanes)


@loop
def dot_products(lanes: int) -> Built:
    """out[n·out_item + r] += Σₖ weights[r·span + k] · x[n·item + k]

    for r < rows, n < items and k < count. fresh ≠ 0 starts with bias[r]. A dot product has
    one vector of partial sums, its last count % lanes terms added after them one by one, so its
    bits depend neither on the rows nor on the items beside it.
    """
    blocks = _rows(lanes, tuple(ITEMS))

    def body(  # type: ignore[no-untyped-def]
        out, out_item, x, item, weights, span, count, rows, items, bias, fresh
    ):
        blocks(0, rows, items, out, out_item, x, item, weights, span, count, bias, fresh)

    return "disjoint f32* i64 f32* i64 f32* i64 i64 i64 i64 f32* i64", body


def _rows(lanes: int, heights: tuple[int, ...]) -> Helper:
    """A helper that adds the dot products of rows from row r on with all items."""
    tall = heights[0]
    blocks = _items(lanes, tall, ITEMS[tall])
    lower = _rows(lanes, heights[1:]) if len(heights) > 1 else None

    def rows_from(  # type: ignore[no-untyped-def]
        r, rows, items, out, out_item, x, item, weights, span, count, bias, fresh
    ):
        while r + tall <= rows:
            blocks(
                0, items, simd.at(out, r), out_item, x, item, simd.at(weights, r * span), span,
                count, simd.at(bias, r), fresh,
            )  # fmt: skip
            r += tall
        if lower is not None:
            lower(r, rows, items, out, out_item, x, item, weights, span, count, bias, fresh)

    return Helper(rows_from)


def _items(lanes: int, tall: int, widths: tuple[int, ...]) -> Helper:
    """A helper that adds the dot products of `tall` rows with items from item n on."""
    wide = widths[0]
    block = _block(lanes, tall, wide)
    fewer = _items(lanes, tall, widths[1:]) if len(widths) > 1 else None

    def items_from(  # type: ignore[no-untyped-def]
        n, items, out, out_item, x, item, weights, span, count, bias, fresh
    ):
        while n + wide <= items:
            block(
                simd.at(out, n * out_item), out_item, simd.at(x, n * item), item, weights, span,
                count, bias, fresh,
            )  # fmt: skip
            n += wide
        if fewer is not None:
            fewer(n, items, out, out_item, x, item, weights, span, count, bias, fresh)

    return Helper(items_from)


def _block(lanes: int, tall: int, wide: int) -> Helper:
    """A helper that adds the dot products of `tall` rows with `wide` items."""
    block, rows, items = (simd.Tile(*size, lanes) for size in ((wide, tall), (tall, 1), (wide, 1)))
    sums, row_ends, item_ends = (
        simd.Tile(*size, 1) for size in ((wide, tall), (tall, 1), (wide, 1))
    )

    def add(out, out_item, x, item, weights, span, count, bias, fresh):  # type: ignore[no-untyped-def]
        parts = simd.zeros(block)
        many = count & -lanes
        for k in range(0, many, lanes):
            parts = simd.outer(
                parts, simd.load_rows(items, x, k, item), simd.load_rows(rows, weights, k, span)
            )
        total = simd.sum(parts)
        for k in range(many, count):
            total = simd.outer(
                total, simd.load_rows(item_ends, x, k, item),
                simd.load_rows(row_ends, weights, k, span),
            )  # fmt: skip
        if fresh:
            before = simd.load_rows(sums, bias, 0, 0)
        else:
            before = simd.load_rows(sums, out, 0, out_item)
        simd.store_rows(out, 0, out_item, total + before)

    return Helper(add)
