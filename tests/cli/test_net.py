"""`imgconv net` as users run it, and networks of one's own."""

import json
import threading

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.batch.prediction import Prediction
from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.errors import ModelError, UsageError
from imgconv.io.reading import read_images
from imgconv.nn.chain import parse_chain
from imgconv.nn.chain import trace as trace_chain
from imgconv.nn.find import find_network, with_weights
from imgconv.nn.labels import imagenet_labels
from imgconv.nn.models import get_network
from imgconv.nn.preprocess import Preprocess, by_recipe, imagenet
from imgconv.nn.user import chain_network, file_network
from imgconv.nn.weights import draw_weights
from imgconv.safetensors import read_metadata, read_safetensors

NET = "conv2d 4 3 padding=1 | relu | maxpool 2 | conv2d 6 3 | flatten | linear 3"


@pytest.fixture
def net(tmp_path, monkeypatch, capsys):
    """Run `imgconv net` in a folder; return (code, output, error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = run(main, ["net", *map(str, words)])
        captured = capsys.readouterr()
        # The first run on a machine says that it compiles.
        lines = captured.err.splitlines(keepends=True)
        return code, captured.out, "".join(line for line in lines if "compiling" not in line)

    return call


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(data.astronaut()[:90, :120]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_digit_is_read_out_of_the_box(net):
    code, out, err = net(
        "predict", "lenet5", "sample:digit", "sample:digit-3", "--top", 2, "--json"
    )
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["top"][0]["label"] for row in rows] == ["5", "3"]
    assert all(len(row["top"]) == 2 and row["top"][0]["probability"] > 0.8 for row in rows)


def test_images_are_read_while_the_network_is_at_work(monkeypatch):
    work = Prediction(find_network("lenet5"), 1, batch=1)
    read, classify = work._read, work._classify
    second = threading.Event()
    waited = []

    def reading(source):
        if source == "sample:digit-1":
            second.set()
        return read(source)

    def classifying(rows):
        waited.append(second.wait(60))
        classify(rows)

    monkeypatch.setattr(work, "_read", reading)
    monkeypatch.setattr(work, "_classify", classifying)
    outcomes = list(work.outcomes(["sample:digit-0", "sample:digit-1"]))
    assert [outcome.source for outcome in outcomes] == ["sample:digit-0", "sample:digit-1"]
    assert waited == [True, True]


def test_classes_do_not_depend_on_the_batch_and_a_bad_image_stops_no_other(net, photo, tmp_path):
    digits = [f"sample:digit-{number}" for number in range(6)]
    names = [*digits[:3], "missing.png", photo, *digits[3:]]
    outs = {net("predict", "lenet5", *names, "--json", "--batch", size)[:2] for size in (1, 4, 9)}
    assert len(outs) == 1
    code, out = outs.pop()
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [row["input"] for row in rows] == [str(name) for name in names]
    assert "error" in rows[3]
    (tmp_path / "labels.txt").write_text("zero\none\n")
    code, _, err = net("predict", "lenet5", photo, "--labels", "labels.txt")
    assert (code, err) == (2, "imgconv: lenet5: 2 labels for 10 classes, expected as many\n")
    code, _, err = net("predict", "lenet5", photo, "--resize", "none")
    assert code == 2
    assert err.startswith(f"imgconv: {photo}: f6: Linear: input (1, 41400), expected")


def test_published_networks_name_imagenets_classes(net, tmp_path):
    names = imagenet_labels()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 207: "golden retriever", 281: "tabby", 971: "bubble", 999: "toilet tissue"}
    assert {number: names[number] for number in known} == known
    for network in ("alexnet", "vgg11_bn", "googlenet", "efficientnet_b0"):
        assert get_network(network).labels == names
    assert get_network("resnet18:classes=10").labels == ()
    words = ("predict", "resnet18", "sample:digit", "--seed", "1", "--size", "32", "-q")
    code, out, _ = net(*words, "--json", "--top", "3")
    rows = json.loads(out)["top"]
    assert code == 0
    assert [row["label"] for row in rows] == [names[row["class"]] for row in rows]
    (tmp_path / "own.txt").write_text("\n".join(map(str, range(1000))) + "\n")
    _, out, _ = net(*words, "--labels", "own.txt", "--json", "--top", "3")
    assert [row["label"] for row in json.loads(out)["top"]] == [str(row["class"]) for row in rows]
    (tmp_path / "plain.toml").write_text(
        'input = [1, 2, 500]\nsteps = ["flatten"]\n[preprocess]\nresize = [2, 500]\n'
    )
    _, out, _ = net("predict", "plain.toml", "sample:digit", "--labels", "imagenet", "--top", "1")
    assert out.split(": ")[1].rpartition(" ")[0] in names


def test_a_list_names_every_network_once(net):
    code, out, _ = net("list", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len({row["name"] for row in rows}) == len(rows) == 24
    assert {row["name"]: row["parameters"] for row in rows}["resnet50"] == 25_557_032


def test_a_summary_counts_what_its_rows_say(net):
    code, out, _ = net("summary", "resnet50", "--size", "320x200", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["input_shape"] == [1, 3, 320, 200]
    rows = {row["layer"]: row for row in found["layers"]}
    assert rows["layer4.2.relu_2"]["output_shape"] == [1, 2048, 10, 7]
    assert rows["layer4.2.relu_2"]["receptive_field"]["size"] == [427, 427]
    assert sum(row["parameters"] for row in found["layers"]) == found["parameters"] == 25_557_032
    dense = found["fully_connected_first_layer"]
    assert dense["weights"] == 320 * 200 * 3 * 64
    assert dense["convolution_weights"] == 7 * 7 * 3 * 64
    assert found["maps_bytes"] > found["peak_maps_bytes"] > 4 * 64 * 160 * 100


def test_a_size_that_does_not_go_through_names_the_layer(net):
    code, _, err = net("summary", "lenet5", "--size", "8")
    assert code == 2
    assert err == "imgconv: c3: kernel spans 5 elements but the padded input's height is 2\n"


def test_maps_are_those_of_the_graph_in_every_raw_format(net, photo, tmp_path):
    arguments = ("features", NET, photo, "--seed", 3, "--size", "32x40", "--layer", "*")
    for form in ("npy", "npz", "safetensors"):
        assert net(*arguments, "--format", form, "-q")[0] == 0
    network = find_network(NET, (32, 40))
    graph = draw_weights(network.graph, 3)
    image = next(read_images(str(photo)))
    tensor = network.preprocess(image.pixels, 255.0)
    with np.load(tmp_path / "maps" / "photo.npz") as archive:
        npz = {name: archive[name] for name in archive.files if name != "imgconv"}
    stored = read_safetensors(tmp_path / "maps" / "photo.safetensors")
    for name, values in graph.trace(tensor, [v for v in graph.values if v != "6-linear"]):
        expected = values[0] if values.ndim == 4 else values[None]
        single = np.load(tmp_path / "maps" / "photo" / f"{name}.npy")
        np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-5 * abs(values).max())
        np.testing.assert_array_equal(npz[name], single)
        np.testing.assert_array_equal(stored[name], single)
    note = json.loads(read_metadata(tmp_path / "maps" / "photo.safetensors")["imgconv"])
    assert note["options"]["seed"] == "3"


def test_pictures_of_all_maps_of_a_layer_and_its_sheet(net, photo, tmp_path):
    common = (NET, photo, "--seed", 1, "--size", 32, "--layer", "2-relu", "-q")
    assert net("features", *common)[0] == 0
    names = sorted(path.name for path in (tmp_path / "maps/photo/2-relu").iterdir())
    assert names == ["0.png", "1.png", "2.png", "3.png"]
    with Image.open(tmp_path / "maps/photo/2-relu/0.png") as picture:
        assert picture.size == (32, 32)
        assert picture.getextrema() == (0, 255)
    assert net("features", *common, "--sheet", "--colormap", "viridis")[0] == 0
    with Image.open(tmp_path / "maps/photo/2-relu.png") as sheet:
        assert sheet.mode == "RGB"
        assert sheet.width > 128
    # The first tile is what the network was given, under the title.
    assert net("features", *common, "--sheet", "--tile", 32, "-o", "small/")[0] == 0
    with Image.open(tmp_path / "small/photo/2-relu.png") as sheet, Image.open(photo) as picture:
        given = picture.resize((32, 32), Image.Resampling.BILINEAR)
        seen = sheet.convert("RGB").crop((8, 24, 40, 56))
        assert np.abs(np.asarray(seen, int) - np.asarray(given, int)).max() <= 1


def test_untrained_maps_are_called_so(net, photo):
    _, _, err = net("features", NET, photo, "--seed", 7, "--size", 32, "--layer", "2-relu")
    assert "weights are random (seed 7), not trained" in err
    code, _, err = net("predict", "vgg16", photo)
    assert code == 2
    assert "vgg16: no weights, expected --weights FILE, or --seed N" in err


def test_a_dry_run_counts_maps_and_bytes_and_writes_nothing(net, photo, tmp_path):
    code, out, _ = net(
        "features", "vgg16", photo, "--seed", 1, "--layer", "features.1", "--layer",
        "features.2?", "--dry-run", "-q",
    )  # fmt: skip
    assert code == 0
    layers = 64 * 224 * 224 + 512 * 28 * 28 * 3 + 512 * 14 * 14 * 7
    assert (
        out.splitlines()[-1]
        == f"{64 + 512 * 10:,} maps of 11 layers, {4 * layers:,} bytes as float32"
    )
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "9-conv"], "--layer 9-conv: no such layer; did you mean 4-conv2d?"),
        (["--layer", "*", "--tile", "64"], "--tile needs --sheet"),
        (["--layer", "*", "--scale", "loud"], "--scale loud: expected"),
        (["--layer", "*", "--std", "0"], "std=(0.0,): expected numbers other than 0"),
        (["--layer", "*", "--weights", "w.npz"], "--weights and --seed, expected one of them"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_told_before_any_work(words, message, net, photo, tmp_path):
    code, _, err = net("features", NET, photo, "--seed", 1, *words, "-q")
    assert code == 2
    assert message in err
    assert not (tmp_path / "maps").exists()


def test_two_images_of_one_name_are_refused_before_any_work(net, photo, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "photo.png"
    twin.write_bytes(photo.read_bytes())
    common = ("features", NET, photo, twin, "--seed", 1, "--size", 16, "--layer", "2-relu", "-q")
    code, _, err = net(*common)
    assert code == 2
    assert "output of both" in err
    assert not (tmp_path / "maps").exists()
    assert net(*common, "-o", "maps/{parent}-{stem}/{map}.png")[0] == 0
    assert (tmp_path / "maps/other-photo/0.png").exists()


def test_one_bad_image_leaves_the_others_done(net, photo, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG not")
    code, out, err = net(
        "features", NET, "missing.png", "bad.png", photo, "--seed", 1, "--size", 16,
        "--layer", "2-relu", "--json", "-q",
    )  # fmt: skip
    assert code == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert [("error" in row) for row in rows] == [True, True, False]
    assert err.count("\n") == 2
    assert rows[2]["maps"] == 4


def test_existing_outputs_are_kept_replaced_or_completed(net, photo, tmp_path):
    common = ("features", NET, photo, "--seed", 1, "--size", 16, "--layer", "2-relu", "-q")
    assert net(*common)[0] == 0
    first = tmp_path / "maps/photo/2-relu/0.png"
    whole = first.read_bytes()
    code, _, err = net(*common)
    assert code == 1
    assert "exists; --overwrite replaces it" in err
    first.write_bytes(whole[:50])
    assert net(*common, "--skip-existing")[0] == 0
    assert first.read_bytes() == whole
    first.write_bytes(b"old")
    assert net(*common, "--overwrite")[0] == 0
    assert first.read_bytes() == whole


def test_weights_are_converted_and_give_the_same_classes(net, photo):
    assert net("convert", NET, "--seed", 5, "-o", "w.npz")[0] == 0
    assert net("convert", NET, "--weights", "w.npz", "-o", "w.safetensors")[0] == 0
    outs = {
        net("predict", NET, photo, *words, "--json", "-q")[1]
        for words in (("--seed", 5), ("--weights", "w.npz"), ("--weights", "w.safetensors"))
    }
    assert len(outs) == 1
    code, _, err = net("convert", NET, "--seed", 5, "-o", "w.png")
    assert code == 2
    assert "expected a name that ends in .safetensors, .npz or .onnx" in err


def test_weights_of_another_form_are_recognized(net, tmp_path):
    assert net("convert", "lenet5:form=paper", "--seed", 1, "-o", "w.npz", "-q")[0] == 0
    code, _, err = net("predict", "lenet5", "sample:digit", "--weights", "w.npz")
    assert code == 2
    assert "these weights are not lenet5's" in err
    assert "they are those of lenet5:form=paper" in err


def test_preprocessing_is_torchvisions():
    photo = data.astronaut()[:400, :300]
    # Resize(256) then CenterCrop(224) on a Pillow image.
    picture = Image.fromarray(photo).resize((256, int(256 * 400 / 300)), Image.Resampling.BILINEAR)
    left, top = round((256 - 224) / 2), round((picture.height - 224) / 2)
    cut = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    expected = ((cut - mean) / std).transpose(2, 0, 1)[None]
    result = imagenet()(photo, 255.0)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
    flipped = Preprocess(channels="bgr", scale=255.0, mean=(1.0, 2.0, 3.0), std=(1.0,))(
        photo, 255.0
    )
    np.testing.assert_allclose(
        flipped[0, 0], cut[..., 2] * 255 - 1, rtol=1e-5, atol=1e-3
    )  # fmt: skip


def test_sixteen_bit_gray_and_opaque_images_are_taken_alike():
    photo = data.astronaut()[:60, :60]
    settings = Preprocess(resize=(32, 32), crop=None, mean=(0.0,), std=(1.0,))
    plain = settings(photo, 255.0)
    deep = settings(photo.astype(np.uint16) * 257, 65535.0)
    np.testing.assert_allclose(deep, plain, atol=1 / 255)
    with_alpha = np.concatenate([photo, photo[..., :1]], axis=2)
    np.testing.assert_array_equal(settings(with_alpha, 255.0, alpha=True), plain)
    gray = settings(photo[..., :1], 255.0)
    np.testing.assert_array_equal(gray[0, 0], gray[0, 2])
    inverted = Preprocess(resize=(32, 32), crop=None, mean=(0.0,), std=(1.0,), invert=True)
    np.testing.assert_allclose(inverted(photo, 255.0), 1 - plain, atol=1e-6)


def test_a_chain_is_the_same_by_run_and_by_net():
    photo = data.astronaut()[:60, :80]
    text = "gray | conv gaussian:sigma=1 | conv haar stride=2 padding=valid | relu | maxpool 2"
    ran = [maps for _, maps in trace_chain(photo, parse_chain(text))]
    network = chain_network(text)
    traced = dict(network.graph.trace(network.preprocess(photo, 255.0)))
    assert list(traced) == [step.name for step in parse_chain(text)]
    for maps, values in zip(ran, traced.values(), strict=True):
        # run rounds the gray of 8-bit images to 8 bits.
        np.testing.assert_allclose(values[0].transpose(1, 2, 0), maps, atol=1.5)


def test_run_refuses_layers_that_have_weights():
    with pytest.raises(UsageError, match="has weights, which `run` does not load"):
        parse_chain("gray | conv2d 8 3")


OWN = """
input = [3, 8, 8]
labels = ["cat", "dog"]
weights = "own.npz"
[preprocess]
mean = [0.5, 0.5, 0.5]
[[layers]]
name = "conv"
layer = "conv2d 4 3 padding=1"
[[layers]]
name = "relu"
layer = "relu"
[[layers]]
layer = "add"
inputs = ["relu", "conv"]
[[layers]]
layer = "flatten"
[[layers]]
name = "fc"
layer = "linear 2"
"""


def test_a_file_describes_branches_preprocessing_labels_and_weights(tmp_path, net, photo):
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    network = file_network(str(path))
    assert network.graph.values == ["conv", "relu", "3-add", "4-flatten", "fc"]
    assert network.graph.producers["3-add"].inputs == ("relu", "conv")
    assert network.preprocess.mean == (0.5, 0.5, 0.5)
    assert network.preprocess.resize == (8, 8)
    arrays = {name: np.ones(p.shape, np.float32) for name, p in network.graph.parameters().items()}
    arrays["fc.weight"][0] = 2
    np.savez(tmp_path / "own.npz", **arrays)
    loaded, source = with_weights(network, None, None)
    assert source == str(tmp_path / "own.npz")
    assert loaded.graph.run(np.ones((1, 3, 8, 8), np.float32))["fc"].shape == (1, 2)
    code, out, _ = net("predict", "own.toml", photo, "--top", 1)
    assert code == 0
    assert out.startswith(f"{photo}: cat 100.0%")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("conv2d 4 3 padding=1", "conv2d 4 x"), r"kernel_size=.x., expected"),
        (('inputs = ["relu", "conv"]', 'inputs = ["relu", "nothing"]'), "'nothing' is made by no"),
        (('name = "relu"', 'name = "conv"'), "layer 2: 'conv' is there twice"),
        (('layer = "flatten"', "size = 3"), r'layer 4: expected layer = "…"'),
        (("input = [3, 8, 8]", "input = [3, 8]"), r"expected \[channels, height, width\]"),
        (("mean = ", "meen = "), "'meen', expected one of"),
        (("mean = [0.5, 0.5, 0.5]", "mean = [0.5, 0.5]"), "2 numbers for 3 channels"),
        (("labels = ", "label = "), "'label', expected one of"),
        (("linear 2", "linear"), "out_features is missing"),
        (("linear 2", "linear 2 size=3"), "'size=3', expected linear OUT_FEATURES"),
        (("[preprocess]", "[preprocess"), "own.toml: "),
        (('weights = "own.npz"', "weights = 5"), "weights = 5, expected a text"),
        (('name = "conv"', "name = 5"), r'layer 1: expected layer = "…"'),
        (("mean = [0.5, 0.5, 0.5]", "mean = true"), "mean = True, expected a number, or a list"),
        (("mean = [0.5, 0.5, 0.5]", "scale = [1, 2]"), r"scale = \[1, 2\], expected a number"),
        (("mean = [0.5, 0.5, 0.5]", "crop = [8]"), r"crop = \[8\], expected a whole number"),
        (("mean = [0.5, 0.5, 0.5]", "crop = [0, 8]"), r"crop = \[0, 8\], expected a whole"),
        (("mean = [0.5, 0.5, 0.5]", "resize = [8, 8, 8]"), r"resize = \[8, 8, 8\], expected"),
        (("mean = [0.5, 0.5, 0.5]", "resize = 8.5"), "resize = 8.5, expected a whole number"),
        (("mean = [0.5, 0.5, 0.5]", 'invert = "no"'), "invert = 'no', expected true or false"),
        (("mean = [0.5, 0.5, 0.5]", 'interpolation = "x"'), "interpolation 'x', expected one of"),
    ],
)
def test_a_wrong_file_says_where_and_what_was_expected(change, message, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(*change))
    with pytest.raises((ModelError, UsageError), match=message):
        file_network(str(path))


def test_weights_bring_the_preprocessing_that_they_were_trained_with(tmp_path, net):
    """torchvision's second weights are known by their file's name, which a record outlives."""
    Image.fromarray(data.astronaut()[:80, :70]).save("photo.png")
    text = 'input = [3, 28, 28]\nsteps = ["conv2d 2 3", "relu"]\n[preprocess]\ncrop = 28\n'
    (tmp_path / "own.toml").write_text(text)
    second = tmp_path / "resnet50-11ad3fa6.npz"
    assert net("convert", "own.toml", "-o", second, "--seed", 1)[0] == 0
    features = ("features", "own.toml", "photo.png", "--layer", "2-relu", "--weights", second)
    code, _, err = net(*features, "-o", "second")
    assert code == 0
    assert "second weights, taken with --preprocess imagenet-v2" in err
    code, _, err = net(*features, "-o", "first", "--preprocess", "imagenet")
    assert (code, "second weights" in err) == (0, False)
    made, other = (sorted((tmp_path / name).rglob("*.png"))[0] for name in ("second", "first"))
    assert made.read_bytes() != other.read_bytes()
    second.rename("w.npz")
    again = ["repeat", str(made), "--weights", "w.npz", "--network", "own.toml"]
    assert run(main, again) == 0


def test_recipes_are_torchvisions():
    sides = {size: by_recipe(imagenet(size), "imagenet-v2").resize for size in (224, 240)}
    assert sides == {224: 232, 240: 255}
    assert by_recipe(imagenet(224), "imagenet") == imagenet(224)
    assert by_recipe(get_network("googlenet").preprocess, "inception").mean == (0.5, 0.5, 0.5)
