"""How far two images are apart."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from imgconv.errors import ShapeError
from imgconv.typing import JSON, Array

# Window and constants of Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error
# Visibility to Structural Similarity", IEEE TIP 2004: 11×11 Gaussian of σ = 1.5, K1, K2.
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K1 = 0.01
SSIM_K2 = 0.03


@dataclass(frozen=True)
class Comparison:
    """Differences of two images; errors in the images' own units.

    psnr is in decibels against `full_scale` (infinite for equal images); ssim is the mean over
    pixels and channels, in −1 … 1.
    """

    equal: bool
    differing: int
    pixels: int
    max_error: float
    mean_absolute_error: float
    rmse: float
    psnr: float
    ssim: float
    full_scale: float

    def as_dict(self) -> dict[str, JSON]:
        """The numbers, with None for what JSON cannot hold: an infinite psnr, NaN."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


def compare(
    first: Array, second: Array, full_scale: float
) -> tuple[Comparison, npt.NDArray[np.float32]]:
    """Compare two (H, W, C) images; return the numbers and the map of absolute differences.

    NaN equals NaN, so that a file equals itself; NaN against a number makes the numbers NaN.
    Raises ShapeError when the shapes differ.
    """
    if first.shape != second.shape:
        raise ShapeError(f"compare: {_size(first)} against {_size(second)}, expected equal sizes")
    if first.dtype.kind == second.dtype.kind == "f":
        both = np.isnan(first) & np.isnan(second)
        first, second = np.where(both, 0, first), np.where(both, 0, second)
    difference = np.abs(first.astype(np.float64) - second.astype(np.float64))
    square = float(np.mean(np.square(difference))) if difference.size else 0.0
    psnr = float("inf") if square == 0 else 10 * float(np.log10(full_scale**2 / square))
    return (
        Comparison(
            equal=not difference.any(),
            differing=int(np.count_nonzero(difference.any(axis=2))),
            pixels=first.shape[0] * first.shape[1],
            max_error=float(difference.max(initial=0)),
            mean_absolute_error=float(difference.mean()) if difference.size else 0.0,
            rmse=square**0.5,
            psnr=psnr,
            ssim=ssim(first, second, full_scale),
            full_scale=full_scale,
        ),
        difference.astype(np.float32),
    )


def ssim(first: Array, second: Array, full_scale: float) -> float:
    """Mean structural similarity of two (H, W, C) images (Wang et al. 2004), borders left out.

    Images smaller than the 11×11 window use all pixels.
    """
    from imgconv.ops.filter import filter_image

    taps = np.exp(-0.5 * (np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1) / SSIM_SIGMA) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2

    def blur(values: Array) -> Array:
        maps: Array = filter_image(
            values, window[None, None], padding_mode="symmetric", out_dtype=np.float64
        )
        blurred: Array = maps[0]
        return blurred

    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    variance_a = blur(a * a) - mean_a**2
    variance_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (SSIM_K1 * full_scale) ** 2, (SSIM_K2 * full_scale) ** 2
    score = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    if min(score.shape[:2]) > 2 * SSIM_RADIUS:
        score = score[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]
    return float(score.mean())


def _size(pixels: Array) -> str:
    height, width, channels = pixels.shape
    return f"{width}×{height} with {channels} channels"
