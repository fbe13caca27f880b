"""Whether an output that is there is what a task has made again."""

import os
import struct
import zlib

_PIECE = 1 << 20


def same_file(one: str, other: str) -> bool:
    """Whether files are the same bytes, or PNGs of the same chunks deflated otherwise.

    isal deflated one strip in some 4,500 by other matches from process to process, which
    `png_writer` has since put an end to; an output from before that is still known by its rows.
    """
    import filecmp  # which no start needs, nor hashlib with OpenSSL, 3 ms

    try:
        if filecmp.cmp(one, other, shallow=False):
            return True
        digest = _png_digest(one)
        return digest is not None and digest == _png_digest(other)
    except (OSError, zlib.error, struct.error):
        return False


def _png_digest(path: str) -> bytes | None:
    """Digest of a PNG's chunks, of the inflated rows where it has them; None for other files."""
    import hashlib

    digest, stream = hashlib.blake2b(), zlib.decompressobj()
    with open(path, "rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return None
        while head := file.read(8):
            length, kind = struct.unpack(">I4s", head)
            if kind != b"IDAT":
                digest.update(head)
            while length:
                piece = file.read(min(length, _PIECE))
                if not piece:
                    return None
                length -= len(piece)
                if kind != b"IDAT":
                    digest.update(piece)
                while kind == b"IDAT" and piece:
                    digest.update(stream.decompress(piece, _PIECE))
                    piece = stream.unconsumed_tail
            if len(file.read(4)) < 4:
                return None
    return digest.digest()


def same_folder(one: str, other: str) -> bool:
    """Whether two folders hold the same files."""
    files = [
        {
            os.path.relpath(os.path.join(place, name), root)
            for place, _, names in os.walk(root)
            for name in names
        }
        for root in (one, other)
    ]
    return files[0] == files[1] and all(
        same_file(os.path.join(one, name), os.path.join(other, name)) for name in files[0]
    )
