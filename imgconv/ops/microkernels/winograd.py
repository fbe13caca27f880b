"""Winograd's transforms F(4×4, 3×3), of as many tiles or kernels at once as a vector has lanes.

A tile's outputs are Aᵀ((G g Gᵀ) ⊙ (Bᵀ d B))A for its 6×6 pixels d and the 3×3 kernel g. Polynomials
are multiplied at 0, ±5/8, ±3/2 and infinity: errors are half of those at 0, ±1 and ±2, since no
power of a point is far from 1 (S. A. Alam et al., "Winograd Convolution for Deep Neural Networks:
Efficient Point Selection", ACM TECS 21(6), 2022), and every number but the kernels' is exact.

A matrix is transformed column by column, then row by row; between the two it is in registers where
it fits, and in the L1.
"""

import functools

import numpy as np

from imgconv.jit import simd
from imgconv.jit.loop import Helper

SIDE = 4  # outputs of a tile, and pixels from one to the next
SEEN = 6  # pixels of a tile
PLACES = SEEN * SEEN
TAPS = 9
SPARE = 16  # numbers after a block of kernels that its transform may read

_near, _far = 5 / 8, 3 / 2
_NEAR, _NEAR2, _NEAR3, _FAR, _FAR2, _FAR3, _BOTH2, _SUM2 = (
    np.float32(value)
    for value in (_near, _near**2, _near**3, _far, _far**2, _far**3, (_near * _far) ** 2,
                  _near**2 + _far**2)
)  # fmt: skip
_G_NONE, _G_NEAR, _G_NEAR1, _G_FAR, _G_FAR1 = (
    np.float32(value)
    for value in (1 / (_near * _far) ** 2, 1 / (2 * _near**2 * (_near**2 - _far**2)),
                  1 / (2 * _near * (_near**2 - _far**2)), 1 / (2 * _far**2 * (_far**2 - _near**2)),
                  1 / (2 * _far * (_far**2 - _near**2)))
)  # fmt: skip
_MAGNITUDE = np.int32(0x7FFFFFFF)  # the bits of a float32 but its sign
_ROW0, _ROW1, _ROW2, _ROW3, _ROW4, _ROW5 = (simd.Places(row, 1) for row in range(6))


