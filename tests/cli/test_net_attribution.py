"""`net cam`, `net occlusion`, `net filters`, rankings and gathered maps, as users run them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgconv.nn.analysis.attribution import ClassMaps
from imgconv.nn.find import find_network, with_weights
from imgconv.safetensors import read_metadata, read_safetensors
from imgconv.viz.colormaps import table
from imgconv.viz.heat import overlay
from tests.running import here


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lenet():
    return with_weights(find_network("lenet5"), None, None)[0]


def test_cam_writes_a_picture_over_the_image_and_says_what_it_explains():
    words = ("net", "cam", "lenet5", "sample:digit")
    result = here(*words)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "sample:digit: 5, score 5.488: 10×10 of c3.tanh -> digit-cam.png\n"
    with Image.open("digit-cam.png") as picture:
        assert picture.size == (448, 448)
    assert here(*words).returncode == 1
    assert here(*words, "--skip-existing").returncode == 0


def test_values_are_written_as_computed_and_told_as_json(lenet):
    words = ("net", "cam", "lenet5", "sample:digit", "--class")
    result = here(*words, 3, "--layer", "c1.tanh", "--format", "npy", "-o", "maps/", "--json")
    row = json.loads(result.stdout)
    values = np.load("maps/digit.npy")
    expected = ClassMaps(lenet, "c1.tanh")(lenet._tensor("sample:digit"), 3)
    np.testing.assert_array_equal(values, expected.values)
    assert (row["class"], row["label"], row["layer"]) == (3, "3", "c1.tanh")
    assert values[tuple(row["at"])] == row["largest"] == values.max()
    for number in ("12", "three"):
        refused = here(*words, number)
        assert refused.returncode == 2
        assert f"--class {number}" in refused.stderr


def test_images_without_places_of_their_own_are_refused_before_any_work():
    result = here("net", "cam", "lenet5", "sample:digit", "sample:digit-3", "-o", "one.png")
    assert result.returncode == 2
    assert "one.png: output of both" in result.stderr
    assert not list(Path().iterdir())
    result = here("net", "occlusion", "lenet5", "sample:digit", "none.png", "-o", "maps/",
                  "--window", "8", "--stride", "8", "--format", "npz")  # fmt: skip
    assert result.returncode == 1
    assert "none.png" in result.stderr
    assert np.load("maps/digit.npz")["occlusion"].shape == (32, 32)


@pytest.mark.parametrize(("fill", "value"), [("white", 1.0), ("black", 0.0), ("gray", 0.5)])
def test_occlusion_of_everything_is_the_fall_to_the_score_of_a_plain_image(fill, value, lenet):
    here("net", "occlusion", "lenet5", "sample:digit", "--window", "32", "--fill", fill,
         "--format", "npy", "--class", "5")  # fmt: skip
    tensor = lenet._tensor("sample:digit")
    scores = [float(lenet.graph.run(x)["output"][0, 5])
              for x in (tensor, np.full_like(tensor, value))]  # fmt: skip
    values = np.load("digit-occlusion.npy")
    np.testing.assert_allclose(values, np.full((32, 32), scores[0] - scores[1]), rtol=1e-4)


def test_an_overlay_is_darkened_gray_and_the_maps_color():
    image = np.full((448, 448, 3), (30, 60, 90), np.uint8)
    heat = np.array([[0.0, 2.0]], np.float32)
    found = overlay(image, heat, "magma").astype(float)
    for column, share, entry in ((0, 0.15, 0), (447, 0.75, 255)):
        expected = 0.6 * 60 * (1 - share) + table("magma")[entry] * share
        np.testing.assert_allclose(found[:, column], np.tile(expected, (448, 1)), atol=1)
    signed = overlay(image, np.array([[-1.0, 1.0]], np.float32), "coolwarm")
    assert signed[0, 0, 2] > signed[0, 0, 0]
    assert signed[0, -1, 0] > signed[0, -1, 2]
    assert overlay(image[:32, :32, :1], heat, "viridis").shape == (448, 448, 3)


def test_a_report_shows_what_speaks_for_the_class():
    words = ("net", "features", "lenet5", "sample:digit", "--layer", "c1")
    assert here(*words, "--report", "r.html", "--cam", "--occlusion").returncode == 0
    page = Path("r.html").read_text()
    assert page.index("<h2>Grad-CAM of c3.tanh") < page.index("<h2>Occlusion")
    assert page.index("<h2>Occlusion") < page.index("<h2>c1")
    assert page.count("Over the image") == 2
    refused = here(*words, "--cam")
    assert (refused.returncode, "--cam needs --report" in refused.stderr) == (2, True)


def test_the_maps_that_fire_most_are_told_per_image_and_over_all(lenet):
    names = ("sample:digit", "sample:digit-3")
    words = ("net", "features", "lenet5", *names, "--layer", "c1", "--layer", "f6", "--top-maps", 2)
    rows = [json.loads(line) for line in here(*words, "--json").stdout.splitlines()]
    assert not list(Path().iterdir())  # only told
    maps = [lenet.features(name, ["c1", "f6"]) for name in names]
    for number, layer in enumerate(("c1", "f6")):
        planes = [found[layer].reshape(found[layer].shape[1], -1) for found in maps]
        means = [plane.mean(axis=1, dtype=float) for plane in planes]
        for image in (0, 1):
            told = rows[2 * image + number]["top_maps"]
            assert [row["map"] for row in told] == list(np.argsort(-means[image])[:2])
            assert told[0]["mean"] == pytest.approx(means[image].max(), rel=1e-5)
            assert told[0]["largest"] == pytest.approx(planes[image][told[0]["map"]].max())
        over = rows[4 + number]
        assert (over["layer"], over["images"]) == (layer, 2)
        assert [row["map"] for row in over["top_maps"]] == list(np.argsort(-sum(means))[:2])
    assert "over 2 images c1: map 4 mean " in here(*words).stdout
    assert here(*words, "-o", "maps").returncode == 0
    assert Path("maps/digit/c1/0.png").exists()


def test_maps_of_many_images_are_gathered_in_one_file_with_an_index(lenet):
    names = ["sample:digit", "none.png", "sample:digit-3"]
    words = ("net", "features", "lenet5", *names, "--layer", "c1", "--layer", "f6")
    result = here(*words, "--gather", "all.safetensors", "--json")
    assert result.returncode == 1  # one could not be read
    row = json.loads(result.stdout.splitlines()[-1])
    assert row["layers"] == {"c1": [2, 6, 28, 28], "f6": [2, 84]}
    assert row["bytes"] == Path("all.safetensors").stat().st_size
    assert [path.name for path in Path().iterdir()] == ["all.safetensors"]
    read = [names[0], names[2]]
    metadata = read_metadata("all.safetensors")
    assert [entry["input"] for entry in json.loads(metadata["inputs"])] == read
    assert (metadata["network"], metadata["weights"]) == ("lenet5", "lenet5.safetensors")
    found = read_safetensors("all.safetensors")
    for number, name in enumerate(read):
        for layer, maps in lenet.features(name, ["c1", "f6"]).items():
            np.testing.assert_array_equal(found[layer][number], maps[0])
    assert "exists; --overwrite" in here(*words, "--gather", "all.safetensors").stderr
    assert here(*words, "--gather", "all.npz").returncode == 2


def test_images_of_another_size_are_left_out_of_what_is_gathered():
    Image.new("L", (40, 36), 9).save("a.png")
    Image.new("L", (30, 36), 9).save("b.png")
    Image.new("L", (40, 36), 99).save("c.png")
    result = here("net", "features", "conv2d 2 3 | relu", "a.png", "b.png", "c.png", "--seed", 1,
                  "--order", "rgb", "--layer", "*", "--gather", "g.safetensors")  # fmt: skip
    assert result.returncode == 1
    assert "b.png: --gather: 1-conv2d is 2×34×28, but 2×34×38 in earlier images" in result.stderr
    found = read_safetensors("g.safetensors")
    inputs = json.loads(read_metadata("g.safetensors")["inputs"])
    assert [entry["input"] for entry in inputs] == ["a.png", "c.png"]
    here("net", "features", "conv2d 2 3 | relu", "c.png", "--seed", 1, "--order", "rgb",
         "--layer", "*", "--format", "npz", "-o", "one/")  # fmt: skip
    with np.load("one/c.npz") as alone:
        np.testing.assert_array_equal(found["1-conv2d"][1], alone["1-conv2d"])


def test_filters_of_a_first_layer_are_drawn_in_color():
    weights = np.zeros((2, 3, 2, 2), np.float32)
    weights[0, 0] = 1  # all red
    weights[1] = [[[-1, 1], [0, 0]]] * 3
    np.savez("w.npz", **{"1-conv2d.weight": weights, "1-conv2d.bias": np.zeros(2, np.float32)})
    Path("n.toml").write_text('input = [3, 4, 4]\nsteps = ["conv2d 2 2"]\n')
    words = ("net", "filters", "n.toml", "--weights", "w.npz", "--tile", 16, "--columns", 2)
    result = here(*words, "-o", "f.png")
    assert result.stdout == "1-conv2d: 2 × 3 × 2 × 2 -> f.png\n", result.stderr
    with Image.open("f.png") as picture:
        sheet = np.asarray(picture)
    assert list(sheet[12, 12]) == [255, 128, 128]
    second = sheet[8:24, 32:48]
    assert [list(second[4, 4]), list(second[4, 12]), list(second[12, 4])] == [
        [0] * 3, [255] * 3, [128] * 3
    ]  # fmt: skip
    here(*words, "-o", "f.npy")
    np.testing.assert_array_equal(np.load("f.npy"), weights)
    assert here("net", "filters", "relu").returncode == 2
