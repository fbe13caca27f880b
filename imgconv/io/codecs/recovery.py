"""What a damaged file still holds: all of its pixels, though its end mark or a part beside the
pixels is broken, or those before the place where it was cut.

The first is read with a note; the second only where `--truncated allow` asks for it.
"""

import contextlib
import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from imgconv.errors import ImageError
from imgconv.io.codecs import pillow
from imgconv.io.codecs.truncation import NO_TRAILER, missing_end, progressive_to_the_end
from imgconv.typing import Array

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_END = b"\xff\xd9"
# Two ends that a decoder that still wants samples makes different ones of.
_FILLS = (b"\x00" * 64, b"\x5a\x93" * 32)
_APP0, _EXIF, _ADOBE, _LAST_APP, _SCAN = 0xE0, 0xE1, 0xEE, 0xEF, 0xDA
_BESIDE_PNG = frozenset({b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT"})


def ended(
    kind: str, data: bytes, name: str, max_pixels: int, partial: bool
) -> tuple[bytes, list[str]]:
    """Return a file's bytes with the end they lack, and notes of that.

    partial: take files without all of their pixels too. Raises ImageError for those otherwise.
    """
    missing = missing_end(kind, data)
    if missing is None:
        return data, []
    if kind == "JPEG":
        cut = data.rstrip(b"\xff")
        if partial or _all_there(cut, name, max_pixels):
            what = "what is missing is gray" if partial else "all of its pixels are there"
            return cut + _END, [f"{name}: truncated JPEG: {missing}; {what}"]
    elif kind == "GIF" and missing == NO_TRAILER:
        return data + b";", [f"{name}: truncated GIF: {missing}; all of its pixels are there"]
    if partial:
        return data, [f"{name}: truncated {kind}: {missing}"]
    raise ImageError(
        f"{name}: truncated {kind}: {missing}; --truncated allow takes the pixels that are there"
    )


def _all_there(data: bytes, name: str, max_pixels: int) -> bool:
    """Whether all coefficients of a JPEG without an end are there.

    A decoder fills in what it lacks without a word; so it is given two different ends.
    """
    if not progressive_to_the_end(data):
        return False
    try:
        first, second = (_samples(data + fill + _END, name, max_pixels) for fill in _FILLS)
    except ImageError:
        return False
    return np.array_equal(first, second)


def _samples(data: bytes, name: str, max_pixels: int) -> Array:
    with pillow.decoding(name, max_pixels):
        opened = pillow.open_image(io.BytesIO(data), "JPEG", name)
        pillow.check_pixels(opened, name, max_pixels)
        opened.load()
        return np.asarray(opened)


def opened_by_pillow(
    kind: str, data: bytes, name: str, open_: Callable[[bytes], "tuple[ImageFile, int]"]
) -> tuple["tuple[ImageFile, int]", list[str]]:
    """What `open_` makes of a file, at need without the parts beside its pixels, and notes.

    Raises ImageError where these are not to blame.
    """
    try:
        return open_(data), []
    except ImageError:
        bare = {"JPEG": _bare_jpeg, "PNG": _bare_png}.get(kind, _as_it_is)(data)
        if len(bare) == len(data):
            raise
        with contextlib.suppress(ImageError):
            return open_(bare), [f"{name}: a damaged profile, animation or comment is left out"]
        raise


def _as_it_is(data: bytes) -> bytes:
    return data


def _bare_png(data: bytes) -> bytes:
    """A PNG without what is not its first picture."""
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind not in _BESIDE_PNG:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join([*kept, data[at:]])


def _bare_jpeg(data: bytes) -> bytes:
    """A JPEG without application segments but EXIF's and Adobe's, which says what colors are."""
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if not _APP0 <= data[at + 1] <= _LAST_APP or data[at + 1] in (_EXIF, _ADOBE):
            kept.append(data[at:stop])
        at = stop
    return b"".join([*kept, data[at:]])
