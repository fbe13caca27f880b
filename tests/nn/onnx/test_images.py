"""What stands between an image and a model: layouts, types, batches, channels, free sizes."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image as Pillow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

from imgconv.errors import ModelError, ShapeError, UsageError
from imgconv.nn.fusion import FusedGraph
from imgconv.nn.onnx import onnx_network
from imgconv.nn.preprocess import Reading
from tests.running import here

KINDS = {"FLOAT": np.float32, "FLOAT16": np.float16, "DOUBLE": np.float64, "UINT8": np.uint8,
         "INT8": np.int8, "INT32": np.int32}  # fmt: skip


def written(path, nodes, inputs, outputs, arrays=(), opset=17):
    """A model in a file. inputs: name → (type, shape)."""
    given = [helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)
             for name, (kind, shape) in inputs.items()]  # fmt: skip
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    held = [numpy_helper.from_array(array, name) for name, array in dict(arrays).items()]
    graph = helper.make_graph(nodes, "test", given, results, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)
    return str(path)


def classifier(path, rng, *, layout, kind, rank, batch, channels, size):
    """A model of any form of input: convolution, mean, and a Reshape that names the batch."""
    shape = [channels, *size] if layout == "nchw" else [*size, channels]
    shape = ([batch] if rank == 4 else []) + shape
    nodes, last = [], "x"

    def add(operator, *more, **attributes):
        nonlocal last
        made = f"v{len(nodes)}"
        nodes.append(helper.make_node(operator, [last, *more], [made], **attributes))
        last = made

    if kind != "FLOAT":
        add("Cast", to=TensorProto.FLOAT)
    if rank == 3:
        add("Unsqueeze", "first")
    if layout == "nhwc":
        add("Transpose", perm=[0, 3, 1, 2])
    add("Conv", "w")
    add("GlobalAveragePool")
    add("Reshape", "shape")
    rows = batch if isinstance(batch, int) and batch > 0 and rank == 4 else -1 if rank == 4 else 1
    arrays = {
        "w": rng.normal(size=(4, channels, 3, 3)).astype(np.float32),
        "shape": np.array([rows, 4]), "first": np.array([0]),
    }  # fmt: skip
    return written(path, nodes, {"x": (kind, shape)}, [last], arrays), last


def test_an_image_becomes_what_any_model_declares(tmp_path):
    rng = np.random.default_rng(7)
    for number in range(60):
        channels, rank = int(rng.integers(1, 6)), int(rng.choice([3, 4, 4]))
        layout, kind = str(rng.choice(["nchw", "nhwc"])), str(rng.choice(list(KINDS)))
        batch = [1, 2, 8, "N", -1][rng.integers(5)]
        free = rank == 4 and rng.integers(2)
        size = ("h", -1) if free else (int(rng.integers(7, 14)), int(rng.integers(7, 14)))
        path, output = classifier(
            tmp_path / f"{number}.onnx", rng, layout=layout, kind=kind, rank=rank, batch=batch,
            channels=channels, size=size,
        )  # fmt: skip
        wanted = (11, 9) if free else size
        network = onnx_network(path, wanted if free else None)
        assert network.input_shape == (1, channels, *wanted)
        pixels = rng.integers(0, 256, (15, 20, channels), np.uint8)
        tensor = network.preprocess(pixels, 255.0)
        if kind.endswith("8") or kind == "INT32":
            assert tensor.min() < -9 or kind != "INT8"
            assert tensor.max() > 30
        if channels > 4:
            assert network.preprocess.channels == "0,1,2,3,4"
        found = FusedGraph(network.graph).at(tensor.shape).run(tensor)[output]
        fed = np.moveaxis(tensor, 1, -1) if layout == "nhwc" else tensor
        typed = fed if KINDS[kind]().dtype.kind == "f" else np.rint(fed)
        typed = typed.astype(KINDS[kind])
        count = batch if isinstance(batch, int) and batch > 0 else 1
        typed = np.repeat(typed, count, axis=0) if rank == 4 else typed[0]
        (expected,) = ReferenceEvaluator(path).run(None, {"x": typed})
        near = 5e-3 if kind == "FLOAT16" else 1e-5
        np.testing.assert_allclose(found, expected[:1], rtol=near, atol=near * 255)


def relu(path, shape, kind="FLOAT"):
    return written(path, [helper.make_node("Relu", ["x"], ["y"])], {"x": (kind, shape)}, ["y"])


@pytest.mark.parametrize(("shape", "layout", "seen"), [
    ([1, 16, 20, 3], None, (1, 3, 16, 20)), ([1, 3, 16, 20], None, (1, 3, 16, 20)),
    (["N", "h", "w", 1], None, (1, 1, 224, 224)), ([-1, 4, -1, -1], None, (1, 4, 224, 224)),
    ([1, 3, 16, 4], None, (1, 3, 16, 4)), ([1, 3, 16, 4], "nhwc", (1, 4, 3, 16)),
    ([1, 16, 20, 7], "nhwc", (1, 7, 16, 20)), (None, None, (1, 3, 224, 224)),
    ([16, 20, 3], None, (1, 3, 16, 20)),
])  # fmt: skip
def test_the_layout_is_seen_in_the_shape_unless_it_is_said(shape, layout, seen, tmp_path):
    path = relu(tmp_path / "relu.onnx", shape)
    assert onnx_network(path, reading=Reading(layout=layout)).input_shape == seen


def test_a_free_size_is_one_that_fits_and_then_each_images(tmp_path):
    """A text recognizer's: rows must become one, columns are free."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[48, 1], strides=[48, 1]),
        helper.make_node("Squeeze", ["p", "two"], ["s"]),
        helper.make_node("Shape", ["s"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["columns"]),
        helper.make_node("Relu", ["columns"], ["still"]),  # of no axes, and stays so
        helper.make_node("Mul", ["still", "one"], ["length"]),
        helper.make_node("Unsqueeze", ["length", "zero"], ["tail"]),
        helper.make_node("Concat", ["head", "tail"], ["to"], axis=0),
        helper.make_node("Reshape", ["s", "to"], ["y"]),
    ]
    arrays = {
        "two": np.array([2]), "last": np.array(2), "one": np.array(1), "zero": np.array([0]),
        "head": np.array([1, 3]),
    }  # fmt: skip
    path = written(tmp_path / "rec.onnx", nodes, {"x": ("FLOAT", [-1, 3, "h", "w"])}, ["y"], arrays)
    network = onnx_network(path)
    assert network.input_shape == (1, 3, 48, 48)  # 224 leaves more rows
    assert network.graph.shapes({"x": (1, 3, 48, 50)})["y"] == (1, 3, 50)
    with pytest.raises(ModelError, match=r"Squeeze \(node s\): axes \[2\].*\(1, 3, 3, 70\)"):
        network.graph.at({"x": (1, 3, 144, 70)})
    with pytest.raises(ShapeError, match="at most 1073741824 elements"):
        network.graph.at({"x": (1, 3, 1 << 16, 1 << 16)})


