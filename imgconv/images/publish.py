"""Publishing a file: whole or not at all."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from typing import Any

from imgconv.errors import OutputError

EXISTS = "exists; --overwrite replaces it, --skip-existing leaves it"


def publish(path: str, pieces: Iterable[Any], overwrite: bool = False) -> int:
    """Write pieces of bytes to a file by rename; return its size.

    The temporary is in the destination's folder, synchronised, takes the mode of a file that it
    replaces, and is removed on any exception. Raises OutputError naming the file.
    """
    folder = os.path.dirname(path) or "."
    temporary = ""
    try:
        mode = _mode(path, overwrite)
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f".imgconv-{os.urandom(8).hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        size = 0
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            # A link refuses an output that appeared since the plan was made.
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise
            except OSError:
                os.rename(temporary, path)
            else:
                os.unlink(temporary)
        temporary = ""
        _sync(folder)
        return size
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _mode(path: str, overwrite: bool) -> int:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    if not overwrite:
        raise FileExistsError(errno.EEXIST, EXISTS)
    return stat.S_IMODE(status.st_mode)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
