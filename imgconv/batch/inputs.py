"""Which images a command line names: files, folders, globs, lists of names, `-` and `sample:`."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from imgconv.errors import ImageError, UsageError
from imgconv.images import remote
from imgconv.images.formats import READABLE_SUFFIXES
from imgconv.images.remote import is_url
from imgconv.images.source import ZARR_MARKS, is_zarr

STDIN = "-"
SAMPLE = "sample:"


def expand(
    names: Iterable[str], recursive: bool = False, files_from: str | None = None, null: bool = False
) -> Iterator[str | ImageError]:
    """Yield input names in order; a name that leads nowhere is yielded as its ImageError.

    names: paths, `-`, `sample:NAME`, globs that the shell left alone, and, with `recursive`,
    folders. files_from: a file of names, or `-`; read as it is needed, so that any number of
    names takes no memory. Raises UsageError for a folder without `recursive`.
    """
    for name in names:
        yield from _one(name, recursive)
    if files_from is not None:
        for name in _listed(files_from, null):
            yield from _one(name, recursive)


def _one(name: str, recursive: bool) -> Iterator[str | ImageError]:
    if name == STDIN or name.startswith(SAMPLE) or os.path.isfile(name) or is_zarr(name):
        yield name
    elif is_url(name):
        yield from _objects(name, recursive)
    elif os.path.isdir(name):
        yield from _folder(name, recursive)
    elif os.path.lexists(name) and os.path.exists(name):
        yield name
    else:
        import glob

        if glob.has_magic(name) and (found := sorted(glob.glob(name, recursive=True))):
            yield from (path for path in found if os.path.isfile(path))
        else:
            yield ImageError(f"{name}: no such file")


def _objects(url: str, recursive: bool) -> Iterator[str | ImageError]:
    """URLs as they are; patterns, and with `recursive` prefixes ending in /, are listed."""
    prefix = recursive and url.endswith("/")
    if not (prefix or "*" in url):
        yield url
        return
    try:
        for name in remote.listed(url, prefix):
            folder, _, mark = name.rpartition("/")
            if not prefix or os.path.splitext(name)[1].lower() in READABLE_SUFFIXES:
                yield name
            elif mark in ZARR_MARKS and is_zarr(folder):
                yield folder
    except ImageError as error:
        yield error


def _folder(folder: str, recursive: bool) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        images = [name for name in sorted(folders) if is_zarr(os.path.join(place, name), True)]
        yield from (os.path.join(place, name) for name in images)
        folders[:] = sorted(set(folders) - set(images))
        if not recursive:
            folders.clear()
        for file in sorted(files):
            if os.path.splitext(file)[1].lower() in READABLE_SUFFIXES:
                yield os.path.join(place, file)


def _listed(source: str, null: bool) -> Iterator[str]:
    if source == STDIN:
        yield from _names(sys.stdin.buffer, null)
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed below; the error belongs to this line
    except OSError as error:
        raise UsageError(f"--files-from {source}: {error.strerror}") from None
    with file:
        yield from _names(file, null)


def _names(file: BinaryIO, null: bool) -> Iterator[str]:
    if not null:
        for line in file:
            if line.rstrip(b"\r\n"):
                yield os.fsdecode(line.rstrip(b"\r\n"))
        return
    rest = b""
    while piece := file.read(1 << 16):
        *whole, rest = (rest + piece).split(b"\0")
        yield from (os.fsdecode(name) for name in whole if name)
    if rest:
        yield os.fsdecode(rest)
