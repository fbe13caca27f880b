"""Receptive fields: against published figures, and against what a unit really reacts to."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from imgconv.errors import ModelError, ShapeError
from imgconv.nn.analysis.receptive import fields, region
from imgconv.nn.builder import Builder
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    InstanceNorm2d,
    MaxPool2d,
    Mul,
    Softmax,
)
from imgconv.nn.layers.functions import Function, LogSoftmax
from imgconv.nn.layers.normalization import LayerNorm
from imgconv.nn.layers.resize import COORDINATES, NEAREST, Resize
from imgconv.nn.layers.tensors import Pad, Slice, Tile, Transpose
from imgconv.nn.models import get_network


@pytest.mark.parametrize(
    ("name", "value", "size", "stride", "center"),
    [
        # Araujo et al., Distill 2019, for AlexNet and VGG16; the others worked by hand.
        ("alexnet", "features.12", 195, 32, 31.0),
        ("vgg16", "features.30", 212, 32, 15.5),
        ("resnet50", "layer4.2.relu_2", 427, 32, 0.0),
        ("lenet5", "c3", 14, 2, 6.5),
        ("googlenet", "inception3a.cat", 59, 8, 6.0),
    ],
)
def test_fields_are_the_published_ones(name, value, size, stride, center):
    graph = get_network(name).graph
    field = fields(graph, graph.shapes())[value]
    assert field.down == field.across == (size, stride, center)
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


def mixing(node):
    """The node, or for a norm or softmax one that adds the mean along its axes.

    It sees the same, but also reacts where the other's input is constant along an axis.
    """
    layer = node.layer
    if isinstance(layer, (Softmax, LogSoftmax)):
        axes = (layer.axis,)
    elif isinstance(layer, (InstanceNorm2d, LayerNorm)):
        axes = (2, 3) if isinstance(layer, InstanceNorm2d) else (3,)
    else:
        return node
    return replace(node, layer=Function(function=lambda x: x + x.mean(axes, keepdims=True)))


def changes(graph, value):
    """(units' rows, columns, pixels' rows, columns): whether a unit changes when a pixel does."""
    graph = graph.with_nodes(map(mixing, graph.nodes)).with_parameters(
        {name: np.full(p.shape, 0.1, np.float32) for name, p in graph.parameters().items()}
    )
    shape = graph.inputs["input"]
    base = np.random.default_rng(0).random(shape).astype(np.float32)
    still = graph.run(base)[value]
    found = np.zeros((*still.shape[2:], *shape[2:]), bool)
    for y, x in np.ndindex(shape[2:]):
        for amount in (2, 100, -100):  # small for a sigmoid, large for a maximum
            poked = base.copy()
            poked[0, :, y, x] += amount
            now = graph.run(poked)[value]
            same = (now == still) | (np.isnan(now) & np.isnan(still))
            found[:, :, y, x] |= ~same.all(axis=(0, 1))
    return found


def resize(data, shape):
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    scales = [data.draw(st.sampled_from([0.5, 0.7, 1.0, 1.5, 2.0, 2.6, 3.0])) for _ in range(2)]
    made = [max(1, int(n * scale)) for n, scale in zip(shape[2:], scales, strict=True)]
    coordinates = data.draw(st.sampled_from(COORDINATES))
    region = ((0, 1), (0, 1), (0.2, 1.3), (-0.1, 0.8))
    return Resize(
        (1, shape[1], *made), (1.0, 1.0, *scales), mode, coordinates,
        data.draw(st.sampled_from(NEAREST)),
        exclude_outside=not coordinates.startswith("tf") and data.draw(st.booleans()),
        antialias=data.draw(st.booleans()) and mode != "nearest",
        region=region if coordinates == "tf_crop_and_resize" else (),
    )  # fmt: skip


def transposed(data, shape):
    kernel, stride, dilation = (data.draw(st.integers(1, most)) for most in (4, 3, 2))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1))
    pads = data.draw(st.integers(0, 2))
    return ConvTranspose2d(1, 1, kernel, stride, pads, extra, dilation=dilation)


def convolution(data, shape):
    kernel, stride, dilation, pads = (data.draw(st.integers(1, n)) for n in (4, 3, 2, 3))
    mode = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    return Conv2d(1, 1, kernel, stride, pads, dilation, padding_mode=mode)


def pool(data, shape):
    kernel = data.draw(st.integers(1, 3))
    kind = data.draw(st.sampled_from([MaxPool2d, AvgPool2d]))
    return kind(kernel, data.draw(st.integers(1, 3)), kernel // 2, data.draw(st.booleans()))


def adaptive(data, shape):
    size = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    return data.draw(st.sampled_from([AdaptiveAvgPool2d, AdaptiveMaxPool2d]))(size)


def slices(data, shape):
    steps = st.sampled_from(
        [(None, None, 1), (1, None, 1), (None, -1, 2), (None, None, -1), (-1, 0, -2)]
    )
    return Slice(((None, None, 1), (None, None, 1), data.draw(steps), data.draw(steps)))


def pads(data, shape):
    amounts = [(data.draw(st.integers(-1, 2)), data.draw(st.integers(-1, 2))) for _ in range(2)]
    mode = data.draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    return Pad(((0, 0), (0, 0), *amounts), mode)


def others(data, shape):
    return data.draw(st.sampled_from([
        Tile((1, 1, 2, 3)), Softmax(2), Softmax(3), LogSoftmax(3), InstanceNorm2d(1),
        LayerNorm(shape[3:]), Activation("sigmoid"), Transpose((0, 1, 3, 2)),
    ]))  # fmt: skip


ENLARGING = [
    resize, resize, transposed, convolution, pool, adaptive, slices, pads, others
]  # fmt: skip
LARGEST = 14


def boxes(seen):
    """Box of the pixels that each unit sees, None for none."""
    found = {}
    for unit in np.ndindex(seen.shape[:2]):
        rows, columns = np.nonzero(seen[unit])
        box = (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None
        found[unit] = box
    return found


def check_every_unit(graph, value):
    shapes = graph.shapes()
    for unit, box in boxes(changes(graph, value)).items():
        try:
            found = region(graph, value, unit, shapes)
        except ModelError:
            found = None
        assert found == box, unit


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_unit_of_random_graphs_reacts_to_its_region(data):
    net = Builder(1, data.draw(st.integers(3, 6)), data.draw(st.integers(3, 6)))
    for number in range(data.draw(st.integers(1, 3))):
        shape = net.shapes[net.last]
        makers = data.draw(st.lists(st.sampled_from(ENLARGING), min_size=1, max_size=2))
        source, made = net.last, []
        for branch, make in enumerate(makers):
            layer = make(data, shape)
            try:
                name = net.add(f"n{number}-{branch}", layer, source)
            except ShapeError:
                continue
            size = net.shapes[name]
            if 0 in size or max(size) > LARGEST or size[1] != 1:
                reject()
            made.append(name)
        if not made:
            reject()
        if len(made) == 2:
            first, second = (net.shapes[name] for name in made)
            same = [a for a in (2, 3) if first[5 - a] == second[5 - a]]
            axis = same[0] if same else None
            if first == second:
                net.add(f"sum{number}", Add(), *made)
            elif axis is not None and max(first[axis], second[axis]) < LARGEST:
                net.add(f"cat{number}", Concat(axis), *made)
    check_every_unit(net.graph(), net.last)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("sizes", [(5, 10), (5, 13), (7, 3), (4, 4), (6, 1), (1, 5)])
def test_every_unit_of_every_resize_reacts_to_its_region(mode, coordinates, sizes):
    size, made = sizes
    region = ((0, 1), (0, 1), (-0.2, 1.1), (0.1, 0.7)) if "crop" in coordinates else ()
    for nearest in NEAREST if mode == "nearest" else NEAREST[:1]:
        net = Builder(1, size, 3)
        scales = (1.0, 1.0, made / size, 2.0)
        net.add("up", Resize((1, 1, made, 6), scales, mode, coordinates, nearest, region=region))
        check_every_unit(net.graph(), "up")


@pytest.mark.parametrize(
    ("layer", "unit", "rows"),
    [
        # By gradients of PyTorch and by hand; a window of two taps begins at ⌊(i + ½) / 2 − ½⌋.
        (Resize((1, 1, 8, 8), (1, 1, 2, 2), "nearest", "asymmetric", "floor"), 2, (1, 1)),
        (Resize((1, 1, 8, 8), (1, 1, 2, 2), "nearest", "asymmetric", "floor"), 0, (0, 0)),
        (Resize((1, 1, 8, 8), (1, 1, 2, 2), "linear"), 1, (0, 1)),
        (Resize((1, 1, 8, 8), (1, 1, 2, 2), "linear"), 3, (1, 2)),
        (Resize((1, 1, 8, 8), (1, 1, 2, 2), "linear"), 0, (0, 0)),
        (ConvTranspose2d(1, 1, 2, 2), 3, (1, 1)),
        (ConvTranspose2d(1, 1, 3, 2), 2, (0, 1)),
    ],
)
def test_enlarging_layers_see_what_is_known(layer, unit, rows):
    net = Builder(1, 4, 4)
    net.add("up", layer)
    assert region(net.graph(), "up", (unit, unit), net.shapes) == rows * 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_field_is_what_units_far_from_the_edges_see(data):
    net = Builder(1, 240, 4)
    for number in range(data.draw(st.integers(1, 4))):
        size = net.shapes[net.last][2]
        kernel, stride = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
        if size > 400 or size < 60 * stride:
            stride = 1
        scale = data.draw(st.sampled_from([2, 3, Fraction(3, 2), Fraction(1, 2), Fraction(2, 3)]))
        made = int(size * scale)
        mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
        layer = data.draw(st.sampled_from([
            Conv2d(1, 1, (kernel, 1), (stride, 1), (kernel // 2, 0)),
            MaxPool2d((kernel, 1), (stride, 1)),
            ConvTranspose2d(1, 1, (kernel, 1), (stride, 1), dilation=(2, 1)),
            Resize((1, 1, made, 4), (1.0, 1.0, made / size, 1.0), mode),
            AdaptiveAvgPool2d((max(40, size * 2 // 3 // 2 * 2), 4)),
        ]))  # fmt: skip
        if isinstance(layer, Resize) and not 60 <= made <= 800:
            continue
        name = net.add(f"n{number}", layer)
        if data.draw(st.booleans()) and net.shapes[name][2] > 10:
            side = net.add(f"s{number}", Conv2d(1, 1, (5, 1), 1, (2, 0)), name)
            net.add(f"b{number}", Add(), name, side)
    graph, last = net.graph(), net.last
    found = fields(graph, net.shapes)[last].down
    jump = Fraction(found.jump).limit_denominator(1000)
    kinds = jump.denominator * 12
    first = net.shapes[last][2] // 2 - kinds // 2
    if first < 4 or (kinds / 2 + 4) * found.jump + found.size > 110:
        reject()
    seen = []
    for unit in range(first, first + kinds):
        try:
            seen.append((unit, *region(graph, last, (unit, 1), net.shapes)[:2]))
        except ModelError:  # a hole between the taps of a transposed convolution
            continue
    if not seen:
        reject()
    assert found.size == max(high - low + 1 for _, low, high in seen)
    middles = [(low + high) / 2 - unit * found.jump for unit, low, high in seen]
    assert found.start == pytest.approx(np.mean(middles), abs=1e-6)
