"""Quantized operators against exact integers and ONNX's reference; ONNX Runtime's fused ones."""

import math
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

from imgconv.errors import ModelError
from imgconv.nn.fusion import fuse
from imgconv.nn.onnx import OnnxGraph, model_of

NAMES = {
    np.float32: TensorProto.FLOAT, np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8,
    np.int32: TensorProto.INT32,
}  # fmt: skip


def model(nodes, feed, arrays, outputs, opset=21):
    """A model whose inputs are fed, with initializers, and its graph."""
    inputs = [
        helper.make_tensor_value_info(name, NAMES[array.dtype.type], array.shape)
        for name, array in feed.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "test", inputs, results, held)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10)
    shapes = {name: array.shape for name, array in feed.items()}
    return proto, OnnxGraph(model_of(proto, "test"), shapes)


def run(nodes, feed, arrays=(), outputs=("y",)):
    """The outputs of a model by imgconv."""
    _, graph = model(nodes, feed, dict(arrays), outputs)
    return graph.run(feed)


def drawn(rng, dtype, shape):
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def scales(rng, count):
    return (0.001 + rng.random(count) * 0.02).astype(np.float32).reshape(() if count == 1 else -1)


def by_onnx_runtime(sums, factor, zero):
    """Sums times a factor in float32, half to even, then the zero point."""
    levels = np.rint(sums.astype(np.float32) * np.float32(factor)).astype(np.int64) + zero
    limits = np.iinfo(zero.dtype)
    return levels.clip(limits.min, limits.max).astype(zero.dtype)


def convolved(x, weights, options):
    """The reference's sums of integers, exact in double precision."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in ("x", "w", "y")
    ]
    conv = [helper.make_node("Conv", ["x", "w"], ["y"], **options)]
    proto = helper.make_model(
        helper.make_graph(conv, "conv", values[:2], values[2:]), ir_version=10
    )
    fed = {"x": x.astype(np.float64), "w": weights.astype(np.float64)}
    return ReferenceEvaluator(proto).run(None, fed)[0].astype(np.int64)


def test_convolutions_of_integers_are_exact():
    rng = np.random.default_rng(3)
    for _ in range(80):
        kind, groups = rng.choice([np.uint8, np.int8]), int(rng.choice([1, 1, 2, 4]))
        channels, maps = 4 * int(rng.integers(1, 20)), 4 * int(rng.integers(1, 5))
        size, k = (int(rng.integers(5, 12)), int(rng.integers(5, 12))), int(rng.integers(1, 4))
        each = int(rng.choice([1, maps]))
        feed = {"x": drawn(rng, kind, (2, channels, *size))}
        arrays = {
            "w": drawn(rng, np.int8, (maps, channels // groups, k, k)),
            "xz": drawn(rng, kind, ()), "wz": drawn(rng, np.int8, () if each == 1 else each),
            "xs": scales(rng, 1), "ws": scales(rng, each), "ys": scales(rng, 1) * 100,
            "yz": drawn(rng, kind, ()), "b": rng.integers(-9999, 9999, maps).astype(np.int32),
        }  # fmt: skip
        options = {
            "strides": [int(rng.integers(1, 3))] * 2, "group": groups,
            "pads": rng.integers(0, 3, 4).tolist(), "dilations": [int(rng.integers(1, 3))] * 2,
        }  # fmt: skip
        nodes = [
            helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["sums"], **options),
            helper.make_node(
                "QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], **options
            ),
        ]
        found = run(nodes, feed, arrays, ("sums", "y"))
        sums = convolved(
            feed["x"] - arrays["xz"].astype(np.int64),
            arrays["w"] - arrays["wz"].astype(np.int64).reshape(-1, 1, 1, 1), options,
        )  # fmt: skip
        assert found["sums"].dtype == np.int32
        np.testing.assert_array_equal(found["sums"], sums)
        whole = sums + arrays["b"].reshape(-1, 1, 1)
        factor = (arrays["xs"] * arrays["ws"] / arrays["ys"]).reshape(-1, 1, 1)
        np.testing.assert_array_equal(found["y"], by_onnx_runtime(whole, factor, arrays["yz"]))


def test_matrix_products_of_integers_are_exact():
    rng = np.random.default_rng(4)
    for _ in range(60):
        kind = rng.choice([np.uint8, np.int8])
        rows, inner, columns = (int(rng.integers(1, 80)) for _ in range(3))
        each = int(rng.choice([1, columns]))
        feed = {"a": drawn(rng, kind, (2, rows, inner))}
        arrays = {
            "b": drawn(rng, np.int8, (inner, columns)), "az": drawn(rng, kind, ()),
            "bz": drawn(rng, np.int8, () if each == 1 else each), "as": scales(rng, 1),
            "bs": scales(rng, each), "ys": scales(rng, 1) * 100, "yz": drawn(rng, kind, ()),
        }  # fmt: skip
        nodes = [
            helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["sums"]),
            helper.make_node(
                "QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"]
            ),
            helper.make_node("MatMulInteger", ["a", "b"], ["plain"]),
        ]
        found = run(nodes, feed, arrays, ("sums", "y", "plain"))
        a, b = feed["a"].astype(np.int64), arrays["b"].astype(np.int64)
        sums = (a - arrays["az"].astype(np.int64)) @ (b - arrays["bz"].astype(np.int64))
        np.testing.assert_array_equal(found["sums"], sums)
        np.testing.assert_array_equal(found["plain"], a @ b)
        factor = arrays["as"] * arrays["bs"] / arrays["ys"]
        np.testing.assert_array_equal(found["y"], by_onnx_runtime(sums, factor, arrays["yz"]))


def test_floats_become_integers_and_back_as_the_reference_says():
    rng = np.random.default_rng(5)
    for _ in range(60):
        kind, shape = rng.choice([np.uint8, np.int8]), (2, int(rng.integers(1, 6)), 3, 4)
        axis, form = int(rng.integers(0, 4)), rng.choice(["one", "axis", "block"])
        feed = {"x": (rng.normal(size=shape) * 2).astype(np.float32)}
        count, options = (), {}
        if form == "axis":
            count, options = (shape[axis],), {"axis": axis}
        elif form == "block":
            block = int(rng.choice([n for n in range(1, 4) if shape[axis] % n == 0]))
            count = tuple(math.ceil(n / block) if i == axis else n for i, n in enumerate(shape))
            options = {"axis": axis, "block_size": block}
        arrays = {"s": (0.01 + rng.random(count)).astype(np.float32), "z": drawn(rng, kind, count)}
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["levels"], **options),
            helper.make_node("DequantizeLinear", ["levels", "s", "z"], ["real"], **options),
            helper.make_node("DynamicQuantizeLinear", ["x"], ["bytes", "scale", "zero"]),
        ]
        outputs = ("levels", "real", "bytes", "scale", "zero")
        proto, graph = model(nodes, feed, arrays, outputs)
        expected = dict(zip(outputs, ReferenceEvaluator(proto).run(None, feed), strict=True))
        for name, array in graph.run(feed).items():
            assert array.dtype == expected[name].dtype
            assert array.shape == expected[name].shape
            np.testing.assert_array_equal(array, expected[name])
    ends = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 0.5, 1.5], np.float32)
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])]
    found = run(nodes, {"x": ends}, {"s": np.float32(1), "z": np.uint8(7)})["y"]
    np.testing.assert_array_equal(found, [255, 0, 7, 255, 0, 7, 9])


def fused(kind, operands, feed, arrays=(), **attributes):
    """The result of one operator of ONNX Runtime."""
    made = helper.make_node(kind, operands, ["y"], domain="com.microsoft", **attributes)
    return run([made], feed, arrays)["y"]


def plain(nodes, feed, arrays=()):
    """What ONNX's reference gives for nodes that end in y."""
    proto, _ = model(nodes, feed, dict(arrays), ("y",))
    return ReferenceEvaluator(proto).run(None, feed)[0]


