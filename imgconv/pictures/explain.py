"""One convolution or pooling, output by output, for people and for programs.

The numbers are worked out here in plain Python, one window at a time, because every product is
shown; the grids are small.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute.padding import source_indices
from imgconv.errors import LimitError, ShapeError
from imgconv.shapes import NO_PADDING, Pair, Sides, output_size

Grid = npt.NDArray[np.float64]

MAX_OUTPUTS = 4096
RULES = ("conv", "max", "avg", "min")


@dataclass(frozen=True)
class Cell:
    """One tap: its place in the padded grid, the value there and the weight (1 for pooling)."""

    row: int
    column: int
    value: float
    weight: float


@dataclass(frozen=True)
class Step:
    """How one output came about."""

    row: int
    column: int
    cells: tuple[Cell, ...]
    result: float


@dataclass(frozen=True)
class Explanation:
    """A whole operation: the padded input (H + pads, W + pads), the output and every step."""

    rule: str
    source: Grid
    padded: Grid
    sides: Sides
    weights: Grid
    output: Grid
    steps: tuple[Step, ...]
    stride: Pair
    dilation: Pair
    mode: str

    def inside(self, row: int, column: int) -> bool:
        """Whether a place of the padded grid is part of the input itself."""
        height, width = self.source.shape
        return bool(0 <= row - self.sides.top < height and 0 <= column - self.sides.left < width)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready lists; steps name rows and columns of the padded grid."""
        return {
            "operation": self.rule,
            "input": self.source.tolist(),
            "kernel": self.weights.tolist() if self.rule == "conv" else None,
            "kernel_size": list(self.weights.shape),
            "stride": list(self.stride),
            "dilation": list(self.dilation),
            "padding": self.sides._asdict(),
            "padding_mode": self.mode,
            "padded": self.padded.tolist(),
            "output": self.output.tolist(),
            "steps": [
                {
                    "at": [step.row, step.column],
                    "cells": [[c.row, c.column, c.value, c.weight] for c in step.cells],
                    "result": step.result,
                }
                for step in self.steps
            ],
        }


def explain(
    source: Grid,
    weights: Grid,
    rule: str = "conv",
    stride: Pair = (1, 1),
    sides: Sides = NO_PADDING,
    dilation: Pair = (1, 1),
    mode: str = "zeros",
    pad_value: float = 0.0,
    flip: bool = False,
) -> Explanation:
    """Work out `rule` over a (H, W) grid with a (kH, kW) kernel (its values matter to conv only).

    Padding never wins a max or min pooling and is not counted by avg, as the window shows.
    Raises ShapeError for sizes that do not fit and LimitError beyond MAX_OUTPUTS outputs.
    """
    if source.ndim != 2 or weights.ndim != 2:
        raise ShapeError(
            f"explain: expected one-channel grids, got input {source.shape} "
            f"and kernel {weights.shape}"
        )
    if flip:
        weights = weights[::-1, ::-1]
    size = output_size((source.shape[0], source.shape[1]), weights.shape, stride, sides, dilation)
    if size[0] * size[1] > MAX_OUTPUTS:
        raise LimitError(
            f"explain: {size[0]}×{size[1]} outputs, expected at most {MAX_OUTPUTS}; "
            "take a smaller input or --step"
        )
    padded = _pad(source, sides, mode, pad_value)
    outside = np.ones(padded.shape, bool)
    outside[sides.top : sides.top + source.shape[0], sides.left : sides.left + source.shape[1]] = (
        False
    )
    steps = tuple(_steps(padded, outside, weights, rule, stride, dilation, size))
    output = np.array([step.result for step in steps]).reshape(size)
    return Explanation(rule, source, padded, sides, weights, output, steps, stride, dilation, mode)


def _pad(source: Grid, sides: Sides, mode: str, value: float) -> Grid:
    fill = 0.0 if mode == "zeros" else value
    rows = source_indices(source.shape[0], sides.top, sides.bottom, mode)
    columns = source_indices(source.shape[1], sides.left, sides.right, mode)
    padded = source[np.ix_(rows, columns)]
    padded[rows < 0, :] = fill
    padded[:, columns < 0] = fill
    return padded


def _steps(
    padded: Grid,
    outside: npt.NDArray[np.bool_],
    weights: Grid,
    rule: str,
    stride: Pair,
    dilation: Pair,
    size: Pair,
) -> Iterator[Step]:
    for row in range(size[0]):
        for column in range(size[1]):
            cells = []
            for m in range(weights.shape[0]):
                for n in range(weights.shape[1]):
                    y, x = row * stride[0] + m * dilation[0], column * stride[1] + n * dilation[1]
                    if rule == "conv" or not outside[y, x]:
                        weight = float(weights[m, n]) if rule == "conv" else 1.0
                        cells.append(Cell(y, x, float(padded[y, x]), weight))
            yield Step(row, column, tuple(cells), _result(rule, cells))


