"""Where the bytes of an image come from: a path, or bytes already at hand (standard input)."""

import contextlib
import errno
import io
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from imgconv.errors import ImageError, LimitError
from imgconv.io.formats import sniff
from imgconv.io.limits import MAX_PIXELS, exceeding, file_limit, read_at_most
from imgconv.io.remote import is_url

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PREFIX = 4096
ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")
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


def read_stdin(limit: int, is_wanted: Callable[[bytes], object] = bool) -> bytes:
    """Standard input, at most `limit` bytes and one; a signal ends the wait for it in any thread.

    is_wanted: whether more is to be read than the first PREFIX bytes, which it is called with.
    Raises ImageError.
    """
    file: IO[bytes] = sys.stdin.buffer
    with contextlib.suppress(io.UnsupportedOperation, ValueError):  # no file, as in tests
        file = io.BufferedReader(_Patient(file.fileno()))
    try:
        head = file.read(min(PREFIX, limit))
        return read_at_most(file, limit, head) if is_wanted(head) else head
    except OSError as error:
        raise ImageError(f"standard input: {error.strerror or error}") from None


class StandardInput:
    """The bytes of the image `-`, which are read once, when they are first asked for.

    content: what they were, where somebody has read them. Of what is no image the first bytes are
    read. A call raises ImageError, and LimitError beyond
    what an image of `max_pixels` needs.
    """

    def __init__(self, max_pixels: int | None = None, content: bytes | None = None) -> None:
        self._limit = file_limit(max_pixels or MAX_PIXELS)
        self._content = content

    def __call__(self) -> bytes:
        if self._content is None:
            self._content = read_stdin(self._limit, sniff)
        if len(self._content) > self._limit:
            raise LimitError(f"standard input: {exceeding(self._limit)}")
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
                raise LimitError(f"{self.name}: {exceeding(limit)}")
            try:
                if self.size is not None:
                    self._file.seek(0)
                    self._data = self._file.read(self.size)
                else:
                    self._data = read_at_most(self._reader, limit, self.prefix)
            except OSError as error:
                raise ImageError(f"{self.name}: {error.strerror or error}") from None
        if len(self._data) > limit:
            raise LimitError(f"{self.name}: {exceeding(limit)}")
        return self._data

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
