"""Padding modes: their names here and elsewhere, and padding of whole arrays."""

from collections.abc import Sequence

from imgconv.arguments import not_among
from imgconv.errors import UsageError
from imgconv.ops.arrays import readable
from imgconv.ops.borders import index_map
from imgconv.shapes import Sides, resolve_padding
from imgconv.typing import Array, Int64

MODES = ("zeros", "constant", "reflect", "replicate", "circular", "symmetric")

# OpenCV's, SciPy's and NumPy's names. Where a name means two things (`reflect`), PyTorch's holds.
ALIASES = {
    "reflect101": "reflect",
    "reflect-101": "reflect",
    "border-reflect-101": "reflect",
    "border-reflect101": "reflect",
    "border-default": "reflect",
    "mirror": "reflect",
    "border-reflect": "symmetric",
    "grid-mirror": "symmetric",
    "nearest": "replicate",
    "edge": "replicate",
    "border-replicate": "replicate",
    "wrap": "circular",
    "grid-wrap": "circular",
    "border-wrap": "circular",
    "zero": "zeros",
    "border-constant": "constant",
    "grid-constant": "constant",
}


def normalize_mode(name: str) -> str:
    """Return the canonical mode of a name or alias. Raises UsageError."""
    key = name.strip().lower().replace("_", "-")
    found = ALIASES.get(key, key)
    if found not in MODES:
        raise UsageError(f"padding mode {name!r}: {not_among(key, MODES)}")
    return found


def source_indices(size: int, near: int, far: int, mode: str) -> Int64:
    """The source index at each padded place, −1 for the fill value; see `borders.index_map`."""
    return index_map(size, near, far, normalize_mode(mode))


def pad(
    x: Array,
    padding: int | Sequence[int] | Sides,
    mode: str = "zeros",
    value: float = 0.0,
) -> Array:
    """Return an array (…, H, W), padded on its last two axes.

    Parameters
    ----------
    x
        Of any type.
    padding
        A number, (vertical, horizontal) or (top, bottom, left, right). Pads wider than the array
        extend periodically.
    mode
        As `padding_mode` of `conv2d`.
    value
        The value of `mode="constant"`.

    Raises
    ------
    UsageError
        There is no such mode.
    ShapeError
        The sizes cannot be padded so.
    """
    sides = resolve_padding(padding, (1, 1))
    rows = source_indices(x.shape[-2], sides.top, sides.bottom, mode)
    columns = source_indices(x.shape[-1], sides.left, sides.right, mode)
    out = readable(x)[..., rows, :][..., columns]
    fill = value if normalize_mode(mode) == "constant" else 0
    out[..., rows < 0, :] = fill
    out[..., columns < 0] = fill
    return out
