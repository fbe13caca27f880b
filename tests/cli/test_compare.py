"""`imgconv compare` against scikit-image's measures, and as a script's judge."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data, metrics
from skimage.filters import gaussian

from imgconv.cli import main
from imgconv.cli.exit_codes import run
from imgconv.viz.colormaps import table
from imgconv.viz.compare import compare

PHOTO = data.astronaut()[:160, 100:300]


@pytest.fixture
def imgconv(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTO).save("a.png")
    Image.fromarray(np.clip(PHOTO.astype(int) + 3, 0, 255).astype(np.uint8)).save("b.png")

    def call(*arguments):
        code = run(main, ["compare", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_psnr_and_ssim_are_scikit_images(dtype, white, channels):
    first = (PHOTO[..., :channels] / 255 * white).astype(dtype)
    noise = np.random.default_rng(1).normal(0, 0.04, first.shape)
    soft = np.clip(gaussian(first / white, 1, channel_axis=2) + noise, 0, 1)
    second = (soft * white).astype(dtype)
    found, difference = compare(first, second, white)
    wide = [image.astype(np.float64) for image in (first, second)]
    expected = metrics.peak_signal_noise_ratio(*wide, data_range=white)
    assert found.psnr == pytest.approx(expected, rel=1e-12)
    similarity = metrics.structural_similarity(
        *wide, data_range=white, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert found.ssim == pytest.approx(similarity, abs=1e-9)
    assert found.rmse == pytest.approx(metrics.mean_squared_error(*wide) ** 0.5, rel=1e-12)
    assert found.max_error == np.abs(wide[0] - wide[1]).max()
    np.testing.assert_allclose(difference, np.abs(wide[0] - wide[1]), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a.png", "a.png"], 0),
        (["a.png", "b.png"], 1),
        (["a.png", "b.png", "--max-error", 3], 0),
        (["a.png", "b.png", "--max-error", 2.9], 1),
        (["a.png", "b.png", "--min-psnr", 38], 0),
        (["a.png", "b.png", "--min-psnr", 39], 1),
        (["a.png", "b.png", "--min-ssim", 0.99], 0),
        (["a.png", "b.png", "--max-error", 3, "--min-psnr", 60], 1),
        (["a.png", "a.png", "--min-psnr", 1000], 0),
    ],
)
def test_the_exit_code_judges(imgconv, arguments, code):
    assert imgconv(*arguments)[0] == code


def test_json_holds_every_number_and_no_infinity(imgconv):
    code, text, _ = imgconv("a.png", "a.png", "--json")
    found = json.loads(text, parse_constant=pytest.fail)
    assert (code, found["equal"], found["psnr"], found["ssim"]) == (0, True, None, 1)
    values = np.zeros((20, 20, 1), np.float32)
    values[3, 3] = np.nan
    np.save("nan.npy", values)
    np.save("zero.npy", np.zeros_like(values))
    assert imgconv("nan.npy", "nan.npy")[0] == 0
    code, text, _ = imgconv("nan.npy", "zero.npy", "--json")
    found = json.loads(text, parse_constant=pytest.fail)
    assert (code, found["equal"], found["differing"], found["max_error"]) == (1, False, 1, None)


def test_the_map_shows_where_images_differ(imgconv):
    changed = PHOTO.copy()
    changed[10:20, 30:40, 1] ^= 64
    Image.fromarray(changed).save("c.png")
    assert imgconv("a.png", "c.png", "-o", "d.png")[0] == 1
    expected = np.abs(PHOTO.astype(int) - changed)
    np.testing.assert_array_equal(np.asarray(Image.open("d.png")), expected)
    imgconv("a.png", "c.png", "-o", "e.png", "--scale", "minmax", "--colormap", "viridis")
    seen = np.asarray(Image.open("e.png"))
    np.testing.assert_array_equal(seen, table("viridis")[(expected.max(axis=2) > 0) * 255])


def test_unlike_depths_meet_on_the_deeper_scale(imgconv):
    Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257).save("deep.png")
    Image.fromarray(PHOTO[..., 0]).save("flat.png")
    assert imgconv("deep.png", "flat.png")[0] == 0


def test_images_of_unlike_size_are_named_with_both_sizes(imgconv):
    Image.fromarray(PHOTO[1:]).save("short.png")
    code, _, message = imgconv("a.png", "short.png")
    assert code == 2
    assert "200×160 with 3 channels against 200×159" in message
