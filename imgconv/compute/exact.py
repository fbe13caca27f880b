"""When a convolution of integers is exact, and in which type its sums must be kept for that."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Integers up to this magnitude, and hence sums bounded by it in any order, are exact.
EXACT = {"f32": 2.0**24, "f64": 2.0**53}


def integer_form(weights: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float] | None:
    """Return (integers, divisor) with weights == integers / divisor bit for bit, or None.

    The divisor is the smallest of 2 to 256 and of small multiples of 1 / (least weight): enough
    for kernels drawn as integers over a number.
    """
    if not np.isfinite(weights).all():
        return None
    magnitudes = np.abs(weights[weights != 0])
    if magnitudes.size == 0 or (magnitudes == np.rint(magnitudes)).all():
        return weights, 1.0
    ends = np.array([[magnitudes.min()], [magnitudes.max()]])
    if ends[0, 0] <= 1e-7:
        return None
    divisors = np.union1d(np.arange(2.0, 257.0), np.rint(np.arange(1, 33) / ends[0, 0]))
    divisors = divisors[(divisors > 1) & (divisors < EXACT["f32"])]
    # The least and the greatest weight leave few divisors to try on all of them.
    for divisor in divisors[(np.rint(ends * divisors) / divisors == ends).all(axis=0)].tolist():
        integers = np.rint(weights * divisor)
        if (integers / divisor == weights).all():
            return integers, divisor
    return None


def largest(dtype: np.dtype[Any]) -> float:
    """The largest magnitude an integer dtype holds."""
    bounds = np.iinfo(dtype)
    return float(max(-int(bounds.min), int(bounds.max)))


def is_integer(dtype: np.dtype[Any], weights: npt.NDArray[np.float64], fill: float) -> bool:
    """Whether image, weights and the value around the image are all integers."""
    return bool(
        np.issubdtype(dtype, np.integer)
        and (weights == np.rint(weights)).all()
        and fill == np.rint(fill)
    )


def sums_type(
    dtype: np.dtype[Any],
    weights: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64] | None,
    fill: float,
    divisor: float = 1.0,
) -> str:
    """The type of the sums: float32 unless that would lose what the input holds.

    weights: (…, M, C, kH, kW), one map an entry of the leading axes. float64 and int32 inputs
    take float64. Integer images under integer weights take float64 where Σ|w| · max|x| + |b|
    may pass 2²⁴, so that the sums stay exact (up to 2⁵³).
    """
    if dtype == np.float64 or dtype == np.int32:
        return "f64"
    if not is_integer(dtype, weights, fill):
        return "f32"
    bound = np.abs(weights).sum(axis=(-3, -2, -1), dtype=np.float64) * max(
        largest(dtype), abs(fill)
    )
    if bias is not None and divisor == 1.0:
        bound = bound + np.abs(bias)
    return "f32" if float(bound.max(initial=0.0)) < EXACT["f32"] else "f64"
