"""Every public operation on views of every memory layout: the bits of the contiguous copy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.io.color import LUMA, from_linear, to_gray, to_linear
from imgconv.io.scaling import scale_map
from imgconv.nn.layers.resize import Resize
from imgconv.ops import arithmetic, norm, plans, pool
from imgconv.ops.activation import activate, softmax
from imgconv.ops.algorithms import problem, select
from imgconv.ops.conv import conv2d
from imgconv.ops.conv_transpose import conv_transpose2d
from imgconv.ops.filter import filter_banks, filter_image
from imgconv.ops.linear import linear
from imgconv.ops.padding import pad
from imgconv.ops.rows import ArrayRows, FilteredRows, read_rows
from imgconv.ops.scaling import scale
from tests.samples import draw

FLOATS = ("f4", "f8")
PIXELS = ("u1", "u2", "i2", "i4", "u4", "f4", "f8")


@st.composite
def layouts(draw, ndim):
    """How an array lies in memory; `laid_out` makes it so."""
    # Most are such as loops read in place; the others are copied first.
    steps = st.sampled_from([1, 1, 1, -1, -1, 2, -2, 3])
    return {
        "order": draw(st.one_of(st.just(range(ndim)), st.permutations(range(ndim)))),
        "steps": draw(st.tuples(*[steps] * (ndim - 1), st.sampled_from([1, 1, 1, -1, 2]))),
        "repeated": draw(st.sets(st.integers(0, ndim - 1), max_size=1)),
        "swapped": draw(st.sampled_from([False, False, False, True])),
        # Bytes before the first element, and between two elements: neither is a whole element.
        "lead": draw(st.sampled_from([0, 0, 0, 1])),
        "gap": draw(st.sampled_from([0, 0, 0, 3])),
        "readonly": draw(st.booleans()),
    }


def laid_out(values, layout):
    """A view with a layout, and the contiguous copy in native bytes of the same values."""
    for axis in layout["repeated"]:
        values = values.take([0], axis)
    kind = values.dtype.newbyteorder() if layout["swapped"] else values.dtype
    shape = [values.shape[axis] for axis in layout["order"]]
    steps = [layout["steps"][axis] for axis in layout["order"]]
    room = [size * abs(step) for size, step in zip(shape, steps, strict=True)]
    lead, size = layout["lead"], kind.itemsize + layout["gap"]
    # What lies between the elements is all ones: NaN, −1 or the largest number.
    buffer = np.full(lead + math.prod(room) * size, 255, np.uint8)
    strides = [size * math.prod(room[axis + 1 :]) for axis in range(len(room))]
    whole = np.ndarray(room, kind, buffer, lead, strides)
    view = whole[tuple(slice(None, None, step) for step in steps)]
    view = view.transpose(np.argsort(layout["order"]))
    view[...] = values
    for axis in layout["repeated"]:
        shape = list(view.shape)
        shape[axis] = 5 + axis
        view = np.broadcast_to(view, shape)
    if layout["readonly"]:
        view.flags.writeable = False
    return view, view.astype(values.dtype, order="C")


def numbers(shape, kind="f4", seed=0):
    return draw(np.random.default_rng(seed), shape, np.dtype(kind))


def wide(values):
    """Sizes that no axis of a broadcast view changes to others."""
    return tuple(5 + axis for axis in range(values))


KERNEL = np.outer([1.0, 2, 3, 2, 1], [2.0, 1, 3, 1, 2])[None, None]
SMOOTH = np.outer(*[np.exp(-(np.linspace(-1.5, 1.5, 5) ** 2))] * 2)[None, None]
BOX = np.full((1, 1, 5, 5), 3.0)


def images(x, kernel, **options):
    return filter_image(x, kernel, out_dtype=np.float64, **options)


def in_bands(x):
    rows = FilteredRows(ArrayRows(x), SMOOTH, out_dtype=np.float64)
    out = np.empty((rows.height, rows.width, rows.channels), rows.dtype)
    read_rows(rows, out)
    return out


def resized(x):
    size = (*x.shape[:2], 9, 4)
    return Resize(size, tuple(a / b for a, b in zip(size, x.shape, strict=True)), "linear").forward(
        x
    )


def scaled(x):
    out = np.empty(x.shape, np.uint16)
    return np.append(out.ravel(), scale(x, out, 0.0, 1.5, 3.0, 65535.0))


def weights(count, channels, kh=3, kw=3):
    return numbers((count, channels, kh, kw), seed=1)


# (H, W, C) images of every type; the sizes are those that a repeated axis gets.
IMAGES = {
    "box": lambda x: images(x, BOX),
    "rank one": lambda x: images(x, SMOOTH),
    "integers": lambda x: images(x, KERNEL, padding_mode="circular"),
    "thirds": lambda x: images(x, KERNEL / 3, padding_mode="constant", pad_value=2.0),
    "strided": lambda x: images(x, KERNEL, stride=2, dilation=(1, 2), padding=3),
    "mixed": lambda x: images(x, weights(2, 7, 2, 3), padding_mode="symmetric"),
    "grouped": lambda x: images(x, weights(7, 1), groups=7),
    "magnitude": lambda x: images(x, weights(2, 1), combine="magnitude"),
    "banks": lambda x: np.concatenate(filter_banks(x, [(KERNEL, None), (SMOOTH, None)])),
    "bands": in_bands,
    "gray": lambda x: to_gray(x, LUMA),
    "scaled": scaled,
    "minmax": lambda x: scale_map(x, "minmax", 255.0, np.dtype(np.uint8))[0],
    "padded": lambda x: pad(x, 3, "reflect"),
}
# (N, C, H, W) tensors.
TENSORS = {
    "conv2d": lambda x: conv2d(x, weights(8, 6), padding=1),
    "conv2d of one map": lambda x: conv2d(x, weights(1, 6), padding=2, dilation=2),
    "conv2d 1×1": lambda x: conv2d(x, weights(8, 6, 1, 1)),
    "conv2d strided": lambda x: conv2d(x, weights(8, 6), stride=2, padding=1),
    "conv2d in groups": lambda x: conv2d(x, weights(6, 3), groups=2, padding_mode="circular"),
    "conv_transpose2d": lambda x: conv_transpose2d(x, weights(6, 2), stride=2, padding=1),
    "max_pool2d": lambda x: pool.max_pool2d(x, 3, 2, 1),
    "max_pool2d of five": lambda x: pool.max_pool2d(x, 5, 1, 2),
    "max_pool2d's indices": lambda x: pool.max_pool2d(x, 2, return_indices=True)[1],
    "min_pool2d": lambda x: pool.min_pool2d(x, (2, 3)),
    "avg_pool2d": lambda x: pool.avg_pool2d(x, 3, 1, 1),
    "avg_pool2d of four": lambda x: pool.avg_pool2d(x, 4, 2),
    "lp_pool2d": lambda x: pool.lp_pool2d(x, 2, 3),
    "adaptive_avg_pool2d": lambda x: pool.adaptive_avg_pool2d(x, 3),
    "adaptive_max_pool2d": lambda x: pool.adaptive_max_pool2d(x, (2, 3)),
    "global_avg_pool2d": pool.global_avg_pool2d,
    "global_max_pool2d": pool.global_max_pool2d,
    "relu": lambda x: activate(x, "relu"),
    "silu": lambda x: activate(x, "silu"),
    "softmax": softmax,
    "batch_norm": lambda x: norm.batch_norm(x, np.arange(6.0), np.arange(1.0, 7)),
    "instance_norm": norm.instance_norm,
    "local_response_norm": lambda x: norm.local_response_norm(x, 3),
    "linear": lambda x: linear(x, weights(4, 8, 1, 1)[:, :, 0, 0]),
    "sum": lambda x: arithmetic.add(x, x, "relu"),
    "product": lambda x: arithmetic.multiply(x, x[:, :, :1, :1]),
    "concatenate": lambda x: arithmetic.concatenate([x, x], 1),
    "transpose": lambda x: arithmetic.transpose(x, (0, 2, 1, 3)),
    "resize": resized,
    "linear light": lambda x: from_linear(to_linear(x)),
}  # fmt: skip
# (N, 8, 7, 8) float32 maps of depthwise layers and others that a network has.
LAYERS = {
    "depthwise": lambda x: conv2d(x, weights(16, 1), groups=16, padding=1),
    "depthwise strided": lambda x: conv2d(x, weights(16, 1, 5, 5), groups=16, padding=2, stride=2),
    "depthwise, then SiLU": lambda x: conv2d(
        x, weights(16, 1), groups=16, padding=1, activation="silu"
    ),
    "blocked": lambda x: conv2d(x, weights(16, 1, 7, 7), groups=16, padding=3),
    "winograd": lambda x: conv2d(x, weights(16, 16), padding=1),
    "product": lambda x: conv2d(x, weights(32, 16), padding=1, stride=2),
    "residual": lambda x: conv2d(x, weights(16, 16, 1, 1), residual=x),
}  # fmt: skip


def check(operation, view, copy):
    got, want = operation(view), operation(copy)
    assert got.dtype == want.dtype
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", IMAGES)
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_images_of_any_layout(name, data):
    values = numbers((5, 6, 7), data.draw(st.sampled_from(PIXELS)))
    view, copy = laid_out(values, data.draw(layouts(3)))
    check(IMAGES[name], view, copy)


@pytest.mark.parametrize("algorithm", ["direct", "sparse", "box", "separable", "fourier"])
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_images_of_any_layout_by_each_algorithm(algorithm, data):
    """Each sees the whole image, its borders included."""
    shape = 24, 21, data.draw(st.sampled_from([1, 3]))
    values = numbers(shape, data.draw(st.sampled_from(["u1", "u2", "f4", "f8"])))
    if algorithm == "box":
        values = np.abs(values).astype(np.uint8)
    view, copy = laid_out(values, data.draw(layouts(3)) | {"repeated": ()})
    kernel = BOX if algorithm == "box" else SMOOTH
    mode = data.draw(st.sampled_from(["constant", "reflect", "circular"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "ALGORITHMS", (algorithm,))
        patch.setattr(problem, "SMALL", 0)
        patch.setattr(plans, "CONTENT", -1)  # each call is planned
        check(lambda x: images(x, kernel, padding_mode=mode, pad_value=1.0), view, copy)


@pytest.mark.parametrize("name", TENSORS)
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_tensors_of_any_layout(name, data):
    values = numbers(wide(4), data.draw(st.sampled_from(FLOATS)))
    view, copy = laid_out(values, data.draw(layouts(4)))
    check(TENSORS[name], view, copy)


@pytest.mark.parametrize("name", LAYERS)
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_maps_of_any_layout(name, data):
    size = (24, 26) if name == "winograd" else data.draw(st.sampled_from([(7, 8), (15, 21)]))
    values = numbers((2, 16, *size))
    view, copy = laid_out(values, data.draw(layouts(4)) | {"repeated": ()})
    check(LAYERS[name], view, copy)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_weights_and_biases_of_any_layout(data):
    x = numbers((2, 8, 9, 10))
    bank, copy = laid_out(weights(6, 4), data.draw(layouts(4)) | {"repeated": ()})
    bias, biases = laid_out(numbers((6,), seed=2), data.draw(layouts(1)) | {"repeated": ()})
    check(lambda b: conv2d(x, b[0], b[1], groups=2), (bank, bias), (copy, biases))
    image = numbers((9, 10, 4), "u1")
    check(lambda b: filter_image(image, b[0], b[1]), (bank, bias), (copy, biases))
    matrix, rows = laid_out(numbers((6, 10), seed=3), data.draw(layouts(2)) | {"repeated": ()})
    check(lambda b: linear(x, b[0], b[1]), (matrix, bias), (rows, biases))


def test_swapped_bytes_keep_float64_and_exact_quotients():
    """A third of 32-bit integers, and numbers that float32 does not hold."""
    x = np.array([[[16777217, 3, 2**31 - 1]]], ">i4")
    got = filter_image(x, np.full((1, 1, 1, 1), 1 / 3), out_dtype=np.float64)
    np.testing.assert_array_equal(got.ravel(), [16777217 / 3, 1, (2**31 - 1) / 3])
    y = np.full((1, 1, 2, 2), 1 + 2.0**-40, ">f8")
    for operation in (
        lambda x: conv2d(x, np.ones((1, 1, 1, 1))),
        lambda x: activate(x, "relu"),
        lambda x: pool.avg_pool2d(x, 2),
        lambda x: linear(x, np.eye(2)),
        lambda x: conv_transpose2d(x, np.ones((1, 1, 1, 1))),
    ):
        assert operation(y).dtype == np.float64
        assert (operation(y) == 1 + 2.0**-40).all()
