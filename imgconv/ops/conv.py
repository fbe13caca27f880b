"""conv2d: the convolution of torch.nn.functional.conv2d on NumPy arrays, compiled."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgconv import shapes
from imgconv.errors import ShapeError
from imgconv.jit import capture, memory
from imgconv.jit.parallel import num_threads
from imgconv.ops import epilogue, exact, plans
from imgconv.ops.algorithms import select, tiles
from imgconv.ops.algorithms.problem import ConvProblem
from imgconv.ops.arrays import real_type, supported
from imgconv.ops.linear import linear
from imgconv.ops.window import Ints, Window, check_bias, check_weights
from imgconv.typing import Array, Dtype

# stride, padding, dilation, groups, padding_mode, pad_value
Sliding = tuple[Ints, int | str | Sequence[int], Ints, int, str, float]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Ints = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: Ints = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    pad_value: float = 0.0,
    flip: bool = False,
    activation: Any = None,
    residual: Array | None = None,
) -> Array:
    """Return the cross-correlation of maps with a bank of filters, as `torch.nn.Conv2d` does.

    Parameters
    ----------
    x
        (C, H, W) or (N, C, H, W).
    weight
        (C_out, C_in/groups, kH, kW).
    bias
        (C_out,), added to each response.
    stride, dilation
        A number from 1, or a (vertical, horizontal) pair.
    padding
        `same`, `valid`, `full`, a number, a pair, or (top, bottom, left, right).
    groups
        Split channels and filters into groups that do not mix.
    padding_mode
        `zeros`, `constant` (of `pad_value`), `reflect`, `replicate`, `circular` or `symmetric`.
        Pads wider than the image extend periodically, as with `numpy.pad`.
    pad_value
        The value of `padding_mode="constant"`.
    flip
        Rotate each filter by 180°, which makes it a true convolution.
    activation
        Applied last: a name with its parameters, such as `relu` or `leaky-relu:0.2`.
    residual
        Added to the result before the activation, by NumPy's broadcasting rules.

    Returns
    -------
    ndarray
        (…, C_out, H', W'), float64 if x is float64 or has 32-bit integers, else float32.

    Raises
    ------
    ShapeError
        Sizes do not fit together; the message has both.
    ValueRangeError
        Sums of integers might exceed 2⁵³ and so be wrong.

    Notes
    -----
    Integer images under integer weights, or integers over one divisor, have exact sums, and
    results are rounded once. In small banks, taps of weight zero are skipped, so a NaN under them
    does not spread; in a network's layer (`ConvProblem.is_layer`) every tap counts.
    """
    options = (stride, padding, dilation, groups, padding_mode, pad_value, activation, flip)
    return _conv2d(x, weight, bias, *options, residual=residual)


def sums2d(
    x: Array, parts: Sequence[exact.Part], stride: Ints = 1,
    padding: int | str | Sequence[int] = 0, dilation: Ints = 1, groups: int = 1,
    padding_mode: str = "zeros", pad_value: float = 0.0,
) -> Array:  # fmt: skip
    """Return the exact sums of integers x (…, C, H, W) under a bank of integers.

    parts: of the bank, by `exact.parts`. The other parameters are those of `conv2d`. The result is
    float32 where there is one part, else float64. Raises ShapeError.
    """
    capture.refuse()  # the conversion is NumPy's
    total: Array | None = None
    for channels, weights in parts:
        floats = x[..., channels, :, :].astype(np.float32, copy=False)
        sums = _conv2d(
            floats, weights, None, stride, padding, dilation, groups, padding_mode, pad_value,
            None, False, True,
        )  # fmt: skip
        total = sums if total is None else np.add(total, sums, dtype=np.float64)
    assert total is not None
    return total


def _conv2d(
    x: Array, weight: Array, bias: Array | None, stride: Ints,
    padding: int | str | Sequence[int], dilation: Ints, groups: int, padding_mode: str,
    pad_value: float, activation: Any, flip: bool, whole: bool = False,
    residual: Array | None = None,
) -> Array:  # fmt: skip
    """`conv2d`. whole: x and weights are integers, of which float32 holds every sum exactly."""
    dense = groups == 1 and _all(stride, 1) and _all(padding, 0) and _all(dilation, 1)
    if residual is not None and not (dense and _mixes(x, weight, residual)):
        from imgconv.ops.arithmetic import add

        sums = conv2d(
            x, weight, bias, stride, padding, dilation, groups, padding_mode, pad_value, flip
        )
        return add(sums, residual, activation)
    if dense and not flip and _covers(x, weight, bias):
        # Squeeze-and-excite layers and LeNet-5's last: as a map of one pixel, a vector would be a
        # sixteenth full.
        rows = x.reshape(*x.shape[:-3], -1)
        return linear(rows, weight.reshape(len(weight), -1), bias, activation)[..., None, None]
    options = (
        stride, padding, dilation, groups, padding_mode, pad_value, activation, flip,
        whole, residual is not None,
    )  # fmt: skip
    key = plans.key_of(x, weight, bias, options)
    maps = plans.again(key, x)
    if maps is not None:
        return maps
    layer_key = _key(x, weight, *options)
    layer: _Layer | None = None if flip or layer_key is None else plans.store.get(layer_key)
    if layer is not None:
        return layer(x, weight, bias, residual)
    if x.ndim not in (3, 4):
        raise ShapeError(f"conv2d: input of shape {x.shape}, expected (C, H, W) or (N, C, H, W)")
    batch = supported(x if x.ndim == 4 else x[None])
    weights = check_weights(weight, flip, "conv2d")
    c_out, per_group, kh, kw = weights.shape
    count, c_in, height, width = batch.shape
    shapes.check_groups(c_in, c_out, groups, "conv2d")
    if per_group * groups != c_in:
        raise ShapeError(
            f"conv2d: weight {weights.shape} with groups={groups} expects "
            f"in_channels={per_group * groups}, got {c_in}"
        )
    offsets = check_bias(bias, c_out, "conv2d")
    window = Window(height, width, (kh, kw), stride, padding, dilation, padding_mode, pad_value)
    out = memory.empty((count, c_out, *window.out_size), real_type(x))
    sn, sc, sy, sx = (step // batch.itemsize for step in batch.strides)
    maps = c_out // groups
    area = window.out_size[0] * window.out_size[1]
    dtype = x.dtype if x.dtype == np.int8 else batch.dtype  # whose samples are read as wider ones
    weights, divisor = exact.rational_form(dtype, weights, 1.0, window.fill)
    real = exact.sums_type(dtype, weights, offsets, window.fill, divisor)
    if x.dtype.kind in "iu" and divisor == 1.0 and _is_bank(weights):
        found = _of_integers(x, dtype, weights, bias, real, window.fill, options[:6], activation)
        if found is not None:
            return found
    problem = ConvProblem(
        source=batch,
        starts_in=[n * sn + g * per_group * sc for n in range(count) for g in range(groups)],
        channels=[c * sc for c in range(per_group)],
        row_stride=sy,
        pixel_stride=sx,
        run=1,
        near=window.sides.left,
        width=width,
        row_map=window.row_map,
        col_map=window.col_map,
        weights=weights.reshape(groups, maps, per_group, kh, kw),
        bias=offsets.reshape(groups, maps),
        stride=window.stride,
        dilation=window.dilation,
        out=out,
        starts_out=[u * maps * area for u in range(count * groups)],
        out_size=window.out_size,
        out_map=area,
        out_row=window.out_size[1],
        real=real,
        activation=epilogue.activation_key(activation),
        fill=window.fill,
        divisor=divisor,
        limit=exact.limit_of(dtype, weights, window.fill, divisor),
        whole=whole,
        residual=residual,
    )
    is_layer = problem.is_layer  # before the planner cuts zeros away
    shape = out.shape if x.ndim == 4 else out.shape[1:]
    chosen = plans.run(problem, x, key, shape)
    repeats = is_layer and layer_key is not None and not flip
    if repeats and chosen is not None and chosen.algorithm in select.LAYERS:
        plans.store.put(layer_key, _Layer(chosen.detail, shape))
    else:
        capture.refuse()
    return out if x.ndim == 4 else out[0]


def _is_bank(weights: Array) -> bool:
    """Whether it pays to read integers as float32: many products are made of each."""
    maps, channels, kh, kw = weights.shape
    return bool(channels > 1 and maps >= 4 and channels * kh * kw >= 8)


def _of_integers(
    x: Array, dtype: Dtype, weights: Array,
    bias: Array | None, real: str, fill: float, options: Sliding, activation: Any,
) -> Array | None:  # fmt: skip
    """The result by the loops of networks, which read float32; None where they would round."""
    whole = exact.is_integer(dtype, weights, fill)
    if real == "f32":
        capture.refuse()  # the conversion is NumPy's
        floats, bank = x.astype(np.float32), weights.astype(np.float32, copy=False)
        return _conv2d(floats, bank, bias, *options, activation, False, whole)
    most, groups = max(exact.largest(dtype), abs(fill)), options[3]
    parts = exact.parts(weights, most) if whole and groups == 1 else None
    if parts is None:
        return None
    sums = sums2d(x, parts, *options) + check_bias(bias, len(weights), "conv2d")[:, None, None]
    if activation is not None:
        from imgconv.ops.activation import activate

        sums = activate(sums, activation)
    return sums.astype(np.float32)


def _all(numbers: Any, number: int) -> bool:
    """Whether an option of one or several numbers says `number` of every axis and side."""
    if isinstance(numbers, tuple | list):
        return all(one == number for one in numbers)
    return bool(numbers == number)


def _covers(x: Array, weight: Array, bias: Array | None) -> bool:
    """Whether kernels of maps' size meet them in float32: a layer, or maps of one pixel."""
    return (
        x.ndim in (3, 4) and x.dtype == np.float32 and getattr(weight, "ndim", 0) == 4
        and x.shape[-3:] == weight.shape[1:] and x.size > 0 and weight.size > 0
        and (x.shape[-2:] == (1, 1) or (len(weight) >= 4 and weight[0].size >= 8))
        and (bias is None or bias.shape == weight.shape[:1])
    )  # fmt: skip


