"""Builders of the operators that move elements, ask for shapes, or resize.

Source: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md and Changelog.md).
"""

import math

import numpy as np
import numpy.typing as npt

from imgconv.errors import ModelError
from imgconv.nn.layers import Concat, Flatten, Identity, Layer, Shape
from imgconv.nn.layers.functions import Function
from imgconv.nn.layers.resize import Resize
from imgconv.nn.layers.tensors import (
    Cast,
    Constant,
    Expand,
    Filled,
    Gather,
    Pad,
    Rearrange,
    Reshape,
    Slice,
    Split,
    Tile,
    Transpose,
    axis_of,
)
from imgconv.nn.onnx.folding import Call, Use, operator
from imgconv.nn.onnx.images import SAMPLES
from imgconv.nn.onnx.reading import MAX_ELEMENTS, import_onnx
from imgconv.typing import Array


def _constant(value: npt.ArrayLike) -> Use:
    array = np.asarray(value)
    return Use(Constant(array.shape, parameters={"value": array}), ())


@operator("Constant")
def _constant_node(call: Call) -> Use:
    given = call.operation.attributes
    if "value" in given:
        return _constant(given["value"])
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32),
                        ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if name in given:
            return _constant(np.asarray(given[name], dtype))
    raise ModelError(f"{', '.join(given) or 'no attribute'}, expected a dense tensor of numbers")


@operator("ConstantOfShape", fixed=(0,))
def _constant_of_shape(call: Call) -> Use:
    shape = tuple(call.numbers(0, "shape"))
    if min(shape, default=0) < 0:
        raise ModelError(f"shape {shape}, expected numbers of at least 0")
    value = np.asarray(call.attribute("value", np.zeros(1, np.float32))).reshape(-1)
    return Use(Filled(shape, value[0]), ())


@operator("Shape")
def _shape(call: Call) -> Use:
    shape = np.array(call.shape(), np.int64)
    return _constant(shape[call.attribute("start", 0) : call.attribute("end")])


@operator("Size")
def _size(call: Call) -> Use:
    return _constant(np.int64(math.prod(call.shape())))


@operator("Range", fixed=(0, 1, 2))
def _range(call: Call) -> Use:
    start, limit, step = (
        call.fixed(place, name).reshape(-1)[0]
        for place, name in enumerate(("start", "limit", "delta"))
    )
    if step == 0 or not (limit - start) / step < MAX_ELEMENTS:
        raise ModelError(f"from {start} to {limit} by {step}")
    return _constant(np.arange(start, limit, step, dtype=start.dtype))


class CastLike(Layer):
    """The first input in the second one's type."""

    def forward(self, *inputs: Array) -> Array:
        return Cast(inputs[1].dtype).forward(inputs[0])


@operator("Cast", "CastLike")
def _cast(call: Call) -> Use:
    onnx = import_onnx()
    if call.kind == "CastLike":
        like = call.constant(1)
        return Use(CastLike(), (0, 1)) if like is None else Use(Cast(like.dtype))
    name = onnx.TensorProto.DataType.Name(call.attribute("to"))
    if name in ("FLOAT16", "BFLOAT16"):
        return Use(Cast(np.dtype(np.float32)))
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(call.attribute("to")))
    if dtype.kind not in "fiub":
        raise ModelError(f"to {name}, expected floats, integers or booleans")
    return Use(Cast(dtype))


@operator(SAMPLES)
def _samples(call: Call) -> Use:
    dtype = np.dtype(call.attribute("dtype"))

    def convert(x: Array) -> Array:
        if dtype.kind == "f":
            return x.astype(dtype)
        limits = np.iinfo(dtype)
        return np.rint(x).clip(limits.min, limits.max).astype(dtype)

    return Use(Function(name="Cast", function=convert, same_type=False))


