"""What a report shows of each layer, small enough to keep for every layer of a network."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from imgconv.nn.analysis.receptive import Field
from imgconv.typing import Array
from imgconv.viz.filters import filter_picture

# Bytes of all maps before compression: encoded as text they stay below 5 MB whatever they show.
BUDGET = 3_300_000
MOST_MAPS = 16
MOST_KERNELS = 16
LARGEST_TILE = 480
BINS = 48
# A page of more layers than this is divided into parts that open and close.
MOST_FLAT = 20

Grid = Array


@dataclass(frozen=True)
class Tile:
    """One map in 8 bits: `low` and `high` are the values of 0 and 255; shown: (h, w)."""

    label: str
    pixels: npt.NDArray[np.uint8]
    low: float
    high: float
    mean: float


@dataclass(frozen=True)
class Statistics:
    """Of all values of a layer; counts: of BINS equal intervals from low to high."""

    low: float
    high: float
    mean: float
    deviation: float
    zeros: float
    odd: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Section:
    """A layer: its name, what it does, (H, W) of its maps, how many there are, those shown.

    field: what its units see of the input, or None where that is not known. kernels: heat maps
    (kH, kW) or colors (kH, kW, 3) of some of its filters, with labels. picture: of it as a whole.
    units: the values of a layer without maps; names: of the classes that they score.
    """

    name: str
    what: str
    size: tuple[int, int]
    total: int
    tiles: tuple[Tile, ...]
    statistics: Statistics
    field: Field | None = None
    kernels: tuple[tuple[str, Grid], ...] = ()
    picture: npt.NDArray[np.uint8] | None = None
    units: tuple[float, ...] = ()
    names: tuple[str, ...] = ()


def dense_section(name: str, what: str, values: Grid, names: Sequence[str] = ()) -> Section:
    """The section of a layer of single values, such as a fully connected one's.

    names: of the classes that the values score, where they do.
    """
    units = tuple(float(value) for value in values.reshape(-1))
    return Section(
        name, what, (1, 1), len(units), (), statistics(values), units=units, names=tuple(names)
    )


def parts(names: Sequence[str]) -> list[tuple[str, range]]:
    """The parts of a network by the paths of its layers' names: (path, indices of its layers).

    Layers that follow each other under one path are a part; so much of the path counts as leaves
    no part with more than half of the layers. A layer apart has the path "".
    """
    if len(names) <= MOST_FLAT:
        return [("", range(index, index + 1)) for index in range(len(names))]
    paths = [re.split(r"[./]", name.lstrip("./"))[:-1] for name in names]
    keys = [""] * len(names)
    for depth in range(1, 1 + max(map(len, paths))):
        keys = [".".join(path[:depth]) for path in paths]
        if 2 * max(Counter(filter(None, keys)).values()) <= len(names):
            break
    found = list[tuple[str, range]]()
    for key, run in groupby(range(len(names)), key=keys.__getitem__):
        indices = list(run)
        if key and len(indices) > 2:
            found.append((key, range(indices[0], indices[-1] + 1)))
        else:
            found += [("", range(index, index + 1)) for index in indices]
    return found


def section(
    name: str,
    what: str,
    maps: Grid,
    labels: Sequence[str],
    layers: int,
    field: Field | None = None,
    kernels: Sequence[tuple[str, Grid]] = (),
    weights: Grid | None = None,
) -> Section:
    """Summarize maps (C, H, W); the report has `layers` of them, which share the space.

    Of more than MOST_MAPS maps those of the largest standard deviation are shown, in their order.
    weights: (C, C_in, kH, kW), whose filters are shown for the maps that are.
    """
    maps = maps.astype(np.float64 if maps.dtype == np.float64 else np.float32, copy=False)
    chosen = np.arange(len(maps))
    if len(maps) > MOST_MAPS:
        with np.errstate(invalid="ignore", over="ignore"):
            spread = np.nan_to_num(maps.std(axis=(1, 2)), nan=0, posinf=0)
        chosen = np.sort(np.argsort(-spread, kind="stable")[:MOST_MAPS])
    room = BUDGET / max(1, layers) / max(1, len(chosen))
    side = int(np.clip(np.sqrt(room), 16, LARGEST_TILE))
    indices = chosen.tolist()
    tiles = tuple(_tile(labels[index], maps[index], side) for index in indices)
    if weights is not None and weights.shape[2:] != (1, 1):
        kernels = [(labels[index], filter_picture(weights[index])) for index in indices]
    return Section(
        name, what, (maps.shape[1], maps.shape[2]), len(maps), tiles, statistics(maps), field,
        tuple(kernels)[:MOST_KERNELS],
    )  # fmt: skip


def statistics(values: Grid) -> Statistics:
    """Statistics of an array; NaN and infinities are counted as odd and otherwise left out."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Statistics(0.0, 0.0, 0.0, 0.0, 0.0, int(values.size), (0,) * BINS)
    low, high = float(finite.min()), float(finite.max())
    wide = finite.astype(np.float64)
    counts, _ = np.histogram(wide, BINS, (low, high) if high > low else (low - 0.5, low + 0.5))
    return Statistics(
        low, high, float(wide.mean()), float(wide.std()), float(np.mean(finite == 0)),
        int(values.size - finite.size), tuple(int(count) for count in counts),
    )  # fmt: skip


def _tile(label: str, plane: Grid, side: int) -> Tile:
    finite = plane[np.isfinite(plane)]
    mean = float(finite.mean(dtype=np.float64)) if finite.size else 0.0
    small = _shrunken(np.nan_to_num(plane, posinf=0, neginf=0), side)
    low, high = (float(small.min()), float(small.max())) if small.size else (0.0, 0.0)
    scale = 255 / (high - low) if high > low else 0.0
    pixels = np.rint((small - low) * scale).astype(np.uint8)
    return Tile(label, pixels, low, high, mean)


def _shrunken(plane: Grid, side: int) -> Grid:
    """The plane, with blocks of k×k averaged where a side is longer than `side`."""
    block = -(-max(plane.shape) // side)
    if block <= 1:
        return plane
    edges = [np.arange(0, length, block) for length in plane.shape]
    sums = np.add.reduceat(np.add.reduceat(plane.astype(np.float64), edges[0], 0), edges[1], 1)
    spans = [
        np.diff(np.append(edge, length)) for edge, length in zip(edges, plane.shape, strict=True)
    ]
    return np.asarray(sums / np.outer(*spans))
