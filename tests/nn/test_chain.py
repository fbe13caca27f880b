"""Chains of layers: the same numbers as the layers one by one."""

import numpy as np
import pytest
from skimage import data

from imgconv.errors import KernelError, UsageError
from imgconv.kernels import get_kernel
from imgconv.nn.chain import parse_chain, trace
from imgconv.nn.steps import parse_step
from imgconv.ops.filter import filter_image
from imgconv.ops.pool import adaptive_avg_pool2d, max_pool2d


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
    ("text", "says"),
    [
        ("", "step 1 is empty"),
        ("gray |", "step 2 is empty"),
        ("gray foo", "'foo', expected gray alone"),
        ("foo", "'foo', expected one of gray, conv"),
        ("conv", "expected conv KERNEL"),
        ("conv sobel foo=1", "'foo=1', expected stride="),
        ("conv sobel stride=x", "stride='x', expected one whole number or a pair N,N"),
        ("conv sobel stride=1,2,3", "stride='1,2,3', expected one whole number or a pair N,N"),
        ("conv sobel dilation=2x2", "dilation='2x2', expected one whole number or a pair N,N"),
        ("conv sobel stride=", "stride='', expected"),
        ("conv sobel stride=2 stride=3", "stride= twice"),
        ("conv sobel padding=1,2,3", "padding='1,2,3', expected one whole number"),
        ("conv sobel padding=equal", "same, valid or full"),
        ("conv sobel flip=yes", "flip='yes', expected true or false"),
        ("conv sobel combine=foo", "combine='foo'"),
        ("maxpool x", "size='x', expected one whole number or a pair N,N"),
        ("maxpool 3 2", "'2', expected stride=2, or a size N,N"),
        ("maxpool 3,5,7", "size='3,5,7', expected one whole number or a pair N,N"),
        ("maxpool 2 padding=2", "padding=2 with kernel_size=2, expected at most 1"),
        ("relu6 7", "'7', expected no parameters"),
        ("elu alpha=0.5,2", "alpha=0.5,2, expected one value"),
        ("elu 0.5,2", "'2', expected alpha"),
        ("elu 0.5,alpha=2", "alpha= twice"),
        ("lrn 5,6", "size='5,6', expected a whole number"),
        ("lrn 5 alpha=1,2", "alpha='1,2', expected a number"),
        ("lrn 5 size=3", "size= twice"),
    ],
)
def test_a_bad_step_is_named(text, says):
    with pytest.raises(UsageError) as caught:
        parse_chain(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv2d 4 3 bias=no", "bias='no', expected true or false"),
        ("conv2d 4 3,5,7", "kernel_size='3,5,7', expected one whole number or a pair N,N"),
        ("conv2d 4 3 groups=1,1", "groups='1,1', expected a whole number"),
        ("conv2d 4 3 kernel_size=5", "kernel_size= twice"),
        ("conv2d 4 3 padding_mode=foo", "padding mode 'foo'"),
        ("conv2d 4 3 activation=foo", "activation 'foo'"),
        ("conv-transpose 4 3 padding=same", "padding='same', expected one whole number"),
        ("linear 10,20", "out_features='10,20', expected a whole number"),
        ("batchnorm eps=x", "eps='x', expected a number"),
    ],
)
def test_a_bad_layer_with_weights_is_named(text, says):
    with pytest.raises(UsageError) as caught:
        parse_step(text, 1)
    assert says in str(caught.value)


def test_two_numbers_are_a_pair_in_every_step():
    x = np.random.default_rng(4).normal(size=(9, 8, 2)).astype(np.float32)
    planes = np.ascontiguousarray(x.transpose(2, 0, 1))
    for text, expected in (
        ("maxpool 3,2 stride=2,1 padding=1,0", max_pool2d(planes, (3, 2), (2, 1), (1, 0))),
        ("adaptive-avgpool 3,4", adaptive_avg_pool2d(planes, (3, 4))),
    ):
        np.testing.assert_array_equal(result(text, x), expected.transpose(1, 2, 0))
    assert parse_step("conv2d 4 3,5 padding=1,2", 1).make((1, 3, 9, 8)).output_shape(
        (1, 3, 9, 8)
    ) == (1, 4, 9, 8)


def test_an_unknown_kernel_in_a_chain_gets_a_suggestion():
    with pytest.raises(KernelError, match="did you mean"):
        parse_chain("conv sobl")
