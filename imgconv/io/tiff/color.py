"""What the samples of a TIFF become: gray, RGB, or bands as they are.

Sources: TIFF Revision 6.0 (Adobe, 1992), sections 5, 16, 18, 21 and 23; Adobe Photoshop TIFF
Technical Notes (2002) for ICC L*a*b*; IEC 61966-2-1 for sRGB.
"""

from typing import TYPE_CHECKING

import numpy as np

from imgconv.errors import ImageError
from imgconv.io.color import from_linear
from imgconv.typing import Array

if TYPE_CHECKING:
    from tifffile import TiffTags

_COEFFICIENTS, _REFERENCE = 529, 532
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


def from_ycbcr(pixels: Array, tags: "TiffTags", name: str) -> Array:
    """RGB of luma and two differences, and what is beyond them. Raises ImageError."""
    if pixels.dtype.kind != "u":
        raise ImageError(f"{name}: TIFF of YCbCr in {pixels.dtype} is not read")
    full = float(np.iinfo(pixels.dtype).max)
    middle = (full + 1) / 2
    red, green, blue = _fractions(tags.valueof(_COEFFICIENTS), 3) or (0.299, 0.587, 0.114)
    low = _fractions(tags.valueof(_REFERENCE), 6) or (0, full, middle, full, middle, full)
    spans = [high - least for least, high in zip(low[::2], low[1::2], strict=True)]
    if not (green and all(spans)):
        raise ImageError(f"{name}: broken TIFF: its YCbCr has no scale")
    luma = (pixels[..., 0] - low[0]) * (full / spans[0])
    cb, cr = ((pixels[..., i] - low[2 * i]) * ((full - middle) / spans[i]) for i in (1, 2))
    r = luma + (2 - 2 * red) * cr
    b = luma + (2 - 2 * blue) * cb
    g = (luma - red * r - blue * b) / green
    colors = np.clip(np.rint(np.stack([r, g, b], axis=2)), 0, full).astype(pixels.dtype)
    return np.concatenate([colors, pixels[..., 3:]], axis=2)


def _fractions(values: object, count: int) -> tuple[float, ...] | None:
    """A tag of `count` fractions, if it is one."""
    if not isinstance(values, tuple) or len(values) != 2 * count or not all(values[1::2]):
        return None
    return tuple(a / b for a, b in zip(values[::2], values[1::2], strict=True))


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
