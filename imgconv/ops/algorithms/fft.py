"""A fast Fourier transform of compiled code, down the columns of a panel of LANES columns.

A panel holds n rows of LANES numbers, real and imaginary parts apart, and lies in the first-level
cache; every step works on whole rows, so it is vectors throughout without a shuffle. The forward
transform decimates in frequency (Gentleman & Sande, "Fast Fourier transforms: for fun and
profit", AFIPS 1966) by radix 4 and leaves the frequencies in digit-reversed order; the inverse
takes them in that order, so a convolution needs no reordering.
"""

import functools

import numpy as np
import numpy.typing as npt

from imgconv.jit import loop as jit
from imgconv.jit.loop import Helper
from imgconv.jit.vectors import Index, Pointer, Traced, Vector

LANES = 16


def radices(n: int) -> list[int]:
    """The steps of a transform of length n, a power of two of at least 16: 4, …, 4, then 4 or 8."""
    steps = []
    while n > 8:
        steps.append(4)
        n //= 4
    return [*steps, n]


def order(n: int) -> npt.NDArray[np.int64]:
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


class _Number:
    """A complex vector while a step is traced."""

    def __init__(self, real: Vector, imaginary: Vector) -> None:
        self.real, self.imaginary = real, imaginary

    def __add__(self, other: "_Number") -> "_Number":
        return _Number(self.real + other.real, self.imaginary + other.imaginary)

    def __sub__(self, other: "_Number") -> "_Number":
        return _Number(self.real - other.real, self.imaginary - other.imaginary)

    def plus_turned(self, other: "_Number", forward: bool) -> "_Number":
        """self − i·other, or self + i·other for the inverse."""
        if forward:
            return _Number(self.real + other.imaginary, self.imaginary - other.real)
        return _Number(self.real - other.imaginary, self.imaginary + other.real)

    def times(self, cosine: Vector, sine: Vector, forward: bool) -> "_Number":
        """The product with a twiddle factor, or with its conjugate for the inverse."""
        a, b = self.real, self.imaginary
        if forward:
            return _Number(a * cosine - b * sine, a * sine + b * cosine)
        return _Number(a * cosine + b * sine, b * cosine - a * sine)


def _read(re: Pointer, im: Pointer, places: list[Index]) -> list[_Number]:
    return [_Number(re.get(place), im.get(place)) for place in places]


def _write(re: Pointer, im: Pointer, places: list[Index], values: list[_Number]) -> None:
    for place, value in zip(places, values, strict=True):
        re.put(place, value.real)
        im.put(place, value.imaginary)


def _four(values: list[_Number], forward: bool) -> list[_Number]:
    """A transform of four numbers."""
    a, b, c, d = values
    s, t, u, v = a + c, a - c, b + d, b - d
    return [s + u, t.plus_turned(v, forward), s - u, t.plus_turned(v, not forward)]


def _quarter(forward: bool) -> Traced:
    def step(re: Pointer, im: Pointer, table: Pointer, t: Index, i: Index, apart: Index) -> None:
        """One butterfly over rows `apart` elements apart, with the factors from table[t]."""
        factors = [table.one(t + k) for k in range(6)]
        for lane in range(0, LANES, re.lanes):
            places = [i + lane, i + lane + apart, i + lane + 2 * apart, i + lane + 3 * apart]
            values = _read(re, im, places)
            if forward:
                values = _four(values, forward)
            values = [values[0]] + [
                values[k].times(factors[2 * k - 2], factors[2 * k - 1], forward) for k in (1, 2, 3)
            ]
            if not forward:
                values = _four(values, forward)
            _write(re, im, places, values)

    return Traced(step)


def _last(radix: int, forward: bool) -> Traced:
    def step(re: Pointer, im: Pointer, i: Index) -> None:
        """The transform of four or eight rows, which needs no factors from the table."""
        for lane in range(0, LANES, re.lanes):
            places = [i + (row * LANES + lane) for row in range(radix)]
            values = _read(re, im, places)
            if radix == 4:
                _write(re, im, places, _four(values, forward))
                continue
            even = _four([values[k] + values[k + 4] for k in range(4)], forward)
            root = re.constant(float(np.sqrt(0.5)))
            nothing = _Number(re.constant(0.0), re.constant(0.0))
            a, b, c, d = (values[k] - values[k + 4] for k in range(4))
            b = b.plus_turned(b, forward)
            d = nothing - d.plus_turned(d, not forward)
            b, d = (_Number(x.real * root, x.imaginary * root) for x in (b, d))
            odd = _four([a, b, nothing.plus_turned(c, forward), d], forward)
            pairs = zip(even, odd, strict=True)
            _write(re, im, places, [value for pair in pairs for value in pair])

    return Traced(step)


@functools.cache
def columns(forward: bool) -> Helper:
    """A helper (re, im, table, n) transforming a panel of n rows in place.

    Forward: natural to digit-reversed rows. Inverse: back again, n times too large.
    """
    quarter, four, eight = _quarter(forward), _last(4, forward), _last(8, forward)

    def last(re, im, n):  # type: ignore[no-untyped-def]
        length = n
        while length > 8:
            length //= 4
        for block in range(n // length):
            if length == 4:
                four(re, im, block * 4 * LANES)
            else:
                eight(re, im, block * 8 * LANES)

    def step(re, im, table, n, length, at):  # type: ignore[no-untyped-def]
        apart = length // 4
        for j in range(apart):
            for block in range(n // length):
                quarter(
                    re, im, table, at + 6 * j, (block * length + j) * LANES, apart * LANES
                )  # fmt: skip

    last_step, quarters = Helper(last), Helper(step)

    def ahead(re, im, table, n):  # type: ignore[no-untyped-def]
        length, at = n, 0
        while length > 8:
            quarters(re, im, table, n, length, at)
            at += 6 * (length // 4)
            length //= 4
        last_step(re, im, n)

    def back(re, im, table, n):  # type: ignore[no-untyped-def]
        last_step(re, im, n)
        # The factors of a step over blocks of L rows follow those of all longer ones.
        length, at = n, 0
        while length > 8:
            at += 6 * (length // 4)
            length //= 4
        while length < n:
            length *= 4
            at -= 6 * (length // 4)
            quarters(re, im, table, n, length, at)

    return Helper(ahead if forward else back)
