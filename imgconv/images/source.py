"""Where the bytes of an image come from: a path, or bytes already at hand (standard input)."""

import io
import os
import stat
from typing import IO

from imgconv.errors import ImageError, LimitError
from imgconv.images.remote import is_url

PREFIX = 4096
ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")
_PIECE = 1 << 20


def is_zarr(path: str, scanned: bool = False) -> bool:
    """Whether a path is a folder that holds a Zarr array or group: an image, unlike others.

    A URL is one if its name ends in .zarr: looking would cost up to three requests an input. So is
    a folder that a scan comes upon (scanned) and nobody named: its files may be anybody's.
    """
    named = path.rstrip("/").lower().endswith(".zarr")
    if is_url(path) or (scanned and not named):
        return named
    return os.path.isdir(path) and any(os.path.isfile(os.path.join(path, m)) for m in ZARR_MARKS)


class Source:
    """One input file, opened once.

    name: how messages call it. size: bytes, or None for a pipe. prefix: the first bytes.
    Raises ImageError when it cannot be opened, is empty or is a folder.
    """

    def __init__(self, origin: str | os.PathLike[str] | bytes | memoryview, name: str = "") -> None:
        self._file: IO[bytes] | None = None
        self._data: bytes | None = None
        if isinstance(origin, (bytes, bytearray, memoryview)):
            self.name = name or "-"
            self._data = bytes(origin)
            self.size: int | None = len(self._data)
            self.prefix = self._data[:PREFIX]
        else:
            self.name = name or os.fspath(origin)
            try:
                self._open(os.fspath(origin))
            except (OSError, ValueError) as error:
                self.close()
                reason = getattr(error, "strerror", None) or str(error)
                raise ImageError(f"{self.name}: {reason}") from None
        if not self.prefix:
            self.close()
            raise ImageError(f"{self.name}: empty file")

    def _open(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        status = os.fstat(self._file.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        self.prefix = self._file.read(PREFIX)

    def data(self, limit: int) -> bytes:
        """Return the whole content. Raises LimitError beyond `limit` bytes, ImageError."""
        if self._data is None:
            assert self._file is not None
            if self.size is not None and self.size > limit:
                raise LimitError(f"{self.name}: {_too_long(self.size, limit)}")
            try:
                if self.size is not None:
                    self._file.seek(0)
                    self._data = self._file.read()
                else:
                    self._data = self._read_pipe(limit)
            except OSError as error:
                raise ImageError(f"{self.name}: {error.strerror or error}") from None
        if len(self._data) > limit:
            raise LimitError(f"{self.name}: {_too_long(len(self._data), limit)}")
        return self._data

    def _read_pipe(self, limit: int) -> bytes:
        assert self._file is not None
        pieces, total = [self.prefix], len(self.prefix)
        while total <= limit:
            piece = self._file.read(_PIECE)
            if not piece:
                break
            pieces.append(piece)
            total += len(piece)
        return b"".join(pieces)

    def file(self, limit: int) -> IO[bytes]:
        """Return a seekable file at its start; the source closes it."""
        if self._file is not None and self.size is not None:
            self._file.seek(0)
            return self._file
        return io.BytesIO(self.data(limit))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _too_long(size: int, limit: int) -> str:
    return (
        f"a file of {size} bytes is more than any image within the limit of pixels needs "
        f"({limit}); --max-pixels raises it"
    )
