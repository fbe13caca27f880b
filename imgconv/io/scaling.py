"""How maps become the samples of a file."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.errors import UsageError
from imgconv.jit.loop import Wanted
from imgconv.jit.parallel import over_bands
from imgconv.ops.scaling import scale, scale_loop
from imgconv.typing import Array, Dtype

# Rules whose numbers do not depend on the map.
FIXED = ("clip", "abs", "signed", "none")
_BY_LOOPS = ("uint8", "uint16", "float32", "float64")
_PIECE = 1 << 17  # values a turn
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
    values: Array,
    rule: str,
    white: float,
    dtype: Dtype,
    limits: tuple[float, float] | None = None,
    missing: "Missing | None" = None,
) -> tuple[Array, str | None]:
    """Return a map as samples of `dtype`, and a warning when most of it was lost.

    values: in the units of the image that was read, whose white is `white`. limits: what
    `limits_of` gave for several maps that share their scale; None for this map's own. missing:
    which values, all NaN, are missing. Integers round half to even and saturate; NaN becomes 0.
    A constant map under minmax becomes black.
    """
    if limits is None and check_rule(rule)[0] not in FIXED:
        limits = limits_of(values, rule, white)
    scaling = Scaling.of(rule, white, dtype, limits, missing.mark if missing else None)
    out: Array = np.empty(values.shape, dtype)
    mask = missing.mask if missing else None
    return out, scaling.warning(scaling.write(values, out, mask), values.size)


def marked(samples: Array, missing: "Missing") -> str | None:
    """Give missing samples of a map of integers their value; return `scale_map`'s warning."""
    scaling = Scaling.of("signed", 1.0, samples.dtype, missing=missing.mark)
    lost = scaling.mark(samples, missing.mask)
    return scaling.warning(lost, samples.size)


class Mark(NamedTuple):
    """What a missing sample is written as: the value in integers, NaN in floats.

    tag: what a tag in the file says, which goes before both where samples can hold it.
    """

    value: float
    tag: float | None = None

    def holds(self, dtype: Dtype) -> bool:
        """Whether missing samples of this type can be told from others."""
        from imgconv.ops.missing import held_by

        return any(held_by(one, dtype) for one in (self.value, self.tag) if one is not None)

    def put(self, samples: Array, mask: npt.NDArray[np.bool_]) -> None:
        """Mark the samples where the mask is true."""
        from imgconv.ops.missing import held_by, mark

        if self.tag is not None and held_by(self.tag, samples.dtype):
            with np.errstate(over="ignore"):
                samples[mask] = self.tag
        else:
            mark(samples, mask, self.value)


class Missing(NamedTuple):
    """Which values of a map are missing, and what they are written as."""

    mask: npt.NDArray[np.bool_]
    mark: Mark


class Lost(NamedTuple):
    """How many values of a map were clipped, and how many were missing."""

    clipped: int = 0
    missing: int = 0

    def plus(self, more: "Lost") -> "Lost":
        """The sums."""
        return Lost(self.clipped + more.clipped, self.missing + more.missing)


