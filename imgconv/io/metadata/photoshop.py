"""Photoshop's image resources, in which JPEG, TIFF and PNG keep IPTC.

Source: Adobe Photoshop File Formats Specification, "Image Resources Section"; IPTC-IIM 4.2.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from imgconv.io.metadata.exif import Broken

HEADER = b"Photoshop 3.0\0"  # of JPEG's segment
IPTC = 0x0404
_RESOLUTION = 0x03ED
# Thumbnails show the old image; a profile, EXIF and XMP are carried on their own.
_DROPPED = frozenset({0x0409, 0x040C, 0x040F, 0x0422, 0x0423, 0x0424})
_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
_MOST = 4096


class Resource(NamedTuple):
    """One block: its signature and number, its padded Pascal name, and its data."""

    signature: bytes
    number: int
    name: bytes
    data: bytes

    def __bytes__(self) -> bytes:
        head = self.signature + self.number.to_bytes(2, "big") + self.name
        return head + len(self.data).to_bytes(4, "big") + self.data + b"\0" * (len(self.data) % 2)


def resources(blocks: bytes) -> Iterator[Resource]:
    """Yield the resources of a run of blocks. Raises Broken where they leave it."""
    at = 0
    for _ in range(_MOST):
        if len(blocks) - at < 12:
            return
        signature = blocks[at : at + 4]
        if signature not in _SIGNATURES:
            raise Broken("Photoshop resources without a signature")
        (number,) = struct.unpack_from(">H", blocks, at + 4)
        name_end = at + 6 + (1 + blocks[at + 6] + 1) // 2 * 2
        if name_end + 4 > len(blocks):
            raise Broken("Photoshop resources that end within one")
        (size,) = struct.unpack_from(">I", blocks, name_end)
        start = name_end + 4
        if start + size > len(blocks):
            raise Broken("Photoshop resources that end within one")
        yield Resource(signature, number, blocks[at + 6 : name_end], blocks[start : start + size])
        at = start + size + size % 2


def of_iptc(iptc: bytes) -> bytes:
    """The block that holds IPTC records."""
    return bytes(Resource(b"8BIM", IPTC, b"\0\0", iptc))


def iptc_of(blocks: bytes) -> bytes:
    """The IPTC records among the blocks, b"" where there are none."""
    return next((one.data for one in resources(blocks) if one.number == IPTC), b"")


def without_iptc(blocks: bytes) -> bytes:
    """The other blocks."""
    return b"".join(bytes(one) for one in resources(blocks) if one.number != IPTC)


def adjusted(blocks: bytes, scale: tuple[Fraction, Fraction] | None) -> bytes:
    """The blocks that still hold; scale: of the resolution (x, y), None where it is unknown.

    Raises Broken.
    """
    found = []
    for one in resources(blocks):
        if one.number in _DROPPED:
            continue
        if one.number == _RESOLUTION and len(one.data) == 16:
            if scale is None:
                continue
            x, unit_x, y, unit_y = struct.unpack(">IIII", one.data)
            x, y = (min(round(v * s), 2**32 - 1) for v, s in zip((x, y), scale, strict=True))
            one = one._replace(data=struct.pack(">IIII", x, unit_x, y, unit_y))
        found.append(bytes(one))
    return b"".join(found)
