"""The sliding window of a lecture as an animation."""

from collections.abc import Iterator
from typing import Any

from imgconv.pictures.explain import Explanation, Step, formula, number
from imgconv.pictures.lettering import drawable, font

CELL = 44
GAP = 48
MARGIN = 24
TITLE = 34
FOOT = 44

PAPER = (255, 255, 255)
INK = (32, 36, 44)
RULE = (176, 182, 192)
DIM = (150, 156, 166)
PAD_FILL = (238, 240, 244)
WINDOW = (255, 214, 102)
WEIGHT = (186, 214, 255)
DONE = (214, 240, 214)
NOW = (112, 196, 120)


def frames(explanation: Explanation) -> Iterator[Any]:
    """Yield one Pillow RGB image a step; all have the same size."""
    for step in explanation.steps:
        yield _frame(explanation, step)


def _frame(explanation: Explanation, step: Step) -> Any:
    from PIL import Image, ImageDraw

    shapes = [explanation.padded.shape, explanation.output.shape]
    if explanation.rule == "conv":
        shapes.insert(1, explanation.weights.shape)
    width = 2 * MARGIN + GAP * (len(shapes) - 1) + CELL * sum(shape[1] for shape in shapes)
    tall = max(shape[0] for shape in shapes)
    height = 2 * MARGIN + TITLE + FOOT + CELL * tall
    picture = Image.new("RGB", (max(width, 420), height), PAPER)
    draw = ImageDraw.Draw(picture)
    large, small = font(17), font(15)
    window = {(cell.row, cell.column): cell for cell in step.cells}

    def grid(left: int, title: str, shape: tuple[int, ...], cell: Any) -> int:
        rows, columns = shape
        top = MARGIN + TITLE + (tall - rows) * CELL // 2
        draw.text((left, MARGIN), title, fill=INK, font=small)
        for row in range(rows):
            for column in range(columns):
                text, fill, ink = cell(row, column)
                box = (left + column * CELL, top + row * CELL)
                end = (box[0] + CELL, box[1] + CELL)
                draw.rectangle((*box, *end), fill=fill, outline=RULE)
                middle = (box[0] + CELL / 2, box[1] + CELL / 2)
                draw.text(middle, drawable(text), fill=ink, font=large, anchor="mm")
        return left + columns * CELL + GAP

    def input_cell(row: int, column: int) -> tuple[str, Any, Any]:
        inside = explanation.inside(row, column)
        fill = WINDOW if (row, column) in window else PAPER if inside else PAD_FILL
        return number(explanation.padded[row, column]), fill, INK if inside else DIM

    def kernel_cell(row: int, column: int) -> tuple[str, Any, Any]:
        return number(explanation.weights[row, column]), WEIGHT, INK

    def output_cell(row: int, column: int) -> tuple[str, Any, Any]:
        if (row, column) > (step.row, step.column):
            return "", PAPER, INK
        now = (row, column) == (step.row, step.column)
        return number(explanation.output[row, column]), NOW if now else DONE, INK

    left = grid(MARGIN, "input", explanation.padded.shape, input_cell)
    if explanation.rule == "conv":
        left = grid(left, "kernel", explanation.weights.shape, kernel_cell)
    grid(left, "output", explanation.output.shape, output_cell)
    words = drawable(formula(explanation, step))
    terms, _, result = words.rpartition(" = ")
    kept = terms.split(" + ")
    while len(kept) > 1 and draw.textlength(words, font=small) > picture.width - 2 * MARGIN:
        kept.pop()
        words = " + ".join([*kept, "…"]) + f" = {result}"
    draw.text((MARGIN, height - MARGIN - 18), words, fill=INK, font=small)
    return picture
