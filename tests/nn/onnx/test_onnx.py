"""Reading ONNX files: what is refused and how, free shapes, data beside the file, and writing."""

import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

from imgconv.errors import ModelError, ShapeError
from imgconv.nn.analysis.summary import summarize
from imgconv.nn.fusion import fuse
from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    InstanceNorm2d,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Mul,
    Softmax,
)
from imgconv.nn.models import Network, get_network
from imgconv.nn.onnx import OPERATORS, load_onnx, onnx_network, write_onnx
from imgconv.nn.onnx.expansion import EXPANSIONS
from imgconv.nn.onnx.sequences import KINDS
from imgconv.nn.preprocess import Preprocess
from imgconv.nn.weights import draw_weights, load_weights, loaded

FREE = ["N", 3, "H", "W"]


def make(nodes, shape=FREE, arrays=(), outputs=("y",), opset=17, functions=(), **more):
    """A model of one input x; arrays: initializers by name."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    held = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
        for name, value in dict(arrays).items()
    ]
    graph = helper.make_graph(nodes, "test", inputs, results, held)
    imports = [helper.make_opsetid("", opset)]
    if functions:
        imports.append(helper.make_opsetid("own", 1))
    return helper.make_model(
        graph, opset_imports=imports, functions=list(functions), ir_version=9, **more
    )


def saved(model, folder, name="model.onnx"):
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def node(kind, inputs, outputs=("y",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), name=f"the_{kind}", **attributes)


def external(location, shape=(2,), length=None, offset=None):
    """A float tensor whose data are in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", length), ("offset", offset)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


