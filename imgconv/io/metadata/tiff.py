"""Metadata in the tags of TIFF, read and written.

What EXIF knows goes by way of an EXIF block, as other formats hold it; what only TIFF has keeps
its tag. Source: TIFF 6.0; TIFF/EP's and EXIF's tags for directories; XMP part 3, section 3.
"""

import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from imgconv.io.metadata import (
    CENTIMETER,
    INCH,
    NONE,
    OLD_RECORD,
    Metadata,
    Resolution,
    checked,
    geo,
    photoshop,
)
from imgconv.io.metadata import exif as tags
from imgconv.io.metadata.exif import (
    ASCII,
    LAYOUT,
    LONG,
    POINTERS,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Broken,
    Entry,
    Exif,
    Value,
    ascii_value,
    decoded,
    directory_at,
    in_order,
)
from imgconv.io.metadata.geo import Grid
from imgconv.io.metadata.scientific import Calibration, calibration_of
from imgconv.typing import Dtype

if TYPE_CHECKING:
    from tifffile import TiffPage

    from imgconv.io.tiff.pages import TiffPages

RECORD = 65333  # of those that TIFF leaves for private use
_XMP, _IPTC, _PHOTOSHOP, _ICC = 700, 33723, 34377, 34675
_COLOR = (301, 318, 319)
_IMAGEJ = (50838, 50839)
_LABELS = (34118,)  # Zeiss' text of a scanning electron microscope, which is not ASCII by type
# Beside text: what EXIF's main directory has, and Windows' words.
_DESCRIBING = frozenset({
    tags.X_RESOLUTION, tags.Y_RESOLUTION, tags.RESOLUTION_UNIT, 18246, 18249, *range(40091, 40096),
})  # fmt: skip
_PRIVATE = 32768
_LARGEST = 16 << 20
_NOTE_END = 60_000

Head = tuple[bytes, dict[int, Value]]  # what stands behind a file's header, tags of its first page


