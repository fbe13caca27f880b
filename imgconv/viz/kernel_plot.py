"""A kernel as a heat map: blue negative, light gray zero, red positive, and its numbers.

Filters that read red, green and blue are shown in color instead, as those of first layers are.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imgconv.io.scaling import scale_map
from imgconv.viz.colormaps import colorize
from imgconv.viz.filters import filter_picture
from imgconv.viz.lettering import Font, fit, font

if TYPE_CHECKING:
    from PIL import ImageDraw

    from imgconv.kernels.kernel import Kernel

_INK = (40, 40, 40)
_DIM = (110, 116, 128)
_FRAME = (150, 150, 150)
_GAP = 12
_LINE = 18
# Sides of a cell: with a number in it, which then can be read, and the bounds without.
_NUMBERED = 48
_CELL = (2, 40)
_WIDEST = 3200  # pixels, of a picture with numbers
_WIDTH = 720  # which one without nears


def draw(kernel: "Kernel") -> npt.NDArray[np.uint8]:
    """Return an (H, W, 3) picture; all filters of a bank on one color scale.

    Filters of one channel, or of three as colors, stand side by side with their captions; those of
    other counts in one row each, channel by channel. The numbers in the cells are the weights
    before they are divided.
    """
    from PIL import Image, ImageDraw

    count, channels, kh, kw = kernel.weights.shape
    colors = channels == 3
    planes = kernel.effective_weights()
    columns = channels if channels != 1 and not colors else int(np.ceil(np.sqrt(count)))
    tiles = count if channels == 1 or colors else count * channels
    rows = -(-tiles // columns)
    numbered = (
        not colors
        and columns * (kw * _NUMBERED + _GAP) <= _WIDEST
        and (rows * kh * _NUMBERED <= _WIDEST)
    )
    cell = _NUMBERED if numbered else int(np.clip(_WIDTH // (max(kh, kw) * columns), *_CELL))
    letters = font(12)
    title = f"{kernel.name}  {kh}×{kw}" + (
        f", divided by {kernel.divisor:g}" if kernel.divisor != 1 else ""
    )
    label = _LINE if tiles > 1 else 0
    wide, tall = kw * cell, kh * cell
    width = max(columns * (wide + _GAP) + _GAP, 240)
    height = _LINE + rows * (tall + _GAP + label) + _GAP
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    pen.text((_GAP, 4), fit(title, width - 2 * _GAP, pen, letters), fill=_DIM, font=letters)
    largest = max(float(np.abs(planes).max()), 1e-300)
    for number in range(tiles):
        left = _GAP + number % columns * (wide + _GAP)
        top = _LINE + _GAP + number // columns * (tall + _GAP + label) + label
        if label:
            text = kernel.caption(number if tiles == count else number // channels)
            if tiles != count:
                text = f"{text} channel {number % channels}".strip()
            pen.text((left, top - label), fit(text, wide, pen, letters), fill=_INK, font=letters)
        if colors:
            block = np.rint(filter_picture(planes[number]) * 255).astype(np.uint8)
        else:
            plane = planes.reshape(-1, kh, kw)[number]
            samples, _ = scale_map(plane, "symmetric", 1.0, np.dtype(np.uint8), (-largest, largest))
            block = colorize(samples, "coolwarm")
        block = block.repeat(cell, axis=0).repeat(cell, axis=1)
        picture.paste(Image.fromarray(block), (left, top))
        pen.rectangle((left - 1, top - 1, left + wide, top + tall), outline=_FRAME)
        if numbered:
            _write(pen, plane * kernel.divisor, (left, top), letters, largest * kernel.divisor)
    return np.asarray(picture)


def _write(
    pen: "ImageDraw.ImageDraw", numbers: npt.NDArray[np.float64], corner: tuple[int, int],
    letters: Font, largest: float,
) -> None:  # fmt: skip
    """Write numbers into their cells, with as many digits as fit."""
    left, top = corner
    for (row, column), value in np.ndenumerate(numbers):
        texts = (f"{value + 0:.{digits}g}" for digits in (4, 3, 2, 1))
        text = next((t for t in texts if pen.textlength(t, letters) <= _NUMBERED - 6), "…")
        middle = (left + (column + 0.5) * _NUMBERED, top + (row + 0.5) * _NUMBERED)
        ink = (255, 255, 255) if abs(value) > 0.6 * abs(largest) else _INK
        pen.text(middle, text, fill=ink, font=letters, anchor="mm")