def node(kind, *operands, to="y", **attributes):
    return helper.make_node(kind, operands, [to], **attributes)


@pytest.mark.parametrize(("name", "numbers", "same"), [
    ("", [], node("Identity", "c")), ("Relu", [], node("Relu", "c")),
    ("LeakyRelu", [0.2], node("LeakyRelu", "c", alpha=0.2)), ("Tanh", [], node("Tanh", "c")),
    ("HardSigmoid", [0.3, 0.4], node("HardSigmoid", "c", alpha=0.3, beta=0.4)),
    ("Clip", [-0.5, 0.7], node("Clip", "c", "low", "high")),
])  # fmt: skip
def test_convolutions_with_an_activation_are_one_after_the_other(name, numbers, same):
    rng = np.random.default_rng(6)
    feed = {"x": rng.normal(size=(1, 5, 7, 6)).astype(np.float32)}
    arrays = {
        "w": rng.normal(size=(4, 5, 3, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32), "more": np.ones((1, 4, 5, 4), np.float32),
        "low": np.float32(-0.5), "high": np.float32(0.7),
    }  # fmt: skip
    steps = [node("Conv", "x", "w", "b", to="s"), node("Add", "s", "more", to="c"), same]
    expected = plain(steps, feed, arrays)
    given = {"activation": name} if name else {}
    given |= {"activation_params": numbers} if numbers else {}
    found = fused("FusedConv", ["x", "w", "b", "more"], feed, arrays, **given)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    last = {"x": np.ascontiguousarray(feed["x"].transpose(0, 2, 3, 1))}
    turned = {**arrays, "more": np.ones((1, 5, 4, 4), np.float32)}
    found = fused("NhwcFusedConv", ["x", "w", "b", "more"], last, turned, **given)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-5)


