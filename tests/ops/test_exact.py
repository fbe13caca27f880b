"""Integers under integer and rational weights, against Python's integers: one rounding, to even."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import ValueRangeError
from imgconv.io.color import to_gray
from imgconv.io.reading import read_images
from imgconv.io.scaling import gain_of, scale_map
from imgconv.ops import plans, pool
from imgconv.ops.algorithms import problem, select
from imgconv.ops.conv import conv2d
from imgconv.ops.filter import filter_banks, filter_image
from imgconv.ops.rows import ArrayRows, FilteredRows, read_rows
from imgconv.ops.scaling import scale
from tests.running import here
from tests.samples import draw

WHOLE = (np.uint8, np.int16, np.uint16, np.int32, np.uint32)
PAIRS = [
    (np.uint8, np.uint8), (np.uint16, np.uint16), (np.int16, np.int16), (np.uint16, np.float32),
    (np.int32, np.int32), (np.uint32, np.float64), (np.int32, np.float32), (np.uint16, np.uint8),
]  # fmt: skip
DIVISORS = st.one_of(
    st.just(1), st.integers(2, 300), st.integers(2, 40_000), st.sampled_from([-7, 1000, 65537, 2.5])
)


def nearest(value, dtype):
    """A fraction as a number of a type, rounded once: to even, and saturated."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        return min(max(round(value), int(bounds.min)), int(bounds.max))
    if dtype == np.float64:
        return float(value)  # Python rounds a fraction correctly
    near = np.float32(float(value))
    ends = [np.nextafter(near, np.float32(end)) for end in (-np.inf, near, np.inf)]
    even = lambda number: int(number.view(np.uint32)) % 2  # noqa: E731
    return float(min(ends, key=lambda number: (abs(Fraction(float(number)) - value), even(number))))


def as_type(values, dtype):
    rounded = [nearest(value, dtype) for value in values.ravel()]
    return np.array(rounded, dtype).reshape(values.shape)


