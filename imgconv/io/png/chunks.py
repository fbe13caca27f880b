"""PNG's container: chunks, their checksums, the header and what ancillary chunks say.

Source: Portable Network Graphics Specification, third edition (W3C), sections 5 and 11.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Literal, NamedTuple

from imgconv.errors import ImageError
from imgconv.io.codecs.deflate import codec

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# What is kept for outputs beside a profile.
CARRIED = frozenset({b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"eXIf", b"gAMA", b"cHRM",
                     b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sTER"})  # fmt: skip
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PROFILE_LIMIT = 16 << 20
_TEXT_LIMIT = 1 << 20
_CHUNK_LIMIT = 100_000
_LENGTH_AND_KIND = Struct(">I4s")
_HEADER = Struct(">IIBBBBB")


class Unusual(ImageError):
    """A PNG that is left to Pillow; the message says what is unusual about it."""


class Damaged(Unusual):
    """The pixels' own data is damaged: Pillow would show what it can guess of them in silence."""


class Header(NamedTuple):
    """The IHDR chunk. color: 0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGB + alpha."""

    width: int
    height: int
    depth: int
    color: int
    interlaced: bool

    @property
    def bits(self) -> int:
        """Bits of a pixel in the file."""
        return self.depth * CHANNELS[self.color]

    @property
    def step(self) -> int:
        """Bytes between a byte and the one that filters call its left neighbor."""
        return max(1, self.bits // 8)

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` pixels, without the filter byte."""
        return (width * self.bits + 7) // 8


@dataclass(eq=False, repr=False)
class Facts:
    """What ancillary chunks say.

    palette, transparency: the PLTE and tRNS chunks as they are. icc: the inflated profile, the
    first of `profiles`.
    gamma: of the samples (the gAMA value, 0.45455 for 1/2.2). srgb: the rendering intent.
    exif: the TIFF structure of the eXIf chunk. text: keyword → value of tEXt, zTXt, iTXt.
    carried: (kind, payload) of the chunks of CARRIED, as they are.
    """

    palette: bytes = b""
    transparency: bytes = b""
    icc: bytes | None = None
    profiles: int = 0
    gamma: float | None = None
    srgb: int | None = None
    exif: bytes = b""
    text: dict[str, str] = field(default_factory=dict)
    text_size: int = 0
    carried: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def orientation(self) -> int:
        """EXIF orientation 1…8; 1 where the file says none.

        Looked for where Pillow does: eXIf, then the hexadecimal text that ImageMagick wrote
        before eXIf existed, then XMP.
        """
        exif = self.exif or _exif_in_text(self.text.get("Raw profile type exif", ""))
        found = _orientation(exif)
        if not found:
            _, tag, rest = self.text.get("XML:com.adobe.xmp", "").partition("tiff:Orientation")
            digit = rest.lstrip('=">')[:1] if tag else ""
            found = int(digit) if digit in "12345678" and digit else 1
        return found


def walk(data: memoryview, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, stop) of each chunk's payload from `position` to IEND, included.

    Raises ImageError where the data ends before IEND does, Unusual for a name that is none.
    """
    size = len(data)
    while True:
        if position + 12 > size:
            raise ImageError(f"truncated PNG: it ends at byte {size}, before its last chunk")
        length, kind = _LENGTH_AND_KIND.unpack_from(data, position)
        start = position + 8
        position = start + length + 4
        if not kind.isalpha():
            raise Unusual(f"broken PNG: chunk name {kind!r} at byte {start - 4}")
        if position > size:
            raise ImageError(
                f"truncated PNG: chunk {kind.decode()} needs bytes up to {position}, "
                f"the data ends at {size}"
            )
        yield kind, start, start + length
        if kind == b"IEND":
            return


def check(data: memoryview, start: int, stop: int) -> None:
    """Raise Unusual when the checksum after a chunk's payload is wrong."""
    stored = int.from_bytes(data[stop : stop + 4], "big")
    if codec.crc32(data[start - 4 : stop]) != stored:
        kind = bytes(data[start - 4 : start]).decode()
        raise (Damaged if kind[0].isupper() else Unusual)(
            f"damaged PNG: wrong checksum of chunk {kind} at byte {start - 4}"
        )


def parse_header(data: memoryview) -> Header:
    """Read signature and IHDR. Raises Unusual for what is not a PNG by the specification."""
    if bytes(data[:8]) != SIGNATURE:
        raise Unusual("not a PNG")
    kind, start, stop = next(walk(data, 8))
    if kind != b"IHDR" or stop - start != 13:
        raise Unusual("broken PNG: it does not start with IHDR of 13 bytes")
    check(data, start, stop)
    width, height, depth, color, compression, filtering, interlace = _HEADER.unpack_from(
        data, start
    )
    if depth not in _DEPTHS.get(color, ()) or compression or filtering or interlace > 1:
        raise Unusual(
            f"PNG of bit depth {depth}, color type {color}, compression {compression}, "
            f"filter method {filtering}, interlace {interlace}"
        )
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise Unusual(f"broken PNG: {width}×{height} pixels")
    return Header(width, height, depth, color, bool(interlace))


def pack(kind: bytes, payload: bytes) -> bytes:
    """Return a whole chunk."""
    body = kind + payload
    return len(payload).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def parse_facts(data: memoryview) -> tuple[Facts, int, int, int]:
    """Read every chunk but the image data.

    Returns the facts, the first IDAT chunk's position, where the run of IDAT chunks ends, and
    their payload in bytes. Raises Unusual for wrong checksums, animation, chunks out of order
    and critical chunks that are unknown; ImageError for more chunks than any real file has.
    """
    facts = Facts()
    first = end = total = pieces = others = 0
    for kind, start, stop in walk(data, 33):
        if kind == b"IDAT":
            if end and end != start - 8:
                raise Unusual("broken PNG: other chunks between its IDAT chunks")
            first = first or start - 8
            end = stop + 4
            total += stop - start
            pieces += 1
            limit = _CHUNK_LIMIT + total // 256
        else:
            check(data, start, stop)
            others += 1
            limit = _CHUNK_LIMIT
            _take(facts, kind, data[start:stop], bool(first))
        if max(pieces, others) > limit:
            raise ImageError(f"PNG of more than {limit} chunks, most of them tiny: refused")
    if not first:
        raise Unusual("broken PNG: no IDAT chunk")
    return facts, first, end, total


def carried_facts(data: bytes) -> Facts:
    """What the chunks of CARRIED say in a file that may be damaged, animated or both."""
    facts, at = Facts(), 8
    while at + 12 <= len(data):
        length, kind = _LENGTH_AND_KIND.unpack_from(data, at)
        start, at = at + 8, at + 12 + length
        if kind in CARRIED and at <= len(data):
            _take(facts, kind, memoryview(data)[start : start + length], False)
    return facts


def _take(facts: Facts, kind: bytes, payload: memoryview, late: bool) -> None:
    """Note what one chunk says; ancillary chunks that make no sense are passed over."""
    if kind in CARRIED:
        facts.carried.append((kind, bytes(payload)))
    if kind in (b"PLTE", b"tRNS"):
        name = "palette" if kind == b"PLTE" else "transparency"
        if late or getattr(facts, name) or (kind == b"PLTE" and facts.transparency):
            raise Unusual(f"broken PNG: chunk {kind.decode()} out of place")
        if len(payload) > 768:
            raise Unusual(f"broken PNG: chunk {kind.decode()} of {len(payload)} bytes")
        setattr(facts, name, bytes(payload))
    elif kind in (b"acTL", b"fcTL", b"fdAT"):
        raise Unusual("animated PNG")
    elif kind == b"gAMA" and len(payload) >= 4:
        facts.gamma = int.from_bytes(payload[:4], "big") / 100000
    elif kind == b"sRGB" and len(payload) >= 1:
        facts.srgb = payload[0]
    elif kind == b"eXIf":
        facts.exif = bytes(payload)
    elif kind == b"iCCP":
        facts.profiles += 1
        _, separator, rest = bytes(payload).partition(b"\0")
        if facts.profiles == 1 and separator and rest[:1] == b"\0":  # section 11.3.2.3: one
            facts.icc = inflate(rest[1:], _PROFILE_LIMIT)
    elif kind in (b"tEXt", b"zTXt", b"iTXt"):
        _take_text(facts, kind, bytes(payload))
    elif kind[:1].isupper() and kind != b"IEND":
        raise Unusual(f"PNG with the unknown critical chunk {kind.decode()}")


def _take_text(facts: Facts, kind: bytes, payload: bytes) -> None:
    keyword, _, rest = payload.partition(b"\0")
    value: bytes | None = rest
    if facts.text_size > 4 * _TEXT_LIMIT and keyword != b"imgconv":
        return
    if kind == b"zTXt":
        value = inflate(rest[1:], _TEXT_LIMIT) if rest[:1] == b"\0" else None
    elif kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)
        value = parts[2] if len(parts) == 3 else None
        if value is not None and rest[0]:
            value = inflate(value, _TEXT_LIMIT) if rest[1] == 0 else None
    if value is None or not keyword or facts.text_size + len(value) > 4 * _TEXT_LIMIT:
        facts.text_size += _TEXT_LIMIT  # what is too long, or broken, took as long to find out
        return
    facts.text_size += len(value)
    encoding = "utf-8" if kind == b"iTXt" else "latin-1"
    facts.text[keyword.decode("latin-1")] = value.decode(encoding, "replace")


def inflate(packed: bytes, limit: int) -> bytes | None:
    """Inflate a whole zlib stream; None when it is damaged or longer than `limit`."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, limit)
    except zlib.error:
        return None
    return content if stream.eof else None


def _exif_in_text(text: str) -> bytes:
    """The EXIF block of ImageMagick's text form: a name, a length, hexadecimal lines."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}


def _orientation(exif: bytes) -> int:
    """The Orientation tag (0x0112, a SHORT) of a TIFF structure's first directory, or 0."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(exif[:4])
    if order is None:
        return 0
    directory = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[directory : directory + 2], order)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(exif) - 11), 12):
        if int.from_bytes(exif[entry : entry + 2], order) == 0x0112:
            value = int.from_bytes(exif[entry + 8 : entry + 10], order)
            return value if 1 <= value <= 8 else 0
    return 0