def test_fused_operators_are_their_parts():
    rng = np.random.default_rng(7)
    x = {"x": rng.normal(size=(3, 5, 8)).astype(np.float32)}
    arrays = {
        "v": rng.normal(size=8).astype(np.float32), "g": rng.normal(size=8).astype(np.float32),
        "m": rng.normal(size=(3, 6, 8)).astype(np.float32), "k": np.float32(1.702),
        "more": rng.normal(size=(3, 5, 8)).astype(np.float32),
        "n": rng.normal(size=(8, 8)).astype(np.float32),
    }  # fmt: skip
    for kind, operands, steps in (
        ("Gelu", ["x"], [node("Gelu", "x")]),
        ("BiasGelu", ["x", "v"], [node("Add", "x", "v", to="s"), node("Gelu", "s")]),
        ("FastGelu", ["x", "v"], [node("Add", "x", "v", to="s"),
                                  node("Gelu", "s", approximate="tanh")]),
        ("FastGelu", ["x"], [node("Gelu", "x", approximate="tanh")]),
        ("QuickGelu", ["x"], [node("Mul", "x", "k", to="s"), node("Sigmoid", "s", to="q"),
                              node("Mul", "x", "q")]),
        ("SkipLayerNormalization", ["x", "more", "g", "v", "v"],
         [node("Add", "x", "more", to="p"), node("Add", "p", "v", to="s"),
          node("LayerNormalization", "s", "g", "v", epsilon=1e-12)]),
    ):  # fmt: skip
        found = fused(kind, operands, x, arrays)
        np.testing.assert_allclose(found, plain(steps, x, arrays), atol=3e-6)
    product = fused("FusedMatMul", ["x", "m"], x, arrays, transB=1, alpha=0.5)
    np.testing.assert_allclose(product, x["x"] @ arrays["m"].swapaxes(1, 2) / 2, atol=1e-5)
    turned = {"x": np.ascontiguousarray(x["x"].swapaxes(1, 2))}
    product = fused("FusedMatMul", ["x", "m"], turned, arrays, transA=1, transB=1)
    np.testing.assert_allclose(product, x["x"] @ arrays["m"].swapaxes(1, 2), atol=1e-5)
    rows = {"x": x["x"][0]}
    steps = [node("Gemm", "x", "n", "v", to="s", transB=1), node("Relu", "s")]
    found = fused("FusedGemm", ["x", "n", "v"], rows, arrays, transB=1, activation="Relu")
    np.testing.assert_allclose(found, plain(steps, rows, arrays), atol=1e-5)
    with pytest.raises(ModelError, match=r"FusedMatMul \(node y\): transBatchA or transBatchB=1"):
        fused("FusedMatMul", ["x", "m"], x, arrays, transBatchA=1)


