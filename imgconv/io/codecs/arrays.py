"""Images in NPY and NPZ files.

Arrays are (H, W), (H, W, C), one row (W), or (N, H, W, C) frames; each array of an NPZ is a
frame. Booleans become 0 and 255; half floats float32; int8 int16; wider integers than int32
float64, exact up to 2⁵³.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np

from imgconv import npy
from imgconv.errors import ImageError, LimitError, OutputError
from imgconv.io.image import holder
from imgconv.io.publish import Piece
from imgconv.typing import Array, Dtype

METADATA_MEMBER = "imgconv"


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


def frames_of(array: Array) -> Iterator[Array]:
    """Yield each image of an array as C-contiguous (H, W, C) in one of our dtypes."""
    if array.ndim == 1:
        array = array[None]
    target, _ = holder(array.dtype)
    for frame in array if array.ndim == 4 else array[None]:
        pixels = frame if frame.ndim == 3 else frame[..., None]
        converted = np.ascontiguousarray(pixels, dtype=target)
        yield converted * np.uint8(255) if array.dtype == np.bool_ else converted


def stored(dtype: Dtype) -> Dtype | None:
    """`Image.stored` of an array's frames: 64-bit integers are mere numbers, of no full scale."""
    return holder(dtype)[1] if dtype.itemsize < 8 else None


def decode_npy(data: bytes, name: str, max_pixels: int) -> Array:
    """Return the array as stored; no copy of `data`. Raises ImageError, LimitError."""
    with npy.reported_as(ImageError):
        declared = npy.parse_header(data, name)
        check_shape(declared.shape, name, max_pixels)
        return npy.array_of(declared, data, name)


def open_npz(
    file: IO[bytes], name: str, max_pixels: int
) -> list[tuple[str, int, Callable[[], Array]]]:
    """Return (member, frames, load) of every array in an NPZ, sizes checked, nothing loaded.

    Our own metadata is passed over. Raises ImageError, LimitError.
    """
    with npy.reported_as(ImageError):
        members = npy.open_npz(file, name, skip=METADATA_MEMBER)
    found = []
    total = 0
    for member in members:
        shape = member.declared.shape
        check_shape(shape, member.label, max_pixels)
        total += member.declared.size
        if total > 32 * max_pixels:
            raise LimitError(f"{name}: arrays of more than {32 * max_pixels} bytes together")
        found.append((member.name, shape[0] if len(shape) == 4 else 1, _loader(member)))
    return found


def _loader(member: npy.Member) -> Callable[[], Array]:
    def load() -> Array:
        with npy.reported_as(ImageError):
            return member.load()

    return load


def encode_npz(named: dict[str, Array], metadata: str | None = None) -> Sequence[Piece]:
    """Return the pieces of an NPZ file with one member per map.

    metadata: text kept in the member `imgconv` (a Unicode array, not pickled). Raises OutputError
    for a clash of names.
    """
    if METADATA_MEMBER in named:
        raise OutputError(f"npz: an array cannot be named {METADATA_MEMBER!r}")
    note = {} if metadata is None else {METADATA_MEMBER: np.array(metadata)}
    return npy.encode_npz(named | note)