def _stacked(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    return simd.stack(simd.stack(simd.stack(a, b), simd.stack(c, d)), simd.stack(e, f))


stacked = Helper(_stacked)


def _spread(count):  # type: ignore[no-untyped-def]
    """The distance of two places of `count` numbers: an odd number of cache lines.

    A transform writes or reads all places at once, which a power of two would put into one set.
    """
    return ((count + 15) // 16 | 1) * 16


spread = Helper(_spread)


def _inputs(kind: simd.Tile) -> Helper:
    """Bᵀ of six numbers, each a tile of registers."""

    def transform(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
        near, near2 = simd.splat(kind, _NEAR), simd.splat(kind, _NEAR2)
        far, far2 = simd.splat(kind, _FAR), simd.splat(kind, _FAR2)
        both2, sum2 = simd.splat(kind, _BOTH2), simd.splat(kind, _SUM2)
        p, q = e - far2 * c, near * (d - far2 * b)
        r, s = e - near2 * c, far * (d - near2 * b)
        return stacked(
            both2 * a - sum2 * c + e, p + q, p - q, r + s, r - s, both2 * b - sum2 * d + f
        )

    return Helper(transform)


def _kernels(kind: simd.Tile) -> Helper:
    """G of three numbers."""

    def transform(a, b, c):  # type: ignore[no-untyped-def]
        near2, far2 = simd.splat(kind, _NEAR2), simd.splat(kind, _FAR2)
        p, r = simd.splat(kind, _G_NEAR) * (a + near2 * c), simd.splat(kind, _G_NEAR1) * b
        s, t = simd.splat(kind, _G_FAR) * (a + far2 * c), simd.splat(kind, _G_FAR1) * b
        return stacked(simd.splat(kind, _G_NONE) * a, p + r, p - r, s + t, s - t, c)

    return Helper(transform)


def _outputs(kind: simd.Tile) -> Helper:
    """Aᵀ of six numbers, the rows of a tile."""

    def transform(six):  # type: ignore[no-untyped-def]
        b, c = simd.rows(six, _ROW1), simd.rows(six, _ROW2)
        d, e = simd.rows(six, _ROW3), simd.rows(six, _ROW4)
        p, q, r, s = b + c, b - c, d + e, d - e
        first = simd.rows(six, _ROW0) + p + r
        second = simd.splat(kind, _NEAR) * q + simd.splat(kind, _FAR) * s
        third = simd.splat(kind, _NEAR2) * p + simd.splat(kind, _FAR2) * r
        last = simd.splat(kind, _NEAR3) * q + simd.splat(kind, _FAR3) * s
        last = last + simd.rows(six, _ROW5)
        return simd.stack(simd.stack(first, second), simd.stack(third, last))

    return Helper(transform)


def _taps(lanes: int, first: int = 0) -> Helper:
    """A helper that reads `lanes` kernels of nine weights as vectors of the taps first…8."""
    square = simd.Tile(lanes, 1, lanes)
    begin = min(first, max(TAPS - lanes, 0))
    places = simd.Places(first - begin, min(TAPS - first, lanes))

    def read(weights, at):  # type: ignore[no-untyped-def]
        return simd.rows(simd.transpose(simd.load_rows(square, weights, at + begin, TAPS)), places)

    if first + lanes >= TAPS:
        return Helper(read)
    these, others = Helper(read), _taps(lanes, first + lanes)
    return Helper(lambda weights, at: simd.stack(these(weights, at), others(weights, at)))


@functools.cache
def transform_kernels(lanes: int) -> Helper:
    """A helper (target, weights, end, maps, channels, room): target[t][m][c] of maps × channels.

    Places t are `spread` apart. weights: (maps, channels, 3, 3), of which `end` numbers may be
    read. channels: at least `lanes`. room: for a block of kernels and SPARE numbers.
    """
    taps = _taps(lanes)
    down, across = _kernels(simd.Vec(lanes)), _kernels(simd.Tile(SEEN, 1, lanes))
    line = simd.Vec(lanes)
    tap = [simd.Places(number, 1) for number in range(TAPS)]
    tap0, tap1, tap2, tap3, tap4, tap5, tap6, tap7, tap8 = tap
    t0, t1, t2, t3, t4, t5 = (simd.Places(SEEN * j, SEEN) for j in range(SEEN))

    def transform(target, weights, end, maps, channels, room):  # type: ignore[no-untyped-def]
        step = spread(maps * channels)
        for m in range(maps):
            for block in range((channels + lanes - 1) // lanes):
                # The last block has kernels of the one before, rather than fewer.
                c = min(block * lanes, channels - lanes)
                place = (m * channels + c) * TAPS
                kernels = simd.at(weights, place)
                if place + TAPS * lanes + SPARE > end:
                    for v in range(TAPS):
                        simd.store(room, v * lanes, simd.load(line, kernels, v * lanes))
                    kernels = room
                nine = taps(kernels, 0)
                left = down(simd.rows(nine, tap0), simd.rows(nine, tap3), simd.rows(nine, tap6))
                mid = down(simd.rows(nine, tap1), simd.rows(nine, tap4), simd.rows(nine, tap7))
                right = down(simd.rows(nine, tap2), simd.rows(nine, tap5), simd.rows(nine, tap8))
                both = across(left, mid, right)
                out = simd.at(target, m * channels + c)
                simd.store_rows(out, 0, SEEN * step, simd.rows(both, t0))
                simd.store_rows(out, step, SEEN * step, simd.rows(both, t1))
                simd.store_rows(out, 2 * step, SEEN * step, simd.rows(both, t2))
                simd.store_rows(out, 3 * step, SEEN * step, simd.rows(both, t3))
                simd.store_rows(out, 4 * step, SEEN * step, simd.rows(both, t4))
                simd.store_rows(out, 5 * step, SEEN * step, simd.rows(both, t5))

    return Helper(transform)


def _note(lanes: int) -> Helper:
    """A helper that makes marks[at…] the bits of the larger magnitudes, theirs or a vector's.

    Bits of magnitudes are in the order of numbers; NaN comes after infinity.
    """
    kind = simd.Vec(lanes, "i32")

    def note(marks, at, pixels):  # type: ignore[no-untyped-def]
        bits = simd.reinterpret(kind, pixels) & simd.splat(kind, _MAGNITUDE)
        simd.store(marks, at, simd.max(bits, simd.load(kind, marks, at)))

    return Helper(note)


def _reader(lanes: int) -> Helper:
    """A helper (row, at, mask, around, whole) that reads pixels where the mask holds, or `around`.

    whole: whether it holds everywhere; without AVX a masked load takes one number after the other.
    """
    line = simd.Vec(lanes)

    def read(row, at, mask, around, whole):  # type: ignore[no-untyped-def]
        if whole:
            return simd.load(line, row, at)
        return simd.load_masked(line, row, at, mask, around)

    return Helper(read)


@functools.cache
def transform_columns(lanes: int) -> Helper:
    """A helper (columns, pitch, six, near, inside, fill, marks, last): Bᵀ of a row of tiles.

    six: pointers to the pixels of six padded rows, which have `near` columns of `fill`, `inside`
    pixels and `fill` again. columns: six rows `pitch` apart. marks: note the magnitudes of the
    first four rows, which no other row of tiles has as its first four, of all six where `last`.
    """
    line = simd.Vec(lanes)
    transform, note, read = _inputs(line), _note(lanes), _reader(lanes)

    def run(columns, pitch, seen, six, near, inside, fill, marks, last):  # type: ignore[no-untyped-def]
        around = simd.splat(line, fill)
        for x in range(0, seen, lanes):
            mask = simd.between(line, near - x, near + inside - x)
            at = x - near
            whole = at >= 0 and at + lanes <= inside
            a = read(six[0], at, mask, around, whole)
            b = read(six[1], at, mask, around, whole)
            c = read(six[2], at, mask, around, whole)
            d = read(six[3], at, mask, around, whole)
            e = read(six[4], at, mask, around, whole)
            f = read(six[5], at, mask, around, whole)
            note(marks, x, a)
            note(marks, pitch + x, b)
            note(marks, 2 * pitch + x, c)
            note(marks, 3 * pitch + x, d)
            if last:
                note(marks, 4 * pitch + x, e)
                note(marks, 5 * pitch + x, f)
            simd.store_rows(columns, x, pitch, transform(a, b, c, d, e, f))

    return Helper(run)


@functools.cache
def transform_rows(lanes: int) -> Helper:
    """A helper (target, step, columns, pitch, tiles): (…)B of a row of tiles.

    columns: as `transform_columns` leaves them. target: place t of tile x is t · step + x; whole
    vectors are written.
    """
    line = simd.Vec(lanes)
    transform = _inputs(line)
    even, odd = (simd.Places(*range(start, 2 * lanes, 2)) for start in (0, 1))
    fifth, sixth = (simd.Places(*range(1, lanes), lanes + n) for n in (0, 1))

    def run(target, step, columns, pitch, tiles):  # type: ignore[no-untyped-def]
        for i in range(SEEN):
            row = simd.at(columns, i * pitch)
            for x in range(0, tiles, lanes):
                # Every fourth pixel: every second of every second.
                p, q = simd.load(line, row, SIDE * x), simd.load(line, row, SIDE * x + lanes)
                r = simd.load(line, row, SIDE * x + 2 * lanes)
                s = simd.load(line, row, SIDE * x + 3 * lanes)
                evens, others = simd.shuffle(p, q, even), simd.shuffle(r, s, even)
                a, c = simd.shuffle(evens, others, even), simd.shuffle(evens, others, odd)
                odds, rest = simd.shuffle(p, q, odd), simd.shuffle(r, s, odd)
                b, d = simd.shuffle(odds, rest, even), simd.shuffle(odds, rest, odd)
                # The last two pixels of a tile are the next one's first.
                after = simd.load(line, row, SIDE * (x + lanes))
                e, f = simd.shuffle(a, after, fifth), simd.shuffle(b, after, sixth)
                six = transform(a, b, c, d, e, f)
                simd.store_rows(target, SEEN * i * step + x, step, six)

    return Helper(run)


@functools.cache
def transform_sums(lanes: int) -> Helper:
    """A helper (lines, apart, sums, step, room, bias, floor): four lines of outputs.

    sums: place t of a vector of tiles begins at t · step. lines: `apart` from each other. room: for
    a tile of registers.
    """
    line, six, four = simd.Vec(lanes), simd.Tile(SEEN, 1, lanes), simd.Tile(SIDE, 1, lanes)
    transform = _outputs(line)
    half = lanes // 2
    low, high = (
        simd.Places(*(lane for n in range(start, start + half) for lane in (n, lanes + n)))
        for start in (0, half)
    )

    def run(lines, apart, sums, step, room, bias, floor):  # type: ignore[no-untyped-def]
        for j in range(SEEN):
            column = transform(simd.load_rows(six, sums, j * step, SEEN * step))
            simd.store_rows(room, j * lanes, SEEN * lanes, column)
        for r in range(SIDE):
            row = transform(simd.load(six, room, r * SEEN * lanes)) + simd.splat(four, bias)
            row = simd.clamp_min(row, floor)
            a, b = simd.rows(row, _ROW0), simd.rows(row, _ROW1)
            c, d = simd.rows(row, _ROW2), simd.rows(row, _ROW3)
            # A tile's four outputs side by side: every second of two times every second.
            p, q = simd.shuffle(a, c, low), simd.shuffle(b, d, low)
            simd.store(lines, r * apart, simd.shuffle(p, q, low))
            simd.store(lines, r * apart + lanes, simd.shuffle(p, q, high))
            p, q = simd.shuffle(a, c, high), simd.shuffle(b, d, high)
            simd.store(lines, r * apart + 2 * lanes, simd.shuffle(p, q, low))
            simd.store(lines, r * apart + 3 * lanes, simd.shuffle(p, q, high))

    return Helper(run)
