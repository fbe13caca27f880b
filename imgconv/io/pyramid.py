"""Smaller levels of an image, made while its rows go by.

Each pixel of a level is the mean of 2×2 of the level before; where that has an odd last row or
column, it stands for two. Integers round half to even.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from imgconv.errors import ImageError
from imgconv.typing import Array

LEAST = 256  # levels end with one whose sides are no longer


def level_sizes(height: int, width: int, pyramid: bool = True) -> list[tuple[int, int]]:
    """(height, width) of each level, the whole image first; without `pyramid` only that."""
    sizes = [(height, width)]
    while pyramid and max(sizes[-1]) > LEAST:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def check_level(name: str, level: int, count: int = 1) -> None:
    """Raise ImageError for a level that an image of `count` levels does not have."""
    if level >= count:
        raise ImageError(f"{name}: no level {level}: it has {count} (0 to {count - 1})")


def halved(rows: Array) -> Array:
    """The means of 2×2 pixels of an even number of rows (H, W, C)."""
    if rows.shape[1] % 2:
        rows = np.concatenate([rows, rows[:, -1:]], axis=1)
    whole = rows.dtype.kind in "ui"
    wide: npt.DTypeLike = np.float64
    if whole:
        wide = np.uint32 if rows.dtype in (np.uint8, np.uint16) else np.int64
    sums: Array = rows[0::2, 0::2].astype(wide)
    for part in (rows[0::2, 1::2], rows[1::2, 0::2], rows[1::2, 1::2]):
        sums += part
    if not whole:
        means: Array = (sums / 4).astype(rows.dtype)
        return means
    quarters, rest = sums >> 2, sums & 3
    quarters += (rest + (quarters & 1)) > 2
    halves: Array = quarters.astype(rows.dtype)
    return halves


class _Level:
    """The rows of a level that wait for others: for a whole unit, or for the second of a pair."""

    def __init__(self, height: int, unit: int) -> None:
        self.unit = unit
        self._gathering, self._pairing = height, height  # rows that are still to come
        self._rest: Array | None = None
        self._odd: Array | None = None

    def gathered(self, rows: Array) -> Array:
        """The rows at hand, of which all but the last are whole units."""
        self._gathering -= len(rows)
        if self._rest is not None:
            rows, self._rest = np.concatenate([self._rest, rows]), None
        whole = len(rows) // self.unit * self.unit if self._gathering else len(rows)
        if whole < len(rows):
            self._rest = rows[whole:].copy()
        return rows[:whole]

    def paired(self, rows: Array) -> Array:
        """The rows at hand, an even number of them."""
        self._pairing -= len(rows)
        if self._odd is not None:
            rows, self._odd = np.concatenate([self._odd, rows]), None
        if len(rows) % 2 and self._pairing:
            rows, self._odd = rows[:-1], rows[-1:].copy()
        elif len(rows) % 2:
            rows = np.concatenate([rows, rows[-1:]])
        return rows


class Cascade:
    """The levels of an image whose rows come in order.

    sizes: of the levels. units: rows that are wanted together of each.
    """

    def __init__(self, sizes: list[tuple[int, int]], units: list[int]) -> None:
        self._levels = [
            _Level(height, unit) for (height, _), unit in zip(sizes, units, strict=True)
        ]

    def add(self, rows: Array) -> Iterator[tuple[int, Array]]:
        """Yield (level, its next rows) that the next rows of the image make, themselves first.

        What is yielded holds until the next step only.
        """
        for number, level in enumerate(self._levels):
            ready = level.gathered(rows)
            if len(ready):
                yield number, ready
            if number + 1 < len(self._levels):
                rows = level.paired(rows)
                if not len(rows):
                    return
                rows = halved(rows)
