"""What an output is made of: pieces of a file one after another, or a folder."""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

from imgconv.errors import UsageError

EXISTS = "exists; --overwrite replaces it, --skip-existing leaves it"
TEMPORARY = ".imgconv-"


class Patch(NamedTuple):
    """A piece that belongs at `offset` instead of the end: a header known last."""

    offset: int
    content: bytes


# Of a file: its next bytes, or such as belong elsewhere.
Piece = bytes | bytearray | memoryview | Patch


class Folder:
    """An output that is a folder: `write` fills a new one, at a path or URL. It has no pieces."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def __iter__(self) -> Iterator[Piece]:
        raise UsageError("a Zarr image is a folder, expected -o with a path or URL")


def joined(pieces: Iterable[Piece]) -> bytes:
    """The whole of a file's pieces."""
    buffer = io.BytesIO()
    for piece in pieces:
        put(buffer, piece)
    return buffer.getvalue()


def put(file: IO[bytes], piece: Piece) -> None:
    """Write a piece where it belongs in a file."""
    if isinstance(piece, Patch):
        file.seek(piece.offset)
        file.write(piece.content)
        file.seek(0, os.SEEK_END)
    else:
        file.write(piece)
