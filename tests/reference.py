"""Slow, obvious references in plain Python and NumPy; nothing of imgconv is imported here."""

import itertools
import math

import numpy as np

NUMPY_MODES = {
    "zeros": "constant",
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}


def pad2d(x, sides, mode="zeros", value=0.0):
    """Pad the last two axes of x by (top, bottom, left, right), in float64."""
    top, bottom, left, right = sides
    widths = [(0, 0)] * (x.ndim - 2) + [(top, bottom), (left, right)]
    options = {"constant_values": value if mode == "constant" else 0.0}
    if NUMPY_MODES[mode] != "constant":
        options = {}
    return np.pad(x.astype(np.float64), widths, mode=NUMPY_MODES[mode], **options)


def conv2d(
    x,
    weight,
    bias=None,
    stride=(1, 1),
    sides=(0, 0, 0, 0),
    dilation=(1, 1),
    groups=1,
    mode="zeros",
    value=0.0,
    flip=False,
):
    """torch.nn.functional.conv2d by its definition: x (N, C, H, W), the result in float64."""
    padded = pad2d(x, sides, mode, value)
    if flip:
        weight = weight[:, :, ::-1, ::-1]
    count, _, height, width = padded.shape
    c_out, per_group, kh, kw = weight.shape
    out_h = (height - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (width - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((count, c_out, out_h, out_w))
    for n, m in itertools.product(range(count), range(c_out)):
        group = m // (c_out // groups)
        for c, i, j in itertools.product(range(per_group), range(kh), range(kw)):
            for y in range(out_h):
                row = padded[n, group * per_group + c, y * stride[0] + i * dilation[0]]
                taps = row[j * dilation[1] :: stride[1]][:out_w]
                out[n, m, y] += float(weight[m, c, i, j]) * taps
        if bias is not None:
            out[n, m] += float(bias[m])
    return out


def masked_conv2d(
    x, missing, weight, bias=None, stride=(1, 1), sides=(0, 0, 0, 0), dilation=(1, 1), groups=1,
    mode="zeros", value=0.0,
):  # fmt: skip
    """conv2d of one image (C, H, W) whose missing samples are left out, NaN where that cannot be.

    Σ w·f over the others times Σ w over all taps / Σ w over the others; windows without a missing
    tap are conv2d's. What zeros and constants pad is known, but makes no result alone.
    """
    filled = NUMPY_MODES[mode] == "constant"
    padded = pad2d(np.where(missing, 0, x), sides, mode, value)
    there = (~missing).astype(float)
    known = pad2d(there, sides, mode, 0.0)
    used = pad2d(there, sides, "constant", 1.0) if filled else known
    absent = pad2d(missing.astype(float), sides, mode, 0.0)
    _, height, width = padded.shape
    c_out, per_group, kh, kw = weight.shape
    out_h = (height - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (width - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.full((c_out, out_h, out_w), np.nan)
    for m, y, column in itertools.product(range(c_out), range(out_h), range(out_w)):
        first = m // (c_out // groups) * per_group
        place = (
            slice(first, first + per_group),
            slice(y * stride[0], y * stride[0] + dilation[0] * (kh - 1) + 1, dilation[0]),
            slice(column * stride[1], column * stride[1] + dilation[1] * (kw - 1) + 1, dilation[1]),
        )
        w = weight[m].astype(float)
        total, left = w.sum(), (w * used[place]).sum()
        result = (w * padded[place]).sum()
        if (absent[place] * (w != 0)).any():
            size = np.abs(w).sum(), (np.abs(w) * used[place]).sum()
            empty = not (known[place] * (w != 0)).any()
            if empty or abs(total) < 1e-6 * size[0] or abs(left) < 1e-6 * size[1]:
                continue
            result *= total / left
        out[m, y, column] = result + (0.0 if bias is None else float(bias[m]))
    return out


def pool_size(size, kernel, stride, sides, dilation, ceil):
    """The (height, width) of a pool's maps by PyTorch's formula; None where there is none."""
    found = []
    for axis in (0, 1):
        near, far = sides[2 * axis : 2 * axis + 2]
        free = size[axis] + near + far - dilation[axis] * (kernel[axis] - 1) - 1
        count = (math.ceil if ceil else math.floor)(free / stride[axis]) + 1
        if ceil and (count - 1) * stride[axis] >= size[axis] + near:
            count -= 1  # it would begin in the far padding
        found.append(count)
    return tuple(found) if min(found) > 0 else None


def pool2d(
    x, kind, kernel, stride, sides=(0, 0, 0, 0), dilation=(1, 1), ceil=False, include=True,
    divisor=None,
):  # fmt: skip
    """torch.nn.functional's max and avg pools, and min, by their definition: x (C, H, W).

    Returns maps in float64, of max also the flat index of each: the first of equals, the last NaN,
    −1 where all taps are padding. None for a size that cannot be.
    """
    height, width = x.shape[1:]
    size = pool_size((height, width), kernel, stride, sides, dilation, ceil)
    if size is None:
        return None
    out, places = np.empty((len(x), *size)), np.full((len(x), *size), -1)
    for c, i, j in np.ndindex(*out.shape):
        taps, padded = [], 0
        for m, n in itertools.product(range(kernel[0]), range(kernel[1])):
            y = i * stride[0] - sides[0] + m * dilation[0]
            z = j * stride[1] - sides[2] + n * dilation[1]
            if 0 <= y < height and 0 <= z < width:
                taps.append((float(x[c, y, z]), y * width + z))
            elif y < height + sides[1] and z < width + sides[3]:
                padded += 1
        values = [value for value, _ in taps]
        if kind == "avg":
            count = divisor if divisor is not None else len(values) + padded * include
            out[c, i, j] = sum(values) / count if count else math.nan
            continue
        extreme = {"max": max, "min": min}[kind]
        blank = -math.inf if kind == "max" else math.inf
        nans = [place for value, place in taps if math.isnan(value)]
        out[c, i, j] = math.nan if nans else extreme(values, default=blank)
        if taps:
            places[c, i, j] = nans[-1] if nans else taps[values.index(extreme(values))][1]
    return (out, places) if kind == "max" else out
