"""A file that is written beside its target and renamed onto it."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import IO

from imgconv.console import say
from imgconv.errors import OutputError
from imgconv.io.publish.pieces import EXISTS, TEMPORARY, Piece, put
from imgconv.io.publish.same import same_file

_NOT_THERE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # of fsync
_told = False  # that a file system lacks it
# What link() says where a file system (FAT, some FUSE and network ones) has no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


class Staged:
    """A temporary beside its target, not yet published."""

    def __init__(
        self, path: str, old: os.stat_result | None, overwrite: bool, or_same: bool = False
    ) -> None:
        if old and not (overwrite or or_same):
            raise FileExistsError(errno.EEXIST, EXISTS)
        self._path, self._old = path, old if overwrite else None
        self._overwrite, self._or_same = overwrite, or_same
        self._target = os.path.realpath(path)
        self._folder = os.path.dirname(self._target)
        os.makedirs(self._folder, exist_ok=True)
        self._temporary = os.path.join(self._folder, f"{TEMPORARY}{os.urandom(8).hex()}")
        self.size = 0
        self._file: IO[bytes] | None = None

    @contextlib.contextmanager
    def being_written(self) -> Iterator[None]:
        """The temporary is there from now on, and goes if the body fails."""
        # Not mkstemp: it ignores the umask and a folder's default access list.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._file = os.fdopen(os.open(self._temporary, flags, 0o666), "wb")
            yield
        except BaseException:
            self.discard()
            raise

    def put(self, piece: Piece) -> None:
        """Write a piece."""
        assert self._file is not None
        put(self._file, piece)

    def end(self) -> None:
        """All pieces are there."""
        assert self._file is not None
        self.size = self._file.tell()
        self._file.flush()
        if self._old:
            _take_over(self._file.fileno(), self._old)

    def publish(self) -> None:
        """Synchronize the temporary, rename it and synchronize the folder."""
        try:
            assert self._file is not None
            to_disk(self._file.fileno())
            self._file.close()
            if self._overwrite:
                os.replace(self._temporary, self._target)
            else:
                _rename_to_new(self._temporary, self._target)
        except BaseException as error:
            same = (
                self._or_same
                and isinstance(error, FileExistsError)
                and same_file(self._temporary, self._target)
            )
            self.discard()
            if same:
                return
            if isinstance(error, OSError):
                raise self._failed(error) from None
            raise
        try:
            synchronize(self._folder)
        except OSError as error:
            raise self._failed(error) from None

    def discard(self) -> None:
        """Remove the temporary."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: {error.strerror or error}")


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


def to_disk(descriptor: int) -> None:
    """Wait until a file or folder is on the disk.

    Some network folders have no such thing; without it a power cut may lose an output, no more.
    """
    global _told
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        if not _told:
            _told = True
            say("imgconv: this file system cannot say when outputs are on the disk (fsync); a "
                "power cut may lose the last ones")  # fmt: skip


def synchronize(folder: str) -> None:
    """Wait until a folder's names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        to_disk(descriptor)
    finally:
        os.close(descriptor)
