"""Zarr and OME-Zarr: chunked arrays in folders, read and written a band of chunks at a time.

Source: the OME-Zarr specification, versions 0.4 and 0.5 (NGFF), section "multiscales". Of a
pyramid the first dataset, full resolution, is read. The axes named y, x and c are rows, columns
and channels; every place along others (t, z) is a frame. An array without names is (H, W) or
(H, W, C). Written are arrays (c, y, x) in an OME-Zarr 0.5 group. The extra `imgconv[big]` brings
the package.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute.rows import ArrayRows, RowSource, read_rows
from imgconv.errors import ImageError, UsageError
from imgconv.images.image import Image

CHUNK = 512  # rows and columns of a written chunk
_RESULT = {
    "uint8": np.uint8, "uint16": np.uint16, "int8": np.int16, "int16": np.int16,
    "int32": np.int32, "uint32": np.float64, "int64": np.float64, "uint64": np.float64,
    "float16": np.float32, "float32": np.float32, "float64": np.float64,
}  # fmt: skip


class ZarrRows:
    """Rows of one frame of a Zarr array or of the first level of an OME-Zarr image.

    frames: how many there are. Raises ImageError for what cannot be read.
    """

    alpha = False

    def __init__(self, path: str, frame: int = 0) -> None:
        self.name = path
        self._array, names = _opened(path)
        shape = self._array.shape
        if not {"y", "x"} <= set(names) or len(names) != len(shape):
            raise ImageError(f"{path}: Zarr of axes {', '.join(names)}, expected y and x")
        self._order = [names.index(name) for name in ("y", "x", "c") if name in names]
        others = [axis for axis in range(len(shape)) if axis not in self._order]
        counts = [shape[axis] for axis in others]
        self.frames = math.prod(counts)
        if frame >= self.frames:
            raise ImageError(f"{path}: no frame {frame}: it has {self.frames}")
        self._fixed = (
            dict(zip(others, map(int, np.unravel_index(frame, counts)), strict=True))
            if others
            else {}
        )
        self.height, self.width = (shape[axis] for axis in self._order[:2])
        self.channels = shape[self._order[2]] if len(self._order) > 2 else 1
        kind = self._array.dtype.name
        if kind not in _RESULT or not self.channels:
            raise ImageError(f"{path}: Zarr of {kind}, expected whole or real numbers")
        self.dtype: np.dtype[Any] = np.dtype(_RESULT[kind])
        self._step = self._array.chunks[self._order[0]]
        self._band = ArrayRows(np.empty((0, self.width, self.channels), self.dtype))
        self._next = 0

    def rows_into(self, out: npt.NDArray[Any], count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = len(out) if count is None else count
        given = self._band.rows_into(out, count)
        if given or self._next == self.height:
            return given
        end = min(self.height, self._next - self._next % self._step + self._step)
        self._band = ArrayRows(self._decoded(self._next, end))
        self._next = end
        return self._band.rows_into(out, count)

    def start_at(self, row: int) -> None:
        """Begin at a row; chunks that end above it are not read."""
        self._next = row

    def _decoded(self, top: int, end: int) -> npt.NDArray[Any]:
        place: list[Any] = [slice(None)] * self._array.ndim
        place[self._order[0]] = slice(top, end)
        for axis, index in self._fixed.items():
            place[axis] = slice(index, index + 1)
        try:
            block = np.asarray(self._array[tuple(place)])
        except Exception as error:  # codecs and stores raise their own types
            raise ImageError(f"{self.name}: {_line(error)}") from None
        rest = [axis for axis in range(block.ndim) if axis not in self._order]
        pixels = block.transpose(*self._order, *rest)
        pixels = pixels.reshape(end - top, self.width, self.channels)
        return pixels.astype(self.dtype, order="C", copy=False)

    def close(self) -> None:
        return None


def images(path: str, wanted: int | None, check: Any) -> Iterator[Image]:
    """Yield whole frames; check: called with (height, width) first, raises beyond a limit.

    wanted: a frame, −1 for all, None for the first.
    """
    count = ZarrRows(path).frames
    for frame in range(count) if wanted == -1 else [wanted or 0]:
        rows = ZarrRows(path, frame)
        check(rows.height, rows.width)
        pixels = np.empty((rows.height, rows.width, rows.channels), rows.dtype)
        read_rows(rows, pixels)
        shown = [f"{path}: the first of {count} frames is read; --frame N or all"]
        shown = shown if wanted is None and count > 1 else []
        yield Image(pixels, name=path, frame=frame, frames=count, format="ZARR", notes=shown)


def write(folder: str, source: RowSource, metadata: dict[str, Any] | None) -> None:
    """Write rows as an OME-Zarr image into a new folder. Raises OSError, UsageError."""
    create(folder, (source.height, source.width, source.channels), source.dtype, metadata)
    # Rows that are made elsewhere are written there.
    elsewhere = getattr(source, "write_into", None)
    if elsewhere is not None:
        elsewhere(folder)
    else:
        write_rows(folder, source, 0, source.height)


def create(
    folder: str, shape: tuple[int, int, int], dtype: np.dtype[Any], metadata: dict[str, Any] | None
) -> None:
    """Make the OME-Zarr image of (H, W, C) samples whose rows are written later."""
    height, width, channels = shape
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"},
            {"name": "x", "type": "space"}]  # fmt: skip
    level = {
        "path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}],
    }  # fmt: skip
    attributes: dict[str, Any] = {
        "ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    }
    if metadata:
        attributes["imgconv"] = metadata
    group = _package().create_group(store=folder, zarr_format=3, attributes=attributes)
    group.create_array(
        "0", shape=(channels, height, width), dtype=dtype,
        chunks=(1, min(CHUNK, height), min(CHUNK, width)), dimension_names=("c", "y", "x"),
    )  # fmt: skip


def write_rows(folder: str, source: RowSource, top: int, end: int) -> None:
    """Write the source's next rows as rows top…end − 1 of an image made by `create`.

    Parts of one image may be written by several processes if they begin at multiples of CHUNK.
    """
    array = _package().open_array(store=folder, path="0", mode="r+")
    band = np.empty((min(CHUNK, end - top), source.width, source.channels), source.dtype)
    for first in range(top, end, CHUNK):
        rows = band[: min(CHUNK, end - first)]
        read_rows(source, rows)
        array[:, first : first + len(rows), :] = rows.transpose(2, 0, 1)


def _opened(path: str) -> tuple[Any, list[str]]:
    """The array of an image and its axes' names."""
    zarr = _package()
    try:
        node = zarr.open(path, mode="r")
        facts = dict(node.attrs)
        scales = facts.get("ome", facts).get("multiscales")
        if not hasattr(node, "shape"):
            if not scales:
                raise ImageError(f"{path}: a Zarr group without multiscales, expected an image")
            found = node[scales[0]["datasets"][0]["path"]]
            return found, [_axis(axis) for axis in scales[0].get("axes", "tczyx")]
        names = getattr(node.metadata, "dimension_names", None)
        if names and all(names):
            return node, [str(name).lower() for name in names]
        return node, ["y", "x", "c"][: node.ndim]
    except ImageError:
        raise
    except Exception as error:  # zarr and its codecs raise their own types
        raise ImageError(f"{path}: {_line(error)}") from None


def _axis(axis: Any) -> str:
    return str(axis["name"] if isinstance(axis, dict) else axis).lower()


def _package() -> Any:
    try:
        import zarr
    except ImportError:
        raise UsageError("Zarr needs its package: pip install 'imgconv[big]'") from None
    return zarr


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
