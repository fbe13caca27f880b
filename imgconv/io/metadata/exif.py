"""EXIF blocks: read with every offset bounded, and changed in place.

A block is a small TIFF file of directories. What can stay where it is stays there, since maker
notes point to places in the block that only their makers know. Pillow's and tifffile's own ways
write a block anew, which moves the notes and forgets the types of values.

Source: Exif 2.32 (CIPA DC-008), sections 4.5 and 4.6; TIFF 6.0, section 2.
"""

import itertools
import struct
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
DESCRIPTION, SOFTWARE, ARTIST, COPYRIGHT, DOCUMENT = 0x010E, 0x0131, 0x013B, 0x8298, 0x010D
MAKER_NOTE, COLOR_SPACE, GAMMA = 0x927C, 0xA001, 0xA500
SUBJECT_AREA, SUBJECT_LOCATION = 0x9214, 0xA214
PIXEL_X, PIXEL_Y = 0xA002, 0xA003
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
POINTERS = {"exif": EXIF, "gps": GPS, "interop": INTEROP}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
         17: 8, 18: 8}  # fmt: skip
# Where thumbnails stand and how long they are: JPEGs, or samples as they are.
_THUMBNAILS = ((0x0201, 0x0202), (0x0111, 0x0117))
_STRIPS = 256
_ENTRIES = 2000
_LARGEST = 16 << 20
# What decides how samples are laid out in a file: its own format says that.
LAYOUT = frozenset({254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322,
                    323, 324, 325, 330, 338, 339, 340, 341, 347, 512, 513, 514, 529, 530, 531,
                    532})  # fmt: skip


class Broken(ValueError):
    """Metadata that makes no sense; the message says why."""


class Entry(NamedTuple):
    """A tag of a directory. values: how many; at: where the entry stands; place, size: of them."""

    tag: int
    kind: int
    values: int
    at: int
    place: int
    size: int


class Value(NamedTuple):
    """A tag's type and its values' bytes in little-endian order."""

    kind: int
    raw: bytes

    def numbers(self) -> tuple[Any, ...]:  # whole or real, as the tag's type says
        """The values, none of text; a rational is two of them."""
        code = {1: "B", 3: "H", 4: "I", 5: "I", 6: "b", 7: "B", 8: "h", 9: "i", 10: "i", 11: "f",
                12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}.get(self.kind, "x")  # fmt: skip
        width = struct.calcsize(f"<{code}")
        return struct.unpack(f"<{len(self.raw) // width}{code}", self.raw)

    def text(self) -> str:
        """The value of an ASCII tag, which is UTF-8 in practice."""
        return decoded(self.raw.split(b"\0", 1)[0])


def decoded(raw: bytes) -> str:
    """Text of bytes that are UTF-8, or else Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def ascii_value(text: str) -> Value:
    """The value of an ASCII tag."""
    return Value(ASCII, text.encode() + b"\0")


def in_order(raw: bytes, kind: int, order: str) -> bytes:
    """Values' bytes turned between little-endian and `order` (its own inverse)."""
    width = {5: 4, 10: 4}.get(kind) or SIZES.get(kind, 1)
    if order == "<" or width == 1:
        return raw
    return np.frombuffer(raw, f"<u{width}").byteswap().tobytes()


