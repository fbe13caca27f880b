"""When a convolution of integers is exact, and in which type its sums must be kept for that."""

import math
from typing import NamedTuple

import numpy as np

from imgconv.errors import ValueRangeError
from imgconv.typing import Array, Dtype, Float32, Float64

# Integers up to this magnitude, and hence sums bounded by it in any order, are exact.
EXACT = {"f32": 2.0**24, "f64": 2.0**53}
SAFE = 2.0**23  # sums up to which float32 quotients round to the right integer
ROUNDED = 2.0**52  # sums up to which float64 quotients round to the right integer
TINY = 2.0**-100  # divisors at least so far from zero have an inverse
# Divisors tried for a kernel's decimals and binary fractions.
_POWERS = np.array([10.0**k for k in range(1, 8)] + [2.0**k for k in range(9, 24)])


def integer_form(weights: Float64) -> tuple[Float64, float] | None:
    """Return (integers, divisor) with weights == integers / divisor bit for bit, or None.

    The divisor is the smallest of 2 to 256, of small multiples of 1 / (least weight), and of
    powers of 2 and of 10: enough for kernels written as integers over a number or as decimals.
    """
    if not np.isfinite(weights).all():
        return None
    magnitudes = np.abs(weights[weights != 0])
    if magnitudes.size == 0 or (magnitudes == np.rint(magnitudes)).all():
        return weights, 1.0
    ends = np.array([[magnitudes.min()], [magnitudes.max()]])
    if ends[0, 0] <= 1e-7:
        return None
    tried = [np.arange(2.0, 257.0), np.rint(np.arange(1, 33) / ends[0, 0]), _POWERS]
    divisors = np.sort(np.concatenate(tried))  # np.unique imports numpy.ma: 5 ms of a start
    divisors = divisors[(divisors > 1) & (divisors < EXACT["f32"])]
    # The least and the greatest weight leave few divisors to try on all of them.
    for divisor in divisors[(np.rint(ends * divisors) / divisors == ends).all(axis=0)].tolist():
        integers = np.rint(weights * divisor)
        if (integers / divisor == weights).all():
            return integers, divisor
    return None


def rational_form(
    dtype: Dtype, weights: Array, divisor: float, fill: float = 0.0
) -> tuple[Array, float]:
    """Return (weights, divisor): integers over a divisor where the image is of integers.

    divisor: what the given weights are divided by. Where they are no integers over a number that
    float64 can work with, the weights are the quotients and the divisor is 1.
    """
    if np.issubdtype(dtype, np.integer):
        weights64 = weights.astype(np.float64, copy=False)
        if are_integers(weights64) and (divisor == 1.0 or TINY < abs(divisor) < 1 / TINY):
            return _reduced(weights64, divisor)
        form = integer_form(weights64 / divisor)
        if form is not None and bound_of(dtype, form[0], fill).max(initial=0.0) < ROUNDED:
            return form
    return (weights if divisor == 1.0 else weights / divisor), 1.0


def _reduced(weights: Float64, divisor: float) -> tuple[Array, float]:
    """Integers over a divisor without a factor common to all of them."""
    if divisor == 1.0 or divisor != np.rint(divisor) or abs(divisor) >= EXACT["f64"]:
        return weights, divisor
    common = math.gcd(int(divisor), *map(int, set(weights.ravel().tolist())))
    return weights / common, divisor / common


def largest(dtype: Dtype) -> float:
    """The largest magnitude an integer dtype holds."""
    bounds = np.iinfo(dtype)
    return float(max(-int(bounds.min), int(bounds.max)))


def are_integers(weights: Float64) -> bool:
    """Whether weights are integers that somebody can have meant: each is below 2⁵³."""
    return bool((weights == np.rint(weights)).all() and (np.abs(weights) < EXACT["f64"]).all())


def is_integer(dtype: Dtype, weights: Float64, fill: float) -> bool:
    """Whether image, weights and the value around the image are all integers."""
    return bool(
        np.issubdtype(dtype, np.integer) and are_integers(weights) and fill == np.rint(fill)
    )


def bound_of(dtype: Dtype, weights: Array, fill: float) -> Array:
    """Σ|w| · max|x| of every map: weights (…, M, C, kH, kW)."""
    most = max(largest(dtype), abs(fill))
    found: Array = np.abs(weights).sum(axis=(-3, -2, -1), dtype=np.float64) * most
    return found


class Part(NamedTuple):
    """Some of the input's channels, and a bank's weights of them: sums are exact in float32."""

    channels: slice
    weights: Float32


def parts(weights: Array, most: float) -> list[Part] | None:
    """A bank of integers (M, C, …) for integers up to `most`, in as few parts as possible.

    None where the sums of one channel alone may be more than float32 holds exactly.
    """
    bounds = np.abs(weights).sum(axis=tuple(range(2, weights.ndim)), dtype=np.float64) * most
    ends, total = [0], np.zeros(len(weights))
    for channel, bound in enumerate(bounds.T):
        total += bound
        if total.max() >= EXACT["f32"]:
            ends.append(channel)
            total = bound.copy()
            if total.max() >= EXACT["f32"]:
                return None
    if len(ends) == 1:
        return [Part(slice(None), np.ascontiguousarray(weights, np.float32))]
    return [
        Part(slice(first, last), np.ascontiguousarray(weights[:, first:last], np.float32))
        for first, last in zip(ends, [*ends[1:], weights.shape[1]], strict=True)
    ]


