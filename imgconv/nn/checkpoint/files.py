"""Where a checkpoint's bytes lie: the ZIP form, and the one of PyTorch before 1.6.

The ZIP form has entries `NAME/data.pkl`, `NAME/byteorder` and `NAME/data/KEY`, a storage each.
The older one is five pickles (a magic number, the version, facts of the machine, the object, and
the storages' keys), then for each key its numbers' count (int64) and the numbers, little-endian.
"""

import io
import zipfile
import zlib
from collections.abc import Callable
from typing import IO

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.checkpoint.tensors import NAMES, Kind, Storage, whole, width_of
from imgconv.nn.checkpoint.unpickler import ADVICE, Unpickler, shown
from imgconv.parts import read_part
from imgconv.typing import Array

# A state dictionary's pickle takes some 100 bytes a tensor.
MAX_PICKLE = 16 << 20
# Of a compressed tensor; the largest of VGG16 has 411 MB.
MAX_INFLATED = 1 << 30
_PIECE = 1 << 20
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = 30
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError,
    NotImplementedError, KeyError,
)  # fmt: skip


def is_archive(file: IO[bytes]) -> bool:
    """Whether a ZIP archive is PyTorch's, whatever of it; one that is broken is not."""
    try:
        names = zipfile.ZipFile(file).namelist()
    except _ZIP_ERRORS:
        return False
    return any(name.rpartition("/")[2] in ("data.pkl", *_PROGRAMS) for name in names)


_PROGRAMS = ("constants.pkl", "serialized_exported_program.json", "archive_format", "model.json")


def read_checkpoint(file: IO[bytes], source: str) -> object:
    """Return what a checkpoint holds: containers of tensors, none of whose numbers is read yet.

    Parameters
    ----------
    file
        An open file, which stays open while tensors are loaded.
    source
        How messages name the file.

    Raises
    ------
    ModelError
        It is broken, holds more than tensors, is a program, or lies about a size.
    """
    try:
        file.seek(0)
        kind = _Archive if file.read(4) == b"PK\3\4" else _Legacy
        return kind(file, source).load()
    except OSError as error:
        raise ModelError(f"{source}: {error.strerror or error}") from None


class _File:
    """A file's bytes, read when they are asked for."""

    def __init__(self, file: IO[bytes], source: str) -> None:
        self.file, self.source = file, source
        self.size = file.seek(0, io.SEEK_END)

    def broken(self, what: str) -> ModelError:
        return ModelError(f"{self.source}: broken checkpoint: {what}")

    def part(self, start: int, count: int) -> Array:
        """`count` bytes from `start` on. Raises ModelError where the file was cut meanwhile."""
        return read_part(self.file, start, count, self.source)

    def described(self, identity: object, fields: int) -> tuple[Kind, str, int, object]:
        """A persistent id's kind of numbers, key, count, and what follows."""
        if not isinstance(identity, tuple) or len(identity) != fields or identity[0] != "storage":
            what = identity[0] if isinstance(identity, tuple) and identity else identity
            if what == "module":
                raise ModelError(f"{self.source}: a whole pickled model: {ADVICE}")
            raise self.broken(f"a persistent id of {type(identity).__name__}, expected a storage")
        kind, key, numel = identity[1], identity[2], identity[4]
        if not isinstance(kind, Kind) or not isinstance(key, str | int):
            raise self.broken("a storage without a type or key")
        return kind, str(key), whole(numel, "a storage"), identity[5:]


