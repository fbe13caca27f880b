"""Grids of numbers as text: CSV and TXT.

A line is a row; numbers are separated by commas, semicolons, tabs or spaces; `#` begins a
comment. An empty line begins the next channel, so that files written here are read back.
"""

import numpy as np

from imgconv.errors import ImageError, LimitError
from imgconv.io.image import Image
from imgconv.typing import Array

_SEPARATORS = str.maketrans(",;\t", "   ")


def decode(data: bytes, name: str, max_pixels: int) -> Image:
    """Read a grid to float64 (H, W, C). Raises ImageError naming the line, LimitError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImageError(
            f"{name}: not text (byte {error.start} is not UTF-8) and no image format that is known"
        ) from None
    blocks: list[list[Array]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].translate(_SEPARATORS).split()
        if words:
            row = _row(words, name, number)
            if blocks[-1] and row.size != blocks[-1][0].size:
                raise ImageError(
                    f"{name}: line {number} has {row.size} numbers, expected "
                    f"{blocks[-1][0].size} as in the rows before"
                )
            blocks[-1].append(row)
            if row.size * len(blocks[-1]) > max_pixels:
                raise LimitError(
                    f"{name}: more than {max_pixels} numbers (--max-pixels raises the limit)"
                )
        elif blocks[-1] and not line.strip():
            blocks.append([])
    planes = [np.stack(rows) for rows in blocks if rows]
    if not planes:
        raise ImageError(f"{name}: no numbers in it")
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1:
        shown = ", ".join(f"{height}×{width}" for height, width in sorted(shapes))
        raise ImageError(f"{name}: grids of different sizes ({shown}), expected equal channels")
    pixels = np.ascontiguousarray(np.stack(planes, axis=-1))
    return Image(pixels, name=name, format="TEXT")


def _row(words: list[str], name: str, number: int) -> Array:
    try:
        return np.array([float(word) for word in words])
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
