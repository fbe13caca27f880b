"""Gates and the 1×1 convolution behind them, in one step."""

import numpy as np
import pytest

from imgconv.compute.gating import LEAST_AREA, gated_conv2d
from imgconv.errors import ShapeError
from imgconv.networks import layers
from imgconv.networks.fusion import fuse
from imgconv.networks.graph import Graph, Node
from imgconv.networks.weights import draw_weights


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_numpy(x, gates, weight, bias):
    """In float64, and how far float32 may be from it."""
    gated = x.astype(np.float64) * gates
    result = np.einsum("mc,nchw->nmhw", weight[:, :, 0, 0], gated) + bias[:, None, None]
    size = np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(gated).max()
    return result, 1e-5 * size


@pytest.mark.parametrize("gate_first", [False, True])
@pytest.mark.parametrize(
    ("count", "channels", "maps", "side"),
    [(1, 16, 8, 12), (3, 40, 24, 17), (2, 9, 5, 56), (2, 32, 16, 7), (2, 4, 8, 20), (1, 16, 3, 20)],
)
def test_it_is_the_product_convolved(count, channels, maps, side, gate_first):
    x, gates = drawn(count, channels, side, side), drawn(count, channels, 1, 1, seed=1)
    weight, bias = drawn(maps, channels, 1, 1, seed=2), drawn(maps, seed=3)
    pair = (gates, x) if gate_first else (x, gates)
    expected, bound = by_numpy(x, gates, weight, bias)
    np.testing.assert_allclose(gated_conv2d(*pair, weight, bias), expected, rtol=0, atol=bound)
    rectified = gated_conv2d(*pair, weight, bias, "relu")
    np.testing.assert_allclose(rectified, np.maximum(expected, 0), rtol=0, atol=bound)


@pytest.mark.parametrize("side", [7, 14, 28])
def test_an_image_is_computed_alike_in_every_batch(side):
    x, gates = drawn(9, 48, side, side), drawn(9, 48, 1, 1, seed=1)
    weight, bias = drawn(24, 48, 1, 1, seed=2), drawn(24, seed=3)
    whole = gated_conv2d(x, gates, weight, bias)
    for n in range(9):
        alone = gated_conv2d(x[n : n + 1], gates[n : n + 1], weight, bias)
        np.testing.assert_array_equal(alone[0], whole[n])


def test_other_shapes_and_types_are_numpys_to_broadcast():
    side = int(LEAST_AREA**0.5)
    weight = drawn(8, 16, 1, 1)
    for x, gates in (
        (drawn(2, 16, side, side), drawn(1, 16, 1, 1, seed=1)),
        (drawn(2, 16, side, side), drawn(2, 16, side, side, seed=1)),
        (drawn(2, 16, side, side), drawn(2, 1, side, side, seed=1)),
        (drawn(2, 16, side, 2 * side)[..., ::2], drawn(2, 16, 1, 1, seed=1)),
    ):
        expected, bound = by_numpy(x, gates, weight, np.zeros(8))
        np.testing.assert_allclose(gated_conv2d(x, gates, weight), expected, rtol=0, atol=bound)
    wide = gated_conv2d(x.astype(np.float64), gates.astype(np.float64), weight)
    assert wide.dtype == np.float64
    with pytest.raises(ShapeError):
        gated_conv2d(drawn(1, 8, side, side), drawn(1, 8, 1, 1), weight)


def gated(conv, *, mul=None, outputs=("y",)):
    nodes = [
        Node("mean", layers.AdaptiveAvgPool2d(1), ("x",)),
        Node("gate", layers.Activation("sigmoid"), ("mean",)),
        Node("mul", mul or layers.Mul(), ("gate", "x")),
        Node("y", conv, ("mul",)),
    ]
    return draw_weights(Graph({"x": (2, 16, 14, 14)}, nodes, outputs), 1)


def kinds(graph):
    return [node.layer.kind for node in graph.nodes]


def test_a_gate_is_joined_with_the_convolution_behind_it():
    graph = gated(layers.Conv2d(16, 8, 1, activation="silu"))
    fused = fuse(graph)
    assert kinds(fused) == ["AdaptiveAvgPool2d", "sigmoid", "GatedConv2d"]
    assert fused.shapes() == {k: v for k, v in graph.shapes().items() if k != "mul"}
    x = drawn(2, 16, 14, 14)
    np.testing.assert_allclose(fused.run(x)["y"], graph.run(x)["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "graph",
    [
        gated(layers.Conv2d(16, 8, 3)), gated(layers.Conv2d(16, 8, 1, stride=2)),
        gated(layers.Conv2d(16, 8, 1, padding=1)), gated(layers.Conv2d(16, 8, 1, groups=2)),
        gated(layers.Conv2d(16, 8, 1), mul=layers.Mul("relu")),
        gated(layers.Conv2d(16, 8, 1), outputs=("y", "mul")),
    ],
)  # fmt: skip
def test_other_convolutions_and_wanted_products_stay(graph):
    assert "GatedConv2d" not in kinds(fuse(graph))
