"""A residual block's sum as a part of the convolution before it."""

import numpy as np
import pytest

from imgconv.errors import ShapeError
from imgconv.jit.parallel import set_num_threads
from imgconv.nn import layers
from imgconv.nn.fusion import fuse
from imgconv.nn.graph import Graph, Node
from imgconv.nn.weights import draw_weights
from imgconv.ops.conv import conv2d


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize(
    ("count", "channels", "maps", "side", "kernel", "options"),
    [
        (1, 64, 256, 56, 1, {}), (3, 32, 48, 7, 1, {}), (9, 24, 20, 14, 1, {}),
        (2, 16, 16, 28, 3, {"padding": 1}), (2, 16, 16, 1, 1, {}), (1, 3, 5, 9, 1, {}),
        (2, 300, 12, 16, 1, {}), (2, 40, 130, 30, 1, {}),
        (2, 8, 4, 33, 1, {}), (2, 16, 8, 9, 1, {"padding": 1, "stride": 2}),
        (2, 16, 16, 9, 1, {"groups": 4}),
    ],
)  # fmt: skip
def test_the_bits_are_those_of_two_steps(count, channels, maps, side, kernel, options, activation):
    x = drawn(count, channels, side, side)
    weight = drawn(maps, channels // options.get("groups", 1), kernel, kernel, seed=1)
    bias = drawn(maps, seed=2)
    sums = conv2d(x, weight, bias, **options)
    residual = drawn(*sums.shape, seed=3)
    residual[0, 0, 0, 0] = np.nan
    expected = sums + residual
    if activation == "relu":
        expected = np.where(expected < 0, np.float32(0), expected)
    got = conv2d(x, weight, bias, **options, activation=activation, residual=residual)
    again = conv2d(x, weight, bias, **options, activation=activation, residual=residual)
    np.testing.assert_array_equal(got, again)
    if activation == "silu":
        expected = expected.astype(np.float64) / (1 + np.exp(-expected.astype(np.float64)))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(got, expected)


def test_threads_and_the_batch_change_no_bit():
    x, weight, residual = drawn(5, 32, 19, 19), drawn(24, 32, 1, 1, seed=1), drawn(5, 24, 19, 19)
    whole = conv2d(x, weight, residual=residual, activation="relu")
    try:
        for count in (1, 3):
            set_num_threads(count)
            for n in range(5):
                one = slice(n, n + 1)
                alone = conv2d(x[one], weight, residual=residual[one], activation="relu")
                np.testing.assert_array_equal(alone, whole[one])
    finally:
        set_num_threads(0)


def test_other_residuals_are_numpys_to_broadcast():
    x, weight = drawn(2, 16, 9, 9), drawn(8, 16, 1, 1, seed=1)
    sums = conv2d(x, weight)
    for residual in (
        drawn(8, 1, 1), drawn(2, 8, 9, 18)[..., ::2], drawn(2, 8, 9, 9).astype(np.float64)
    ):  # fmt: skip
        got = conv2d(x, weight, residual=residual)
        np.testing.assert_array_equal(got, sums + residual)


def block(conv, *, shortcut=None, outputs=("sum",)):
    nodes = [
        Node("relu", layers.Activation("relu"), ("x",)),
        *([Node("short", shortcut, ("relu",))] if shortcut else []),
        Node("conv", conv, ("relu",)),
        Node("add", layers.Add(), ("short" if shortcut else "x", "conv")),
        Node("sum", layers.Activation("relu"), ("add",)),
    ]
    return draw_weights(Graph({"x": (2, 16, 10, 10)}, nodes, outputs), 1)


def kinds(graph):
    return [node.layer.kind for node in graph.nodes]


@pytest.mark.parametrize("shortcut", [None, layers.Conv2d(16, 16, 1)])
def test_a_sum_joins_the_convolution_before_it(shortcut):
    graph = block(layers.Conv2d(16, 16, 1), shortcut=shortcut)
    fused = fuse(graph)
    before = ["relu", "Conv2d"] if shortcut else ["relu"]
    assert kinds(fused) == [*before, "ResidualConv2d"]
    assert fused.shapes()["sum"] == (2, 16, 10, 10)
    x = drawn(2, 16, 10, 10)
    np.testing.assert_array_equal(fused.run(x)["sum"], graph.run(x)["sum"])


@pytest.mark.parametrize(
    "graph",
    [
        block(layers.Conv2d(16, 16, 3, padding=1)), block(layers.Conv2d(16, 16, 1, groups=2)),
        block(layers.Conv2d(16, 16, 1, activation="silu")),
        block(layers.Conv2d(16, 16, 1), outputs=("sum", "conv")),
    ],
)  # fmt: skip
def test_other_convolutions_and_wanted_maps_stay(graph):
    assert "ResidualConv2d" not in kinds(fuse(graph))


def test_what_does_not_fit_is_named():
    layer = layers.ResidualConv2d(16, 8, 1)
    with pytest.raises(ShapeError, match="ResidualConv2d"):
        layer.output_shape((1, 16, 9, 9), (1, 8, 3, 3))
