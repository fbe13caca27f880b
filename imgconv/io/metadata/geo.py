"""What GeoTIFF says of where pixels lie, moved along when the grid of pixels changes.

Source: OGC GeoTIFF 1.1 (19-008r4), section 7; GDAL's "GTiff" driver for its two tags; RPCs in
GeoTIFF (GDAL RFC 22).
"""

import re
import struct
from typing import NamedTuple

from imgconv.io.metadata.exif import ASCII, Value, decoded

SCALE, INTERGRAPH, TIE_POINTS, TRANSFORMATION = 33550, 33920, 33922, 34264
KEYS, DOUBLES, WORDS, RPC = 34735, 34736, 34737, 50844
GDAL_METADATA, NODATA = 42112, 42113
PLACES = (SCALE, INTERGRAPH, TIE_POINTS, TRANSFORMATION, RPC)
TAGS = frozenset({*PLACES, KEYS, DOUBLES, WORDS, GDAL_METADATA, NODATA})
_RASTER_TYPE, _POINT = 1025, 2
_STATISTICS = r'\s*<Item name="STATISTICS_[^>]*>[^<]*</Item>'


class Grid(NamedTuple):
    """Where pixels lie on those of another image: i is centered on `start + i * step`.

    start, step: (down, across), in pixels of the other image.
    """

    start: tuple[float, float] = (0.0, 0.0)
    step: tuple[float, float] = (1.0, 1.0)

    def after(self, first: "Grid") -> "Grid":
        """The grid on what `first` lies on, of an image whose grid is this one."""
        return Grid(
            (first.start[0] + self.start[0] * first.step[0],
             first.start[1] + self.start[1] * first.step[1]),
            (self.step[0] * first.step[0], self.step[1] * first.step[1]),
        )  # fmt: skip

    def corners(self) -> tuple[float, float]:
        """As `start`, of a pixel's near corner on corners: where coordinates count from these."""
        return (
            self.start[0] + (1 - self.step[0]) / 2,
            self.start[1] + (1 - self.step[1]) / 2,
        )


SAME = Grid()


def moved(tags: dict[int, Value], grid: Grid | None) -> dict[int, Value]:
    """GeoTIFF's tags of a result; grid: on its input, None where there is none.

    Without a grid, what ties pixels to places goes; with it the keys, which mean nothing alone.
    """
    found = dict(tags)
    if GDAL_METADATA in found:
        text = re.sub(_STATISTICS, "", decoded(found[GDAL_METADATA].raw.rstrip(b"\0")))
        found[GDAL_METADATA] = Value(ASCII, text.encode() + b"\0")
    if grid is None:
        return {tag: value for tag, value in found.items() if tag in (GDAL_METADATA, NODATA)}
    if grid == SAME:
        return found
    down, across = grid.start if _is_point(tags) else grid.corners()
    step_down, step_across = grid.step
    scale = _doubles(found.get(SCALE))
    ties = _doubles(found.get(TIE_POINTS))
    if len(scale) >= 2 and len(ties) == 6:
        # The only tie point stays in its pixel, by custom the first, and moves on the ground.
        ties[3] += (ties[0] * step_across + across - ties[0]) * scale[0]
        ties[4] -= (ties[1] * step_down + down - ties[1]) * scale[1]
    else:
        for at in range(0, len(ties) - 5, 6):
            ties[at] = (ties[at] - across) / step_across
            ties[at + 1] = (ties[at + 1] - down) / step_down
    if ties:
        found[TIE_POINTS] = _value(ties)
    if len(scale) >= 2:
        found[SCALE] = _value([scale[0] * step_across, scale[1] * step_down, *scale[2:]])
    for tag in (TRANSFORMATION, INTERGRAPH):
        matrix = _doubles(found.get(tag))
        for row in range(0, len(matrix) - 3, 4):
            x, y = matrix[row], matrix[row + 1]
            matrix[row + 3] += x * across + y * down
            matrix[row], matrix[row + 1] = x * step_across, y * step_down
        if matrix:
            found[tag] = _value(matrix)
    rational = _doubles(found.get(RPC))
    if len(rational) >= 9:  # lines and samples count from the middle of the first pixel
        rational[2] = (rational[2] - grid.start[0]) / step_down
        rational[3] = (rational[3] - grid.start[1]) / step_across
        rational[7], rational[8] = rational[7] / step_down, rational[8] / step_across
        found[RPC] = _value(rational)
    return found


def _is_point(tags: dict[int, Value]) -> bool:
    """Whether raster coordinates count from the middle of pixels."""
    keys = tags[KEYS].numbers() if KEYS in tags else ()
    return any(
        tuple(keys[at : at + 3]) == (_RASTER_TYPE, 0, 1) and keys[at + 3] == _POINT
        for at in range(4, len(keys) - 3, 4)
    )


def _doubles(value: Value | None) -> list[float]:
    return list(value.numbers()) if value is not None and value.kind == 12 else []


def _value(numbers: list[float]) -> Value:
    return Value(12, struct.pack(f"<{len(numbers)}d", *numbers))
