"""Which images a command line names: files, folders, globs, lists of names, `-` and `sample:`."""

import codecs
import contextlib
import os
import pickle
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from imgconv.errors import ImageError, ImgconvError, UsageError
from imgconv.io import remote
from imgconv.io.formats import SCANNED_SUFFIXES
from imgconv.io.remote import is_url
from imgconv.io.source import ZARR_MARKS, is_zarr
from imgconv.pipeline.plan import Claims
from imgconv.pipeline.settings import BatchSettings

STDIN = "-"
SAMPLE = "sample:"
_PIECE = 1 << 16
_LONGEST = 1 << 16  # bytes of a name in a list; Linux takes 4,095


@dataclass(eq=False, repr=False)
class Scan:
    """How names become inputs, and which folders were looked into.

    recursive: folders stand for all images below them, otherwise for those right in them.
    patterns: whether an argument that does not exist may be a pattern. without: a folder that is
    passed over, since it takes the outputs. While inputs are found, `passed` gets its name, and
    `folders` the absolute paths, or URLs, of the folders whose images were taken.
    """

    recursive: bool = False
    patterns: bool = True
    without: str | None = None
    folders: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)

    def expand(
        self, names: Iterable[str], files_from: str | None = None, null: bool = False
    ) -> Iterator[str | ImageError]:
        """Yield input names in order; a name that leads nowhere is yielded as its ImageError.

        names: paths, folders, `-`, `sample:NAME`, URLs, and globs that the shell left alone.
        files_from: a file of names, or `-`, which are literal: no name in it is a pattern or
        standard input. null: they end with NUL instead of a line.
        """
        for name in names:
            yield from self._argument(name)
        if files_from is not None:
            for listed in _listed(files_from, null):
                if isinstance(listed, ImageError):
                    yield listed
                else:
                    yield from self._named(os.path.join(".", "-") if listed == "-" else listed)

    def _argument(self, name: str) -> Iterator[str | ImageError]:
        if is_url(name) and self.patterns and "*" in name:
            yield from self._objects(name, False)
            return
        if is_url(name) or name == STDIN or os.path.lexists(name):
            yield from self._named(name)
            return
        import glob

        magic = glob.has_magic(name)
        found = sorted(glob.glob(name, recursive=True)) if magic and self.patterns else []
        for path in found:
            if os.path.isfile(path) or is_zarr(path, True):
                yield path
            elif os.path.isdir(path):
                yield from self._folder(path)
        if not found:
            hint = "; --in-place takes no patterns" if magic and not self.patterns else ""
            yield from self._named(name, hint)

    def _named(self, name: str, hint: str = "") -> Iterator[str | ImageError]:
        """What a literal name stands for."""
        if name == STDIN or name.startswith(SAMPLE) or os.path.isfile(name) or is_zarr(name):
            yield name
        elif is_url(name):
            if self.recursive and name.endswith("/"):
                yield from self._objects(name, True)
            else:
                yield name
        elif os.path.isdir(name):
            yield from self._folder(name)
        elif os.path.exists(name):
            yield name
        else:
            yield failure(name, f"no such file{hint}")

    def _objects(self, url: str, prefix: bool) -> Iterator[str | ImageError]:
        """The URLs that a pattern stands for, or the images under a prefix ending in /."""
        found = False
        if prefix:
            self.folders.add(url.rstrip("/"))
        try:
            for name in remote.listed(url, prefix):
                folder, _, mark = name.rpartition("/")
                if not prefix or _looks_like_an_image(name):
                    found = True
                    yield name
                elif mark in ZARR_MARKS and is_zarr(folder):
                    found = True
                    yield folder
        except ImageError as error:
            error.source = url
            yield error
            return
        if not found:
            yield failure(url, "no images under it" if prefix else "no such object")

    def _folder(self, folder: str) -> Iterator[str | ImageError]:
        """The images of a folder: regular files by their names' extensions, and Zarr images."""
        self.folders.add(os.path.abspath(folder))
        errors: list[OSError] = []
        taken, passed, left = 0, 0, False
        for place, folders, files in os.walk(folder, onerror=errors.append):
            images = [name for name in sorted(folders) if is_zarr(os.path.join(place, name), True)]
            yield from (os.path.join(place, name) for name in images)
            folders[:] = sorted(
                name for name in set(folders) - set(images) if not self._takes_outputs(place, name)
            )
            if not self.recursive:
                left = bool(folders)
                folders.clear()
            taken += len(images)
            for file in sorted(files):
                path = os.path.join(place, file)
                if not _looks_like_an_image(file) or _is_special(path):
                    passed += 1
                    continue
                taken += 1
                yield path if os.path.isfile(path) else failure(path, "no such file")
        for error in errors:
            yield failure(error.filename or folder, error.strerror or str(error))
        if not taken and not errors:
            why = "none of its files is an image by its extension" if passed else "no files in it"
            more = "; --recursive looks into its folders" if left else ""
            yield failure(folder, f"no images: {why}{more}")

    def _takes_outputs(self, place: str, name: str) -> bool:
        if self.without is None or os.path.basename(self.without) != name:
            return False
        path = os.path.join(place, name)
        if os.path.realpath(path) != self.without:
            return False
        self.passed.add(path)
        return True


