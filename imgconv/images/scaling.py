"""How maps become the samples of a file."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.compute.scaling import scale
from imgconv.errors import UsageError

# Rules whose numbers do not depend on the map.
FIXED = ("clip", "abs", "signed", "none")
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
    if limits is None and check_rule(rule)[0] not in FIXED:
        limits = limits_of(values, rule, white)
    scaling = Scaling.of(rule, white, dtype, limits)
    out: npt.NDArray[Any] = np.empty(values.shape, dtype)
    return out, scaling.warning(scaling.write(values, out), values.size)


class Scaling(NamedTuple):
    """A rule with its numbers: sample = (value − base) · gain + offset, of |value| for `abs`.

    full: the sample of white.
    """

    rule: str
    base: float
    gain: float
    offset: float
    full: float
    integer: bool

    @classmethod
    def of(
        cls, rule: str, white: float, dtype: np.dtype[Any],
        limits: tuple[float, float] | None = None,
    ) -> "Scaling":  # fmt: skip
        """The numbers for values whose white is `white` and samples of `dtype`.

        limits: what `limits_of` gave; rules in FIXED need none.
        """
        name, _ = check_rule(rule)
        integer = bool(np.issubdtype(dtype, np.integer))
        if name == "none" and integer:
            raise UsageError(
                "--scale none: expected a format that holds floats, such as npy or tiff"
            )
        full = float(np.iinfo(dtype).max) if integer else white
        low, high = limits or (0.0, 0.0)
        middle = float(np.floor(full / 2) + 1 if full > 1 else full / 2)
        base, gain, offset = 0.0, full / white, 0.0
        if name in ("minmax", "percentile"):
            base, gain = low, full / (high - low) if high > low else 0.0
        elif name == "signed":
            gain, offset = full / (2 * white), middle
        elif name == "symmetric":
            gain, offset = (full - middle) / high if high > 0 else 1.0, middle
        return cls(name, base, gain, offset, full, integer)

    def write(self, values: npt.NDArray[Any], out: npt.NDArray[Any]) -> int:
        """Write the samples of values to `out`, of their shape; return how many were clipped."""
        return scale(
            values, out, self.base, self.gain, self.offset, self.full, absolute=self.rule == "abs"
        )

    def warning(self, lost: int, count: int) -> str | None:
        """What to tell when `lost` of `count` samples were clipped, and nobody asked for it."""
        if self.rule != "clip" or not self.integer or lost <= count / 4:
            return None
        return (
            f"{lost / count:.0%} of the map lies outside 0…{self.full:g} and was clipped; "
            "see --scale"
        )


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
