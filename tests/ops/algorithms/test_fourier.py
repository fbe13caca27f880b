"""Fourier transforms against numpy.fft, and filtering by them."""

import math

import numpy as np
import pytest

from imgconv.jit.loop import loop
from imgconv.ops import filter, plans
from imgconv.ops.algorithms import fourier, problem, select
from imgconv.ops.filter import filter_image
from imgconv.ops.microkernels import fft
from tests.ops.test_filter import SOBEL, maps_by_definition
from tests.running import bytes_by_threads
from tests.samples import draw


@loop
def transform(real: str, forward: bool):
    columns = fft.columns(real, forward)

    def body(panel, table, n):
        columns(panel, table, n)

    return f"disjoint {real}* {real}* i64", body


@pytest.fixture
def generator():
    return np.random.default_rng(8)


@pytest.fixture(autouse=True)
def only_fourier(monkeypatch):
    monkeypatch.setattr(select, "ALGORITHMS", ("fourier",))
    monkeypatch.setattr(problem, "SMALL", 0)
    monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned


@pytest.mark.parametrize(("real", "accuracy"), [("f32", 2e-7), ("f64", 1e-15)])
def test_columns_are_transformed_as_numpy_does(generator, real, accuracy):
    dtype = np.float32 if real == "f32" else np.float64
    for n in (16, 32, 64, 128, 256, 512, 1024):
        rows = generator.normal(size=(n, 2, fft.LANES)).astype(dtype)
        want = np.fft.fft(rows[:, 0] + 1j * rows[:, 1].astype(np.float64), axis=0)[fft.order(n)]
        panel = rows.copy()
        transform(real, True)(panel, fft.twiddles(n, real), n)
        assert np.abs(panel[:, 0] + 1j * panel[:, 1] - want).max() < accuracy * np.abs(want).max()
        transform(real, False)(panel, fft.twiddles(n, real), n)
        assert np.abs(panel / n - rows).max() < 10 * accuracy


@pytest.mark.parametrize("n", fourier.SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_tile_size_agrees_with_the_definition(generator, monkeypatch, n, channels):
    monkeypatch.setattr(fourier, "SIZES", (n,))
    pixels = draw(generator, (150, 167, channels), np.uint8)
    weights = generator.normal(size=(2, 1, 11, 14))
    got = filter_image(pixels, weights, np.array([1.0, -3.0]), padding_mode="circular")
    want = maps_by_definition(pixels, weights, np.array([1.0, -3.0]), mode="circular")
    # A tenth of the bound that the planner promises.
    bound = 1e-6 * 255 * np.abs(weights).sum(axis=(1, 2, 3)).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_the_worst_image_and_kernel_stay_within_the_bound(generator, monkeypatch):
    """Values and weights at their extremes, signs aligned: errors have no luck to cancel."""
    for n in (128, 256):
        monkeypatch.setattr(fourier, "SIZES", (n,))
        size = n // 2 + 1
        signs = generator.choice([-1.0, 1.0], (size, size))
        pixels = np.tile(signs, (3, 2))[..., None].astype(np.float32) * 1e6
        for kernel in (signs, np.ones_like(signs)):
            got = filter_image(pixels, kernel[None, None])
            monkeypatch.setattr(select, "ALGORITHMS", ("sparse",))
            want = filter_image(pixels.astype(np.float64), kernel[None, None], out_dtype="f8")
            monkeypatch.setattr(select, "ALGORITHMS", ("fourier",))
            assert np.abs(got - want).max() < 2e-6 * 1e6 * size**2


def test_integer_kernels_on_integer_images_are_exact(generator):
    for dtype in (np.uint8, np.int16):
        pixels = draw(generator, (140, 130, 3), dtype)
        weights = generator.integers(-9, 10, (2, 1, 15, 17)).astype(float)
        job = filter.make_job(pixels, weights)
        assert "exact" in select.choose(job).reason
        want = maps_by_definition(pixels, weights)
        np.testing.assert_array_equal(filter_image(pixels, weights, out_dtype=np.float64), want)
        halves = filter_image(pixels, weights / 12, out_dtype=np.float32)
        np.testing.assert_array_equal(halves, (want / 12).astype(np.float32))


def test_integers_too_large_to_be_proved_exact_are_not_offered():
    pixels = np.zeros((200, 200, 1), np.uint16)
    job = filter.make_job(pixels, np.full((1, 1, 31, 31), 2.0**30))
    assert not select.offers(job)


def test_a_nan_or_inf_spreads_no_further_than_the_kernel(generator):
    pixels = draw(generator, (260, 290, 3), np.float32)
    kernel = generator.normal(size=(2, 1, 9, 9))
    kernel[:, :, 0, :] = 0
    clean = filter_image(pixels, kernel)
    pixels[100, 120, 1], pixels[30, 280, 0] = math.nan, math.inf
    got = filter_image(pixels, kernel)
    wrong = ~np.isfinite(got)
    seen = np.zeros_like(wrong)
    # The first of nine rows is zero, so an output sees three rows above it and four below.
    seen[:, 96:104, 116:125, 1] = True
    seen[:, 26:34, 276:285, 0] = True
    np.testing.assert_array_equal(wrong, seen)
    np.testing.assert_allclose(got[~wrong], clean[~wrong], rtol=0, atol=1e-3)


def test_values_near_the_largest_float_do_not_overflow_their_neighbors():
    pixels = np.ones((140, 140, 1), np.float32)
    pixels[70, 70] = 3e38
    got = filter_image(pixels, np.ones((1, 1, 9, 9)) / 81)
    assert got[0, 100, 100, 0] == pytest.approx(1)


def test_threads_do_not_change_a_bit(generator):
    pixels = draw(generator, (400, 300, 3), np.float32)
    weights = generator.normal(size=(1, 1, 21, 21))
    assert len(bytes_by_threads(lambda: filter_image(pixels, weights))) == 1


def test_maps_are_combined_and_finished_as_by_other_algorithms(generator, monkeypatch):
    pixels = draw(generator, (150, 140, 3), np.uint8)
    for combine in ("magnitude", "none"):
        options = {
            "combine": combine, "activation": "relu", "gain": 0.25, "offset": 3, "dilation": 3,
            "out_dtype": np.uint8,
        }  # fmt: skip
        got = filter_image(pixels, SOBEL, **options)
        monkeypatch.setattr(select, "ALGORITHMS", ("sparse",))
        np.testing.assert_array_equal(got, filter_image(pixels, SOBEL, **options))
        monkeypatch.setattr(select, "ALGORITHMS", ("fourier",))


def test_strides_and_mixed_channels_are_left_to_others():
    pixels = np.zeros((200, 200, 3), np.uint8)
    weights = np.random.default_rng(0).normal(size=(1, 1, 15, 15))
    assert select.offers(filter.make_job(pixels, weights))
    assert not select.offers(filter.make_job(pixels, weights, stride=2, padding=7))
    assert not select.offers(filter.make_job(pixels, weights.repeat(3, axis=1)))
