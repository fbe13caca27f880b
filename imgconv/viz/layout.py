"""How a contact sheet is laid out; apart from `sheet`, so that recipes need not load it."""

from typing import NamedTuple


class Layout(NamedTuple):
    """columns, and tile: the long side of a tile in pixels; None is chosen by the count.

    shared: all maps on one scale, with a color bar, instead of each on its own.
    """

    columns: int | None = None
    tile: int | None = None
    shared: bool = False
