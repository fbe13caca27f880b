"""Canny's edges: the ridges of a gradient that are strong, or weak and connected to strong ones.

References
----------
J. Canny, A Computational Approach to Edge Detection, IEEE TPAMI 8 (6), 1986. The details are those
of OpenCV's Canny with an aperture of 3, so that results can be compared.
"""

import numpy as np

from imgconv.errors import ShapeError
from imgconv.jit import loop as jit
from imgconv.jit.loop import Built, loop
from imgconv.jit.parallel import band_of, over_bands
from imgconv.jit.record import array
from imgconv.ops.microkernels.windows import PoolShape
from imgconv.ops.pool import planes_of
from imgconv.typing import Array, Bytes

_FEW = 1 << 14  # pixels; below this a thread costs more than it saves
WEAK, STRONG = 1, 2
_TANGENT = np.float64(13573 / 2**15)  # of 22.5°, with as many bits as OpenCV's


@loop
def gradient_rows(element: str, squared: bool) -> Built:
    """Sobel's derivatives of rows first…last − 1, and their magnitudes; edge pixels repeat.

    magnitude: |dx| + |dy|, or with `squared` dx² + dy², of the channel where it is greatest. dx,
    dy: that channel's. All three have the map's size, as float32.
    """
    cast = jit.caster("f32")

    def body(magnitude, dx, dy, x, shape, channels, first, last):  # type: ignore[no-untyped-def]
        height, width = shape.height, shape.width
        for y in range(first, last):
            for channel in range(channels):
                row = (channel * height + y) * width
                above = row - width * (y > 0)
                below = row + width * (y < height - 1)
                for c in range(width):
                    near, far = max(c - 1, 0), min(c + 1, width - 1)
                    upper, middle, lower = (
                        cast(x[above + far]) - cast(x[above + near]),
                        cast(x[row + far]) - cast(x[row + near]),
                        cast(x[below + far]) - cast(x[below + near]),
                    )
                    across = upper + (middle + middle) + lower
                    center = cast(x[below + c]) - cast(x[above + c])
                    down = (
                        (cast(x[below + near]) - cast(x[above + near]))
                        + (center + center)
                        + (cast(x[below + far]) - cast(x[above + far]))
                    )
                    size = across * across + down * down if squared else abs(across) + abs(down)
                    at = y * width + c
                    if channel == 0 or size >= magnitude[at]:
                        magnitude[at], dx[at], dy[at] = size, across, down

    return f"disjoint f32* f32* f32* {element}* PoolShape* i64 i64 i64", body


@loop
def ridge_rows() -> Built:
    """WEAK and STRONG pixels of rows first…last − 1: greater than both neighbors that the gradient
    points at, to one of eight sides, and greater than a threshold. Beyond the edges there is 0.
    """

    def body(edges, magnitude, dx, dy, low, high, shape, first, last):  # type: ignore[no-untyped-def]
        height, width = shape.height, shape.width
        for y in range(first, last):
            for c in range(width):
                at = y * width + c
                size = magnitude[at]
                edges[at] = 0
                if not size > low:
                    continue
                across, down = np.float64(abs(dx[at])), np.float64(abs(dy[at]))
                right, below = 1, 1
                if down < across * _TANGENT:
                    below = 0
                elif down > across * (_TANGENT + 2):  # tan 67.5° = tan 22.5° + 2
                    right = 0
                elif (dx[at] < 0) != (dy[at] < 0):
                    right = -1
                before = after = np.float32(0)
                if y - below >= 0 and 0 <= c - right < width:
                    before = magnitude[at - below * width - right]
                if y + below < height and 0 <= c + right < width:
                    after = magnitude[at + below * width + right]
                # Of two equal neighbors one is the edge: the left, the upper; none on a diagonal.
                straight = below == 0 or right == 0
                if size > before and (size > after or (straight and size == after)):
                    edges[at] = STRONG if size > high else WEAK

    return "disjoint u8* f32* f32* f32* f64 f64 PoolShape* i64 i64", body


@loop
def connect() -> Built:
    """Edges become 255 where they are STRONG or touch one that is, by a side or corner; others 0.

    stack: room for as many pixels as the map has.
    """

    def body(edges, stack, shape):  # type: ignore[no-untyped-def]
        height, width = shape.height, shape.width
        for start in range(height * width):
            if edges[start] != STRONG:
                continue
            edges[start] = 255
            stack[0] = start
            top = 1
            while top:
                top -= 1
                at = stack[top]
                y, c = at // width, at % width
                for row in range(max(y - 1, 0), min(y + 2, height)):
                    for column in range(max(c - 1, 0), min(c + 2, width)):
                        near = row * width + column
                        if edges[near] == WEAK or edges[near] == STRONG:
                            edges[near] = 255
                            stack[top] = near
                            top += 1
        for i in range(height * width):
            edges[i] = 255 if edges[i] == 255 else 0

    return "disjoint u8* i64* PoolShape*", body


def check_thresholds(low: float, high: float) -> None:
    """Raise ShapeError for thresholds the wrong way round."""
    if not low <= high:
        raise ShapeError(f"canny: low={low:g} with high={high:g}, expected low ≤ high")


def canny(x: Array, low: float, high: float, l2gradient: bool = False) -> Bytes:
    """Return where an image has edges: 255, and 0 elsewhere.

    Parameters
    ----------
    x
        (C, H, W) of any real type. Of several channels each pixel takes the one with the greatest
        gradient.
    low, high
        Gradients greater than `high` are edges, and those greater than `low` that are connected to
        such. A gradient is |dx| + |dy| under Sobel's kernels: 8-bit images have up to 2040.
    l2gradient
        Take √(dx² + dy²) instead.

    Returns
    -------
    (1, H, W)

    Raises
    ------
    ShapeError
        For other dimensions and for `low` > `high`.

    Examples
    --------
    >>> import numpy as np
    >>> canny(np.array([[[0, 0, 9, 9]] * 3], np.uint8), 5, 20)[0, 1]
    array([  0, 255,   0,   0], dtype=uint8)
    """
    source = planes_of(x, "canny")
    if source.ndim != 3:
        raise ShapeError(f"canny: input {x.shape}, expected (C, H, W)")
    check_thresholds(low, high)
    channels, height, width = source.shape
    if l2gradient:
        low, high = max(low, 0.0) ** 2, max(high, 0.0) ** 2
    shape = array(PoolShape(height, width, height, width))
    magnitude, dx, dy = np.empty((3, height, width), np.float32)
    edges = np.empty((1, height, width), np.uint8)
    band = band_of(height, _FEW // width)
    gradient = gradient_rows(jit.ELEMENT_NAMES[source.dtype], l2gradient)
    over_bands(
        height, band, lambda a, b: gradient(magnitude, dx, dy, source, shape, channels, a, b)
    )
    ridges = ridge_rows()
    over_bands(height, band, lambda a, b: ridges(edges, magnitude, dx, dy, low, high, shape, a, b))
    connect()(edges, np.empty(height * width, np.int64), shape)
    return edges
