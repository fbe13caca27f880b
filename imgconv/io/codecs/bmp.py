"""BMP whose colors are bit fields of any place and width, of which Pillow knows some twelve.

Source: Microsoft, BITMAPV5HEADER (wingdi.h). Fields wider than 8 bits are narrowed to 8, rounded.
"""

import struct
from collections.abc import Callable

import numpy as np

from imgconv.errors import ImageError
from imgconv.io.image import Image
from imgconv.typing import Array

_BIT_FIELDS, _WITH_ALPHA = 3, 6
_HEADERS = (40, 52, 56, 108, 124)
_MASKS = 54  # where they are in the file, be they part of the header or behind it
_OF_PILLOW = {16: ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F))}


def decode(data: bytes, name: str, check: Callable[[int, int], None]) -> Image | None:
    """Return the image, None for what Pillow is to read.

    check: called with (height, width), raises beyond a limit. Raises ImageError.
    """
    if len(data) < _MASKS + 16 or data[:2] != b"BM":
        return None
    start, size, width, height = struct.unpack_from("<IIii", data, 10)
    bits, compression = struct.unpack_from("<HI", data, 28)
    masks = struct.unpack_from("<4I", data, _MASKS)
    if size < 56 and compression != _WITH_ALPHA:
        masks = (*masks[:3], 0)
    known = size in _HEADERS and compression in (_BIT_FIELDS, _WITH_ALPHA) and bits in (16, 32)
    if not known or masks[:3] in _OF_PILLOW.get(bits, ()):
        return None
    height, upward = abs(height), height > 0
    check(height, width)
    if not all(masks[:3]) or not all(map(_is_run, masks)) or max(masks) >= 1 << bits:
        raise ImageError(f"{name}: broken BMP: bit fields {' '.join(f'{m:x}' for m in masks)}")
    row = (width * bits + 31) // 32 * 4
    if start < _MASKS or start + row * height > len(data):
        raise ImageError(
            f"{name}: truncated BMP: {row * height} bytes at {start} declared, the file has "
            f"{len(data)}"
        )
    rows = np.frombuffer(data, np.uint8, row * height, start).reshape(height, row)
    stored = rows[:: -1 if upward else 1, : width * bits // 8].copy().view(f"<u{bits // 8}")
    planes = [_field(stored, mask) for mask in masks if mask]
    return Image(
        np.stack(planes, axis=2), alpha=bool(masks[3]), name=name, format="BMP",
        info={"orientation": 1},
    )  # fmt: skip


def _is_run(mask: int) -> bool:
    """Whether the bits that are set are next to each other."""
    lowest = mask & -mask
    return mask & (mask + lowest) == 0


def _field(stored: Array, mask: int) -> Array:
    shift = (mask & -mask).bit_length() - 1
    full = mask >> shift
    values = (stored.astype(np.uint64) & mask) >> shift
    found: Array = ((values * 255 + full // 2) // full).astype(np.uint8)
    return found
