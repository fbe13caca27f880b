"""The node cases that ship with onnx, computed by our functions."""

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import onnx
    from onnx.backend.test.case.node import collect_testcases

from imgconv.ops import pool
from imgconv.ops.activation import activate
from imgconv.ops.conv import conv2d
from imgconv.ops.padding import pad

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
    if node.op_type == "Pad" and (x.ndim != 4 or len(inputs) > 3 or x.dtype != np.float32):
        return "axes or ranks beyond the image's two"
    if node.op_type == "HardSigmoid":
        return "slope and shift are not PyTorch's"
    if node.op_type == "Gelu" and given.get("approximate") == "tanh":
        return "tanh approximation"
    if node.op_type == "Softmax" and x.ndim != 3:
        return "softmax over other axes"
    return None


def pool_sides(auto, pads, size, kernel, stride):
    """(top, bottom, left, right) of a pool, by the formula of ONNX's auto_pad."""
    if not auto.startswith("SAME"):
        return (pads[0], pads[2], pads[1], pads[3])
    sides = []
    for length, k, s in zip(size, kernel, stride, strict=True):
        total = max((-(-length // s) - 1) * s + k - length, 0)
        small, large = total // 2, total - total // 2
        sides += [small, large] if auto == "SAME_UPPER" else [large, small]
    return tuple(sides)


def compute(node, given, inputs):
    x, kind = inputs[0], node.op_type
    kernel, stride = given.get("kernel_shape"), given.get("strides")
    pads = given.get("pads", [0] * 4)
    if kind == "Conv":
        auto = given.get("auto_pad", "NOTSET")
        sides = pool_sides(auto, pads, x.shape[2:], inputs[1].shape[2:], stride or (1, 1))
        bias = inputs[2] if len(inputs) > 2 else None
        return [conv2d(x, inputs[1], bias, tuple(stride or (1, 1)), sides,
                       tuple(given.get("dilations", (1, 1))), given.get("group", 1))]  # fmt: skip
    ceil = bool(given.get("ceil_mode", 0))
    stride = tuple(stride or (1, 1))
    dilation = tuple(given.get("dilations", (1, 1)))
    if kind in ("MaxPool", "AveragePool", "LpPool"):
        sides = pool_sides(given.get("auto_pad", "NOTSET"), pads, x.shape[2:], kernel, stride)
    if kind == "MaxPool":
        out, indices = pool.max_pool2d(x, tuple(kernel), stride, sides, dilation, ceil, True)
        n, c, h, w = x.shape
        planes = np.arange(n * c).reshape(n, c, 1, 1) * h * w
        return [out, indices + planes]
    if kind == "AveragePool":
        include = bool(given.get("count_include_pad", 0))
        return [pool.avg_pool2d(x, tuple(kernel), stride, sides, ceil, include, None, dilation)]
    if kind == "LpPool":
        power = given.get("p", 2)
        return [pool.lp_pool2d(np.abs(x), power, tuple(kernel), stride, ceil, sides, dilation)]
    if kind.startswith("Global"):
        function = {
            "GlobalAveragePool": pool.global_avg_pool2d,
            "GlobalMaxPool": pool.global_max_pool2d,
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
        from imgconv.ops.activation import softmax

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


def evaluator_case(generator):
    """A random one-node model and its inputs: Conv or a pool with any pads, strides, dilations."""
    kind = ("Conv", "MaxPool", "AveragePool", "LpPool")[generator.integers(4)]
    kernel = [int(n) for n in generator.integers(1, 4, 2)]
    pads = [int(generator.integers(0, k)) for k in (*kernel, *kernel)]
    given = {
        "kernel_shape": kernel,
        "strides": [int(n) for n in generator.integers(1, 4, 2)],
        "dilations": [int(n) for n in generator.integers(1, 3, 2)],
        "pads": pads,
    }
    groups = int(generator.choice([1, 2]))
    x = generator.normal(size=(2, 2 * groups, *generator.integers(6, 12, 2))).astype(np.float32)
    inputs = {"x": x}
    if kind == "Conv":
        given["group"] = groups
        inputs["w"] = generator.normal(size=(3 * groups, 2, *kernel)).astype(np.float32)
        inputs["b"] = generator.normal(size=3 * groups).astype(np.float32)
    elif kind == "AveragePool":
        given["count_include_pad"] = int(generator.integers(2))
    elif kind == "LpPool":
        given["p"] = int(generator.integers(1, 4))
    node = onnx.helper.make_node(kind, list(inputs), ["y"], **given)
    values = [onnx.helper.make_tensor_value_info(n, 1, a.shape) for n, a in inputs.items()]
    graph = onnx.helper.make_graph(
        [node], "one", values, [onnx.helper.make_tensor_value_info("y", 1, None)]
    )
    opset = onnx.helper.make_opsetid("", 22)
    return onnx.helper.make_model(graph, opset_imports=[opset]), node, given, inputs


@pytest.mark.parametrize("seed", range(60))
def test_onnxs_reference_evaluator_agrees_on_random_nodes(seed):
    from onnx.reference import ReferenceEvaluator

    model, node, given, inputs = evaluator_case(np.random.default_rng(seed))
    if node.op_type == "LpPool":
        inputs = {"x": np.abs(inputs["x"])}
    expected = ReferenceEvaluator(model).run(None, inputs)[0]
    got = compute(node, given, list(inputs.values()))[0]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
