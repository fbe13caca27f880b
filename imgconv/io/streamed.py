"""Images whose rows come while the rest is still in the file."""

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from imgconv.errors import ImageError, LimitError
from imgconv.io.codecs.decoder import first_of
from imgconv.io.formats import sniff
from imgconv.io.image import Image, white_of
from imgconv.io.limits import MAX_PIXELS, check_size, file_limit
from imgconv.io.source import Source, is_zarr
from imgconv.ops.rows import ArrayRows, RowSource
from imgconv.typing import Dtype

if TYPE_CHECKING:
    from imgconv.io.metadata import Metadata

MEMORY = 1 << 28  # bytes that an image may take by default before it goes in bands
_PNG = b"\x89PNG\r\n\x1a\n"


class Streamed(NamedTuple):
    """An image as rows; the other fields are those of `Image`."""

    rows: RowSource
    alpha: bool
    name: str
    icc: bytes | None
    notes: tuple[str, ...] = ()
    metadata: "Metadata | None" = None
    nodata: str | None = None
    stored: "Dtype | None" = None
    cmyk: bool = False

    @property
    def sample_type(self) -> "Dtype":
        """The type of the file's samples, as of `Image`."""
        return self.stored or self.rows.dtype

    @property
    def full_scale(self) -> float:
        """The value of white, as of `Image`."""
        return white_of(self.sample_type)


def rows_of(image: Image | Streamed) -> Streamed:
    """An image as rows, also one that is in memory already."""
    if not isinstance(image, Image):
        return image
    return Streamed(
        ArrayRows(image.pixels), image.alpha, image.name, image.icc, metadata=image.metadata,
        nodata=image.nodata,
        stored=image.stored, cmyk=image.cmyk,
    )  # fmt: skip


def open_rows(
    path: str | os.PathLike[str] | bytes,
    max_pixels: int | None = None,
    memory: int | None = None,
    level: int = 0,
    cmyk: bool = False,
    name: str = "",
) -> Streamed | None:
    """Open a file whose rows can be read in order, or return None: `read_images` reads the rest.

    These are Zarr images, PNGs that are not interlaced, and TIFFs that would take more than
    `memory` bytes (256 MB by default) to filter whole; none may need turning. Where `memory` is
    given, any size is read this way unless `max_pixels` says otherwise. level: of a pyramid, 0 is
    the largest. path: also a file's bytes, but of no TIFF, with a name for messages. cmyk: as for
    `read_images`. Raises ImageError and LimitError as it does; `Unusual` from the rows means that
    `read_images` is to read the file.
    """
    limit = max_pixels or (MAX_PIXELS if memory is None else sys.maxsize)
    if not isinstance(path, bytes) and is_zarr(os.fspath(path)):
        from imgconv.io.zarr.arrays import ZarrRows

        name = os.fspath(path)
        rows = ZarrRows(name, memory=memory, level=level)
        check_size(name, rows.height, rows.width, limit)
        notes = first_of(name, rows.frames)
        return Streamed(rows, False, name, None, notes, stored=rows.stored)
    with Source(path, name) as source:
        if source.size is None:
            return None
        if not isinstance(path, bytes) and sniff(source.prefix, source.name) == "TIFF":
            return _open_tiff(os.fspath(path), source.name, limit, memory or MEMORY, level, cmyk)
        if level or not source.prefix.startswith(_PNG):
            return None
        from imgconv.io.png import chunks as png_chunks
        from imgconv.io.png import reader as png_reader

        if memory is not None and source.size > memory // 2:
            limit = min(limit, MAX_PIXELS)  # its bytes are read whole
        try:
            reader = png_reader.Reader(source.data(file_limit(limit)), max_pixels=limit)
        except png_chunks.Unusual:
            return None
        except (ImageError, LimitError) as error:
            raise type(error)(f"{source.name}: {error}") from None
    if reader.header.interlaced or reader.facts.orientation != 1:
        return None
    metadata = reader.metadata(source.name)
    return Streamed(reader, reader.alpha, source.name, reader.facts.icc, metadata=metadata)


def _open_tiff(
    path: str, name: str, limit: int, memory: int, level: int, cmyk: bool
) -> Streamed | None:
    from imgconv.io.tiff.rows import open_tiff

    def check(height: int, width: int) -> None:
        check_size(name, height, width, limit)

    opened = open_tiff(path, name, check, limit, level, cmyk)
    if opened is None:
        return None
    rows, count = opened
    values = rows.height * rows.width * rows.channels
    if values * (2 * rows.dtype.itemsize + 4) <= memory:
        rows.close()
        return None
    notes = first_of(name, count)
    return Streamed(
        rows, rows.alpha, name, rows.icc, notes, rows.metadata, rows.nodata, rows.stored, rows.cmyk
    )
