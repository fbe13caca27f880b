"""filter_image: interleaved images in and out of every dtype."""

import itertools

import cv2
import numpy as np
import pytest

from imgconv.errors import ShapeError, UsageError
from imgconv.ops import epilogue, filter, plans
from imgconv.ops.algorithms import problem, select
from imgconv.ops.filter import filter_banks, filter_image
from tests import reference
from tests.running import bytes_by_threads
from tests.samples import draw

DTYPES = (np.uint8, np.uint16, np.int16, np.float32)
PAIRS = list(itertools.product(DTYPES, (*DTYPES, np.float64)))
SOBEL = np.array([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]], [[[-1, -2, -1], [0, 0, 0], [1, 2, 1]]]])


@pytest.fixture
def generator():
    return np.random.default_rng(4)


def same(size):
    return size // 2 if size % 2 else (size - 1) // 2, size // 2


def maps_by_definition(pixels, weights, bias=None, mode="reflect", **options):
    """(K, H', W', C) in float64, each channel on its own."""
    kh, kw = weights.shape[2:]
    channels = pixels.transpose(2, 0, 1)[:, None]
    out = reference.conv2d(channels, weights, bias, sides=same(kh) + same(kw), mode=mode, **options)
    return out.transpose(1, 2, 3, 0)


def saturate(values, dtype):
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(values), bounds.min, bounds.max).astype(dtype)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_pair_of_dtypes_is_exact_for_integer_kernels(generator, source, target):
    pixels = draw(generator, (13, 17, 3), source)
    weights = generator.integers(-4, 5, (2, 1, 3, 5)).astype(float)
    got = filter_image(pixels, weights, out_dtype=target)
    want = saturate(maps_by_definition(pixels, weights), target)
    assert got.dtype == target
    if np.issubdtype(source, np.integer):
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, atol=1e-4 if target == np.float32 else 1)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 9, 15, 31])
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_dense_kernels_of_every_size_agree_with_opencv(generator, size, channels):
    pixels = draw(generator, (70, 61, channels), np.uint8)
    kernel = generator.normal(size=(size, size))
    got = filter_image(pixels, kernel[None, None])
    anchor = ((size - 1) // 2, (size - 1) // 2)
    want = cv2.filter2D(pixels.astype(np.float64), -1, kernel, anchor=anchor)
    bound = 1e-5 * 255 * np.abs(kernel).sum()
    np.testing.assert_allclose(got[0].reshape(want.shape), want, atol=bound)


def test_the_sharpen_mask_of_libvips_issue_4955_is_exact_and_saturates(generator):
    """An integer convolution there overflowed into white specks."""
    kernel = -np.ones((3, 3))
    kernel[1, 1] = 32
    pixels = draw(generator, (64, 80, 3), np.uint8)
    pixels[10:20] = 255
    pixels[30:40] = 0
    got = filter_image(pixels, kernel[None, None] / 24, out_dtype=np.uint8)
    sums = maps_by_definition(pixels, kernel[None, None])
    np.testing.assert_array_equal(got, saturate(sums / 24, np.uint8))
    assert (got[0, 11:19] == 255).all()
    assert (got[0, 31:39] == 0).all()


@pytest.mark.parametrize("divisor", [2, 3, 9, 10, 24, 49, 256, 273, 961])
def test_integers_over_a_divisor_round_ties_as_the_exact_quotient_does(generator, divisor):
    pixels = draw(generator, (40, 50, 3), np.uint8)
    kernel = generator.integers(-5, 9, (1, 1, 3, 3)).astype(float)
    kernel[0, 0, 0, 0] = 1
    for target in (np.uint8, np.int16, np.float32):
        got = filter_image(pixels, kernel / divisor, out_dtype=target)
        want = saturate(maps_by_definition(pixels, kernel) / divisor, target)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rule", ["magnitude", "max", "sum", "mean", "shrink"])
def test_maps_are_combined_in_one_pass(generator, rule):
    pixels = draw(generator, (21, 18, 3), np.uint8)
    bias = np.array([3.0, -20.0]) if rule != "shrink" else np.array([99.0, 30.0])
    got = filter_image(pixels, SOBEL, bias, combine=rule, gain=0.5, offset=4.0)
    maps = maps_by_definition(pixels, SOBEL, bias)
    sums = maps - bias[:, None, None, None]
    limits = np.abs(bias)[:, None, None, None]
    combined = {
        "shrink": np.where(np.abs(sums) < limits, 0, sums).sum(0),
        "magnitude": np.sqrt((maps**2).sum(0)),
        "max": maps.max(0),
        "sum": maps.sum(0),
        "mean": maps.mean(0),
    }[rule]
    assert got.shape == (1, 21, 18, 3)
    np.testing.assert_allclose(got[0], combined * 0.5 + 4.0, rtol=1e-5, atol=1e-4)


def test_channels_are_mixed_when_the_kernel_has_as_many(generator):
    for dtype in (np.uint8, np.float32):
        pixels = draw(generator, (19, 23, 3), dtype)
        weights = generator.normal(size=(4, 3, 3, 2))
        bias = generator.normal(size=4)
        got = filter_image(pixels, weights, bias, stride=2, padding=(1, 2), padding_mode="zeros")
        want = reference.conv2d(
            pixels.transpose(2, 0, 1)[None], weights, bias, (2, 2), (1, 1, 2, 2)
        )[0]
        assert got.shape == (*want.shape, 1)
        np.testing.assert_allclose(got[..., 0], want, rtol=1e-4, atol=2e-2)


@pytest.mark.parametrize("stride", [(1, 2), (2, 1), (3, 2), (5, 7)])
def test_strides_are_every_nth_value_of_the_full_result(generator, stride):
    pixels = draw(generator, (40, 45, 3), np.uint8)
    weights = generator.normal(size=(2, 1, 5, 3))
    full = filter_image(pixels, weights, padding=(2, 1))
    got = filter_image(pixels, weights, padding=(2, 1), stride=stride)
    np.testing.assert_allclose(got, full[:, :: stride[0], :: stride[1]], atol=2e-3)


def test_the_number_of_threads_and_the_band_do_not_change_a_bit(generator):
    pixels = draw(generator, (257, 300, 3), np.float32)
    for size in (3, 5, 9, 17):
        weights = generator.normal(size=(1, 1, size, size))
        results = bytes_by_threads(lambda w=weights: filter_image(pixels, w))
        assert len(results) == 1


@pytest.mark.parametrize("size", [3, 9])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_large_results_that_pass_the_caches_by_have_the_same_bits(
    generator, monkeypatch, size, dtype
):
    pixels = draw(generator, (37, 353, 3), dtype)
    monkeypatch.setattr(problem, "SMALL", 0)
    monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned
    target = np.float64 if dtype == np.float64 else np.float32
    weights = (generator.normal(size=(2, 1, size, size)), np.full((1, 1, 9, 9), 0.3))
    for bank in weights:
        results = []
        for large in (1, 1 << 40):
            monkeypatch.setattr(epilogue, "LARGE", large)
            results.append(filter_image(pixels, bank, gain=1.7, offset=0.3, out_dtype=target))
        np.testing.assert_array_equal(*results)


def test_any_memory_layout_gives_the_same_result(generator):
    pixels = draw(generator, (12, 14, 3), np.uint8)
    want = filter_image(pixels, SOBEL)
    planar = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    cut = np.zeros((14, 20, 4), np.uint8)
    cut[1:13, 3:17, :3] = pixels
    for view in (planar, cut[1:13, 3:17, :3], np.asfortranarray(pixels)):
        np.testing.assert_array_equal(filter_image(view, SOBEL), want)


CASES = [
    ((37, 150), (3, 3), 3, np.uint8, "reflect"),
    ((5, 9), (5, 5), 1, np.float32, "circular"),
    ((21, 400), (1, 7), 4, np.int16, "zeros"),
    ((90, 18), (9, 1), 3, np.uint8, "symmetric"),
    ((64, 71), (13, 11), 2, np.float32, "replicate"),
    ((40, 1100), (31, 15), 1, np.uint8, "reflect"),
    ((33, 35), (17, 18), 3, np.uint16, "constant"),
]


@pytest.mark.parametrize("algorithm", ["direct", "sparse", "box", "separable", "fourier"])
def test_each_algorithm_alone_agrees_with_the_definition(generator, algorithm, monkeypatch):
    monkeypatch.setattr(select, "ALGORITHMS", (algorithm,))
    monkeypatch.setattr(problem, "SMALL", 0)
    monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned
    taken = 0
    for size, (kh, kw), channels, source, mode in CASES:
        pixels = draw(generator, (*size, channels), source)
        weights = generator.normal(size=(2, 1, kh, 1)) * generator.normal(size=(2, 1, 1, kw))
        if algorithm == "box":
            weights = np.ones((1, 1, kh, kw)) / (kh * kw)
        bias = generator.normal(size=len(weights))
        options = {"padding_mode": mode, "pad_value": 3.0}
        if not select.offers(filter.make_job(pixels, weights, bias, **options)):
            continue
        taken += 1
        got = filter_image(pixels, weights, bias, **options)
        want = maps_by_definition(pixels, weights, bias, mode, value=3.0)
        largest = np.abs(pixels.astype(float)).max()
        bound = 1e-5 * np.abs(weights).sum(axis=(1, 2, 3)).max() * largest
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)
    assert taken >= 3


