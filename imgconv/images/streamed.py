"""Images whose rows come while the rest is still in the file."""

import os
from typing import NamedTuple

import numpy as np

from imgconv.compute.rows import ArrayRows, RowSource
from imgconv.errors import ImageError, LimitError
from imgconv.images.image import Image
from imgconv.images.reading import MAX_PIXELS, file_limit
from imgconv.images.source import Source

_PNG = b"\x89PNG\r\n\x1a\n"


class Streamed(NamedTuple):
    """An image as rows; the other fields are those of `Image`."""

    rows: RowSource
    alpha: bool
    name: str
    icc: bytes | None

    @property
    def full_scale(self) -> float:
        """The value of white, as of `Image`."""
        return Image(np.empty((0, 0, 1), self.rows.dtype)).full_scale


def rows_of(image: Image) -> Streamed:
    """An image that is in memory already."""
    return Streamed(ArrayRows(image.pixels), image.alpha, image.name, image.icc)


def open_rows(path: str | os.PathLike[str], max_pixels: int | None = None) -> Streamed | None:
    """Open a file whose rows can be read in order, or return None: `read_images` reads the rest.

    These are PNGs that are not interlaced and need no turning. Raises ImageError and LimitError
    as `read_images` does; `Unusual` from the rows means that `read_images` is to read the file.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    with Source(path) as source:
        if not source.prefix.startswith(_PNG) or source.size is None:
            return None
        from imgconv.images import png

        try:
            reader = png.Reader(source.data(file_limit(limit)), max_pixels=limit)
        except png.Unusual:
            return None
        except (ImageError, LimitError) as error:
            raise type(error)(f"{source.name}: {error}") from None
    if reader.header.interlaced or reader.facts.orientation != 1:
        return None
    return Streamed(reader, reader.alpha, source.name, reader.facts.icc)