def exact_sums(pixels, bank):
    """(M, H, W, C) sums in Python's integers; borders are reflected, each channel on its own."""
    kh, kw = bank.shape[2:]
    sides = [((size - 1) // 2, size // 2) for size in (kh, kw)]
    padded = np.pad(pixels.astype(object), [*sides, (0, 0)], mode="reflect")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(0, 1))
    return np.stack([(seen * one[0].astype(int).astype(object)).sum((-2, -1)) for one in bank])


def fractions(values, divisor=1, add=0):
    return np.vectorize(lambda v: Fraction(int(v)) / Fraction(divisor) + Fraction(add), [object])(
        values
    )


def image(data, dtype, channels=1):
    shape = data.draw(st.integers(5, 12)), data.draw(st.integers(5, 12)), channels
    pixels = draw(np.random.default_rng(data.draw(st.integers(0, 9))), shape, dtype)
    # Ends of the range, and few numbers, of which some sums are halves of the divisor.
    if data.draw(st.booleans()):
        pixels = pixels % 4
    return pixels


def bank_of(data, dtype, maps, largest=None):
    most = largest or (4000 if np.dtype(dtype).itemsize < 4 else 40)
    size = data.draw(st.sampled_from([(1, 1), (3, 3), (5, 4)]))
    numbers = st.lists(st.integers(-most, most), min_size=math.prod(size), max_size=math.prod(size))
    return np.array([data.draw(numbers) for _ in range(maps)], float).reshape(maps, 1, *size)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_a_quotient_of_integers_is_rounded_once(source, target, data):
    pixels, divisor = image(data, source), data.draw(DIVISORS)
    bank = bank_of(data, source, 1)
    bias = data.draw(st.sampled_from([0, 0, 3, -0.5, 100.25]))
    got = filter_image(pixels, bank, np.array([bias]), divisor=divisor, out_dtype=target)
    want = as_type(fractions(exact_sums(pixels, bank), divisor, bias), target)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("source", [np.uint16, np.int32])
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_weights_written_as_decimals_are_integers_over_a_power_of_ten(source, data):
    pixels = image(data, source)
    places = 10 ** data.draw(st.integers(1, 5 if source == np.uint16 else 4))
    bank = bank_of(data, source, 1, largest=40)
    got = filter_image(pixels, bank / places, out_dtype=source)
    want = as_type(fractions(exact_sums(pixels, bank), places), source)
    np.testing.assert_array_equal(got, want)


ALGORITHMS = {
    "direct": np.array([[1, 2, 3], [4, 5, 6], [7, 8, 12]]),
    "sparse": np.array([[0, 2, 0], [4, 0, 6], [-3, 0, 0]]),
    "box": np.full((5, 5), 40),
    "separable": np.outer([1, 4, 6, 4, 1], [2, 3, 30, 3, 2]),
    "fourier": np.outer([1, 40, 6, 4, 1], [2, 3, 31, 3, 2]) + 1,
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(st.data())
@settings(deadline=None, max_examples=25)
def test_every_algorithm_is_exact_and_in_bands(algorithm, data):
    # Of 32 bits no Fourier transform has digits enough.
    source = (
        np.uint16 if algorithm == "fourier" else data.draw(st.sampled_from([np.uint16, np.int32]))
    )
    target = source
    pixels, divisor = image(data, source), data.draw(DIVISORS)
    bank = ALGORITHMS[algorithm][None, None].astype(float)
    want = as_type(fractions(exact_sums(pixels, bank), divisor), target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "ALGORITHMS", (algorithm,))
        patch.setattr(problem, "SMALL", 0)
        patch.setattr(plans, "CONTENT", -1)  # each call is planned
        got = filter_image(pixels, bank, divisor=divisor, out_dtype=target)
        rows = FilteredRows(ArrayRows(pixels), bank, divisor=divisor, out_dtype=target)
        banded = np.empty((rows.height, rows.width, rows.channels), rows.dtype)
        for top in range(0, rows.height, 3):
            read_rows(rows, banded[top : top + 3])
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(banded, want[0])


@pytest.mark.parametrize(
    ("source", "combine"),
    [(np.uint8, "sum"), (np.uint16, "mean"), (np.uint8, "max"), (np.uint16, "magnitude")],
)
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_maps_of_integers_are_combined_and_rounded_once(source, combine, data):
    """A sum of thirds is a whole number where it is one, and half of one where it is that."""
    pixels = image(data, source)
    maps = data.draw(st.integers(1, 4))
    divisor = data.draw(st.one_of(st.just(1), st.integers(2, 60), st.integers(300, 40_000)))
    bank = bank_of(data, source, maps, largest=9)
    bias = np.array(data.draw(st.sampled_from([[0] * maps, [1, -2, 0.5, 3][:maps]])), float)
    got = filter_image(pixels, bank, bias, combine=combine, divisor=divisor, out_dtype=source)
    sums = exact_sums(pixels, bank)
    terms = np.stack([fractions(one, divisor, add) for one, add in zip(sums, bias, strict=True)])
    if combine == "magnitude":
        squares = (terms**2).sum(axis=0)
        want = np.vectorize(rounded_root, [object])(squares)
        want = as_type(want, source)[None]
    else:
        rule = {"sum": np.sum, "mean": np.mean, "max": np.max}[combine]
        if combine == "mean":
            terms = terms * Fraction(1)
        want = as_type(np.asarray(rule(terms, axis=0)), source)[None]
    np.testing.assert_array_equal(got, want)


def rounded_root(square):
    """The square root of a fraction as the nearest integer, halves to even."""
    n = math.isqrt(math.floor(square))
    half = (Fraction(n) + Fraction(1, 2)) ** 2
    return Fraction(n + (square > half or (square == half and n % 2)))


def test_a_16_bit_mean_is_not_rounded_to_float32_on_the_way():
    one = np.ones((1, 1, 1), np.uint16)
    weights = np.full((1, 1, 1, 1), 32769499.0)
    for bank, divisor in ((weights, 1000.0), (weights / 1000, 1.0)):
        assert filter_image(one, bank, divisor=divisor, out_dtype=np.uint16) == 32769
        response = filter_image(one, bank, divisor=divisor, out_dtype=None)
        assert response.dtype == np.float64  # what is rounded again keeps its digits
        assert scale_map(response, "clip", 65535.0, one.dtype)[0] == 32769


def test_32_bit_integers_keep_every_digit():
    pixels = np.array([[[16777217, 2**31 - 1, -(2**31)]]], np.int32)
    for target in (np.int32, np.float64):
        got = filter_image(pixels, np.ones((1, 1, 1, 1)), out_dtype=target)
        np.testing.assert_array_equal(got[0], pixels)
    unsigned = np.array([[[2**32 - 1, 2**31 + 1]]], np.uint32)
    for target in (np.uint32, np.float64):
        got = filter_image(unsigned, np.ones((1, 1, 1, 1)), out_dtype=target)
        np.testing.assert_array_equal(got[0], unsigned)


@pytest.mark.parametrize("target", [np.int32, np.uint32])
def test_float32_saturates_in_32_bit_integers(target):
    pixels = np.array([[[3e9, -3e9, 5e9, np.inf, -np.inf, np.nan]]], np.float32)
    bounds = np.iinfo(target)
    want = np.clip([3e9, -3e9, 5e9, np.inf, -np.inf, 0], bounds.min, bounds.max)
    got = filter_image(pixels, np.ones((1, 1, 1, 1)), out_dtype=target)
    np.testing.assert_array_equal(got.ravel(), want.astype(target))
    out = np.empty(pixels.shape, target)
    scale(pixels, out, 0.0, 1.0, 0.0, float(bounds.max))
    np.testing.assert_array_equal(out.ravel(), want.astype(target))


@pytest.mark.parametrize("divisor", [1, 3])
def test_sums_that_float64_does_not_hold_are_refused(divisor):
    most = 2 ** (53 if divisor == 1 else 52)
    pixels = np.full((3, 3, 1), 2**20 - 1, np.int32)
    bank = np.full((1, 1, 1, 1), float(most / 2**20))
    got = filter_image(pixels, bank, divisor=divisor, out_dtype=np.float64)
    assert (got == float(Fraction((2**20 - 1) * int(bank[0, 0, 0, 0]), divisor))).all()
    pixels[1, 1] = -(2**20) - 1
    with pytest.raises(ValueRangeError, match=r"a sample of -1048577 .* samples up to 1048576"):
        filter_image(pixels, bank, divisor=divisor, out_dtype=np.float64)
    with pytest.raises(ValueRangeError):
        read_rows(FilteredRows(ArrayRows(pixels), bank, divisor=divisor), np.empty((3, 3, 1), "f4"))
    # Numbers of that size are no integers that somebody counted.
    filter_image(pixels, np.full((1, 1, 1, 1), 1e30))


@pytest.mark.parametrize("source", [np.uint8, np.uint16, np.int32])
@given(st.data())
@settings(deadline=None, max_examples=25)
def test_gray_is_rounded_once(source, data):
    colors = image(data, source, channels=3)
    got = to_gray(colors)
    whole = colors.astype(object)
    luma = 299 * whole[..., :1] + 587 * whole[..., 1:2] + 114 * whole[..., 2:]
    np.testing.assert_array_equal(got, as_type(fractions(luma, 1000), source))


def test_gray_of_a_tie_is_even():
    ties = [
        c for c in np.ndindex(20, 20, 20) if (299 * c[0] + 587 * c[1] + 114 * c[2]) % 1000 == 500
    ]
    colors = np.array([ties], np.uint8)
    want = [round(Fraction(299 * r + 587 * g + 114 * b, 1000)) for r, g, b in ties]
    assert len(ties) > 5
    np.testing.assert_array_equal(to_gray(colors).ravel(), want)


@pytest.mark.parametrize("source", WHOLE)
@given(st.data())
@settings(deadline=None, max_examples=25)
def test_means_of_integers_are_rounded_once(source, data):
    maps = image(data, source).transpose(2, 0, 1)
    side = data.draw(st.sampled_from([2, 3]))
    got = pool.avg_pool2d(maps, side, 1)
    seen = np.lib.stride_tricks.sliding_window_view(maps.astype(object), (side, side), axis=(1, 2))
    want = fractions(seen.sum((-2, -1)), side * side)
    np.testing.assert_array_equal(got, as_type(want, got.dtype))
    np.testing.assert_array_equal(np.rint(got).astype(int), as_type(want, np.int64))
    whole = pool.global_avg_pool2d(maps)
    want = fractions(maps.astype(object).sum((1, 2), keepdims=True), maps[0].size)
    np.testing.assert_array_equal(whole, as_type(want, whole.dtype))
    parts = pool.adaptive_avg_pool2d(maps, (1, 2))
    half = -(-maps.shape[2] // 2)
    want = fractions(maps[:, :, :half].astype(object).sum((1, 2)), half * maps.shape[1])
    np.testing.assert_array_equal(parts[:, 0, 0], as_type(want, parts.dtype))


@pytest.mark.parametrize(("source", "target"), [(np.uint16, np.uint8), (np.uint8, np.uint16),
                                                (np.uint32, np.uint16)])  # fmt: skip
@pytest.mark.parametrize("rule", ["clip", "signed"])
@given(st.data())
@settings(deadline=None, max_examples=25)
def test_another_depth_is_rounded_once(source, target, rule, data):
    """Responses to integers over a divisor, as samples of another depth than the image's."""
    white, full = int(np.iinfo(source).max), int(np.iinfo(target).max)
    pixels, divisor = image(data, source), data.draw(st.integers(1, 300))
    bank = bank_of(data, source, 1, largest=3)
    gain, add = Fraction(full, white), 0
    if rule == "signed":
        gain, add = gain / 2, full // 2 + 1
    later = gain_of(rule, float(white), np.dtype(target))
    (response,) = filter_banks(pixels, [(bank, None, divisor)], out_dtype=None, later=later)
    got = scale_map(response, rule, float(white), np.dtype(target))[0]
    want = fractions(exact_sums(pixels, bank), divisor) * gain + add
    np.testing.assert_array_equal(got, as_type(want, target))


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_conv2d_of_integers_is_rounded_once(data):
    source = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32]))
    pixels, divisor = image(data, source), data.draw(st.integers(1, 9))
    bank = bank_of(data, source, 2, largest=30)
    got = conv2d(pixels.transpose(2, 0, 1), bank / divisor, padding="same", padding_mode="reflect")
    want = fractions(exact_sums(pixels, bank)[..., 0], divisor)
    np.testing.assert_array_equal(got, as_type(want, np.float32))


