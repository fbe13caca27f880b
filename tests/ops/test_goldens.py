"""Our operations against vectors that PyTorch made (see make_operations.py)."""

import json

import numpy as np
import pytest

from imgconv.ops import pool as pooling
from imgconv.ops.activation import activate, softmax
from imgconv.ops.conv import conv2d
from tests.goldens import load
from tests.samples import golden_inputs, golden_weights

GOLDENS = load("operations.npz")
CASES = [name for name in GOLDENS.files if name != "torch"]


def ours(case):
    op = case["op"]
    if op == "conv2d":
        dtype = case["dtype"]
        return conv2d(
            golden_inputs(dtype), golden_weights(case["groups"], dtype), np.arange(6),
            case["stride"], (2, 1), case["dilation"], case["groups"], case["mode"],
        )  # fmt: skip
    if op in ("activation", "softmax"):
        x = golden_inputs("float32") * np.float32(3)
        return softmax(x, 0) if op == "softmax" else activate(x, case["name"])
    if op.startswith("adaptive"):
        function = getattr(pooling, op.replace("-", "_") + "_pool2d")
        return function(golden_inputs("float32"), tuple(case["size"]))
    x, window = golden_inputs(case["dtype"]), (case["kernel"], case["stride"], case["padding"])
    if op == "avg":
        return pooling.avg_pool2d(x, *window, case["ceil"], case["include"], case["divisor"])
    if op == "lp":
        return pooling.lp_pool2d(np.abs(x), 3, *window[:2], case["ceil"])
    return pooling.max_pool2d(x, *window, 1, case["ceil"], True)[op == "indices"]


def test_the_vectors_cover_what_they_should():
    assert str(GOLDENS["torch"]).startswith("2.13.0")
    assert len(CASES) == 4 * 2 * 2 * 2 * 5 + 2 * 2 * (4 * 5 + 2) + 6 + 14


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_pytorchs(name):
    case, expected = json.loads(name), GOLDENS[name]
    result = ours(case)
    assert result.shape == expected.shape
    if case["op"] == "indices" or case.get("dtype") in ("uint8", "int16", "uint16"):
        np.testing.assert_array_equal(result, expected)
    else:
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-6 * scale)
