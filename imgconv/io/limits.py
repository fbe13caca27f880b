"""How large an image, a text or a network's value may be before it is refused, and what says so.

All that takes memory asks here first. Images are bounded by `--max-pixels`, and so are the files
that hold them, the work of decoding them and what networks make of them; texts that are parsed at
once have a small bound of their own.
"""

import io
import os
from typing import IO

from imgconv.errors import ImageError, LimitError

# Pillow raises above twice its warning limit of 2³⁰ / 4 / 3 pixels; so do we.
MAX_PIXELS = 2 * (1024 * 1024 * 1024 // 4 // 3)
MAX_FRAMES = 1 << 20
_BYTES_PER_PIXEL = 16
_SLACK = 1 << 26
# Of a kernel, a network, labels or a chain as text, whose lists take some thirty times as much.
MAX_TEXT = 1 << 25
# Passes of a progressive JPEG over an image at the limit; cameras and encoders make 3 to 12.
_PASSES = 20
_PIECE = 1 << 20


def check_frames(name: str, number: int) -> None:
    """Raise LimitError for more frames than are gone through; a header may declare any number."""
    if number > MAX_FRAMES:
        raise LimitError(f"{name}: {number} frames, more than the {MAX_FRAMES} of --frame all")


def file_limit(max_pixels: int) -> int:
    """The most bytes a file of an image within the limit can need."""
    return _BYTES_PER_PIXEL * max_pixels + _SLACK


def check_memory(what: str, size: int, max_pixels: int) -> None:
    """Raise LimitError for what would take more bytes at once than an image at the limit may."""
    limit = _BYTES_PER_PIXEL * max_pixels
    if size > limit:
        raise LimitError(
            f"{what}: {size} bytes at once, more than {limit} ({_BYTES_PER_PIXEL} for each of "
            f"{max_pixels} pixels); --max-pixels raises it"
        )


def exceeding(limit: int) -> str:
    """What a message says of a file that is longer than `file_limit`."""
    return (
        f"more than the {limit} bytes that an image within the limit of pixels needs at most; "
        "--max-pixels raises it"
    )


def read_at_most(file: IO[bytes], limit: int, head: bytes = b"") -> bytes:
    """Return `head` and all that follows in a file; more than `limit` bytes is cut at the next one.

    A pipe is asked for no more than that.
    """
    content = io.BytesIO()
    content.write(head)
    while (room := limit + 1 - content.tell()) > 0 and (piece := file.read(min(room, _PIECE))):
        content.write(piece)
    return content.getvalue()  # not a copy


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file that is parsed at once, UTF-8. Raises OSError, ValueError beyond MAX_TEXT.

    What calls it says which file that is.
    """
    with open(path, "rb") as file:
        data = read_at_most(file, MAX_TEXT)
    if len(data) > MAX_TEXT:
        raise ValueError(f"a text of more than {MAX_TEXT} bytes")
    return data.decode("utf-8-sig")


def scans_of(data: bytes) -> int:
    """How many scans a JPEG has, at most: coded samples never hold the mark of one."""
    return data.count(b"\xff\xda")


def check_passes(name: str, passes: int, pixels: int, limit: int) -> None:
    """Raise LimitError for a file whose scans go over its pixels more often than any file needs."""
    if passes * pixels > _PASSES * limit:
        raise LimitError(
            f"{name}: {passes} scans of {pixels} pixels are more work than {_PASSES} of "
            f"{limit}; --max-pixels raises it"
        )


def check_size(name: str, height: int, width: int, limit: int) -> None:
    """Raise LimitError for a declared size beyond the limit, ImageError for an empty one."""
    if height * width > limit:
        raise LimitError(
            f"{name}: {width}×{height} pixels are more than the limit of {limit}; "
            "--max-pixels raises it"
        )
    if height < 1 or width < 1:
        raise ImageError(f"{name}: an image of {width}×{height} pixels")
