"""The graph: what it refuses, the order of its walk, what it keeps, and its shapes."""

import weakref

import numpy as np
import pytest

from imgconv.errors import ModelError, ShapeError
from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers import (
    Activation,
    Add,
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
)

IMAGE = {"x": (1, 3, 8, 8)}
RELU = Activation("relu")


def conv(channels, out):
    return Conv2d(channels, out, 3, padding=1)


def residual():
    return Graph(
        IMAGE,
        [
            Node("conv", conv(3, 4), ("x",)),
            Node("side", conv(3, 4), ("x",)),
            Node("sum", Add(), ("conv", "side")),
            Node("both", Concat(), ("sum", "conv")),
            Node("pool", MaxPool2d(2), ("both",)),
            Node("flat", Flatten(), ("pool",)),
            Node("fc", Linear(128, 10), ("flat",)),
        ],
        ["fc"],
    )


def filled(graph, seed=0):
    draw = np.random.default_rng(seed)
    return graph.with_parameters(
        {name: draw.normal(size=p.shape).astype(np.float32) for name, p in
         graph.parameters().items()}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        ([Node("a", RELU, ("y",))], ["a"], "a: reads 'y'"),
        ([Node("a", RELU, ("b",)), Node("b", RELU, ("a",))], ["a"], "cycle"),
        ([Node("a", RELU, ("x",)), Node("a", RELU, ("x",))], ["a"], "'a' is made twice"),
        ([Node("x", RELU, ("x",))], ["x"], "'x' is made twice"),
        ([Node("a", RELU, ("x",))], ["b"], "output 'b'"),
    ],
)
def test_a_graph_that_is_none_is_refused(nodes, outputs, message):
    with pytest.raises(ModelError, match=message):
        Graph(IMAGE, nodes, outputs)


def test_nodes_are_sorted_and_otherwise_left_in_their_order():
    nodes = [Node("c", RELU, ("b",)), Node("a", RELU, ("x",)), Node("b", RELU, ("a",))]
    assert [node.name for node in Graph(IMAGE, nodes, ["c"]).nodes] == ["a", "b", "c"]


def test_inferred_shapes_are_those_of_the_computed_maps():
    graph = filled(residual())
    shapes = graph.shapes({"x": (2, 3, 8, 8)})
    traced = dict(graph.trace(np.ones((2, 3, 8, 8), np.float32)))
    assert list(traced) == graph.values
    assert {name: maps.shape for name, maps in traced.items()} == {
        name: shape for name, shape in shapes.items() if name != "x"
    }


def test_a_shape_that_does_not_fit_names_its_node():
    with pytest.raises(ShapeError, match=r"fc: Linear: input \(1, 200\), expected \(…, 128\)"):
        residual().shapes({"x": (1, 3, 10, 10)})


def test_parameters_are_listed_by_full_name_and_statistics_told_apart():
    graph = Graph(IMAGE, [Node("layer1.0.bn1", BatchNorm2d(3), ("x",))], ["layer1.0.bn1"])
    listed = graph.parameters()
    assert list(listed) == [
        f"layer1.0.bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var")
    ]
    assert [p.buffer for p in listed.values()] == [False, False, True, True]


def test_only_what_the_wanted_values_need_is_computed():
    calls = []

    class Spy(Layer):
        def forward(self, *inputs):
            calls.append(1)
            return inputs[0]

    graph = Graph(IMAGE, [Node(n, Spy(), ("x",)) for n in "abc"], ["a"])
    assert [name for name, _ in graph.trace(np.zeros((1, 3, 8, 8)), ["b", "x"])] == ["x", "b"]
    assert len(calls) == 1
    with pytest.raises(ModelError, match="'nothing': no such value"):
        next(graph.trace(np.zeros((1, 3, 8, 8)), ["nothing"]))


def test_maps_that_nobody_needs_any_more_are_freed():
    chain = [Node(f"n{i}", Add(), (f"n{i - 1}" if i else "x",) * 2) for i in range(6)]
    graph = Graph(IMAGE, chain, ["n5"])
    seen, alive = [], []
    for _, maps in graph.trace(np.ones((1, 3, 8, 8), np.float32)):
        seen.append(weakref.ref(maps))
        del maps  # reference counts free them: no circle keeps maps alive
        alive.append(sum(reference() is not None for reference in seen))
    assert max(alive) <= 2


def test_a_node_may_make_several_values():
    class Halves(Layer):
        def output_shapes(self, *shapes):
            n, c, h, w = shapes[0]
            return ((n, c // 2, h, w),) * 2

        def run(self, *inputs):
            return tuple(np.split(inputs[0], 2, axis=1))

    graph = Graph(
        {"x": (1, 4, 2, 2)},
        [Node("split", Halves(), ("x",), ("low", "high")), Node("out", RELU, ("high",))],
        ["out", "low"],
    )
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
    result = graph.run(x)
    np.testing.assert_array_equal(result["out"], x[:, 2:])
    np.testing.assert_array_equal(result["low"], x[:, :2])
    assert graph.shapes()["out"] == (1, 2, 2, 2)


def test_inputs_are_asked_for_by_name():
    graph = Graph(IMAGE | {"y": (1, 3, 8, 8)}, [Node("s", Add(), ("x", "y"))], ["s"])
    x = np.ones((1, 3, 8, 8))
    np.testing.assert_array_equal(graph.run({"x": x, "y": 2 * x})["s"], 3 * x)
    with pytest.raises(ModelError, match="one array for 2 inputs, expected x, y"):
        graph.run(x)
    with pytest.raises(ModelError, match="input 'y' is missing, got x"):
        graph.run({"x": x})


def test_a_network_without_weights_says_so():
    with pytest.raises(ModelError, match="conv: Conv2d: no weights are loaded"):
        residual().run(np.zeros((1, 3, 8, 8), np.float32))