class TiffMetadata:
    """Reads what a TIFF says of its frames. pages: a `TiffPages`; name: for messages.

    Call it within what reports tifffile's errors.
    """

    def __init__(self, pages: "TiffPages", name: str) -> None:
        self._pages, self._name = pages, name
        self._first: tuple[str, Resolution | None] | None = None
        self._noted = False

    def of(self, index: int, level: int) -> Metadata:
        """The metadata of a frame whose pyramid's level was read."""
        page, _ = self._pages.frame(index)
        wrong: list[str] = []
        own = self._values(page, wrong)
        resolution = _resolution(own)
        try:
            calibration = self._calibration(own, resolution, index)
        except (Broken, ValueError) as error:
            calibration = None
            wrong.append(f"OME-XML: {error}")
            own.pop(tags.DESCRIPTION, None)
        if calibration:
            own.pop(tags.DESCRIPTION, None)
        if resolution is None and calibration and calibration.kind == "imagej":
            resolution = self._of_first()[1]
        block = self._block(page, own, wrong)
        resources = own[_PHOTOSHOP].raw if _PHOTOSHOP in own else b""
        if _IPTC in own and not _has_iptc(resources):
            resources += photoshop.of_iptc(own[_IPTC].raw)
        for pointer in POINTERS.values():
            own.pop(pointer, None)
        only = {tag: value for tag, value in own.items() if tag in geo.TAGS or tag in _COLOR
                or tag in _IMAGEJ or tag in _LABELS
                or (tag >= _PRIVATE and value.kind == ASCII and tag not in (tags.COPYRIGHT, RECORD))
        }  # fmt: skip
        found = checked(self._name, Metadata(
            resolution=resolution, xmp=own[_XMP].raw if _XMP in own else b"", exif=block,
            resources=resources, tiff=tuple(sorted(only.items())), calibration=calibration,
            orientation=_orientation(own), grid=self._grid(index, level), notes=tuple(wrong),
        ))  # fmt: skip
        if found.notes and self._noted:  # what is wrong with a file is said once
            return replace(found, notes=())
        self._noted = self._noted or bool(found.notes)
        return found

    def _values(self, page: "TiffPage", wrong: list[str]) -> dict[int, Value]:
        """The tags of a page that do not lay out its samples."""
        try:
            entries = self._directory(page.offset, page)
        except Broken as error:
            wrong.append(str(error))
            return {}
        found: dict[int, Value] = {}
        for entry in entries:
            if entry.tag in LAYOUT or entry.tag == _ICC:
                continue
            if entry.size > _LARGEST:
                wrong.append(f"tag {entry.tag} of {entry.size} bytes")
            elif raw := self._raw(entry, page):
                found.setdefault(entry.tag, Value(entry.kind, raw))
        return found

    def _directory(self, at: int, page: "TiffPage") -> list[Entry]:
        form = page.parent.tiff
        return directory_at(self._read, at, form.byteorder, form.offsetsize == 8).entries

    def _raw(self, entry: Entry, page: "TiffPage") -> bytes:
        """An entry's values in little-endian order; none where they are beyond the file."""
        raw = self._read(entry.place, entry.size)
        return in_order(raw, entry.kind, page.parent.byteorder) if len(raw) == entry.size else b""

    def _read(self, at: int, count: int) -> bytes:
        return bytes(self._pages.read(at, count))

    def _of_first(self) -> tuple[str, Resolution | None]:
        """The description and resolution of the first page, which speak of all."""
        if self._first is None:
            own = self._values(self._pages.frame(0)[0], [])
            self._first = _description(own), _resolution(own)
        return self._first

    def _calibration(
        self, own: dict[int, Value], resolution: Resolution | None, index: int
    ) -> Calibration | None:
        text = _description(own)
        if index and not text:
            text, of_first = self._of_first()
            resolution = resolution or of_first
        pair = (resolution.x, resolution.y) if resolution else None
        return calibration_of(text, pair, index, len(self._pages))

    def _grid(self, index: int, level: int) -> Grid:
        """Where the pixels of a level lie on those of the largest."""
        if not level:
            return Grid()
        whole, part = (self._pages.frame(index, number)[0] for number in (0, level))
        steps = []
        for name in ("imagelength", "imagewidth"):
            large, small = int(getattr(whole, name)), int(getattr(part, name))
            # Halves that round up have pixels of twice the size all the same.
            halved = -(-large // (1 << level)) == small
            steps.append(float(1 << level) if halved else large / small)
        down, across = steps
        return Grid(((down - 1) / 2, (across - 1) / 2), (down, across))

    def _block(self, page: "TiffPage", own: dict[int, Value], wrong: list[str]) -> bytes:
        """An EXIF block of what EXIF knows; its maker note is where it was, if that is near."""
        main = {tag: value for tag, value in own.items()
                if (value.kind == ASCII and (tag < _PRIVATE or tag == tags.COPYRIGHT))
                or tag in _DESCRIBING}  # fmt: skip
        if tags.DESCRIPTION in main and main[tags.DESCRIPTION].raw.startswith(OLD_RECORD):
            del main[tags.DESCRIPTION]
        groups: dict[str, dict[int, Value]] = {}
        note_at = 0
        try:
            for group, pointer in POINTERS.items():  # of which the last is in the first
                parent = groups.get("exif", {}) if group == "interop" else own
                numbers = parent[pointer].numbers() if pointer in parent else ()
                entries = self._directory(int(numbers[0]), page) if numbers else []
                for entry in entries:
                    known = entry.size <= _LARGEST and entry.kind <= 13
                    if known and (raw := self._raw(entry, page)):
                        groups.setdefault(group, {})[entry.tag] = Value(entry.kind, raw)
                        note_at = entry.place if entry.tag == tags.MAKER_NOTE else note_at
        except Broken as error:
            wrong.append(str(error))
            groups = {}
        return _made(main, groups, note_at)


def _made(main: dict[int, Value], groups: dict[str, dict[int, Value]], note_at: int) -> bytes:
    """A block of directories; note_at: where its maker note is to stand, if that is near."""
    if not (main or groups):
        return b""
    block = Exif()
    note = groups.get("exif", {}).get(tags.MAKER_NOTE)
    near = note is not None and len(block.data) <= note_at < _NOTE_END - len(note.raw)
    if near and note:
        block.data += bytes(note_at - len(block.data)) + note.raw
    groups.get("exif", {}).pop(tags.INTEROP, None)
    if groups.get("exif") and "interop" in groups:
        groups["exif"][tags.INTEROP] = block.append(groups.pop("interop").items())
    pointers = {
        POINTERS[group]: block.append(groups[group].items(), note_at if near else 0)
        for group in ("exif", "gps") if group in groups
    }  # fmt: skip
    block.put(main | pointers)
    return bytes(block)


def _description(own: dict[int, Value]) -> str:
    value = own.get(tags.DESCRIPTION)
    return decoded(value.raw.rstrip(b"\0")) if value and value.kind == ASCII else ""


def _orientation(own: dict[int, Value]) -> int:
    value = own.get(tags.ORIENTATION)
    numbers = value.numbers() if value else ()
    return int(numbers[0]) if numbers and 1 <= numbers[0] <= 8 else 1


def _resolution(own: dict[int, Value]) -> Resolution | None:
    pairs = []
    for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION):
        value = own.get(tag)
        numbers = value.numbers() if value and value.kind == RATIONAL else ()
        if len(numbers) != 2 or not all(numbers):
            return None
        pairs.append(Fraction(*numbers))
    unit = own.get(tags.RESOLUTION_UNIT)
    numbers = unit.numbers() if unit else ()
    code = numbers[0] if numbers and numbers[0] in (NONE, INCH, CENTIMETER) else INCH
    if code == NONE and pairs[0] == pairs[1] == 1:
        return None
    return Resolution(pairs[0], pairs[1], code)


