"""PNG reading: rows come out while the rest of the file is still being inflated.

Every type of the specification is read; what the pixels become:

| in the file | array |
|---|---|
| gray, gray + alpha, RGB, RGB + alpha, 8 or 16 bit | the same samples, uint8 or uint16 |
| gray of 1, 2 or 4 bit | uint8, scaled to 0…255 |
| palette | uint8 RGB, or RGB + alpha where the palette has transparency |
| gray or RGB with one transparent color (tRNS) | one channel more: opacity, 0 or full scale |

Nothing else is done to samples: gamma, profile and orientation are reported, not applied.
A file that is damaged, animated or otherwise unusual raises Unusual, so that Pillow can have its
say: Pillow accepts wrong checksums of image data, for example.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.errors import ImageError, LimitError
from imgconv.io.image import Image
from imgconv.io.png.chunks import (
    CHANNELS,
    Damaged,
    Facts,
    Header,
    Unusual,
    parse_facts,
    parse_header,
)
from imgconv.io.png.inflate import Blocks, Inflater, blocks_of
from imgconv.jit import parallel as bands
from imgconv.jit.loop import Wanted
from imgconv.ops.microkernels import png_rows
from imgconv.typing import Array

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

    from imgconv.io.metadata import Metadata

_BLOCK = 512 << 10  # bytes inflated at a time: still in the second-level cache when unfiltered
_ALONE = 1 << 20  # below this many bytes a second thread costs more than it saves

Expand = Callable[[npt.NDArray[np.uint8], Array], None]


class _Part(NamedTuple):
    """The pixels that one pass of the file holds: every `down`-th row, `right`-th column."""

    top: int
    left: int
    down: int
    right: int
    rows: int
    columns: int
    row_bytes: int

    @property
    def band(self) -> int:
        """Rows of a block."""
        return max(1, _BLOCK // (1 + self.row_bytes))


def _parts(header: Header) -> list[_Part]:
    """The passes that have pixels: one, or up to seven (Adam7, section 8 of the specification)."""
    grid = [(0, 0, 1, 1)]
    if header.interlaced:
        grid = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
                (0, 1, 2, 2), (1, 0, 2, 1)]  # fmt: skip
    parts = []
    for top, left, down, right in grid:
        rows = -(-(header.height - top) // down)
        columns = -(-(header.width - left) // right)
        if rows > 0 and columns > 0:
            row_bytes = (columns * header.bits + 7) // 8
            parts.append(_Part(top, left, down, right, rows, columns, row_bytes))
    return parts


class _Rows:
    """Decodes the rows of one part, in order."""

    def __init__(self, blocks: Blocks, part: _Part, step: int, expand: Expand | None) -> None:
        self._blocks = blocks
        self._part = part
        self._unfilter = png_rows.unfilter(step)
        self._expand = expand
        self._left = part.rows  # rows in blocks not taken yet
        self._ready = 0  # rows of `_scanlines` not decoded yet
        self._scanlines = np.empty(0, np.uint8)
        self._above = np.zeros(part.row_bytes, np.uint8)
        scratch = part.band * part.row_bytes if expand else 0
        self._samples = np.empty(min(scratch, part.rows * part.row_bytes), np.uint8)

    def into(self, out: Array) -> None:
        """Decode the next len(out) rows. out: (rows, columns, channels), C-contiguous."""
        done = 0
        while done < len(out):
            if not self._ready:
                block = self._blocks.take()
                assert block is not None
                self._scanlines = block
                self._ready = min(self._part.band, self._left)
                self._left -= self._ready
            count = min(self._ready, len(out) - done)
            self._decode(out[done : done + count])
            self._scanlines = self._scanlines[count * (1 + self._part.row_bytes) :]
            self._ready -= count
            done += count

    def _decode(self, out: Array) -> None:
        count, width = len(out), self._part.row_bytes
        if self._expand:
            samples = self._samples[: count * width].reshape(count, width)
        else:
            samples = out.reshape(count, width)
        bad = np.zeros(1, np.int64)
        self._unfilter(samples, self._scanlines, self._above, count, width, bad)
        if bad[0]:
            raise Damaged(f"damaged PNG: filter type {bad[0] - 1}")
        self._above[:] = samples[-1]
        if self._expand:
            self._expand(samples, out)


def _expander(header: Header, facts: Facts) -> tuple[Expand | None, int]:
    """Return (how samples as stored become pixels, channels of a pixel)."""
    channels = CHANNELS[header.color]
    keyed = header.color in (0, 2) and bool(facts.transparency)
    if keyed and len(facts.transparency) < 2 * channels:
        raise Unusual("broken PNG: tRNS chunk too short")
    if header.color == 3:
        return _by_table(header.depth, _palette(facts))
    if header.color == 0 and (header.depth < 8 or (header.depth == 8 and keyed)):
        return _by_table(header.depth, _grays(header.depth, keyed, facts))
    if header.depth == 8 and not keyed:
        return None, channels
    dtype = np.dtype(">u2") if header.depth == 16 else np.dtype(np.uint8)
    if not keyed:
        return _as_words, channels
    key = np.frombuffer(facts.transparency[: 2 * channels], ">u2").astype(dtype)
    full = np.iinfo(dtype).max

    def keyed_samples(samples: npt.NDArray[np.uint8], out: Array) -> None:
        stored = samples.view(dtype).reshape(*out.shape[:2], channels)
        out[..., :channels] = stored
        out[..., channels] = (stored != key).any(axis=-1) * full

    return keyed_samples, channels + 1


def _as_words(samples: npt.NDArray[np.uint8], out: Array) -> None:
    out.reshape(len(out), -1)[...] = samples.view(">u2")


def _by_table(depth: int, table: npt.NDArray[np.uint8]) -> tuple[Expand, int]:
    look_up = png_rows.look_up(depth, table.shape[1])

    def expand(samples: npt.NDArray[np.uint8], out: Array) -> None:
        look_up(out, samples, table, *samples.shape, out.shape[1])

    return expand, table.shape[1]


def _palette(facts: Facts) -> npt.NDArray[np.uint8]:
    """(256, 3 or 4) colors; an index beyond the palette is black, as in Pillow and libpng."""
    colors = len(facts.palette) // 3
    if not colors or len(facts.palette) % 3:
        raise Unusual(f"broken PNG: palette of {len(facts.palette)} bytes")
    table = np.zeros((256, 3), np.uint8)
    table[:colors] = np.frombuffer(facts.palette, np.uint8).reshape(-1, 3)
    if not facts.transparency:
        return table
    opacity = np.full((256, 1), 255, np.uint8)
    count = min(256, len(facts.transparency))
    opacity[:count, 0] = np.frombuffer(facts.transparency[:count], np.uint8)
    return np.concatenate([table, opacity], axis=1)


def _grays(depth: int, keyed: bool, facts: Facts) -> npt.NDArray[np.uint8]:
    """(256, 1 or 2): gray from `depth` bits, and opacity where one level is transparent."""
    top = (1 << depth) - 1
    levels = np.arange(256) & top
    table = np.full((256, 2), 255, np.uint8)
    table[:, 0] = levels * 255 // top
    if not keyed:
        return np.ascontiguousarray(table[:, :1])
    # Only the low bits count (section 11.3.1.1).
    table[levels == int.from_bytes(facts.transparency[:2], "big") & top, 1] = 0
    return table


class Reader:
    """A PNG in memory (bytes or any buffer, such as a memory map), read from top to bottom.

    width, height, channels, dtype, alpha: of the arrays that come out. header, facts: what the
    file says about itself; facts has icc, text, exif, gamma, srgb and orientation.

    Raises LimitError when more than `max_pixels` pixels are declared, Unusual when the file is
    better left to Pillow, ImageError when it is truncated. The reading methods raise Unusual
    too, where damage shows only later; rows that came out before are then not to be used.
    """

    def __init__(self, data: "Buffer", *, max_pixels: int | None = None) -> None:
        view = memoryview(data).cast("B")
        self.header = header = parse_header(view)
        if max_pixels is not None and header.width * header.height > max_pixels:
            raise LimitError(
                f"{header.width}×{header.height} pixels are more than the limit of {max_pixels}; "
                "--max-pixels raises it"
            )
        self.facts, first, end, compressed = parse_facts(view)
        self._parts = _parts(header)
        self._bytes = sum(part.rows * (1 + part.row_bytes) for part in self._parts)
        if self._bytes > 1032 * compressed:  # deflate's best: 258 bytes in 2 bits
            raise ImageError(
                f"truncated PNG: {header.width}×{header.height} pixels cannot come out of "
                f"{compressed} bytes of image data"
            )
        self._expand, self.channels = _expander(header, self.facts)
        self.alpha = self.channels in (2, 4)
        self.width, self.height = header.width, header.height
        self.dtype = np.dtype(np.uint16 if header.depth == 16 else np.uint8)
        self._inflater = Inflater(view, first, end)
        self._blocks: Blocks | None = None
        self._rows: _Rows | None = None
        self._next = 0  # row that comes out next
        self._whole: Array | None = None  # an interlaced image, decoded at once

    def loops(self) -> list[Wanted]:
        """The loops that reading needs."""
        return [Wanted(png_rows.unfilter, (self.header.step,))]

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows into out[:count]; return how many, 0 after the last.

        out: (rows, width, channels) of `dtype`, C-contiguous. count: rows of `out` by default.
        With the last row the end of the image data has been checked.
        """
        expected = (self.width, self.channels)
        if out.shape[1:] != expected or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise TypeError(f"rows_into: expected C-contiguous {self.dtype} of (rows, *{expected})")
        count = min(len(out) if count is None else count, len(out), self.height - self._next)
        if count <= 0:
            return 0
        if self.header.interlaced:
            if self._whole is None:
                self._whole = self._deinterlaced()
            out[:count] = self._whole[self._next : self._next + count]
        else:
            blocks = self._open()
            if self._rows is None:
                self._rows = _Rows(blocks, self._parts[0], self.header.step, self._expand)
            self._rows.into(out[:count])
            if self._next + count == self.height:
                blocks.take()
        self._next += count
        return count

    def bands(self, rows: int) -> Iterator[Array]:
        """Yield the image in new arrays of `rows` rows, the last one maybe shorter."""
        try:
            while self._next < self.height:
                count = min(rows, self.height - self._next)
                band = np.empty((count, self.width, self.channels), self.dtype)
                self.rows_into(band)
                yield band
        finally:
            self.close()

    def read(self) -> Array:
        """Return the rows not read yet: all (height, width, channels) of a new reader."""
        try:
            if self.header.interlaced and self._next == 0:
                self._next = self.height
                return self._deinterlaced()
            shape = (self.height - self._next, self.width, self.channels)
            pixels = np.empty(shape, self.dtype)
            self.rows_into(pixels)
            return pixels
        finally:
            self.close()

    def info(self) -> dict[str, object]:
        """What `Image.info` carries: bits and orientation; text, exif, gamma, srgb if given."""
        facts = self.facts
        found: dict[str, object] = {"bits": self.header.depth, "orientation": facts.orientation}
        for name in ("text", "exif", "gamma", "srgb"):
            value = getattr(facts, name)
            if value or value == 0:
                found[name] = value
        return found

    def metadata(self, name: str) -> "Metadata | None":
        """What else the file says of the image, if anything; name: what messages call it."""
        if not self.facts.carried:
            return None
        from imgconv.io.metadata.reading import of_png

        return of_png(self.facts.carried, name)

    def close(self) -> None:
        """End the inflating thread; rows not read yet are lost."""
        if self._blocks is not None:
            self._blocks.stop()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Blocks:
        if self._blocks is None:
            sizes = (
                min(part.band, part.rows - start) * (1 + part.row_bytes)
                for part in self._parts
                for start in range(0, part.rows, part.band)
            )
            largest = max(min(p.band, p.rows) * (1 + p.row_bytes) for p in self._parts)
            alone = self._bytes < _ALONE or bands.num_threads() == 1
            self._blocks = blocks_of(self._inflater, sizes, largest, alone)
        return self._blocks

    def _deinterlaced(self) -> Array:
        """Decode all passes and put their pixels in place."""
        blocks = self._open()
        whole = np.empty((self.height, self.width, self.channels), self.dtype)
        for part in self._parts:
            rows = _Rows(blocks, part, self.header.step, self._expand)
            target = whole[part.top :: part.down, part.left :: part.right]
            for start in range(0, part.rows, part.band):
                count = min(part.band, part.rows - start)
                band = np.empty((count, part.columns, self.channels), self.dtype)
                rows.into(band)
                target[start : start + count] = band
        blocks.take()
        return whole


def decode(data: "Buffer", *, max_pixels: int | None = None, name: str = "") -> Image | None:
    """Decode a PNG in memory, or return None where Pillow should try.

    data: bytes or any buffer. max_pixels: LimitError beyond. name: what messages call the image.
    The image has format "PNG", the file's profile and `Reader.info`; its orientation is
    info["orientation"], not applied. Raises ImageError for a truncated file and for damaged image
    data.
    """
    try:
        reader = Reader(data, max_pixels=max_pixels)
        pixels = reader.read()
    except (ImageError, LimitError) as error:
        if isinstance(error, Unusual) and not isinstance(error, Damaged):
            return None
        kind = LimitError if isinstance(error, LimitError) else ImageError
        raise kind(f"{name}: {error}" if name else str(error)) from None
    return Image(
        pixels,
        alpha=reader.alpha,
        name=name,
        icc=reader.facts.icc,
        metadata=reader.metadata(name),
        format="PNG",
        info=reader.info(),
    )
