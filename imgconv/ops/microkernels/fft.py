"""A fast Fourier transform down the columns of a panel of LANES columns.

A panel holds n rows of LANES complex numbers, the real parts of a row before its imaginary parts,
and lies in the first-level cache; every step works on whole rows, so it is vectors throughout
without a shuffle. The forward transform decimates in frequency (Gentleman & Sande, "Fast Fourier
transforms: for fun and profit", AFIPS 1966) by radix 4 and leaves the frequencies in
digit-reversed order; the inverse takes them in that order, so a convolution needs no reordering.
"""

import functools

import numpy as np
import numpy.typing as npt

from imgconv.jit import loop as jit
from imgconv.jit import simd
from imgconv.jit.loop import Helper
from imgconv.ops.microkernels import sums
from imgconv.typing import Int64

LANES = 16
ROW = 2 * LANES  # elements of a panel's row


def radices(n: int) -> list[int]:
    """The steps of a transform of length n, a power of two of at least 16: 4, …, 4, then 4 or 8."""
    steps = []
    while n > 8:
        steps.append(4)
        n //= 4
    return [*steps, n]


def order(n: int) -> Int64:
    """The frequency that stands in each row after a forward transform."""
    found = np.zeros(1, np.int64)
    for radix in reversed(radices(n)):
        # Block k of a step over radix blocks holds the frequencies that are k modulo the radix.
        found = np.concatenate([k + radix * found for k in range(radix)])
    return found