def test_direct_algorithms_give_the_same_bits(generator, monkeypatch):
    for size, (kh, kw), channels, source, mode in CASES:
        pixels = draw(generator, (*size, channels), source)
        weights = generator.normal(size=(1, 1, kh, kw))
        results = []
        monkeypatch.setattr(problem, "SMALL", 0)
        monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned
        for algorithm in ("direct", "sparse"):
            monkeypatch.setattr(select, "ALGORITHMS", (algorithm,))
            results.append(filter_image(pixels, weights, padding_mode=mode))
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("source", [np.uint8, np.float32])
def test_banks_that_share_a_walk_give_the_bits_of_each_alone(generator, monkeypatch, source):
    pixels = draw(generator, (40, 50, 3), source)
    if source == np.float32:
        pixels[7, 9, 1] = np.nan
    narrow = generator.normal(size=(1, 1, 3, 3))
    narrow[..., 2] = 0
    banks = [
        (generator.normal(size=(1, 1, 3, 3)), None),
        (generator.normal(size=(2, 1, 3, 3)), np.array([1.5, -2.0])),
        (narrow, None),
        (np.ones((1, 1, 3, 3)) / 9, None),
        (generator.normal(size=(1, 1, 5, 3)), None),
        (generator.normal(size=(1, 1, 5, 3)), np.array([3.0])),
        (generator.normal(size=(1, 3, 3, 3)), None),
    ]
    run_by, walks = select.run_by, []
    monkeypatch.setattr(select, "run_by", lambda job, offer: walks.append(run_by(job, offer)))
    for algorithm, mode in itertools.product(("direct", "sparse"), ("reflect", "constant")):
        monkeypatch.setattr(select, "ALGORITHMS", (algorithm,))
        monkeypatch.setattr(problem, "SMALL", 0)
        monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned
        options = {"padding_mode": mode, "pad_value": 5.0, "activation": "relu", "gain": 0.5}
        alone = [filter_image(pixels, *bank, **options) for bank in banks]
        walks.clear()
        together = filter_banks(pixels, banks, **options)
        # Narrower ones, exact quotients and those over all channels walk on their own.
        assert len(walks) == 5
        for got, want in zip(together, alone, strict=True):
            np.testing.assert_array_equal(got, want)


