"""Color maps: sequential ones, and coolwarm and RdBu with zero in the middle.

The tables are in colormaps.csv, whose sources and licenses tests/make_colormaps.py names.
"""

import os
from functools import cache

import numpy as np
import numpy.typing as npt

from imgconv.arguments import not_among
from imgconv.errors import UsageError
from imgconv.typing import Array

NAMES = (
    "gray", "viridis", "magma", "inferno", "plasma", "cividis", "turbo", "coolwarm", "RdBu",
)  # fmt: skip
DIVERGING = ("coolwarm", "RdBu")
# Of NaN: far from the colors of all maps.
NOT_A_NUMBER = (255, 0, 255)


def check_colormap(name: str) -> str:
    """Return the name. Raises UsageError for an unknown color map."""
    if name not in NAMES:
        raise UsageError(f"color map {name!r}: {not_among(name, NAMES)}")
    return name


@cache
def table(name: str) -> npt.NDArray[np.uint8]:
    """The 256 sRGB colors of a map, (256, 3); entry 128 of a diverging one is its middle.

    Raises UsageError for an unknown name.
    """
    if check_colormap(name) == "gray":
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    place = os.path.join(os.path.dirname(__file__), "colormaps.csv")
    with open(place, encoding="ascii") as file:
        lines = file.read().splitlines()
    column = lines[0].split(",").index(name)
    colors = bytes.fromhex("".join(line.split(",")[column] for line in lines[1:]))
    return np.frombuffer(colors, np.uint8).reshape(256, 3)


def default_rule(name: str) -> str:
    """The `--scale` that uses all of a map: `symmetric` around zero, or `minmax`."""
    return "symmetric" if name in DIVERGING else "minmax"


def colorize(samples: Array, name: str, values: Array | None = None) -> npt.NDArray[np.uint8]:
    """Colors (H, W, 3) of bytes (H, W) or (H, W, 1).

    values: what the bytes were scaled from; NaN has the color NOT_A_NUMBER, which no map holds.
    """
    colors: npt.NDArray[np.uint8] = table(name)[samples.reshape(samples.shape[:2])]
    if values is not None and values.dtype.kind == "f":
        colors[np.isnan(values.reshape(samples.shape[:2]))] = NOT_A_NUMBER
    return colors
