"""What an image is inside imgconv."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from imgconv.images.metadata import Metadata


@dataclass(eq=False, repr=False)
class Image:
    """One decoded frame.

    pixels: (H, W, C), C-contiguous, in the file's own dtype: uint8, uint16, int16, int32,
        float32 or float64; 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha, or any band count.
    alpha: whether the last channel is opacity.
    name: how messages and templates call it (the path, `-` or `sample:chart`).
    frame, frames: index of this frame and how many the file has.
    icc: an ICC profile that describes `pixels`, or None.
    metadata: what else the file says of them, or None.
    nodata: the text of GDAL's tag that says which value is missing, "" for none; None where the
        format has no such tag.
    info: further facts worth carrying (the format read, notes for the user).
    """

    pixels: npt.NDArray[Any]
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

    @property
    def full_scale(self) -> float:
        """The value of white: 255, 65535, 32767, 2³¹ − 1, or 1 for floats."""
        if np.issubdtype(self.pixels.dtype, np.integer):
            return float(np.iinfo(self.pixels.dtype).max)
        return 1.0
