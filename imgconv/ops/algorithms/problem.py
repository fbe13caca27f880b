"""A convolution to compute, and what an algorithm would do about it."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from imgconv.typing import Array, Float32, Float64, Int64

SMALL = 2e7  # multiplications under which a loop of its own saves less than half a millisecond


@dataclass(eq=False, repr=False)
class ConvProblem:
    """One convolution, laid out: what to read, which taps, where to write.

    source: any strides; the loops address it from its first element.
    starts_in, starts_out: element offsets of each unit (image and group) in source and out.
    channels: element offset of each input channel of a unit; with run > 1 there is one.
    row_map, col_map: source row and pixel of each padded row and column (`borders.index_map`).
    weights: float64, or float32 where a float32 bank was given: a network's need not be held
        twice; (groups, M, channels, kH, kW); unit u uses group u % groups.
    residual: what is added to the sums before the activation, laid out as `out`; None for nothing.
    bias: float64 (groups, M). divisor: what the sums are divided by before the bias is added.
    limit: the largest magnitude of samples up to which sums of integers are exact.
    whole: samples and weights are integers, whose sums have to be exact, in floating point.
    middle: padded row and column, from its window's first, of the pixel that an output stands for.
    """

    source: Array
    starts_in: list[int]
    channels: list[int]
    row_stride: int
    pixel_stride: int
    run: int
    near: int
    width: int
    row_map: Int64
    col_map: Int64
    weights: Array
    bias: Float64
    stride: tuple[int, int]
    dilation: tuple[int, int]
    out: Array
    starts_out: list[int]
    out_size: tuple[int, int]
    out_map: int
    out_row: int
    real: str = "f32"
    combine: str = "none"
    activation: str = ""
    fill: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    divisor: float = 1.0
    limit: float = math.inf
    whole: bool = False
    residual: Float32 | None = None
    middle: tuple[int, int] = (0, 0)

    @property
    def extent(self) -> tuple[int, int]:
        """Padded rows and columns that one output sees."""
        kh, kw = self.weights.shape[3:]
        return (kh - 1) * self.dilation[0] + 1, (kw - 1) * self.dilation[1] + 1

    @property
    def outputs(self) -> int:
        """Sums of one map of every group, for one image: no choice may depend on the batch."""
        return self.out_size[0] * self.out_size[1] * self.run * len(self.weights)

    @property
    def is_plain(self) -> bool:
        """Whether it is float32 planes to float32 planes, nothing but a bias and an activation."""
        return (
            self.run == 1 and self.combine == "none" and self.real == "f32"
            and self.divisor == self.gain == 1.0 and self.offset == 0.0
            and self.source.dtype == self.out.dtype == np.float32
            and self.out_row == self.out_size[1]
        )  # fmt: skip

    @property
    def is_layer(self) -> bool:
        """Whether it is like a network's layer, whose weights nobody should look at.

        They may be 400 MB, and looking for zeros, factors and boxes pays only where every kernel
        of one channel meets a large plane.
        """
        _, _, channels, kh, kw = self.weights.shape
        area = self.out_size[0] * self.out_size[1]
        return self.is_plain and (channels > 1 or area * kh * kw < SMALL)

    def is_small(self, taps: int) -> bool:
        """Whether so many taps per output are too few for a loop of its own."""
        return self.outputs * taps < SMALL

    def trim(self) -> None:
        """Cut away the kernel's outer rows and columns in which every weight is zero."""
        used = (self.weights != 0).any(axis=(0, 1, 2))
        rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
        if rows.size == 0:
            rows = columns = np.zeros(1, np.int64)
        self.weights = self.weights[:, :, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        left = int(columns[0]) * self.dilation[1]
        self.row_map = np.ascontiguousarray(self.row_map[int(rows[0]) * self.dilation[0] :])
        self.col_map = np.ascontiguousarray(self.col_map[left:])
        self.near -= left


class Candidate(NamedTuple):
    """What an algorithm would do.

    cost: estimated nanoseconds on one core per output element of one map; the constants were
        measured by `benchmarks/planner.py` with float32 sums, 9 MP of samples, on a busy 2-core
        Xeon with AVX-512 (Emerald Rapids, whole vectors, output already in memory), and only
        their ratios matter.
    reason: what it is and why it applies, for people.
    detail: what `run` needs again.
    """

    algorithm: str
    cost: float
    reason: str
    detail: Any = None


def traffic(job: ConvProblem) -> float:
    """Nanoseconds that reading and writing a sample take at least: 0.8 from float32 to float32."""
    return 0.1 * (job.source.itemsize + job.out.itemsize)
