"""ONNX's own networks with constant weights (onnx/backend/test/data/light) give their outputs."""

import warnings
from pathlib import Path

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import onnx
    from onnx import numpy_helper

from imgconv.nn.onnx import load_onnx

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
NAMES = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
         "squeezenet", pytest.param("vgg19", marks=pytest.mark.slow), "zfnet512")  # fmt: skip


def ramp(shape):
    """The input of these outputs: 0 to 1 in equal steps."""
    count = np.prod(shape)
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_a_light_model_gives_its_stored_output(name):
    graph = load_onnx(LIGHT / f"light_{name}.onnx")
    found = graph.run({name: ramp(shape) for name, shape in graph.inputs.items()})
    stored = onnx.load_tensor(LIGHT / f"light_{name}_output_0.pb")
    expected = numpy_helper.to_array(stored)
    (result,) = found.values()
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-7)
