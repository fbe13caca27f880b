"""A tile of the padded input as floats: what every convolution loop reads.

A tile holds, for each plane, the padded rows and columns that a block of outputs sees, converted
once to the type of the sums. Borders come from index maps, so no padded copy of the input exists;
only tiles (a few hundred kB, in the second-level cache) do.

A plane is one channel, or all channels of an interleaved image (`run` elements a pixel: a
depthwise filter is then one long row with tap distance `run`). With a horizontal stride s the
pixels x ≡ p (mod s) form a plane of their own, so strided outputs are computed directly from
contiguous elements.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute.jit import Helper

# Places in the `geometry` array of a loop; lengths in elements unless said.
(
    ROW_STRIDE,  # of the source
    PIXEL_STRIDE,  # of the source
    RUN,  # elements a pixel of a plane has
    PLANES,
    MAPS,
    OUT_WIDTH,  # pixels
    OUT_MAP,  # distance of two output maps
    OUT_ROW,  # distance of two output rows
    STRIDE_Y,
    STEP,  # source pixels from one pixel of a plane to the next (the horizontal stride)
    NEAR,  # padded columns before the source's first
    WIDTH,  # source pixels a row has
    EXTENT,  # padded rows that one output row sees
    SHIFT,  # pixels that a tile has beyond its outputs
    TILE_ROWS,  # output rows a tile
    TILE_WIDTH,  # output pixels a tile
    PITCH,  # distance of two rows of a tile's plane
    PLANE,  # distance of two planes of a tile
    SUMS,  # distance of two rows of sums
    FIELDS,
) = range(20)

TILE_FLOATS = 49152  # 192 kB of float32: with the output's lines it stays in a 512 kB L2


def _convert_row(  # type: ignore[no-untyped-def]
    tile, at, source, line, row, first, count, col_map, geometry, fill
):
    """Write `count` pixels of one padded row, from padded column `first`, to tile[at…].

    line: the source row, or −1 for a row of fill; row: its offset in the source.
    """
    run = geometry[RUN]
    step = geometry[STEP]
    if line < 0:
        for i in range(count * run):
            tile[at + i] = fill
        return
    pixel = geometry[PIXEL_STRIDE]
    near = geometry[NEAR]
    # Pixels a…b − 1 stand inside the source; the others go through the map.
    a = min(max((near - first + step - 1) // step, 0), count)
    b = min(max((near + geometry[WIDTH] - first + step - 1) // step, a), count)
    for side in range(2):
        for i in range(b if side else 0, count if side else a):
            column = col_map[first + i * step]
            for e in range(run):
                place = row + column * pixel + e
                tile[at + i * run + e] = source[place] if column >= 0 else fill
    start = row + (first + a * step - near) * pixel
    at += a * run
    if pixel * step == run:
        for i in range((b - a) * run):
            tile[at + i] = source[start + i]
    elif run == 1:
        for i in range(b - a):
            tile[at + i] = source[start + i * pixel * step]
    else:
        for i in range(b - a):
            for e in range(run):
                tile[at + i * run + e] = source[start + i * pixel * step + e]


convert_row = Helper(_convert_row)


def _fill_tile(  # type: ignore[no-untyped-def]
    tile, source, start, row_map, col_map, planes, geometry, fill, top, rows, left, width
):
    """Fill a tile: padded rows top…top + rows − 1, `width` pixels from output column `left`.

    start: offset of this unit in the source; planes: (offset, phase) of each plane.
    """
    pitch = geometry[PITCH]
    for q in range(geometry[PLANES]):
        first = left * geometry[STEP] + planes[2 * q + 1]
        for j in range(rows):
            line = row_map[top + j]
            row = start + planes[2 * q] + line * geometry[ROW_STRIDE]
            at = q * geometry[PLANE] + j * pitch
            convert_row(
                tile, at, source, line, row, first, width, col_map, geometry, fill
            )  # fmt: skip


fill_tile = Helper(_fill_tile)


@dataclass
class Job:
    """One convolution, laid out: what to read, which taps, where to write.

    source: any strides; the loops address it from its first element.
    starts_in, starts_out: element offsets of each unit (image and group) in source and out.
    channels: element offset of each input channel of a unit; with run > 1 there is one.
    row_map, col_map: source row and pixel of each padded row and column (`borders.index_map`).
    weights: float64 (groups, M, channels, kH, kW); unit u uses group u % groups.
    bias: float64 (groups, M). divisor: what the sums are divided by before the bias is added.
    """

    source: npt.NDArray[Any]
    starts_in: list[int]
    channels: list[int]
    row_stride: int
    pixel_stride: int
    run: int
    near: int
    width: int
    row_map: npt.NDArray[np.int64]
    col_map: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    out: npt.NDArray[Any]
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

    @property
    def extent(self) -> tuple[int, int]:
        """Padded rows and columns that one output sees."""
        kh, kw = self.weights.shape[3:]
        return (kh - 1) * self.dilation[0] + 1, (kw - 1) * self.dilation[1] + 1
