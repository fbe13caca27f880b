"""A kernel as a heat map: blue negative, light gray zero, red positive."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imgconv.io.scaling import scale_map
from imgconv.viz.colormaps import colorize
from imgconv.viz.lettering import drawable, font

_INK = (40, 40, 40)
_GAP = 12
_LABEL = 18


def draw(
    weights: npt.NDArray[np.float64], divisor: float = 1.0, labels: Sequence[str] = ()
) -> npt.NDArray[np.uint8]:
    """Return an (H, W, 3) picture; filters of a bank side by side on one color scale.

    weights: (C_out, C_in/groups, kH, kW), before they are divided by `divisor`, as the numbers in
    the cells say. labels: one a filter.
    """
    from PIL import Image, ImageDraw

    planes = (weights / divisor).reshape(-1, *weights.shape[2:])
    kh, kw = planes.shape[1:]
    columns = int(np.ceil(np.sqrt(len(planes))))
    rows = -(-len(planes) // columns)
    cell = int(np.clip(720 // (max(kh, kw) * columns), 2, 56))
    label = _LABEL if labels else 0
    width = columns * (kw * cell + _GAP) + _GAP
    height = rows * (kh * cell + _GAP + label) + _GAP
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    letters = font(max(9, cell // 4))
    largest = max(float(np.abs(planes).max()), 1e-300)
    for number, plane in enumerate(planes):
        left = _GAP + number % columns * (kw * cell + _GAP)
        top = _GAP + number // columns * (kh * cell + _GAP + label)
        if label and number < len(labels):
            pen.text((left, top), drawable(labels[number]), fill=_INK, font=font(12))
        samples, _ = scale_map(plane, "symmetric", 1.0, np.dtype(np.uint8), (-largest, largest))
        block = colorize(samples, "coolwarm").repeat(cell, axis=0).repeat(cell, axis=1)
        picture.paste(Image.fromarray(block), (left, top + label))
        end = (left + kw * cell, top + label + kh * cell)
        pen.rectangle((left - 1, top + label - 1, *end), outline=(150, 150, 150))
        if cell >= 36:
            for (row, column), value in np.ndenumerate(plane * divisor):
                middle = (left + (column + 0.5) * cell, top + label + (row + 0.5) * cell)
                ink = (255, 255, 255) if abs(plane[row, column]) > 0.6 * largest else _INK
                pen.text(middle, f"{value:.3g}", fill=ink, font=letters, anchor="mm")
    return np.asarray(picture)