def _result(rule: str, cells: list[Cell]) -> float:
    values = [cell.value for cell in cells]
    if rule == "conv":
        return sum(cell.value * cell.weight for cell in cells)
    if rule == "max":
        return max(values)
    if rule == "min":
        return min(values)
    return sum(values) / len(values)


def number(value: float) -> str:
    """A value as a person writes it: 12, −0.25, 1.333; a minus sign, no trailing zeros."""
    return f"{value:.4g}".replace("-", "−")


def formula(explanation: Explanation, step: Step) -> str:
    """The arithmetic of one step, such as `3·0 + 3·1 + 2·2 = 7`."""
    result = number(step.result)
    if explanation.rule == "conv":
        terms = [f"{number(c.value)}·{number(c.weight)}" for c in step.cells]
        return " + ".join(terms) + f" = {result}"
    values = ", ".join(number(cell.value) for cell in step.cells)
    if explanation.rule == "avg":
        total = number(sum(cell.value for cell in step.cells))
        return f"mean({values}) = {total} / {len(step.cells)} = {result}"
    return f"{explanation.rule}({values}) = {result}"


def as_text(explanation: Explanation, step: Step, color: bool) -> str:
    """One step for a terminal: the padded input with its window, the kernel, the output so far.

    With `color` the window is in reverse video and padding is dim; without, the window is
    in [brackets] and padding in (parentheses).
    """
    window = {(cell.row, cell.column) for cell in step.cells}
    done = _position(explanation, step) + 1
    left = _input_lines(explanation, window, color)
    blocks = [("input", left)]
    if explanation.rule == "conv":
        blocks.append(("kernel", _plain_lines(explanation.weights)))
    texts = [number(value) for value in explanation.output.flat]
    flat = [text if i < done else "·" for i, text in enumerate(texts)]
    width = max(len(text) for text in texts)
    columns = explanation.output.shape[1]
    lines = [
        " ".join(text.rjust(width) for text in flat[start : start + columns])
        for start in range(0, len(flat), columns)
    ]
    blocks.append(("output", lines))
    heading = f"output ({step.row}, {step.column}): {formula(explanation, step)}"
    return "\n".join([heading, *_beside(blocks)])


def _position(explanation: Explanation, step: Step) -> int:
    return step.row * int(explanation.output.shape[1]) + step.column


def _plain_lines(grid: Grid) -> list[str]:
    texts = [[number(value) for value in row] for row in grid]
    width = max(len(text) for row in texts for text in row)
    return [" ".join(text.rjust(width) for text in row) for row in texts]


def _input_lines(explanation: Explanation, window: set[tuple[int, int]], color: bool) -> list[str]:
    grid = explanation.padded
    width = max(len(number(value)) for value in grid.flat)
    lines = []
    for row in range(grid.shape[0]):
        parts = []
        for column in range(grid.shape[1]):
            text = number(grid[row, column]).rjust(width)
            chosen = (row, column) in window
            padding = not explanation.inside(row, column)
            if color:
                codes = ["7"] * chosen + ["2"] * padding
                parts.append(f"\x1b[{';'.join(codes)}m {text} \x1b[0m" if codes else f" {text} ")
            else:
                marks = "[]" if chosen else "()" if padding else "  "
                parts.append(f"{marks[0]}{text}{marks[1]}")
        lines.append("".join(parts))
    return lines


def _beside(blocks: list[tuple[str, list[str]]]) -> list[str]:
    """Lay blocks of lines side by side under their titles."""
    height = max(len(lines) for _, lines in blocks)
    widths = [max([len(title), *(_visible(line) for line in lines)]) for title, lines in blocks]
    rows = ["   ".join(title.ljust(w) for (title, _), w in zip(blocks, widths, strict=True))]
    for i in range(height):
        parts = []
        for (_, lines), width in zip(blocks, widths, strict=True):
            line = lines[i] if i < len(lines) else ""
            parts.append(line + " " * (width - _visible(line)))
        rows.append("   ".join(parts))
    return [row.rstrip() for row in rows]


def _visible(line: str) -> int:
    """Length of a line without its escape sequences."""
    length, escaped = 0, False
    for character in line:
        if character == "\x1b":
            escaped = True
        elif not escaped:
            length += 1
        elif character == "m":
            escaped = False
    return length