def _mixes(x: Array, weight: Array, residual: Array) -> bool:
    """Whether it is a 1×1 convolution that `matmul` takes, and the residual fits its result."""
    return (
        x.ndim == 4 and x.dtype == residual.dtype == np.float32 and x.flags.c_contiguous
        and getattr(weight, "ndim", 0) == 4 and weight.shape[1:] == (x.shape[1], 1, 1)
        and len(weight) >= 4 and x.shape[1] >= 8 and x.shape[2] * x.shape[3] > 1 and x.size > 0
        and x.shape[3] <= tiles.WIDEST and residual.flags.c_contiguous and residual.flags.aligned
        and residual.shape == (len(x), len(weight), *x.shape[2:])
    )  # fmt: skip


class _Layer:
    """A layer of a network that was computed before: only its numbers are new."""

    def __init__(self, product: Any, shape: tuple[int, ...]) -> None:
        self._product = product
        self._shape = shape

    def __call__(
        self, x: Array, weight: Array, bias: Array | None,
        residual: Array | None,
    ) -> Array:  # fmt: skip
        plain = isinstance(bias, np.ndarray) and bias.dtype == np.float32
        if bias is None or not plain or bias.shape != weight.shape[:1]:
            bias = check_bias(bias, weight.shape[0], "conv2d")
        out = np.empty(self._shape, np.float32)
        capture.keep(self._product)
        more = () if residual is None else (residual,)
        self._product(out, x, weight, bias, *more)
        return out


def _key(x: Array, weight: Array, *options: Any) -> Any:
    """What decides how a layer is computed, or None where x is not read as it lies."""
    try:
        flags = x.flags
        if x.dtype != np.float32 or not flags.aligned:
            return None
        if not flags.c_contiguous and any(step % 4 for step in x.strides):
            return None
        if list in map(type, options):
            options = tuple(tuple(one) if isinstance(one, list) else one for one in options)
        key = x.shape, x.strides, weight.shape, num_threads(), options
        hash(key)
    except (TypeError, AttributeError):
        return None
    return key