def detector(path):
    """Two inputs, two outputs, and an operator that there is not."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["maps"]),
        helper.make_node("Mul", ["maps", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["flat"], ["classes"]),
        helper.make_node("Flatten", ["scaled"], ["flat"]),
        helper.make_node("Nonsense", ["scaled", "classes"], ["boxes"], domain="own"),
    ]
    inputs = {"image": ("FLOAT", [1, 3, 6, 6]), "scale": ("FLOAT", ["n", 2, 1, 1])}
    arrays = {"w": np.ones((2, 3, 5, 5), np.float32)}
    return written(path, nodes, inputs, ["scaled", "boxes"], arrays)


def run(*words):
    """(exit code, stdout, stderr) of a command line."""
    result = here(*words)
    return result.returncode, result.stdout, result.stderr


def test_several_inputs_and_operators_that_there_are_not_have_a_way_out(tmp_path):
    path = detector(tmp_path / "two.onnx")
    code, _, told = run("net", "summary", path)
    assert code == 2
    assert "inputs image (1, 3, 6, 6), scale (n, 2, 1, 1), expected one, an image; --feed" in told
    feed = ("--feed", "scale=2,3")
    code, _, told = run("net", "summary", path, *feed)
    assert code == 2
    assert "own.Nonsense (node boxes): the operator is not supported" in told
    assert "; --outputs scaled,classes leaves it out" in told
    code, shown, _ = run("net", "summary", path, *feed, "--outputs", "scaled,classes", "--json")
    assert code == 0
    rows = {row["layer"]: row["output_shape"] for row in json.loads(shown)["layers"]}
    assert rows == {"maps": [1, 2, 2, 2], "scaled": [1, 2, 2, 2], "flat": [1, 8], "classes": [1, 8]}
    options = (*feed, "--outputs", "scaled,classes")
    Pillow.fromarray(np.full((6, 6, 3), 255, np.uint8)).save(tmp_path / "white.png")
    white = (str(tmp_path / "white.png"), "--mean", "0", "--std", "1")
    code, shown, told = run("net", "predict", path, *white, *options, "--top", "1", "--json")
    assert code == 0
    assert json.loads(shown)["top"][0]["class"] == 4  # the first of the second map, times 3
    to = ("-o", f"{tmp_path}/", "--format", "npy")
    assert run("net", "features", path, *white, *options, "--layer", "scaled", *to)[0] == 0
    assert np.load(tmp_path / "white/scaled.npy").max() == 3 * 75
    for wrong, message in (
        (("--feed", "scale=1,2,3,4,5"), "--feed scale: 5 numbers for shape (n, 2, 1, 1)"),
        (("--feed", "scale"), "--feed 'scale': expected NAME=NUMBER"),
        (("--feed", "it=1"), "--feed it: no such input"),
        (("--outputs", "it"), "--outputs it: no node makes it"),
    ):
        code, _, told = run("net", "summary", path, *wrong)
        assert code == 2
        assert message in told
    assert "are for ONNX files" in run("net", "summary", "lenet5", "--layout", "nhwc")[2]


def test_the_images_channels_can_be_chosen(tmp_path):
    path = relu(tmp_path / "five.onnx", [1, "c", 2, 2])
    network = onnx_network(path, reading=Reading(channels=5))
    assert network.input_shape == (1, 5, 2, 2)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 6)
    with pytest.raises(UsageError, match="channel 4 of an image of 3 channels, expected 0 to 2"):
        network.preprocess(pixels[..., :3], 255.0)
    np.save(tmp_path / "six.npy", pixels)
    options = ("--channels", "5,0,0,2,1", "--white", "255", "--format", "npy", "--layer", "y")
    code, _, told = run("net", "features", path, str(tmp_path / "six.npy"), *options, "-o",
                        f"{tmp_path}/")  # fmt: skip
    assert code == 0, told
    expected = np.moveaxis(pixels[..., [5, 0, 0, 2, 1]], 2, 0)
    np.testing.assert_array_equal(np.load(tmp_path / "six/y.npy"), expected)


def test_opacity_goes_in_where_a_model_has_a_channel_for_it(tmp_path):
    network = onnx_network(relu(tmp_path / "rgba.onnx", [1, 6, 5, 4], "UINT8"))
    pixels = np.arange(120, dtype=np.uint8).reshape(6, 5, 4)
    planes = np.moveaxis(pixels, 2, 0)[None]
    np.testing.assert_array_equal(network.preprocess(pixels, 255.0, alpha=True), planes)
    opaque = network.preprocess(pixels[..., :3], 255.0)
    np.testing.assert_array_equal(opaque[:, :3], planes[:, :3])
    assert (opaque[:, 3] == 255).all()
    gray = onnx_network(relu(tmp_path / "graya.onnx", [1, 2, 6, 5]))
    assert gray.preprocess.channels == "graya"
    assert (gray.preprocess(pixels[..., :1], 255.0)[:, 1] == 1).all()
