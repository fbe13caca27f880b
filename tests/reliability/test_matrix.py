"""The table of docs/reliability.md is true: each row has its tests, and all that it names exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.reliability.support import imgconv, one_line, save_photo

ROOT = Path(__file__).parents[2]
TABLE = {
    int(match[1]): match[0]
    for match in re.finditer(
        r"^\| (\d+) \|.*$", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE
    )
}


def names_of_tests(folder):
    texts = [path.read_text() for path in sorted(folder.rglob("test_*.py"))]
    return re.findall(r"^def (test_\w+)", "\n".join(texts), re.MULTILINE)


@pytest.mark.parametrize("row", range(1, 29))
def test_every_row_of_the_matrix_has_tests_named_after_it(row):
    assert row in TABLE
    # `row_13_and_15` is of both.
    assert [
        name
        for name in names_of_tests(ROOT / "tests" / "reliability")
        if re.search(rf"^test_row_(\d\d_and_)?{row:02}_", name)
    ]


def test_every_test_that_the_table_names_is_there():
    known = names_of_tests(ROOT / "tests")
    for row, text in TABLE.items():
        tests = text.split("|")[4]
        for file in re.findall(r"`(tests/)?(\w+\.py)`", tests):
            folder = ROOT if file[0] else ROOT / "tests" / "reliability"
            assert (folder / "".join(file)).exists(), (row, file)
        for name in re.findall(r"`(test_\w+|row_\w+)(?!\.py)…?`", tests):
            assert any(one.removeprefix("test_").startswith(name.removeprefix("test_"))
                       for one in known), (row, name)  # fmt: skip


def model_of(tmp_path, *nodes, **held):
    """An ONNX file of nodes over x (1, 3, 8, 8) and initializers."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "row 16",
        [helper.make_tensor_value_info("x", kind, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", kind, None)],
        list(held.values()),
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def refused_model(tmp_path, path, *said):
    save_photo(tmp_path / "a.png", 8)
    result = imgconv(
        "net", "features", path, "a.png", "-q", "--layer", "*", "-o", "out/", cwd=tmp_path
    )
    assert result.returncode == 2, result
    one_line(result, b"model.onnx", *said)
    assert not (tmp_path / "out").exists()


def test_row_16_an_operator_that_cannot_run_is_named_with_its_node(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = model_of(tmp_path, onnx.helper.make_node("NonZero", ["x"], ["y"], name="the node"))
    refused_model(tmp_path, path, b"NonZero", b"the node")


def test_row_16_a_cycle_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    nodes = [
        onnx.helper.make_node("Relu", ["y"], ["z"], name="one"),
        onnx.helper.make_node("Relu", ["z"], ["y"], name="two"),
    ]
    refused_model(tmp_path, model_of(tmp_path, *nodes), b"one")


def test_row_16_data_outside_the_models_folder_are_not_read(tmp_path):
    onnx = pytest.importorskip("onnx")
    (tmp_path / "secret.bin").write_bytes(bytes(12))
    folder = tmp_path / "model"
    folder.mkdir()
    tensor = onnx.numpy_helper.from_array(np.ones((3, 1, 1), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = tensor.external_data.add()
    place.key, place.value = "location", "../secret.bin"
    path = model_of(folder, onnx.helper.make_node("Mul", ["x", "w"], ["y"]), w=tensor)
    refused_model(tmp_path, path, b"'w'", b"own folder")


def test_row_16_a_wrong_reduction_is_refused_before_any_image_is_read(tmp_path):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("ScatterND", ["x", "at", "by"], ["y"], reduction="sum")
    held = {"at": np.zeros((1, 4), np.int64), "by": np.ones(1, np.float32)}
    tensors = {name: onnx.numpy_helper.from_array(array, name) for name, array in held.items()}
    path = model_of(tmp_path, node, **tensors)
    result = imgconv("net", "summary", path, cwd=tmp_path)
    assert result.returncode == 2
    one_line(result, b"ScatterND", b"reduction='sum', expected none, add, mul, max, min")


def test_row_16_what_a_model_puts_along_the_axis_of_images_is_one_images(tmp_path):
    """It scores no class; its maps are those of all windows."""
    onnx = pytest.importorskip("onnx")
    reshape = onnx.helper.make_node("Reshape", ["x", "sizes"], ["y"])
    words = ("sample:chart:16", "--resize", "8", "--crop", "none")
    sizes = onnx.numpy_helper.from_array(np.array([3, 64]), "sizes")
    path = model_of(tmp_path, reshape, sizes=sizes)
    refused = imgconv("net", "predict", path, *words, cwd=tmp_path)
    assert refused.returncode == 2
    one_line(refused, b"its output y of shape (3, 64) is not a score for each class")
    sizes = onnx.numpy_helper.from_array(np.array([3, 1, 8, 8]), "sizes")
    path = model_of(tmp_path, reshape, sizes=sizes)
    made = imgconv("net", "features", path, *words, "--layer", "y", "--format", "npy", "-o", "out",
                   "--report", "page.html", cwd=tmp_path)  # fmt: skip
    assert made.returncode == 0, made.stderr
    (written,) = (tmp_path / "out").rglob("*.npy")
    assert np.load(written).shape == (3, 8, 8)


def test_row_16_scores_beyond_all_numbers_are_one_line(tmp_path):
    """NumPy's warnings about them are no lines of ours."""
    onnx = pytest.importorskip("onnx")
    make, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    path = model_of(
        tmp_path, make("Cast", ["x"], ["d"], to=onnx.TensorProto.DOUBLE),
        make("Mul", ["d", "w"], ["e"]), make("Add", ["e", "e"], ["f"]),
        make("ReduceSum", ["f", "axes"], ["s"], keepdims=0),
        make("Cast", ["s"], ["y"], to=onnx.TensorProto.FLOAT),
        w=tensor(np.array([1.7e308]), "w"), axes=tensor(np.array([2, 3]), "axes"),
    )  # fmt: skip
    result = imgconv("net", "predict", path, "sample:chart:16", "--resize", "8", "--crop", "none",
                     cwd=tmp_path)  # fmt: skip
    assert (result.returncode, result.stdout) == (1, b""), result.stderr
    one_line(result, b"sample:chart:16", b"NaN or infinity among its scores")


@pytest.mark.cluster
def test_row_26_a_bad_input_is_listed_and_the_rest_is_made_once(tmp_path):
    """Workers killed, schedulers lost and inputs that kill are in tests/batch/test_cluster.py."""
    pytest.importorskip("distributed")
    for number in range(6):
        save_photo(tmp_path / f"{number}.png", 40 + number)
    (tmp_path / "3.png").write_bytes(b"broken")
    names = [f"{number}.png" for number in range(6)]
    command = ("apply", "-q", "-k", "sobel", *names, "-o", "out/", "--cluster", "local:2")
    result = imgconv(*command, cwd=tmp_path)
    assert result.returncode == 1, result
    one_line(result, b"3.png")
    expected = [name for name in names if name != "3.png"]
    assert sorted(os.listdir(tmp_path / "out")) == expected
    for name in expected:
        alone = imgconv("apply", "-q", "-k", "sobel", name, "-o", "png:-", cwd=tmp_path)
        assert alone.stdout == (tmp_path / "out" / name).read_bytes()


def test_row_28_a_name_that_is_markup_stays_text_in_the_report(tmp_path):
    name = "<script>alert(1)<!--\"'&.png"
    save_photo(tmp_path / "a.png", 16)
    (tmp_path / "a.png").rename(tmp_path / name)
    result = imgconv("apply", "-q", "-k", "sobel", name, "--report", "page.html", cwd=tmp_path)
    assert result.returncode == 0, result
    page = (tmp_path / "page.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def test_no_command_but_a_cluster_needs_a_network(tmp_path):
    """Any socket but a local one raises."""
    program = """
import socket, sys
def refused(*_, **__):
    raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = refused
sys.addaudithook(lambda event, _: refused() if event.startswith("socket.") else None)
from imgconv.cli import main
from imgconv.cli.exit_codes import run
for words in (
    ["apply", "-q", "-k", "sobel", "a.png", "-o", "b.png", "--report", "page.html"],
    ["run", "-q", "gray | conv sobel | relu", "a.png", "-o", "c.png"],
    ["net", "predict", "lenet5", "sample:digit"], ["net", "summary", "resnet18"],
    ["explain"], ["show", "a.png"], ["compare", "a.png", "a.png"], ["doctor"], ["kernels", "list"],
):
    code = run(main, words)
    assert code == 0, words
"""
    save_photo(tmp_path / "a.png", 16)
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr[-1000:]
