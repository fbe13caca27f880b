"""The pages of a TIFF file: found here, their tags read by tifffile.

Chains of directories are walked here, with bounds: a chain that returns to itself ends, and tags
are read only of the pages that are asked for. A page with an ImageDepth is as many frames as it
has slices.
"""

import contextlib
import io
import logging
import struct
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from imgconv.errors import ImageError
from imgconv.io.codecs import pillow
from imgconv.io.pyramid import check_level

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from tifffile import TiffPage

_FRAME_LIMIT = 65536
_ENTRY_LIMIT = 4096
_REDUCED = 1  # bit of NewSubfileType: a smaller version of another image
_IMAGE_DEPTH = 32997
_GDAL_NODATA = 42113
# Tags that decide what samples there are: tifffile passes over those that it cannot read.
_NEEDED = frozenset({
    256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 332,
    338, 339, 347, 529, 530, _IMAGE_DEPTH, 32998,
})  # fmt: skip


def reported(name: str, max_pixels: int) -> contextlib.AbstractContextManager[None]:
    """Turn what tifffile and its codecs raise for a broken file into an ImageError of one line.

    They have some twenty kinds of exceptions, of which no list is kept anywhere.
    """
    return pillow.decoding(name, max_pixels, (Exception,))


class TiffPages:
    """The frames of an open TIFF file.

    Parameters
    ----------
    file: seekable; it stays open as long as pages are read.
    size: of the file, in bytes.
    name: for messages.

    Raises ImageError for what is no TIFF, and for a first directory that leaves the file; a later
    one ends the chain (`broken`). Use it within `reported`.
    """

    def __init__(self, file: IO[bytes], size: int, name: str) -> None:
        import tifffile

        _silence()
        self._size, self._name = size, name
        file.seek(0)
        # Without the flags it would read pages that nobody asked for.
        self._tiff = tifffile.TiffFile(file, is_lsm=False, is_scanimage=False, is_ndpi=False)
        self._page = tifffile.TiffPage
        self._format = self._tiff.tiff
        self._file = self._tiff.filehandle
        self._last: TiffPage | None = None  # page, which several ask for
        self.broken: ImageError | None = None  # why the chain ends before its end
        self._frames = list(self._walk())

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self._frames)

    def frame(self, index: int, level: int = 0) -> "tuple[TiffPage, int]":
        """Return a frame's page, of a level of its pyramid, and its slice of that page.

        Levels are SubIFDs, or the pages that follow, that say they are reduced images; 0 is the
        frame itself. Raises ImageError where there is none.
        """
        offset, depth = self._frames[index]
        page = self._at(offset)
        if level == 0:
            return page, depth
        found = [page]
        for place in page.subifds or ():
            smaller = self._at(int(place))
            if _reduced(smaller):
                found.append(smaller)
        following = self._frames[index + 1 :] if len(found) == 1 else []
        for place, _ in following:
            smaller = self._at(place)
            if not _reduced(smaller):
                break
            found.append(smaller)
        check_level(self._name, level, len(found))
        return found[level], depth

    def nodata(self, index: int, level: int = 0) -> str:
        """The text of GDAL's tag of a frame's missing value; smaller levels may leave it out."""
        for page in (self.frame(index, level)[0], self.frame(index)[0]):
            if _GDAL_NODATA in page.tags:
                return str(page.tags[_GDAL_NODATA].value).strip("\0 ")
        return ""

    def alone(self, page: "TiffPage") -> IO[bytes]:
        """Return the file as if `page` were its first: for readers that walk the chain."""
        head = self._read(0, 16 if self._format.offsetsize == 8 else 8)
        start = len(head) - self._format.offsetsize
        entry = struct.pack(self._format.offsetformat, page.offset)
        return io.BufferedReader(_Entered(self._file, head[:start] + entry))

    def _at(self, offset: int) -> "TiffPage":
        if self._last is not None and self._last.offset == offset:
            return self._last
        table = self._table(offset)
        self._file.seek(offset)
        page = self._page(self._tiff, index=0)
        step, code = self._format.tagsize, self._format.byteorder + "H"
        codes = {struct.unpack_from(code, table, at)[0] for at in range(0, len(table), step)}
        lost = sorted(number for number in codes & _NEEDED if number not in page.tags)
        if lost:
            raise ImageError(f"{self._name}: truncated or broken TIFF: tag {lost[0]}")
        self._last = page
        return page

    def _table(self, offset: int) -> bytes:
        """The entries of a directory."""
        tiff = self._format
        (entries,) = struct.unpack(tiff.tagnoformat, self._read(offset, tiff.tagnosize))
        if entries > _ENTRY_LIMIT:
            raise ImageError(f"{self._name}: broken TIFF: a directory of {entries} entries")
        return self._read(offset + tiff.tagnosize, entries * tiff.tagsize)

    def _walk(self) -> Iterator[tuple[int, int]]:
        """Yield (offset of the directory, slice) of each frame."""
        tiff = self._format
        start = 8 if tiff.offsetsize == 8 else 4
        (offset,) = struct.unpack(tiff.offsetformat, self._read(start, tiff.offsetsize))
        seen: set[int] = set()
        count = 0
        depth_tag = struct.pack(tiff.byteorder + "H", _IMAGE_DEPTH)
        while offset and offset not in seen:
            seen.add(offset)
            try:
                table = self._table(offset)
            except ImageError as error:
                if not count:
                    raise
                self.broken = error
                return
            end = offset + tiff.tagnosize + len(table)
            slices = 1
            if depth_tag in table:
                slices = max(1, int(self._at(offset).imagedepth))
            count += slices
            if count > _FRAME_LIMIT:
                raise ImageError(f"{self._name}: TIFF of more than {_FRAME_LIMIT} frames")
            for depth in range(slices):
                yield offset, depth
            if end + tiff.offsetsize > self._size:
                return  # writers exist that leave the last pointer out
            (offset,) = struct.unpack(tiff.offsetformat, self._read(end, tiff.offsetsize))

    def _read(self, offset: int, count: int) -> bytes:
        if offset + count > self._size:
            raise self._truncated(offset, count)
        self._file.seek(offset)
        content: bytes = self._file.read(count)
        if len(content) < count:
            raise ImageError(f"{self._name}: truncated TIFF")
        return content

    def read(self, offset: int, count: int) -> bytes:
        """Bytes of the file, fewer where it ends before."""
        if not 0 <= offset < self._size:
            return b""
        self._file.seek(offset)
        return bytes(self._file.read(count))

    def _truncated(self, offset: int, count: int) -> ImageError:
        return ImageError(
            f"{self._name}: truncated TIFF: {count} bytes at {offset} declared, the file has "
            f"{self._size}"
        )


class _Entered(io.RawIOBase):
    """A file whose first bytes are others: a header that leads to another directory."""

    def __init__(self, file: IO[bytes], head: bytes) -> None:
        self._file, self._head, self._place = file, head, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == io.SEEK_CUR:
            offset, whence = offset + self._place, io.SEEK_SET
        self._place = int(self._file.seek(offset, whence))
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: "WriteableBuffer") -> int:
        self._file.seek(self._place)
        view = memoryview(buffer)
        content = self._file.read(len(view))
        head = self._head[self._place : self._place + len(content)]
        view[: len(content)] = head + content[len(head) :]
        self._place += len(content)
        return len(content)


def _reduced(page: "TiffPage") -> bool:
    with contextlib.suppress(TypeError, ValueError):
        return bool(int(page.subfiletype) & _REDUCED)
    return False


def _silence() -> None:
    """Keep tifffile's remarks on odd files from standard error."""
    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
