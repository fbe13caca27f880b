"""Our own broken files, so that the suite is whole without any corpus beside it.

Everything is derived from small pictures that Pillow and our PNG maker write: prefixes, flipped
bits, and headers that lie.
"""

import functools
import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.png_maker import SIGNATURE, chunk, header

RAMP = (np.arange(16 * 14 * 3) * 7 % 251).astype(np.uint8).reshape(14, 16, 3)
FORMS = {
    "png": {}, "jpg": {"format": "JPEG"},
    "progressive.jpg": {"format": "JPEG", "progressive": True},
    "tif": {"format": "TIFF"}, "lzw.tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "gif": {"format": "GIF"}, "webp": {"format": "WEBP"}, "bmp": {}, "ppm": {}, "qoi": {},
    "sgi": {}, "pcx": {}, "dds": {}, "tga": {}, "jp2": {"format": "JPEG2000"}, "ico": {},
}  # fmt: skip


def whole(name):
    """The bytes of a small picture in the format of a key of FORMS."""
    buffer = io.BytesIO()
    options = {"format": name.upper(), **FORMS[name]}
    Image.fromarray(RAMP).save(buffer, **options)
    return buffer.getvalue()


def flipped(data, count, seed):
    """Yield `count` copies, each with one to three bits flipped."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        damaged = bytearray(data)
        for position in generator.integers(0, len(data), generator.integers(1, 4)):
            damaged[position] ^= 1 << int(generator.integers(0, 8))
        yield bytes(damaged)


def png(width, height, body, depth=8, color=2, before=b""):
    """A PNG whose header declares what it likes."""
    start = SIGNATURE + header(width, height, depth, color) + before
    return start + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bomb(size):
    """`size` zero bytes, deflated twice as hard as one pass would."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def tiff(width, height, entries=()):
    """A little-endian TIFF of one directory that declares width × height gray samples."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1),
            (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 64),
            *entries]  # fmt: skip
    body = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return (
        b"II*\0"
        + struct.pack("<I", 72)
        + bytes(64)
        + struct.pack("<H", len(tags))
        + body
        + bytes(4)
    )


def npy(shape, descr="<f4", body=b""):
    """An NPY array whose header declares what it likes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body


