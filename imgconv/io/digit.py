"""Digits drawn with a pen, for LeNet-5 to read."""

import itertools

import numpy as np
import numpy.typing as npt

# Points (across, down) in per cent of the picture, that the pen passes through.
STROKES: dict[int, tuple[tuple[int, int], ...]] = {
    0: ((50, 15), (28, 26), (22, 50), (29, 77), (50, 86), (71, 77), (78, 50), (72, 26), (50, 15)),
    1: ((34, 31), (53, 15), (53, 86)),
    2: ((24, 31), (36, 17), (58, 15), (74, 29), (63, 52), (23, 84), (79, 84)),
    3: ((24, 21), (48, 14), (71, 26), (64, 44), (44, 48), (68, 55), (76, 71), (53, 86), (23, 79)),
    4: ((60, 86), (63, 15), (21, 63), (80, 61)),
    5: ((74, 16), (32, 16), (28, 47), (53, 40), (76, 56), (69, 79), (47, 87), (23, 79)),
    6: ((63, 14), (37, 34), (24, 63), (36, 85), (60, 86), (71, 69), (58, 56), (37, 60), (27, 71)),
    7: ((21, 18), (77, 16), (58, 47), (42, 86)),
    8: ((66, 20), (42, 14), (29, 29), (47, 46), (69, 63), (63, 84), (40, 86), (29, 71), (50, 47),
        (71, 31), (63, 17)),
    9: ((71, 34), (53, 14), (31, 24), (32, 45), (56, 48), (72, 32), (68, 63), (52, 86)),
}  # fmt: skip
PEN = 0.055  # half the pen's width
SOFT = 0.02  # its edge
_PIECES = 8  # straight pieces between two points


def digit(number: int, size: int) -> npt.NDArray[np.float64]:
    """Return a bright digit on black, (size, size) in 0…1."""
    points = _curve(np.array(STROKES[number], np.float64)) * (size / 100)
    reach = (PEN + SOFT) * size
    distance = np.full((size, size), np.inf)
    for start, stop in itertools.pairwise(points):
        low = np.maximum(np.minimum(start, stop) - reach, 0).astype(int)
        high = np.minimum(np.maximum(start, stop) + reach + 1, size).astype(int)
        x, y = np.arange(low[0], high[0]), np.arange(low[1], high[1])[:, None]
        along = stop - start
        length = float(along @ along) or 1.0
        share = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1)
        gap = np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])
        box = distance[low[1] : high[1], low[0] : high[0]]
        np.minimum(box, gap, out=box)
    return np.clip((PEN * size - distance) / (SOFT * size) + 0.5, 0, 1)


def _curve(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points on the Catmull-Rom spline through `points` (Catmull, Rom, 1974)."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, _PIECES, endpoint=False)[:, None]
    curve = b + 0.5 * t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])
