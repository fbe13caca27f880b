"""How each format holds metadata, and our own record beside it."""

import re
import struct
import zlib
from collections.abc import Iterator

from imgconv.io.metadata import (
    CENTIMETER,
    INCH,
    NONE,
    Metadata,
    Resolution,
    photoshop,
    rational,
    xmp,
)
from imgconv.io.metadata import exif as tags
from imgconv.io.metadata.exif import Exif, Value, ascii_value
from imgconv.io.metadata.reading import (
    EXIF_SEGMENT,
    EXTENSION_SEGMENT,
    GIF_TRAILER,
    GIF_XMP,
    XMP_KEYWORD,
    XMP_SEGMENT,
    text_of,
)

JPEG_RECORD = b"imgconv\0"
WEBP_RECORD = b"IMGC"
GIF_RECORD = b"imgconv rec"
_SEGMENT = 65533
# Of a PNG's texts that become other formats' tags and comments: bytes of one, and how many.
_TEXT, _COMMENTS = 1 << 16, 100
_MARGIN = 1 << 10
# PNG's keywords that EXIF and TIFF have a tag for.
_WORDS = {b"Title": tags.DOCUMENT, b"Description": tags.DESCRIPTION, b"Author": tags.ARTIST,
          b"Copyright": tags.COPYRIGHT, b"Software": tags.SOFTWARE}  # fmt: skip


def _resolution(metadata: Metadata) -> Resolution | None:
    """The resolution in inches or centimeters where a calibration tells it."""
    calibration = metadata.calibration
    if calibration and calibration.pixel and min(calibration.pixel) > 0:
        x, y = (10000 / size for size in calibration.pixel)
        return Resolution(x, y, CENTIMETER)
    return metadata.resolution


def block_of(metadata: Metadata, resolved: bool = True) -> bytes:
    """The EXIF block, with what other formats keep elsewhere: PNG's texts, a resolution.

    resolved: whether a resolution is added where the block has none.
    """
    wanted: dict[int, Value] = {}
    for kind, payload in metadata.chunks:
        tag = _WORDS.get(payload[:80].partition(b"\0")[0])
        if tag and tag not in wanted:
            text = text_of(kind, payload, _TEXT) or b""
            words = text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
            wanted[tag] = ascii_value(words)
    wanted = {tag: value for tag, value in wanted.items() if value.raw != b"\0"}
    if metadata.calibration and metadata.calibration.kind == "imagej":
        wanted.setdefault(tags.DESCRIPTION, ascii_value(metadata.calibration.text))
    resolution = _resolution(metadata)
    if resolved and resolution and resolution.unit != NONE:
        wanted |= resolution_tags(resolution)
    if not (wanted or metadata.exif):
        return b""
    block = Exif(metadata.exif) if metadata.exif else Exif()
    new = {tag: value for tag, value in wanted.items() if block.get("main", tag) is None}
    if metadata.calibration and resolution and resolution.unit != NONE:
        new |= resolution_tags(resolution)  # what is there is in units of its own
    if new and len(block.data) + sum(len(v.raw) + 12 for v in new.values()) < _SEGMENT - _MARGIN:
        block.put(new)
    return bytes(block)


def resolution_tags(resolution: Resolution) -> dict[int, Value]:
    return {
        tags.X_RESOLUTION: Value(tags.RATIONAL, struct.pack("<II", *rational(resolution.x))),
        tags.Y_RESOLUTION: Value(tags.RATIONAL, struct.pack("<II", *rational(resolution.y))),
        tags.RESOLUTION_UNIT: Value(tags.SHORT, struct.pack("<H", resolution.unit)),
    }


def whole_xmp(metadata: Metadata) -> bytes:
    """The packet for formats that hold no extension of it."""
    if not (metadata.xmp and metadata.segments):
        return metadata.xmp
    return xmp.edited(metadata.xmp, {(xmp.NOTE, "HasExtendedXMP"): None})


