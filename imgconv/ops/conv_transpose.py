"""conv_transpose2d: the transposed convolution of torch.nn.functional, by `conv2d`.

With stride s, output rows y ≡ r (mod s) see only the taps ky ≡ r + padding (mod s), so each of the
s² phases of the output is a plain convolution of the input with a part of the kernel and nothing
is multiplied by inserted zeros. Source: W. Shi et al., "Is the deconvolution layer the same as a
convolutional layer?", arXiv:1609.07009.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgconv import shapes
from imgconv.errors import ShapeError
from imgconv.ops.arrays import real_type
from imgconv.ops.conv import conv2d
from imgconv.typing import Array

Ints = int | Sequence[int]


def conv_transpose2d(
    x: Array, weight: Array, bias: Array | None = None, stride: Ints = 1,
    padding: int | Sequence[int] = 0, output_padding: Ints = 0, groups: int = 1,
    dilation: Ints = 1, activation: Any = None,
) -> Array:  # fmt: skip
    """Return the transposed convolution of maps, as `torch.nn.ConvTranspose2d` does.

    Parameters
    ----------
    x
        (N, C_in, H, W).
    weight
        (C_in, C_out/groups, kH, kW).
    bias
        (C_out,), added to each response.
    stride, dilation
        A number from 1, or a (vertical, horizontal) pair.
    padding
        What is cut off the full output: a number, a pair, or (top, bottom, left, right).
    output_padding
        What is added at the far sides of the output.
    groups
        Split channels and filters into groups that do not mix.
    activation
        Applied last, as for `conv2d`.

    Raises
    ------
    ShapeError
        Sizes do not fit together.
    """
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[0]:
        raise ShapeError(
            f"conv_transpose2d: input {x.shape} and weight {weight.shape}, expected "
            "(N, C_in, H, W) and (C_in, C_out/groups, kH, kW)"
        )
    c_in, per_group = weight.shape[:2]
    shapes.check_groups(c_in, per_group * groups, groups, "conv_transpose2d")
    steps, spread = shapes.pair(stride, "stride"), shapes.pair(dilation, "dilation")
    extra = shapes.pair(output_padding, "output_padding", 0)
    sides = shapes.resolve_padding(padding, (1, 1))
    size = shapes.transposed_size(
        (x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]), steps, sides, spread, extra
    )
    # (C_in, C_out/g, kH, kW) → (C_out, C_in/g, kH, kW), as conv2d has it.
    bank = weight.reshape(groups, c_in // groups, per_group, *weight.shape[2:])
    bank = bank.transpose(0, 2, 1, 3, 4).reshape(-1, c_in // groups, *weight.shape[2:])
    out = np.empty((len(x), per_group * groups, *size), real_type(x))
    near = sides.top, sides.left
    for row in range(min(steps[0], size[0])):
        for column in range(min(steps[1], size[1])):
            target = out[:, :, row :: steps[0], column :: steps[1]]
            plans = [
                _phase(axis, (row, column)[axis], near[axis], steps[axis], spread[axis],
                       weight.shape[2 + axis], x.shape[2 + axis], target.shape[2 + axis])
                for axis in (0, 1)
            ]  # fmt: skip
            target[...] = _one(x, bank, bias, plans, groups, activation)
    return out


def _phase(
    axis: int, residue: int, near: int, stride: int, dilation: int, taps: int, size: int, count: int
) -> tuple[list[int], int, int, int]:
    """Return (taps, their distance, near pad, far pad) of one phase along one axis.

    Output residue + stride · m sees input m + (residue + near − tap · dilation) / stride.
    """
    own = [t for t in range(taps) if (residue + near - t * dilation) % stride == 0]
    if not own:
        return [], 1, 0, 0
    offsets = [(residue + near - t * dilation) // stride for t in own]
    gap = offsets[0] - offsets[1] if len(own) > 1 else 1
    return own, gap, -offsets[-1], count - 1 + offsets[0] - (size - 1)


def _one(
    x: Array, bank: Array, bias: Array | None, plans: list[tuple[list[int], int, int, int]],
    groups: int, activation: Any,
) -> Array:  # fmt: skip
    """One phase: pads may be negative, which crops the input."""
    own_y, gap_y, top, bottom = plans[0]
    own_x, gap_x, left, right = plans[1]
    if not own_y or not own_x:
        # No tap reaches this phase; a zero weight leaves bias and activation to conv2d.
        taps, pads, gaps = np.zeros((*bank.shape[:2], 1, 1)), (0, 0, 0, 0), (1, 1)
        source = np.zeros((*x.shape[:2], 1, 1), x.dtype)
        return conv2d(source, taps, bias, groups=groups, activation=activation)
    taps = bank[:, :, own_y][:, :, :, own_x]
    pads, gaps = (top, bottom, left, right), (gap_y, gap_x)
    cuts = [max(-pad, 0) for pad in pads]
    source = x[:, :, cuts[0] : x.shape[2] - cuts[1], cuts[2] : x.shape[3] - cuts[3]]
    return conv2d(
        source, taps, bias, padding=tuple(max(pad, 0) for pad in pads), dilation=gaps,
        groups=groups, flip=True, activation=activation,
    )  # fmt: skip
