"""The six families against PyTorch models written apart from them (see make_network.py)."""

import numpy as np
import pytest

from imgconv.nn.fusion import fuse
from imgconv.nn.models import get_network
from tests.goldens import load
from tests.network_samples import CLASSES, SIZES, golden_network_input, golden_parameters

GOLDENS = load("network.npz")


def network(name):
    return get_network(f"{name}{',' if ':' in name else ':'}classes={CLASSES}")


@pytest.mark.parametrize("name", SIZES)
def test_parameter_names_are_those_of_the_module(name):
    assert sorted(network(name).graph.parameters()) == list(GOLDENS[f"{name} parameters"])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "vgg16" else name for name in SIZES],
)
def test_outputs_are_pytorchs(name):
    found = network(name)
    graph = found.graph
    shapes = {key: parameter.shape for key, parameter in graph.parameters().items()}
    graph = fuse(graph.with_parameters(golden_parameters(shapes)))
    x = golden_network_input(name, found.input_shape[1])
    result = np.concatenate(list(graph.run(x).values()))
    expected = GOLDENS[name]
    assert result.shape == expected.shape
    # float32 through up to 150 layers against PyTorch's float64.
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result, expected, atol=3e-5 * scale)
