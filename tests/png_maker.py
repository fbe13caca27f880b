"""A tiny PNG encoder that follows the specification's text, as a source of odd files for tests.

It imports nothing from imgconv, so what it writes is an oracle for the reader.
"""

import struct
import zlib

import numpy as np

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
TYPES = [
    *((0, depth) for depth in (1, 2, 4, 8, 16)), (2, 8), (2, 16),
    *((3, depth) for depth in (1, 2, 4, 8)), (4, 8), (4, 16), (6, 8), (6, 16),
]  # fmt: skip
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
         (1, 0, 2, 1)]  # fmt: skip
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, payload, crc=None):
    crc = zlib.crc32(kind + payload) if crc is None else crc
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc)


def header(width, height, depth, color, interlaced=0, compression=0, filtering=0):
    fields = (width, height, depth, color, compression, filtering, interlaced)
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))


def predictor(kind, left, above, corner):
    if kind == 4:
        estimate = left + above - corner
        distances = [abs(estimate - value) for value in (left, above, corner)]
        return (left, above, corner)[distances.index(min(distances))]
    return (0, left, above, (left + above) // 2)[kind]


def filtered(rows, step, kinds):
    """Scanlines of packed rows; kinds: the filter type of each row, repeated as needed."""
    lines = bytearray()
    before = bytes(len(rows[0]))
    for y, row in enumerate(rows):
        kind = kinds[y % len(kinds)]
        lines.append(kind)
        for i, value in enumerate(row):
            left = row[i - step] if i >= step else 0
            corner = before[i - step] if i >= step else 0
            lines.append((value - predictor(kind, left, before[i], corner)) & 255)
        before = row
    return bytes(lines)


def packed(samples, depth):
    """Rows of bytes from samples (H, W, C)."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in samples]
    rows = []
    for row in samples.reshape(len(samples), -1):
        bits = "".join(format(int(value), f"0{depth}b") for value in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return rows


def scanlines(samples, depth, kinds, interlaced=False):
    step = max(1, samples.shape[2] * depth // 8)
    parts = [samples]
    if interlaced:
        parts = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7]
    return b"".join(filtered(packed(p, depth), step, kinds) for p in parts if p.size)


def make(samples, depth, color, kinds=(0,), interlaced=False, before=b"", pieces=1, data=None):
    """A PNG file of samples (H, W, C). before: whole chunks put in front of the image data."""
    height, width = samples.shape[:2]
    if data is None:
        data = zlib.compress(scanlines(samples, depth, kinds, interlaced))
    size = max(1, -(-len(data) // pieces))
    image = b"".join(chunk(b"IDAT", data[i : i + size]) for i in range(0, len(data), size))
    start = SIGNATURE + header(width, height, depth, color, int(interlaced))
    return start + before + image + chunk(b"IEND", b"")


def random_samples(rng, height, width, color, depth):
    """Samples that are part smooth, part noise, so that every branch of Paeth is taken."""
    shape = (height, width, CHANNELS[color])
    top = 1 << depth
    smooth = np.add.outer(np.arange(height), np.arange(width))[..., None] * (top / 64)
    noise = rng.integers(0, top, shape)
    return np.where(rng.random(shape) < 0.5, smooth.astype(np.int64) % top, noise)
