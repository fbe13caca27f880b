"""Gray, channels, linear light and opacity: what happens to pixels before and after filtering."""

from dataclasses import replace
from typing import TypedDict

import numpy as np

from imgconv.errors import UsageError
from imgconv.io.image import Image
from imgconv.ops.arrays import readable
from imgconv.ops.scaling import mix
from imgconv.typing import Array

# ITU-R BT.601 luma for pixels as they are stored; BT.709 luminance in linear light.
LUMA = (0.299, 0.587, 0.114)
LUMINANCE = (0.2126, 0.7152, 0.0722)
_LETTERS = "rgba"


def to_linear(values: Array) -> Array:
    """sRGB in 0…1 to linear light. Source: IEC 61966-2-1."""
    values = readable(values)
    magnitude = np.abs(values)
    low, high = magnitude / 12.92, ((magnitude + 0.055) / 1.055) ** 2.4
    return np.asarray(np.copysign(np.where(magnitude <= 0.04045, low, high), values), values.dtype)


def from_linear(values: Array) -> Array:
    """Linear light to sRGB in 0…1; negative responses mirror. Source: IEC 61966-2-1."""
    values = readable(values)
    magnitude = np.abs(values)
    low, high = magnitude * 12.92, 1.055 * magnitude ** (1 / 2.4) - 0.055
    return np.asarray(
        np.copysign(np.where(magnitude <= 0.0031308, low, high), values), values.dtype
    )


def to_gray(colors: Array, weights: tuple[float, float, float] = LUMA) -> Array:
    """(H, W, 3) to (H, W, 1) of the same dtype; integers round half to even."""
    return mix(colors, weights)


class Preparation(TypedDict):
    """The options of `prepare`."""

    gray: bool
    channels: str | None
    linear: bool


def prepare(
    image: Image, *, gray: bool = False, channels: str | None = None, linear: bool = False
) -> Image:
    """Return the image after `--linear`, `--gray` and `--channels`; opacity stays last.

    linear: pixels become float32 linear light, 1 for white. Raises UsageError for channels that
    the image does not have.
    """
    pixels, alpha, stored = image.pixels, image.alpha, image.stored
    if linear:
        scaled = pixels.astype(np.float32) / np.float32(image.full_scale)
        colors = scaled[..., :-1] if alpha else scaled
        scaled[..., : colors.shape[2]] = to_linear(colors)
        pixels, stored = scaled, None
    if channels is not None:
        chosen = _chosen(channels, pixels.shape[2], alpha, image.name)
        alpha = alpha and chosen[-1] == pixels.shape[2] - 1 and len(chosen) > 1
        pixels = np.ascontiguousarray(pixels[..., chosen])
    if gray and pixels.shape[2] - alpha == 3:
        parts = [to_gray(pixels[..., :3], LUMINANCE if linear else LUMA)]
        if alpha:
            parts.append(pixels[..., 3:])
        pixels = np.ascontiguousarray(np.concatenate(parts, axis=2))
    return replace(image, pixels=pixels, alpha=alpha, stored=stored)


def _chosen(text: str, count: int, alpha: bool, name: str) -> list[int]:
    found = []
    for part in text.lower().replace(" ", "").split(","):
        index = _LETTERS.find(part) if len(part) == 1 and part in _LETTERS else -1
        if index == 3:
            index = count - 1 if alpha else count
        elif index >= 0 and count - alpha < 3:
            index = count
        elif index < 0:
            index = int(part) if part.isdecimal() and len(part) < 10 else count
        if index >= count:
            raise UsageError(
                f"--channels {text}: no channel {part} in {name} with {count} channels"
            )
        found.append(index)
    return found