def test_banks_are_combined_each_on_its_own(generator):
    pixels = draw(generator, (20, 30, 3), np.uint8)
    banks = [(SOBEL, None), (SOBEL * 2, np.array([1.0, 2.0]))]
    for got, bank in zip(filter_banks(pixels, banks, combine="magnitude"), banks, strict=True):
        np.testing.assert_array_equal(got, filter_image(pixels, *bank, combine="magnitude"))


@pytest.mark.parametrize("algorithm", ["direct", "sparse", "separable"])
def test_a_crop_of_a_float_image_has_the_bits_of_the_whole(generator, monkeypatch, algorithm):
    pixels = draw(generator, (61, 83, 3), np.float32)
    weights = np.outer(*generator.uniform(0.1, 1, (2, 5)))[None, None]
    monkeypatch.setattr(select, "ALGORITHMS", (algorithm,))
    monkeypatch.setattr(problem, "SMALL", 0)
    monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned
    whole = filter_image(pixels, weights)
    for top, bottom, left, right in ((0, 61, 1, 83), (3, 40, 0, 70), (9, 31, 17, 38)):
        crop = filter_image(np.ascontiguousarray(pixels[top:bottom, left:right]), weights)
        np.testing.assert_array_equal(
            crop[:, 2:-2, 2:-2], whole[:, top + 2 : bottom - 2, left + 2 : right - 2]
        )


