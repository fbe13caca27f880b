"""EXIF orientation: images as they are to be seen."""

from dataclasses import replace

import numpy as np

from imgconv.io.image import Image
from imgconv.typing import Array


def as_seen(image: Image) -> Image:
    """Apply EXIF orientation once: afterwards info says 1."""
    orientation = image.info.get("orientation", 1)
    if orientation != 1:
        image.pixels = np.ascontiguousarray(oriented(image.pixels, orientation))
        image.info["orientation"] = 1
        image.info["oriented"] = orientation
        if image.metadata is not None:
            image.metadata = replace(image.metadata, orientation=orientation)
    return image


def oriented(pixels: Array, orientation: int) -> Array:
    """Return a view of (H, W, C) as EXIF orientation 1…8 says it is to be seen.

    Source: Exif 2.32 (CIPA DC-008), tag 0x0112: where row 0 and column 0 of the stored image are.
    """
    if orientation >= 5:  # row 0 is a vertical side
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
