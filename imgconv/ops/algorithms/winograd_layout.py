"""How Winograd's algorithm is cut into tasks, and what its loop is told of a layer."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.jit import loop as jit
from imgconv.jit.parallel import num_threads
from imgconv.jit.record import array, record
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.algorithms.tiles import round_up
from imgconv.ops.microkernels.winograd import PLACES, SEEN, SIDE, SPARE, TAPS, spread

TILES = 160  # a task: fewer, and transforming the kernels counts; more, and nothing stays near
MAPS = 64  # maps whose transformed kernels are kept at once
VECTOR = 16  # lanes of the widest vector

Floats = Annotated[Any, "f32*"]
Integers = Annotated[Any, "i64*"]


@record
class WinogradGeometry(NamedTuple):
    """A layer: what is read, which maps are computed, how tiles stand in memory.

    weights: numbers of them, of all groups. across: tiles of a row of tiles. columns: room for a
    task's tiles, one after the other. pitch: pixels from one padded row of tiles to the next.
    plain: whether a padded row is fill, a row of the source from column `near` on, and fill; else
    it goes through the column map. padded: padded rows.
    """

    weights: int
    channels: int
    maps: int
    across: int
    columns: int
    pitch: int
    out_height: int
    out_width: int
    out_map: int
    row_stride: int
    pixel_stride: int
    run: int
    step: int
    near: int
    width: int
    padded: int
    plain: int
    fill: float
    floor: float


@record
class WinogradUnit(NamedTuple):
    """An image and group: where it begins in source and output."""

    source: int
    out: int
    group: int


@record
class WinogradTables(NamedTuple):
    """What stands for itself: maps of padded rows and columns, offsets of channels and zeros.

    places: where the transformed pixels of each channel begin, of one place of the 36.
    """

    row_map: Integers
    col_map: Integers
    channels: Integers
    places: Integers
    zeros: Floats


@record
class WinogradScratch(NamedTuple):
    """A thread's memory, and the transformed kernels.

    rows: of the one matrix that is being transformed. pixels: (place, channel, tile). kernels:
    (place, map, channel). sums: (place, panel of tiles, map, tile). marks: of `mark_tiles`.
    """

    rows: Floats
    pixels: Floats
    kernels: Floats
    sums: Floats
    marks: Annotated[Any, "i32*"]


@dataclass
class Layout:
    """A layer's records and its tasks: (unit, first row of tiles, end) of each.

    sizes: numbers of each buffer of `WinogradScratch`.
    """

    geometry: npt.NDArray[np.void]
    units: npt.NDArray[np.void]
    tables: WinogradTables
    sizes: dict[str, int]
    tasks: list[tuple[int, int, int]]

    def __post_init__(self) -> None:
        tables = WinogradTables(*map(jit.address, self.tables))  # a microsecond each
        self.addresses = tables, jit.address(self.units), jit.address(self.geometry)

    @classmethod
    def of(cls, problem: ConvProblem, lanes: int, panel: int) -> "Layout":
        """The layout of a problem for panels of `panel` vectors."""
        groups, maps, channels = problem.weights.shape[:3]
        units = len(problem.starts_in)
        starts = zip(problem.starts_in, problem.starts_out, strict=True)
        across, down = (-(-size // SIDE) for size in reversed(problem.out_size))
        bands = max(1, round(across * down / TILES))
        # A thread that waits costs more than kernels transformed twice.
        bands = max(bands, min(down, -(-num_threads() // units)))
        tall = -(-down // bands)
        geometry = _geometry(problem, across, tall)
        # Columns beyond the last are read as fill, and give outputs that are not stored.
        spare = np.full(max(SIDE * across + 2 - len(problem.col_map), 0), -1, np.int64)
        kept = min(MAPS, maps)
        pitch, columns = geometry.pitch, geometry.columns
        return cls(
            array(geometry),
            array(*(WinogradUnit(*start, unit % groups) for unit, start in enumerate(starts))),
            WinogradTables(
                problem.row_map, np.concatenate([problem.col_map, spare]),
                np.array(problem.channels, np.int64),
                np.arange(channels, dtype=np.int64) * columns, np.zeros(kept, np.float32),
            ),
            {
                "rows": VECTOR + max(
                    (SEEN + 1 + SIDE * tall + 2) * pitch, TAPS * lanes + SPARE,
                    SIDE * (SEEN * VECTOR + SIDE * columns),
                ),
                "tile": PLACES * spread(channels * columns) + 4 * VECTOR * panel,
                "kernels": PLACES * spread(kept * channels),
                "sums": PLACES * spread(kept * columns),
                "marks": (tall * SIDE + 4) * pitch + tall * across,
            },
            [
                (unit, top, min(top + tall, down))
                for unit in range(units) for top in range(0, down, tall)
            ],
        )  # fmt: skip


def _geometry(problem: ConvProblem, across: int, tall: int) -> WinogradGeometry:
    """The geometry of tasks of `tall` rows of `across` tiles."""
    return WinogradGeometry(
        weights=problem.weights.size,
        channels=problem.weights.shape[2],
        maps=problem.weights.shape[1],
        across=across,
        columns=round_up(tall * across, VECTOR) + VECTOR,
        pitch=SIDE * round_up(across, VECTOR) + VECTOR,
        out_height=problem.out_size[0],
        out_width=problem.out_size[1],
        out_map=problem.out_map,
        row_stride=problem.row_stride,
        pixel_stride=problem.pixel_stride,
        run=1,
        step=1,
        near=problem.near,
        width=problem.width,
        padded=len(problem.row_map),
        plain=_is_plain(problem),
        fill=problem.fill,
        floor=0.0 if problem.activation == "relu" else -np.inf,
    )


def _is_plain(problem: ConvProblem) -> bool:
    """Whether a padded row is fill, pixels side by side, and fill."""
    columns = np.arange(len(problem.col_map)) - problem.near
    columns[(columns < 0) | (columns >= problem.width)] = -1
    return problem.pixel_stride == 1 and np.array_equal(columns, problem.col_map)
