"""The public API: its names, its examples, and that it does what the command line does."""

import doctest
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import imgconv
from imgconv import api
from imgconv.nn.models import base
from tests.running import here

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Pillow.fromarray(PHOTO).save("photo.png", dpi=(300, 300))
    return tmp_path


def test_the_root_has_every_name_and_costs_nothing():
    assert all(callable(getattr(imgconv, name)) for name in imgconv.__all__)
    assert imgconv.apply is api.apply
    assert set(imgconv.__all__) <= set(dir(imgconv))
    with pytest.raises(AttributeError, match="no attribute 'aply'"):
        imgconv.aply  # noqa: B018
    code = "import sys, imgconv; print('numpy' in sys.modules, imgconv.conv2d.__name__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False conv2d\n"


@pytest.mark.parametrize("module", [imgconv, api])
def test_examples_run(module):
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


def test_every_name_of_ours_has_an_example():
    for name in ("read", "write", "apply", "maps", "kernel", "network"):
        assert ">>> " in getattr(imgconv, name).__doc__


def test_the_page_is_what_the_docstrings_say():
    path = Path(__file__).parent.parent / "docs" / "update_api.py"
    spec = importlib.util.spec_from_file_location("update_api", path)
    update = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(update)
    assert update.PAGE.read_text() == update.page(), "run python docs/update_api.py"


COMMANDS = [
    (["-k", "sobel"], {"kernel": "sobel"}),
    (["-k", "gaussian:sigma=2", "--stride", "2", "--padding-mode", "circular"],
     {"kernel": "gaussian:sigma=2", "stride": 2, "padding_mode": "circular"}),
    (["-k", "1 2; 3 4", "--padding", "valid", "--gray", "--activation", "relu", "--flip",
      "--pool", "max:2", "--scale", "minmax"],
     {"kernel": "[[1, 2], [3, 4]]", "padding": "valid", "gray": True, "activation": "relu",
      "flip": True, "pool": "max:2", "scale": "minmax"}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "options"), COMMANDS)
def test_apply_does_what_the_command_does(photo, words, options):
    assert here("apply", *words, "photo.png", "-o", "cli.png").returncode == 0
    made = imgconv.apply("photo.png", **options)
    np.testing.assert_array_equal(np.squeeze(made.pixels), np.asarray(Pillow.open("cli.png")))
    assert here("apply", *words, "photo.png", "-o", "cli.npy").returncode == 0
    raw = imgconv.apply(PHOTO, **{**options, "scale": None}, dtype=np.float32)
    np.testing.assert_array_equal(raw.pixels, np.load("cli.npy").reshape(raw.pixels.shape))


def test_images_arrays_and_kernels_of_every_kind_are_taken(photo):
    image = imgconv.read("photo.png")
    box = imgconv.kernel([[1 / 9] * 3] * 3)
    expected = imgconv.apply(image, box).pixels
    for kernel in (np.full((3, 3), 1 / 9), "1/9 1/9 1/9; 1/9 1/9 1/9; 1/9 1/9 1/9"):
        np.testing.assert_array_equal(imgconv.apply(PHOTO, kernel).pixels, expected)
    assert imgconv.apply(PHOTO[..., 0], "box:3").pixels.shape == (40, 60, 1)
    sobel = imgconv.kernel("sobel-x")
    x = PHOTO[None, :, :, 0].astype(np.float32)
    np.testing.assert_array_equal(
        imgconv.conv2d(x, sobel), imgconv.conv2d(x, sobel.effective_weights())
    )
    np.testing.assert_array_equal(
        imgconv.filter_image(PHOTO, sobel), imgconv.filter_image(PHOTO, sobel.effective_weights())
    )


