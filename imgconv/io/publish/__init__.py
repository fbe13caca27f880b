"""Publishing a file: whole or not at all.

The bytes go to a temporary in the destination's folder, which is synchronized, takes the mode
and owner of a file that it replaces, and is renamed; then the folder is synchronized. A symlink
stays and the file that it leads to is replaced. Devices and pipes have nothing to keep and
cannot be renamed over: they are written to.
"""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from imgconv.errors import OutputError, unforeseen
from imgconv.io import remote
from imgconv.io.publish.pieces import EXISTS as EXISTS
from imgconv.io.publish.pieces import TEMPORARY, put
from imgconv.io.publish.pieces import Folder as Folder
from imgconv.io.publish.pieces import Patch as Patch
from imgconv.io.publish.pieces import Piece as Piece
from imgconv.io.publish.pieces import joined as joined
from imgconv.io.publish.same import same_file, same_folder
from imgconv.io.publish.staged import Staged, synchronize, to_disk
from imgconv.io.remote import is_url

_thread = threading.local()


def publish(
    path: str, pieces: Iterable[Piece], overwrite: bool = False, or_same: bool = False,
    stdout: "Callable[[Iterable[Piece]], int] | None" = None,
) -> int:  # fmt: skip
    """Write pieces of bytes to a file by rename; return its size.

    On any exception the temporary is removed and an older file stays whole; only where the
    folder cannot be synchronized after the rename is the new file, whole, already in place.
    A URL is one PUT to its store. or_same: an output that exists and is the same is as good as
    written, so that a task may run twice, one after the other or at once, and no other file is
    lost; then it is published at once. stdout: what takes the pieces for the path `-`. Raises
    OutputError naming the file.
    """
    if path == "-" and stdout is not None:
        return stdout(pieces)
    local = remote.on_disk(path) if is_url(path) else path
    if isinstance(pieces, Folder):
        if local is None:
            return _publish_prefix(path, pieces, overwrite, or_same)
        return _publish_folder(local, pieces, overwrite, or_same)
    if local is None:
        return _publish_object(path, _making(pieces), overwrite, or_same)
    pieces = _making(pieces)
    try:
        old = _status(local)
        if old and not stat.S_ISREG(old.st_mode):
            return _write_into(local, old, pieces)
        staged = Staged(local, old, overwrite, or_same)
        with staged.being_written():
            for piece in pieces:
                staged.put(piece)
            staged.end()
        waiting: list[Staged] | None = getattr(_thread, "staged", None)
        if waiting is None or or_same:
            staged.publish()
        else:
            waiting.append(staged)
        return staged.size
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None