def npz(**members):
    """A deflated NPZ of raw members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def lying_npz(declared, present):
    """An NPZ whose directory declares another size than its member has."""
    data = bytearray(npz(a=npy((4, 4), "|u1", bytes(16))))
    for signature, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        at = data.find(signature)
        struct.pack_into("<I", data, at + offset, declared)
        struct.pack_into("<I", data, at + offset - 4, present)
    return bytes(data)


@functools.cache
def lying():
    """Name → a file whose header or length lies, in every way that we know of."""
    deep = b"a\0\0" + bomb(64 << 20)
    pixels = zlib.compress(bytes(14 * (1 + 16 * 3)))
    return {
        "huge-header.png": png(2**31 - 1, 2**31 - 1, pixels),
        "huge-square.png": png(30_000, 30_000, pixels),
        "beyond-31-bits.png": png(2**32 - 1, 1, pixels),
        "empty-width.png": png(0, 5, pixels),
        "bad-depth.png": png(16, 14, pixels, depth=5),
        "bad-color.png": png(16, 14, pixels, color=7),
        "no-palette.png": png(16, 14, pixels, color=3),
        "bomb-in-rows.png": png(16, 14, bomb(64 << 20)),
        "bomb-in-text.png": png(16, 14, pixels, before=chunk(b"zTXt", deep)),
        "bomb-in-profile.png": png(16, 14, pixels, before=chunk(b"iCCP", deep)),
        "short-data.png": png(16, 14, zlib.compress(bytes(10))),
        "wrong-crc.png": whole("png")[:-20] + bytes(8) + whole("png")[-12:],
        "chunk-too-long.png": SIGNATURE + header(16, 14, 8, 2) + b"\x7f\xff\xff\xffIDAT" + pixels,
        "chunk-of-4-gb.png": SIGNATURE + header(16, 14, 8, 2) + b"\xff\xff\xff\xffIDAT" + pixels,
        "only-a-signature.png": SIGNATURE,
        "two-headers.png": SIGNATURE + header(16, 14, 8, 2) * 2 + chunk(b"IDAT", pixels),
        "huge.jpg": whole("jpg").replace(b"\xff\xc0\x00\x11\x08\x00\x0e\x00\x10",
                                         b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"),
        "huge.gif": b"GIF89a\xff\xff\xff\xff" + whole("gif")[10:],
        "huge.bmp": whole("bmp")[:18] + struct.pack("<ii", 2**30, 2**30) + whole("bmp")[26:],
        "negative.bmp": whole("bmp")[:18] + struct.pack("<ii", -5, -5) + whole("bmp")[26:],
        "huge.ppm": b"P6 1000000 1000000 255\n" + bytes(100),
        "huge-digits.ppm": b"P6 " + b"9" * 5000 + b" 1 255\n",
        "zero-maximum.ppm": b"P6 2 2 0\n" + bytes(12),
        "huge.pfm": b"PF\n1000000 1000000\n-1.0\n" + bytes(100),
        "huge.tif": tiff(2**31 - 1, 2**31 - 1),
        "long.tif": tiff(60_000, 20_000),
        "strip-beyond.tif": tiff(8, 8, ()).replace(struct.pack("<HHII", 273, 4, 1, 8),
                                                   struct.pack("<HHII", 273, 4, 1, 2**31)),
        "many-values.tif": tiff(8, 8, ((330, 4, 2**31, 8),)),
        "directory-loop.tif": tiff(8, 8)[:-4] + struct.pack("<I", 72),
        "directory-beyond.tif": b"II*\0" + struct.pack("<I", 2**31),
        "huge.qoi": b"qoif" + struct.pack(">II", 2**31, 2**31) + bytes(20),
        "huge.dds": whole("dds")[:12] + struct.pack("<II", 2**31, 2**31) + whole("dds")[20:],
        "huge.sgi": whole("sgi")[:6] + struct.pack(">HHH", 65535, 65535, 4) + whole("sgi")[12:],
        "huge.tga": whole("tga")[:12] + b"\xff\xff\xff\xff" + whole("tga")[16:],
        "huge.npy": npy((2**20, 2**20)),
        "overflowing.npy": npy((2**40, 2**40)),
        "negative.npy": npy((-1, 5)),
        "many-dimensions.npy": npy((1,) * 40, "<f4", bytes(4)),
        "not-numbers.npy": npy((2, 2), "<U9", bytes(144)),
        "objects.npy": npy((2, 2), "|O", bytes(100)),
        "deep-header.npy": b"\x93NUMPY\1\0" + struct.pack("<H", 60_000) + b"(" * 60_000,
        "long-header.npy": b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b"{" * 100,
        "word-after-digit.npy": npy("(2if 1else 2, 2)", "<f4", bytes(16)),
        "truncated.npy": npy((64, 64), "<f4", bytes(100)),
        "bomb.npz": npz(a=npy((2**14, 2**14, 1), "<f4", bytes(1 << 20))),
        "honest-bomb.npz": npz(a=npy((2**13, 2**15), "<f8", b"")[:128] + bytes(64 << 20)),
        "lying-up.npz": lying_npz(2**31, 16),
        "lying-down.npz": lying_npz(1, 1),
        "ragged.csv": b"1,2\n3\n",
        "words.csv": b"1,two\n3,4\n",
        "one-long-line.txt": b"1 " * 200_000,
        "not-text.csv": b"\xff\xfe\x00\x01" * 20,
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "document.png": b"%PDF-1.7\n1 0 obj\nendobj\n",
        "script.png": b"#!/bin/sh\ntouch canary\n",
        "empty.png": b"",
        "zeros.png": bytes(1000),
    }  # fmt: skip
