"""What an input is called and which bytes it had, for the record in its outputs.

A record must not tell of other bytes than were filtered, whoever writes to the file meanwhile. So
a file whose reader needs all of it is read once, for both; one that is read in parts, a TIFF, has
to be the same file when its record is made.
"""

import os
import threading
from collections.abc import Callable

from imgconv.errors import ImageError
from imgconv.io.digest import SMALL, sha256, sha256_of
from imgconv.io.formats import sniff
from imgconv.io.limits import MAX_PIXELS, file_limit
from imgconv.io.remote import fetch, is_url
from imgconv.io.source import Source, is_zarr
from imgconv.threads import start_thread


class Origin:
    """An input's name and SHA-256, which is worked out beside the work on the input.

    name: without folders, which are nobody's business and would make an output's bytes depend on
    where it was made.
    """

    def __init__(self, source: str, data: bytes | None = None, known: str | None = None) -> None:
        self._sample = sample = source.startswith("sample:")
        self.name = source if sample else os.path.basename(source.rstrip("/" + os.sep)) or source
        self._source, self._data, self._digest = source, data, known
        self._thread: threading.Thread | None = None
        self._file = None if known or data is not None else _status(source)
        if known is None and not sample and not (data is None and is_url(source)):
            size = len(data) if data is not None else self._file[2] if self._file else 0
            if is_zarr(source) or size > SMALL:  # worth a thread's 0.1 ms
                self._thread = start_thread(self._work)
            if self._thread is None:
                self._work()

    @property
    def digest(self) -> str | None:
        """The SHA-256 in hexadecimal, which is waited for.

        None where there are no bytes to tell of (samples) or they cannot be read. Raises ImageError
        where the file is no longer the one that was there when the work on it began.
        """
        if self._thread is not None:
            self._thread.join()
        if self._file and self._file != _status(self._source):
            raise ImageError(f"{self._source}: changed while it was read")
        return self._digest

    @property
    def is_known(self) -> bool:
        """Whether the name, of a sample, or the digest says which pixels these are."""
        return self._sample or self.digest is not None

    def _work(self) -> None:
        try:
            if self._data is not None:
                self._digest = sha256(self._data).hexdigest()
            else:
                self._digest = sha256_of(self._source)
        except OSError:
            return  # whoever reads it as an image will say why


def taken(
    source: str, max_pixels: int | None, read: Callable[[], bytes],
    given: str | bytes | None = None,
) -> str | bytes:  # fmt: skip
    """What to give `read_images`: an input's bytes, or the path of what is read in parts.

    read: makes the bytes of standard input. given: what was taken before, if so. Raises ImageError,
    LimitError.
    """
    limit = file_limit(MAX_PIXELS if max_pixels is None else max_pixels)
    if given is not None:
        return given
    if source == "-":
        return read()
    if source.startswith("sample:") or is_zarr(source):
        return source
    if is_url(source):
        return fetch(source, limit)
    with Source(source) as opened:
        in_parts = opened.size is not None and sniff(opened.prefix, opened.name) == "TIFF"
        return source if in_parts else opened.data(limit)


def _status(path: str) -> tuple[int, ...]:
    """What changes with a file's content, or with the file that has its name."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
