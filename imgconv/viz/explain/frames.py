"""The sliding window of a lecture as an animation.

In the window's cells the weights stand small below the values, as V. Dumoulin and F. Visin draw
them ("A guide to convolution arithmetic for deep learning", 2016).
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from imgconv.errors import LimitError
from imgconv.viz.explain.steps import Explanation, Step
from imgconv.viz.explain.text import formula, number, words
from imgconv.viz.lettering import Font, drawable, font

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

CELL = 44
GAP = 48
MARGIN = 24
TITLE = 26
LINE = 20
NARROWEST = 420
# Frames are kept while an animation is encoded.
MAX_PIXELS = 300_000_000

PAPER = (255, 255, 255)
INK = (32, 36, 44)
RULE = (176, 182, 192)
DIM = (128, 134, 146)
PAD_FILL = (238, 240, 244)
WINDOW = (255, 214, 102)
WEIGHT = (186, 214, 255)
WEIGHT_INK = (30, 70, 150)
DONE = (214, 240, 214)
NOW = (112, 196, 120)

Color = tuple[int, int, int]
# A cell's text, its small text, the colors of its ground and its text.
Cell = tuple[str, str, Color, Color]


def frames(
    explanation: Explanation, steps: tuple[Step, ...] | None = None
) -> "Iterator[Image.Image]":
    """Yield one Pillow RGB image per step, of all steps by default; all have the same size.

    Raises LimitError when they have more than MAX_PIXELS pixels together.
    """
    chosen = explanation.steps if steps is None else steps
    drawing = _Drawing(explanation)
    total = drawing.width * drawing.height * len(chosen)
    if total > MAX_PIXELS:
        raise LimitError(
            f"explain: {len(chosen)} frames of {drawing.width}×{drawing.height} pixels, expected "
            f"at most {MAX_PIXELS:,} pixels in all; take a smaller input or --step"
        )
    for step in chosen:
        yield drawing.frame(step)


class _Drawing:
    """What all frames share: sizes, letters and the places of the grids."""

    def __init__(self, explanation: Explanation) -> None:
        from PIL import Image, ImageDraw

        self.explanation = explanation
        self.large, self.small, self.tiny = font(17), font(15), font(11)
        self.shapes = [explanation.padded.shape, explanation.output.shape]
        grids = [explanation.padded, explanation.output]
        if explanation.weights is not None:
            self.shapes.insert(1, explanation.weights.shape)
            grids.append(explanation.weights)
        pen = ImageDraw.Draw(Image.new("L", (1, 1)))
        texts = [drawable(number(value)) for grid in grids for value in grid.flat]
        longest = max(pen.textlength(text, font=self.large) for text in texts)
        self.cell = max(CELL, int(longest) + 12)
        self.tall = max(shape[0] for shape in self.shapes)
        columns = sum(shape[1] for shape in self.shapes)
        self.width = max(NARROWEST, 2 * MARGIN + GAP * (len(self.shapes) - 1) + self.cell * columns)
        wide = self.width - 2 * MARGIN
        texts = [formula(explanation, step) for step in explanation.steps]
        self.lines = max(len(_wrapped(text, wide, pen, self.small)) for text in texts)
        self.said = _wrapped(words(explanation), wide, pen, self.small)
        self.foot = MARGIN + TITLE + self.cell * self.tall + MARGIN // 2
        self.height = self.foot + LINE * (self.lines + len(self.said)) + MARGIN

    def frame(self, step: Step) -> "Image.Image":
        """The picture of one step."""
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", (self.width, self.height), PAPER)
        pen = ImageDraw.Draw(picture)
        explanation = self.explanation
        window = {(cell.row, cell.column): cell for cell in step.cells}

        def input_cell(row: int, column: int) -> Cell:
            inside = explanation.inside(row, column)
            tap = window.get((row, column))
            weight = "" if tap is None or explanation.weights is None else number(tap.weight)
            ground = WINDOW if tap else PAPER if inside else PAD_FILL
            return number(explanation.padded[row, column]), weight, ground, INK if inside else DIM

        def kernel_cell(row: int, column: int) -> Cell:
            assert explanation.weights is not None
            return number(explanation.weights[row, column]), "", WEIGHT, INK

        def output_cell(row: int, column: int) -> Cell:
            if (row, column) > (step.row, step.column):
                return "", "", PAPER, INK
            now = (row, column) == (step.row, step.column)
            return number(explanation.output[row, column]), "", NOW if now else DONE, INK

        named = [("input", input_cell), ("kernel", kernel_cell), ("output", output_cell)]
        if explanation.weights is None:
            del named[1]
        left = MARGIN
        for (title, cell), shape in zip(named, self.shapes, strict=True):
            self._grid(pen, left, title, shape, cell)
            left += shape[1] * self.cell + GAP
        lines = _wrapped(formula(explanation, step), self.width - 2 * MARGIN, pen, self.small)
        for index, line in enumerate([*lines, *[""] * (self.lines - len(lines)), *self.said]):
            ink = INK if index < self.lines else DIM
            pen.text((MARGIN, self.foot + LINE * index), line, fill=ink, font=self.small)
        return picture

    def _grid(
        self, pen: "ImageDraw.ImageDraw", left: int, title: str, shape: tuple[int, ...],
        cell: Callable[[int, int], Cell],
    ) -> None:  # fmt: skip
        side = self.cell
        top = MARGIN + TITLE + (self.tall - shape[0]) * side // 2
        pen.text((left, top - TITLE), title, fill=INK, font=self.small)
        for row in range(shape[0]):
            for column in range(shape[1]):
                text, below, ground, ink = cell(row, column)
                x, y = left + column * side, top + row * side
                pen.rectangle((x, y, x + side, y + side), fill=ground, outline=RULE)
                middle = (x + side / 2, y + side / 2 - 4 * bool(below))
                pen.text(middle, drawable(text), fill=ink, font=self.large, anchor="mm")
                corner = (x + side - 4, y + side - 3)
                small = f"·{below}" if below else ""
                pen.text(corner, drawable(small), fill=WEIGHT_INK, font=self.tiny, anchor="rs")


def _wrapped(text: str, width: float, pen: "ImageDraw.ImageDraw", letters: Font) -> list[str]:
    """The drawable text in lines of at most this width, broken at blanks."""
    lines: list[str] = []
    for word in drawable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and pen.textlength(longer, font=letters) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
