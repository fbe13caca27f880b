"""What slides over an image: a kernel's window, and checks of its weights and biases."""

from collections.abc import Sequence

import numpy as np

from imgconv import shapes
from imgconv.errors import ShapeError
from imgconv.ops.borders import index_map
from imgconv.ops.padding import normalize_mode
from imgconv.typing import Array, Float64

Ints = int | Sequence[int]

MOST_PADDED = 1 << 27  # rows or columns with padding: an index of 1 GB


class Window:
    """Stride, padding and dilation resolved against an image's and a kernel's size.

    Attributes: stride, dilation (pairs), sides (the four pads), out_size, fill, and row_map,
    col_map: the source row and column of every padded one. Raises ShapeError.
    """

    def __init__(
        self,
        height: int,
        width: int,
        kernel_size: shapes.Pair,
        stride: Ints,
        padding: int | str | Sequence[int],
        dilation: Ints,
        padding_mode: str,
        pad_value: float,
    ) -> None:
        mode = normalize_mode(padding_mode)
        self.stride = shapes.pair(stride, "stride")
        self.dilation = shapes.pair(dilation, "dilation")
        self.sides = shapes.resolve_padding(padding, kernel_size, self.dilation, self.stride)
        self.out_size = shapes.output_size(
            (height, width), kernel_size, self.stride, self.sides, self.dilation
        )
        self.fill = float(pad_value) if mode == "constant" else 0.0
        top, bottom, left, right = self.sides
        padded = height + top + bottom, width + left + right
        if max(padded) > MOST_PADDED:
            raise ShapeError(
                f"padding and dilation={self.dilation[0]},{self.dilation[1]} make the input "
                f"{padded[0]}×{padded[1]}, expected at most {MOST_PADDED} a side"
            )
        # Steps beyond the padded image, and gaps between the taps of one, are never taken; as
        # numbers without a limit they would make the spare columns as long.
        self.stride = min(self.stride[0], padded[0]), min(self.stride[1], padded[1])
        rows, cols = kernel_size
        self.dilation = self.dilation[0] if rows > 1 else 1, self.dilation[1] if cols > 1 else 1
        self.row_map = index_map(height, top, bottom, mode)
        # A strided tile may read, and then ignore, a few columns beyond the last tap.
        spare = 2 * self.stride[1] + (kernel_size[1] - 1) * self.dilation[1]
        columns = index_map(width, left, right, mode)
        self.col_map = np.concatenate([columns, np.full(spare, -1, np.int64)])


def check_weights(weight: Array, flip: bool, operation: str) -> Array:
    """Return a bank (C_out, C_in/groups, kH, kW), rotated by 180° for `flip`.

    float32 stays what it is, so that a network's weights are read where they lie; all else
    becomes float64.
    """
    weights = np.asarray(weight)
    if weights.dtype != np.float32:
        weights = weights.astype(np.float64, copy=False)
    if weights.ndim != 4 or 0 in weights.shape:
        raise ShapeError(
            f"{operation}: weight of shape {weights.shape}, expected a non-empty "
            "(C_out, C_in/groups, kH, kW)"
        )
    return weights[:, :, ::-1, ::-1] if flip else weights


def check_bias(bias: Array | None, c_out: int, operation: str) -> Float64:
    """Return the bias as float64 (C_out,), zeros for None."""
    if bias is None:
        return np.zeros(c_out)
    offsets = np.asarray(bias, np.float64)
    if offsets.shape != (c_out,):
        raise ShapeError(f"{operation}: bias of shape {offsets.shape}, expected ({c_out},)")
    return offsets
