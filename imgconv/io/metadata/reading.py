"""Metadata of an input, from what its reader has at hand."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from imgconv.io.metadata import (
    CENTIMETER,
    INCH,
    NONE,
    Jpeg,
    Metadata,
    Parts,
    Resolution,
    checked,
    photoshop,
)
from imgconv.io.metadata import exif as tags
from imgconv.io.metadata.exif import Broken, Exif, decoded
from imgconv.io.png.chunks import carried_facts

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from PIL.JpegImagePlugin import JpegImageFile

EXIF_SEGMENT = b"Exif\0\0"
XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
_SPOILT_XMP = b"XMP\0" + XMP_SEGMENT[4:]  # as a program that is forgotten wrote it
EXTENSION_SEGMENT = b"http://ns.adobe.com/xmp/extension/\0"
XMP_KEYWORD = b"XML:com.adobe.xmp"
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"raw profile type "
_PROFILES = frozenset(_PROFILE + kind for kind in (b"exif", b"app1", b"xmp", b"iptc", b"8bim",
                                                   b"icc", b"icm"))  # fmt: skip
_OURS = b"imgconv"
_TEXTS, _TEXT_BYTES = 1000, 4 << 20
_INFLATED = 4 << 20
GIF_XMP = b"XMP DataXMP"
GIF_TRAILER = b"\x01" + bytes(range(255, -1, -1))


def of_png(chunks: Iterable[tuple[bytes, bytes]], name: str) -> Metadata:
    """The metadata of a PNG. chunks: (kind, payload) of those it carries."""
    parts: Parts = {}
    kept: list[tuple[bytes, bytes]] = []
    texts: list[tuple[bytes, bytes]] = []
    profiles: dict[bytes, bytes] = {}
    count = size = 0
    for kind, payload in chunks:
        if kind == b"eXIf":
            parts["exif"] = payload
        elif kind == b"pHYs" and len(payload) == 9:
            parts["resolution"] = _of_phys(payload)
        elif kind not in _TEXT_KINDS:
            kept.append((kind, payload))
        else:
            keyword = payload[:80].partition(b"\0")[0]
            count, size = count + 1, size + len(payload)
            if keyword == XMP_KEYWORD or keyword.lower() in _PROFILES:
                key = keyword if keyword == XMP_KEYWORD else keyword.lower()
                if key not in profiles:
                    profiles[key] = text_of(kind, payload) or b""
            elif keyword != _OURS:
                texts.append((kind, payload))
    if count > _TEXTS or size > _TEXT_BYTES:
        parts["notes"] = (f"{count} texts of {size} bytes",)
        texts = []
    for field, value in _of_profiles(profiles):
        if not parts.get(field):
            parts[field] = value
    if parts.get("exif"):
        own = _of_exif(parts["exif"])
        parts["resolution"] = _finer(parts.get("resolution"), own, Fraction(1, 200))
    return checked(name, Metadata(chunks=(*kept, *texts), **parts))


def _of_phys(payload: bytes) -> Resolution | None:
    x, y, unit = struct.unpack(">IIB", payload)
    if not x or not y:
        return None
    if unit == 1:
        return Resolution(Fraction(x, 100), Fraction(y, 100), CENTIMETER)
    return Resolution(Fraction(x), Fraction(y), NONE)


def _of_profiles(
    profiles: dict[bytes, bytes],
) -> Iterator[tuple[Literal["exif", "xmp", "resources"], bytes]]:
    """Fields of what ImageMagick writes as text: a name, a length, hexadecimal lines."""
    for keyword, text in profiles.items():
        if keyword == XMP_KEYWORD:
            yield "xmp", text
            continue
        try:
            content = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
        except ValueError:
            continue
        kind = keyword.removeprefix(_PROFILE)
        if kind in (b"exif", b"app1") and content.startswith(EXIF_SEGMENT):
            yield "exif", content.removeprefix(EXIF_SEGMENT)
        elif kind == b"xmp" or content.startswith(XMP_SEGMENT):
            yield "xmp", content.removeprefix(XMP_SEGMENT)
        elif kind in (b"iptc", b"8bim") and content:
            content = content.removeprefix(photoshop.HEADER)
            is_blocks = content.startswith(b"8BIM")
            yield "resources", content if is_blocks else photoshop.of_iptc(content)


def text_of(kind: bytes, payload: bytes, limit: int = _INFLATED) -> bytes | None:
    """The value of a PNG text chunk in its own encoding; None where it is broken or too large."""
    _, _, rest = payload.partition(b"\0")
    if kind == b"tEXt":
        return rest
    packed = rest[1:] if kind == b"zTXt" and rest[:1] == b"\0" else None
    if kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)
        if len(parts) < 3 or rest[:1] == b"\0":
            return parts[-1] if len(parts) == 3 else None
        packed = parts[2]
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(packed or b"", limit)
    except zlib.error:
        return None
    return content if stream.eof else None


def without_texts(data: bytes) -> bytes:
    """A PNG without its texts and with one profile.

    Pillow would see a bomb in texts and refuse all of the file, and inflate each profile.
    """
    kept, at, beside = [data[:8]], 8, set(_TEXT_KINDS)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 12 + length
        if kind not in beside:
            kept.append(data[at:stop])
        if kind == b"iCCP":
            beside.add(kind)
        at = stop
    return b"".join([*kept, data[at:]])


def of_pillow(opened: "ImageFile", data: bytes, name: str) -> Metadata:
    """The metadata of a file that Pillow has opened; data: its bytes."""
    kind = opened.format
    if kind == "PNG":
        return of_png(carried_facts(data).carried, name)
    if kind in ("JPEG", "MPO"):
        from PIL.JpegImagePlugin import JpegImageFile

        assert isinstance(opened, JpegImageFile)
        return _of_jpeg(opened, name)
    if kind == "GIF":
        return _of_gif(data, name)
    info = opened.info
    parts: Parts = {"exif": info.get("exif") or b"", "xmp": info.get("xmp") or b""}
    parts["exif"] = parts["exif"].removeprefix(EXIF_SEGMENT)
    if kind in ("BMP", "DIB", "JPEG2000", "PCX", "PSD"):
        parts["resolution"] = _of_dpi(info.get("dpi"))
    else:
        parts["resolution"] = _of_exif(parts["exif"])
    comment = info.get("comment")
    if isinstance(comment, bytes):
        parts["comments"] = (decoded(comment),)
    return checked(name, Metadata(**parts))


def _of_dpi(dpi: Iterable[float] | None) -> Resolution | None:
    try:
        x, y = (Fraction(value).limit_denominator(1000) for value in dpi or ())
    except (TypeError, ValueError, OverflowError):
        return None
    return Resolution(x, y, INCH) if x > 0 and y > 0 else None


def _finer(
    rounded: Resolution | None, own: Resolution | None, error: Fraction
) -> Resolution | None:
    """A header's rounded resolution, or EXIF's where that is the same but for rounding.

    error: of rounding, in the header's unit.
    """
    if rounded is None or own is None or NONE in (rounded.unit, own.unit):
        return rounded
    pairs = zip(own.per(rounded.unit), rounded[:2], strict=True)
    return own if all(abs(one - other) <= error for one, other in pairs) else rounded


def _of_exif(block: bytes) -> Resolution | None:
    """The resolution that an EXIF block tells, if it is one."""
    try:
        found = Exif(block) if block else None
    except Broken:
        found = None
    pairs = []
    for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION):
        value = found.get("main", tag) if found else None
        numbers = value.numbers() if value and value.kind == tags.RATIONAL else ()
        if len(numbers) != 2 or not all(numbers):
            return None
        pairs.append(Fraction(*numbers))
    unit = found.get("main", tags.RESOLUTION_UNIT) if found else None
    numbers = unit.numbers() if unit else ()
    code = numbers[0] if numbers and numbers[0] in (NONE, INCH, CENTIMETER) else INCH
    return Resolution(pairs[0], pairs[1], code)


def _of_jpeg(opened: "JpegImageFile", name: str) -> Metadata:
    parts: Parts = {}
    segments, resources, comments = [], [], []
    for marker, segment in opened.applist:
        if marker == "APP1" and segment.startswith(EXIF_SEGMENT):
            parts.setdefault("exif", segment[len(EXIF_SEGMENT) :])
        elif marker == "APP1" and segment.startswith((XMP_SEGMENT, _SPOILT_XMP)):
            parts.setdefault("xmp", segment[len(XMP_SEGMENT) :])
        elif _is_kept(marker, segment):
            segments.append((0xE0 + int(marker[3:]), segment))
        elif marker == "APP13" and segment.startswith(photoshop.HEADER):
            resources.append(segment[len(photoshop.HEADER) :])
        elif marker == "COM":
            comments.append(decoded(segment.rstrip(b"\0")))
    if len(comments) > _TEXTS:
        parts["notes"] = (f"{len(comments)} comments",)
        comments = []
    parts |= {"segments": tuple(segments), "comments": tuple(comments),
              "resources": b"".join(resources)}  # fmt: skip
    x, y = map(Fraction, opened.info.get("jfif_density", (0, 0)))
    unit = {1: INCH, 2: CENTIMETER}.get(opened.info.get("jfif_unit", 0), NONE)
    parts["resolution"] = own = _of_exif(parts.get("exif", b""))
    if x and y and (unit != NONE or (own is None and x != y)):
        parts["resolution"] = _finer(Resolution(x, y, unit), own, Fraction(1, 2))
    return checked(name, Metadata(jpeg=_jpeg(opened), **parts))


def _is_kept(marker: str, segment: bytes) -> bool:
    """Whether a segment goes from JPEG to JPEG as it is; most others speak of the old file."""
    if marker == "APP12":
        return not segment.startswith(b"Ducky")  # Photoshop's quality
    return (
        (marker == "APP1" and segment.startswith(EXTENSION_SEGMENT))
        or (marker == "APP3" and segment[:4].upper() == b"META")  # Kodak
        or (marker == "APP0" and segment[6:14] == b"HEAPJPGM")  # Canon's CIFF
    )


def _jpeg(opened: "JpegImageFile") -> Jpeg | None:
    from PIL import JpegImagePlugin

    tables = tuple(tuple(opened.quantization[key]) for key in sorted(opened.quantization))
    if not tables or opened.mode == "CMYK":  # whose tables are made for other channels
        return None
    # What Pillow cannot write (4:4:0, 4:1:1) is not subsampled more than it was.
    try:
        subsampling = max(0, JpegImagePlugin.get_sampling(opened))
    except IndexError:  # of two components
        subsampling = 0
    return Jpeg(tables[:2], subsampling, bool(opened.info.get("progressive")))


def _of_gif(data: bytes, name: str) -> Metadata:
    parts: Parts = {}
    comments = []
    for label, content in gif_extensions(data):
        if label == 0xFE:
            comments.append(decoded(b"".join(content)))
        elif label == 0xFF and content[0] == GIF_XMP and "xmp" not in parts:
            # A packet stands there as it is: what looks like blocks is its text, and a trailer of
            # falling numbers leads from anywhere to the end.
            text = b"".join(bytes([len(part)]) + part for part in content[1:])
            parts["xmp"] = text[: text.rfind(GIF_TRAILER[:4])]
    if len(comments) > _TEXTS:
        parts["notes"] = (f"{len(comments)} comments",)
        comments = []
    parts["comments"] = tuple(text for text in comments if not _is_record(text))
    return checked(name, Metadata(**parts))


def _is_record(text: str) -> bool:
    """Whether a comment is the record that an earlier version of imgconv put there."""
    from imgconv.io.metadata import OLD_RECORD

    return text.encode().startswith(OLD_RECORD)


def gif_extensions(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Yield (label, sub-blocks) of a GIF's comments and application extensions."""
    if len(data) < 13:
        return
    at = 13 + _table(data[10])
    while at + 1 < len(data):
        block = data[at]
        if block == 0x3B:
            return
        if block == 0x2C and at + 10 <= len(data):
            at += 11 + _table(data[at + 9])
            while at < len(data) and data[at]:
                at += 1 + data[at]
            at += 1
        elif block == 0x21:
            label, content = data[at + 1], []
            at += 2
            while at < len(data) and data[at]:
                content.append(data[at + 1 : at + 1 + data[at]])
                at += 1 + data[at]
            at += 1
            if label in (0xFE, 0xFF) and content:
                yield label, content
        else:
            at += 1


def _table(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, stop) of the payloads of a WebP's chunks."""
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, at + 8, min(at + 8 + size, len(data))
        at += 8 + size + size % 2


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, payload) of a JPEG's segments before its first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return
        if marker == 0xFF:
            at += 1
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + size]
        at += 2 + size
