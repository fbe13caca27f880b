"""How maps become the samples of a file."""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.errors import UsageError

RULES = ("clip", "minmax", "abs", "signed", "symmetric", "percentile", "none")


def check_rule(rule: str) -> tuple[str, float]:
    """Return a rule's name and percentile. Raises UsageError for an unknown rule."""
    name, _, value = rule.partition("=")
    if name in RULES and (name == "percentile") == bool(value):
        try:
            number = float(value or 0)
        except ValueError:
            number = -1.0
        if 0 <= number < 50:
            return name, number
    raise UsageError(
        f"--scale {rule}: expected clip, minmax, abs, signed, symmetric, percentile=P with P below "
        "50, or none"
    )


def scale_map(
    values: npt.NDArray[Any],
    rule: str,
    white: float,
    dtype: np.dtype[Any],
    limits: tuple[float, float] | None = None,
) -> tuple[npt.NDArray[Any], str | None]:
    """Return a map as samples of `dtype`, and a warning when most of it was lost.

    values: in the units of the image that was read, whose white is `white`. limits: what
    `limits_of` gave for several maps that share their scale; None for this map's own. Integers
    round half to even and saturate; NaN becomes 0. A constant map under minmax becomes black.
    """
    name, _ = check_rule(rule)
    if name == "none" and np.issubdtype(dtype, np.integer):
        raise UsageError("--scale none: expected a format that holds floats, such as npy or tiff")
    full = float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else white
    work: npt.NDArray[Any] = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
    if name == "abs":
        work = np.abs(work)
    low, high = limits or limits_of(work, rule, white)
    middle = np.floor(full / 2) + 1 if full > 1 else full / 2
    if name in ("minmax", "percentile"):
        span = high - low
        work = (work - low) * (full / span) if span > 0 else np.zeros_like(work)
    elif name == "signed":
        work = work * (full / (2 * white)) + middle
    elif name == "symmetric":
        work = work * ((full - middle) / high) + middle if high > 0 else work + middle
    elif full != white:
        work = work * (full / white)
    warning = None
    if name == "clip" and np.issubdtype(dtype, np.integer) and work.size:
        lost = float(np.mean((work < -0.5) | (work > full + 0.5)))
        if lost > 0.25:
            warning = f"{lost:.0%} of the map lies outside 0…{full:g} and was clipped; see --scale"
    if np.issubdtype(dtype, np.integer):
        work = np.clip(np.rint(np.nan_to_num(work, nan=0, posinf=full, neginf=0)), 0, full)
    return work.astype(dtype), warning


def limits_of(values: npt.NDArray[Any], rule: str, white: float) -> tuple[float, float]:
    """The values that a rule makes black and white, as far as integers hold them."""
    name, percentile = check_rule(rule)
    if name == "signed":
        return -white, white
    if name not in ("minmax", "percentile", "symmetric"):
        return 0.0, white
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 0.0
    if name == "symmetric":
        largest = float(np.abs(finite).max())
        return -largest, largest
    if percentile:
        low, high = np.percentile(finite, [percentile, 100 - percentile])
        return float(low), float(high)
    return float(finite.min()), float(finite.max())
