"""What a Zarr array says of itself: read by us, and checked before the zarr package sees any of it.

An array names the codecs that its chunks go through, and packages register many. That of numcodecs
called `pickle` runs what it finds in a chunk: a folder among photos must not have that. So only
codecs that turn bytes into numbers pass, only numbers, and only sizes that make sense; zarr is then
given this very description and reads no other (consolidated metadata included).

Source: Zarr specification, versions 2 and 3 ("zarr.json", "Sharding codec").
"""

import json
import math
import re
from typing import NamedTuple, TypeGuard

from imgconv.errors import ImageError
from imgconv.io import remote
from imgconv.io.remote import is_url
from imgconv.typing import Json

_LIMIT = 1 << 24  # bytes of a description
_MOST = 1 << 62  # samples that an array may declare: NumPy counts no further
_DEEPEST = 4  # sharding in sharding
_NUMCODECS = frozenset([
    "blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd", "shuffle", "delta", "fixedscaleoffset",
    "quantize", "bitround", "astype", "adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3",
])  # fmt: skip
_OWN = frozenset([
    "bytes", "endian", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed",
])  # fmt: skip
_V3 = _OWN | {f"numcodecs.{name}" for name in _NUMCODECS}
_NUMBER = re.compile(r"[<>|=]?[iuf][1248]|u?int(8|16|32|64)|float(16|32|64)")
_DTYPE_KEYS = ("dtype", "astype", "encode_dtype", "decode_dtype")


class Node(NamedTuple):
    """An array's description as the format has it, None for a group; and the user's attributes."""

    array: Json | None
    attributes: Json


def read_node(name: str, place: str, path: str = "") -> Node:
    """Read what stands at a path in a folder or URL; an array has been checked.

    name: how messages call it. Raises ImageError for what is none or has what is not allowed.
    """
    place = place.rstrip("/")
    if path:
        if not all(part not in ("", ".", "..") and "\\" not in part for part in path.split("/")):
            raise ImageError(f"{name}: {path!r}, expected a path in this Zarr group")
        place = f"{place}/{path}"
    found = _document(name, place, "zarr.json")
    if found is not None:
        kind = found.get("node_type")
        if kind not in ("array", "group"):
            raise ImageError(f"{name}: Zarr node_type {_shown(kind)}, expected array or group")
        if kind == "array":
            _check_3(name, found)
        return Node(found if kind == "array" else None, _object(found.get("attributes")))
    found = _document(name, place, ".zarray")
    if found is not None:
        _check_2(name, found)
    elif _document(name, place, ".zgroup") is None:
        raise ImageError(f"{name}: no Zarr array or group{f' {path}' if path else ''}")
    return Node(found, _document(name, place, ".zattrs") or {})


