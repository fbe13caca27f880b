"""NPY and NPZ files, read with every declared size checked first, and written.

Nothing is ever unpickled. Failures are ArrayFileError; who reads a kernel, an image or weights
says with `reported_as` what kind of failure that is. Source of the layout: NumPy documentation,
numpy.lib.format.
"""

import contextlib
import io
import math
import re
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from imgconv.errors import ImgconvError
from imgconv.marks import PICKLED
from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_MAGIC = b"\x93NUMPY"
HEADER_LIMIT = 1 << 16
_LONGEST = 1 << 62
# What no header of numbers holds, and of which Python's parser warns on standard error.
_ODD = re.compile(r"[\d.][A-Za-z]|\\")
_KINDS = frozenset(["b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])


class ArrayFileError(ImgconvError):
    """An array file that is broken, truncated, pickled or not of real numbers."""


@contextlib.contextmanager
def reported_as(kind: type[ImgconvError]) -> Iterator[None]:
    """Raise an ArrayFileError of the body as `kind`."""
    try:
        yield
    except ArrayFileError as error:
        raise kind(str(error)) from None


class Declared(NamedTuple):
    """An NPY header: what follows it, and how long the header is."""

    shape: tuple[int, ...]
    dtype: Dtype
    fortran: bool
    offset: int

    @property
    def numbers(self) -> int:
        """Numbers in the array."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def size(self) -> int:
        """Bytes of header and data."""
        return self.offset + self.numbers * self.dtype.itemsize


class Member(NamedTuple):
    """An array of an NPZ: its name without `.npy`, what it declares, and how to read it."""

    name: str
    label: str
    declared: Declared
    load: Callable[[], Array]


def parse_header(prefix: bytes, name: str) -> Declared:
    """Read an NPY header (versions 1 to 3). Raises ArrayFileError for what is not numbers."""
    import ast

    version = prefix[6:7]
    wide = version in (b"\x02", b"\x03")
    start = 12 if wide else 10
    if prefix[:6] != _MAGIC or version not in (b"\x01", b"\x02", b"\x03") or len(prefix) < start:
        raise ArrayFileError(f"{name}: not an NPY array of version 1 to 3")
    length = int.from_bytes(prefix[8:start], "little")
    text = prefix[start : start + length]
    if length > HEADER_LIMIT or len(text) < length:
        raise ArrayFileError(f"{name}: NPY header of {length} bytes is truncated or too long")
    try:
        written = text.decode("latin-1")
        if _ODD.search(written):
            raise ValueError
        fields = ast.literal_eval(written)
        shape, dtype = tuple(fields["shape"]), np.dtype(fields["descr"])
        fortran = bool(fields["fortran_order"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise ArrayFileError(f"{name}: broken NPY header") from None
    if dtype.hasobject:
        raise ArrayFileError(f"{name}: holds pickled Python objects, which are never loaded")
    if dtype.str[1:] not in _KINDS:
        raise ArrayFileError(f"{name}: array of {dtype}, expected real numbers")
    if not all(type(extent) is int and 0 <= extent < _LONGEST for extent in shape):
        raise ArrayFileError(f"{name}: broken NPY header: shape {str(shape)[:80]}")
    # NumPy refuses an empty array whose other extents would not fit in memory.
    if math.prod(extent or 1 for extent in shape) * dtype.itemsize >= _LONGEST:
        raise ArrayFileError(f"{name}: an array of shape {shape}, more than memory can hold")
    return Declared(shape, dtype, fortran, start + length)


def array_of(declared: Declared, data: bytes, name: str) -> Array:
    """Return the array as stored; no copy of `data`, which begins with the header."""
    if declared.size > len(data):
        raise ArrayFileError(
            f"{name}: truncated: {declared.size} bytes declared, {len(data)} present"
        )
    flat = np.frombuffer(data, declared.dtype, declared.numbers, declared.offset)
    return flat.reshape(declared.shape, order="F" if declared.fortran else "C")


def open_npz(file: IO[bytes], name: str, skip: str = "") -> list[Member]:
    """Return the arrays of an NPZ with what they declare; nothing is loaded, sizes are compared.

    Members that are not arrays, and the one called `skip`, are passed over. Raises ArrayFileError,
    also where no array is left, and when a member is loaded.
    """
    import zipfile

    try:
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise ArrayFileError(f"{name}: broken NPZ: {error}") from None
    found = []
    for entry in entries:
        if not entry.filename.endswith(".npy") or entry.filename == f"{skip}.npy":
            continue
        label = f"{name}: {entry.filename}"
        declared = parse_header(_content(archive, entry, label, HEADER_LIMIT + 12), label)
        if declared.size != entry.file_size:
            raise ArrayFileError(
                f"{label}: {declared.size} bytes declared by the array, "
                f"{entry.file_size} by the archive"
            )
        load = _loader(archive, entry, label, declared)
        found.append(Member(entry.filename.removesuffix(".npy"), label, declared, load))
    if not found:
        # torch.save writes an archive of a pickle and of raw data.
        pickled = any(entry.filename.endswith("data.pkl") for entry in entries)
        raise ArrayFileError(
            f"{name}: {PICKLED if pickled else 'an archive without NPY arrays, expected NPZ'}"
        )
    return found


def read_text(file: IO[bytes], name: str, member: str, limit: int) -> str:
    """Return the text of at most `limit` characters that an NPZ's member holds, "" without it.

    Such a member is an array of one Unicode string, without dimensions. Raises ArrayFileError.
    """
    import zipfile

    try:
        archive = zipfile.ZipFile(file)
        entry = archive.getinfo(f"{member}.npy")
    except KeyError:
        return ""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise ArrayFileError(f"{name}: broken NPZ: {error}") from None
    content = _content(archive, entry, f"{name}: {member}.npy", 4 * limit + HEADER_LIMIT)
    start = 10 + int.from_bytes(content[8:10], "little")
    if content[:8] != _MAGIC + b"\1\0" or b"'<U" not in content[:start]:
        return ""
    return content[start : start + 4 * limit].decode("utf-32-le", "replace").rstrip("\0")


def _loader(
    archive: "ZipFile", entry: "ZipInfo", label: str, declared: Declared
) -> Callable[[], Array]:
    return lambda: array_of(declared, _content(archive, entry, label, declared.size), label)


def _content(archive: "ZipFile", entry: "ZipInfo", label: str, limit: int) -> bytes:
    """Read at most `limit` bytes of a member."""
    import zipfile

    try:
        with archive.open(entry) as opened:
            return opened.read(limit)
    except (
        zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError,
        NotImplementedError,
    ) as error:  # fmt: skip
        raise ArrayFileError(f"{label}: broken NPZ: {error}") from None


def encode_npy(array: Array, stack: tuple[int, ...] = ()) -> list[bytes | memoryview]:
    """Return the pieces of an NPY file: its header and the bytes of the array.

    stack: axes before the array's own; the bytes of the other arrays are to follow.
    """
    head = io.BytesIO()
    array = np.asarray(array, order="C")  # ascontiguousarray would make a list of a single text
    facts = np.lib.format.header_data_from_array_1_0(array)
    facts["shape"] = (*stack, *array.shape)
    np.lib.format.write_array_header_1_0(head, facts)
    return [head.getvalue(), array.reshape(-1).view(np.uint8).data]


def encode_npz(named: dict[str, Array], compress: bool = False) -> list[bytes | memoryview]:
    """Return the pieces of an NPZ file with one member per array.

    The bytes depend on the arrays alone: members carry no date.
    """
    import zipfile

    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for label, array in named.items():
            entry = zipfile.ZipInfo(f"{label}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=array.nbytes > 1 << 31) as member:
                for piece in encode_npy(array):
                    member.write(piece)
    return [buffer.getbuffer()]