def check_names(names: tuple[str, ...], batch: BatchSettings) -> None:
    """Raise UsageError where a command line names no inputs, or standard input twice."""
    if not names and batch.files_from is None:
        raise UsageError("no input: expected image files, - or sample:photo")
    if names.count("-") + (batch.files_from == "-") > 1:
        raise UsageError("standard input is named twice, expected once")


@contextlib.contextmanager
def spooled(
    sources: Iterable[str | ImageError], batch: BatchSettings
) -> "Iterator[list[str | ImageError] | Spooled]":
    """Inputs to go through more than once; on disk those of a list, which may be any number."""
    if batch.files_from is None:
        yield list(sources)
        return
    with contextlib.closing(Spooled(sources)) as held:
        yield held


@contextlib.contextmanager
def claimed(batch: BatchSettings) -> Iterator[Claims]:
    """What finds collisions, on disk where the names of a list may be too many for memory."""
    if batch.files_from is None:
        yield Claims()
        return
    from imgconv.batch.names import SpilledNames

    with contextlib.closing(Claims(SpilledNames())) as claims:
        yield claims


class Spooled:
    """Inputs that are gone through more than once, in a file instead of memory."""

    def __init__(self, sources: Iterable[str | ImageError]) -> None:
        import tempfile  # with what it imports 10 ms of a start

        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this is
        self._count = 0
        for source in sources:
            pickle.dump(source, self._file)
            self._count += 1

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str | ImageError]:
        self._file.seek(0)
        for _ in range(self._count):
            source: str | ImageError = pickle.load(self._file)
            yield source


def failure(source: str, reason: str | ImgconvError) -> ImageError:
    """The error that stands for an input in a list; reason: one that names it, or text."""
    error = ImageError(f"{source}: {reason}" if isinstance(reason, str) else str(reason))
    error.source = source
    return error


def _looks_like_an_image(name: str) -> bool:
    """Whether a scan takes a file; `._` begins macOS's files of attributes beside the real ones."""
    base = name.rpartition("/")[2]
    return os.path.splitext(base)[1].lower() in SCANNED_SUFFIXES and not base.startswith("._")


def _is_special(path: str) -> bool:
    """Whether it is a pipe, socket or device; links that lead nowhere are not."""
    return os.path.exists(path) and not os.path.isfile(path)


def _listed(source: str, null: bool) -> Iterator[str | ImageError]:
    if source == STDIN:
        yield from _names(sys.stdin.buffer, null)
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed below; the error belongs to this line
    except OSError as error:
        raise UsageError(f"--files-from {source}: {error.strerror}") from None
    with file:
        yield from _names(file, null)


def _names(file: BinaryIO, null: bool) -> Iterator[str | ImageError]:
    for number, raw in enumerate(_pieces(file, b"\0" if null else b"\n")):
        if number == 0:  # Windows' editors begin UTF-8 with a byte-order mark
            raw = raw.removeprefix(codecs.BOM_UTF8)
        name = os.fsdecode(raw if null else raw.rstrip(b"\r"))
        if len(raw) > _LONGEST:
            yield failure(name[:100] + "…", f"a name of more than {_LONGEST} bytes")
        elif "\0" in name:
            yield failure(
                name, "a NUL in a name, expected one name per line; -0 takes NUL as the end"
            )
        elif name:
            yield name


def _pieces(file: BinaryIO, end: bytes) -> Iterator[bytes]:
    """The parts of a file between ends; of one that is too long only so much that it shows."""
    rest, cut = b"", False
    while piece := file.read(_PIECE):
        first, *more = piece.split(end)
        rest += b"" if cut else first
        for part in more:
            yield rest
            rest, cut = part, False
        cut = len(rest) > _LONGEST
    yield rest
