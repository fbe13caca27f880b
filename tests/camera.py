"""A photo as cameras write it, made byte by byte: EXIF with a maker note, GPS and a thumbnail,
XMP, IPTC, a comment; nothing of imgconv is imported here."""

import io
import struct

import numpy as np
from PIL import Image

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
CODES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 7: "B", 10: "i"}
MAKER_NOTE_AT = 1000
ORIENTATION = 6
XMP = b"""<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation="6"
 xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:e='http://ns.adobe.com/exif/1.0/'>
<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>L\xc3\xa9man &amp; Alpes</rdf:li></rdf:Alt>
</dc:title>
<e:PixelXDimension>96</e:PixelXDimension><e:PixelYDimension>64</e:PixelYDimension>
<xmp:Thumbnails xmlns:xmp='http://ns.adobe.com/xap/1.0/'><rdf:Alt><rdf:li>/9j/</rdf:li></rdf:Alt>
</xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end='w'?>"""
COMMENT = "Zürich, seen from above"
IPTC = {(2, 25): [b"lake", b"evening"], (2, 120): [b"The lake in the evening"], (2, 80): [b"A. B."]}


def ascii_(text):
    return 2, text.encode() + b"\0"


def rationals(*numbers):
    return 5, numbers


def shorts(*numbers):
    return 3, numbers


MAIN = {
    0x010E: ascii_("A lake"), 0x010F: ascii_("Canon"), 0x0110: ascii_("Canon EOS 5D"),
    0x0112: shorts(ORIENTATION), 0x011A: rationals(300, 1), 0x011B: rationals(300, 1),
    0x0128: shorts(2), 0x0131: ascii_("Firmware 1.2"), 0x0132: ascii_("2020:05:06 07:08:09"),
    0x013B: ascii_("Anna Beispiel"), 0x8298: ascii_("(c) Anna Beispiel"),
}  # fmt: skip
EXIF = {
    0x829A: rationals(1, 250), 0x829D: rationals(28, 10), 0x8827: shorts(400),
    0x9000: (7, b"0232"), 0x9003: ascii_("2020:05:06 07:08:09"), 0x9204: (10, (-1, 3)),
    0x9214: shorts(40, 30, 5, 5), 0x9286: (7, b"ASCII\0\0\0a user's comment"),
    0xA001: shorts(1), 0xA002: shorts(96), 0xA003: shorts(64),
}  # fmt: skip
GPS = {
    0x0000: (1, (2, 3, 0, 0)), 0x0001: ascii_("N"), 0x0002: rationals(47, 1, 22, 1, 3000, 100),
    0x0003: ascii_("E"), 0x0004: rationals(8, 1, 32, 1, 0, 1),
}  # fmt: skip


def packed(order, kind, values):
    if isinstance(values, bytes):
        return values
    return struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)


