"""What the samples of a TIFF become: gray, RGB, or bands as they are.

Sources: TIFF Revision 6.0 (Adobe, 1992), sections 5, 16, 18, 21 and 23; Adobe Photoshop TIFF
Technical Notes (2002) for ICC L*a*b*; IEC 61966-2-1 for sRGB.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.errors import ImageError
from imgconv.images.color import from_linear

Array = npt.NDArray[Any]
_COEFFICIENTS, _SUBSAMPLING, _REFERENCE = 529, 530, 532
# Linear sRGB of XYZ whose white is D50, by Bradford's adaptation (Lindbloom).
_FROM_D50 = np.array([
    [3.1338561, -1.6168667, -0.4906146],
    [-0.9787684, 1.9161415, 0.0334540],
    [0.0719453, -0.2289914, 1.4052427],
])  # fmt: skip
_D50 = np.array([0.9642, 1.0, 0.8249])


def stretched(pixels: Array, bits: tuple[int, ...]) -> Array:
    """Samples of fewer than 8 bits as 8 bits: white is 255."""
    full = np.array([(1 << width) - 1 for width in bits], np.uint16)
    wide = pixels.astype(np.uint16) * np.uint16(255)
    found: Array = ((wide + full // 2) // full).astype(np.uint8)
    return found


def through_palette(pixels: Array, colormap: Array | None, name: str) -> Array:
    """Return the colors of indices, and what is beyond the index, in 8 bits where that is all."""
    size = 0 if colormap is None else colormap.shape[1]
    if colormap is None or int(pixels[..., 0].max(initial=0)) >= size:
        raise ImageError(f"{name}: broken TIFF: a palette of {size} colors")
    narrow = bool(((colormap % 257 == 0) | (colormap % 256 == 0)).all())
    table = (colormap >> 8).astype(np.uint8) if narrow else colormap.astype(np.uint16)
    colors = table.T[pixels[..., 0]]
    rest = pixels[..., 1:]
    if rest.dtype.itemsize < table.itemsize:
        rest = rest.astype(np.uint16) * np.uint16(257)
    elif rest.dtype.itemsize > table.itemsize:
        rest = rest >> 8
    return np.concatenate([colors, rest.astype(table.dtype)], axis=2)


def from_cmyk(pixels: Array) -> Array:
    """RGB of inks, and what is beyond them: full − min(full, ink + black)."""
    full = np.iinfo(pixels.dtype).max
    light = full - pixels[..., :3]
    colors = np.where(light > pixels[..., 3:4], light - pixels[..., 3:4], 0)
    return np.concatenate([colors.astype(pixels.dtype), pixels[..., 4:]], axis=2)


def from_ycbcr(pixels: Array, tags: Any, name: str) -> Array:
    """RGB of luma and two differences, and what is beyond them. Raises ImageError."""
    across, down = tags.valueof(_SUBSAMPLING, (2, 2))
    if (across, down) != (1, 1):
        raise ImageError(
            f"{name}: TIFF of {8 * pixels.itemsize}-bit YCbCr with {across}×{down} pixels a "
            "difference is not read; expected one a pixel"
        )
    if pixels.dtype.kind != "u":
        raise ImageError(f"{name}: TIFF of YCbCr in {pixels.dtype} is not read")
    full = float(np.iinfo(pixels.dtype).max)
    middle = (full + 1) / 2
    given = tags.valueof(_COEFFICIENTS)
    red, green, blue = 0.299, 0.587, 0.114
    if given and len(given) == 6 and all(given[1::2]):
        red, green, blue = (given[i] / given[i + 1] for i in (0, 2, 4))
    luma, cb, cr = (pixels[..., i].astype(np.float64) for i in range(3))
    r = luma + (2 - 2 * red) * (cr - middle)
    b = luma + (2 - 2 * blue) * (cb - middle)
    g = (luma - red * r - blue * b) / green if green else luma
    colors = np.clip(np.rint(np.stack([r, g, b], axis=2)), 0, full).astype(pixels.dtype)
    return np.concatenate([colors, pixels[..., 3:]], axis=2)


def from_lab(pixels: Array, icc: bool) -> Array:
    """sRGB of L*a*b* under D50, and what is beyond it, in the samples' own bits.

    icc: differences have their zero in the middle, rather than being signed.
    """
    kind = pixels.dtype
    half = 1 << (8 * kind.itemsize - 1)
    one = half / 128  # of a difference
    lightness = pixels[..., 0] * (100 / np.iinfo(kind).max)
    if icc:
        differences = (pixels[..., 1:3].astype(np.float64) - half) / one
    else:
        signed = np.ascontiguousarray(pixels[..., 1:3]).view(f"i{kind.itemsize}")
        differences = signed.astype(np.float64) / one
    y = (lightness + 16) / 116
    parts = np.stack([y + differences[..., 0] / 500, y, y - differences[..., 1] / 200], axis=2)
    above = parts > 6 / 29
    xyz = np.where(above, parts**3, 3 * (6 / 29) ** 2 * (parts - 4 / 29)) * _D50
    light = np.clip(from_linear(xyz @ _FROM_D50.T), 0, 1)
    colors = np.rint(light * np.iinfo(kind).max).astype(kind)
    return np.concatenate([colors, pixels[..., 3:]], axis=2)


def divided_by_opacity(pixels: Array, colors: int) -> Array:
    """Colors that were multiplied by the last channel, as they were before."""
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else 1.0
    opacity = pixels[..., -1:].astype(np.float64)
    shape = (*pixels.shape[:2], colors)
    found = np.divide(
        pixels[..., :colors].astype(np.float64) * full, opacity, where=opacity > 0,
        out=np.zeros(shape),
    )  # fmt: skip
    if pixels.dtype.kind in "ui":
        found = np.rint(np.minimum(found, full))
    pixels[..., :colors] = found
    return pixels
