"""One convolution or pooling, output by output, for people and for programs.

The numbers are worked out here in plain Python, one window at a time, because every product is
shown; the grids are small.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.errors import LimitError
from imgconv.ops.padding import source_indices
from imgconv.ops.pool_text import Pool
from imgconv.shapes import NO_PADDING, Pair, Sides, output_size, pair
from imgconv.typing import JSON

Grid = npt.NDArray[np.float64]
Places = list[list[int]]

MAX_OUTPUTS = 4096


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
    """A whole operation: the padded input (H + pads, W + pads), the output and every step.

    rule: conv, or a pooling's kind without adaptive- and global-. weights: as they lie on the
    input, after any flip; None for pooling. settings: the operation's parameters by PyTorch's
    names.
    """

    rule: str
    source: Grid
    padded: Grid
    sides: Sides
    weights: Grid | None
    output: Grid
    steps: tuple[Step, ...]
    settings: dict[str, Any]

    def inside(self, row: int, column: int) -> bool:
        """Whether a place of the padded grid is part of the input itself."""
        height, width = self.source.shape
        return bool(0 <= row - self.sides.top < height and 0 <= column - self.sides.left < width)

    def as_dict(self) -> dict[str, JSON]:
        """Everything as JSON-ready lists; steps name rows and columns of the padded grid."""
        return {
            "operation": self.rule,
            "input": self.source.tolist(),
            "kernel": None if self.weights is None else self.weights.tolist(),
            **self.settings,
            "padding": self.sides._asdict(),
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


def explain_conv(
    source: Grid,
    weights: Grid,
    stride: Pair = (1, 1),
    sides: Sides = NO_PADDING,
    dilation: Pair = (1, 1),
    mode: str = "zeros",
    pad_value: float = 0.0,
    flip: bool = False,
    divisor: float = 1.0,
    bias: float = 0.0,
) -> Explanation:
    """Work out a convolution of a (H, W) grid under one (kH, kW) filter.

    Raises ShapeError for sizes that do not fit and LimitError beyond MAX_OUTPUTS outputs.
    """
    if flip:
        weights = weights[::-1, ::-1]
    size = output_size((source.shape[0], source.shape[1]), weights.shape, stride, sides, dilation)
    _check_size(size)
    rows, columns = (
        [[i * stride[axis] + tap * dilation[axis] for tap in range(weights.shape[axis])]
         for i in range(size[axis])]
        for axis in (0, 1)
    )  # fmt: skip
    padded = _pad(source, sides, mode, pad_value)
    steps = []
    for row, column, cells in _windows(padded, rows, columns, weights):
        result = sum(cell.value * cell.weight for cell in cells) / divisor + bias
        steps.append(Step(row, column, cells, result))
    settings = {
        "kernel_size": list(weights.shape), "stride": list(stride), "dilation": list(dilation),
        "padding_mode": mode, "flip": flip, "divisor": divisor, "bias": bias,
    }  # fmt: skip
    output = np.array([step.result for step in steps]).reshape(size)
    return Explanation("conv", source, padded, sides, weights, output, tuple(steps), settings)


def explain_pool(source: Grid, pool: Pool) -> Explanation:
    """Work out a pooling of a (H, W) grid: any kind that `--pool` takes.

    Padding never wins a max or min pooling; by default it counts as zeros in an average, as in
    PyTorch. Raises ShapeError for sizes that do not fit and LimitError beyond MAX_OUTPUTS outputs.
    """
    size = np.shape(pool(source[None]))[1:]
    _check_size((size[0], size[1]))
    rule = pool.kind.rpartition("-")[2]
    sides = pool.window[2] if pool.window else NO_PADDING
    padded = _pad(source, sides, "zeros", 0.0)
    counted = rule == "lp" or (rule == "avg" and pool.options.get("count_include_pad", True))
    places = []
    for axis in (0, 1):
        near = 0 if counted else sides[2 * axis]
        far = padded.shape[axis] if counted else near + source.shape[axis]
        found = _pool_places(pool, axis, source.shape[axis], size[axis])
        places.append([[i for i in taps if near <= i < far] for taps in found])
    steps = []
    for row, column, cells in _windows(padded, places[0], places[1], None):
        result = _pooled(rule, pool.options, [cell.value for cell in cells])
        if rule == "lp":
            whole, left = whole_share(pool.options["kernel_size"], cells)
            result *= (whole / left) ** (1 / pool.options["norm_type"])
        steps.append(Step(row, column, cells, result))
    output = np.array([step.result for step in steps]).reshape(size)
    settings = {"kind": pool.kind, **pool.options}
    settings.pop("padding", None)
    return Explanation(rule, source, padded, sides, None, output, tuple(steps), settings)


def _pool_places(pool: Pool, axis: int, length: int, count: int) -> Places:
    """The padded positions of every output's window along an axis."""
    if pool.window:
        kernel, stride, _, dilation = (part[axis] for part in pool.window)
        return [[i * stride + tap * dilation for tap in range(kernel)] for i in range(count)]
    return [list(range(i * length // count, -(-(i + 1) * length // count))) for i in range(count)]


def _pooled(rule: str, options: dict[str, Any], values: list[float]) -> float:
    if rule == "max":
        return max(values, default=-math.inf)
    if rule == "min":
        return min(values, default=math.inf)
    if rule == "range":
        return max(values, default=0.0) - min(values, default=0.0)
    if rule in ("median", "rank"):
        last = len(values) - 1
        taps = math.prod(pair(options["kernel_size"], "kernel_size"))
        place = options["rank"] % taps * last // max(taps - 1, 1) if rule == "rank" else last // 2
        return sorted(values)[place] if values else -math.inf
    if rule == "lp":
        # Powers keep their signs and a negative sum becomes 0, as in torch.nn.functional.lp_pool2d.
        with np.errstate(invalid="ignore"):
            norm = options["norm_type"]
            return float(max(0.0, np.sum(np.power(values, norm))) ** (1 / norm))
    divisor = options.get("divisor_override", len(values))
    return sum(values) / divisor if divisor else math.nan


def whole_share(pool_size: int | Pair, cells: Sequence[Cell]) -> tuple[int, int]:
    """A window's elements and how many of them `ceil_mode` left: what the sum of an Lp pool is
    multiplied with and divided by, as in PyTorch.
    """
    taps = pair(pool_size, "kernel_size")
    return taps[0] * taps[1], len(cells) or 1


def _check_size(size: Pair) -> None:
    if size[0] * size[1] > MAX_OUTPUTS:
        raise LimitError(
            f"explain: {size[0]}×{size[1]} outputs, expected at most {MAX_OUTPUTS}; "
            "take a smaller input"
        )


def _pad(source: Grid, sides: Sides, mode: str, value: float) -> Grid:
    fill = 0.0 if mode == "zeros" else value
    rows = source_indices(source.shape[0], sides.top, sides.bottom, mode)
    columns = source_indices(source.shape[1], sides.left, sides.right, mode)
    padded = source[np.ix_(rows, columns)]
    padded[rows < 0, :] = fill
    padded[:, columns < 0] = fill
    return padded


def _windows(
    padded: Grid, rows: Places, columns: Places, weights: Grid | None
) -> Iterator[tuple[int, int, tuple[Cell, ...]]]:
    for row, down in enumerate(rows):
        for column, across in enumerate(columns):
            yield (
                row,
                column,
                tuple(
                    Cell(
                        y, x, float(padded[y, x]), 1.0 if weights is None else float(weights[m, n])
                    )
                    for m, y in enumerate(down)
                    for n, x in enumerate(across)
                ),
            )
