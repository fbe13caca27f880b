"""Chains of layers: the same numbers as the layers one by one."""

import numpy as np
import pytest
from skimage import data

from imgconv.bank import get_kernel
from imgconv.compute.filtering import filter_image
from imgconv.compute.pooling import max_pool2d
from imgconv.errors import KernelError, UsageError
from imgconv.networks.chain import parse_chain, trace


def result(text, pixels):
    return list(trace(pixels, parse_chain(text)))[-1][1]


def test_a_chain_is_its_layers_one_by_one():
    photo = data.astronaut()[:64, :80]
    got = result("gray | conv gaussian:sigma=1 | conv sobel | relu | maxpool 2", photo)
    luma = np.rint(photo @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
    soft = filter_image(luma, get_kernel("gaussian:sigma=1").effective_weights())[0]
    edges = filter_image(soft, get_kernel("sobel").effective_weights(), combine="magnitude")[0]
    expected = max_pool2d(np.ascontiguousarray(edges.transpose(2, 0, 1)), 2).transpose(1, 2, 0)
    np.testing.assert_array_equal(got, expected)


def test_stride_padding_and_quoted_matrices_reach_the_layer():
    grid = np.arange(25, dtype=np.float32).reshape(5, 5, 1)
    got = result("conv '0 0 0; 0 1 0; 0 0 0' stride=2 padding=valid", grid)
    np.testing.assert_array_equal(got, grid[1:4:2, 1:4:2])


def test_several_filters_become_channels():
    assert result("conv haar stride=2 padding=valid", np.zeros((8, 8, 1), np.uint8)).shape == (
        4,
        4,
        4,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gray |",
        "foo",
        "conv",
        "conv sobel foo=1",
        "conv sobel stride=x",
        "maxpool x",
        "relu6 7",
    ],
)
def test_a_bad_step_is_named(text):
    with pytest.raises(UsageError):
        result(text, np.zeros((4, 4, 1), np.float32))


def test_an_unknown_kernel_in_a_chain_gets_a_suggestion():
    with pytest.raises(KernelError, match="did you mean"):
        parse_chain("conv sobl")