def png_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, payload) of the chunks of a PNG, in an order that the specification allows."""
    resolution = _resolution(metadata)
    early = [one for one in metadata.chunks if one[0] not in (b"tEXt", b"zTXt", b"iTXt")]
    yield from early
    if resolution:
        yield from _phys(resolution)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    elif block := _block_of_tiff(metadata):
        yield b"eXIf", block
    if metadata.xmp:
        yield b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + whole_xmp(metadata)
    if metadata.resources:
        yield b"zTXt", _raw_profile(b"iptc", metadata.resources)
    texts = [one for one in metadata.chunks if one[0] in (b"tEXt", b"zTXt", b"iTXt")]
    yield from texts
    for comment in metadata.comments:
        yield _text(b"Comment", comment)


def _block_of_tiff(metadata: Metadata) -> bytes:
    """A block of ImageJ's description, which a PNG keeps nowhere else."""
    calibration = metadata.calibration
    return (
        block_of(metadata, resolved=False) if calibration and calibration.kind == "imagej" else b""
    )


def _phys(resolution: Resolution) -> Iterator[tuple[bytes, bytes]]:
    if resolution.unit == NONE:
        numbers, unit = _ratio(resolution, (1 << 31) - 1), 0
    else:
        x, y = resolution.per(CENTIMETER)
        numbers, unit = (round(x * 100), round(y * 100)), 1
    if numbers and min(numbers) > 0 and max(numbers) < 1 << 31:
        yield b"pHYs", struct.pack(">IIB", *numbers, unit)


def _ratio(resolution: Resolution, most: int) -> tuple[int, int]:
    """Two whole numbers in the ratio of a resolution without a unit."""
    ratio = (resolution.x / resolution.y).limit_denominator(min(most, 1 << 16))
    whole = resolution.x.denominator == resolution.y.denominator == 1
    if whole and max(resolution.x, resolution.y) <= most:
        return int(resolution.x), int(resolution.y)
    return (ratio.numerator, ratio.denominator) if ratio.numerator <= most else (1, 1)


def _raw_profile(kind: bytes, content: bytes) -> bytes:
    """The payload of a zTXt chunk that holds bytes as ImageMagick and ExifTool write them."""
    digits = content.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\n%s\n%8d\n%s\n" % (kind, len(content), lines)
    return b"Raw profile type " + kind + b"\0\0" + zlib.compress(text, 9)


def _text(keyword: bytes, text: str) -> tuple[bytes, bytes]:
    text = text.replace("\0", " ")
    try:
        return b"tEXt", keyword + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", keyword + b"\0\0\0\0\0" + text.encode()


def _comments(metadata: Metadata) -> list[str]:
    """The comments, and what PNG calls so."""
    found = list(metadata.comments)
    for kind, payload in metadata.chunks:
        if payload[:80].partition(b"\0")[0] == b"Comment" and len(found) < _COMMENTS:
            text = text_of(kind, payload, _TEXT) or b""
            found.append(text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace"))
    return [text for text in found if text]


def pillow_options(
    metadata: Metadata, form: str, channels: int, quality: int | None
) -> dict[str, object]:
    """Options of Pillow's `save` for what it writes of the metadata."""
    options: dict[str, object] = {}
    if form in ("webp", "avif"):
        if block := block_of(metadata):
            options["exif"] = block
        if metadata.xmp:
            options["xmp"] = whole_xmp(metadata)
    if form == "jpeg" and metadata.jpeg and not quality:
        tables = metadata.jpeg.tables if channels == 3 else metadata.jpeg.tables[:1]
        options["qtables"] = [list(table) for table in tables]
        options["subsampling"] = metadata.jpeg.subsampling
        if metadata.jpeg.progressive:
            options["progressive"] = True
    resolution = _resolution(metadata)
    if form == "bmp" and resolution and resolution.unit != NONE:
        options["dpi"] = tuple(float(value) for value in resolution.per(INCH))
    return options


def jpeg_with(content: bytes, metadata: Metadata | None, record: str) -> bytes:
    """A JPEG by Pillow with metadata's segments and a record's behind its JFIF header."""
    at = 4 + int.from_bytes(content[4:6], "big") if content[6:10] == b"JFIF" else 2
    head = bytearray(content[:at])
    segments: list[tuple[int, bytes]] = []
    if metadata:
        resolution = _resolution(metadata)
        if resolution and at > 16:
            head[13:18] = _density(resolution)
        if block := _short_block(metadata):
            segments.append((0xE1, EXIF_SEGMENT + block))
        if metadata.xmp:
            segments += [(0xE1, part) for part in _xmp_segments(metadata)]
        segments += metadata.segments
        segments += [(0xED, part) for part in _split(metadata.resources, photoshop.HEADER)]
        for comment in _comments(metadata):
            segments += [(0xFE, part) for part in _split(comment.encode(), b"")]
    segments += [(0xEF, part) for part in _split(record.encode(), JPEG_RECORD)]
    return b"".join(
        [head, *(_segment(kind, payload) for kind, payload in segments
                 if len(payload) <= _SEGMENT), content[at:]]
    )  # fmt: skip


def _short_block(metadata: Metadata) -> bytes:
    """The EXIF block, without its maker note where a segment would not hold it."""
    block = block_of(metadata, resolved=False)
    if len(block) > _SEGMENT - len(EXIF_SEGMENT):
        shorter = Exif(block)
        shorter.remove("exif", (tags.MAKER_NOTE,))
        block = bytes(shorter)
    return block


def _xmp_segments(metadata: Metadata) -> list[bytes]:
    """A packet's segment and those of what goes beyond it, by its MD5 (XMP part 3, 1.1.3.1)."""
    if len(metadata.xmp) <= _SEGMENT - len(XMP_SEGMENT):
        return [XMP_SEGMENT + metadata.xmp]
    import hashlib

    packet = re.sub(rb"<\?xpacket.*?\?>", b"", whole_xmp(metadata)).strip()
    name = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    pointer = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-"
        b"syntax-ns#'><rdf:Description rdf:about='' xmlns:xmpNote='" + xmp.NOTE.encode()
        + b"' xmpNote:HasExtendedXMP='" + name + b"'/></rdf:RDF></x:xmpmeta>"
    )  # fmt: skip
    segments = [XMP_SEGMENT + pointer]
    size = _SEGMENT - len(EXTENSION_SEGMENT) - 40
    for at in range(0, len(packet), size):
        place = name + struct.pack(">II", len(packet), at)
        segments.append(EXTENSION_SEGMENT + place + packet[at : at + size])
    return segments


