"""Zarr and OME-Zarr: chunked arrays in folders, read and written a band of chunks at a time.

Source: the OME-Zarr specification, versions 0.4 and 0.5 (NGFF), section "multiscales". The axes
named y, x and c are rows, columns and channels; every place along others (t, z) is a frame. An
array without names is (H, W) or (H, W, C). Written are arrays (c, y, x) in an OME-Zarr 0.5 group.
The extra `imgconv[big]` brings the package.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from imgconv.errors import ImageError, ImgconvError, LimitError, UsageError
from imgconv.io import remote
from imgconv.io.image import Image, holder
from imgconv.io.limits import check_frames
from imgconv.io.pyramid import Cascade, check_level, level_sizes
from imgconv.io.remote import is_url
from imgconv.io.zarr.metadata import Node, largest_piece, read_node
from imgconv.ops.rows import ArrayRows, RowSource, read_rows
from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

CHUNK = 512  # rows and columns of a written chunk
_MEMORY = 1 << 28  # bytes that rows at hand may take where nobody says


class ZarrRows:
    """Rows of one frame of a Zarr array or of a level of an OME-Zarr image.

    frames: how many there are. memory: bytes that the samples at hand may take. Raises ImageError
    for what cannot be read, LimitError for chunks that need more memory.

    Chunks are decoded whole. Where those across the image take too much together, each is decoded
    once, into a temporary file that the rows come from.
    """

    alpha = False

    def __init__(
        self, path: str, frame: int = 0, memory: int | None = None, level: int = 0
    ) -> None:
        self.name = path
        node, self._array, names = _opened(path, level)
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
        kind = self._array.dtype
        if kind.kind not in "uif" or kind.itemsize > 8 or not self.channels:
            raise ImageError(f"{path}: Zarr of {kind.name}, expected whole or real numbers")
        self.dtype: Dtype
        self.dtype, self.stored = holder(kind)
        down, across = (min(self._array.chunks[a], shape[a]) for a in self._order[:2])
        pixel = self.channels * (self._array.dtype.itemsize + self.dtype.itemsize)
        budget = max((memory or _MEMORY) // 4, 1)
        self._chunk = self._step = down
        self._columns = self.width
        self._spool: _Spool | None = None
        if down * self.width * pixel > budget and across < self.width:
            self._columns = max(1, budget // (down * pixel * across)) * across
            self._step = max(1, budget // (self.width * pixel))
        self._check_memory(node, memory, down * min(self._columns, self.width) * pixel)
        if self._columns < self.width:
            self._spool = _Spool(self.width, self.channels, self.dtype)
        self._band = self._none = ArrayRows(np.empty((0, self.width, self.channels), self.dtype))
        self._next = 0

    def _check_memory(self, node: Node, memory: int | None, band: int) -> None:
        """Raise LimitError where `band` bytes, or a chunk of the declared size, are too much.

        Where nobody says what may be taken, a chunk may be as large as the image, which its own
        limit of pixels holds.
        """
        assert node.array is not None
        shape, size = largest_piece(node.array)
        frame = self.height * self.width * self.channels * self._array.dtype.itemsize
        limit = memory or max(_MEMORY, 2 * frame)
        if size > limit or (memory and band > limit):
            down, across = (shape[axis] for axis in self._order[:2])
            raise LimitError(
                f"{self.name}: chunks of {down}×{across} pixels are decoded whole and take "
                f"{max(size, band)} bytes, more than {limit}; --memory raises the limit"
            )

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = len(out) if count is None else count
        given = self._band.rows_into(out, count)
        if given or self._next == self.height:
            return given
        self._band = self._none  # let go before the next is decoded
        top = self._next
        first = top - top % self._chunk
        last = min(first + self._chunk, self.height)
        if self._spool is None:
            self._next = last
            self._band = ArrayRows(self._block(top, last, 0, self.width))
        else:
            if not self._spool.holds(top):
                self._spool.clear(first, last)
                for left in range(0, self.width, self._columns):
                    right = min(left + self._columns, self.width)
                    self._spool.put(self._block(first, last, left, right), left)
            self._next = min(top + self._step, last)
            self._band = ArrayRows(self._spool.rows(top, self._next))
        return self._band.rows_into(out, count)

    def start_at(self, row: int) -> None:
        """Begin at a row; chunks that end above it are not read."""
        self._next = row

    def _block(self, top: int, end: int, left: int, right: int) -> Array:
        """Decode rows top…end − 1 of columns left…right − 1."""
        place: list[slice] = [slice(None)] * self._array.ndim
        place[self._order[0]], place[self._order[1]] = slice(top, end), slice(left, right)
        for axis, index in self._fixed.items():
            place[axis] = slice(index, index + 1)
        try:
            block = np.asarray(self._array[tuple(place)])
        except Exception as error:  # codecs and stores raise their own types
            raise ImageError(f"{self.name}: {_line(error)}") from None
        rest = [axis for axis in range(block.ndim) if axis not in self._order]
        pixels = block.transpose(*self._order, *rest)
        pixels = pixels.reshape(end - top, right - left, self.channels)
        return pixels.astype(self.dtype, order="C", copy=False)

    def close(self) -> None:
        if self._spool:
            self._spool.close()


class _Spool:
    """Rows first…last − 1 of an image in a temporary file: blocks of columns, each row by row."""

    def __init__(self, width: int, channels: int, dtype: Dtype) -> None:
        self._shape, self._dtype = (width, channels), dtype
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.clear(0, 0)

    def holds(self, row: int) -> bool:
        """Whether a row is here."""
        return self._first <= row < self._last

    def clear(self, first: int, last: int) -> None:
        """Begin anew with other rows."""
        self._first, self._last, self._end = first, last, 0
        self._blocks: list[tuple[int, int, int]] = []  # first column, columns, place in the file

    def put(self, block: Array, left: int) -> None:
        """Keep the columns of a block (rows, columns, channels) from `left` on."""
        self._file.seek(self._end)
        self._file.write(np.ascontiguousarray(block).data.cast("B"))
        self._blocks.append((left, block.shape[1], self._end))
        self._end += block.nbytes

    def rows(self, top: int, end: int) -> Array:
        """Rows top…end − 1 of the image."""
        width, channels = self._shape
        out = np.empty((end - top, width, channels), self._dtype)
        for left, columns, place in self._blocks:
            row = columns * channels * self._dtype.itemsize
            self._file.seek(place + (top - self._first) * row)
            part = np.frombuffer(self._file.read((end - top) * row), self._dtype)
            out[:, left : left + columns] = part.reshape(end - top, columns, channels)
        return out

    def close(self) -> None:
        self._file.close()


def frames_in(path: str, memory: int | None = None, level: int = 0, wanted: int | None = -1) -> int:
    """How many frames there are. Raises LimitError where all are wanted, and are too many."""
    frames: int = ZarrRows(path, 0, memory, level).frames
    if wanted == -1:
        check_frames(path, frames)
    return frames


def images(
    path: str,
    wanted: int | None,
    check: Callable[[int, int], None],
    level: int = 0,
    memory: int | None = None,
) -> Iterator[Image]:
    """Yield whole frames; check: called with (height, width) first, raises beyond a limit.

    wanted: a frame, −1 for all, None for the first. memory: that a chunk may take.
    """
    count = frames_in(path, memory, level, wanted)
    for frame in range(count) if wanted == -1 else [wanted or 0]:
        rows = ZarrRows(path, frame, memory, level)
        check(rows.height, rows.width)
        pixels = np.empty((rows.height, rows.width, rows.channels), rows.dtype)
        read_rows(rows, pixels)
        shown = [f"{path}: only the first of {count} frames is read; see --frame"]
        shown = shown if wanted is None and count > 1 else []
        yield Image(pixels, name=path, frame=frame, frames=count, format="ZARR", notes=shown,
                    stored=rows.stored)  # fmt: skip


def write(
    folder: str, source: RowSource, record: Mapping[str, object] | None, pyramid: bool = False
) -> None:
    """Write rows as an OME-Zarr image into a new folder or URL. Raises OSError, UsageError.

    pyramid: with smaller levels beside the whole image.
    """
    sizes = level_sizes(source.height, source.width, pyramid)
    for level, size in enumerate(sizes):
        _create(folder, level, (source.channels, *size), source.dtype)
    # Rows that are made elsewhere are written there.
    elsewhere = getattr(source, "write_into", None)
    if elsewhere is not None and not pyramid:
        elsewhere(folder)
    else:
        write_rows(folder, source, 0, source.height, sizes)
    _complete(folder, len(sizes), record)


def write_frames(
    folder: str, frames: Iterator[tuple[Array, bool, Mapping[str, object] | None]], count: int
) -> None:
    """As `write`, of `count` frames (H, W, C) along a further axis t.

    frames: samples, and of the first whether there are to be smaller levels, and the record.
    All have one shape. Memory: one frame and what makes the next.
    """
    sizes: list[tuple[int, int]] = []
    told: Mapping[str, object] | None = None
    for number, (samples, pyramid, record) in enumerate(frames):
        rows = ArrayRows(samples)
        if not number:
            told = record
            sizes = level_sizes(rows.height, rows.width, pyramid)
            for level, size in enumerate(sizes):
                _create(folder, level, (count, rows.channels, *size), rows.dtype)
        write_rows(folder, rows, 0, rows.height, sizes, number)
    _complete(folder, len(sizes), told, stack=True)


def _create(folder: str, level: int, shape: tuple[int, ...], dtype: Dtype) -> None:
    """Make an array ([t,] c, y, x) whose samples are written later."""
    height, width = shape[-2:]
    others = len(shape) - 2
    _package().create_array(
        store=_store(folder, True), name=str(level), shape=shape, dtype=dtype,
        chunks=(1,) * others + (min(CHUNK, height), min(CHUNK, width)),
        dimension_names=("t", "c", "y", "x")[-len(shape) :],
        zarr_format=3,
    )  # fmt: skip


def _complete(
    folder: str, levels: int, record: Mapping[str, object] | None, stack: bool = False
) -> None:
    """Make an image of the arrays: until then the folder is none that is read."""
    axes = [{"name": "t", "type": "time"}] * stack
    axes += [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"},
            {"name": "x", "type": "space"}]  # fmt: skip
    datasets = []
    for level in range(levels):
        step = 2.0**level
        moved = [{"type": "scale", "scale": [1.0] * (1 + stack) + [step, step]}]
        if level:  # the middle of what a pixel is the mean of
            middle = (step - 1) / 2
            shift = [0.0] * (1 + stack) + [middle, middle]
            moved.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": moved})
    attributes: dict[str, object] = {
        "ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    }
    if record:
        attributes["imgconv"] = record
    _package().open_group(store=_store(folder, True), mode="r+").update_attributes(attributes)


def write_rows(
    folder: str,
    source: RowSource,
    top: int,
    end: int,
    sizes: list[tuple[int, int]] | None = None,
    frame: int | None = None,
) -> None:
    """Write the source's next rows as rows top…end − 1 of an image that `write` began.

    sizes: of its levels, where all rows are written. frame: which of several. Parts of one level
    may be written by several processes if they begin at multiples of CHUNK.
    """
    sizes = sizes or [(end - top, source.width)]
    arrays = [
        _array(folder, read_node(folder, folder, str(level)), str(level), writable=True)
        for level in range(len(sizes))
    ]
    tops = [top] * len(sizes)
    stacked = () if frame is None else (frame,)
    cascade = Cascade(sizes, [CHUNK] * len(sizes))
    band = np.empty((min(CHUNK, end - top), source.width, source.channels), source.dtype)
    for first in range(top, end, CHUNK):
        rows = band[: min(CHUNK, end - first)]
        read_rows(source, rows)
        for level, ready in cascade.add(rows):
            place = slice(tops[level], tops[level] + len(ready))
            arrays[level][(*stacked, slice(None), place)] = ready.transpose(2, 0, 1)
            tops[level] += len(ready)


def _opened(path: str, level: int) -> "tuple[Node, zarr.Array, list[str]]":
    """The description of an image's level, its array and its axes' names."""
    node, where = read_node(path, path), ""
    names = ["y", "x", "c"]
    if node.array is None:
        facts = node.attributes
        try:
            scale = facts.get("ome", facts).get("multiscales")[0]
            paths = [str(dataset["path"]) for dataset in scale["datasets"]]
            names = [_axis(axis) for axis in scale.get("axes", "tczyx")]
        except (TypeError, KeyError, IndexError, AttributeError):
            raise ImageError(
                f"{path}: a Zarr group without multiscales, expected an image"
            ) from None
        check_level(path, level, len(paths))
        where = paths[level].strip("/")
        node = read_node(path, path, where)
        if node.array is None:
            raise ImageError(f"{path}: {where} is a Zarr group, expected an array")
    else:
        check_level(path, level)
        given = node.array.get("dimension_names")
        if isinstance(given, list) and given and all(given):
            names = [str(name).lower() for name in given]
        else:
            names = names[: len(node.array["shape"])]
    return node, _array(path, node, where), names


def _array(place: str, node: Node, path: str = "", writable: bool = False) -> "zarr.Array":
    """The array that has been described. Raises ImageError."""
    zarr = _package()
    try:
        where = zarr.storage.StorePath(_store(place, writable), path)
        return zarr.Array.from_dict(where, dict(node.array or {}))
    except ImgconvError:
        raise
    except Exception as error:  # zarr and its codecs raise their own types
        raise ImageError(f"{place}: {_line(error)}") from None


def _store(place: str, writable: bool = False) -> "Store":
    """A folder or URL as zarr is to take it, which has its own idea of what a URL is."""
    storage = _package().storage
    if is_url(place):
        local = remote.on_disk(place)
        if local is None:
            options = remote.storage_options(place)
            with remote.reported(place, ImageError):
                return storage.FsspecStore.from_url(
                    place.rstrip("/"), storage_options=options, read_only=not writable
                )
        place = local
    return storage.LocalStore(place, read_only=not writable)


def _axis(axis: object) -> str:
    return str(axis["name"] if isinstance(axis, dict) else axis).lower()


def _package() -> ModuleType:
    try:
        import zarr
    except ImportError:
        raise UsageError("Zarr needs its package: pip install 'imgconv[big]'") from None
    package: ModuleType = zarr
    return package


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
