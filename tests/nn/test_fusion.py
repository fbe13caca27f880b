"""Constants of channels, as files from Caffe have them, become a part of the layer before."""

from dataclasses import replace

import numpy as np
import pytest

from imgconv.nn import layers
from imgconv.nn.fusion import fuse
from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers.functions import Joined
from imgconv.nn.layers.wrappers import Bound
from imgconv.nn.weights import draw_weights

X = np.random.default_rng(0).normal(size=(2, 4, 9, 9)).astype(np.float32)


def constant(layer, *shape, place=1, dtype=np.float32):
    array = np.random.default_rng(len(shape)).uniform(0.5, 2, shape).astype(dtype)
    return Bound(layer, {place: shape}, parameters={f"input{place}": array})


def chained(*given, outputs=None):
    names = ["x", *map(str, range(len(given)))]
    nodes = [Node(names[i + 1], layer, (names[i],)) for i, layer in enumerate(given)]
    drawn = draw_weights(Graph({"x": X.shape}, nodes, outputs or names[-1:]), 1)
    kept = [
        node if not isinstance(layer, Bound) else Node(node.name, layer, node.inputs)
        for node, layer in zip(drawn.nodes, given, strict=True)
    ]
    return drawn.with_nodes(kept)


def kinds(graph):
    return [node.layer.kind for node in graph.nodes]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("leading", [(), (1,)])
def test_a_scale_and_a_shift_join_a_convolution(bias, leading):
    graph = chained(
        layers.Conv2d(4, 8, 3, bias=bias), layers.BatchNorm2d(8),
        constant(layers.Mul(), *leading, 8, 1, 1),
        constant(layers.Add(), *leading, 8, 1, 1, place=0), layers.Activation("relu"),
    )  # fmt: skip
    fused = fuse(graph)
    assert kinds(fused) == ["Conv2d"]
    np.testing.assert_allclose(fused.run(X)["4"], graph.run(X)["4"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_they_join_a_fully_connected_layer(bias):
    graph = chained(
        layers.Linear(X.shape[-1], 6, bias), constant(layers.Add(), 6),
        constant(layers.Mul(), 1, 6, place=0), layers.Activation("gelu"),
    )  # fmt: skip
    fused = fuse(graph)
    assert kinds(fused) == ["Linear"]
    np.testing.assert_allclose(fused.run(X)["3"], graph.run(X)["3"], rtol=1e-5, atol=1e-5)


def test_they_join_a_batch_norm():
    graph = chained(
        layers.MaxPool2d(2), layers.BatchNorm2d(4), constant(layers.Mul(), 4, 1, 1),
        constant(layers.Add(), 4, 1, 1), layers.Activation("relu"),
    )  # fmt: skip
    fused = fuse(graph)
    assert kinds(fused) == ["MaxPool2d", "BatchNorm2d"]
    np.testing.assert_allclose(fused.run(X)["4"], graph.run(X)["4"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "graph",
    [
        chained(layers.Conv2d(4, 8, 3), constant(layers.Mul(), 8, 7, 7)),
        chained(layers.Conv2d(4, 8, 3), constant(layers.Mul(), 7)),
        chained(layers.Conv2d(4, 8, 3), constant(layers.Mul(), 2, 8, 1, 1)),
        chained(layers.Conv2d(4, 8, 3), constant(layers.Mul(), 8, 1, 1, dtype=np.float64)),
        chained(layers.Conv2d(4, 8, 3, activation="relu"), constant(layers.Mul(), 8, 1, 1)),
        chained(layers.Conv2d(4, 8, 3), constant(layers.Mul(), 8, 1, 1), outputs=("1", "0")),
        chained(layers.MaxPool2d(2), constant(layers.Add(), 4, 1, 1)),
    ],
)
def test_other_constants_stay(graph):
    assert kinds(fuse(graph)) == kinds(graph)
    for name, expected in graph.run(X).items():
        np.testing.assert_array_equal(fuse(graph).run(X)[name], expected)


def gelu(half_first, root, one=1.0, half=0.5):
    """GELU as files write it, by a division or a product with the root, behind a convolution."""

    def number(layer, value):
        return Bound(layer, {1: ()}, parameters={"input1": np.float32(value).reshape(())})

    by_root = (
        number(Joined(name="Div", function=np.divide, join="div"), np.sqrt(2)) if root == "div"
        else number(layers.Mul(), np.sqrt(0.5))
    )  # fmt: skip
    nodes = [
        Node("c", layers.Conv2d(4, 8, 3), ("x",)),
        Node("r", by_root, ("c",)),
        Node("e", layers.Activation("erf"), ("r",)),
        Node("p", number(layers.Add(), one), ("e",)),
        *([Node("h", number(layers.Mul(), half), ("c",)), Node("y", layers.Mul(), ("h", "p"))]
          if half_first else
          [Node("m", layers.Mul(), ("c", "p")), Node("y", number(layers.Mul(), half), ("m",))]),
    ]  # fmt: skip
    graph = Graph({"x": X.shape}, nodes, ["y"])
    drawn = draw_weights(graph, 1)
    return drawn.with_nodes([
        replace(node, layer=old.layer) if isinstance(old.layer, Bound) else node
        for node, old in zip(drawn.nodes, nodes, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("half_first", [False, True])
@pytest.mark.parametrize("root", ["div", "mul"])
def test_gelu_in_parts_is_one_activation(half_first, root):
    graph = gelu(half_first, root)
    fused = fuse(graph)
    assert kinds(fused) == ["Conv2d"]
    assert fused.nodes[0].layer.activation == "gelu"
    np.testing.assert_allclose(fused.run(X)["y"], graph.run(X)["y"], rtol=0, atol=2e-6)
    assert "erf" in kinds(fuse(graph, ["p"]))  # a value that is wanted stays


@pytest.mark.parametrize("changed", [{"one": 2.0}, {"half": 0.25}])
def test_what_is_like_gelu_stays_what_it_is(changed):
    graph = gelu(False, "div", **changed)
    fused = fuse(graph)
    assert "erf" in kinds(fused)
    np.testing.assert_allclose(fused.run(X)["y"], graph.run(X)["y"], rtol=0, atol=2e-6)
