"""Class maps against PyTorch's gradients, occlusion against its definition, and gradients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgconv.errors import ModelError, UsageError
from imgconv.nn import layers
from imgconv.nn.analysis.attribution import ClassMaps, Occlusion, windows
from imgconv.nn.analysis.gradient import between, gradient
from imgconv.nn.builder import Builder
from imgconv.nn.layers.functions import MatMul, Reduce
from imgconv.nn.layers.normalization import LayerNorm
from imgconv.nn.layers.tensors import Slice, Transpose
from imgconv.nn.layers.wrappers import Bound
from imgconv.nn.models import Network, get_network
from imgconv.nn.preprocess import Preprocess
from tests.network_samples import CLASSES, golden_network_input, golden_parameters

GOLDENS = np.load(Path(__file__).parents[1] / "goldens" / "cam.npz")
CASES = [key for key in GOLDENS.files if f"{key} class" in GOLDENS.files]
CHOSEN = {"alexnet": "features.11", "vgg11_bn": "features.27", "resnet18": "layer4.1.relu_1"}


def golden_network(name):
    found = get_network(f"{name}{',' if ':' in name else ':'}classes={CLASSES}")
    shapes = {key: p.shape for key, p in found.graph.parameters().items()}
    return replace(found, graph=found.graph.with_parameters(golden_parameters(shapes)))


@pytest.mark.parametrize("case", CASES)
def test_class_maps_are_those_of_pytorchs_gradients(case):
    name, _, layer = case.partition(" ")
    network = golden_network(name)
    found = ClassMaps(network, layer or None)(
        golden_network_input(name, network.input_shape[1])[:1]
    )
    assert found.layer == (layer or CHOSEN[name])
    assert found.number == GOLDENS[f"{case} class"]
    for values, expected in ((found.weights, GOLDENS[f"{case} weights"]),
                             (found.values, GOLDENS[case])):  # fmt: skip
        assert values.shape == expected.shape
        np.testing.assert_allclose(values, expected, atol=1e-5 * np.abs(expected).max())


MEAN = layers.AdaptiveAvgPool2d(1)


def classifier(dense=True, pool=MEAN):
    """Convolution, a pool of the whole map, and one dense layer, or a second one before it."""
    net = Builder(3, 9, 8)
    net.add("conv", layers.Conv2d(3, 4, 3))
    net.add("relu", layers.Activation("relu"))
    net.add("pool", pool)
    net.add("flatten", layers.Flatten())
    net.add("drop", layers.Dropout())
    if not dense:
        net.add("hidden", layers.Linear(4, 4))
    net.add("fc", layers.Linear(4, 5))
    net.add("softmax", layers.Softmax())
    graph = net.graph()
    shapes = {key: p.shape for key, p in graph.parameters().items()}
    graph = graph.with_parameters(golden_parameters(shapes))
    return Network("small", graph, Preprocess())


def image(seed=0, shape=(1, 3, 9, 8)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_plain_cam_is_the_dense_layers_weights_of_the_maps_and_sums_up_to_the_score():
    network, x = classifier(), image()
    values = dict(network.graph.trace(x))
    fc = network.graph.producers["fc"].layer
    for number in range(5):
        found = ClassMaps(network, plain=True)(x, number)
        weight = fc.parameter("weight")[number]
        expected = np.tensordot(weight, values["relu"][0], 1)
        assert found.layer == "relu"
        assert found.score == pytest.approx(float(values["fc"][0, number]), rel=1e-5)
        np.testing.assert_allclose(found.values, expected, atol=1e-5)
        bias = float(fc.parameter("bias")[number])
        assert found.values.mean() + bias == pytest.approx(found.score, abs=1e-5)
        gradient_map = ClassMaps(network)(x, number).values
        np.testing.assert_allclose(gradient_map * 42, np.maximum(expected, 0), atol=1e-5)


def test_what_has_no_class_maps_is_refused_in_words():
    with pytest.raises(UsageError, match="small: 2 dense layers behind relu; CAM is defined for"):
        ClassMaps(classifier(dense=False), plain=True)(image())
    with pytest.raises(UsageError, match=r"small: pool behind relu; CAM is"):
        ClassMaps(classifier(pool=layers.MaxPool2d((7, 6))), plain=True)(image())
    with pytest.raises(UsageError, match="class 5 of 5, expected at most 4"):
        ClassMaps(classifier())(image(), 5)
    with pytest.raises(UsageError, match=r"--layer fc: \(1, 5\), expected maps"):
        ClassMaps(classifier(), "fc")(image())
    net = Builder(3, 9, 8)
    net.add("conv", layers.Conv2d(3, 4, 3))
    maps = Network("maps", net.graph(), Preprocess())
    with pytest.raises(UsageError, match=r"maps: output of shape .* works for any network"):
        ClassMaps(maps)(image())


def test_occlusion_is_the_mean_fall_of_the_score_over_the_windows_that_cover_a_pixel():
    network, x = classifier(), image(1)
    where = windows((9, 8), (4, 3), (2, 2))
    assert where == ((4, 3), (0, 2, 4, 5), (0, 2, 4, 5))
    fill = x[0].mean(axis=(1, 2), keepdims=True)
    expected, count = np.zeros((9, 8)), np.zeros((9, 8))
    scores = dict(network.graph.trace(x))["fc"][0].astype(np.float64)
    number = int(scores.argmax())
    for row in where.rows:
        for column in where.columns:
            covered = x.copy()
            covered[0, :, row : row + 4, column : column + 3] = fill
            after = dict(network.graph.trace(covered))["fc"][0, number]
            expected[row : row + 4, column : column + 3] += scores[number] - float(after)
            count[row : row + 4, column : column + 3] += 1
    for batch in (1, 3, 8):
        found = Occlusion(network, batch)(x, None, where, fill)
        assert found[0] == number
        np.testing.assert_allclose(found[2], expected / count, atol=1e-5)


def test_occlusion_takes_outputs_of_maps_and_windows_that_fit():
    net = Builder(3, 9, 8)
    net.add("conv", layers.Conv2d(3, 4, 3))
    shapes = {key: p.shape for key, p in net.graph().parameters().items()}
    network = Network("maps", net.graph().with_parameters(golden_parameters(shapes)), Preprocess())
    number, score, values = Occlusion(network)(
        image(), 2, windows((9, 8), None, None), np.zeros((3, 1, 1))
    )
    assert (number, values.shape) == (2, (9, 8))
    assert score == pytest.approx(network.graph.run(image())["conv"][0, 2].mean(), rel=1e-5)
    with pytest.raises(UsageError, match="--window 10,3 on 9×8 pixels"):
        windows((9, 8), (10, 3), None)
    with pytest.raises(UsageError, match="--stride 4, expected at most the window's 3"):
        windows((9, 8), (3, 3), (4, 1))
    with pytest.raises(UsageError, match="class 4, expected at most 3"):
        Occlusion(network)(image(), 4, windows((9, 8), (9, 8), None), np.zeros((3, 1, 1)))


LAYERS = [
    *(layers.Activation(name) for name in (
        "relu", "leaky-relu:0.2", "relu6", "elu:0.7", "sigmoid", "tanh", "silu", "gelu",
        "hard-sigmoid", "hard-swish", "identity",
    )),
    layers.MaxPool2d(3, 2, 1), layers.MaxPool2d(2, 2, ceil_mode=True),
    layers.MaxPool2d((3, 2), 1, 0, dilation=2), layers.AvgPool2d(3, 2, 1),
    layers.AvgPool2d(3, 2, 1, count_include_pad=False), layers.AvgPool2d(2, 3, ceil_mode=True),
    layers.AdaptiveAvgPool2d((2, 3)), layers.Conv2d(4, 6, 3, (2, 1), 1, groups=2),
    layers.Conv2d(4, 2, (1, 3), 2, 0, dilation=2), layers.BatchNorm2d(4), layers.Flatten(),
    Reduce("ReduceMean", np.mean, (2, 3)), Reduce("ReduceSum", np.sum, (1,), keepdims=False),
    Bound(layers.Mul(), {1: (4, 1, 1)}), Bound(layers.Add(), {0: (1, 8)}),
    Bound(MatMul(), {1: (8, 5)}), Transpose((0, 2, 3, 1)), LayerNorm((7, 8)), LayerNorm((8,)),
    Slice(((0, 1, 1), (1, 4, 2), (0, 7, 3), (2, 8, 1))), layers.LocalResponseNorm(3, 0.5),
    layers.LocalResponseNorm(4, 0.5, 0.75, 2.0), layers.LocalResponseNorm(4, 0.5, near=1),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.kind)
def test_gradients_are_those_of_small_differences(layer):
    draw = np.random.default_rng(5)
    net = Builder(4, 7, 8)
    net.add("layer", layer)
    graph = net.graph()
    shapes = {key: p.shape for key, p in graph.parameters().items()}
    arrays = {key: a.astype(np.float64) for key, a in golden_parameters(shapes).items()}
    graph = graph.with_parameters(arrays)
    x = draw.normal(size=(1, 4, 7, 8)) * 2
    made = graph.run(x)["layer"]
    seed = draw.normal(size=made.shape)
    found = gradient(graph, "input", "layer", seed, {"input": x, "layer": made})
    step = draw.normal(size=x.shape)
    ahead, behind = (
        float((seed * graph.run(x + sign * 1e-6 * step)["layer"]).sum()) for sign in (1, -1)
    )
    assert found.shape == x.shape
    assert float((found * step).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5, abs=1e-5)


def test_branches_join_and_layers_without_a_gradient_are_named():
    net = Builder(4, 6, 6)
    first = net.add("a", layers.Activation("tanh"), "input")
    second = net.add("b", layers.Activation("sigmoid"), "input")
    net.add("mul", layers.Mul(), first, second)
    net.add("cat", layers.Concat(), "mul", first)
    net.add("sum", layers.Add(), "cat", "cat")
    graph = net.graph()
    x = np.random.default_rng(2).normal(size=(1, 4, 6, 6))
    values = {"input": x, **dict(graph.trace(x))}
    seed = np.ones(values["sum"].shape)
    found = gradient(graph, "input", "sum", seed, values)
    t, s = np.tanh(x), 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(found, 2 * ((1 - t**2) * s + t * s * (1 - s) + 1 - t**2), rtol=1e-6)
    assert [node.name for node in between(graph, "b", "cat")] == ["mul", "cat"]
    net.add("norm", layers.InstanceNorm2d(8))
    graph = net.graph()
    values = {"input": x, **dict(graph.trace(x))}
    with pytest.raises(ModelError, match="norm: InstanceNorm2d: its gradient is not known"):
        gradient(graph, "a", "norm", seed, values)