def _making(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces; where the system fails their making, that is not put down to their file."""
    try:
        yield from pieces
    except OSError as error:
        if error.errno is None:  # an encoder's
            raise
        raise unforeseen(error) from error


class Output(NamedTuple):
    """One of several files that are written side by side; done: how far its pieces have come."""

    path: str
    pieces: Iterable[Piece]
    done: Callable[[], int]


def publish_together(outputs: Sequence[Output], overwrite: bool = False) -> list[int]:
    """As `publish` of each, which are files on this machine, but none far ahead of the others.

    The next piece is always made of the one that has come least far. Where one fails before all
    are whole, none is published. Returns their sizes.
    """
    if getattr(_thread, "staged", None) is None:
        with held():
            return publish_together(outputs, overwrite)
    staged: list[Staged] = []
    at = 0
    try:
        with contextlib.ExitStack() as stack:
            for at, output in enumerate(outputs):
                staged.append(Staged(output.path, _status(output.path), overwrite))
                stack.enter_context(staged[at].being_written())
            left = {place: _making(output.pieces) for place, output in enumerate(outputs)}
            while left:
                at = min(left, key=lambda place: outputs[place].done())
                for piece in left[at]:
                    staged[at].put(piece)
                    break
                else:
                    staged[at].end()
                    del left[at]
    except OSError as error:
        raise OutputError(f"{outputs[at].path}: {error.strerror or error}") from None
    _thread.staged.extend(staged)
    return [one.size for one in staged]


def _publish_folder(path: str, made: Folder, overwrite: bool, or_same: bool) -> int:
    """Write a folder whole, then rename it; return the size of its files."""
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f"{TEMPORARY}{os.urandom(8).hex()}")
    old = f"{temporary}-old"
    try:
        if os.path.lexists(target) and not (overwrite or or_same):
            raise FileExistsError(errno.EEXIST, EXISTS)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        made.write(temporary)
        size = 0
        for place, _, names in os.walk(temporary):
            for name in names:
                with open(os.path.join(place, name), "rb") as file:
                    size += os.fstat(file.fileno()).st_size
                    to_disk(file.fileno())
            synchronize(place)
        # Folders do not replace each other: for a moment there is neither, never half of one.
        if os.path.lexists(target):
            if not overwrite:
                if same_folder(temporary, target):
                    return size
                raise FileExistsError(errno.EEXIST, EXISTS)
            os.rename(target, old)
        os.rename(temporary, target)
        synchronize(os.path.dirname(target))
        return size
    except OSError as error:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.rename(old, target)
        if or_same and os.path.isdir(temporary) and same_folder(temporary, target):
            return size  # another run of the task was quicker by a moment
        raise OutputError(f"{path}: {error.strerror or error}") from None
    finally:
        import shutil  # with its archivers 2 ms of a start

        shutil.rmtree(temporary, ignore_errors=True)
        if os.path.isdir(old):
            shutil.rmtree(old, ignore_errors=True)
        elif os.path.lexists(old):
            os.unlink(old)


def _publish_prefix(url: str, made: Folder, overwrite: bool, or_same: bool) -> int:
    """Write a folder as objects; what makes an image of them comes last."""
    place = url.rstrip("/")
    there = remote.exists(place)
    if there and not (overwrite or or_same):
        raise OutputError(f"{url}: {EXISTS}")
    written = place
    if there and not overwrite:  # to compare with
        parent, _, name = place.rpartition("/")
        written = f"{parent}/{TEMPORARY}{os.urandom(8).hex()}-{name}"
    if there and overwrite:
        remote.remove_tree(place)
    try:
        with remote.reported(url, OutputError):
            made.write(written)
        found = remote.tree(written)
        if written != place:
            same = found == remote.tree(place) and all(
                remote.fetch(f"{written}/{name}", size) == remote.fetch(f"{place}/{name}", size)
                for name, size in found.items()
            )
            if not same:
                raise OutputError(f"{url}: {EXISTS}")
    except BaseException:
        if not there or overwrite:
            with contextlib.suppress(Exception):
                remote.remove_tree(place)
        raise
    finally:
        if written != place:
            remote.remove_tree(written)
    return sum(found.values())


def _publish_object(url: str, pieces: Iterable[Piece], overwrite: bool, or_same: bool) -> int:
    """Write an object from a temporary file, since its size is not known before."""
    there = not overwrite and remote.exists(url)
    if there and not or_same:
        raise OutputError(f"{url}: {EXISTS}")
    import tempfile  # with what it imports 10 ms of a start

    try:
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY) as file:
            for piece in pieces:
                put(file, piece)
            file.flush()
            size = file.tell()
            if not there:
                remote.publish(url, file, size)
                return size
            with tempfile.NamedTemporaryFile(prefix=TEMPORARY) as other:
                remote.fetch_file(url, other.name)
                if not same_file(file.name, other.name):
                    raise OutputError(f"{url}: {EXISTS}")
            return size
    except OSError as error:
        raise OutputError(f"{url}: {error.strerror or error}") from None


def exists(path: str) -> bool:
    """Whether a file or object is there, or a broken symlink."""
    return remote.exists(path) if is_url(path) else os.path.lexists(path)


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


def _write_into(path: str, status: os.stat_result, pieces: Iterable[Piece]) -> int:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISBLK(status.st_mode):
        raise OSError(errno.EINVAL, "is a block device, expected a file")
    size = 0
    with open(path, "wb") as file:
        for piece in pieces:
            assert not isinstance(piece, Patch)  # a pipe takes nothing back
            size += file.write(piece)
    return size


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Publish the files of this thread at the end of the block, when its images are gone.

    Waiting for the disk takes as long as filtering a photo; meanwhile `during` lets others work.
    Files that were whole when the block failed are published all the same, none if it was
    interrupted.
    """
    staged: list[Staged] = []
    _thread.staged = staged
    interrupted = True
    try:
        try:
            yield
        except Exception:
            interrupted = False
            raise
        interrupted = False
    finally:
        _thread.staged = None
        with getattr(_thread, "during", contextlib.nullcontext)():
            while staged:
                one = staged.pop(0)
                if interrupted:
                    one.discard()
                    continue
                try:
                    one.publish()
                except BaseException:
                    interrupted = True
                    for other in staged:
                        other.discard()
                    raise


def while_waiting(during: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
    """Let this thread enter `during()` while `held` waits for the disk."""
    _thread.during = during