def test_maps_of_a_bank_have_its_labels():
    maps = imgconv.maps(PHOTO, "sobel-x", "kirsch", combine="none")
    assert list(maps)[:3] == ["sobel-x", "kirsch-e", "kirsch-ne"]
    with pytest.raises(TypeError, match="no option strid, expected stride, "):
        imgconv.maps(PHOTO, "kirsch", strid=2)
    with pytest.raises(imgconv.ImgconvError, match="apply: 8 maps"):
        imgconv.apply(PHOTO, "kirsch", combine="none")


def test_writing_keeps_what_describes_the_image_and_replaces_nothing(photo):
    image = imgconv.read("photo.png")
    imgconv.write("copy.png", image)
    with Pillow.open("copy.png") as copy:
        np.testing.assert_array_equal(np.asarray(copy), PHOTO)
        assert round(copy.info["dpi"][0]) == 300
    with pytest.raises(imgconv.ImgconvError, match=r"copy\.png: exists"):
        imgconv.write("copy.png", PHOTO)
    imgconv.write("copy.png", PHOTO[::-1], overwrite=True)
    np.testing.assert_array_equal(imgconv.read("copy.png").pixels, PHOTO[::-1])
    with pytest.raises(imgconv.ImgconvError, match="samples of float32, png holds uint8, uint16"):
        imgconv.write("floats.png", PHOTO / np.float32(255))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: imgconv.read("missing.png"), "missing.png: No such file"),
        (lambda: imgconv.apply(np.zeros(3), "sobel"), r"shape \(3,\), expected \(H, W\)"),
        (lambda: imgconv.apply(np.zeros((3, 3), complex), "sobel"), "complex128, expected real"),
        (lambda: imgconv.apply(PHOTO, "sobell"), "did you mean sobel"),
        (lambda: imgconv.apply(PHOTO, "sobel", activation="relo"), "relo"),
        (lambda: imgconv.maps(PHOTO), "no kernel"),
        (lambda: imgconv.network("lenet55"), "did you mean lenet5"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(call, says):
    with pytest.raises(imgconv.ImgconvError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_network_predicts_as_the_command_does():
    lenet = imgconv.network("lenet5")
    best = lenet.predict("sample:digit", top=2)
    assert isinstance(best[0], base.Prediction)
    told = here("net", "predict", "lenet5", "sample:digit", "--json", "--top", "2")
    assert f'"probability": {best[0].probability}' in told.stdout
    features = lenet.features("sample:digit")
    assert list(features) == lenet.graph.values
    assert features["c1"].shape == (1, 6, 28, 28)


def test_images_and_kernels_show_themselves():
    for shown in (
        imgconv.read("sample:chart"),
        imgconv.apply(PHOTO, "sobel", dtype=np.float32),
        imgconv.kernel("gabor"),
    ):
        assert shown._repr_png_().startswith(b"\x89PNG")


SAMPLE = """
import numpy as np
import imgconv

image: imgconv.Image = imgconv.read("photo.png")
edges = imgconv.apply(image, "sobel", padding_mode="circular", stride=(2, 2))
imgconv.write("edges.png", edges, overwrite=True)
weights = np.ones((8, 3, 3, 3), np.float32)
maps = imgconv.conv2d(np.zeros((1, 3, 32, 32), np.float32), weights, padding=1)
pooled: np.ndarray = imgconv.max_pool2d(maps, 2)
kernel: imgconv.Kernel = imgconv.kernel([[1, 2, 1]])
for name, made in imgconv.maps(image, kernel, "gabor").items():
    print(name.upper(), made.pixels.mean())
print(imgconv.network("lenet5").predict(image)[0].probability + 1)
"""


def test_a_program_is_checked_by_its_types(tmp_path):
    (tmp_path / "sample.py").write_text(SAMPLE)
    wrong = SAMPLE.replace('padding_mode="circular"', 'padding_mode="round"')
    (tmp_path / "wrong.py").write_text(wrong)
    for name, code in (("sample.py", 0), ("wrong.py", 1)):
        result = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(tmp_path / name)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == code, result.stdout
    assert 'Argument "padding_mode" to "apply"' in result.stdout
