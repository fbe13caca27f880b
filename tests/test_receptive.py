"""Receptive fields: against published figures, and against what a unit really reacts to."""

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from imgconv.errors import ModelError, ShapeError
from imgconv.networks.architectures import get_network
from imgconv.networks.builder import Builder
from imgconv.networks.layers import (
    Activation,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
    Mul,
)
from imgconv.networks.receptive import fields, region


@pytest.mark.parametrize(
    ("name", "value", "size", "stride", "centre"),
    [
        # Araujo et al., Distill 2019, for AlexNet and VGG16; the others worked by hand.
        ("alexnet", "features.12", 195, 32, 31.0),
        ("vgg16", "features.30", 212, 32, 15.5),
        ("resnet50", "layer4.2.relu_2", 427, 32, 0.0),
        ("lenet5", "c3", 14, 2, 6.5),
        ("googlenet", "inception3a.cat", 59, 8, 6.0),
    ],
)
def test_fields_are_the_published_ones(name, value, size, stride, centre):
    graph = get_network(name).graph
    field = fields(graph, graph.shapes())[value]
    assert field.down == field.across == (size, stride, centre)
    assert not field.everywhere


def test_squeeze_and_excitation_sees_everywhere_besides_its_window():
    graph = get_network("efficientnet_b0").graph
    found = fields(graph, graph.shapes())
    assert not found["features.1.0.block.0.2"].everywhere
    gated = found["features.1.0.block.1.mul"]
    assert gated.everywhere
    assert gated.down.size == 7


def reaction(net, value, unit):
    """The box of input pixels that change a unit when they change: weights are all positive."""
    graph = net.graph(value)
    graph = graph.with_parameters(
        {name: np.full(p.shape, 0.1, np.float32) for name, p in graph.parameters().items()}
    )
    shape = graph.inputs["input"]
    base = np.zeros(shape, np.float32)
    at = (0, 0, *unit)
    still = graph.run(base)[value][at]
    pixels = []
    for y in range(shape[2]):
        for x in range(shape[3]):
            poked = base.copy()
            poked[0, 0, y, x] = 100
            if graph.run(poked)[value][at] != still:
                pixels.append((y, x))
    ys, xs = np.array(pixels).T
    return ys.min(), ys.max(), xs.min(), xs.max()


WINDOWS = st.tuples(
    st.sampled_from([Conv2d, MaxPool2d, AvgPool2d]),
    st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2),
)  # fmt: skip


def window(net, name, kind, kernel, stride, padding, dilation, source=None):
    padding = min(padding, kernel // 2)
    read = () if source is None else (source,)
    if kind is Conv2d:
        layer = Conv2d(1, 1, kernel, stride, padding, dilation)
    else:
        layer = kind(kernel, stride, padding)
    return net.add(name, layer, *read)


@settings(max_examples=25, deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=3), st.data())
def test_a_chains_region_is_what_the_unit_reacts_to(layers, data):
    net = Builder(1, 12, 11)
    for number, given_ in enumerate(layers):
        try:
            window(net, f"n{number}", *given_)
        except ShapeError:  # wider than the map that the layers before it leave
            reject()
    last = net.last
    _, _, height, width = net.shapes[last]
    unit = (data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1)))
    graph = net.graph()
    shapes = graph.shapes()
    found = region(graph, last, unit, shapes)
    assert found == reaction(net, last, unit)
    for axis, field in enumerate(fields(graph, shapes)[last].axes):
        low = field.start + unit[axis] * field.jump - (field.size - 1) / 2
        length = shapes["input"][2 + axis]
        clipped = (max(low, 0), min(low + field.size - 1, length - 1))
        # A chain's window is exact up to what the borders of inner maps cut off.
        assert clipped[0] <= found[2 * axis]
        assert clipped[1] >= found[2 * axis + 1]


def test_branches_are_united_and_their_window_is_exact_in_the_middle():
    net = Builder(1, 21, 21)
    one = window(net, "one", Conv2d, 1, 2, 0, 1)
    wide = window(net, "wide", Conv2d, 5, 2, 2, 1, "input")
    near = window(net, "near", Conv2d, 2, 2, 1, 1, "input")
    net.add("pad", Conv2d(1, 1, 2, padding=(0, 1, 0, 1)), near)
    net.add("cat", Concat(), one, wide, "pad")
    net.add("mix", Conv2d(3, 1, 3, padding=1))
    net.add("skip", Conv2d(3, 1, 1), "cat")
    net.add("sum", Add(), "mix", "skip")
    net.add("relu", Activation("relu"))
    graph = net.graph()
    shapes = graph.shapes()
    box = region(graph, "relu", (5, 4), shapes)
    assert box == reaction(net, "relu", (5, 4))
    field = fields(graph, shapes)["relu"].down
    middle = field.start + 5 * field.jump
    assert (box[0], box[1]) == (middle - (field.size - 1) / 2, middle + (field.size - 1) / 2)


@pytest.mark.parametrize("unit", [(0, 0), (3, 5), (6, 2)])
def test_pools_of_given_output_size_enlarging_layers_and_gates_are_exact(unit):
    net = Builder(1, 10, 9)
    net.add("pool", AdaptiveAvgPool2d((4, 3)))
    net.add("up", ConvTranspose2d(1, 1, (3, 2), 2, output_padding=(0, 1)))
    up = net.last
    net.add("fit", AdaptiveAvgPool2d((7, 6)))
    net.add("corner", Conv2d(1, 1, (4, 4), 4), "input")
    assert region(net.graph(), "fit", unit, net.shapes) == reaction(net, "fit", unit)
    unit = (unit[0], unit[1])
    assert region(net.graph(up), up, unit, net.shapes) == reaction(net, up, unit)


def test_a_gate_lets_every_unit_see_the_image():
    net = Builder(1, 8, 8)
    net.add("conv", Conv2d(1, 1, 3, padding=1))
    net.add("gate", AdaptiveAvgPool2d(1))
    net.add("mul", Mul(), "conv", "gate")
    assert region(net.graph(), "mul", (0, 0), net.shapes) == (0, 7, 0, 7)
    assert region(net.graph(), "conv", (0, 0), net.shapes) == (0, 1, 0, 1)


def test_a_unit_or_value_that_is_not_there_is_named():
    graph = get_network("lenet5").graph
    with pytest.raises(ShapeError, match="unit 28,0 of c1, expected one within 28×28"):
        region(graph, "c1", (28, 0), graph.shapes())
    with pytest.raises(ModelError, match="'c9'"):
        region(graph, "c9", (0, 0), graph.shapes())
