"""One large image as work for several workers: each makes a band of its map's rows.

A worker that is handed an image which would take more than `--memory` to filter whole answers
with a Division instead of its results, if the file can be entered at any row (TIFF, Zarr). The
client hands its parts out and puts the file together from them, in order; a Zarr's chunks are
written by the workers themselves. A part has no state and may be made again by anyone.
"""

from dataclasses import dataclass
from typing import Protocol

from imgconv.io.formats import Format
from imgconv.io.image import Image
from imgconv.io.scaling import Lost, Scaling
from imgconv.io.streamed import MEMORY, Streamed
from imgconv.io.writing import EncodeOptions
from imgconv.ops.rows import RowSource
from imgconv.pipeline.bands.maps import MapRows
from imgconv.pipeline.outputs import Row
from imgconv.pipeline.whole import Map
from imgconv.typing import Dtype

_PART = 1 << 25  # bytes per part, read or made: some hundred ms of work, and little to keep


class LossyRows(RowSource, Protocol):
    """Rows that count the samples which were clipped or missing so far."""

    lost: Lost


@dataclass(frozen=True)
class Division:
    """How an image's map is divided, and what the client needs to write it without reading it.

    shape: (H, W, C) of the map. rows: of a part. path, made, options: of the file to encode.
    result: its line for --json. scaling: what tells how many clipped samples are too many.
    """

    shape: tuple[int, int, int]
    dtype: Dtype
    rows: int
    path: str
    made: Format
    options: EncodeOptions
    result: Row
    scaling: Scaling | None

    def bounds(self, part: int) -> tuple[int, int]:
        """The first row of a part and the one after its last."""
        return part * self.rows, min((part + 1) * self.rows, self.shape[0])

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.shape[0] // self.rows)

    def warning(self, lost: Lost) -> str | None:
        """What to tell of lost samples, once all parts are made."""
        height, width, channels = self.shape
        colors = channels - self.options["alpha"]
        return self.scaling and self.scaling.warning(lost, height * width * colors)


class Divided(Exception):
    """An image is to be made in parts."""

    def __init__(self, division: Division) -> None:
        super().__init__(division)
        self.division = division


def check_undivided(
    image: Image | Streamed, map: Map | MapRows, path: str, made: Format, options: EncodeOptions,
    result: Row, memory: int | None,
) -> None:  # fmt: skip
    """Raise Divided for a map that is better made in parts."""
    if isinstance(map, Map) or isinstance(image, Image):
        return
    rows = rows_of_part(image, map, made, memory)
    if rows:
        shape = map.height, map.width, map.channels
        raise Divided(Division(shape, map.dtype, rows, path, made, options, result, map.scaling))


def rows_of_part(image: Streamed, samples: RowSource, made: Format, memory: int | None) -> int:
    """The rows a part of a map has, or 0 where the image is better made whole."""
    rows = image.rows
    if not hasattr(rows, "start_at"):
        return 0
    memory = memory or MEMORY
    if _size(rows) // rows.dtype.itemsize * (2 * rows.dtype.itemsize + 4) <= memory:
        return 0
    # A strided map is little beside what it is made of.
    row = max(_size(samples), _size(rows)) // max(1, samples.height)
    found = max(1, min(_PART, memory // 8) // max(1, row))
    if made.name == "zarr":
        from imgconv.io.zarr.arrays import CHUNK

        found = -(-found // CHUNK) * CHUNK
    return found if found < samples.height else 0


def _size(rows: RowSource) -> int:
    return rows.height * rows.width * rows.channels * rows.dtype.itemsize
