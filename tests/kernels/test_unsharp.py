"""Unsharp masking with a threshold, against its formula in NumPy."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

import imgconv
from imgconv.errors import KernelError
from imgconv.kernels import get_kernel
from tests.running import here

SIGMA, AMOUNT, THRESHOLD = 1.5, 2.0, 6.0
SPEC = f"unsharp:sigma={SIGMA},amount={AMOUNT},threshold={THRESHOLD}"


def by_formula(pixels):
    """(result, |image − blur|) of an image (H, W, C), in float64."""
    image = pixels.astype(np.float64)
    reach = int(np.ceil(4 * SIGMA))
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    bell /= bell.sum()
    blurred = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "reflect")
    for axis in (0, 1):
        blurred = np.apply_along_axis(np.convolve, axis, blurred, bell, "valid")
    detail = image - blurred
    far = np.abs(detail)
    return np.where(far >= THRESHOLD, image + AMOUNT * detail, image), far


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(data.astronaut()[100:180, 150:260])


def test_details_below_the_threshold_stay_and_others_are_the_formulas(photo):
    want, far = by_formula(photo)
    got = imgconv.apply(photo, SPEC, dtype=np.float32).pixels
    clear = np.abs(far - THRESHOLD) > 1e-3
    assert 0.2 < (far < THRESHOLD).mean() < 0.9
    np.testing.assert_array_equal(got[clear & (far < THRESHOLD)], photo[clear & (far < THRESHOLD)])
    np.testing.assert_allclose(got[clear], want[clear], atol=1e-3)
    got = imgconv.apply(photo, SPEC).pixels
    clear &= np.abs(want % 1 - 0.5) > 1e-3
    np.testing.assert_array_equal(got[clear], np.clip(np.rint(want), 0, 255)[clear])


def test_without_a_threshold_it_is_linear(photo):
    plain = get_kernel(f"unsharp:sigma={SIGMA},amount={AMOUNT}")
    zero = get_kernel(f"unsharp:sigma={SIGMA},amount={AMOUNT},threshold=0")
    assert (plain.combine, zero.combine) == ("none", "none")
    np.testing.assert_array_equal(plain.weights, zero.weights)


def test_bands_chains_and_repeat_give_the_same_bytes(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tall = np.tile(photo, (30, 4, 1))
    Image.fromarray(tall).save("tall.png", compress_level=1)
    for options in (("-o", "whole.png"), ("-o", "bands.png", "--memory", "1M", "--threads", "2")):
        assert here("apply", "-k", SPEC, "tall.png", *options).returncode == 0
    assert here("run", f"conv {SPEC}", "tall.png", "-o", "chain.png").returncode == 0
    whole = np.asarray(Image.open("whole.png"))
    for name in ("bands.png", "chain.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(name)), whole)
    assert (whole != tall).mean() > 0.1
    assert "the same bytes" in here("repeat", "bands.png").stdout


def test_what_would_move_the_threshold_is_refused(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for option, value in (
        ("bias", "3"),
        ("divisor", "2"),
        ("normalize", "abs"),
        ("combine", "max"),
    ):
        ended = here("apply", "-k", SPEC, "sample:photo", f"--{option}", value, "-o", "x.png")
        assert ended.returncode == 2
        assert ended.stderr.endswith(f": {option} with a threshold, expected one of them\n")
    with pytest.raises(KernelError, match="threshold=-1, expected a number from 0"):
        get_kernel("unsharp:threshold=-1")
    with pytest.raises(
        KernelError, match=r"'0x2\+1\+0.05', expected sigma=2,amount=1,threshold=6.375,"
    ):
        get_kernel("unsharp:0x2+1+0.05")
    hint = "Did you mean '-k unsharp:threshold=N'?"
    assert hint in here("apply", "--threshold", "8", "x.png").stderr