def sums_type(
    dtype: Dtype,
    weights: Float64,
    bias: Float64 | None,
    fill: float,
    divisor: float = 1.0,
    combine: str = "none",
    gain: float = 1.0,
    offset: float = 0.0,
    later: tuple[float, float] = (1.0, 0.0),
) -> str:
    """The type of the sums: float32 unless that would lose what the input holds.

    weights: (…, M, C, kH, kW), one map an entry of the leading axes. float64, 32-bit integers
    and numbers beyond float32's range take float64. Integer images under integer weights take
    float64 where float32 could not hold every sum exactly, or where a result rounded to float32
    could be rounded once more to another integer than the exact one: a quotient s/d is at least
    1/(2d) from half an integer if it is not there, and float32 errs by s/d · 2⁻²⁴, so s < 2²³ is
    safe, and more where what is known of s/d says so (15×15 means of 16 bits).

    combine, gain, offset: as in `filter_image`. later: gain and offset that results get
    afterwards, before they are rounded to integers.
    """
    if dtype == np.float64 or (np.issubdtype(dtype, np.integer) and dtype.itemsize == 4):
        return "f64"
    if not is_integer(dtype, weights, fill):
        return "f64" if _beyond_float32(weights, bias, fill) else "f32"
    bound = bound_of(dtype, weights, fill)
    parts = 1.0  # of one, in which sums are counted
    if bias is not None and bias.any():
        if divisor != 1.0:
            return "f64"
        parts = next((2.0**k for k in range(9) if (bias * 2**k % 1 == 0).all()), math.inf)
        bound = bound + np.abs(bias)
    if combine in ("sum", "mean", "shrink"):
        bound = bound.sum(axis=-1)
    most = float(bound.max(initial=0.0)) * parts
    if combine == "magnitude":
        # √n is at least 1/(8√n) from half an integer, if it is not there.
        sides = [np.maximum(sign * weights, 0).sum(axis=(-3, -2, -1)) for sign in (1, -1)]
        if np.issubdtype(dtype, np.unsignedinteger) and fill >= 0 and parts == 1.0 and most:
            bound = bound * (np.maximum(*sides) / np.maximum(np.add(*sides), 1))
        most = float(((bound * parts) ** 2).sum()) * 4
    whole = divisor == np.rint(divisor) and abs(divisor) < EXACT["f32"]
    if not whole or (gain != 1.0 and math.frexp(abs(gain))[0] != 0.5):
        return "f64"
    exact = EXACT["f32"] if divisor == 1.0 and combine in ("none", "max", "sum") else SAFE
    # Of quotients below 2ᵉ float32 errs by at most 2ᵉ⁻²⁵: less than 1/(2d) for d < 2²⁴⁻ᵉ.
    digits = 24 - math.frexp(most / abs(divisor))[1]
    if combine == "none" and parts == 1.0 and abs(divisor) < 2.0**digits:
        exact = EXACT["f32"]
    for factor, shift in ((gain, offset), later):
        if factor != 1.0 or shift != 0.0:
            from fractions import Fraction  # it imports decimal: 2 ms of every start

            ratio = Fraction(factor).limit_denominator(1 << 33)
            if abs(ratio.numerator) > 1 and divisor != 1.0:
                return "f64"  # the product may be half an integer where the quotient is rounded
            most = most * max(1, abs(ratio.numerator)) + abs(shift * divisor * parts / factor)
            most, exact = 2 * most if shift else most, SAFE
    return "f32" if most < exact else "f64"


def _beyond_float32(*numbers: Array | float | None) -> bool:
    """Whether a finite one of some numbers would be infinite in float32."""
    most = float(np.finfo(np.float32).max)
    for given in numbers:
        found = np.asarray(0.0 if given is None else given)
        if (
            found.dtype != np.float64
            or -most <= found.min(initial=0) <= found.max(initial=0) <= most
        ):
            continue
        # What an infinity or a NaN hides is looked for one by one.
        if bool(((np.abs(found) > most) & np.isfinite(found)).any()):
            return True
    return False


def limit_of(dtype: Dtype, weights: Array, fill: float, divisor: float, maps: int = 1) -> float:
    """The largest magnitude of samples up to which float64 is exact; infinity where any is.

    maps: how many of them are summed.
    """
    if not is_integer(dtype, weights, fill):
        return math.inf
    most = ROUNDED if divisor != 1.0 or maps > 1 else EXACT["f64"]
    total = float(np.abs(weights).sum(axis=(-3, -2, -1), dtype=np.float64).max(initial=0.0)) * maps
    return math.inf if total * max(largest(dtype), abs(fill)) < most else most / total


def check(source: Array, fill: float, limit: float) -> None:
    """Raise ValueRangeError where a sample, or the value around the image, is beyond the limit."""
    ends = float(source.min(initial=0)), float(source.max(initial=0)), fill
    most = max(ends, key=abs)
    if abs(most) > limit:
        raise ValueRangeError(
            f"filter: a sample of {most:.0f} under these weights may sum to more than float64 "
            f"holds exactly, expected samples up to {math.floor(limit)} or smaller weights"
        )


def mean_type(dtype: Dtype, count: int) -> Dtype:
    """The type of means of up to `count` samples: float64 where float32 would lose digits."""
    whole = np.issubdtype(dtype, np.integer)
    wide = largest(dtype) * count >= SAFE if whole else dtype == np.float64
    return np.dtype(np.float64 if wide else np.float32)