WEIGHT = np.ones((4, 3, 3, 3), np.float32)
WRONG_SIZE = TensorProto(
    name="w", data_type=TensorProto.FLOAT, dims=(4, 3, 3, 3), raw_data=b"\0" * 8
)
HUGE = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(1 << 20, 1 << 20), raw_data=b"")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (make([node("Det", ["x"])]), r"Det \(node the_Det\): the operator is not"),
        (make([helper.make_node("NMS", ["x"], ["y"], name="boxes", domain="other")]),
         r"other.NMS \(node boxes\)"),
        (make([node("Relu", ["z"], ["y"]), node("Abs", ["y"], ["z"])]),
         r"Relu \(node the_Relu\): is part of a cycle"),
        (make([node("Relu", ["z"])]), r"Relu \(node the_Relu\): reads 'z', which no node"),
        (make([node("Relu", ["x"]), node("Abs", ["x"])]), r"'y' is made twice: by Relu .*Abs"),
        (make([node("Relu", ["x"])], outputs=["z"]), r"output 'z': no node makes it"),
        (make([node("Conv", ["x", "w"])], arrays={"w": WEIGHT[:, :2]}),
         r"Conv \(node the_Conv\): Conv2d: input \(1, 3, 224, 224\), expected \(N, 2"),
        (make([node("Conv", ["x", "w"], group=2)], arrays={"w": WEIGHT}), r"the_Conv\): Conv2d: "),
        (make([node("Conv", ["x", "w"], strides=[0, 1])], arrays={"w": WEIGHT}), r"strides=\[0, 1"),
        (make([node("Conv", ["x", "w"], pads=[1])], arrays={"w": WEIGHT}), r"pads=\[1\], exp"),
        (make([node("Conv", ["x", "w"])], arrays={"w": WRONG_SIZE}),
         r"initializer 'w': 8 bytes, expected 432 for shape \[4, 3, 3, 3\]"),
        (make([node("Mul", ["x", "w"])], arrays={"w": HUGE}), r"initializer 'w': shape \[1048"),
        (make([node("Reshape", ["x", "w"])], arrays={"w": np.array([11, -1])}),
         r"Reshape \(node the_Reshape\): Reshape: input \(1, 3, 224, 224\) of 150528"),
        (make([node("Tile", ["x", "w"])], arrays={"w": np.array([1, 1, 9999, 9999])}),
         r"Tile \(node the_Tile\): a result of shape \(1, 3, 2239776, 2239776\), at most"),
        (make([node("ConstantOfShape", ["w"])], arrays={"w": np.array([1 << 40])}),
         r"ConstantOfShape \(node the_ConstantOfShape\): a result of shape"),
        (make([node("ConstantOfShape", ["w"])], arrays={"w": np.array([3 << 28])}),
         r"the_ConstantOfShape\): its constants pass 1073741824 bytes"),
        (make([node("Add", ["x", "w"])], arrays={"w": np.ones(5, np.float32)}),
         r"Add \(node the_Add\): Add: inputs \(1, 3, 224, 224\) and \(5,\) do not fit"),
        (make([node("Shape", ["x"], ["s"]), node("Range", ["s", "x", "x"])]),
         r"the_Range\): its limit depends on the image"),
        (make([node("Transpose", ["x"], perm=[0, 1])]), r"the_Transpose\): Transpose: order"),
        (make([node("Concat", ["x", "x"], axis=9)]), r"the_Concat\): Concat: axis 9 of 4 axes"),
        (make([node("Gather", ["x", "w"], axis=1)], arrays={"w": np.array(3)}),
         r"the_Gather\): indices 3…3 of 3 elements"),
        (make([node("LSTM", ["x", "w", "w"], hidden_size=1)], arrays={"w": np.ones(3, np.float32)}),
         r"the_LSTM\): LSTM: input \(1, 3, 224, 224\), expected \(T, N, I\)"),
        (make([node("NonZero", ["x"])]),
         r"the_NonZero\): its operand depends on the image, expected a constant; --outputs x"),
        (make([node("FusedConv", ["x", "w"], domain="com.microsoft", activation="Own")],
              arrays={"w": np.ones((1, 3, 1, 1), np.float32)}),
         r"the_FusedConv\): activation='Own'"),
        (make([node("SequenceAt", ["x", "x"])]), r"the_SequenceAt\): 'x' is no sequence"),
        (make([node("MaxPool", ["x"], kernel_shape=[2, 2, 2])]), r"the_MaxPool\): kernel_shape"),
        (make([node("Cast", ["x"], to=TensorProto.STRING)]), r"the_Cast\): to STRING"),
        (make([node("Split", ["x"], ["y", "z"], axis=1)], opset=5), "opset 5, expected 6 to"),
        (make([node("Relu", [])]), r"the_Relu\): 0 operands, expected at least 1"),
        (make([node("Relu", ["x", "x"])]), r"the_Relu\): 2 operands, expected at most 1"),
        (make([node("Flatten", ["x"], axis=1.5)]), r"the_Flatten\): attribute 'axis' is not"),
        (make([node("Split", ["x"], axis=1, num_outputs=1 << 40)], opset=18), r"num_outputs=1099"),
        (make([node("SpaceToDepth", ["x"], blocksize=0)]), r"the_SpaceToDepth\): .*blocksize=0"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_run_is_refused_by_operator_and_node(model, message, tmp_path):
    path = saved(model, tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        load_onnx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"\x08\x09", b"not a model at all", b"\x89PNG\r\n\x1a\n" * 9, os.urandom(999)]
)
def test_what_is_no_model_is_refused(data, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not an ONNX model"):
        load_onnx(path)


def test_every_truncation_and_many_bit_flips_are_refused_or_read(tmp_path):
    """No exception but ours, whatever a byte becomes."""
    model = make(
        [node("Conv", ["x", "w"], ["c"]), node("Shape", ["c"], ["s"]),
         node("Reshape", ["c", "s"])], [1, 3, 8, 8], {"w": WEIGHT},
    )  # fmt: skip
    data = saved(model, tmp_path).read_bytes()
    path, draw = tmp_path / "broken.onnx", np.random.default_rng(0)
    flips = [(int(draw.integers(len(data))), 1 << int(draw.integers(8))) for _ in range(400)]
    variants = [data[:n] for n in range(0, len(data), 7)]
    for place, bit in flips:
        changed = bytearray(data)
        changed[place] ^= bit
        variants.append(bytes(changed))
    read = lines = 0
    for variant in variants:
        path.write_bytes(variant)
        try:
            load_onnx(path)
            read += 1
        except ModelError as error:
            lines += str(error).count("\n")
    assert not lines
    assert 0 < read < len(variants)


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "/etc/hostname", "link.bin", "", ".", "a/../../secret.bin", "\0", "a" * 999],
)
def test_external_data_outside_the_models_folder_are_refused(location, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 8)
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = saved(make([node("Mul", ["x", "w"])], arrays={"w": external(location)}), folder)
    with pytest.raises(
        ModelError, match=r"initializer 'w': external data .*(own folder|null|long)"
    ):
        load_onnx(path)


