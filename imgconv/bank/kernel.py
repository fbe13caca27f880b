"""What a kernel is, and the bounds that every kernel keeps."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.errors import KernelError

COMBINE_RULES = ("none", "magnitude", "max", "sum", "mean")

MAX_SIDE = 16_384
MAX_WEIGHTS = 1 << 25  # 256 MiB as float64; VGG's largest convolution has 2.4 million
LARGEST = float(np.finfo(np.float32).max)  # responses are float32 unless the image is float64


@dataclass(frozen=True, slots=True)
class Kernel:
    """A bank of filters with what is needed to apply and describe it.

    weights: float64 (C_out, C_in/groups, kH, kW), as drawn in the literature, before division.
        C_in/groups = 1 filters every image channel on its own; otherwise it must be the image's
        channel count.
    bias: float64 (C_out,) in units of the divided response, or None.
    divisor: the response is divided by it; never zero.
    combine: how the C_out maps become one map (`none` keeps them), one of COMBINE_RULES.
    scale: the default of `--scale` for its maps: clip, abs, signed, minmax, ….
    labels: one name per map, for file names.
    source: the preset's name, file or inline text it came from.
    parameters: of a parametric kernel, with the defaults filled in.
    """

    name: str
    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64] | None = None
    divisor: float = 1.0
    combine: str = "none"
    scale: str = "clip"
    labels: tuple[str, ...] = ()
    description: str = ""
    citation: str = ""
    source: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(kH, kW)."""
        return self.weights.shape[2], self.weights.shape[3]

    def effective_weights(self) -> npt.NDArray[np.float64]:
        """Weights divided by the divisor, as they multiply pixels."""
        return self.weights / self.divisor


def check_extent(shape: tuple[int, ...], where: str) -> None:
    """Raise KernelError unless weights of this shape may be allocated."""
    count = 1
    for size in shape:
        count *= size
    if count == 0:
        raise KernelError(f"{where}: empty, expected at least one weight (shape {shape})")
    if max(shape[-2:], default=1) > MAX_SIDE or count > MAX_WEIGHTS:
        raise KernelError(
            f"{where}: shape {'×'.join(map(str, shape))} is too large, expected sides of at most "
            f"{MAX_SIDE} and {MAX_WEIGHTS} weights in all"
        )


def as_bank(values: npt.ArrayLike, where: str) -> npt.NDArray[np.float64]:
    """Return weights as a float64 bank (C_out, C_in/groups, kH, kW) of its own.

    One dimension is a row, two are one filter, three are (C_out, kH, kW). Raises KernelError
    for other dimensions, no weights, too many, or weights that float32 cannot hold.
    """
    array = np.asarray(values)
    if not 1 <= array.ndim <= 4:
        raise KernelError(
            f"{where}: weights of {array.ndim} dimensions, expected (kH, kW), (C_out, kH, kW) "
            "or (C_out, C_in/groups, kH, kW)"
        )
    check_extent(array.shape, where)
    if array.dtype.kind not in "biuf":
        raise KernelError(f"{where}: weights of type {array.dtype}, expected numbers")
    missing = {1: (None, None, None), 2: (None, None), 3: (slice(None), None), 4: ()}[array.ndim]
    bank = np.array(array[missing], dtype=np.float64, order="C")
    check_finite(bank, where)
    return bank


def as_bias(values: npt.ArrayLike, maps: int, where: str) -> npt.NDArray[np.float64]:
    """Return a bias of one finite number a map as float64 (C_out,); raises KernelError."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise KernelError(f"{where}: bias of type {array.dtype}, expected numbers")
    if array.ndim == 0:
        array = np.full(maps, array)
    if array.shape != (maps,):
        raise KernelError(f"{where}: bias of shape {array.shape}, expected {maps}, one a map")
    bias = np.array(array, dtype=np.float64)
    check_finite(bias, f"{where}: bias")
    return bias


def check_finite(array: npt.NDArray[np.float64], where: str) -> None:
    """Raise KernelError, with the index of the first offender, for what float32 cannot hold."""
    good = np.abs(array) <= LARGEST
    if good.all():
        return
    index = tuple(int(i) for i in np.argwhere(~good)[0])
    raise KernelError(f"{where}: {array[index]} at index {index}, expected finite float32 numbers")


def check_channels(kernel: Kernel, channels: int, image: str) -> None:
    """Raise KernelError unless `kernel` can filter an image of `channels` channels."""
    per_group = kernel.weights.shape[1]
    if per_group not in (1, channels):
        shape = "×".join(map(str, kernel.weights.shape))
        raise KernelError(
            f"kernel {kernel.name} ({shape}) expects {per_group} input channels, "
            f"{image} has {channels}"
        )
