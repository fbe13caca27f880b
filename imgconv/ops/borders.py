"""Which source element stands at each place of a padded axis.

A map replaces a padded copy of the input: loops read row `map[i]` of the source where a padded
image would have row `i`. The formulas are those of numpy.pad (modes reflect, symmetric, edge,
wrap), which also extend periodically where a pad is wider than the axis; PyTorch refuses
reflection wider than the axis and circular padding wider than one turn.
"""

import numpy as np

from imgconv.errors import ShapeError
from imgconv.typing import Int64

FILLED = ("zeros", "constant")


def index_map(size: int, near: int, far: int, mode: str) -> Int64:
    """Return, for each of near + size + far places, the source index or −1 for the fill value.

    mode is canonical: zeros, constant, reflect, replicate, circular or symmetric.
    Raises ShapeError when an empty axis is to be extended from its own elements.
    """
    places = np.arange(-near, size + far, dtype=np.int64)
    if mode in FILLED:
        places[(places < 0) | (places >= size)] = -1
        return places
    if size == 0:
        if near or far:
            raise ShapeError(
                f"padding_mode={mode} cannot extend an empty axis by {near} and {far} elements; "
                "expected zeros or constant"
            )
        return places
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    if mode == "circular":
        return places % size
    if mode == "symmetric":
        places %= 2 * size
        return np.minimum(places, 2 * size - 1 - places)
    if mode == "reflect":
        period = max(2 * size - 2, 1)
        places %= period
        return np.minimum(places, period - places) if size > 1 else np.zeros_like(places)
    raise ShapeError(
        f"padding_mode={mode!r}: expected zeros, constant, reflect, replicate, circular "
        "or symmetric"
    )