def test_external_data_within_the_folder_are_read(tmp_path):
    values = np.arange(6, dtype=np.float32)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "data.bin").write_bytes(b"1234" + values.tobytes())
    held = {"w": external("w/data.bin", (6,), offset=4)}
    path = saved(make([node("Mul", ["x", "w"])], [1, 1, 1, 6], held), tmp_path)
    ones = np.ones((1, 1, 1, 6), np.float32)
    np.testing.assert_array_equal(load_onnx(path).run(ones)["y"].ravel(), values)
    for changed in (
        external("w/data.bin", (9,)),
        external("w/data.bin", (6,), offset=8),
        external("w/data.bin", (6,), length=4),
        external("w/data.bin", offset="x"),
    ):
        path = saved(make([node("Mul", ["x", "w"])], arrays={"w": changed}), tmp_path)
        with pytest.raises(ModelError, match=r"initializer 'w': external data"):
            load_onnx(path)


def flattening():
    """What PyTorch writes for x.view(x.size(0), -1) after a strided convolution."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], strides=[2, 2]),
        node("Shape", ["c"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["first"]),
        node("Concat", ["first", "rest"], ["target"], axis=0),
        node("Reshape", ["c", "target"]),
    ]
    arrays = {"w": WEIGHT, "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    return make(nodes, arrays=arrays)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        # ONNX Runtime's and PyTorch's: a window may reach beyond the map, and be the only one.
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [[4]]),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [[2.5]]),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]},
         [[1, 2, 2], [3, 4, 4], [3, 4, 4]]),
        # Three columns of taps two apart: at −2, 0, 2, which see one column, and at −1, 1, 3.
        ("MaxPool", {"kernel_shape": [1, 3], "dilations": [1, 2], "pads": [0, 2, 0, 2]},
         [[1, 2], [3, 4]]),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2], "strides": [2, 2],
                         "count_include_pad": 1}, [[1 / 9, 3 / 9], [4 / 9, 10 / 9]]),
    ],
)  # fmt: skip
def test_pools_have_the_corners_of_onnxs_runtime(kind, given, expected, tmp_path):
    graph = load_onnx(saved(make([node(kind, ["x"], **given)], (1, 3, 2, 2)), tmp_path))
    x = np.tile(np.array([[1, 2], [3, 4]], np.float32), (1, 3, 1, 1))
    got = graph.run(x)["y"]
    np.testing.assert_allclose(got, np.tile(np.float32(expected), (1, 3, 1, 1)), rtol=1e-6)


@pytest.mark.parametrize("order", [0, 1])
def test_a_window_of_padding_alone_has_no_maximum_and_no_place(order, tmp_path):
    given = {"kernel_shape": [2, 2], "dilations": [1, 3], "pads": [0, 1, 0, 1], "strides": [1, 1],
             "storage_order": order}  # fmt: skip
    model = make([node("MaxPool", ["x"], ("y", "i"), **given)], (1, 3, 2, 2), outputs=("y",))
    model.graph.output.append(helper.make_tensor_value_info("i", TensorProto.INT64, None))
    found = load_onnx(saved(model, tmp_path)).run(np.ones((1, 3, 2, 2), np.float32))
    assert (found["y"] == -np.inf).all()
    assert (found["i"] == -1).all()


def test_arithmetic_on_shapes_follows_each_inputs_shape(tmp_path):
    graph = load_onnx(saved(flattening(), tmp_path))
    assert [n.layer.kind for n in graph.nodes] == ["Conv2d", "Flatten"]
    for shape, features in (((1, 3, 224, 224), 49284), ((2, 3, 9, 7), 48), ((5, 3, 3, 3), 4)):
        assert graph.shapes({"x": shape})["y"] == (shape[0], features)
        assert graph.run(np.ones(shape, np.float32))["y"].shape == (shape[0], features)
    with pytest.raises(ShapeError, match=r"input 'x' of shape \(1, 4, 9, 9\), expected \(N, 3, H"):
        graph.run(np.ones((1, 4, 9, 9), np.float32))


def test_functions_of_the_file_are_put_in_place(tmp_path):
    double = helper.make_function(
        "own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    call = helper.make_node("Double", ["x"], ["y"], name="twice", domain="own")
    graph = load_onnx(saved(make([call], functions=[double]), tmp_path))
    ones = np.ones((1, 3, 2, 2), np.float32)
    np.testing.assert_array_equal(graph.run(ones)["y"], 2 * ones)


def test_half_precision_weights_are_computed_in_single(tmp_path):
    half = np.linspace(-1, 1, 108).reshape(4, 3, 3, 3).astype(np.float16)
    model = make([node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), node("Conv", ["h", "w"])],
                 arrays={"w": half})  # fmt: skip
    plain = make([node("Conv", ["x", "w"])], arrays={"w": half.astype(np.float32)})
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    found, expected = (load_onnx(saved(m, tmp_path)).run(image)["y"] for m in (model, plain))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_silu_written_as_two_nodes_is_one_pass_unless_its_gate_is_wanted(tmp_path):
    nodes = [node("Sigmoid", ["x"], ["gate"]), node("Mul", ["gate", "x"])]
    graph = load_onnx(saved(make(nodes), tmp_path))
    image = np.linspace(-9, 9, 48).reshape(1, 3, 4, 4).astype(np.float32)
    assert [n.layer.kind for n in fuse(graph).nodes] == ["silu"]
    np.testing.assert_allclose(
        fuse(graph).run(image)["y"], graph.run(image)["y"], rtol=1e-6, atol=1e-7
    )
    assert [n.layer.kind for n in fuse(graph, ["gate"]).nodes] == ["sigmoid", "Mul"]


def every_layer():
    """A network of every layer that is written, with drawn weights."""
    nodes = [
        Node("conv", Conv2d(3, 8, 3, 2, (1, 0, 2, 1), activation="relu"), ("image",)),
        Node("reflect", Conv2d(8, 8, 3, padding=1, groups=2, bias=False, padding_mode="reflect"),
             ("conv",)),
        Node("bn", BatchNorm2d(8), ("reflect",)),
        Node("norm", InstanceNorm2d(8), ("bn",)),
        Node("lrn", LocalResponseNorm(5, 1e-2), ("norm",)),
        Node("up", ConvTranspose2d(8, 6, 3, 2, 1, 1), ("norm",)),
        Node("max", MaxPool2d(3, 2, 1, ceil_mode=True), ("up",)),
        Node("avg", AvgPool2d(3, 1, 1, count_include_pad=False), ("max",)),
        *(Node(name, Activation(text), ("avg",)) for name, text in (
            ("a1", "silu"), ("a2", "hard-swish"), ("a3", "leaky-relu:0.2"), ("a4", "elu:0.5"),
            ("a5", "gelu"), ("a6", "relu6"), ("a7", "hard-sigmoid"), ("a8", "softplus"),
            ("a9", "tanh"), ("a10", "square"))),
        Node("sum", Add(), ("a1", "a2", "a3", "a4")),
        Node("product", Mul("sigmoid"), ("sum", "a5", "a9")),
        Node("cat", Concat(), ("product", "a6", "a7", "a8", "a10")),
        Node("pool", AdaptiveAvgPool2d((1, 2)), ("cat",)),
        Node("global", AdaptiveAvgPool2d(1), ("cat",)),
        Node("flat", Flatten(), ("pool",)),
        Node("fc", Linear(60, 7), ("flat",)),
        Node("softmax", Softmax(1), ("fc",)),
    ]  # fmt: skip
    graph = draw_weights(Graph({"image": (1, 3, 24, 24)}, nodes, ["softmax", "global", "lrn"]), 3)
    settings = Preprocess(channels="bgr", resize=30, crop=(24, 24), mean=(0.5,), std=(0.25,))
    return Network("every", graph, settings, labels=tuple("abcdefg"))


def test_a_written_network_is_read_back_whole_and_means_the_same_to_onnx(tmp_path):
    from onnx.reference import ReferenceEvaluator

    network = every_layer()
    path = tmp_path / "every.onnx"
    write_onnx(path, network)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    back = onnx_network(path)
    assert (back.name, back.labels) == ("every", tuple("abcdefg"))
    assert back.preprocess == network.preprocess
    image = np.random.default_rng(1).normal(size=(2, 3, 24, 24)).astype(np.float32)
    ours, again = network.graph.run(image), back.graph.run(image)
    theirs = dict(zip(ours, ReferenceEvaluator(str(path)).run(None, {"image": image}), strict=True))
    for name, expected in ours.items():
        np.testing.assert_allclose(again[name], expected, rtol=1e-6, atol=1e-7)
        if name != "lrn":  # onnx 1.23's evaluator sums as many channels as there are images
            np.testing.assert_allclose(theirs[name], expected, rtol=1e-4, atol=1e-6)


def test_initializers_are_weights_of_our_own_architecture(tmp_path):
    lenet = get_network("lenet5")
    drawn = draw_weights(lenet.graph, 5)
    path = tmp_path / "lenet5.onnx"
    write_onnx(path, replace(lenet, graph=drawn))
    read = loaded(load_weights(lenet.graph, path, "lenet5"))
    for name, array in loaded(drawn).items():
        np.testing.assert_array_equal(read[name], array)
    with pytest.raises(ModelError, match="these weights are not alexnet's"):
        load_weights(get_network("alexnet").graph, path, "alexnet")


def test_what_onnx_cannot_say_is_not_written(tmp_path):
    graph = Graph({"x": (1, 4, 8, 8)}, [Node("lrn", LocalResponseNorm(4), ("x",))], ["lrn"])
    with pytest.raises(ModelError, match="lrn: size=4 with 2 channels before"):
        write_onnx(tmp_path / "no.onnx", Network("no", graph, Preprocess()))
    untrained = get_network("lenet5")
    with pytest.raises(ModelError, match="no weights are loaded"):
        write_onnx(tmp_path / "no.onnx", untrained)
    assert not list(tmp_path.iterdir())


def test_labels_and_preprocessing_come_from_the_files_metadata(tmp_path):
    model = make([node("Relu", ["x"])], [1, 1, 12, 10])
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}"})
    network = onnx_network(saved(model, tmp_path))
    assert network.labels == ("cat", "dog")
    assert (network.preprocess.channels, network.preprocess.resize) == ("gray", (12, 10))
    helper.set_model_props(model, {"imgconv.preprocess": json.dumps({"channels": "pink"})})
    with pytest.raises(ModelError, match=r"imgconv\.preprocess.*pink'"):
        onnx_network(saved(model, tmp_path))


def test_onnx_is_imported_only_for_a_file_of_it():
    code = "import sys, imgconv.nn.onnx, imgconv.nn.weights;sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install 'imgconv\[onnx\]'"):
        load_onnx(tmp_path / "model.onnx")


def test_the_command_line_runs_a_file_as_it_runs_the_network(tmp_path, capsys):
    from imgconv.cli import main

    def output(*words):
        with pytest.raises(SystemExit) as ended:
            main(["net", *map(str, words)])
        return ended.value.code or 0, capsys.readouterr().out

    path = tmp_path / "lenet5.onnx"
    assert output("convert", "lenet5", "-q", "-o", path)[0] == 0
    expected = output("predict", "lenet5", "sample:digit", "--json")
    found = output("predict", path, "sample:digit", "--json")
    assert found == expected
    table = output("summary", path)[1]
    assert table.splitlines()[2:] == output("summary", "lenet5")[1].splitlines()[3:]


def test_an_unsupported_operator_ends_the_command_with_2(tmp_path):
    path = saved(make([node("Det", ["x"])]), tmp_path)
    words = [sys.executable, "-m", "imgconv", "net", "summary", str(path)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        f"imgconv: {path}: Det (node the_Det): the operator is not supported\n"
    )


def test_the_docs_name_every_operator():
    page = (Path(__file__).parents[3] / "docs" / "onnx.md").read_text()
    words = set(re.findall(r"\w+", page))
    names = {kind.removeprefix("com.microsoft.") for kind in OPERATORS}
    names |= {kind.removeprefix("com.microsoft.") for kind in EXPANSIONS} | set(KINDS)
    assert not {name for name in names if not name.startswith("imgconv.")} - words


def test_a_weight_used_twice_is_counted_once(tmp_path):
    filters, bias = np.ones((3, 3, 3, 3), np.float32), np.ones(3, np.float32)
    matrix = np.ones((8, 8), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "f", "b"], ["c"], name="c", pads=[1] * 4),
        helper.make_node("Conv", ["c", "f", "d"], ["e"], name="e", pads=[1] * 4),
        helper.make_node("MatMul", ["e", "m"], ["g"], name="g"),
        helper.make_node("Identity", ["m"], ["n"], name="n"),
        helper.make_node("MatMul", ["g", "n"], ["y"], name="y"),
    ]
    # Two biases of the same numbers are two, a matrix under another name is one.
    arrays = [("f", filters), ("b", bias), ("d", bias.copy()), ("m", matrix)]
    graph = load_onnx(saved(make(nodes, (1, 3, 8, 8), arrays), tmp_path))
    result = summarize(graph)
    assert result.parameters == 81 + 3 + 3 + 64
    assert result.weights == 4 * result.parameters
    assert [row.parameters for row in result.rows] == [84, 3, 64, 0]
    assert graph.run(np.ones((1, 3, 8, 8), np.float32))["y"].shape == (1, 3, 8, 8)
