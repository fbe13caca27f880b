"""The effective receptive field against gradients, and its picture."""

import numpy as np
import pytest

from imgconv.errors import ModelError
from imgconv.nn.analysis.effective import effective_field
from imgconv.nn.analysis.receptive import region
from imgconv.nn.builder import Builder
from imgconv.nn.layers import (
    Activation,
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Mul,
)
from imgconv.nn.layers.functions import Reduce
from imgconv.nn.layers.tensors import Slice
from imgconv.nn.layers.wrappers import Bound
from imgconv.nn.models import get_network
from imgconv.nn.weights import draw_weights
from imgconv.ops import plans
from imgconv.viz.receptive import draw_fields, spread_of
from imgconv.viz.sheet import GUTTER


def small_network():
    """Branches, a residual, stride, dilation and pads, all linear."""
    net = Builder(2, 13, 11)
    first = net.add("first", Conv2d(2, 4, 3, stride=2, padding=1, bias=False))
    left = net.add("left", Conv2d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False), first)
    right = net.add("right", Conv2d(4, 4, (1, 3), padding=(0, 1), bias=False), first)
    half = net.add("half", Bound(Mul(), {1: (1, 4, 1, 1)}), left)
    joined = net.add("sum", Add(), half, first)
    both = net.add("both", Concat(), joined, right)
    pooled = net.add("pool", AvgPool2d(2, padding=1), both)
    some = net.add("some", Slice(((None, None, 1), (1, None, 1), (0, 4, 1), (0, 4, 1))), pooled)
    last = net.add("last", Conv2d(7, 3, 2, bias=False), some)
    net.add("mean", Reduce("ReduceMean", np.mean, (3,)), last)
    return net.graph()


def test_it_is_the_expected_gradient_over_random_signs(monkeypatch):
    # No round has the weights of another: a plan of its calls would serve nobody.
    monkeypatch.setattr(plans, "_can_be_planned", lambda job, source: False)
    drawn = np.random.default_rng(1).normal
    weights = {name: drawn(size=parameter.shape).astype(np.float32)
               for name, parameter in small_network().parameters().items()}  # fmt: skip
    graph = small_network().with_parameters(weights)
    shapes = graph.shapes()
    unit = (1, 0)
    found = effective_field(graph, "mean", unit, shapes)
    count, height, width = shapes["input"][1:]
    # The network is linear: the gradient of a pixel is the response to that pixel alone.
    pulses = np.eye(count * height * width, dtype=np.float32).reshape(-1, count, height, width)
    generator, rounds, total = np.random.default_rng(2), 300, 0
    for _ in range(rounds):
        signed = {name: w * generator.choice([-1, 1], w.shape).astype(np.float32)
                  for name, w in weights.items()}  # fmt: skip
        ((_, out),) = graph.with_parameters(signed).trace(pulses, ["mean"])
        total = total + np.square(out[:, :, unit[0], unit[1]]).sum(axis=1)
    expected = np.sqrt((total / rounds).reshape(count, height, width).sum(axis=0))
    np.testing.assert_array_equal(found > 0, expected > 0)
    np.testing.assert_allclose(found, expected, rtol=0.2, atol=0.03 * found.max())
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.998


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [("resnet18", "layer2.0.add", (5, 9)), ("vgg11", "features.10", (0, 13)),
     ("googlenet", "inception3a.cat", (14, 2)), ("lenet5", "s4", (2, 2))],
)  # fmt: skip
def test_it_weighs_exactly_the_pixels_of_the_theoretical_field(name, value, unit):
    graph = draw_weights(get_network(name).graph, 0)
    shapes = graph.shapes()
    weights = effective_field(graph, value, unit, shapes)
    rows, columns = np.nonzero(weights)
    box = (rows.min(), rows.max(), columns.min(), columns.max())
    assert box == region(graph, value, unit, shapes)
    assert weights.shape == shapes["input"][2:]


def test_it_passes_dense_layers_and_names_layers_that_it_does_not_know():
    net = Builder(1, 6, 6)
    net.add("conv", Conv2d(1, 2, 3, bias=False))
    net.add("relu", Activation("relu"))
    net.add("pool", MaxPool2d(2))
    net.add("flat", Flatten())
    net.add("dense", Linear(8, 5, bias=False))
    graph = draw_weights(net.graph(), 0)
    assert (effective_field(graph, "dense", (0, 0), graph.shapes()) > 0).all()
    with pytest.raises(ModelError, match="no such value"):
        effective_field(graph, "nothing", (0, 0), graph.shapes())


def test_the_bells_spread_is_its_deviation():
    y, x = np.mgrid[:61, :81]
    bell = np.exp(-0.5 * (np.square((y - 30) / 4) + np.square((x - 50) / 6)))
    found = spread_of(bell)
    assert found.middle == pytest.approx((30, 50), abs=1e-3)
    assert found.reach == pytest.approx((8, 12), rel=1e-3)
    assert found.region((61, 81)) == (23, 37, 39, 61)


def test_the_picture_keeps_what_is_seen_and_darkens_the_rest():
    shown = np.full((112, 112, 1), 200, np.uint8)
    made = draw_fields(shown, (10, 29, 40, 59), None, "unit")
    at = np.s_[GUTTER + 4 * 20, GUTTER + 4 * 50]
    assert made[at].tolist() == [200, 200, 200]
    assert made[GUTTER + 4 * 80, GUTTER + 4 * 50].tolist() == [70, 70, 70]
    assert made[GUTTER + 4 * 10, GUTTER + 4 * 50].tolist() == [217, 72, 15]
