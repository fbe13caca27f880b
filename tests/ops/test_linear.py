"""Fully connected layers, means and exponentials against NumPy in float64, and their bits."""

import numpy as np
import pytest

from imgconv.ops.activation import activate, softmax
from imgconv.ops.linear import linear
from imgconv.ops.pool import adaptive_avg_pool2d, global_avg_pool2d
from tests.running import bytes_by_threads

SIZES = [(1, 1, 1), (1, 7, 5), (3, 64, 10), (8, 300, 33), (5, 9001, 21), (13, 4096, 9), (2, 0, 3)]


def make(items, features, outputs):
    generator = np.random.default_rng(items)
    shapes = ((items, features), (outputs, features), (outputs,))
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("size", SIZES)
def test_a_fully_connected_layer_is_a_matrix_product(size):
    x, weight, bias = make(*size)
    wide = x.astype(np.float64) @ weight.T.astype(np.float64)
    scale = 1 + np.abs(weight).sum(axis=1, initial=0).max() * np.abs(x).max(initial=0)
    got = linear(x, weight, bias, "relu")
    np.testing.assert_allclose(got, np.maximum(wide + bias, 0), rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(linear(x, weight), wide, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(linear(x.astype(np.float64), weight), wide, rtol=0, atol=1e-9)
    many = linear(np.stack([x, x]), weight, bias, "relu")
    np.testing.assert_array_equal(many, np.stack([got, got]))


@pytest.mark.parametrize("size", SIZES)
def test_batch_and_threads_do_not_change_a_fully_connected_layers_bits(size):
    x, weight, bias = make(*size)
    want = linear(x, weight, bias)
    for item, row in zip(x, want, strict=True):
        np.testing.assert_array_equal(linear(item, weight, bias), row)
    assert bytes_by_threads(lambda: linear(x, weight, bias), (1, 3)) == {want.tobytes()}


@pytest.mark.parametrize(
    "size", [(3, 16, 1, 1), (2, 49, 33, 70), (1, 101, 96, 64), (4, 5, 20, 300)]
)
def test_items_of_many_rows_are_products_whose_bits_do_not_depend_on_the_batch(size):
    count, rows, features, outputs = size
    x, weight, bias = make(count * rows, features, outputs)
    x = x.reshape(count, rows, features)
    wide = np.maximum(x.astype(np.float64) @ weight.T.astype(np.float64) + bias, 0)
    got = linear(x, weight, bias, "relu")
    np.testing.assert_allclose(got, wide, rtol=0, atol=1e-4)
    for item, want in zip(x, got, strict=True):
        np.testing.assert_array_equal(linear(item[None], weight, bias, "relu")[0], want)
    assert bytes_by_threads(lambda: linear(x, weight, bias, "relu"), (1, 3)) == {got.tobytes()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_the_mean_of_a_map_is_that_of_its_elements(dtype):
    x = np.random.default_rng(1).uniform(0, 200, (2, 5, 13, 9)).astype(dtype)
    want = x.astype(np.float64).mean(axis=(2, 3), keepdims=True)
    for got in (global_avg_pool2d(x), adaptive_avg_pool2d(x, 1)):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert global_avg_pool2d(x[0, :, :1, :1]).shape == (5, 1, 1)


def test_sigmoid_silu_and_softmax_are_right_in_the_last_bits_everywhere():
    x = np.linspace(-80, 80, 100_001).astype(np.float32)
    wide = x.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-wide))
    np.testing.assert_allclose(activate(x, "sigmoid"), sigmoid, rtol=4e-7)
    np.testing.assert_allclose(activate(x, "silu"), wide * sigmoid, rtol=4e-7, atol=1e-40)
    powers = np.exp(wide - wide.max())
    np.testing.assert_allclose(softmax(x, 0), powers / powers.sum(), rtol=1e-5, atol=1e-40)


def test_exponentials_at_the_ends_of_the_scale():
    x = np.array([np.inf, -np.inf, np.nan, 100, -100, 3e38, -3e38, 0.0], np.float32)
    got = activate(x, "sigmoid")
    np.testing.assert_array_equal(got, np.array([1, 0, np.nan, 1, 0, 1, 0, 0.5], np.float32))