def largest_piece(array: Json) -> tuple[tuple[int, ...], int]:
    """The shape of what is decoded at once, and the bytes that it takes as it is declared."""
    if array["zarr_format"] == 2:
        return _piece(tuple(array["chunks"]), [], int(array["dtype"][-1]))
    shape = tuple(array["chunk_grid"]["configuration"]["chunk_shape"])
    bits = int(re.sub(r"\D", "", array["data_type"]))
    return _piece(shape, array["codecs"], bits // 8)


def _piece(
    shape: tuple[int, ...], codecs: list[Json], itemsize: int
) -> tuple[tuple[int, ...], int]:
    whole = shape, math.prod(shape) * itemsize
    if len(codecs) != 1 or _name_of(codecs[0]) != "sharding_indexed":
        return whole
    # Of a shard its index is read, and the chunks that are wanted.
    inner = tuple(codecs[0]["configuration"]["chunk_shape"])
    index = 16 * math.prod(-(-side // step) for side, step in zip(shape, inner, strict=True))
    found, size = _piece(inner, codecs[0]["configuration"]["codecs"], itemsize)
    return (found, size) if size >= index else (shape, index)


def _document(name: str, place: str, file: str) -> Json | None:
    """A JSON object in a file, None where there is no such file. Raises ImageError."""
    path = f"{place}/{file}"
    if is_url(place):
        data = remote.found(path, _LIMIT)
    else:
        try:
            with open(path, "rb") as opened:
                data = opened.read(_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise ImageError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    if data is None:
        return None
    if len(data) > _LIMIT:
        raise ImageError(f"{name}: {file} of more than {_LIMIT} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ImageError(f"{name}: {file} is not a JSON object")
    return found


def _check_2(name: str, array: Json) -> None:
    """Raise ImageError for an array of anything but numbers, or of codecs that are not allowed."""
    _check_layout(name, array, 2, array.get("dtype"), array.get("chunks"))
    filters = array.get("filters") or []
    if not isinstance(filters, list):
        raise ImageError(f"{name}: Zarr filters {_shown(filters)}, expected a list")
    for codec in (*filters, array.get("compressor")):
        if codec is not None:
            _check_codec(name, codec, "id", _NUMCODECS)


def _check_3(name: str, array: Json) -> None:
    """As `_check_2`, of version 3."""
    grid = _object(array.get("chunk_grid"))
    if grid.get("name") != "regular":
        raise ImageError(f"{name}: Zarr chunks {_shown(grid.get('name'))}, expected regular")
    chunks = _object(grid.get("configuration")).get("chunk_shape")
    _check_layout(name, array, 3, array.get("data_type"), chunks)
    _check_chain(name, array.get("codecs"), len(array["shape"]))


def _check_layout(name: str, array: Json, version: int, kind: object, chunks: object) -> None:
    if array.get("zarr_format") != version:
        raise ImageError(
            f"{name}: Zarr format {_shown(array.get('zarr_format'))}, expected {version}"
        )
    if not isinstance(kind, str) or not _NUMBER.fullmatch(kind):
        raise ImageError(f"{name}: Zarr of {_shown(kind)}, expected whole or real numbers")
    shape = array.get("shape")
    if not _sizes(shape, 0) or not _sizes(chunks, 1):
        fits = False
    else:
        fits = len(shape) == len(chunks) and math.prod(shape) < _MOST
    if not fits:
        raise ImageError(f"{name}: Zarr of shape {_shown(shape)} in chunks {_shown(chunks)}")


def _check_chain(name: str, codecs: object, axes: int, depth: int = 0) -> None:
    """Check version 3's list of codecs, and those in its shards."""
    if not isinstance(codecs, list) or depth > _DEEPEST:
        raise ImageError(f"{name}: Zarr codecs {_shown(codecs)}, expected a list")
    for codec in codecs:
        _check_codec(name, codec, "name", _V3)
        if _name_of(codec) == "sharding_indexed":
            inside = _object(_object(codec).get("configuration"))
            chunks = inside.get("chunk_shape")
            if not _sizes(chunks, 1) or len(chunks) != axes:
                raise ImageError(f"{name}: Zarr shards of chunks {_shown(chunks)}")
            _check_chain(name, inside.get("codecs"), axes, depth + 1)
            _check_chain(name, inside.get("index_codecs"), axes + 1, depth + 1)


def _check_codec(name: str, codec: object, key: str, allowed: frozenset[str]) -> None:
    called = codec.get(key) if isinstance(codec, dict) else codec if key == "name" else None
    if not isinstance(called, str) or called not in allowed:
        raise ImageError(
            f"{name}: Zarr codec {_shown(called)} is not run, expected {', '.join(sorted(allowed))}"
        )
    options = _object(codec)
    options = _object(options.get("configuration")) if key == "name" else options
    for option in _DTYPE_KEYS:
        kind = options.get(option)
        if kind is not None and not (isinstance(kind, str) and _NUMBER.fullmatch(kind)):
            raise ImageError(f"{name}: Zarr codec {called} of {_shown(kind)}, expected numbers")


def _name_of(codec: object) -> object:
    return codec.get("name") if isinstance(codec, dict) else codec


def _sizes(found: object, least: int) -> TypeGuard[list[int]]:
    return isinstance(found, list) and all(type(n) is int and least <= n < _MOST for n in found)


def _object(found: object) -> Json:
    return found if isinstance(found, dict) else {}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