class _Archive(_File):
    """The ZIP form."""

    def __init__(self, file: IO[bytes], source: str) -> None:
        super().__init__(file, source)
        try:
            self.archive = zipfile.ZipFile(file)
            self.entries = {entry.filename: entry for entry in self.archive.infolist()}
        except _ZIP_ERRORS as error:
            raise self.broken(shown(error)) from None
        self.storages: dict[str, Storage] = {}

    def load(self) -> object:
        bare = {name.rpartition("/")[2] for name in self.entries}
        if not bare.isdisjoint(_PROGRAMS):
            what = "TorchScript" if "constants.pkl" in bare else "torch.export"
            raise ModelError(
                f"{self.source}: a program of {what}, expected a state dictionary: {ADVICE}; "
                "torch.onnx.export makes a network that runs here"
            )
        heads = [name for name in self.entries if name.rpartition("/")[2] == "data.pkl"]
        if len(heads) != 1:
            raise self.broken(f"{len(heads)} entries called data.pkl, expected one")
        self.folder = heads[0].removesuffix("data.pkl")
        order = b"little"
        if f"{self.folder}byteorder" in self.entries:
            entry = self.entries[f"{self.folder}byteorder"]
            order = self._content(entry, 0, min(entry.file_size, len(b"little") + 1)).tobytes()
        if order not in (b"little", b"big"):
            raise self.broken(f"byte order {order!r}, expected little or big")
        self.order = "<" if order == b"little" else ">"
        entry = self.entries[heads[0]]
        if entry.file_size > MAX_PICKLE:
            raise self.broken(f"data.pkl of {entry.file_size:,} bytes, at most {MAX_PICKLE:,}")
        pickled = io.BytesIO(self._content(entry, 0, entry.file_size).tobytes())
        return Unpickler(pickled, self.source, NAMES, self._storage).load()

    def _storage(self, identity: object) -> Storage:
        kind, key, numel, _ = self.described(identity, 5)
        entry = self.entries.get(f"{self.folder}data/{key}")
        if entry is None:
            raise self.broken(f"storage {shown(key)} is missing")
        size = numel * width_of(kind)
        if entry.file_size < size:
            raise self.broken(
                f"storage {shown(key)} of {size:,} bytes, the archive has {entry.file_size:,}"
            )
        return Storage(kind, numel, self._reader(entry), self.order)

    def _reader(self, entry: zipfile.ZipInfo) -> Callable[[int, int], Array]:
        def read(start: int, count: int) -> Array:
            if entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1:
                return self.part(self._data_start(entry) + start, count)
            if count > MAX_INFLATED:
                raise self.broken(
                    f"{shown(entry.filename)}: a tensor spans {count:,} compressed bytes, at most "
                    f"{MAX_INFLATED:,}"
                )
            return self._content(entry, start, count)

        return read

    def _data_start(self, entry: zipfile.ZipInfo) -> int:
        """Where a stored entry's bytes begin: behind its own header, whose name may be longer."""
        start = entry.header_offset
        header = self.part(start, _LOCAL_HEADER).tobytes()
        start += _LOCAL_HEADER + int.from_bytes(header[26:28], "little")
        start += int.from_bytes(header[28:30], "little")
        if header[:4] != b"PK\3\4" or start + entry.file_size > self.size:
            raise self.broken(f"{shown(entry.filename)} lies outside of the file")
        return start

    def _content(self, entry: zipfile.ZipInfo, start: int, count: int) -> Array:
        """Bytes of an entry, inflated into their place; of those before, a piece at a time."""
        content, filled = np.empty(count, np.uint8), 0
        try:
            with self.archive.open(entry) as opened:
                opened.seek(start)
                while filled < count:
                    piece = opened.read(min(count - filled, _PIECE))
                    if not piece:
                        raise self.broken(f"{shown(entry.filename)} is truncated")
                    content[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                    filled += len(piece)
        except _ZIP_ERRORS as error:
            raise self.broken(f"{shown(entry.filename)}: {shown(error)}") from None
        return content


class _Legacy(_File):
    """The form of PyTorch before 1.6."""

    def load(self) -> object:
        self.starts: dict[str, int] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.file.seek(0)
        pickled = io.BytesIO(self.file.read(MAX_PICKLE))
        unpickler = Unpickler(pickled, self.source, NAMES, self._storage)
        magic = unpickler.load()
        if magic != MAGIC:
            raise ModelError(f"{self.source}: a pickle, but no checkpoint of PyTorch: {ADVICE}")
        version = unpickler.load()
        if version != PROTOCOL:
            raise self.broken(f"version {shown(version)}, expected {PROTOCOL}")
        unpickler.load()  # sizes of C's types where it was made, which the format does not need
        found, keys = unpickler.load(), unpickler.load()
        if not isinstance(keys, list):
            raise self.broken("no list of storages")
        self._locate(keys, pickled.tell())
        return found

    def _locate(self, keys: list[object], start: int) -> None:
        """Find where each storage begins: behind its count, one after the other."""
        for key in keys:
            if not isinstance(key, str) or key not in self.sizes or key in self.starts:
                raise self.broken("a storage that no tensor has")
            numel, width = self.sizes[key]
            self.file.seek(start)
            count = int.from_bytes(self.file.read(8), "little", signed=True)
            if count != numel or start + 8 + numel * width > self.size:
                raise self.broken(
                    f"storage {shown(key)} of {numel:,} numbers: {count:,} are declared where "
                    f"they lie, with {max(self.size - start - 8, 0):,} bytes left"
                )
            self.starts[key] = start + 8
            start += 8 + numel * width
        absent = self.sizes.keys() - self.starts.keys()
        if absent:
            raise self.broken(f"storage {shown(min(absent))} is missing")

    def _storage(self, identity: object) -> Storage:
        kind, key, numel, rest = self.described(identity, 6)
        width = width_of(kind)
        if self.sizes.setdefault(key, (numel, width)) != (numel, width):
            raise self.broken(f"storage {shown(key)} has two sizes")
        view, first = rest[0] if isinstance(rest, tuple) else None, 0
        if view is not None:
            if not isinstance(view, tuple) or len(view) != 3:
                raise self.broken("a view of a storage, expected its key, offset and size")
            first, part = (whole(number, "a view of a storage") for number in view[1:])
            if first + part > numel:
                raise self.broken(f"a view of storage {shown(key)} beyond its {numel:,} numbers")
            numel = part
        return Storage(
            kind, numel, lambda at, count: self.part(self.starts[key] + first * width + at, count)
        )