def test_outer_rows_and_columns_of_zeros_are_cut_away(generator):
    pixels = draw(generator, (12, 13, 3), np.float32)
    kernel = np.zeros((1, 1, 9, 7))
    kernel[0, 0, 5:7, 1:3] = generator.normal(size=(2, 2))
    job = filter.make_job(pixels, kernel)
    job.trim()
    assert job.weights.shape == (1, 1, 1, 2, 2)
    for mode in ("reflect", "zeros"):
        got = filter_image(pixels, kernel, padding_mode=mode)
        np.testing.assert_allclose(got, maps_by_definition(pixels, kernel, mode=mode), atol=1e-5)
    nothing = filter_image(pixels, np.zeros((1, 1, 5, 5)), np.array([2.0]))
    np.testing.assert_array_equal(nothing, np.full((1, 12, 13, 3), 2))


def test_a_constant_image_has_no_edges():
    pixels = np.full((9, 9, 3), 200, np.uint8)
    assert not filter_image(pixels, SOBEL, combine="magnitude").any()


def test_tiny_images_work_in_every_mode(generator):
    for mode, size in itertools.product(
        ("zeros", "constant", "reflect", "replicate", "circular", "symmetric"), ((1, 1), (2, 1))
    ):
        pixels = draw(generator, (*size, 2), np.uint8)
        kernel = generator.integers(-3, 4, (1, 1, 7, 5)).astype(float)
        got = filter_image(pixels, kernel, padding_mode=mode, pad_value=7)
        want = maps_by_definition(pixels, kernel, mode=mode, value=7)
        np.testing.assert_array_equal(got, want)


def test_what_does_not_fit_is_refused():
    image = np.zeros((5, 6, 3), np.uint8)
    with pytest.raises(ShapeError, match="kernel has 2 input channels, the image 3"):
        filter_image(image, np.ones((1, 2, 3, 3)))
    with pytest.raises(ShapeError, match=r"expected \(H, W, C\)"):
        filter_image(image[..., 0], np.ones((1, 1, 3, 3)))
    with pytest.raises(UsageError, match="combine='least'"):
        filter_image(image, np.ones((1, 1, 3, 3)), combine="least")
    with pytest.raises(ShapeError, match="out_dtype=complex64"):
        filter_image(image, np.ones((1, 1, 3, 3)), out_dtype=np.complex64)


@pytest.mark.parametrize(("channels", "filters", "groups"), [(3, 3, 3), (3, 6, 3), (4, 6, 2)])
def test_groups_are_those_of_conv2d(generator, channels, filters, groups):
    for dtype in (np.uint8, np.float32):
        pixels = draw(generator, (15, 14, channels), dtype)
        weights = generator.normal(size=(filters, channels // groups, 3, 5))
        bias = generator.normal(size=filters)
        got = filter_image(pixels, weights, bias, padding=1, padding_mode="zeros", groups=groups)
        want = reference.conv2d(
            pixels.transpose(2, 0, 1)[None], weights, bias, sides=(1, 1, 1, 1), groups=groups
        )[0]
        assert got.shape == (*want.shape, 1)
        np.testing.assert_allclose(got[..., 0], want, rtol=1e-4, atol=2e-2)
    with pytest.raises(ShapeError, match="groups=7 does not divide"):
        filter_image(pixels, weights, groups=7)
    with pytest.raises(ShapeError, match="combine=max with groups"):
        filter_image(pixels, weights, groups=groups, combine="max")
