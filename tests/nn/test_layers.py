"""Operations that only networks use, against their definitions in plain NumPy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import ShapeError
from imgconv.ops.activation import activate
from imgconv.ops.arithmetic import add, join, multiply, transpose
from imgconv.ops.conv_transpose import conv_transpose2d
from imgconv.ops.linear import linear
from imgconv.ops.norm import (
    batch_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    scale_shift,
)
from tests.running import bytes_by_threads, num_threads

SETTINGS = settings(max_examples=40, deadline=None)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scattered(x, weight, bias, stride, sides, extra, groups, dilation):
    """The transposed convolution by its definition: every input adds its kernel to the output."""
    count, c_in, height, width = x.shape
    _, per_group, kh, kw = weight.shape
    tall = (height - 1) * stride[0] + dilation[0] * (kh - 1) + 1 + extra[0]
    wide = (width - 1) * stride[1] + dilation[1] * (kw - 1) + 1 + extra[1]
    full = np.zeros((count, per_group * groups, tall, wide))
    down, across = slice(0, height * stride[0], stride[0]), slice(0, width * stride[1], stride[1])
    for c in range(c_in):
        group = c // (c_in // groups)
        for m in range(per_group):
            for i in range(kh):
                for j in range(kw):
                    target = full[:, group * per_group + m, i * dilation[0] :, j * dilation[1] :]
                    target[:, down, across] += x[:, c].astype(np.float64) * weight[c, m, i, j]
    top, bottom, left, right = sides
    return full[:, :, top : tall - bottom, left : wide - right] + bias[:, None, None]


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@SETTINGS
@given(
    pairs(1, 4), pairs(1, 3), pairs(1, 3), st.lists(st.integers(0, 2), min_size=4, max_size=4),
    st.sampled_from([1, 2]), st.booleans(),
)  # fmt: skip
def test_a_transposed_convolution_adds_up_kernels(kernel, stride, dilation, sides, groups, more):
    x, weight, bias = draw(2, 4, 4, 5), draw(4, 3, *kernel, seed=1), draw(3 * groups, seed=2)
    extra = tuple(int(more and max(s, d) > 1) for s, d in zip(stride, dilation, strict=True))
    expected = scattered(x, weight, bias, stride, sides, extra, groups, dilation)
    arguments = (x, weight, bias, stride, sides, extra, groups, dilation)
    if 0 in expected.shape or min(
        (4 - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1 + extra[0] - sides[0] - sides[1],
        (5 - 1) * stride[1] + dilation[1] * (kernel[1] - 1) + 1 + extra[1] - sides[2] - sides[3],
    ) < 1:  # fmt: skip
        with pytest.raises(ShapeError):
            conv_transpose2d(*arguments)
        return
    result = conv_transpose2d(*arguments)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@SETTINGS
@given(st.integers(1, 5), st.integers(1, 300), st.integers(1, 70), st.booleans())
def test_linear_is_a_matrix_product_whatever_the_batch_and_threads(count, features, outputs, bias):
    x, weight = draw(count, features), draw(outputs, features, seed=1)
    offsets = draw(outputs, seed=2) if bias else None
    result = linear(x, weight, offsets)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + (offsets if bias else 0)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    for row, item in zip(result, x, strict=True):
        np.testing.assert_array_equal(linear(item[None], weight, offsets)[0], row)
    with num_threads(1):
        np.testing.assert_array_equal(linear(x, weight, offsets), result)


@SETTINGS
@given(st.integers(1, 9), st.integers(1, 7), st.sampled_from([0.75, 0.5, 1.3]), st.booleans())
def test_local_response_divides_by_the_squares_of_neighboring_channels(channels, size, beta, far):
    x = draw(2, channels, 3, 5)
    near = (size - 1) // 2 if far else None
    result = local_response_norm(x, size, 0.3, beta, 2.0, near)
    before = size // 2 if near is None else near
    for c in range(channels):
        window = x[:, max(c - before, 0) : c + size - before].astype(np.float64)
        expected = x[:, c] / (2.0 + 0.3 / size * np.square(window).sum(axis=1)) ** beta
        np.testing.assert_allclose(result[:, c], expected, rtol=1e-5)


def test_norms_make_mean_zero_and_variance_one():
    x = 3 * draw(2, 4, 40, 50) + 7
    normed = instance_norm(x)
    np.testing.assert_allclose(normed.mean(axis=(2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normed.var(axis=(2, 3)), 1, atol=1e-4)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    weight, bias = draw(4, seed=3), draw(4, seed=4)
    expected = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    expected = expected * weight[:, None, None] + bias[:, None, None]
    np.testing.assert_allclose(batch_norm(x, mean, var, weight, bias), expected, atol=1e-4)
    relu = batch_norm(x, mean, var, weight, bias, activation="relu")
    np.testing.assert_allclose(relu, np.maximum(expected, 0), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 40, 50), (1, 3, 1, 1), (2, 3, 40, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_sums_are_numpys_with_the_activation_on_top(shape, dtype):
    a = (10 * draw(2, 3, 40, 50)).astype(dtype)
    b = (10 * draw(*shape, seed=1)).astype(dtype)
    np.testing.assert_array_equal(add(a, b), a + b)
    np.testing.assert_array_equal(add(a, b, "relu"), np.maximum(a + b, 0))
    np.testing.assert_array_equal(add(a[..., ::2], a[..., ::2]), 2 * a[..., ::2])


def test_nan_stays_in_its_own_output():
    x = draw(1, 3, 4, 4)
    x[0, 1, 2, 2] = np.nan
    assert np.isnan(scale_shift(x, np.ones(3), np.zeros(3))).sum() == 1
    assert np.isnan(linear(x[0, 1], draw(5, 4))).sum() == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear(draw(2, 3), draw(4, 5)), r"input \(2, 3\) and weight \(4, 5\)"),
        (lambda: linear(draw(2, 3), draw(4, 3), draw(3)), r"bias of shape \(3,\), expected \(4,\)"),
        (lambda: conv_transpose2d(draw(1, 2, 3, 3), draw(3, 1, 2, 2)), "expected"),
        (
            lambda: conv_transpose2d(draw(1, 2, 3, 3), draw(2, 1, 2, 2), output_padding=1),
            "less tha",
        ),
        (lambda: local_response_norm(draw(1, 2, 3, 3), 0), "size=0"),
        (lambda: scale_shift(draw(1, 2, 3, 3), np.ones(3), np.ones(3)), r"expected \(2,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


@SETTINGS
@given(
    st.tuples(*[st.integers(0, 5)] * 4), st.sampled_from([np.float32, np.float64, np.int32]),
    st.sampled_from(["plane", "same", "row", "scalar"]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_product_is_numpys_however_it_is_broadcast(shape, dtype, kind, swapped, clipped):
    x = (draw(*shape) * 9).astype(dtype)
    other = {"plane": (*shape[:2], 1, 1), "same": shape, "row": shape[3:], "scalar": ()}[kind]
    factors = np.asarray(draw(*other, seed=1) * 9).astype(dtype)
    a, b = (factors, x) if swapped else (x, factors)
    expected = np.maximum(x * factors, 0) if clipped else x * factors
    got = multiply(a, b, "relu" if clipped else None)
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def test_a_products_bits_do_not_depend_on_threads():
    x, factors = draw(2, 70, 31, 33), draw(2, 70, 1, 1, seed=1)
    assert len(bytes_by_threads(lambda: multiply(x, factors, "silu"), (1, 2))) == 1


def test_tanh_is_right_to_three_units_in_the_last_place():
    x = np.concatenate([np.linspace(-12, 12, 200_001), np.geomspace(1e-38, 1, 20_000)])
    x = np.concatenate([x, [0.0, -0.0, np.inf, -np.inf, 0.625, -0.625]]).astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    got = activate(x, "tanh")
    assert (np.abs(got - exact) <= 3 * np.spacing(np.abs(exact).astype(np.float32))).all()
    np.testing.assert_array_equal(np.signbit(got), np.signbit(x))
    assert np.isnan(activate(np.full(9, np.nan, np.float32), "tanh")).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((2, 3, 4, 6, 6), (0, 2, 1, 3, 4)), ((3, 5, 40), (1, 0, 2)), ((2, 3, 4), (2, 0, 1)),
        ((4, 5), (0, 1)), ((2, 0, 20), (1, 0, 2)), ((90, 70, 33), (1, 0, 2)), ((), ()),
    ],
)  # fmt: skip
def test_transposing_copies_what_numpy_does(shape, order, dtype):
    from imgconv.ops.arithmetic import transpose

    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for array in (x, np.broadcast_to(x, (2, *shape))[1], x[..., ::-1] if shape else x):
        got = transpose(array, order)
        np.testing.assert_array_equal(got, array.transpose(order))
        assert got.dtype == dtype
        assert got.flags.c_contiguous


@given(
    st.lists(st.integers(1, 5), max_size=4), st.integers(0, 4), st.integers(0, 15),
    st.integers(0, 15), st.sampled_from(["add", "sub", "mul", "div", "prelu"]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_numbers_are_repeated_as_numpy_does(shape, fewer, once, other, name):
    shape = [*shape, 37] if other % 3 == 0 else shape
    sides = [
        [1 if mask >> axis & 1 else n for axis, n in enumerate(shape)] for mask in (once, other)
    ]
    a, b = (
        np.random.default_rng(seed).normal(size=side).astype(np.float32)
        for seed, side in enumerate((sides[0][min(fewer, len(shape)) :], sides[1]))
    )
    function = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
        "prelu": lambda x, slope: np.where(x < 0, x * slope, x),
    }[name]  # fmt: skip
    for left, right in ((a, b), (b, a)):
        np.testing.assert_array_equal(join(name, left, right), function(left, right))
    assert join(name, a.astype(float), b) is None


@pytest.mark.parametrize("shape", [(3, 7, 96), (2, 5, 4, 13), (4, 1000), (2, 1)])
@pytest.mark.parametrize("away", [0, 1e4])
def test_layer_norm_keeps_its_digits_far_from_zero(shape, away):
    rng = np.random.default_rng(4)
    last = shape[-2:] if len(shape) == 4 else shape[-1:]
    axes = tuple(range(-len(last), 0))
    x = (rng.normal(size=shape) + away).astype(np.float32)
    weight, bias = rng.normal(size=(2, *last)).astype(np.float32)
    exact = x.astype(np.float64)
    apart = exact - exact.mean(axes, keepdims=True)
    want = apart / np.sqrt((apart**2).mean(axes, keepdims=True) + 1e-5) * weight + bias
    found = layer_norm(x, weight, bias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-6 * max(1, np.abs(want).max()))
    with num_threads(3):
        assert np.array_equal(layer_norm(x, weight, bias), found)
    assert np.array_equal(layer_norm(x[:1], weight, bias), found[:1])


@pytest.mark.parametrize("shape", [(2, 37, 5, 19), (33, 50), (1, 16, 32), (3, 1, 17)])
def test_axes_change_places_in_every_order(shape):
    x = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    for order in itertools.permutations(range(len(shape))):
        assert np.array_equal(transpose(x, order), x.transpose(order))
