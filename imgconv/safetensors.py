"""The safetensors format: named arrays behind a JSON header, never code.

Layout: 8 bytes little-endian header length, the JSON header, then the data. Source: the format
section of the safetensors README (github.com/huggingface/safetensors). The header is checked
before any array is made: known dtypes, sizes that match shapes, ranges inside the file that
neither overlap nor leave gaps.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from imgconv.errors import ModelError
from imgconv.parts import read_part
from imgconv.typing import JSON, Array, Dtype, Json

MAX_HEADER = 100 << 20
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
_READ = DTYPES | {"BF16": "<u2"}  # the upper half of a float32, which NumPy has no type for


class Entry(NamedTuple):
    """An array of a file: its type and shape, and how to read it while the file is open."""

    dtype: Dtype
    shape: tuple[int, ...]
    load: Callable[[], Array]


def open_safetensors(file: IO[bytes], path: str | Path) -> dict[str, Entry]:
    """Return an open file's arrays by name, of which only the header is read.

    BF16 becomes float32; every number is kept exactly. Raises ModelError for a malformed or
    truncated file, also when an array is loaded.
    """
    header, offset, size = _read_header(file, path)
    return {
        name: Entry(
            np.dtype(np.float32) if header[name]["dtype"] == "BF16" else dtype, shape,
            partial(_load, file, path, dtype, shape, offset + start, header[name]["dtype"]),
        )
        for name, (dtype, shape, start, _) in _entries(header, size - offset, path).items()
    }  # fmt: skip


def read_safetensors(path: str | Path) -> dict[str, Array]:
    """Return the file's arrays by name. Raises ModelError as `open_safetensors` does."""
    with _opened(path) as file:
        return {name: entry.load() for name, entry in open_safetensors(file, path).items()}


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the header's `__metadata__`. Raises ModelError as `open_safetensors` does."""
    with _opened(path) as file:
        open_safetensors(file, path)
        header, _, _ = _read_header(file, path)
    found = header.get("__metadata__")
    return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}


@contextmanager
def _opened(path: str | Path) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None


def _read_header(file: IO[bytes], path: str | Path) -> tuple[Json, int, int]:
    """The header, where the data begin, and the file's size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(MAX_HEADER, size - 8):
        raise ModelError(
            f"{path}: safetensors header of {length} bytes in a file of {size}, expected "
            f"at most {min(MAX_HEADER, max(size - 8, 0))}"
        )
    return _header(file.read(length), path), 8 + length, size


def _load(
    file: IO[bytes], path: str | Path, dtype: Dtype, shape: tuple[int, ...], start: int, code: str
) -> Array:
    part = read_part(file, start, math.prod(shape) * dtype.itemsize, str(path))
    array = part.view(dtype).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if code == "BF16" else array


def write_safetensors(
    target: str | Path | BinaryIO,
    arrays: dict[str, Array],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write named arrays to a path or an open binary file."""
    if isinstance(target, (str, Path)):
        with open(target, "wb") as file:
            write_safetensors(file, arrays, metadata)
        return
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    target.write(encode_header({k: (a.dtype, a.shape) for k, a in plain.items()}, metadata))
    for array in plain.values():
        target.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def encode_header(
    arrays: Mapping[str, tuple[Dtype, tuple[int, ...]]], metadata: dict[str, str] | None = None
) -> bytes:
    """Return what comes before the bytes of arrays of these types and shapes, in this order.

    Raises ModelError for a type that the format has not.
    """
    header: dict[str, JSON] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, (dtype, shape) in arrays.items():
        code = _NAMES.get(dtype.newbyteorder("<"))
        if code is None:
            raise ModelError(f"{name}: {dtype}, expected one of {', '.join(DTYPES)}")
        size = math.prod(shape) * dtype.itemsize
        span = [position, position + size]
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": span}
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _header(text: bytes, path: str | Path) -> Json:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: the safetensors header is not JSON") from None
    if not isinstance(header, dict):
        raise ModelError(f"{path}: the safetensors header is not a JSON object")
    return header


def _entries(
    header: Json, room: int, path: str | Path
) -> dict[str, tuple[Dtype, tuple[int, ...], int, int]]:
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype = np.dtype(_READ[entry["dtype"]])
            shape = tuple(entry["shape"])
            start, stop = entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise ModelError(
                f"{path}: {name}: expected dtype (one of {', '.join(_READ)}), shape and "
                "data_offsets"
            ) from None
        numbers = (*shape, start, stop)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ModelError(f"{path}: {name}: shape and offsets must be whole numbers from 0")
        # NumPy refuses an empty array whose other extents would not fit in memory.
        if math.prod(extent or 1 for extent in shape) * dtype.itemsize >= 1 << 62:
            raise ModelError(f"{path}: {name}: a shape of {len(shape)} extents beyond any memory")
        if not start <= stop <= room or math.prod(shape) * dtype.itemsize != stop - start:
            raise ModelError(
                f"{path}: {name}: {dtype} of shape {list(shape)} at {start}–{stop}, expected "
                f"{math.prod(shape) * dtype.itemsize} bytes within {room}"
            )
        found[name] = (dtype, shape, start, stop)
    position = 0
    for start, stop in sorted((entry[2], entry[3]) for entry in found.values()):
        if start != position:
            raise ModelError(f"{path}: data at {start}, expected {position}: overlap or gap")
        position = stop
    if position != room:
        raise ModelError(f"{path}: {room} bytes of data, expected {position}")
    return found
