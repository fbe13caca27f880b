"""`net draw`, `net receptive` on an image and `net features --report`, as users run them."""

import html
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.nn.analysis.receptive import region
from imgconv.nn.find import find_network
from imgconv.nn.models import get_network
from imgconv.nn.preprocess import Preprocess
from imgconv.viz.sheet import GUTTER

NET = "conv2d 5 3 padding=1 | relu | maxpool 2 | conv2d 20 3 | relu"


@pytest.fixture
def net(tmp_path, monkeypatch, capsys):
    """Run `imgconv net` in a folder with photo.png; return (code, output, error)."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.astronaut()[:90, :120]).save("photo.png")

    def call(*words):
        code = run(main, ["net", *map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_a_drawing_goes_to_a_file_of_the_networks_name_or_where_it_is_told(net, tmp_path):
    assert net("draw", "googlenet:aux=true") == (0, "", "")
    root = ElementTree.fromstring((tmp_path / "googlenet.svg").read_bytes())
    text = " ".join(root.itertext())
    assert "inception3a" in text
    assert "aux1.fc1" in text
    assert net("draw", "googlenet")[0] == 1
    assert net("draw", "googlenet", "--overwrite")[0] == 0
    code, _, err = net("draw", "lenet5", "-o", "lenet.png")
    assert (code, err.count("\n")) == (2, 1)
    assert ".svg" in err


def test_a_chain_is_drawn_with_a_box_a_step(net, tmp_path):
    assert net("draw", "gray | conv sobel stride=2 | relu | maxpool 2", "-o", "chain.svg")[0] == 0
    text = (tmp_path / "chain.svg").read_text()
    assert "conv 3×3, /2" in text
    assert text.count('<rect class="conv"') == 1
    assert text.count('<rect class="pool"') == 1


def test_the_region_is_drawn_on_what_the_network_is_given(net, tmp_path):
    common = (
        "receptive",
        NET,
        "photo.png",
        "--size",
        "64x80",
        "--layer",
        "4-conv2d",
        "--at",
        "9,7",
    )
    code, out, _ = net(*common, "--json", "--seed", 1)
    facts = json.loads(out)
    assert (code, facts["output"]) == (0, "photo-receptive.png")
    graph = find_network(NET, (64, 80)).graph
    assert facts["rows"] + facts["columns"] == list(
        region(graph, "4-conv2d", (9, 7), graph.shapes())
    )
    inner = facts["effective"]
    assert facts["rows"][0] <= inner["rows"][0] <= inner["rows"][1] <= facts["rows"][1]
    seen = np.asarray(Image.open(tmp_path / "photo-receptive.png"))
    factor = 448 // 80
    assert seen.shape[1] == 3 * GUTTER + 2 * 80 * factor
    # Beyond the region the picture is darkened to 0.35; its middle is as it was.
    top, left = facts["rows"][0], facts["columns"][0]
    middle = GUTTER + factor * (top + 4), GUTTER + factor * (left + 4)
    outside = GUTTER + factor * (top + 20), GUTTER + factor * (left + 4)
    assert seen[middle].max() > seen[outside].max()


def test_without_weights_only_the_theoretical_field_is_drawn(net, tmp_path):
    common = ("receptive", "resnet18", "photo.png", "--layer", "layer1.0.add", "--at", "5,5")
    code, out, err = net(*common, "-o", "a.png")
    assert (code, err) == (0, "")
    assert "effective" not in out
    wide = np.asarray(Image.open(tmp_path / "a.png")).shape[1]
    code, out, _ = net(*common, "-o", "b.png", "--seed", 1)
    assert "effective: within two deviations" in out
    assert np.asarray(Image.open(tmp_path / "b.png")).shape[1] > 1.9 * wide
    assert net(*common, "-o", "a.png")[0] == 1
    assert net("receptive", "lenet5", "--layer", "c1", "--at", "0,0", "-o", "x.png")[0] == 2


def test_a_field_needs_no_unit_and_a_part_of_a_network_is_its_last_layer(net):
    code, out, err = net("receptive", "resnet50", "--layer", "layer3")
    assert (code, err) == (0, "")
    assert out == (
        "layer3.5.relu_2: its field is 267×267 pixels, at a stride of 16×16; that of unit 0,0 is "
        "centered on 0,0\n"
    )
    whole = net("receptive", "resnet50", "--layer", "layer3.5.relu_2", "--at", "3,4")
    assert net("receptive", "resnet50", "--layer", "layer3", "--at", "3,4") == whole
    code, out, _ = net("receptive", "resnet50", "--layer", "layer*.0.downsample.0", "--json")
    sizes = [json.loads(line)["size"] for line in out.splitlines()]
    assert sizes == [[11, 11], [35, 35], [91, 91], [267, 267]]
    assert net("receptive", "resnet50", "--layer", "layer*", "--at", "0,0")[0] == 2
    code, _, err = net("receptive", "resnet50", "photo.png", "--layer", "layer3")
    assert (code, "expected --at" in err) == (2, True)
    code, _, err = net("receptive", "resnet50", "--layer", "layer9")
    assert (code, "no such layer" in err) == (2, True)


def test_a_model_that_holds_its_weights_needs_no_option_for_the_effective_field(net, tmp_path):
    helper = pytest.importorskip("onnx.helper")
    from onnx import TensorProto, numpy_helper, save

    weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Slice", ["r", "zero", "one", "one"], ["s"], name="slice"),
    ]
    arrays = [numpy_helper.from_array(weight, "w")]
    arrays += [
        numpy_helper.from_array(np.array([n]), name) for n, name in ((0, "zero"), (1, "one"))
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 32, 32])
            for n, c in (("x", 3), ("s", 2))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), "m.onnx")
    code, out, err = net("receptive", "m.onnx", "photo.png", "--layer", "r", "--at", "4,4")
    assert (code, err) == (0, "")
    assert "effective: within two deviations rows 3 to 5" in out
    assert (
        net("receptive", "m.onnx", "--layer", "s", "--at", "4,4")[1].splitlines()[2]
        == (out.splitlines()[2])
    )
    assert net("draw", "m.onnx")[0] == 0
    assert "Slice" in (tmp_path / "m.svg").read_text()


def test_a_view_is_what_the_network_sees_in_colors_that_people_know():
    pixels = data.astronaut()
    settings = get_network("resnet18").preprocess
    tensor = settings(pixels, 255.0)[0].transpose(1, 2, 0)
    mean, std = np.array(settings.mean), np.array(settings.std)
    np.testing.assert_allclose(settings.view(pixels, 255.0), (tensor * std + mean) * 255, atol=0.51)
    bgr = Preprocess(channels="bgr", resize=None, crop=None)
    np.testing.assert_array_equal(bgr.view(pixels, 255.0), pixels)


def test_features_report_every_layer_with_its_field_and_kernels(net, tmp_path):
    common = ("features", NET, "photo.png", "--seed", 1, "--size", 32, "--layer", "*")
    assert net(*common, "--report", "page.html")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "photo.png"]
    page = (tmp_path / "page.html").read_text()
    layers = [json.loads(html.unescape(text)) for text in re.findall(r'data-layer="(.*?)"', page)]
    assert [layer["name"] for layer in layers] == [
        "1-conv2d", "2-relu", "3-maxpool", "4-conv2d", "5-relu",
    ]  # fmt: skip
    assert [layer["field"]["down"]["size"] for layer in layers] == [3, 3, 4, 8, 8]
    assert [len(layer["maps"]) for layer in layers] == [5, 5, 5, 16, 16]
    assert net(*common, "--format", "npz", "-o", "maps", "--report", "more.html")[0] == 0
    arrays = np.load(tmp_path / "maps" / "photo.npz")
    for layer in layers:
        for shown in layer["maps"]:
            plane = arrays[layer["name"]][int(shown["label"].split()[1])]
            assert shown["low"] == pytest.approx(float(plane.min()), abs=1e-6)
            assert shown["high"] == pytest.approx(float(plane.max()), abs=1e-6)
    assert page.count('alt="Kernel ') == 5 + 16
    assert net(*common, "--report", "page.html")[0] == 1
    assert net(*common, "--report", "page.html", "--skip-existing")[0] == 0


def test_a_page_does_not_tell_where_the_weights_lay(net, tmp_path):
    assert net("features", "lenet5", "sample:digit", "--layer", "*", "--report", "p.html")[0] == 0
    page = (tmp_path / "p.html").read_text()
    assert "lenet5.safetensors" in page
    assert "nn/data" not in page
