"""Make imgconv/viz/colormaps.csv: 256 colors per map, as hexadecimal sRGB.

    pip install matplotlib==3.11.2 && python -m tests.make_colormaps

The tables are those that matplotlib publishes:

- viridis, magma, inferno, plasma: N. Smith, S. van der Walt, E. Firing; CC0.
- cividis: J. Nuñez, C. Anderton, R. Renslow, "Optimizing colormaps with consideration for color
  vision deficiency", PLOS ONE 2018; with matplotlib, under its license.
- turbo: A. Mikhailov, Google 2019; Apache License 2.0.
- RdBu: includes color specifications and designs developed by Cynthia Brewer
  (https://colorbrewer.org/); Apache-style license.

coolwarm is worked out by the formula of K. Moreland, "Diverging Color Maps for Scientific
Visualization", ISVC 2009, which walks from blue through light gray to red in his Msh space, a polar
form of CIELAB.
"""

from pathlib import Path

import numpy as np
from matplotlib import colormaps

BLUE, RED = (59, 76, 192), (180, 4, 38)
MIDDLE = 88.0
# Zero is entry 128, so that a byte image whose middle gray is 128 keeps it; entry 0 repeats 1.
CENTER = 128
LISTED = ("viridis", "magma", "inferno", "plasma", "cividis", "turbo")

# IEC 61966-2-1: linear sRGB to CIE XYZ, and its white point.
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(axis=1)


def to_msh(rgb: tuple[int, int, int]) -> np.ndarray:
    """Magnitude, saturation angle and hue of an sRGB color."""
    values = np.array(rgb) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    scaled = TO_XYZ @ linear / WHITE
    roots = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    lab = np.array([116 * roots[1] - 16, 500 * (roots[0] - roots[1]), 200 * (roots[1] - roots[2])])
    length = np.linalg.norm(lab)
    return np.array([length, np.arccos(lab[0] / length), np.arctan2(lab[2], lab[1])])


def to_rgb(msh: np.ndarray) -> np.ndarray:
    """The inverse of to_msh, as bytes."""
    length, angle, hue = msh
    lightness, a, b = length * np.array(
        [np.cos(angle), np.sin(angle) * np.cos(hue), np.sin(angle) * np.sin(hue)]
    )
    y = (lightness + 16) / 116
    roots = np.array([y + a / 500, y, y - b / 200])
    scaled = np.where(roots > 0.206893, roots**3, (roots - 16 / 116) / 7.787)
    linear = np.clip(np.linalg.solve(TO_XYZ, scaled * WHITE), 0, 1)
    values = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return np.rint(values * 255).astype(np.uint8)


def half(end: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` colors from the light gray middle, left out, to a saturated end.

    The unsaturated end takes a hue turned away, as the paper's AdjustHue does, so that lightness
    changes evenly.
    """
    turn = end[1] * np.sqrt(MIDDLE**2 - end[0] ** 2) / (end[0] * np.sin(end[1]))
    hue = end[2] + (turn if end[2] > -np.pi / 3 else -turn)
    middle = np.array([MIDDLE, 0.0, hue])
    return [to_rgb(middle + (end - middle) * step / count) for step in range(1, count + 1)]


def coolwarm() -> np.ndarray:
    """(256, 3) bytes with the neutral color at CENTER."""
    blues, reds = half(to_msh(BLUE), CENTER - 1), half(to_msh(RED), 255 - CENTER)
    middle = to_rgb(np.array([MIDDLE, 0.0, 0.0]))
    return np.array([blues[-1], *blues[::-1], middle, *reds])


def published(name: str, count: int) -> np.ndarray:
    """`count` colors of a map of matplotlib's, as bytes."""
    colors = colormaps[name].resampled(count)(np.arange(count))[:, :3]
    return np.rint(colors * 255).astype(np.uint8)


def main() -> None:
    tables = {name: published(name, 256) for name in LISTED}
    tables["coolwarm"] = coolwarm()
    # An odd count has the neutral color of RdBu in its middle, which then is entry CENTER.
    colors = published("RdBu", 255)
    tables["RdBu"] = np.concatenate([colors[:1], colors])
    rows = [",".join(bytes(table[i]).hex() for table in tables.values()) for i in range(256)]
    path = Path(__file__).parents[1] / "imgconv" / "viz" / "colormaps.csv"
    path.write_text("\n".join([",".join(tables), *rows]) + "\n")


if __name__ == "__main__":
    main()
