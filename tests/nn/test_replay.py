"""Networks played back give the bits of the walk from layer to layer."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv.errors import ModelError, ShapeError
from imgconv.jit.parallel import set_num_threads
from imgconv.nn import layers, recording
from imgconv.nn.fusion import FusedGraph
from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers.tensors import Reshape, Slice, Split, Transpose
from imgconv.nn.models import get_network
from imgconv.nn.playback import Call
from imgconv.nn.recording import _Block, place
from imgconv.nn.replay import Replayed
from imgconv.nn.weights import draw_weights

SIZES = {
    "lenet5": (1, 32), "resnet18": (3, 64), "googlenet": (3, 64), "efficientnet_b0": (3, 64),
    "resnet50": (3, 48),
}  # fmt: skip


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def walked(graph, x):
    return Graph(graph.inputs, graph.nodes, graph.outputs).run(x)


def played(graph):
    """Whether the last run was played back."""
    return bool(graph._idle and graph._idle[1])


def same(got, expected):
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


@pytest.fixture
def threads():
    yield set_num_threads
    set_num_threads(0)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", SIZES)
def test_a_network_is_played_back_with_the_bits_of_the_walk(name, count, threads):
    threads(count)
    channels, side = SIZES[name]
    fused = FusedGraph(draw_weights(get_network(name).graph, 1))
    for batch in (1, 4):
        graph = fused.at((batch, channels, side, side))
        for seed in range(3):
            x = drawn(batch, channels, side, side, seed=seed)
            same(graph.run(x), walked(graph, x))
        assert played(graph)


def test_results_are_memory_of_their_own():
    graph = FusedGraph(draw_weights(get_network("lenet5").graph, 1)).at((2, 1, 32, 32))
    first = graph.run(drawn(2, 1, 32, 32, seed=1))
    kept = {name: array.copy() for name, array in first.items()}
    graph.run(drawn(2, 1, 32, 32, seed=2))
    same(first, kept)


def test_shapes_and_threads_may_change_between_runs(threads):
    fused = FusedGraph(draw_weights(get_network("resnet18").graph, 1))
    for side, count in ((32, 1), (64, 2), (32, 2), (40, 3), (40, 1)):
        threads(count)
        x = drawn(1, 3, side, side)
        graph = fused.at(x.shape)
        same(graph.run(x), walked(graph, x))
        assert played(graph)


@pytest.mark.parametrize(
    "x",
    [
        drawn(2, 4, 9, 18)[..., ::2], drawn(2, 9, 9, 4).transpose(0, 3, 1, 2),
        drawn(2, 4, 9, 9).astype(np.float64), np.ones((2, 4, 9, 9), np.uint8),
    ],
)  # fmt: skip
def test_an_input_that_does_not_lie_as_recorded_is_walked(x):
    graph = chained(CONV, layers.Activation("relu"), layers.MaxPool2d(2), layers.Conv2d(8, 4, 3))
    graph.run(drawn(2, 4, 9, 9))
    same(graph.run(x), walked(graph, x))


def test_wanted_values_are_those_of_the_walk_in_its_order(monkeypatch):
    network = draw_weights(get_network("efficientnet_b0").graph, 1)
    wanted = ("avgpool", *network.values[3:90:20])
    x = drawn(2, 3, 64, 64)
    graph = FusedGraph(network, wanted).at(x.shape)
    expected = dict(Graph(graph.inputs, graph.nodes, graph.outputs).trace(x, wanted))
    for _ in range(2):
        same(dict(graph.trace(x, wanted)), expected)
        assert played(graph)
    same(graph.run(x), walked(graph, x))
    monkeypatch.setattr(recording, "HELD", 1000)
    same(dict(graph.trace(x, wanted)), expected)
    assert not played(graph)


def test_a_wanted_input_and_an_unknown_value():
    graph = chained(CONV)
    x = drawn(2, 4, 9, 9)
    for wanted in (("x", "0"), ("x",)):
        expected = dict(Graph(graph.inputs, graph.nodes, graph.outputs).trace(x, wanted))
        same(dict(graph.trace(x, wanted)), expected)
    assert list(graph.trace(x, ())) == []
    with pytest.raises(ModelError, match="nowhere"):
        dict(graph.trace(x, ("nowhere",)))


def test_threads_of_the_caller_share_a_graph():
    graph = FusedGraph(draw_weights(get_network("lenet5").graph, 1)).at((4, 1, 32, 32))
    inputs = [drawn(4, 1, 32, 32, seed=seed) for seed in range(4)]
    expected = [walked(graph, x) for x in inputs]
    failures = []

    def work(number):
        try:
            for _ in range(50):
                same(graph.run(inputs[number]), expected[number])
        except AssertionError as error:
            failures.append(error)

    callers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def chained(*given, outputs=None, shape=(2, 4, 9, 9)):
    """A graph of layers one after the other."""
    nodes, before = [], "x"
    for number, layer in enumerate(given):
        inputs = (before,) if not isinstance(layer, tuple) else layer[1:]
        layer = layer[0] if isinstance(layer, tuple) else layer
        parts = ("1", "1b") if isinstance(layer, Split) else ()
        nodes.append(Node(str(number), layer, inputs, parts))
        before = str(number)
    graph = draw_weights(Graph({"x": shape}, nodes, outputs or (before,)), 3)
    return Replayed(graph.inputs, graph.nodes, graph.outputs)


CONV = layers.Conv2d(4, 8, 3, padding=1)
GRAPHS = {
    "views as outputs": chained(CONV, layers.Flatten(), outputs=("0", "1")),
    "a view in the middle": chained(
        CONV, layers.Flatten(), layers.Linear(648, 5), (layers.Activation("relu"), "0")
    ),
    "branches": chained(
        CONV, (layers.MaxPool2d(3, 1, 1), "0"), (layers.Activation("silu"), "0"),
        (layers.Concat(), "0", "1", "2"), layers.AvgPool2d(2), layers.LocalResponseNorm(3),
        outputs=("5", "3"),
    ),
    "large kernels": chained(
        layers.Conv2d(19, 19, 7, padding=3, groups=19, activation="silu"),
        layers.Conv2d(19, 19, (3, 9), (2, 1), (1, 4), groups=19, padding_mode="reflect"),
        shape=(2, 19, 9, 10),
    ),
    "three summands": chained(CONV, (layers.Add(), "0", "0", "0"), outputs=("1", "0")),
    "numbers that are repeated": chained(
        CONV, layers.AdaptiveMaxPool2d((1, 9)), (layers.Add(), "0", "1"), layers.MaxPool2d(3),
        outputs=("2", "3"),
    ),
    "rows joined": chained(CONV, (layers.Concat(2), "0", "0"), (layers.Concat(-1), "1", "1")),
    "gates": chained(
        CONV, layers.AdaptiveAvgPool2d(1), layers.Activation("sigmoid"), (layers.Mul(), "0", "2"),
        (layers.Add("relu"), "0", "3"), layers.AdaptiveMaxPool2d(2), layers.Flatten(),
        layers.Softmax(),
    ),
}  # fmt: skip
GRAPHS["maps shuffled"] = chained(
    CONV, Reshape((2, 2, 4, 9, 9)), Transpose((0, 2, 1, 3, 4)), Reshape((2, 8, 9, 9)),
    layers.AvgPool2d(3, 1),
)  # fmt: skip
# Layers that loops do not compute, between others that they do.
CALLED = {
    "pixels moved": chained(CONV, Transpose((0, 3, 2, 1)), layers.Activation("silu")),
    "another layer": chained(CONV, layers.InstanceNorm2d(8), layers.Conv2d(8, 8, 1)),
    "a view of maps in the programs' memory, read late": chained(
        CONV, Slice(((None, None, 1), (1, None, 2), (None, None, 1), (None, None, 1))),
        (layers.Conv2d(8, 8, 3), "0"), layers.Conv2d(8, 8, 3), layers.Conv2d(8, 8, 3),
        layers.InstanceNorm2d(8), (layers.Conv2d(4, 5, 1), "1"), outputs=("6", "5", "1"),
    ),
    "called one after the other": chained(
        layers.InstanceNorm2d(4), Slice(((None, None, 1),) * 3 + ((None, None, -1),)),
        layers.InstanceNorm2d(4), CONV, layers.InstanceNorm2d(8), outputs=("1", "4"),
    ),
    "parts in place": chained(
        CONV, Split((3, 5), 1), (layers.Conv2d(3, 4, 1), "1"), shape=(1, 4, 9, 9),
    ),
}  # fmt: skip
WALKED = {
    "nothing compiled": chained(layers.InstanceNorm2d(4)),
    "the input as output": chained(layers.Flatten(), outputs=("0",)),
}


@pytest.mark.parametrize("name", [*GRAPHS, *CALLED])
def test_a_graph_is_played_back(name, threads):
    graph = (GRAPHS | CALLED)[name]
    for count in (1, 2):
        threads(count)
        for seed in range(3):
            x = drawn(*graph.inputs["x"], seed=seed)
            same(graph.run(x), walked(graph, x))
        assert played(graph)
        calls = [part for part in graph._idle[1][0].parts if isinstance(part, Call)]
        assert bool(calls) == (name in CALLED)


def test_what_a_call_made_is_kept_as_long_as_it_is_read():
    graph = CALLED["a view of maps in the programs' memory, read late"]
    first = graph.run(drawn(2, 4, 9, 9, seed=1))
    kept = {name: array.copy() for name, array in first.items()}
    graph.run(drawn(2, 4, 9, 9, seed=2))
    same(first, kept)


@pytest.mark.parametrize("name", WALKED)
def test_a_graph_that_loops_alone_do_not_compute_is_walked(name):
    for seed in range(2):
        x = drawn(2, 4, 9, 9, seed=seed)
        same(WALKED[name].run(x), walked(WALKED[name], x))
    assert not played(WALKED[name])


EARLY = {
    "a residual block": chained(
        CONV, layers.Activation("silu"), layers.Conv2d(8, 16, 1), layers.MaxPool2d(3, 2, 1),
        layers.Conv2d(16, 24, 3, padding=1), (layers.Conv2d(16, 24, 1), "3"),
        (layers.ResidualConv2d(24, 24, 1, activation="relu"), "4", "5"),
    ),
    "gates": chained(
        CONV, layers.AdaptiveAvgPool2d(1), layers.Conv2d(8, 8, 1, activation="sigmoid"),
        (layers.Mul(), "0", "2"), (layers.Add(), "3", "0"), layers.BatchNorm2d(8),
    ),
    "branches": chained(
        layers.Identity(), layers.Conv2d(4, 8, 3, 2, 1), (layers.MinPool2d(3, 2, 1), "x"),
        (layers.AvgPool2d(3, 2, 1), "0"), (layers.Concat(), "1", "2", "3"),
        layers.LocalResponseNorm(3), layers.Identity(), layers.AdaptiveMaxPool2d(2),
        (layers.Concat(-2), "7", "7"), (layers.Concat(2), "8", "7"),
    ),
}  # fmt: skip


def tasks(graph):
    """The image of each task, −1 for those of all images."""
    (playback,) = graph._idle[1]
    return playback.parts[0]._tasks["image"].tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", EARLY)
def test_images_are_played_one_by_one_up_to_any_node(name, count, threads, monkeypatch):
    threads(count)
    graph = EARLY[name]
    values = [node.name for node in graph.nodes]
    for batch in (2, 3, 6):
        x = drawn(batch, 4, 9, 11)
        for cut in range(len(values) + 1):
            monkeypatch.setattr(
                recording, "by_image", lambda nodes, *_, cut=cut: min(cut, len(nodes))
            )
            for wanted in (values[-1:], values[:2], values[1::2]):
                graph._idle = None
                expected = dict(Graph(graph.inputs, graph.nodes, graph.outputs).trace(x, wanted))
                if any(array is x for array in expected.values()):
                    continue
                for _ in range(2):
                    same(dict(graph.trace(x, wanted)), expected)
                assert played(graph)
                assert tasks(graph).count(-1) < len(tasks(graph)) or not cut


def test_each_image_is_a_task_while_maps_are_large(threads):
    threads(2)
    wide = chained(layers.Conv2d(4, 32, 3), layers.Conv2d(32, 64, 3), layers.Conv2d(64, 128, 3))
    for graph, cut in ((wide, 2), (EARLY["branches"], 10)):
        shapes = {"x": (4, 4, 9, 9)}
        assert recording.by_image(graph.nodes, "x", shapes["x"]) == cut
        graph.run(drawn(*shapes["x"]))
        assert tasks(graph)[:4] == [0, 1, 2, 3]
        assert (len(tasks(graph)) == 4) == (cut == len(graph.nodes))
    for batch, cut in ((1, 0), (2, 0), (4, 7), (5, 0), (6, 7), (7, 7), (9, 7)):
        nodes = EARLY["a residual block"].nodes
        assert recording.by_image(nodes, "x", (batch, 4, 9, 9)) == cut
    assert recording.by_image(wide.nodes, "x", (4, 4, 16, 16)) == 3
    assert recording.by_image([Node("0", CONV, ("x",))], "x", (4, 9, 9)) == 0
    for layer in (layers.Concat(0), layers.Concat(-4), layers.Flatten(), layers.Softmax()):
        assert recording.by_image([Node("0", layer, ("x",))], "x", (4, 4, 9, 9)) == 0


def test_memory_does_not_grow_with_images_that_are_played_one_by_one(threads):
    threads(2)
    graph = EARLY["a residual block"]
    held = []
    for batch in (4, 16):
        x = drawn(batch, 4, 9, 9)
        same(graph.run(x), walked(graph, x))
        (program,) = graph._idle[1][0].parts
        rooms = [room.size for thread in program._memory.rooms for room in thread.values()]
        held.append((program._memory.block.size, rooms, program._numbers.size))
    assert held[0] == held[1]


def test_an_array_put_in_a_layers_place_is_noticed():
    graph = chained(CONV)
    x = drawn(2, 4, 9, 9)
    graph.run(x)
    arrays = graph.nodes[0].layer.parameters
    arrays["weight"] = arrays["weight"] * np.float32(2)
    same(graph.run(x), walked(graph, x))


def test_what_does_not_fit_is_named_and_the_graph_goes_on():
    graph = chained(CONV, layers.Flatten(), layers.Linear(648, 5))
    with pytest.raises(ShapeError, match=r"^2: "):
        graph.run(drawn(2, 4, 5, 5))
    x = drawn(2, 4, 9, 9)
    same(graph.run(x), walked(graph, x))
    assert played(graph)


def test_copies_of_weights_wait_for_the_second_run():
    graph = chained(layers.Conv2d(64, 64, 3, padding=1), shape=(2, 64, 14, 14))
    x = drawn(2, 64, 14, 14)
    expected = walked(graph, x)
    packs = []
    for _ in range(3):
        same(graph.run(x), expected)
        packs += [playback.packed for playback in graph._idle[1]]
    assert packs == [False, True, True]
    (playback,) = graph._idle[1]
    arrays = graph.nodes[0].layer.parameters
    arrays["weight"] = arrays["weight"] * np.float32(2)
    same(graph.run(x), walked(graph, x))
    assert graph._idle[1] != [playback]


def test_an_interrupted_run_is_not_played_again(monkeypatch):
    graph = chained(CONV)
    x = drawn(2, 4, 9, 9)
    graph.run(x)
    graph.run(x)
    (interrupted,) = graph._idle[1]

    def interrupt(*arrays):
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted.parts[0], "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        graph.run(x)
    same(graph.run(x), walked(graph, x))
    assert played(graph)
    assert interrupted not in graph._idle[1]


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 9), st.integers(0, 5)), min_size=1))
def test_what_is_needed_at_a_time_lies_apart(drawn_blocks):
    blocks = []
    for size, born, more in drawn_blocks:
        block = _Block(np.empty(size, np.float32), born)
        block.last = born + more
        blocks.append(block)
    total = place(blocks)
    for number, block in enumerate(blocks):
        assert block.place >= 0
        assert block.place % 64 == 0
        assert block.place + block.size <= total
        for other in blocks[:number]:
            together = block.born <= other.last and other.born <= block.last
            apart = (
                block.place + block.size <= other.place or other.place + other.size <= block.place
            )
            assert apart or not together
