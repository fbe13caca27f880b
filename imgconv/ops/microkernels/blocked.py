"""Planes turned so that a vector holds one pixel of as many channels, and sums over them.

Where every channel has a kernel of its own, a map of 7×7 fills half a vector of pixels, but 16
channels fill one of AVX-512 at any size. Turning costs a few instructions per vector, a kernel of
7×7 forty-nine; and one multiply-add needs one aligned load, that of its pixels, for weights stay in
a register for `columns` outputs.
"""

from imgconv.jit import simd
from imgconv.jit.loop import Helper


def turn_in(lanes: int) -> Helper:
    """A helper: to[i·lanes + c] = source[c·apart + i] for i < count and every lane c."""
    square = simd.Tile(lanes, 1, lanes)

    def body(to, source, apart, count):  # type: ignore[no-untyped-def]
        for first in range((count + lanes - 1) // lanes if count >= lanes else 0):
            i = min(first * lanes, count - lanes)
            simd.store(to, i * lanes, simd.transpose(simd.load_rows(square, source, i, apart)))
        for i in range(count if count < lanes else 0):
            for c in range(lanes):
                to[i * lanes + c] = source[c * apart + i]

    return Helper(body)


def turn_out(lanes: int) -> Helper:
    """A helper: out[c·apart + i] = source[i·lanes + c] for i < count and every lane c."""
    square = simd.Tile(lanes, 1, lanes)

    def body(out, apart, source, count):  # type: ignore[no-untyped-def]
        for first in range((count + lanes - 1) // lanes if count >= lanes else 0):
            i = min(first * lanes, count - lanes)
            simd.store_rows(out, i, apart, simd.transpose(simd.load(square, source, i * lanes)))
        for i in range(count if count < lanes else 0):
            for c in range(lanes):
                out[c * apart + i] = source[i * lanes + c]

    return Helper(body)


def spread(lanes: int) -> Helper:
    """A helper: pixel i of `to` is pixel columns[i] of `source`, or zeros where that is below 0."""
    pixel = simd.Vec(lanes)

    def body(to, source, columns, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            if columns[i] >= 0:
                simd.store(to, i * lanes, simd.load(pixel, source, columns[i] * lanes))
            else:
                simd.store(to, i * lanes, simd.zeros(pixel))

    return Helper(body)


def window(lanes: int, columns: int, step: int) -> Helper:
    """A helper that sums `columns` outputs of one row over all taps, (ky, kx) onto the bias.

    window(sums, beyond, pixels, pitch, rows, down, weights, tall, wide, across, bias, floor):
    rows[ky·down] is the row of `pixels` that tap ky sees, below 0 for one of zeros; outputs are
    `step` pixels apart and taps `across`. The step is known when this compiles: as a variable it
    would take a pointer for every output, more than there are registers.
    """
    block, apart = simd.Tile(columns, 1, lanes), step * lanes

    def body(  # type: ignore[no-untyped-def]
        sums, beyond, pixels, pitch, rows, down, weights, tall, wide, across, bias, floor
    ):
        total = simd.load_rows(block, bias, 0, 0)
        for ky in range(tall):
            row = rows[ky * down]
            if row >= 0:
                line = simd.at(pixels, row * pitch * lanes)
                taps = simd.at(weights, ky * wide * lanes)
                for kx in range(wide):
                    seen = simd.load_rows(block, line, kx * across * lanes, apart)
                    total = simd.fma(seen, simd.load_rows(block, taps, kx * lanes, 0), total)
        simd.store(sums, 0, simd.clamp_min(total, floor))

    return Helper(body)


def window_pair(lanes: int, columns: int, step: int) -> Helper:
    """As `window` of two rows, the second's sums at `beyond`: a loaded pixel meets two weights.

    Row j of the pixels meets the kernel's row j for the first and j − 1 for the second; the bits
    are those of `window`. Without it the loads, one per multiply-add, would be what takes time.
    """
    block, apart = simd.Tile(columns, 1, lanes), step * lanes

    def add(total, pixels, row, pitch, weights, ky, wide, across):  # type: ignore[no-untyped-def]
        line = simd.at(pixels, row * pitch * lanes)
        for kx in range(wide):
            seen = simd.load_rows(block, line, kx * across * lanes, apart)
            weight = simd.load_rows(block, weights, (ky * wide + kx) * lanes, 0)
            total = simd.fma(seen, weight, total)
        return total

    add_row = Helper(add)

    def body(  # type: ignore[no-untyped-def]
        sums, beyond, pixels, pitch, rows, down, weights, tall, wide, across, bias, floor
    ):
        first = simd.load_rows(block, bias, 0, 0)
        second = first
        if rows[0] >= 0:
            first = add_row(first, pixels, rows[0], pitch, weights, 0, wide, across)
        for j in range(1, tall):
            if rows[j] >= 0:
                line = simd.at(pixels, rows[j] * pitch * lanes)
                above = simd.at(weights, (j - 1) * wide * lanes)
                for kx in range(wide):
                    seen = simd.load_rows(block, line, kx * across * lanes, apart)
                    weight = simd.load_rows(block, above, (wide + kx) * lanes, 0)
                    first = simd.fma(seen, weight, first)
                    second = simd.fma(seen, simd.load_rows(block, above, kx * lanes, 0), second)
        if rows[tall] >= 0:
            second = add_row(second, pixels, rows[tall], pitch, weights, tall - 1, wide, across)
        simd.store(sums, 0, simd.clamp_min(first, floor))
        simd.store(beyond, 0, simd.clamp_min(second, floor))

    return Helper(body)


def floats(lanes: int, pixels: int) -> int:
    """Room for so many pixels of all lanes, in whole cache lines."""
    return int(-(-pixels * lanes // 16) * 16)
