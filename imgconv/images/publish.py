"""Publishing a file: whole or not at all.

The bytes go to a temporary in the destination's folder, which is synchronised, takes the mode
and owner of a file that it replaces, and is renamed; then the folder is synchronised. A symlink
stays and the file that it leads to is replaced. Devices and pipes have nothing to keep and
cannot be renamed over: they are written to.
"""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple

from imgconv.errors import ImgconvError, OutputError
from imgconv.images import remote
from imgconv.images.remote import is_url

EXISTS = "exists; --overwrite replaces it, --skip-existing leaves it"
TEMPORARY = ".imgconv-"
# What link() says where a file system (FAT, some FUSE and network ones) has no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


class Patch(NamedTuple):
    """A piece that belongs at `offset` instead of the end: a header known last."""

    offset: int
    content: bytes


def joined(pieces: Iterable[Any]) -> bytes:
    """The whole of a file's pieces."""
    buffer = io.BytesIO()
    for piece in pieces:
        _put(buffer, piece)
    return buffer.getvalue()


def _put(file: Any, piece: Any) -> None:
    if isinstance(piece, Patch):
        file.seek(piece.offset)
        file.write(piece.content)
        file.seek(0, os.SEEK_END)
    else:
        file.write(piece)


def publish(path: str, pieces: Iterable[Any], overwrite: bool = False) -> int:
    """Write pieces of bytes to a file by rename; return its size.

    On any exception the temporary is removed and an older file stays whole; only where the
    folder cannot be synchronised after the rename is the new file, whole, already in place.
    A URL is one PUT to its store. Raises OutputError naming the file.
    """
    if is_url(path):
        return remote.publish(path, pieces, overwrite)
    try:
        old = _status(path)
        if old and not stat.S_ISREG(old.st_mode):
            return _write_into(path, old, pieces)
        if old and not overwrite:
            raise FileExistsError(errno.EEXIST, EXISTS)
        return _replace(os.path.realpath(path), old, pieces, overwrite)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None


def publish_or_same(path: str, pieces: Iterable[Any], overwrite: bool = False) -> int:
    """As `publish`, but an output that exists with these very bytes is as good as written.

    So the same task may run twice, one after the other or at once, and no other file is lost.
    """
    content = joined(pieces)
    try:
        return publish(path, [content], overwrite)
    except OutputError:
        if not _holds(path, content):
            raise
        return len(content)


def exists(path: str) -> bool:
    """Whether a file or object is there, or a broken symlink."""
    return remote.exists(path) if is_url(path) else os.path.lexists(path)


def _holds(path: str, content: bytes) -> bool:
    try:
        if is_url(path):
            return remote.fetch(path, len(content)) == content
        with open(path, "rb") as file:
            return file.read(len(content) + 1) == content
    except (ImgconvError, OSError):
        return False


def leads_to_a_stream(path: str) -> bool:
    """Whether `path` is a device or pipe: nothing in it is replaced, and any number may be sent."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode))


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _write_into(path: str, status: os.stat_result, pieces: Iterable[Any]) -> int:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISBLK(status.st_mode):
        raise OSError(errno.EINVAL, "is a block device, expected a file")
    size = 0
    with open(path, "wb") as file:
        for piece in pieces:
            size += file.write(piece)
    return size


def _replace(
    target: str, old: os.stat_result | None, pieces: Iterable[Any], overwrite: bool
) -> int:
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{TEMPORARY}{os.urandom(8).hex()}")
    try:
        size = 0
        # Not mkstemp: it ignores the umask and a folder's default access list.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            for piece in pieces:
                _put(file, piece)
            size = file.tell()
            file.flush()
            if old:
                _take_over(file.fileno(), old)
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, target)
        else:
            _rename_to_new(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _synchronise(folder)
    return size


def _take_over(descriptor: int, old: os.stat_result) -> None:
    """Give a new file the old one's owner, as far as we may, and its mode."""
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _rename_to_new(temporary: str, target: str) -> None:
    """Rename, but never over an output that appeared since the plan was made: link refuses."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, EXISTS) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, EXISTS) from None
        os.rename(temporary, target)
    else:
        os.unlink(temporary)


def _synchronise(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)
