"""SHA-256 of files and folders."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import hashlib

_PIECE = 1 << 20
# OpenSSL takes 1.4 GB/s and 4 to 8 ms to load, the interpreter's own code 0.2 GB/s: it has the
# first bytes of a process.
SMALL = 1 << 20
_taken = 0


def sha256_of(path: str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; of a folder, that of its files' list.

    The list is what `sha256sum` prints of them, in the order of their names. Raises OSError.
    """
    if not os.path.isdir(path):
        return _of_file(path)
    lines = []
    for place, _, names in os.walk(path):
        for name in names:
            file = os.path.join(place, name)
            relative = os.path.relpath(file, path).replace(os.sep, "/")
            lines.append((os.fsencode(relative), _of_file(file).encode()))
    text = b"".join(b"%b  %b\n" % (digest, name) for name, digest in sorted(lines))
    return str(sha256(text).hexdigest())


def _of_file(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        digest = sha256(b"", os.fstat(file.fileno()).st_size)
        while piece := file.read(_PIECE):
            digest.update(piece)
    hexadecimal: str = digest.hexdigest()
    return hexadecimal


def sha256(data: bytes, size: int = 0) -> "hashlib._Hash":
    """SHA-256 of data, to which more may be added; size: bytes to come, if that is known."""
    global _taken
    _taken += max(len(data), size)
    for name in ("hashlib",) if _taken > SMALL else ("_sha256", "_sha2", "hashlib"):
        try:
            digest: hashlib._Hash = importlib.import_module(name).sha256(data)
            return digest
        except (ImportError, AttributeError):  # of another version of Python
            continue
    raise ImportError("hashlib")