def directory(order, at, entries, following=0):
    """A directory that stands at a place, and its values behind it."""
    place = at + 6 + 12 * len(entries)
    table, tail = struct.pack(f"{order}H", len(entries)), b""
    for tag in sorted(entries):
        kind, values = entries[tag]
        stored = packed(order, kind, values)
        table += struct.pack(f"{order}HHI", tag, kind, len(stored) // SIZES[kind])
        if len(stored) > 4:
            table += struct.pack(f"{order}I", place + len(tail))
            tail += stored + b"\0" * (len(stored) % 2)
        else:
            table += stored.ljust(4, b"\0")
    return table + struct.pack(f"{order}I", following) + tail


def maker_note(order):
    """As Canon's: a directory whose offsets count from the start of the EXIF block."""
    return directory(order, MAKER_NOTE_AT, {6: ascii_("Canon EOS 5D\0"), 9: ascii_("Anna B.")})


def thumbnail(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels[::4, ::4]).save(buffer, "JPEG")
    return buffer.getvalue()


def exif(order=">", small=b""):
    """An EXIF block; small: a thumbnail. The directories of the photo, GPS and thumbnail follow
    the maker note, which stands at MAKER_NOTE_AT."""
    note = maker_note(order)
    body = note
    own_at = MAKER_NOTE_AT + len(body)
    body += directory(order, own_at, EXIF | {0x927C: (7, b"12345")}).replace(
        struct.pack(f"{order}HHI", 0x927C, 7, 5),
        struct.pack(f"{order}HHI", 0x927C, 7, len(note)),
    )
    at = len(note) + 2 + 12 * sorted([*EXIF, 0x927C]).index(0x927C) + 8
    body = body[:at] + struct.pack(f"{order}I", MAKER_NOTE_AT) + body[at + 4 :]
    gps_at = MAKER_NOTE_AT + len(body)
    body += directory(order, gps_at, GPS)
    small_at = MAKER_NOTE_AT + len(body) if small else 0
    if small:
        size = {0x0103: shorts(6), 0x0202: (4, (len(small),))}
        behind = small_at + len(directory(order, small_at, size | {0x0201: (4, (0,))}))
        body += directory(order, small_at, size | {0x0201: (4, (behind,))}) + small
    main = MAIN | {0x8769: (4, (own_at,)), 0x8825: (4, (gps_at,))}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return (head + directory(order, 8, main, small_at)).ljust(MAKER_NOTE_AT, b"\0") + body


def iptc():
    records = b""
    for (record, dataset), values in IPTC.items():
        for value in values:
            records += bytes([0x1C, record, dataset]) + struct.pack(">H", len(value)) + value
    return records


def resource(number, data):
    size = struct.pack(">I", len(data))
    return b"8BIM" + struct.pack(">H", number) + b"\0\0" + size + data + b"\0" * (len(data) % 2)


def photo(height=64, width=96):
    """(height, width, 3), as a camera turned to its side stores it."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + y / 5), np.sin(x / 7 - y / 11), np.cos(x / 15) * np.sin(y / 6)]
    return np.stack([127 + 120 * wave for wave in waves], axis=-1).astype(np.uint8)


def tiff(pixels):
    """The bytes of a 16-bit scan or development with the photo's EXIF, GPS, XMP and IPTC."""
    import tifffile

    buffer = io.BytesIO()
    # tifffile writes no pointers to directories: these two stand where they will.
    extra = [(0x8768, "I", 1, 0), (0x8824, "I", 1, 0), (700, "B", len(XMP), XMP),
             (33723, "B", len(iptc()), iptc())]  # fmt: skip
    texts = (0x010F, 0x0110, 0x013B, 0x8298)
    extra += [(tag, "s", 0, MAIN[tag][1][:-1].decode()) for tag in texts]
    tifffile.imwrite(
        buffer, pixels, photometric="rgb", metadata=None, byteorder="<", extratags=extra,
        description="A lake", software="Firmware 1.2", datetime="2020:05:06 07:08:09",
        resolution=(300, 300), resolutionunit=2,
    )  # fmt: skip
    content = buffer.getvalue()
    content += b"\0" * (len(content) % 2)
    for tag, entries in ((0x8769, EXIF), (0x8825, GPS)):
        at = len(content)
        empty, full = (
            struct.pack("<HHII", *entry) for entry in ((tag - 1, 4, 1, 0), (tag, 4, 1, at))
        )
        assert content.count(empty) == 1
        content = content.replace(empty, full) + directory("<", at, entries)
        content += b"\0" * (len(content) % 2)
    return content


def segment(marker, payload):
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def jpeg(pixels=None, order=">", quality=83, **options):
    """The bytes of the whole photo."""
    pixels = photo() if pixels is None else pixels
    buffer = io.BytesIO()
    block = exif(order, thumbnail(pixels))
    Image.fromarray(pixels).save(
        buffer, "JPEG", quality=quality, subsampling=1, dpi=(300, 300), exif=b"Exif\0\0" + block,
        xmp=XMP, comment=COMMENT.encode(), **options,
    )  # fmt: skip
    content = buffer.getvalue()
    blocks = resource(0x0404, iptc()) + resource(0x040C, bytes(28) + thumbnail(pixels))
    return content[:20] + segment(0xED, b"Photoshop 3.0\0" + blocks) + content[20:]
