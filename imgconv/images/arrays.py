"""NPY and NPZ: arrays read with their declared size checked first, and written.

Nothing is ever unpickled. Arrays are (H, W), (H, W, C), one row (W), or (N, H, W, C) frames; each
array of an NPZ is a frame. Booleans become 0 and 255; half floats float32; int8 int16; wider
integers than int32 float64, exact up to 2⁵³.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.errors import ImageError, LimitError, OutputError

_MAGIC = b"\x93NUMPY"
_HEADER_LIMIT = 1 << 16
METADATA_MEMBER = "imgconv"
_DTYPES = {
    "b1": np.uint8, "u1": np.uint8, "u2": np.uint16, "i1": np.int16, "i2": np.int16,
    "i4": np.int32, "f2": np.float32, "f4": np.float32, "f8": np.float64, "u4": np.float64,
    "u8": np.float64, "i8": np.float64,
}  # fmt: skip


class Declared(NamedTuple):
    """An NPY header: what follows it, and how long the header is."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def size(self) -> int:
        """Bytes of header and data."""
        count = 1
        for extent in self.shape:
            count *= extent
        return self.offset + count * self.dtype.itemsize


def parse_header(prefix: bytes, name: str) -> Declared:
    """Read an NPY header (versions 1 to 3). Raises ImageError for what is not numbers."""
    import ast

    version = prefix[6:7]
    wide = version in (b"\x02", b"\x03")
    start = 12 if wide else 10
    if prefix[:6] != _MAGIC or version not in (b"\x01", b"\x02", b"\x03") or len(prefix) < start:
        raise ImageError(f"{name}: not an NPY array of version 1 to 3")
    length = int.from_bytes(prefix[8:start], "little")
    text = prefix[start : start + length]
    if length > _HEADER_LIMIT or len(text) < length:
        raise ImageError(f"{name}: NPY header of {length} bytes is truncated or too long")
    try:
        fields = ast.literal_eval(text.decode("latin-1"))
        shape, dtype = tuple(fields["shape"]), np.dtype(fields["descr"])
        fortran = bool(fields["fortran_order"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise ImageError(f"{name}: broken NPY header") from None
    if dtype.hasobject:
        raise ImageError(f"{name}: holds pickled Python objects, which are never loaded")
    if dtype.str[1:] not in _DTYPES:
        raise ImageError(f"{name}: array of {dtype}, expected real numbers")
    if not all(type(extent) is int and extent >= 0 for extent in shape):
        raise ImageError(f"{name}: broken NPY header: shape {shape}")
    return Declared(shape, dtype, fortran, start + length)


def check_shape(shape: tuple[int, ...], name: str, max_pixels: int) -> None:
    """Raise ImageError or LimitError unless an array of this shape is one image or frames."""
    if not 1 <= len(shape) <= 4:
        raise ImageError(f"{name}: array of {len(shape)} dimensions, expected (H, W) or (H, W, C)")
    if 0 in shape:
        raise ImageError(f"{name}: empty array of shape {_times(shape)}")
    count = 1
    for extent in shape:
        count *= extent
    if count > 4 * max_pixels:
        raise LimitError(
            f"{name}: array of {_times(shape)} numbers is above the limit of {4 * max_pixels} "
            "(4 for each of --max-pixels)"
        )


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def frames_of(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield each image of an array as C-contiguous (H, W, C) in one of our dtypes."""
    if array.ndim == 1:
        array = array[None]
    target = _DTYPES[array.dtype.str[1:]]
    for frame in array if array.ndim == 4 else array[None]:
        pixels = frame if frame.ndim == 3 else frame[..., None]
        converted = np.ascontiguousarray(pixels, dtype=target)
        yield converted * np.uint8(255) if array.dtype == np.bool_ else converted


def decode_npy(data: bytes, name: str, max_pixels: int) -> npt.NDArray[Any]:
    """Return the array as stored; no copy of `data`."""
    declared = parse_header(data, name)
    check_shape(declared.shape, name, max_pixels)
    if declared.size > len(data):
        raise ImageError(f"{name}: truncated: {declared.size} bytes declared, {len(data)} present")
    flat = np.frombuffer(data, declared.dtype, -1, declared.offset)
    count = (declared.size - declared.offset) // declared.dtype.itemsize
    return flat[:count].reshape(declared.shape, order="F" if declared.fortran else "C")


def open_npz(
    file: IO[bytes], name: str, max_pixels: int
) -> list[tuple[str, int, Callable[[], npt.NDArray[Any]]]]:
    """Return (member, frames, load) of every array in an NPZ, sizes checked, nothing loaded.

    Members that are not number arrays (our own metadata, texts) are passed over; pickled ones
    refuse the file. Raises ImageError, LimitError.
    """
    import zipfile

    try:
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise ImageError(f"{name}: broken NPZ: {error}") from None
    found = []
    total = 0
    for member in members:
        if not member.filename.endswith(".npy") or member.filename == f"{METADATA_MEMBER}.npy":
            continue
        label = f"{name}: {member.filename}"
        declared = parse_header(_member(archive, member, label, _HEADER_LIMIT + 12), label)
        check_shape(declared.shape, label, max_pixels)
        if declared.size != member.file_size:
            raise ImageError(
                f"{label}: {declared.size} bytes declared by the array, "
                f"{member.file_size} by the archive"
            )
        total += declared.size
        if total > 32 * max_pixels:
            raise LimitError(f"{name}: arrays of more than {32 * max_pixels} bytes together")
        frames = declared.shape[0] if len(declared.shape) == 4 else 1
        found.append((member.filename[:-4], frames, _loader(archive, member, label, max_pixels)))
    if not found:
        raise ImageError(f"{name}: NPZ without an array of numbers")
    return found


def _loader(
    archive: Any, member: Any, label: str, max_pixels: int
) -> Callable[[], npt.NDArray[Any]]:
    def load() -> npt.NDArray[Any]:
        data = _member(archive, member, label, member.file_size)
        return decode_npy(data, label, max_pixels)

    return load


def _member(archive: Any, member: Any, label: str, limit: int) -> bytes:
    """Read at most `limit` bytes of a member."""
    import zipfile

    try:
        with archive.open(member) as opened:
            content: bytes = opened.read(limit)
            return content
    except (
        zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError,
        NotImplementedError,
    ) as error:  # fmt: skip
        raise ImageError(f"{label}: broken NPZ: {error}") from None


def encode_npy(array: npt.NDArray[Any]) -> list[Any]:
    """Return the pieces of an NPY file."""
    head = io.BytesIO()
    array = np.asarray(array, order="C")  # ascontiguousarray would make a list of a single text
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return [head.getvalue(), array.reshape(-1).view(np.uint8).data]


def encode_npz(
    named: dict[str, npt.NDArray[Any]], metadata: str | None = None, compress: bool = False
) -> list[Any]:
    """Return the pieces of an NPZ file with one member per array.

    metadata: text kept in the member `imgconv` (a Unicode array, not pickled). The bytes depend
    on the arrays alone: members carry no date. Raises OutputError for a clash of names.
    """
    import zipfile

    if METADATA_MEMBER in named:
        raise OutputError(f"npz: an array cannot be named {METADATA_MEMBER!r}")
    members: dict[str, npt.NDArray[Any]] = dict(named)
    if metadata is not None:
        members[METADATA_MEMBER] = np.array(metadata)
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for label, array in members.items():
            entry = zipfile.ZipInfo(f"{label}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=array.nbytes > 1 << 31) as member:
                for piece in encode_npy(array):
                    member.write(piece)
    return [buffer.getbuffer()]
