"""Grids of numbers as text: CSV and TXT.

A line is a row; numbers are separated by commas, semicolons, tabs or spaces; `#` begins a
comment. An empty line begins the next channel, so that files written here are read back.
"""

from array import array
from collections.abc import Iterator

import numpy as np

from imgconv.errors import ImageError, LimitError
from imgconv.io.image import Image
from imgconv.typing import Array

_PIECE = 1 << 20  # bytes that are parsed at once
_SEPARATORS = str.maketrans(",;\t", "   ")


def decode(data: bytes, name: str, max_pixels: int) -> Image:
    """Read a grid to float64 (H, W, C). Raises ImageError naming the line, LimitError."""
    numbers, widths, heights = array("d"), [0], [0]  # of each channel
    for number, line in enumerate(_lines(data, name), 1):
        words = line.partition("#")[0].translate(_SEPARATORS).split()
        if words:
            numbers.extend(_row(words, name, number))
            if heights[-1] and len(words) != widths[-1]:
                raise ImageError(
                    f"{name}: line {number} has {len(words)} numbers, expected {widths[-1]} as in "
                    "the rows before"
                )
            widths[-1] = len(words)
            heights[-1] += 1
            if widths[-1] * heights[-1] > max_pixels or len(numbers) > 4 * max_pixels:
                raise LimitError(
                    f"{name}: more than {max_pixels} numbers, or four times that in all channels "
                    "(--max-pixels raises the limit)"
                )
        elif heights[-1] and not line.strip():
            widths.append(0)
            heights.append(0)
    if not heights[-1] and len(heights) > 1:
        widths.pop()
        heights.pop()
    if not numbers:
        raise ImageError(f"{name}: no numbers in it")
    shapes = set(zip(heights, widths, strict=True))
    if len(shapes) > 1:
        shown = ", ".join(f"{height}×{width}" for height, width in sorted(shapes))
        raise ImageError(f"{name}: grids of different sizes ({shown}), expected equal channels")
    planes = np.frombuffer(numbers).reshape(len(heights), heights[0], widths[0])
    return Image(np.ascontiguousarray(planes.transpose(1, 2, 0)), name=name, format="TEXT")


def _lines(data: bytes, name: str) -> Iterator[str]:
    """The lines of a text, some at a time: ten million would take half a gigabyte at once."""
    start, coding = 0, "utf-8-sig"
    while start < len(data):
        stop = data.find(b"\n", start + _PIECE) + 1 or len(data)
        try:
            lines = data[start:stop].decode(coding).splitlines()
        except UnicodeDecodeError as error:
            raise ImageError(
                f"{name}: not text (byte {start + error.start} is not UTF-8) and not an image "
                "in a known format"
            ) from None
        yield from lines
        start, coding = stop, "utf-8"


def _row(words: list[str], name: str, number: int) -> list[float]:
    try:
        return list(map(float, words))
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
        shown = wrong if len(wrong) <= 20 else wrong[:20] + "…"
        raise ImageError(f"{name}: line {number}: {shown!r} is not a number") from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def encode(samples: Array, made: str) -> list[bytes]:
    """Return the pieces of a `csv` or `txt` file, a channel after the other.

    samples: (H, W, C). Floats are written with the digits that bring back the same value; in
    `txt` columns are aligned.
    """
    channels = [samples[..., index] for index in range(samples.shape[2])]
    pieces = []
    for index, plane in enumerate(channels):
        if index:
            pieces.append(b"\n")
        if made == "csv":
            pieces += [(",".join(_words(row)) + "\n").encode() for row in plane]
        else:
            pieces.append(_aligned(plane))
    return pieces


def _words(row: Array) -> list[str]:
    if not np.issubdtype(row.dtype, np.floating):
        return [str(value) for value in row.tolist()]
    # repr of the NumPy scalar is the shortest text for its own precision; 12.0 is shown as 12.
    return [
        np.format_float_positional(value, trim="-")
        if 1e-4 <= abs(value) < 1e16
        else "0"
        if value == 0
        else f"{value!s}"
        for value in row
    ]


def _aligned(plane: Array) -> bytes:
    rows = [_words(row) for row in plane]
    widths = [max(len(word) for word in column) for column in zip(*rows, strict=True)]
    lines = [
        " ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in rows
    ]
    return ("\n".join(lines) + "\n").encode()
