"""Kernels as sums of products of a column and a row."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imgconv.kernels import get_kernel
from imgconv.ops import filter, plans
from imgconv.ops.algorithms import problem, select, separable
from imgconv.ops.filter import filter_image
from tests.running import num_threads
from tests.samples import draw


@pytest.fixture
def generator():
    return np.random.default_rng(9)


@pytest.fixture(autouse=True)
def only_separable(monkeypatch):
    monkeypatch.setattr(select, "ALGORITHMS", ("separable",))
    monkeypatch.setattr(problem, "SMALL", 0)
    monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned


def offered(pixels, weights, **options):
    return bool(select.offers(filter.make_job(pixels, weights, **options)))


def dense(monkeypatch, *arguments, **options):
    """The same by the direct algorithm."""
    with monkeypatch.context() as patch:
        patch.setattr(select, "ALGORITHMS", ("direct",))
        return filter_image(*arguments, **options)


@pytest.mark.parametrize(
    "spec", ["gaussian:sigma=1.5", "log:sigma=2", "dog:sigma=2", "gabor:theta=0"]
)
def test_kernels_of_low_rank_agree_with_scipy_within_the_bound(generator, spec):
    pixels = draw(generator, (90, 101, 3), np.uint8)
    weights = get_kernel(spec).effective_weights()
    got = filter_image(pixels, weights)[0]
    want = ndimage.correlate(pixels.astype(float), weights[0, 0, ..., None], mode="mirror")
    bound = 1e-5 * 255 * np.abs(weights).sum()
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


@settings(deadline=None, max_examples=60)
@given(
    down=st.lists(st.integers(-9, 9), min_size=4, max_size=12).filter(lambda d: d[0] and d[-1]),
    across=st.lists(st.integers(-9, 9), min_size=4, max_size=12).filter(lambda a: a[0] and a[-1]),
    divisor=st.sampled_from([1, 3, 16, 256]),
    size=st.tuples(st.integers(1, 30), st.integers(1, 40)),
    channels=st.integers(1, 4),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular", "symmetric"]),
)
@example([5, 5, 0, 5], [7, 7, 0, 7], 16, (9, 9), 1, "zeros")
@example([5, 5, 0, 5], [7, 7, 0, 7], 3, (9, 9), 1, "zeros")
def test_integer_products_are_the_dense_sum_bit_for_bit(
    down, across, divisor, size, channels, mode
):
    pixels = draw(np.random.default_rng(1), (*size, channels), np.uint8)
    weights = np.outer(down, across)[None, None] / divisor
    options = {"padding_mode": mode, "out_dtype": np.float32}
    try:
        select.ALGORITHMS = ("separable",)
        got = filter_image(pixels, weights, **options)
        select.ALGORITHMS = ("sparse",)
        want = filter_image(pixels, weights, **options)
    finally:
        select.ALGORITHMS = ("separable",)
    np.testing.assert_array_equal(got, want)


def test_bands_strips_and_threads_do_not_change_a_bit(generator, monkeypatch):
    pixels = draw(generator, (230, 410, 3), np.float32)
    weights = get_kernel("gaussian:sigma=3").effective_weights()
    results = []
    for threads, strip in ((1, 2048), (5, 2048), (2, 1), (3, 333), (1, 50_000)):
        monkeypatch.setattr(separable, "STRIP", strip)
        with num_threads(threads):
            results.append(filter_image(pixels, weights).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("size", [(5, 7, 1), (16, 16, 3), (33, 51, 3), (50, 131, 4)])
def test_squares_of_each_type_agree_with_scipy(generator, dtype, size):
    image = draw(generator, size, dtype)
    pixels = image[:, :, : max(1, size[2] - 1)]  # of four channels, three side by side
    down, across = generator.uniform(0.1, 1, 7), generator.uniform(0.1, 1, 5)
    got = filter_image(pixels, np.outer(down, across)[None, None], padding_mode="constant",
                       pad_value=2.5, out_dtype=np.float64)[0]  # fmt: skip
    want = ndimage.correlate1d(pixels.astype(float), down, axis=0, mode="constant", cval=2.5)
    # Beyond a side, padded columns of the fill are filtered down too.
    want = ndimage.correlate1d(want, across, axis=1, mode="constant", cval=2.5 * down.sum())
    largest = np.abs(pixels.astype(float)).max(initial=2.5)
    assert got.shape == pixels.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * down.sum() * across.sum() * largest)


def test_kernels_of_high_rank_end_before_they_are_decomposed(generator, monkeypatch):
    kernel = generator.normal(size=(31, 31))
    low = generator.normal(size=(31, 5)) @ generator.normal(size=(5, 31))
    found = separable.real_factors(low, 8)
    assert len(found.down) == 5
    assert np.abs(found.down.T @ found.across - low).sum() <= separable.RESIDUE * np.abs(low).sum()
    monkeypatch.setattr(np.linalg, "svd", None)
    assert separable.real_factors(kernel, 8) is None


def test_a_nan_spreads_as_far_as_the_kernel_and_inf_stays_inf(generator, monkeypatch):
    pixels = draw(generator, (40, 50, 3), np.float32)
    pixels[20, 30, 1], pixels[0, 0, 2] = np.nan, np.inf
    weights = get_kernel("gaussian:sigma=1").effective_weights()
    want = dense(monkeypatch, pixels, weights)
    got = filter_image(pixels, weights)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))


def test_maps_of_several_factors_are_combined(generator, monkeypatch):
    pixels = draw(generator, (50, 60, 3), np.uint8)
    weights = np.concatenate(
        [
            get_kernel(f"{name}:sigma=1,size=9").effective_weights()
            for name in ("log", "gaussian-dx")
        ]
    )
    options = {"combine": "magnitude", "activation": "relu", "gain": 2.0, "offset": 1.0}
    got = filter_image(pixels, weights, np.array([1.0, -2.0]), **options)
    want = dense(monkeypatch, pixels, weights, np.array([1.0, -2.0]), **options)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-3)


def test_what_factors_would_not_keep_is_refused(generator):
    image = np.zeros((40, 40, 1), np.uint8)
    cross = np.zeros((1, 1, 5, 5))
    cross[..., 2, :] = cross[..., :, 2] = 1
    assert not offered(image, cross), "an integer kernel of rank two would lose its exactness"
    assert not offered(image, generator.normal(size=(1, 1, 9, 9))), "full rank"
    gaussian = get_kernel("gaussian:sigma=2").effective_weights()
    assert offered(image, gaussian)
    assert not offered(image, gaussian, stride=2, padding=4)
    holes = np.outer([1, 0.5, 0, 0.5, 1], np.full(5, 0.3))[None, None]
    assert not offered(image.astype(np.float32), holes), "a NaN under a zero tap would spread"
    log = get_kernel("log:sigma=2").effective_weights()
    assert offered(image, log)
    assert not offered(image.astype(np.float32), log), "Inf − Inf would be NaN"


def test_integer_factors_are_found_exactly(generator):
    for _ in range(50):
        down, across = generator.integers(-30, 31, (2, 7))
        down[0] = across[0] = 1 + abs(down[0])
        kernel = np.outer(down, across).astype(float)
        found = separable.integer_factors(kernel)
        np.testing.assert_array_equal(found.down.T @ found.across, kernel)
        kernel[3, 3] += 1
        assert separable.integer_factors(kernel) is None