def test_quantized_operators_of_onnx_runtime_round_what_their_floats_give():
    rng = np.random.default_rng(8)
    feed = {"x": drawn(rng, np.uint8, (1, 4, 6, 6))}
    arrays = {
        "s": np.float32(0.02), "z": np.uint8(120), "t": np.float32(0.03), "u": np.uint8(100),
        "x2": drawn(rng, np.uint8, (1, 4, 6, 6)),
    }  # fmt: skip
    x = (feed["x"].astype(np.float64) - 120) * 0.02
    more = (arrays["x2"].astype(np.float64) - 100) * 0.03
    own, other, to = ["x", "s", "z"], ["x2", "t", "u"], ["t", "u"]
    mean = x.mean((2, 3), keepdims=True)
    for kind, operands, expected, given in (
        ("QLinearAdd", own + other + to, x + more, {}),
        ("QLinearMul", own + other + to, x * more, {}),
        ("QLinearConcat", to + own + other, np.concatenate([x, more], 1), {"axis": 1}),
        ("QLinearGlobalAveragePool", own + to, mean, {}),
        ("QLinearSigmoid", own + to, 1 / (1 + np.exp(-x)), {}),
        ("QLinearLeakyRelu", own + to, np.where(x < 0, x * 0.1, x), {"alpha": 0.1}),
        ("QLinearAveragePool", own + to, x.reshape(1, 4, 3, 2, 3, 2).mean((3, 5)),
         {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ):  # fmt: skip
        found = fused(kind, operands, feed, arrays, **given)
        assert found.dtype == np.uint8
        assert np.abs(found - (expected / 0.03 + 100).clip(0, 255)).max() < 0.501, kind
    last = {"x": np.ascontiguousarray(feed["x"].transpose(0, 2, 3, 1))}
    found = fused("QLinearGlobalAveragePool", own + to, last, arrays, channels_last=1)
    assert np.abs(found.reshape(4) - (mean.reshape(4) / 0.03 + 100)).max() < 0.501


def test_products_with_integers_become_floats_or_bytes_at_once():
    rng = np.random.default_rng(9)
    a, b = drawn(rng, np.uint8, (5, 12)), drawn(rng, np.int8, (12, 7))
    arrays = {
        "b": b, "as": np.float32(0.02), "bs": scales(rng, 7), "az": np.uint8(99),
        "bz": drawn(rng, np.int8, 7), "c": rng.normal(size=7).astype(np.float32),
        "i": rng.integers(-999, 999, 7).astype(np.int32), "ys": np.float32(0.5),
        "yz": np.int8(3),
    }  # fmt: skip
    sums = (a.astype(np.int64) - 99) @ (b.astype(np.int64) - arrays["bz"])
    found = fused("MatMulIntegerToFloat", ["a", "b", "as", "bs", "az", "bz", "c"], {"a": a}, arrays)
    expected = sums * (0.02 * arrays["bs"].astype(np.float64)) + arrays["c"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    turned = {**arrays, "b": np.ascontiguousarray(b.T)}
    found = fused(
        "QGemm", ["a", "as", "az", "b", "bs", "bz", "i", "ys", "yz"], {"a": a}, turned, transB=1
    )
    factor = np.float32(0.02) * arrays["bs"] / np.float32(0.5)
    levels = by_onnx_runtime(sums + arrays["i"], factor, arrays["yz"])
    np.testing.assert_array_equal(found, levels)
    real = {"a": rng.normal(size=(5, 12)).astype(np.float32)}
    found = fused("DynamicQuantizeMatMul", ["a", "b", "bs", "bz", "c"], real, arrays)
    weights = (b.astype(np.float64) - arrays["bz"]) * arrays["bs"]
    exact, step = real["a"] @ weights + arrays["c"], np.ptp(real["a"]) / 255
    assert np.abs(found - exact).max() <= np.abs(weights).sum(0).max() * step / 2 + 1e-4


def test_a_quantized_lstm_is_the_one_of_its_weights():
    """Where inputs are multiples of their step, and states count for nothing, all is exact."""
    rng = np.random.default_rng(10)
    length, items, features, hidden = 3, 2, 5, 4
    x = rng.integers(0, 256, (length, items, features)).astype(np.float32)
    x[0, 0, :2] = 0, 255  # so that its scale is 1
    levels = drawn(rng, np.int8, (2, features, 4 * hidden))
    arrays = {
        "w": levels, "r": drawn(rng, np.int8, (2, hidden, 4 * hidden)),
        "b": rng.normal(size=(2, 8 * hidden)).astype(np.float32),
        "ws": np.full(2, 1e-4, np.float32), "wz": np.array([3, -2], np.int8),
        "rs": np.zeros(2, np.float32), "rz": np.zeros(2, np.int8),
    }  # fmt: skip
    given = {"hidden_size": hidden, "direction": "bidirectional"}
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    found = fused("DynamicQuantizeLSTM", names, {"x": x}, arrays, **given)
    own = (levels - arrays["wz"].astype(np.float64).reshape(2, 1, 1)) * 1e-4
    reals = {
        "w": np.ascontiguousarray(own.swapaxes(1, 2)).astype(np.float32),
        "r": np.zeros((2, 4 * hidden, hidden), np.float32), "b": arrays["b"],
    }  # fmt: skip
    lstm = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], **given)
    np.testing.assert_allclose(found, run([lstm], {"x": x}, reals)["y"], atol=2e-6)


def test_floats_that_become_integers_and_floats_again_take_one_pass():
    """The fused graph gives the bits of the two steps, also of a value that is wanted between."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(1, 3, 7, 9)).astype(np.float32)
    weight = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    held = {"w": weight, "s": np.float32(0.03), "z": np.int8(-5), "other": np.float32(0.04)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["q", "other", "z"], ["b"]),
        helper.make_node("Conv", ["a", "w"], ["c"]),
        helper.make_node("Add", ["a", "b"], ["d"]),
    ]
    _, graph = model(nodes, {"x": x}, held, ("c", "d"))
    plain = graph.run({"x": x})
    fused = fuse(graph)
    kinds = [node.layer.kind for node in fused.nodes]
    assert kinds.count("FakeQuantize") == 1
    assert kinds.count("DequantizeLinear") == 1  # by another scale
    for name, values in fused.run(x).items():
        assert np.array_equal(values, plain[name])
    kept = fuse(graph, ["q"])
    assert np.array_equal(dict(kept.trace(x, ("q",)))["q"], expected_bytes(x))


def expected_bytes(x):
    return (np.rint(x / np.float32(0.03)) - 5).clip(-128, 127).astype(np.int8)
