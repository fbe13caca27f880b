"""Resize: enlarging and shrinking maps by interpolation, one axis after the other.

Source of formulas: ONNX operator Resize (coordinate_transformation_mode, nearest_mode, cubic
coefficients, antialias). R. Keys, "Cubic convolution interpolation for digital image processing",
IEEE Trans. ASSP 29(6), 1981.
"""

import math
from fractions import Fraction

import numpy as np

from imgconv.errors import ShapeError
from imgconv.nn.layers.base import NOWHERE, Layer, Places, Shape
from imgconv.ops.arrays import readable
from imgconv.typing import Array

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_half_pixel_for_nn", "tf_crop_and_resize",
)  # fmt: skip
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
ROUNDING = 1e-9  # weights up to which a tap is there by an error of its position alone
# Taps on either side of a position.
RADIUS = {"nearest": 1, "linear": 1, "cubic": 2}


class Resize(Layer):
    """An array resized to `shape`; scales: of every axis, output over input.

    mode: nearest, linear or cubic. region: first and last position of every axis that is taken,
    as parts of its length, for tf_crop_and_resize; beyond it stands `extrapolation`.
    """

    shape: Shape
    scales: tuple[float, ...]
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    region: tuple[tuple[float, float], ...] = ()
    extrapolation: float = 0.0

    def __post_init__(self) -> None:
        for value, known in (
            (self.mode, RADIUS), (self.coordinates, COORDINATES), (self.nearest, NEAREST),
        ):  # fmt: skip
            if value not in known:
                raise ShapeError(f"Resize: {value!r}, expected one of {', '.join(known)}")
        if not math.isfinite(self.cubic_a):
            raise ShapeError(f"Resize: cubic_coeff_a={self.cubic_a}, expected a number")
        if min(self.scales, default=1) <= 0 or not all(map(math.isfinite, self.scales)):
            raise ShapeError(f"Resize: scales {self.scales}, expected positive numbers")

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != len(self.shape) or (0 in shapes[0] and 0 not in self.shape):
            raise ShapeError(f"Resize: input {shapes[0]} to {self.shape}")
        return self.shape

    def forward(self, *inputs: Array) -> Array:
        x = readable(inputs[0])
        self.output_shape(x.shape)
        with np.errstate(all="ignore"):
            return self._resized(x)

    def _resized(self, x: Array) -> Array:
        made = x
        for axis, size in enumerate(x.shape):
            if not self._keeps(axis, size):
                made = self._along(made, axis)
        return np.ascontiguousarray(made, x.dtype)  # integers are cut once, at the end

    def advance(self, axis: int, before: Shape, after: Shape) -> Fraction:
        size, made = before[2 + axis], after[2 + axis]
        if self._keeps(2 + axis, size):
            return Fraction(1)
        first, second = self._positions(2 + axis, size, np.array([0.0, 1.0]))
        # Where the scale is not quite output over input, it is not meant to differ.
        return Fraction(float(second - first)).limit_denominator(max(made, 2))

    def taps(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        if self._keeps(2 + axis, before[2 + axis]):
            return units[:, None]
        places = self._positions(2 + axis, before[2 + axis], units.astype(np.float64))
        if self.mode == "nearest":
            return self._rounded(places)[:, None]
        taps, weights = self._taps(places, self.scales[2 + axis], None)
        return np.where(np.abs(weights) > ROUNDING, taps, NOWHERE)

    def seen(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        size = before[2 + axis]
        if self._keeps(2 + axis, size):
            return units[:, None]
        places = self._positions(2 + axis, size, units.astype(np.float64))
        if self.mode == "nearest":
            found = self._rounded(places).clip(0, size - 1)[:, None]
        else:
            taps, weights = self._taps(places, self.scales[2 + axis], size)
            found = np.where(np.abs(weights) > ROUNDING, taps, NOWHERE)
        return np.where(self._outside(places, size)[:, None], NOWHERE, found)

    def _keeps(self, axis: int, size: int) -> bool:
        """Whether an axis is left as it is."""
        kept = self.coordinates != "tf_crop_and_resize"
        return kept and size == self.shape[axis] and self.scales[axis] == 1

    def _outside(self, places: Array, size: int) -> Array:
        """Which positions take `extrapolation`."""
        beyond: Array = (places < 0) | (places > size - 1)
        return beyond & (self.coordinates == "tf_crop_and_resize")

    def _positions(self, axis: int, size: int, index: Array) -> Array:
        """Where output elements lie in the input."""
        made, scale = self.shape[axis], self.scales[axis]
        kind = self.coordinates
        if kind == "align_corners":
            # ONNX takes the length before it is rounded down.
            return index * ((size - 1) / (size * scale - 1) if made > 1 else 0.0)
        if kind == "asymmetric":
            return index / scale
        if kind == "tf_half_pixel_for_nn":
            return (index + 0.5) / scale
        if kind == "tf_crop_and_resize":
            start, end = self.region[axis]
            if made > 1:
                return start * (size - 1) + index * ((end - start) * (size - 1) / (made - 1))
            return np.full(len(index), 0.5 * (start + end) * (size - 1))
        if kind == "pytorch_half_pixel" and made == 1:
            return np.zeros(len(index))
        found = (index + 0.5) / scale - 0.5
        if kind == "half_pixel_symmetric":
            found += size / 2 * (1 - made / (scale * size))
        return found

    def _along(self, x: Array, axis: int) -> Array:
        size = x.shape[axis]
        places = self._positions(axis, size, np.arange(self.shape[axis], dtype=np.float64))
        if self.mode == "nearest":
            out = np.take(x, self._rounded(places).clip(0, size - 1), axis)
        else:
            taps, weights = self._taps(places, self.scales[axis], size)
            spread = (-1,) + (1,) * (x.ndim - 1 - axis)
            real = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
            out = np.zeros((*x.shape[:axis], len(places), *x.shape[axis + 1 :]), real)
            for tap, weight in zip(taps.T, weights.T, strict=True):
                if weight.any():
                    out += np.take(x, tap, axis) * weight.astype(real).reshape(spread)
        out[(slice(None),) * axis + (self._outside(places, size),)] = self.extrapolation
        return out

    def _rounded(self, places: Array) -> Array:
        found = {
            "round_prefer_floor": np.ceil(places - 0.5),
            "round_prefer_ceil": np.floor(places + 0.5),
            "floor": np.floor(places),
            "ceil": np.ceil(places),
        }[self.nearest]
        return found.astype(np.int64)

    def _taps(self, places: Array, scale: float, size: int | None) -> tuple[Array, Array]:
        """(outputs, taps): source elements and their weights, which sum to 1.

        size: of the source; None for one without ends.
        """
        shrink = min(scale, 1.0) if self.antialias else 1.0
        radius = math.ceil(RADIUS[self.mode] / shrink)
        first = np.floor(places).astype(np.int64)
        taps = first[:, None] + np.arange(1 - radius, radius + 1)
        distances = np.abs(taps - places[:, None]) * shrink
        if self.mode == "linear":
            weights = np.maximum(1 - distances, 0)
        else:
            weights = _cubic(distances, self.cubic_a)
        if self.exclude_outside and size is not None:
            weights = np.where((taps >= 0) & (taps < size), weights, 0)
        if self.exclude_outside or self.antialias:
            with np.errstate(invalid="ignore"):  # of a position all of whose taps are outside
                weights = weights / weights.sum(axis=1, keepdims=True)
        return taps if size is None else taps.clip(0, size - 1), weights


def _cubic(distances: Array, a: float) -> Array:
    """Keys' kernel: near within 1, far within 2, nothing beyond."""
    d = distances
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d < 1, near, np.where(d < 2, far, 0))
