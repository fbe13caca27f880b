"""TIFF and BigTIFF directories, read with every offset bounded by the file.

Only what decides how samples are laid out. Source: TIFF Revision 6.0 (Adobe, 1992), sections 2, 7
and 8; the BigTIFF design of Joris Van Damme and AWare Systems.
"""

from dataclasses import dataclass, field
from struct import pack, unpack
from typing import IO

from imgconv.errors import ImageError
from imgconv.images.pyramid import check_level

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
DESCRIPTION, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP = 270, 273, 274, 277, 278
STRIP_COUNTS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT = 279, 284, 317, 322, 323
TILE_OFFSETS, TILE_COUNTS, EXTRA_SAMPLES, SAMPLE_FORMAT, ICC = 324, 325, 338, 339, 34675
NEW_SUBFILE, SUB_IFDS = 254, 330
REDUCED = 1  # bit of NEW_SUBFILE: a smaller version of another image

_WANTED = frozenset({
    NEW_SUBFILE, SUB_IFDS,
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES,
    ROWS_PER_STRIP, STRIP_COUNTS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS,
    TILE_COUNTS, EXTRA_SAMPLES, SAMPLE_FORMAT, ICC,
})  # fmt: skip
_ASCII = 2
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
_SIZES = {"B": 1, "H": 2, "h": 2, "I": 4, "i": 4, "Q": 8}
_ENTRY_LIMIT = 4096
_FRAME_LIMIT = 65536


@dataclass(slots=True)
class Directory:
    """One frame's tags: number → values."""

    order: str  # "<" or ">"
    tags: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width); zeros where missing."""
        return self.one(HEIGHT, 0), self.one(WIDTH, 0)

    @property
    def tiled(self) -> bool:
        """Whether samples come in tiles rather than strips."""
        return TILE_OFFSETS in self.tags

    def chunks(self) -> list[tuple[int, int]]:
        """(offset, bytes) of each strip or tile."""
        keys = (TILE_OFFSETS, TILE_COUNTS) if self.tiled else (STRIP_OFFSETS, STRIP_COUNTS)
        offsets, counts = (self.tags.get(key, ()) for key in keys)
        return list(zip(offsets, counts, strict=False))


class Directories:
    """The chain of directories of a file; each is read when it is asked for.

    Raises ImageError for a chain that leaves the file; a chain that returns to itself ends there.
    """

    def __init__(self, file: IO[bytes], size: int, name: str) -> None:
        self._file, self._size, self._name = file, size, name
        head = self._read(0, 8)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = head[2:4] in (b"+\0", b"\0+")
        if self.big:
            head = self._read(0, 16)
            (self._next,) = unpack(self.order + "Q", head[8:])
        else:
            (self._next,) = unpack(self.order + "I", head[4:])
        self._positions: list[int] = []

    def _read(self, offset: int, count: int) -> bytes:
        if offset + count > self._size:
            raise ImageError(
                f"{self._name}: truncated TIFF: {count} bytes at {offset} declared, the file has "
                f"{self._size}"
            )
        self._file.seek(offset)
        content = self._file.read(count)
        if len(content) < count:
            raise ImageError(f"{self._name}: truncated TIFF")
        return content

    def __len__(self) -> int:
        """How many frames there are."""
        while self._next and self._next not in self._positions:
            if len(self._positions) >= _FRAME_LIMIT:
                raise ImageError(f"{self._name}: TIFF of more than {_FRAME_LIMIT} frames")
            self._positions.append(self._next)
            self._next = self._following(self._next)
        return len(self._positions)

    def _entries(self, position: int) -> tuple[int, int]:
        """(count of entries, position of the first)."""
        width = 8 if self.big else 2
        (count,) = unpack(self.order + ("Q" if self.big else "H"), self._read(position, width))
        if count > _ENTRY_LIMIT:
            raise ImageError(f"{self._name}: broken TIFF: a directory of {count} entries")
        return count, position + width

    def _following(self, position: int) -> int:
        count, first = self._entries(position)
        width = 8 if self.big else 4
        end = first + count * (20 if self.big else 12)
        if end + width > self._size:
            # Writers exist that leave the last pointer out (Pillow reads their files too).
            return 0
        (following,) = unpack(self.order + ("Q" if self.big else "I"), self._read(end, width))
        return int(following)

    def __getitem__(self, frame: int) -> Directory:
        if frame >= len(self._positions):
            len(self)
        return self._at(self._positions[frame])

    def level(self, frame: int, level: int) -> tuple[Directory, int]:
        """A level of a frame's pyramid and where its directory stands; 0 is the frame itself.

        Levels are SubIFDs, or the directories that follow, that say they are reduced images.
        Raises ImageError where there is none.
        """
        whole = self[frame]
        found = [(whole, self._positions[frame])]
        for position in whole.tags.get(SUB_IFDS, ()):
            directory = self._at(position)
            if directory.one(NEW_SUBFILE, 0) & REDUCED:
                found.append((directory, position))
        following = range(frame + 1, len(self)) if len(found) == 1 else ()
        for other in following:
            directory = self[other]
            if not directory.one(NEW_SUBFILE, 0) & REDUCED:
                break
            found.append((directory, self._positions[other]))
        check_level(self._name, level, len(found))
        return found[level]

    def header_to(self, position: int) -> bytes:
        """The header that the file would have if its first directory stood at `position`."""
        head = self._read(0, 16 if self.big else 8)
        return head[:8] + pack(self.order + "Q", position) if self.big else (
            head[:4] + pack(self.order + "I", position)
        )  # fmt: skip

    def _at(self, position: int) -> Directory:
        count, first = self._entries(position)
        step = 20 if self.big else 12
        found = Directory(self.order)
        entries = self._read(first, count * step)
        for start in range(0, count * step, step):
            self._take(found, entries[start : start + step])
        return found

    def description(self, limit: int) -> str:
        """The first frame's ImageDescription; "" where there is none of at most `limit` bytes."""
        if not len(self):
            return ""
        count, first = self._entries(self._positions[0])
        step = 20 if self.big else 12
        entries = self._read(first, count * step)
        for start in range(0, count * step, step):
            entry = entries[start : start + step]
            if unpack(self.order + "HH", entry[:4]) == (DESCRIPTION, _ASCII):
                length, stored = self._stored(entry, 1, limit)
                return stored[:length].decode("latin-1").rstrip("\0")
        return ""

    def _take(self, found: Directory, entry: bytes) -> None:
        kind, code = unpack(self.order + "HH", entry[:4])
        letter = _TYPES.get(code)
        if kind not in _WANTED or letter is None:
            return
        length, stored = self._stored(entry, _SIZES[letter], self._size)
        if length == 0:
            return
        if kind == ICC:
            found.tags[kind] = tuple(stored[:length])
        else:
            count = length // _SIZES[letter]
            found.tags[kind] = unpack(f"{self.order}{count}{letter}", stored[:length])

    def _stored(self, entry: bytes, size: int, limit: int) -> tuple[int, bytes]:
        """(bytes of an entry's values, these bytes); none where they are more than `limit`."""
        width = 8 if self.big else 4
        word = self.order + ("Q" if self.big else "I")
        (count,) = unpack(word, entry[4 : 4 + width])
        length, inline = count * size, entry[4 + width :]
        if length <= width:
            return length, inline
        if length > limit:
            return 0, b""
        (offset,) = unpack(word, inline)
        return length, self._read(offset, length)
