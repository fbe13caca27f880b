"""The node cases that ship with onnx, computed by our functions."""

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import onnx
    from onnx.backend.test.case.node import collect_testcases

from imgconv.compute import pooling
from imgconv.compute.convolution import conv2d
from imgconv.compute.padding import pad
from imgconv.compute.pointwise import activate
from imgconv.shapes import resolve_padding

OPERATORS = ("Conv", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
             "Pad", "Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
             "Softplus", "Abs", "Gelu", "Softmax")  # fmt: skip


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        nodes = case.model.graph.node if case.model else []
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS and case.data_sets:
            yield case


CASES = {case.name: case for case in cases()}


def reason_to_skip(node, given, inputs):
    """Why a case is not for a 2-D image operation, or None."""
    x = inputs[0]
    if node.op_type in ("Conv", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool",
                        "GlobalMaxPool") and x.ndim != 4:  # fmt: skip
        return "not two-dimensional"
    if given.get("storage_order"):
        return "column-major indices"
    pads = given.get("pads", [0] * 4)
    if node.op_type in ("MaxPool", "AveragePool", "LpPool") and pads[:2] != pads[2:]:
        return "asymmetric pool padding, which PyTorch's pools do not have"
    if node.op_type in ("AveragePool", "LpPool") and set(given.get("dilations", [1])) != {1}:
        return "dilated average, which PyTorch does not have"
    kernel = given.get("kernel_shape", [0, 0])
    if node.op_type.endswith("Pool") and any(
        p > k // 2 for p, k in zip(pads[:2], kernel, strict=False)
    ):
        return "padding beyond half the window, which PyTorch refuses"
    if node.op_type == "LpPool" and any(pads):
        return "padded Lp pool, which PyTorch does not have"
    if given.get("auto_pad", "NOTSET").startswith("SAME"):
        return "auto_pad"
    if node.op_type == "Pad" and (x.ndim != 4 or len(inputs) > 3 or x.dtype != np.float32):
        return "axes or ranks beyond the image's two"
    if node.op_type == "HardSigmoid":
        return "slope and shift are not PyTorch's"
    if node.op_type == "Gelu" and given.get("approximate") == "tanh":
        return "tanh approximation"
    if node.op_type == "Softmax" and x.ndim != 3:
        return "softmax over other axes"
    return None


def compute(node, given, inputs):
    x, kind = inputs[0], node.op_type
    kernel, stride = given.get("kernel_shape"), given.get("strides")
    pads = given.get("pads", [0] * 4)
    if kind == "Conv":
        sides = resolve_padding((pads[0], pads[2], pads[1], pads[3]), (1, 1))
        bias = inputs[2] if len(inputs) > 2 else None
        return [conv2d(x, inputs[1], bias, tuple(stride or (1, 1)), sides,
                       tuple(given.get("dilations", (1, 1))), given.get("group", 1))]  # fmt: skip
    ceil = bool(given.get("ceil_mode", 0))
    stride = tuple(stride or (1, 1))
    if kind == "MaxPool":
        dilation = tuple(given.get("dilations", (1, 1)))
        out, indices = pooling.max_pool2d(
            x, tuple(kernel), stride, tuple(pads[:2]), dilation, ceil, True
        )
        n, c, h, w = x.shape
        planes = np.arange(n * c).reshape(n, c, 1, 1) * h * w
        return [out, indices + planes]
    if kind == "AveragePool":
        include = bool(given.get("count_include_pad", 0))
        return [pooling.avg_pool2d(x, tuple(kernel), stride, tuple(pads[:2]), ceil, include)]
    if kind == "LpPool":
        return [pooling.lp_pool2d(np.abs(x), given.get("p", 2), tuple(kernel), stride, ceil)]
    if kind.startswith("Global"):
        function = {
            "GlobalAveragePool": pooling.global_avg_pool2d,
            "GlobalMaxPool": pooling.global_max_pool2d,
        }
        return [function[kind](x)]
    if kind == "Pad":
        amounts = [int(n) for n in inputs[1]]
        assert amounts[:2] == amounts[4:6] == [0, 0]
        mode = {"edge": "replicate", "wrap": "circular"}.get(
            given.get("mode", "constant"), given.get("mode", "constant")
        )
        value = float(inputs[2]) if len(inputs) > 2 else 0.0
        return [pad(x, (amounts[2], amounts[6], amounts[3], amounts[7]), mode, value)]
    if kind == "Softmax":
        from imgconv.compute.pointwise import softmax

        return [softmax(x, given.get("axis", -1))]
    alpha = given.get("alpha", 1.0 if kind == "Elu" else 0.01)
    names = {"LeakyRelu": f"leaky-relu:{alpha}", "Elu": f"elu:{alpha}", "HardSwish": "hard-swish"}
    name = names.get(kind, kind.lower())
    return [activate(x, name)]


def test_most_cases_are_for_us():
    skipped = 0
    for case in CASES.values():
        node = case.model.graph.node[0]
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        given = {k: v.decode() if isinstance(v, bytes) else v for k, v in given.items()}
        skipped += reason_to_skip(node, given, case.data_sets[0][0]) is not None
    assert len(CASES) - skipped >= 40, (len(CASES), skipped)


@pytest.mark.parametrize("name", CASES)
def test_the_node_case_gives_its_stored_output(name):
    case = CASES[name]
    node = case.model.graph.node[0]
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given = {k: v.decode() if isinstance(v, bytes) else v for k, v in given.items()}
    for inputs, outputs in case.data_sets:
        reason = reason_to_skip(node, given, inputs)
        if reason:
            pytest.skip(reason)
        for result, expected in zip(compute(node, given, inputs), outputs, strict=False):
            assert result.shape == expected.shape
            # This case's output is stored with four digits.
            rounded = name == "test_averagepool_2d_ceil_last_window_starts_on_pad"
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=6e-5 if rounded else 1e-6)
