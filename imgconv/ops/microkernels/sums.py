"""Weighted sums of shifted rows: the innermost loops of convolutions with their sums in registers.

A weight meets several vectors of a row at once, since a sum waits four cycles for its last product,
and every sum is taken over all taps before it is stored. Taps are added in the order in which they
are given, each by one fused multiply-add where the CPU has it, so the bits do not depend on how
many vectors go together.
"""

import functools

from imgconv.jit import cache, simd
from imgconv.jit import loop as jit
from imgconv.jit.loop import Helper

# Stands for the offset of a row of padding: no view's own, whatever the signs of its strides.
NOWHERE = -(1 << 63)
AHEAD = 64  # elements: rows read side by side are more than the CPU foresees (41×41: a tenth)


def lanes(real: str) -> int:
    """Elements of the vectors: the CPU's, or two of those without AVX."""
    return max(cache.vectors()[0], 8) * 4 // jit.DTYPES[real].itemsize


@functools.cache
def anywhere(real: str, rows: int, vectors: int) -> Helper:
    """out[r·length + i] = Σₜ weights[t] · data[taps[t] + r·apart + i] over first ≤ t < last

    for r < rows and `vectors` vectors: a weight, once read, meets them all.
    """
    block = simd.Tile(rows, vectors, lanes(real), real)

    def add(out, length, data, apart, taps, weights, first, last):  # type: ignore[no-untyped-def]
        total = simd.zeros(block)
        for t in range(first, last):
            pixels = simd.load_rows(block, data, taps[t], apart)
            total = simd.fma(simd.splat(block, weights[t]), pixels, total)
        simd.store_rows(out, 0, length, total)

    return Helper(add)


@functools.cache
def four_rows(real: str, vectors: int) -> Helper:
    """out[r·length + i] = Σ weights[c·height + t] · data[columns[c] + (r + t)·pitch + i]

    over c < count and t < height ≥ 4, for four rows r of `vectors` vectors. A vector that is
    loaded meets the weights of all rows that see it: with one row alone, each multiplication would
    wait for a load of its own.
    """
    line = simd.Tile(1, vectors, lanes(real), real)

    def add(out, length, data, pitch, columns, count, height, weights):  # type: ignore[no-untyped-def]
        a, b, c, d = simd.zeros(line), simd.zeros(line), simd.zeros(line), simd.zeros(line)
        for column in range(count):
            taps = simd.at(weights, column * height)
            rows = simd.at(data, columns[column])
            pixels = simd.load(line, rows, 0)
            a = simd.outer_fma(a, taps, 0, 0, pixels)
            pixels = simd.load(line, rows, pitch)
            a = simd.outer_fma(a, taps, 1, 0, pixels)
            b = simd.outer_fma(b, taps, 0, 0, pixels)
            pixels = simd.load(line, rows, 2 * pitch)
            a = simd.outer_fma(a, taps, 2, 0, pixels)
            b = simd.outer_fma(b, taps, 1, 0, pixels)
            c = simd.outer_fma(c, taps, 0, 0, pixels)
            for t in range(3, height):
                pixels = simd.load(line, rows, t * pitch)
                a = simd.outer_fma(a, taps, t, 0, pixels)
                b = simd.outer_fma(b, taps, t - 1, 0, pixels)
                c = simd.outer_fma(c, taps, t - 2, 0, pixels)
                d = simd.outer_fma(d, taps, t - 3, 0, pixels)
            pixels = simd.load(line, rows, height * pitch)
            b = simd.outer_fma(b, taps, height - 1, 0, pixels)
            c = simd.outer_fma(c, taps, height - 2, 0, pixels)
            d = simd.outer_fma(d, taps, height - 3, 0, pixels)
            pixels = simd.load(line, rows, (height + 1) * pitch)
            c = simd.outer_fma(c, taps, height - 1, 0, pixels)
            d = simd.outer_fma(d, taps, height - 2, 0, pixels)
            pixels = simd.load(line, rows, (height + 2) * pitch)
            d = simd.outer_fma(d, taps, height - 1, 0, pixels)
        simd.store(out, 0, a)
        simd.store(out, length, b)
        simd.store(out, 2 * length, c)
        simd.store(out, 3 * length, d)

    return Helper(add)


@functools.cache
def turned_square(real: str) -> Helper:
    """out[i·pitch + k] = Σ weights[r·count + t] · data[r·far + t·step + k·side + i]

    over r < parts and t < count, for i and k below `side`, the lanes: rows in, columns out.
    """
    side = lanes(real)
    square = simd.Tile(side, 1, side, real)

    def add(out, pitch, data, step, count, far, parts, weights):  # type: ignore[no-untyped-def]
        total = simd.zeros(square)
        for r in range(parts):
            for t in range(count):
                weight = simd.splat(square, weights[r * count + t])
                rows = simd.load(square, data, r * far + t * step)
                total = simd.fma(weight, rows, total)
        simd.store_rows(out, 0, pitch, simd.transpose(total))

    return Helper(add)


@functools.cache
def converted_rows(real: str) -> Helper:
    """out[j·lanes + i] = source[places[j] + first + i] for j < count and all lanes i.

    `fill` where places[j] is NOWHERE.
    """
    side = lanes(real)
    line = simd.Vec(side, real)

    def convert(out, source, places, first, count, fill):  # type: ignore[no-untyped-def]
        for j in range(count):
            if places[j] == NOWHERE:
                simd.store(out, j * side, simd.splat(line, fill))
            else:
                at = places[j] + first
                simd.prefetch_near(line, source, at + AHEAD, 0)
                simd.store(out, j * side, simd.load(line, source, at))

    return Helper(convert)
