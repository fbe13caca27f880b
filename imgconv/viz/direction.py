"""The direction of a gradient as hue, its strength as brightness."""

import numpy as np
import numpy.typing as npt

from imgconv.errors import UsageError
from imgconv.typing import Array


def direction(responses: Array, weights: Array, name: str) -> tuple[Array, Array]:
    """Return (degrees, magnitude), each (H, W), of a gradient filtered by K kernels.

    responses: (K, H, W). weights: (K, kH, kW). Degrees are 0 … 360 in the direction of growing
    brightness, counter-clockwise on the screen from the right. The magnitude is the root of the
    sum of squares. Which way a kernel looks follows from its first moment, its response to a
    plane of slope one, so that the diagonals of the Roberts cross and the eight kernels of a
    compass find the same direction as an x, y pair.
    Raises UsageError when the kernels do not span both axes.
    """
    height, width = weights.shape[1:]
    y, x = np.mgrid[:height, :width]
    moments = np.stack([(weights * x).sum(axis=(1, 2)), (weights * y).sum(axis=(1, 2))], axis=1)
    balanced = np.allclose(weights.sum(axis=(1, 2)), 0, atol=1e-6 * np.abs(weights).max())
    if not balanced or np.linalg.matrix_rank(moments) < 2:
        raise UsageError(
            f"--combine direction: {name} is not a gradient; expected kernels that sum to 0 and "
            "look along two axes, such as sobel, scharr, prewitt or roberts"
        )
    gx, gy = np.einsum("ak,khw->ahw", np.linalg.pinv(moments), responses)
    degrees = np.degrees(np.arctan2(-gy, gx)) % 360
    return degrees, np.sqrt(np.square(responses).sum(axis=0))


def hue(degrees: Array, value: Array) -> npt.NDArray[np.float64]:
    """RGB (H, W, 3) of hue (H, W) in degrees at full saturation and a value in the same units.

    Source of the piecewise linear form: A. R. Smith, "Color Gamut Transform Pairs", SIGGRAPH 1978.
    """
    sector = degrees[..., None] / 60 + np.array([5.0, 3.0, 1.0])
    ramp = np.clip(np.minimum(sector % 6, 4 - sector % 6), 0, 1)
    return np.asarray(value[..., None] * (1 - ramp), np.float64)