def twiddles(n: int, real: str) -> npt.NDArray[np.floating]:
    """exp(−2πi·j·m/L) for m = 1, 2, 3 of every step's j, as (cosine, sine) pairs."""
    factors = [np.zeros(0)]
    length = n
    for _ in radices(n)[:-1]:
        j, m = np.meshgrid(np.arange(length // 4), (1, 2, 3), indexing="ij")
        factors.append(np.exp(-2j * np.pi * j * m / length).ravel())
        length //= 4
    table = np.concatenate(factors)
    return np.stack([table.real, table.imag], 1).ravel().astype(jit.DTYPES[real])


def complex_vector(real: str) -> simd.Tile:
    """The type of a vector of complex numbers: a row of real parts, a row of imaginary ones."""
    return simd.Tile(2, 1, min(LANES, sums.lanes(real)), real)


RE, IM = simd.Places(0, 1), simd.Places(1, 1)  # the first and the second row


def _i_times(x):  # type: ignore[no-untyped-def]
    return simd.stack(-simd.rows(x, IM), simd.rows(x, RE))


def _minus_i_times(x):  # type: ignore[no-untyped-def]
    return simd.stack(simd.rows(x, IM), -simd.rows(x, RE))


def times(x, cosine, sine):  # type: ignore[no-untyped-def]
    """The product of complex vectors x and cosine + i·sine."""
    a, b = simd.rows(x, RE), simd.rows(x, IM)
    return simd.stack(a * cosine - b * sine, a * sine + b * cosine)


def _times_conjugate(x, cosine, sine):  # type: ignore[no-untyped-def]
    a, b = simd.rows(x, RE), simd.rows(x, IM)
    return simd.stack(a * cosine + b * sine, b * cosine - a * sine)


@functools.cache
def _four(forward: bool) -> Helper:
    """The transform of four numbers: Σ (∓i)^(j·k) · x[j] for k = 0, 1, 2, 3."""
    turned = Helper(_minus_i_times if forward else _i_times)

    def four(a, b, c, d):  # type: ignore[no-untyped-def]
        s, t, u, v = a + c, a - c, b + d, b - d
        v = turned(v)
        return s + u, t + v, s - u, t - v

    return Helper(four)


def _quarter(real: str, forward: bool) -> Helper:
    """One butterfly over four rows `apart` elements apart, with the factors of table[t…]."""
    vector = complex_vector(real)
    line, lanes = simd.Vec(vector.lanes, real), vector.lanes
    four, product = _four(forward), Helper(times if forward else _times_conjugate)

    def load(panel, at, apart):  # type: ignore[no-untyped-def]
        return (
            simd.load_rows(vector, panel, at, LANES),
            simd.load_rows(vector, panel, at + apart, LANES),
            simd.load_rows(vector, panel, at + 2 * apart, LANES),
            simd.load_rows(vector, panel, at + 3 * apart, LANES),
        )

    def rotate(b, c, d, table, t):  # type: ignore[no-untyped-def]
        return (
            product(b, simd.splat(line, table[t]), simd.splat(line, table[t + 1])),
            product(c, simd.splat(line, table[t + 2]), simd.splat(line, table[t + 3])),
            product(d, simd.splat(line, table[t + 4]), simd.splat(line, table[t + 5])),
        )

    def store(panel, at, apart, a, b, c, d):  # type: ignore[no-untyped-def]
        simd.store_rows(panel, at, LANES, a)
        simd.store_rows(panel, at + apart, LANES, b)
        simd.store_rows(panel, at + 2 * apart, LANES, c)
        simd.store_rows(panel, at + 3 * apart, LANES, d)

    loaded, rotated, stored = Helper(load), Helper(rotate), Helper(store)

    def ahead(panel, table, t, row, apart):  # type: ignore[no-untyped-def]
        for at in range(row, row + LANES, lanes):
            a, b, c, d = loaded(panel, at, apart)
            a, b, c, d = four(a, b, c, d)
            b, c, d = rotated(b, c, d, table, t)
            stored(panel, at, apart, a, b, c, d)

    def back(panel, table, t, row, apart):  # type: ignore[no-untyped-def]
        for at in range(row, row + LANES, lanes):
            a, b, c, d = loaded(panel, at, apart)
            b, c, d = rotated(b, c, d, table, t)
            a, b, c, d = four(a, b, c, d)
            stored(panel, at, apart, a, b, c, d)

    return Helper(ahead if forward else back)


def _last_four(real: str, forward: bool) -> Helper:
    """The transform of four rows that follow each other."""
    vector = complex_vector(real)
    lanes, four = vector.lanes, _four(forward)

    def last(panel, row):  # type: ignore[no-untyped-def]
        for at in range(row, row + LANES, lanes):
            a = simd.load_rows(vector, panel, at, LANES)
            b = simd.load_rows(vector, panel, at + ROW, LANES)
            c = simd.load_rows(vector, panel, at + 2 * ROW, LANES)
            d = simd.load_rows(vector, panel, at + 3 * ROW, LANES)
            a, b, c, d = four(a, b, c, d)
            simd.store_rows(panel, at, LANES, a)
            simd.store_rows(panel, at + ROW, LANES, b)
            simd.store_rows(panel, at + 2 * ROW, LANES, c)
            simd.store_rows(panel, at + 3 * ROW, LANES, d)

    return Helper(last)


def _last_eight(real: str, forward: bool) -> Helper:
    """The transform of eight rows that follow each other: of the even and of the odd frequencies.

    The odd ones are turned by the powers of exp(∓πi/4) first: (1 ∓ i)·√½, ∓i, −(1 ± i)·√½.
    """
    vector = complex_vector(real)
    lanes, four = vector.lanes, _four(forward)
    turned = Helper(_minus_i_times if forward else _i_times)
    half = jit.DTYPES[real].type(np.sqrt(0.5))

    def both(panel, at):  # type: ignore[no-untyped-def]
        """The sum and the difference of a row and the fourth after it."""
        a = simd.load_rows(vector, panel, at, LANES)
        b = simd.load_rows(vector, panel, at + 4 * ROW, LANES)
        return a + b, a - b

    sums_of = Helper(both)

    def last(panel, row):  # type: ignore[no-untyped-def]
        zero, root = simd.zeros(vector), simd.splat(vector, half)
        for at in range(row, row + LANES, lanes):
            p, a = sums_of(panel, at)
            q, b = sums_of(panel, at + ROW)
            r, c = sums_of(panel, at + 2 * ROW)
            s, d = sums_of(panel, at + 3 * ROW)
            p, q, r, s = four(p, q, r, s)
            b = (b + turned(b)) * root
            c = zero + turned(c)
            d = (zero - (d - turned(d))) * root
            a, b, c, d = four(a, b, c, d)
            simd.store_rows(panel, at, LANES, p)
            simd.store_rows(panel, at + ROW, LANES, a)
            simd.store_rows(panel, at + 2 * ROW, LANES, q)
            simd.store_rows(panel, at + 3 * ROW, LANES, b)
            simd.store_rows(panel, at + 4 * ROW, LANES, r)
            simd.store_rows(panel, at + 5 * ROW, LANES, c)
            simd.store_rows(panel, at + 6 * ROW, LANES, s)
            simd.store_rows(panel, at + 7 * ROW, LANES, d)

    return Helper(last)


@functools.cache
def columns(real: str, forward: bool) -> Helper:
    """A helper (panel, table, n) transforming a panel of n rows in place.

    Forward: natural to digit-reversed rows. Inverse: back again, n times too large.
    """
    quarter = _quarter(real, forward)
    four, eight = _last_four(real, forward), _last_eight(real, forward)

    def last(panel, n):  # type: ignore[no-untyped-def]
        length = n
        while length > 8:
            length //= 4
        for block in range(n // length):
            if length == 4:
                four(panel, block * 4 * ROW)
            else:
                eight(panel, block * 8 * ROW)

    def step(panel, table, n, length, at):  # type: ignore[no-untyped-def]
        apart = length // 4
        for j in range(apart):
            for block in range(n // length):
                quarter(panel, table, at + 6 * j, (block * length + j) * ROW, apart * ROW)

    last_step, quarters = Helper(last), Helper(step)

    def ahead(panel, table, n):  # type: ignore[no-untyped-def]
        length, at = n, 0
        while length > 8:
            quarters(panel, table, n, length, at)
            at += 6 * (length // 4)
            length //= 4
        last_step(panel, n)

    def back(panel, table, n):  # type: ignore[no-untyped-def]
        last_step(panel, n)
        # The factors of a step over blocks of L rows follow those of all longer ones.
        length, at = n, 0
        while length > 8:
            at += 6 * (length // 4)
            length //= 4
        while length < n:
            length *= 4
            at -= 6 * (length // 4)
            quarters(panel, table, n, length, at)

    return Helper(ahead if forward else back)