def _segment(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(payload) + 2) + payload


def _split(content: bytes, header: bytes) -> list[bytes]:
    size = _SEGMENT - len(header)
    return [header + content[at : at + size] for at in range(0, len(content), size)]


def _density(resolution: Resolution) -> bytes:
    """Unit and densities of a JFIF header."""
    most = (1 << 16) - 1
    if resolution.unit == NONE:
        return struct.pack(">BHH", 0, *_ratio(resolution, most))
    x, y = resolution.x, resolution.y
    unit = resolution.unit
    if unit == CENTIMETER and (x.denominator, y.denominator) != (1, 1):
        unit, (x, y) = INCH, resolution.per(INCH)
    numbers = round(x), round(y)
    if not (min(numbers) > 0 and max(numbers) <= most):
        return struct.pack(">BHH", 0, 1, 1)
    return struct.pack(">BHH", 1 if unit == INCH else 2, *numbers)


def webp_with(content: bytes, record: str, size: tuple[int, int], alpha: bool) -> bytes:
    """A WebP with a record in a chunk of its own at the end."""
    if not record:
        return content
    body = content[12:]
    if body[:4] != b"VP8X":  # only the extended form holds other chunks
        height, width = size
        flags = 0x10 if alpha else 0
        head = bytes([flags, 0, 0, 0]) + _three(width - 1) + _three(height - 1)
        body = b"VP8X" + struct.pack("<I", len(head)) + head + body
    payload = record.encode()
    body += WEBP_RECORD + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def gif_with(content: bytes, metadata: Metadata | None, record: str) -> bytes:
    """A GIF with comments, XMP and a record in extensions behind its colors."""
    at = 13 + (3 << (1 + (content[10] & 7)) if content[10] & 0x80 else 0)
    blocks = b""
    for comment in _comments(metadata) if metadata else ():
        blocks += b"\x21\xfe" + _sub_blocks(comment.encode())
    if metadata and metadata.xmp:
        blocks += b"\x21\xff\x0b" + GIF_XMP + whole_xmp(metadata) + GIF_TRAILER + b"\0"
    if record:
        blocks += b"\x21\xff\x0b" + GIF_RECORD + _sub_blocks(record.encode())
    if not blocks:
        return content
    return b"GIF89a" + content[6:at] + blocks + content[at:]


def _sub_blocks(content: bytes) -> bytes:
    parts = (content[at : at + 255] for at in range(0, len(content), 255))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
