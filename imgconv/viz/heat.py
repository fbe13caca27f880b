"""A map of what matters, over the image that it is of."""

import numpy as np
import numpy.typing as npt

from imgconv.typing import Array
from imgconv.viz.colormaps import DIVERGING, table

SIDE = 448
# How much of the color covers the image, where the map is 0 and where it is largest.
_LEAST, _MOST = 0.15, 0.75
_DARK = 0.6


def overlay(
    image: npt.NDArray[np.uint8], values: Array, colormap: str
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """Return the image (H, W, 1 or 3), in gray, under a map (h, w) in color; (H', W', 3).

    The map is enlarged bilinearly; small images by whole pixels, up to SIDE. Of a diverging color
    map the middle is 0 and the ends are ± the largest value, of others the end is that value.
    """
    from PIL import Image

    factor = max(1, SIDE // max(image.shape[:2]))
    gray = image.mean(axis=2).repeat(factor, axis=0).repeat(factor, axis=1)
    plain = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    picture = Image.fromarray(plain).resize(gray.shape[::-1], Image.Resampling.BILINEAR)
    heat = np.asarray(picture) / np.float32(np.abs(plain).max() or 1.0)
    strength = np.abs(heat) if colormap in DIVERGING else np.maximum(heat, 0)
    index = (heat + 1) / 2 if colormap in DIVERGING else strength
    color = table(colormap)[np.rint(np.clip(index, 0, 1) * 255).astype(np.uint8)]
    cover = (_LEAST + (_MOST - _LEAST) * strength)[..., None]
    mixed = _DARK * gray[..., None] * (1 - cover) + color * cover
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)