def _has_iptc(blocks: bytes) -> bool:
    try:
        return bool(blocks and photoshop.iptc_of(blocks))
    except Broken:
        return False


def head_of(
    metadata: Metadata | None, record: str, ome: bool, shape: tuple[int, int, int],
    dtype: Dtype, start: int, directory: Callable[..., bytes], pages: int = 1,
) -> Head:  # fmt: skip
    """What a file holds of metadata: bytes that are to stand at `start`, and its page's tags.

    record: of imgconv. ome: whether the description is to be OME's. shape, dtype: of a page's
    samples. directory: makes that of {tag: value} for a place.
    """
    found: dict[int, Value] = {}
    prefix = b""
    metadata = metadata or Metadata()
    from imgconv.io.metadata import writing

    raw = writing.block_of(metadata)
    if raw:
        block = Exif(raw)
        found |= {tag: value for tag, value in block.values("main") if tag not in LAYOUT}
        prefix, pointers = _groups(block, start, directory)
        found |= pointers
    if resolution := metadata.resolution:
        found |= writing.resolution_tags(resolution)
    # ImageJ's labels and overlays are of as many pages as it wrote.
    whole = metadata.calibration and metadata.calibration.frames == pages
    found |= {tag: value for tag, value in metadata.tiff if whole or tag not in _IMAGEJ}
    if metadata.xmp:
        found[_XMP] = Value(1, writing.whole_xmp(metadata))
    if metadata.resources:
        iptc = photoshop.iptc_of(metadata.resources)
        others = photoshop.without_iptc(metadata.resources)
        found |= {_IPTC: Value(UNDEFINED, iptc)} if iptc else {}
        found |= {_PHOTOSHOP: Value(1, others)} if others else {}
    if geo.NODATA in found and not _holds(dtype, found[geo.NODATA].text()):
        del found[geo.NODATA]
    _describe(found, metadata, record, ome, shape, dtype, pages)
    return prefix, found


def _describe(
    found: dict[int, Value], metadata: Metadata, record: str, ome: bool,
    shape: tuple[int, int, int], dtype: Dtype, pages: int,
) -> None:  # fmt: skip
    """Settle the description: OME's or ImageJ's of these pages, or the input's.

    The record is an annotation of OME's, or the description where there is none; else it has a tag
    of its own, of which libtiff warns.
    """
    from imgconv.io.metadata import scientific

    calibration = metadata.calibration
    words = found[tags.DESCRIPTION].text() if tags.DESCRIPTION in found else ""
    text = ""
    if ome:
        own = "" if calibration else words
        text = scientific.ome_description(shape, dtype, pages, calibration, own)
    elif calibration:
        text = scientific.description(calibration, shape, dtype, pages)
    elif not words:
        text = next(iter(metadata.comments), "")
    is_ome = ome or (calibration is not None and calibration.kind == "ome")
    if text:
        text = scientific.with_record(text, record) if is_ome and record else text
        found[tags.DESCRIPTION] = ascii_value(text)
    if record and not is_ome:
        found[RECORD if tags.DESCRIPTION in found else tags.DESCRIPTION] = ascii_value(record)


def _groups(
    block: Exif, start: int, directory: Callable[..., bytes]
) -> tuple[bytes, dict[int, Value]]:
    """A block's other directories as they stand at a place of a TIFF, and what leads to them.

    A maker note keeps its place from the start of the file, where that is near.
    """
    prefix = b""
    pointers: dict[int, Value] = {}
    exif = dict(block.values("exif"))
    note, note_at = exif.get(tags.MAKER_NOTE), block.place("exif", tags.MAKER_NOTE)
    placed = {}
    if note and start <= note_at < _NOTE_END:
        prefix = bytes(note_at - start) + note.raw
        placed[tags.MAKER_NOTE] = note_at
    for group, values in (("interop", dict(block.values("interop"))), ("exif", exif),
                          ("gps", dict(block.values("gps")))):  # fmt: skip
        if not values:
            continue
        if group == "exif" and tags.INTEROP in pointers:
            values[tags.INTEROP] = pointers.pop(tags.INTEROP)
        for tag in (tags.PIXEL_X, tags.PIXEL_Y):
            if tag in values and values[tag].kind == SHORT:  # which libtiff does not take
                (number, *_) = values[tag].numbers()
                values[tag] = Value(LONG, struct.pack("<I", number))
        prefix += b"\0" * (len(prefix) % 2)
        pointers[POINTERS[group]] = Value(LONG, struct.pack("<I", start + len(prefix)))
        prefix += directory(values, start + len(prefix), placed if group == "exif" else {})
    return prefix + b"\0" * (len(prefix) % 2), pointers


def _holds(dtype: Dtype, text: str) -> bool:
    """Whether samples can have the value that a nodata tag names."""
    try:
        number = float(text)
    except ValueError:
        return True
    if dtype.kind == "f":
        return True
    bounds = np.iinfo(dtype)
    return number.is_integer() and bounds.min <= number <= bounds.max
