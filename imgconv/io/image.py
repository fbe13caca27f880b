"""What an image is inside imgconv."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    from imgconv.io.metadata import Metadata


@dataclass(eq=False, repr=False)
class Image:
    """One decoded frame.

    Attributes
    ----------
    pixels
        (H, W, C), C-contiguous, in the file's dtype or one that holds its values: uint8, uint16,
        int16, int32, float32 or float64. 1 channel is gray, 2 gray and opacity, 3 RGB, 4 RGB and
        opacity; there may be any number.
    stored
        The file's own integer type, if `pixels` has a wider one; see `holder`.
    cmyk
        Whether the first four channels are inks rather than RGB and more.
    alpha
        Whether the last channel is opacity.
    name
        What messages and templates call it: the path, `-` or `sample:photo`.
    frame, frames
        The index of this frame, and how many the file has.
    icc
        An ICC profile that describes `pixels`, or None.
    metadata
        What else the file says of them, or None.
    nodata
        The text of GDAL's tag that says which value is missing, "" if there is none, None if the
        format has no such tag.
    info
        More facts: the format that was read, notes for the user, and of an animation's frame its
        `duration` in milliseconds and `loop`, how often it is played.
    """

    pixels: Array
    alpha: bool = False
    name: str = ""
    frame: int = 0
    frames: int = 1
    icc: bytes | None = None
    metadata: "Metadata | None" = None
    format: str = ""
    nodata: str | None = None
    notes: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    stored: Dtype | None = None
    cmyk: bool = False

    @property
    def sample_type(self) -> Dtype:
        """The type of the file's samples, in which a result keeps their values."""
        return self.stored or self.pixels.dtype

    @property
    def full_scale(self) -> float:
        """The value of white: the largest integer of the file's samples, or 1 for floats."""
        return white_of(self.sample_type)

    def _repr_png_(self) -> bytes:
        """The image as notebooks show it: 8 bits, floats clipped to 0…1."""
        from imgconv.io.png.writer import encode
        from imgconv.io.scaling import scale_map

        pixels = self.pixels
        if pixels.shape[2] > 4:
            pixels = pixels[..., :3]
        shown, _ = scale_map(pixels.astype(np.float32), "clip", self.full_scale, np.dtype(np.uint8))
        return b"".join(encode(shown, alpha=shown.shape[2] in (2, 4)))


_HOLDERS = {
    "b1": np.uint8, "u1": np.uint8, "u2": np.uint16, "u4": np.float64, "u8": np.float64,
    "i1": np.int16, "i2": np.int16, "i4": np.int32, "i8": np.float64,
    "f2": np.float32, "f4": np.float32, "f8": np.float64,
}  # fmt: skip
_EXACT = 1 << 53  # float64 holds every integer up to it


def white_of(dtype: Dtype) -> float:
    """The value of white in samples of a type."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0


def holder(dtype: Dtype) -> tuple[Dtype, Dtype | None]:
    """Return (type of `Image.pixels` for samples of a type, `Image.stored`).

    Raises KeyError for what is no number of at most 64 bits.
    """
    held = np.dtype(_HOLDERS[dtype.str[1:]])
    differs = dtype.kind in "ui" and held.str[1:] != dtype.str[1:]
    return held, dtype.newbyteorder("=") if differs else None


def rounded_note(samples: Array, name: str) -> list[str]:
    """The note that integers are too large for float64, where some are."""
    if samples.dtype.kind not in "ui" or samples.itemsize < 8 or not samples.size:
        return []
    most = max(int(samples.max()), -int(samples.min()))
    if most <= _EXACT:
        return []
    return [f"{name}: integers up to {most} were rounded: up to {_EXACT} (2⁵³) are kept exactly"]