class Directory(NamedTuple):
    """A directory's place, its entries, and the place of the directory after it."""

    at: int
    entries: list[Entry]
    following: int

    def entry(self, tag: int) -> Entry | None:
        """The first entry of a tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


def directory_at(
    read: Callable[[int, int], bytes], at: int, order: str, big: bool = False
) -> Directory:
    """Read the directory at a place. Raises Broken.

    read: returns so many bytes from a place, fewer at the end. big: of a BigTIFF.
    """
    word, width, head, step = ("Q", 8, 8, 20) if big else ("I", 4, 2, 12)
    first = read(at, head)
    if len(first) < head:
        raise Broken(f"a directory at {at}, beyond its end")
    (count,) = struct.unpack(order + ("Q" if big else "H"), first)
    if count > _ENTRIES:
        raise Broken(f"a directory of {count} entries")
    table = read(at + head, count * step + width)
    if len(table) < count * step:
        raise Broken(f"a directory at {at} that goes beyond its end")
    entries = []
    for index in range(count):
        start = index * step
        tag, kind, values = struct.unpack_from(f"{order}HH{word}", table, start)
        size = values * SIZES.get(kind, 0)
        place = at + head + start + 4 + width
        if size > width:
            (place,) = struct.unpack_from(order + word, table, start + 4 + width)
        entries.append(Entry(tag, kind, values, at + head + start, place, size))
    following = 0
    if len(table) == count * step + width:
        (following,) = struct.unpack_from(order + word, table, count * step)
    return Directory(at, entries, following)


class Exif:
    """A block that is changed in place.

    groups: its directories: `main` and, where they are there, `exif`, `gps` and `interop`.
    Raises Broken for a block whose directories leave it, meet, or are too large.
    """

    def __init__(self, block: bytes = b"II*\0\x08\0\0\0\0\0\0\0\0\0") -> None:
        block = block.removeprefix(b"Exif\0\0")
        self.order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4], "")
        if not self.order or len(block) > _LARGEST:
            raise Broken("not an EXIF block" if not self.order else "an EXIF block above 16 MB")
        self.data = bytearray(block)
        self.groups: dict[str, Directory] = {}
        self._load()

    def _load(self) -> None:
        (start,) = struct.unpack(self.order + "I", self._read(4, 4).ljust(4, b"\0"))
        seen: set[int] = set()

        def directory(at: int) -> Directory:
            if at in seen:
                raise Broken("directories that lead to each other")
            seen.add(at)
            return directory_at(self._read, at, self.order)

        self.groups = {"main": directory(start)}
        for parent, group in (("main", "exif"), ("main", "gps"), ("exif", "interop")):
            entry = parent in self.groups and self.groups[parent].entry(POINTERS[group])
            if entry and entry.kind in (LONG, 13) and entry.values == 1:
                (at,) = self.numbers(entry) or (0,)
                self.groups[group] = directory(at)
        tables = sorted(self._tables())
        if any(first[1] > second[0] for first, second in itertools.pairwise(tables)):
            raise Broken("directories that overlap")

    def _read(self, at: int, count: int) -> bytes:
        return bytes(self.data[at : at + count])

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def _value(self, entry: Entry) -> Value:
        raw = self._read(entry.place, entry.size)
        if len(raw) < entry.size:
            return Value(UNDEFINED, b"")
        return Value(entry.kind, in_order(raw, entry.kind, self.order))

    def numbers(self, entry: Entry | None) -> tuple[Any, ...]:
        """The numbers of an entry, if there is one and it has some."""
        return self._value(entry).numbers() if entry else ()

    def get(self, group: str, tag: int) -> Value | None:
        """A tag's value, or None."""
        entry = group in self.groups and self.groups[group].entry(tag)
        return self._value(entry) if entry else None

    def values(self, group: str) -> Iterator[tuple[int, Value]]:
        """Every tag of a group whose values lie within the block, but the pointers to groups."""
        for entry in self.groups[group].entries if group in self.groups else ():
            value = self._value(entry)
            if value.raw and entry.tag not in POINTERS.values():
                yield entry.tag, value

    def place(self, group: str, tag: int) -> int:
        """Where a tag's values stand, 0 where there are none."""
        entry = group in self.groups and self.groups[group].entry(tag)
        return entry.place if entry else 0

    def set(self, group: str, tag: int, *numbers: int) -> None:
        """Change numbers where the tag is there and holds as many of them."""
        entry = group in self.groups and self.groups[group].entry(tag)
        code = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I"}.get(entry.kind) if entry else None
        if not entry or not code:
            return
        width = struct.calcsize(f"<{code}")
        count = entry.size // width
        stop = entry.place + entry.size
        # Values may lie anywhere, also over a directory, which is then not to be written to.
        there = stop <= len(self.data) and (entry.size <= 4 or not any(
            entry.place < last and first < stop for first, last in self._tables()
        ))  # fmt: skip
        if there:  # writers exist that take two for a size
            numbers += (0,) * (count - len(numbers))
        fits = there and len(numbers) == count and max(numbers) < 1 << 8 * width
        if fits:
            struct.pack_into(f"{self.order}{count}{code}", self.data, entry.place, *numbers)
        elif count == 1 and entry.values == 1 and entry.kind == SHORT:
            # A size that no longer fits a SHORT: there is room for a LONG in the entry.
            struct.pack_into(f"{self.order}HII", self.data, entry.at + 2, LONG, 1, numbers[0])
            self._load()
        else:
            self.remove(group, (tag,))

    def remove(self, group: str, tags: Container[int]) -> None:
        """Take tags out of a group and wipe their values."""
        found = self.groups.get(group)
        if found is None or not any(entry.tag in tags for entry in found.entries):
            return
        kept = [self._read(entry.at, 12) for entry in found.entries if entry.tag not in tags]
        self._write_table(found, kept, found.following)
        self._load()
        self._wipe((e.place, e.size) for e in found.entries if e.tag in tags and e.size > 4)

    def _write_table(self, found: Directory, entries: list[bytes], following: int) -> None:
        """Write a directory's entries, no more than there are, over those that are there."""
        (count,) = struct.unpack(self.order + "H", self._read(found.at, 2))
        table = struct.pack(self.order + "H", len(entries)) + b"".join(entries)
        table += struct.pack(self.order + "I", following)
        self.data[found.at : found.at + 6 + 12 * count] = table.ljust(6 + 12 * count, b"\0")

    def _tables(self) -> list[tuple[int, int]]:
        """(start, stop) of the header and of every directory."""
        tables = [(group.at, group.at + 6 + 12 * len(group.entries))
                  for group in self.groups.values()]  # fmt: skip
        return [(0, 8), *tables]

    def _spans(self) -> list[tuple[int, int]]:
        """(start, stop) of the header, of every directory and of all values."""
        values = [(entry.place, entry.place + entry.size) for group in self.groups.values()
                  for entry in group.entries if entry.size > 4]  # fmt: skip
        return self._tables() + values

    def _wipe(self, places: Iterable[tuple[int, int]]) -> None:
        """Overwrite (place, size) by zeros where nothing that stays is; cut off an end of zeros."""
        spans, places = self._spans(), [(at, size) for at, size in places if size]
        for at, size in places:
            stop = min(at + size, len(self.data))
            if at < stop and not any(at < last and first < stop for first, last in spans):
                self.data[at:stop] = bytes(stop - at)
        # Zeros before the first of them may be what a maker note points to.
        last = max(stop for _, stop in spans)
        end = min((at for at, _ in places if at >= last), default=len(self.data))
        if not any(self.data[end:]):
            del self.data[end:]

    def drop_thumbnail(self) -> None:
        """Take out the directory of the thumbnail, and its picture: it shows the old image."""
        main = self.groups["main"]
        if not main.following:
            return
        wiped: list[tuple[int, int]] = []
        try:
            small = directory_at(self._read, main.following, self.order)
        except Broken:
            pass
        else:
            wiped = [(entry.place, entry.size) for entry in small.entries if entry.size > 4]
            for tags in _THUMBNAILS:
                places, sizes = (self.numbers(small.entry(tag)) for tag in tags)
                wiped += zip(places[:_STRIPS], sizes, strict=False)
            wiped.append((small.at, 6 + 12 * len(small.entries)))
        self._write_table(main, [self._read(entry.at, 12) for entry in main.entries], 0)
        self._load()
        self._wipe(wiped)

    def put(self, values: Mapping[int, Value]) -> None:
        """Put tags into the main directory, which then stands at the end of the block."""
        main = self.groups["main"]
        entries = {entry.tag: self._read(entry.at, 12) for entry in main.entries
                   if entry.tag not in values}  # fmt: skip
        at = self._append(entries, values.items())
        struct.pack_into(self.order + "I", self.data, 4, at)
        self._load()

    def append(self, values: Iterable[tuple[int, Value]], note_at: int = 0) -> Value:
        """Append a directory that nothing leads to yet; return the pointer to put somewhere.

        note_at: where its maker note stands already, if it does.
        """
        given, entries = dict(values), {}
        if note_at and (note := given.pop(MAKER_NOTE, None)):
            entries[MAKER_NOTE] = struct.pack(
                self.order + "HHII", MAKER_NOTE, note.kind, len(note.raw), note_at
            )
        return Value(LONG, struct.pack("<I", self._append(entries, given.items())))

    def _append(self, entries: dict[int, bytes], values: Iterable[tuple[int, Value]]) -> int:
        """Append a directory; entries: those whose values stand already. Return its place."""
        self.data += b"\0" * (len(self.data) % 2)
        at = len(self.data)
        values = list(values)
        place, tail = at + 6 + 12 * (len(entries) + len(values)), b""
        for tag, (kind, raw) in values:
            stored = in_order(raw, kind, self.order)
            entry = struct.pack(self.order + "HHI", tag, kind, len(raw) // SIZES[kind])
            if len(stored) > 4:
                entry += struct.pack(self.order + "I", place + len(tail))
                tail += stored + b"\0" * (len(stored) % 2)
            else:
                entry += stored.ljust(4, b"\0")
            entries[tag] = entry
        self.data += struct.pack(self.order + "H", len(entries))
        self.data += b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + tail
        return at
