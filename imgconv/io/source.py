"""Where the bytes of an image come from: a path, or bytes already at hand (standard input)."""

import errno
import io
import os
import select
import stat
import sys
import threading
from typing import IO, TYPE_CHECKING

from imgconv.errors import ImageError, LimitError
from imgconv.io.remote import is_url

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PREFIX = 4096
ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")
_PIECE = 1 << 20
_POLL = 100  # milliseconds

# Set while threads that wait for a pipe are to give up, since a signal ends the whole command.
stopping = threading.Event()


def is_zarr(path: str, scanned: bool = False) -> bool:
    """Whether a path is a folder that holds a Zarr array or group: an image, unlike others.

    A URL is one if its name ends in .zarr: looking would cost up to three requests an input. So is
    a folder that a scan comes upon (scanned) and nobody named: its files may be anybody's.
    """
    named = path.rstrip("/").lower().endswith(".zarr")
    if is_url(path) or (scanned and not named):
        return named
    return os.path.isdir(path) and any(os.path.isfile(os.path.join(path, m)) for m in ZARR_MARKS)


def is_special(path: str) -> bool:
    """Whether a path is a pipe, a socket or a device, which are read once and may keep waiting."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_stdin() -> bytes:
    """All of standard input; a signal ends the wait for it in any thread."""
    file = sys.stdin.buffer
    try:
        return io.BufferedReader(_Patient(file.fileno())).read()
    except (OSError, io.UnsupportedOperation, ValueError) as error:
        if getattr(error, "errno", None):
            raise ImageError(f"standard input: {getattr(error, 'strerror', error)}") from None
        return bytes(file.read())  # no file, as in tests


class StandardInput:
    """The bytes of the input `-`, which are read once, when they are first asked for."""

    def __init__(self) -> None:
        self._content: bytes | None = None

    def __call__(self) -> bytes:
        if self._content is None:
            self._content = read_stdin()
        return self._content


class _Patient(io.RawIOBase):
    """A pipe or device that is waited for in short steps.

    A thread that a blocking read holds cannot be told to end: a FIFO that nobody writes to would
    keep the command from ever ending.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        while True:
            if hasattr(select, "poll"):
                waiting = select.poll()
                waiting.register(self._descriptor, select.POLLIN)
                while not waiting.poll(_POLL):
                    if stopping.is_set():
                        # Not EINTR, after which a buffer tries again.
                        raise OSError(errno.ECANCELED, "interrupted")
            try:
                data = os.read(self._descriptor, len(view))
            except BlockingIOError:
                continue
            view[: len(data)] = data
            return len(data)


class Source:
    """One input file, opened once.

    name: how messages call it. size: bytes, or None for a pipe. prefix: the first bytes.
    Raises ImageError when it cannot be opened, is empty or is a folder.
    """

    def __init__(self, origin: str | os.PathLike[str] | bytes | memoryview, name: str = "") -> None:
        self._file: IO[bytes] | None = None
        self._reader: IO[bytes] = io.BytesIO()
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
        self._file = opened = open(path, "rb", opener=_at_once)  # noqa: SIM115 - see close()
        status = os.fstat(opened.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._reader = opened
        if self.size is None:
            self._reader = io.BufferedReader(_Patient(opened.fileno()))
        self.prefix = self._reader.read(PREFIX)

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
        pieces, total = [self.prefix], len(self.prefix)
        while total <= limit:
            piece = self._reader.read(_PIECE)
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


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _too_long(size: int, limit: int) -> str:
    return (
        f"a file of {size} bytes is more than any image within the limit of pixels needs "
        f"({limit}); --max-pixels raises it"
    )
