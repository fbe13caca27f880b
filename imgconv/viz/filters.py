"""The filters of a convolution as pictures: in color where they read red, green and blue."""

import numpy as np
import numpy.typing as npt

from imgconv.typing import Array
from imgconv.viz.colormaps import colorize
from imgconv.viz.layout import Layout
from imgconv.viz.sheet import Tile, draw, range_note


def filter_picture(weights: Array) -> Array:
    """A filter (C, kH, kW): for C = 3 colors in 0…1, gray being 0; else its mean over channels."""
    if len(weights) != 3:
        return np.asarray(weights.mean(axis=0))
    largest = float(np.abs(weights).max()) or 1.0
    return np.asarray((weights / largest * 0.5 + 0.5).transpose(1, 2, 0))


def draw_filters(
    weights: Array, layout: Layout, reverse: bool = False
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """Return the sheet of a layer's filters (C_out, C_in, kH, kW), each on its own scale.

    reverse: the channels are blue, green and red. Of other channels than three the mean is shown,
    blue below zero and red above.
    """
    digits = len(str(len(weights) - 1))
    tiles = []
    for number, bank in enumerate(weights):
        grid = filter_picture(bank[::-1] if reverse and len(bank) == 3 else bank)
        if grid.ndim == 2:
            largest = float(np.abs(grid).max()) or 1.0
            index = np.rint((grid / largest + 1) * 127.5).astype(np.uint8)
            picture = colorize(index, "coolwarm")
        else:
            picture = np.asarray(np.rint(grid * 255), np.uint8)
        tiles.append(Tile(f"{number:0{digits}d}", picture, range_note(bank)))
    return draw(tiles, layout)