@operator("Reshape", fixed=(1,))
def _reshape(call: Call) -> Use:
    shape = call.shape()
    wanted = call.numbers(1, "shape")
    if not call.attribute("allowzero", 0):
        if any(n == 0 and i >= len(shape) for i, n in enumerate(wanted)):
            raise ModelError(f"shape {wanted} keeps an axis that the input {shape} has not")
        wanted = [shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    made = Reshape(tuple(wanted)).output_shape(shape)
    if len(shape) > 2 and made == (shape[0], math.prod(shape[1:])):
        return Use(Flatten())
    return Use(Reshape(made))


@operator("Flatten")
def _flatten(call: Call) -> Use:
    shape = call.shape()
    axis = call.attribute("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ModelError(f"axis {axis} of {len(shape)} axes")
    axis = axis + len(shape) if axis < 0 else axis
    if axis == 1:
        return Use(Flatten())
    return Use(Reshape((math.prod(shape[:axis]), math.prod(shape[axis:]))))


@operator("Squeeze", fixed=(1,))
def _squeeze(call: Call) -> Use:
    shape = call.shape()
    axes = {axis_of(axis, len(shape), "Squeeze") for axis in call.numbers(1, "axes")}
    axes = axes or {axis for axis, n in enumerate(shape) if n == 1}
    if any(shape[axis] != 1 for axis in axes):
        raise ModelError(f"axes {sorted(axes)} of {shape}, expected axes of length 1")
    return Use(Reshape(tuple(n for axis, n in enumerate(shape) if axis not in axes)))


@operator("Unsqueeze", fixed=(1,))
def _unsqueeze(call: Call) -> Use:
    shape = list(call.shape())
    given = call.numbers(1, "axes")
    axes = sorted(axis_of(axis, len(shape) + len(given), "Unsqueeze") for axis in given)
    if len(set(axes)) != len(axes):
        raise ModelError(f"axes {given}, expected different ones")
    for axis in axes:
        shape.insert(axis, 1)
    return Use(Reshape(tuple(shape)))


@operator("Transpose")
def _transpose(call: Call) -> Use:
    default = range(len(call.shape()))[::-1]
    return Use(Transpose(tuple(call.attribute("perm") or default)))


@operator("Concat")
def _concat(call: Call) -> Use:
    axes = len(call.shape(call.places[0]))
    return Use(Concat(axis_of(call.attribute("axis", 1), axes, "Concat")), call.places)


@operator("Slice", fixed=(1, 2, 3, 4))
def _slice(call: Call) -> Use:
    shape = call.shape()
    starts, ends = call.numbers(1, "starts"), call.numbers(2, "ends")
    axes = call.numbers(3, "axes") or list(range(len(starts)))
    steps = call.numbers(4, "steps") or [1] * len(starts)
    parts: list[tuple[int | None, int | None, int]] = [(None, None, 1)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = axis_of(axis, len(shape), "Slice")
        size = shape[at]
        if step == 0:
            raise ModelError("step 0, expected another number")
        start, end = (n + size if n < 0 else n for n in (start, end))
        if step > 0:
            parts[at] = (min(max(start, 0), size), min(max(end, 0), size), step)
        else:
            stop = min(max(end, -1), size - 1)
            parts[at] = (min(max(start, 0), size - 1), None if stop < 0 else stop, step)
    return Use(Slice(tuple(parts)))


@operator("Split", fixed=(1,))
def _split(call: Call) -> Use:
    shape = call.shape()
    axis = axis_of(call.attribute("axis", 0), len(shape), "Split")
    sizes = call.numbers(1, "split")
    if not sizes:
        count = len(call.operation.results)
        if call.attribute("num_outputs", count) != count:
            raise ModelError(f"num_outputs={call.attribute('num_outputs')} for {count} outputs")
        each = -(-shape[axis] // count)
        sizes = [min(each, max(shape[axis] - each * i, 0)) for i in range(count)]
    if len(sizes) < len(call.operation.results):
        raise ModelError(f"{len(call.operation.results)} outputs of {len(sizes)} parts")
    return Use(Split(tuple(sizes), axis))


@operator("Gather")
def _gather(call: Call) -> Use:
    indices = call.constant(1)
    axis = call.attribute("axis", 0)
    size = call.shape()[axis_of(axis, len(call.shape()), "Gather")]
    if (
        indices is not None
        and indices.size
        and not (-size <= indices.min() <= indices.max() < size)
    ):
        raise ModelError(f"indices {indices.min()}…{indices.max()} of {size} elements")
    return Use(Gather(axis), (0, 1))


@operator("Expand", fixed=(1,))
def _expand(call: Call) -> Use:
    return Use(Expand(tuple(call.numbers(1, "shape"))))


@operator("Tile", fixed=(1, 2))
def _tile(call: Call) -> Use:
    if call.has(2):  # opset 1 to 5: one axis
        repeats = [1] * len(call.shape())
        repeats[call.numbers(2, "axis")[0]] = call.numbers(1, "tiles")[0]
        return Use(Tile(tuple(repeats)))
    return Use(Tile(tuple(call.numbers(1, "repeats"))))


@operator("Pad", fixed=(1, 2, 3))
def _pad(call: Call) -> Use:
    count = len(call.shape())
    pads = call.numbers(1, "pads")
    axes = [axis_of(axis, count, "Pad") for axis in call.numbers(3, "axes")] or list(range(count))
    if len(pads) != 2 * len(axes):
        raise ModelError(f"pads {pads}, expected {2 * len(axes)} numbers")
    amounts = [(0, 0)] * count
    for place, axis in enumerate(axes):
        amounts[axis] = (pads[place], pads[place + len(axes)])
    value = call.attribute("value", 0.0)
    if call.has(2):
        value = call.fixed(2, "value").reshape(-1)[0].item()
    mode = call.attribute("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise ModelError(f"mode {mode!r}, expected constant, reflect, edge or wrap")
    if not any(map(any, amounts)):
        return Use(Identity())
    return Use(Pad(tuple(amounts), mode, value))


@operator("DepthToSpace", "SpaceToDepth")
def _blocks(call: Call) -> Use:
    shape, block = call.shape(), call.attribute("blocksize")
    if len(shape) != 4 or block < 1:
        raise ModelError(f"input {shape}, blocksize={block}, expected (N, C, H, W) and 1 or more")
    n, c, h, w = shape
    if call.kind == "SpaceToDepth":
        if h % block or w % block:
            raise ModelError(f"blocksize={block} does not divide {h}×{w}")
        split: Shape = (n, c, h // block, block, w // block, block)
        joined = (n, c * block * block, h // block, w // block)
        order = (0, 3, 5, 1, 2, 4) if call.attribute("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
        return Use(Rearrange(call.kind, split, order, joined))
    if c % (block * block):
        raise ModelError(f"blocksize={block}: {c} channels, expected a multiple of {block**2}")
    few, joined = c // block**2, (n, c // block**2, h * block, w * block)
    if call.attribute("mode", "DCR") == "DCR":
        return Use(Rearrange(call.kind, (n, block, block, few, h, w), (0, 3, 4, 1, 5, 2), joined))
    return Use(Rearrange(call.kind, (n, few, block, block, h, w), (0, 1, 4, 2, 5, 3), joined))


@operator("Upsample", fixed=(1,))
def _upsample(call: Call) -> Use:
    scales = [float(s) for s in (call.fixed(1, "scales") if call.has(1)
                                 else call.attribute("scales"))]  # fmt: skip
    shape = call.shape()
    made = tuple(math.floor(n * s) for n, s in zip(shape, scales, strict=True))
    mode = call.attribute("mode", "nearest")
    return Use(Resize(made, tuple(scales), mode, "asymmetric", "floor"))


@operator("Resize", fixed=(1, 2, 3))
def _resize(call: Call) -> Use:
    shape = call.shape()
    count, old = len(shape), call.opset < 11
    axes = [axis_of(axis, count, "Resize") for axis in call.attribute("axes") or range(count)]
    scales, made = [1.0] * count, list(shape)
    place = 1 if old else 2
    given = call.fixed(place, "scales").reshape(-1) if call.has(place) else np.empty(0)
    sizes = call.numbers(3, "sizes") if call.has(3) else []
    if len(given) == len(axes):
        for axis, scale in zip(axes, given, strict=True):
            scales[axis], made[axis] = float(scale), math.floor(shape[axis] * float(scale))
    elif len(sizes) == len(axes):
        _sized(call, axes, sizes, scales, made)
    else:
        raise ModelError(f"{len(given)} scales and {len(sizes)} sizes for {len(axes)} axes")
    region = [(0.0, 1.0)] * count
    if (
        not old
        and call.has(1)
        and call.attribute("coordinate_transformation_mode") == ("tf_crop_and_resize")
    ):
        roi = call.fixed(1, "roi").reshape(-1)
        for i, axis in enumerate(axes):
            region[axis] = (float(roi[i]), float(roi[i + len(axes)]))
    layer = Resize(
        tuple(made), tuple(scales), call.attribute("mode", "nearest"),
        call.attribute("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"),
        call.attribute("nearest_mode", "floor" if old else "round_prefer_floor"),
        call.attribute("cubic_coeff_a", -0.75), bool(call.attribute("exclude_outside", 0)),
        bool(call.attribute("antialias", 0)), tuple(region),
        call.attribute("extrapolation_value", 0.0),
    )  # fmt: skip
    return Use(layer)


def _sized(
    call: Call, axes: list[int], sizes: list[int], scales: list[float], made: list[int]
) -> None:
    """Set scales and lengths of the axes for wanted sizes, by the policy on their ratio."""
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    ratios = [size / made[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy != "stretch":
        common = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [common] * len(axes)
        sizes = [math.floor(made[axis] * common + 0.5) for axis in axes]
    for axis, size, ratio in zip(axes, sizes, ratios, strict=True):
        scales[axis], made[axis] = ratio, size
