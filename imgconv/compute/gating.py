"""Gates of channels and the 1×1 convolution that reads what they let through, in one step.

Squeeze-and-excite blocks scale every map by a number of its image, and then mix the maps. Scaling
the mixing weights instead spares two passes over the maps: EfficientNet-B0's took a tenth of its
time. Each image then has weights of its own, as if it were a group of channels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import jit
from imgconv.compute.arithmetic import multiply
from imgconv.compute.bands import band_of, over_bands
from imgconv.compute.convolution import conv2d

Array = npt.NDArray[Any]

LEAST_AREA = 144  # of a map; smaller ones gain more where a batch shares its weights
_FEW = 1 << 15  # multiplications below which a thread costs more than it saves


@jit.loop
def scale_rows() -> jit.Built:
    """Rows first…last − 1 of out (images · maps, channels) = weight (maps, channels) · gates."""

    def body(out, weight, gates, maps, channels, first, last):  # type: ignore[no-untyped-def]
        for row in range(first, last):
            w, g = row % maps * channels, row // maps * channels
            for c in range(channels):
                out[row * channels + c] = weight[w + c] * gates[g + c]

    return "disjoint f32* f32* f32* i64 i64 i64 i64", body


def gated_conv2d(
    a: Array, b: Array, weight: Array, bias: Array | None = None, activation: Any = None
) -> Array:
    """Return the 1×1 convolution of a · b, one of which holds a number for each map of the other.

    Shapes that are not (N, C, H, W) and (N, C, 1, 1) are NumPy's to broadcast. Rounding differs
    from that of the two steps; it does not depend on the batch. Raises ShapeError.
    """
    x, gates = (b, a) if a.size < b.size else (a, b)
    if not _applies(x, gates, weight):
        return conv2d(multiply(a, b), weight, bias, activation=activation)
    count, channels, height, width = x.shape
    maps = len(weight)
    scaled = np.empty((count * maps, channels, 1, 1), np.float32)
    work = scale_rows()
    over_bands(
        len(scaled), band_of(len(scaled), _FEW // channels),
        lambda first, last: work(scaled, weight, gates, maps, channels, first, last),
    )  # fmt: skip
    offsets = None if bias is None else np.tile(bias, count)
    images = x.reshape(1, count * channels, height, width)
    result = conv2d(images, scaled, offsets, groups=count, activation=activation)
    return result.reshape(count, maps, height, width)


def _applies(x: Array, gates: Array, weight: Array) -> bool:
    """Whether the shapes are those of a gate, and `conv2d` takes one image as it takes many."""
    return (
        x.ndim == 4 and gates.shape == (*x.shape[:2], 1, 1)
        and weight.shape[1:] == (x.shape[1], 1, 1) and len(weight) >= 4 and x.shape[1] >= 8
        and x.shape[2] * x.shape[3] >= LEAST_AREA
        and all(array.dtype == np.float32 and array.flags.c_contiguous
                for array in (x, gates, weight))
    )  # fmt: skip
