"""What differs between two networks, by layers."""

import numpy as np

from imgconv.nn.analysis.difference import Weight, differences
from imgconv.nn.builder import Builder
from imgconv.nn.layers import Activation, BatchNorm2d, Conv2d, Linear
from imgconv.nn.models import get_network
from imgconv.nn.weights import draw_weights, loaded
from tests.running import here


def told(first, second):
    return [layer for layer in differences(first, second) if layer.differs]


def test_equal_networks_have_nothing_to_tell():
    graph = draw_weights(get_network("lenet5").graph, 1)
    assert not told(graph, graph)
    assert not told(get_network("resnet18").graph, get_network("resnet18").graph)


def test_options_and_shapes_that_differ_are_told_where_they_do():
    found = told(get_network("resnet50").graph, get_network("resnet50:form=v1").graph)
    assert len(found) == 12
    first = found[0]
    assert (first.first, first.second) == ("layer2.0.conv1", "layer2.0.conv1")
    assert first.options == (
        ("stride", "1×1", "2×2"), ("output", "128×56×56", "128×28×28")
    )  # fmt: skip
    assert found[3].options == (("stride", "2×2", "1×1"),)


def test_layers_that_only_one_has_are_found_though_numbers_in_names_shift():
    found = told(get_network("vgg11").graph, get_network("vgg13").graph)
    alone = [layer.second for layer in found if not layer.first]
    assert alone == ["features.1", "features.2", "features.6", "features.7"]
    assert all(layer.options[0][0] == "reads" for layer in found if layer.first)
    back = told(get_network("vgg13").graph, get_network("vgg11").graph)
    assert [layer.first for layer in back if not layer.second] == alone


def test_every_layer_of_both_is_told_of_once():
    folded, plain = Builder(1, 5, 5), Builder(1, 5, 5)
    for number in range(3):
        folded.add(f"a{number}", Conv2d(folded.channels(), 2, 3, padding=1))
        plain.add(f"b{number}", Conv2d(plain.channels(), 2, 3, padding=1, bias=False))
        plain.add(f"norm{number}", BatchNorm2d(2))
    for graphs in ((folded.graph(), plain.graph()), (plain.graph(), folded.graph())):
        found = differences(*graphs)
        for graph, told in zip(graphs, ("first", "second"), strict=True):
            names = [getattr(layer, told) for layer in found if getattr(layer, told)]
            assert names == [node.name for node in graph.nodes]
        assert sum(bool(layer.first and layer.second) for layer in found) == 3


def test_names_do_not_matter_where_all_are_others():
    graphs = []
    for names in (("a", "b", "c"), ("x", "y", "z")):
        net = Builder(1, 5, 5)
        net.add(names[0], Conv2d(1, 2, 3))
        net.add(names[1], Activation("relu"))
        net.add(names[2], Conv2d(2, 2, 3))
        graphs.append(net.graph())
    assert not told(*graphs)
    assert [(d.first, d.second) for d in differences(*graphs)] == [
        ("a", "x"),
        ("b", "y"),
        ("c", "z"),
    ]


def test_the_largest_difference_of_weights_is_told_and_numbers_that_are_nowhere_are_not():
    net = Builder(1, 1, 3)
    net.add("fc", Linear(3, 2))
    arrays = {"fc.weight": np.zeros((2, 3), np.float32), "fc.bias": np.array([1, np.nan], "f4")}
    first = net.graph().with_parameters(arrays)
    changed = {"fc.weight": np.array([[0, 0.5, 0], [0, 0, -2]], "f4"), "fc.bias": arrays["fc.bias"]}
    (found,) = told(first, net.graph().with_parameters(changed))
    assert found.weights == (Weight("weight", 2.0, 2.0),)
    assert not told(first, net.graph())


def test_the_command_tells_and_ends_as_diff_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        here("net", "convert", "lenet5", "--seed", seed, "-o", f"{seed}.onnx", "-q")
    same = here("net", "diff", "1.onnx", "1.onnx")
    assert (same.returncode, same.stdout) == (0, "equal: 12 layers\n")
    result = here("net", "diff", "1.onnx", "2.onnx")
    assert result.returncode == 1
    *lines, last = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["~ c1", "~ c3", "~ c5", "~ f6", "~ output"]
    assert last.startswith("5 of 12 layers differ, 0 only in 1.onnx, 0 only in 2.onnx; weights by")
    graph = get_network("lenet5").graph
    first, second = (loaded(draw_weights(graph, seed))["c1.weight"] for seed in (1, 2))
    gap = float(np.abs(first.astype("f8") - second).max())
    assert f"~ c1: weight differs by up to {gap:.4g} of" in lines[0]
    assert here("net", "diff", "lenet5", "none.onnx").returncode == 2
    assert here("net", "diff", "lenet5", "1.onnx", "--json").stdout.count("\n") == 5
