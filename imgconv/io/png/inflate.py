"""The image data of a PNG as blocks of scanlines, inflated ahead of their use."""

import threading
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from imgconv.io.codecs.deflate import CODEC_ERRORS, codec
from imgconv.io.png.chunks import Damaged, Unusual, check, walk
from imgconv.threads import start_thread

_PIECE = 256 << 10  # compressed bytes fed at a time; what a call leaves over is copied


class Inflater:
    """The image data as one stream of bytes, never more of them than asked for.

    data: the file. first, end: where its run of IDAT chunks starts and ends.
    """

    def __init__(self, data: memoryview, first: int, end: int) -> None:
        self._pieces = _compressed(data, first, end)
        self._stream = codec.decompressobj()
        self._left: bytes | memoryview = b""
        self._more = False  # whether the stream may hold output that needs no new input

    def fill(self, target: npt.NDArray[np.uint8]) -> None:
        """Write the next `target.size` bytes. Raises Unusual when there are fewer."""
        view = memoryview(target.data)
        at = 0
        while at < len(view):
            content = self._pull(len(view) - at)
            view[at : at + len(content)] = content
            at += len(content)

    def finish(self) -> None:
        """Raise Unusual unless the stream ends here with the right Adler-32."""
        while not self._stream.eof:
            if self._pull(1):
                raise Unusual("damaged PNG: more image data than its rows need")
        for _ in self._pieces:
            pass  # bytes after the stream are ignored, but their checksums are looked at

    def _pull(self, limit: int) -> bytes:
        """At most `limit` further bytes; none only when new input is needed."""
        if self._stream.eof:
            raise Damaged("damaged PNG: its image data ends too early")
        if not self._more:
            piece = next(self._pieces, None)
            if piece is None:
                raise Damaged("damaged PNG: its image data ends too early")
            self._left = piece
        try:
            content: bytes = self._stream.decompress(self._left, limit)
        except CODEC_ERRORS as error:
            raise Damaged(f"damaged PNG: image data cannot be inflated ({error})") from None
        self._left = self._stream.unconsumed_tail
        # isal keeps up to 8 bytes of input to itself, so after a full result more may come
        # although nothing is left over (pycompression/python-isal issue 248).
        self._more = bool(self._left) or len(content) == limit
        return content


def _compressed(data: memoryview, first: int, end: int) -> Iterator[bytes | memoryview]:
    """Yield the payload of the IDAT chunks in pieces, each chunk's checksum checked.

    Small chunks are joined: libpng writes 8 KiB ones, and a call costs as much as inflating 1 KiB.
    """
    small: list[memoryview] = []
    size = 0
    for _, start, stop in walk(data, first):
        check(data, start, stop)
        if stop - start < _PIECE // 2:
            small.append(data[start:stop])
            size += stop - start
        else:
            if small:
                yield b"".join(small)
                small, size = [], 0
            for place in range(start, stop, _PIECE):
                yield data[place : min(place + _PIECE, stop)]
        if size >= _PIECE:
            yield b"".join(small)
            small, size = [], 0
        if stop + 4 == end:
            break
    if small:
        yield b"".join(small)


class Blocks(Protocol):
    """A source of inflated blocks of agreed sizes."""

    def take(self) -> npt.NDArray[np.uint8] | None:
        """The next block, valid until the next call; None after the last, the end checked.

        Raises Unusual where the data is damaged.
        """

    def stop(self) -> None:
        """Inflate no further."""


class Ahead:
    """Blocks inflated by a thread of their own, at most two ahead of the one in use."""

    def __init__(self, inflater: Inflater, sizes: Iterable[int], largest: int) -> None:
        self._inflater = inflater
        self._sizes = sizes
        self._ring = [np.empty(largest, np.uint8) for _ in range(3)]
        self._free = threading.Semaphore(3)
        self._full = threading.Semaphore(0)
        self._made = self._taken = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self.alone = start_thread(self._run) is None  # the system gives no thread: take `Inline`

    def _run(self) -> None:
        try:
            for size in self._sizes:
                self._free.acquire()
                if self._stopped:
                    return
                self._inflater.fill(self._ring[self._made % 3][:size])
                self._made += 1
                self._full.release()
            self._inflater.finish()
        except BaseException as error:
            self._failure = error
        finally:
            self._full.release()

    def take(self) -> npt.NDArray[np.uint8] | None:
        if self._taken:
            self._free.release()
        self._full.acquire()
        if self._taken < self._made:
            self._taken += 1
            return self._ring[(self._taken - 1) % 3]
        if self._failure:
            raise self._failure
        return None

    def stop(self) -> None:
        self._stopped = True
        self._free.release()


class Inline:
    """Blocks inflated when they are asked for."""

    def __init__(self, inflater: Inflater, sizes: Iterable[int], largest: int) -> None:
        self._inflater = inflater
        self._sizes = iter(sizes)
        self._block = np.empty(largest, np.uint8)

    def take(self) -> npt.NDArray[np.uint8] | None:
        size = next(self._sizes, None)
        if size is None:
            self._inflater.finish()
            return None
        self._inflater.fill(self._block[:size])
        return self._block

    def stop(self) -> None:
        return None


def blocks_of(inflater: Inflater, sizes: Iterable[int], largest: int, alone: bool) -> Blocks:
    """Blocks of agreed sizes, inflated by a thread of their own unless `alone`, where there is one.

    largest: of the sizes.
    """
    if not alone:
        ahead = Ahead(inflater, sizes, largest)
        if not ahead.alone:
            return ahead
    return Inline(inflater, sizes, largest)
