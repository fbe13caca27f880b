"""What an input is called and which bytes it had, for the record in its outputs."""

import os
import threading
from collections.abc import Callable

from imgconv.io.digest import SMALL, sha256, sha256_of
from imgconv.io.limits import MAX_PIXELS, file_limit
from imgconv.io.remote import fetch, is_url
from imgconv.io.source import Source, is_zarr
from imgconv.threads import start_thread


class Origin:
    """An input's name and SHA-256, which is worked out beside the work on the input.

    name: without folders, which are nobody's business and would make an output's bytes depend on
    where it was made. digest: in hexadecimal, None where there are no bytes to tell of (samples)
    or they cannot be read.
    """

    def __init__(self, source: str, data: bytes | None = None, known: str | None = None) -> None:
        self._sample = sample = source.startswith("sample:")
        self.name = source if sample else os.path.basename(source.rstrip("/" + os.sep)) or source
        self._source, self._data, self._digest = source, data, known
        self._thread: threading.Thread | None = None
        if known is None and not sample and not (data is None and is_url(source)):
            if data is None and (is_zarr(source) or _is_large(source)):
                self._thread = start_thread(self._work)
            if self._thread is None:
                self._work()

    @property
    def digest(self) -> str | None:
        """The SHA-256; waits for it."""
        if self._thread is not None:
            self._thread.join()
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


def taken(source: str, max_pixels: int | None, read: Callable[[], bytes]) -> str | bytes:
    """What to give `read_images` so that the bytes are there twice: bytes, or a path.

    read: makes the bytes of standard input. Raises ImageError, LimitError.
    """
    limit = file_limit(MAX_PIXELS if max_pixels is None else max_pixels)
    if source == "-":
        return read()
    if source.startswith("sample:") or os.path.isfile(source) or is_zarr(source):
        return source
    if is_url(source):
        return fetch(source, limit)
    with Source(source) as opened:  # a pipe, or what will be refused
        return opened.data(limit)


def _is_large(path: str) -> bool:
    """Whether a thread is worth its 0.1 ms."""
    try:
        return os.path.getsize(path) > SMALL
    except OSError:
        return False
