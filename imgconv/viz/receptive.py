"""What one unit sees, drawn on the image: the theoretical field and the effective one."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgconv.typing import Array
from imgconv.viz.colormaps import table
from imgconv.viz.layout import Layout
from imgconv.viz.sheet import Tile, draw

SIDE = 448
_LINE = (217, 72, 15)
_EDGE = (255, 255, 255)
_DARK = 0.35

Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Spread:
    """Where the weights of a field lie: middle (row, column) and twice the deviation each way."""

    middle: tuple[float, float]
    reach: tuple[float, float]

    def region(self, size: tuple[int, int]) -> Region:
        """(top, bottom, left, right), inclusive, of all within the reach, cut at the edges."""
        sides = []
        for middle, reach, length in zip(self.middle, self.reach, size, strict=True):
            sides.append(max(0, int(np.ceil(middle - reach))))
            sides.append(min(length - 1, int(np.floor(middle + reach))))
        return sides[0], sides[1], sides[2], sides[3]


def spread_of(weights: Array) -> Spread:
    """Mean and two standard deviations of a field's weights (H, W)."""
    total = float(weights.sum(dtype=np.float64)) or 1.0
    middles, reaches = [], []
    for axis in (0, 1):
        along = weights.sum(axis=1 - axis, dtype=np.float64) / total
        places = np.arange(len(along))
        middle = float(along @ places)
        middles.append(middle)
        reaches.append(2 * float(np.sqrt(along @ np.square(places - middle))))
    return Spread((middles[0], middles[1]), (reaches[0], reaches[1]))


def draw_fields(
    shown: npt.NDArray[np.uint8],
    region: Region,
    weights: Array | None,
    title: str,
) -> npt.NDArray[np.uint8]:
    """Return a picture of the network's input (H, W, 1 or 3) with a unit's region on it.

    With the effective field's weights (H, W), a second picture shows them over the image.
    """
    factor = max(1, SIDE // max(shown.shape[:2]))
    colors = shown if shown.shape[2] == 3 else np.repeat(shown, 3, axis=2)
    image = _grown(colors, factor).astype(np.float64)
    seen = image * _DARK
    top, bottom, left, right = (factor * place for place in region)
    inside = np.s_[top : bottom + factor, left : right + factor]
    seen[inside] = image[inside]
    tiles = [_tile(f"{title}: sees {_size(region)}", _outlined(seen, region, factor), region)]
    if weights is not None:
        tiles.append(_effective(image, region, weights, factor))
    return draw(tiles, Layout(columns=len(tiles), tile=max(image.shape[:2])))


def _effective(image: Array, region: Region, weights: Array, factor: int) -> Tile:
    # The root makes the tails of the bell visible.
    strength = np.sqrt(weights / (float(weights.max()) or 1.0))
    index = np.rint(_grown(strength, factor) * 255).astype(np.uint8)
    heat = table("magma")[index].astype(np.float64)
    cover = 0.25 + 0.6 * index[..., None] / 255
    mixed = image * _DARK * (1 - cover) + heat * cover
    spread = spread_of(weights).region((weights.shape[0], weights.shape[1]))
    picture = _outlined(_outlined(mixed, region, factor, _EDGE), spread, factor)
    return _tile(f"effective: most within {_size(spread)} (2 deviations)", picture, spread)


def _tile(label: str, picture: Array, region: Region) -> Tile:
    note = f"rows {region[0]} to {region[1]}, columns {region[2]} to {region[3]}"
    return Tile(label, np.rint(picture).astype(np.uint8), note)


def _size(region: Region) -> str:
    return f"{region[1] - region[0] + 1}×{region[3] - region[2] + 1}"


def _grown(plane: Array, factor: int) -> Array:
    return plane.repeat(factor, axis=0).repeat(factor, axis=1)


def _outlined(
    picture: Array, region: Region, factor: int, color: tuple[int, int, int] = _LINE
) -> Array:
    """The picture with the inner edge of a region, two pixels wide."""
    out = picture.copy()
    top, left = factor * region[0], factor * region[2]
    bottom, right = factor * (region[1] + 1), factor * (region[3] + 1)
    for thick in range(2):
        t, b, x, y = top + thick, bottom - 1 - thick, left + thick, right - 1 - thick
        if t > b or x > y:
            break
        out[[t, b], x : y + 1] = color
        out[t : b + 1, [x, y]] = color
    return out