@pytest.mark.parametrize("memory", [[], ["--memory", "1M"]])
def test_a_file_of_16_bits_is_rounded_once_whole_and_in_bands(tmp_path, monkeypatch, memory):
    """The mean of 17×17 needs 24 bits of sums and a divisor, which float32 does not hold."""
    monkeypatch.chdir(tmp_path)
    pixels = draw(np.random.default_rng(3), (640, 700, 1), np.uint16)
    np.save("in.npy", pixels)
    assert here("apply", "-k", "identity", "in.npy", "-o", "in.tif").returncode == 0
    kernel, out = ["-k", "box:size=17"], ["-o", "out.tif", "--overwrite"]
    assert here("apply", *kernel, "in.tif", *out, *memory).returncode == 0
    padded = np.pad(pixels[..., 0].astype(np.int64), 8, mode="reflect")
    seen = np.pad(padded.cumsum(0).cumsum(1), [(1, 0), (1, 0)])
    sums = seen[17:, 17:] - seen[:-17, 17:] - seen[17:, :-17] + seen[:-17, :-17]
    whole, rest = np.divmod(sums, 289)
    got = next(iter(read_images("out.tif"))).pixels[..., 0]
    np.testing.assert_array_equal(got, whole + (2 * rest > 289))
    assert here("apply", *kernel, "in.tif", *out, *memory, "--divisor", "2").returncode == 0
    got = next(iter(read_images("out.tif"))).pixels[..., 0]
    whole, rest = np.divmod(sums, 578)
    np.testing.assert_array_equal(got, whole + (rest > 289) + ((rest == 289) & (whole % 2 == 1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_weights_beyond_float32_are_summed_in_float64(dtype):
    image = np.array([[[1], [0], [2]]], dtype)
    weights = np.full((1, 1, 1, 1), 5e116)
    maps = filter_image(image, weights, out_dtype=np.float64)
    np.testing.assert_array_equal(maps[0], [[[5e116], [0], [1e117]]])
    np.testing.assert_array_equal(filter_image(image, weights)[0], [[[np.inf], [0], [np.inf]]])
    biased = filter_image(image, weights * 0 + 0.5, np.array([1e300]), out_dtype=np.float64)
    np.testing.assert_array_equal(biased, np.full((1, 1, 3, 1), 1e300))


@pytest.mark.parametrize(("dtype", "most"), [("u1", 255), ("i1", 127), ("u2", 900)])
def test_banks_of_integers_are_exact_beyond_what_float32_holds(dtype, most):
    """A layer's sums of some 2³⁰, which are taken in parts of its channels."""
    rng = np.random.default_rng(8)
    ends = np.iinfo(dtype)
    x = rng.integers(ends.min, ends.max + 1, (2, 140, 9, 11)).astype(dtype)
    weights = rng.integers(-most, most + 1, (5, 140, 3, 3))
    weights[0], x[0] = most, ends.max
    bias = np.array([3, -7, 1 << 20, 0, 5])
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64), (3, 3), (2, 3))
    sums = np.einsum("nchwij,mcij->nmhw", windows, weights) + bias[:, None, None]
    assert abs(sums).max() > 1 << 24
    found = conv2d(x, weights.astype(np.float32), bias)
    assert np.array_equal(found, sums.astype(np.float32))
    assert np.array_equal(conv2d(x, weights, bias, activation="relu"), np.maximum(found, 0))
    assert np.array_equal(conv2d(x[0], weights, bias), found[0])


def test_banks_of_integers_keep_sums_within_float32_exact():
    """No transform with fractions, as Winograd's, takes part."""
    rng = np.random.default_rng(9)
    x = rng.integers(0, 256, (1, 32, 30, 31)).astype(np.uint8)
    weights = rng.integers(-200, 201, (32, 32, 3, 3))
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64), (3, 3), (2, 3))
    sums = np.einsum("nchwij,mcij->nmhw", windows, weights)
    assert np.array_equal(conv2d(x, weights), sums)
