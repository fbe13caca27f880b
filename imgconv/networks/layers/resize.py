"""Resize: enlarging and shrinking maps by interpolation, one axis after the other.

Source of formulas: ONNX operator Resize (coordinate_transformation_mode, nearest_mode, cubic
coefficients, antialias). R. Keys, "Cubic convolution interpolation for digital image processing",
IEEE Trans. ASSP 29(6), 1981.
"""

import math
from dataclasses import dataclass

import numpy as np

from imgconv.compute.arrays import readable
from imgconv.errors import ShapeError
from imgconv.networks.layers.base import Array, Layer, Reach, Shape

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_half_pixel_for_nn", "tf_crop_and_resize",
)  # fmt: skip
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
# Taps on either side of a position.
RADIUS = {"nearest": 1, "linear": 1, "cubic": 2}


@dataclass(frozen=True, eq=False)
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
        kept = self.coordinates != "tf_crop_and_resize"
        for axis, (size, made) in enumerate(zip(x.shape, self.shape, strict=True)):
            if kept and size == made and self.scales[axis] == 1:
                continue
            x = self._along(x, axis)
        return np.ascontiguousarray(x)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if len(before) != 4:
            return super().reach(axis, before, after)
        taps = 1 if self.mode == "nearest" else 2 * RADIUS[self.mode]
        stride = 1 / self.scales[2 + axis]
        if self.antialias:
            taps = math.ceil(taps * max(1.0, stride))
        return Reach(taps, stride, (taps - stride) / 2)

    def _positions(self, axis: int, size: int) -> Array:
        """Where each output element lies in the input."""
        made, scale = self.shape[axis], self.scales[axis]
        index = np.arange(made, dtype=np.float64)
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
            return np.full(made, 0.5 * (start + end) * (size - 1))
        if kind == "pytorch_half_pixel" and made == 1:
            return np.zeros(1)
        found = (index + 0.5) / scale - 0.5
        if kind == "half_pixel_symmetric":
            found += size / 2 * (1 - made / (scale * size))
        return found

    def _along(self, x: Array, axis: int) -> Array:
        size = x.shape[axis]
        places = self._positions(axis, size)
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
            out = out.astype(x.dtype, copy=False)
        if self.coordinates == "tf_crop_and_resize":
            outside = (places < 0) | (places > size - 1)
            out[(slice(None),) * axis + (outside,)] = self.extrapolation
        return out

    def _rounded(self, places: Array) -> Array:
        found = {
            "round_prefer_floor": np.ceil(places - 0.5),
            "round_prefer_ceil": np.floor(places + 0.5),
            "floor": np.floor(places),
            "ceil": np.ceil(places),
        }[self.nearest]
        return found.astype(np.int64)

    def _taps(self, places: Array, scale: float, size: int) -> tuple[Array, Array]:
        """(outputs, taps): source elements and their weights, which sum to 1."""
        shrink = min(scale, 1.0) if self.antialias else 1.0
        radius = math.ceil(RADIUS[self.mode] / shrink)
        first = np.floor(places).astype(np.int64)
        taps = first[:, None] + np.arange(1 - radius, radius + 1)
        distances = np.abs(taps - places[:, None]) * shrink
        if self.mode == "linear":
            weights = np.maximum(1 - distances, 0)
        else:
            weights = _cubic(distances, self.cubic_a)
        if self.exclude_outside:
            weights = np.where((taps >= 0) & (taps < size), weights, 0)
        if self.exclude_outside or self.antialias:
            weights = weights / weights.sum(axis=1, keepdims=True)
        return taps.clip(0, size - 1), weights


def _cubic(distances: Array, a: float) -> Array:
    """Keys' kernel: near within 1, far within 2, nothing beyond."""
    d = distances
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d < 1, near, np.where(d < 2, far, 0))