class Scaling(NamedTuple):
    """A rule with its numbers: sample = (value − base) · gain / divisor + offset.

    Of |value| for `abs`. full: the sample of white. missing: what a missing value, which is NaN,
    becomes.
    """

    rule: str
    base: float
    gain: float
    divisor: float
    offset: float
    full: float
    dtype: Dtype
    missing: Mark | None = None

    @property
    def integer(self) -> bool:
        """Whether samples are whole numbers."""
        return bool(np.issubdtype(self.dtype, np.integer))

    @property
    def low(self) -> float:
        """The least sample that whole numbers can be."""
        return float(np.iinfo(self.dtype).min) if self.integer else 0.0

    @classmethod
    def of(
        cls, rule: str, white: float, dtype: Dtype,
        limits: tuple[float, float] | None = None, missing: Mark | None = None,
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
        least = float(np.iinfo(dtype).min) if integer else 0.0
        if least < 0:  # samples that are negative show what lies below 0 as it is
            middle = 0.0
        base, gain, divisor, offset = 0.0, full, white, 0.0
        if name in ("minmax", "percentile"):
            base, gain, divisor = low, full / (high - low) if high > low else 0.0, 1.0
        elif name == "signed":
            divisor, offset = 2 * white, middle
        elif name == "symmetric":
            gain, divisor, offset = (full - middle) / high if high > 0 else 1.0, 1.0, middle
        if math.frexp(gain / divisor)[0] == 0.5:  # a power of 2, which rounds nothing
            gain, divisor = gain / divisor, 1.0
        return cls(name, base, gain, divisor, offset, full, dtype, missing)

    def write(
        self, values: Array, out: Array,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Lost:  # fmt: skip
        """Write the samples of values to `out`, of their shape; return what was lost.

        mask: which values are missing; they are NaN.
        """
        clipped = self._scaled(values, out)
        return Lost(clipped) if mask is None else self.mark(out, mask)._replace(clipped=clipped)

    def loops(self, source: Dtype) -> list[Wanted]:
        """The loops that writing the samples of values of a type needs."""
        if self.dtype.name not in _BY_LOOPS:
            return []
        return [scale_loop(source, self.dtype, self.gain, self.divisor, self.rule == "abs")]

    def _scaled(self, values: Array, out: Array) -> int:
        """Write the samples; return how many were clipped."""
        if out.dtype.name not in _BY_LOOPS:
            return self._scaled_wide(values, out)
        return scale(
            values, out, self.base, self.gain, self.offset, self.full,
            absolute=self.rule == "abs", divisor=self.divisor,
        )  # fmt: skip

    def _scaled_wide(self, values: Array, out: Array) -> int:
        """As `_scaled`, in float64, to samples that are signed or have 32 bits and more."""
        bounds = np.iinfo(out.dtype)
        high = float(bounds.max)
        if int(high) > bounds.max:
            high = float(np.nextafter(high, 0))
        lost = np.zeros(len(values), np.int64)

        def rows(first: int, last: int) -> None:
            for row in range(first, last):
                wide = values[row].astype(np.float64)
                if self.rule == "abs":
                    np.abs(wide, out=wide)
                wide -= self.base
                wide *= self.gain
                wide /= self.divisor
                wide += self.offset
                lost[row] = np.count_nonzero((wide < self.low - 0.5) | (wide > self.full + 0.5))
                np.nan_to_num(np.rint(wide, out=wide), copy=False, posinf=np.inf, neginf=-np.inf)
                out[row] = np.clip(wide, self.low, high, out=wide)

        over_bands(len(values), max(1, _PIECE // max(1, values[:1].size)), rows)
        return int(lost.sum())

    def mark(self, out: Array, mask: npt.NDArray[np.bool_]) -> Lost:
        """Mark the missing samples; return how many there are."""
        if self.missing is not None:
            self.missing.put(out, mask)
        return Lost(missing=int(np.count_nonzero(mask)))

    def warning(self, lost: Lost, count: int) -> str | None:
        """What to tell when much of `count` samples was clipped, and nobody asked for it.

        And when missing ones cannot be told from others any more.
        """
        found = []
        known = count - lost.missing
        if self.rule == "clip" and self.integer and lost.clipped > known / 4:
            found.append(
                f"{lost.clipped / known:.0%} of the map lies outside {self.low:g}…{self.full:g} "
                "and was clipped; see --scale"
            )
        if self.missing and lost.missing and not self.missing.holds(self.dtype):
            found.append(
                f"{lost.missing} missing samples became 0, since {self.dtype} cannot hold "
                f"{self.missing.value:g}; floats (--depth 32f) can"
            )
        return "; ".join(found) or None


def gain_of(rule: str, white: float, dtype: Dtype) -> tuple[float, float]:
    """The gain and offset of a rule, as far as they do not depend on the map."""
    name = check_rule(rule)[0]
    if name not in FIXED or not np.issubdtype(dtype, np.integer):
        return 1.0, 0.0
    scaling = Scaling.of(rule, white, dtype)
    return scaling.gain / scaling.divisor, scaling.offset


def limits_of(values: Array, rule: str, white: float) -> tuple[float, float]:
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
