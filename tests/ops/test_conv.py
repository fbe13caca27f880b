"""conv2d against slow references and other libraries, and the laws a convolution obeys."""

import itertools

import cv2
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import ShapeError, UsageError
from imgconv.ops.conv import conv2d
from tests import reference
from tests.running import bytes_by_threads
from tests.samples import draw

MODES = ("zeros", "constant", "reflect", "replicate", "circular", "symmetric")
DTYPES = (np.uint8, np.uint16, np.int16, np.float32, np.float64)
LECTURE_INPUT = [
    [3, 3, 2, 1, 0],
    [0, 0, 1, 3, 1],
    [3, 1, 2, 2, 3],
    [2, 0, 0, 2, 2],
    [2, 0, 0, 0, 1],
]
LECTURE_KERNEL = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]


@pytest.fixture
def generator():
    return np.random.default_rng(1)


def assert_close(got, want, weight, x):
    """Within 1e-5 of what the filter's absolute sum could make of the input."""
    scale = np.abs(weight).sum(axis=(1, 2, 3)).max(initial=0) * np.abs(x.astype(np.float64)).max(
        initial=0
    )
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(scale, 1e-30))


def test_the_lecture_example():
    got = conv2d(np.array(LECTURE_INPUT, np.uint8)[None], np.array(LECTURE_KERNEL)[None, None])
    assert got.tolist() == [[[12, 12, 17], [10, 17, 19], [9, 6, 14]]]
    assert got.dtype == np.float32


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_strides_dilations_groups_and_pads_against_the_definition(generator, mode, stride):
    x = draw(generator, (2, 4, 9, 8), np.float32)
    weight = generator.normal(size=(6, 2, 3, 2))
    bias = generator.normal(size=6)
    sides = (3, 2, 4, 1)
    for dilation, flip in itertools.product(((1, 1), (2, 3)), (False, True)):
        got = conv2d(x, weight, bias, stride, sides, dilation, 2, mode, 1.5, flip)
        want = reference.conv2d(x, weight, bias, stride, sides, dilation, 2, mode, 1.5, flip)
        assert_close(got, want, weight, x)


def random_case(generator):
    groups = int(generator.choice([1, 1, 2, 3]))
    per_group, maps = (int(n) for n in generator.integers(1, 4, 2))
    kernel = tuple(int(n) for n in generator.choice([1, 1, 2, 3, 4, 5, 7], 2))
    stride = tuple(int(n) for n in generator.choice([1, 1, 2, 3], 2))
    dilation = tuple(int(n) for n in generator.choice([1, 1, 2, 3], 2))
    size = [int(n) for n in generator.integers(1, 14, 2)]
    sides = [int(n) for n in generator.integers(0, 5, 4)]
    for axis in (0, 1):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        sides[2 * axis] += max(0, span - size[axis] - sides[2 * axis] - sides[2 * axis + 1])
    dtype = np.dtype(DTYPES[generator.integers(len(DTYPES))])
    x = draw(generator, (int(generator.integers(1, 3)), groups * per_group, *size), dtype)
    weight = generator.normal(size=(groups * maps, per_group, *kernel))
    if generator.random() < 0.4:
        weight = np.rint(3 * weight)
    bias = generator.normal(size=groups * maps) if generator.random() < 0.5 else None
    mode = MODES[generator.integers(len(MODES))]
    return x, weight, bias, stride, tuple(sides), dilation, groups, mode, 0.5


def check_random_cases(seed, count):
    generator = np.random.default_rng(seed)
    for number in range(count):
        case = random_case(generator)
        got = conv2d(*case)
        want = reference.conv2d(*case)
        x, weight = case[0], case[1]
        scale = max(np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(x.astype(float)).max(), 1)
        assert got.shape == want.shape, number
        assert np.abs(got - want).max(initial=0) <= 1e-5 * scale, (number, case[3:])
        assert got.dtype == (np.float64 if x.dtype == np.float64 else np.float32)


def test_random_cases_agree_with_the_definition():
    check_random_cases(seed=2, count=150)


@pytest.mark.slow
def test_ten_thousand_random_cases_agree_with_the_definition():
    check_random_cases(seed=3, count=10_000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scipy_correlate_and_convolve_agree(generator, dtype):
    x = draw(generator, (31, 37), dtype)
    kernel = generator.normal(size=(5, 4))
    weight = kernel[None, None]
    wide = x.astype(np.float64)
    got = conv2d(x[None], weight, padding="valid")[0]
    assert_close(
        got[None, None], scipy.signal.correlate2d(wide, kernel, "valid")[None, None], weight, x
    )
    got = conv2d(x[None], weight, padding="full", flip=True)[0]
    assert_close(got[None, None], scipy.signal.convolve2d(wide, kernel)[None, None], weight, x)


@pytest.mark.parametrize(
    ("mode", "scipys"),
    [
        ("zeros", "constant"),
        ("reflect", "mirror"),
        ("replicate", "nearest"),
        ("circular", "grid-wrap"),
        ("symmetric", "reflect"),
    ],
)
def test_scipy_border_modes_agree(generator, mode, scipys):
    x = draw(generator, (17, 6), np.float64)
    kernel = generator.normal(size=(5, 7))
    got = conv2d(x[None], kernel[None, None], padding="same", padding_mode=mode)[0]
    np.testing.assert_allclose(got, scipy.ndimage.correlate(x, kernel, mode=scipys), atol=1e-12)


@pytest.mark.parametrize(
    ("mode", "border"),
    [
        ("zeros", cv2.BORDER_CONSTANT),
        ("reflect", cv2.BORDER_REFLECT_101),
        ("replicate", cv2.BORDER_REPLICATE),
        ("symmetric", cv2.BORDER_REFLECT),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_opencv_border_modes_agree(generator, mode, border, dtype):
    x = draw(generator, (23, 19), dtype)
    kernel = generator.normal(size=(5, 3)).astype(np.float32)
    got = conv2d(x[None], kernel[None, None], padding="same", padding_mode=mode)
    want = cv2.filter2D(x.astype(np.float32), cv2.CV_32F, kernel, borderType=border)
    assert_close(got[None], want[None, None], kernel[None, None], x)


def test_opencv_wrapped_border_agrees(generator):
    x = draw(generator, (11, 13), np.float32)
    kernel = generator.normal(size=(3, 5)).astype(np.float32)
    wrapped = cv2.copyMakeBorder(x, 1, 1, 2, 2, cv2.BORDER_WRAP)
    want = cv2.filter2D(wrapped, cv2.CV_32F, kernel)[1:-1, 2:-2]
    got = conv2d(x[None], kernel[None, None], padding="same", padding_mode="circular")
    assert_close(got[None], want[None, None], kernel[None, None], x)


sizes = st.integers(1, 12)
kernels = st.tuples(st.integers(1, 5), st.integers(1, 5))
seeds = st.integers(0, 2**32 - 1)


@given(sizes, sizes, kernels, seeds)
@settings(max_examples=40, deadline=None)
def test_convolution_is_linear_in_image_and_kernel(height, width, kernel, seed):
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, 1, height, width))
    v, w = generator.normal(size=(2, 1, 1, *kernel))
    both = conv2d(2 * a - b, v, padding="full")
    np.testing.assert_allclose(
        both, 2 * conv2d(a, v, padding="full") - conv2d(b, v, padding="full"), atol=1e-12
    )
    np.testing.assert_allclose(
        conv2d(a, v + 3 * w, padding="same", padding_mode="symmetric"),
        conv2d(a, v, padding="same", padding_mode="symmetric")
        + 3 * conv2d(a, w, padding="same", padding_mode="symmetric"),
        atol=1e-12,
    )


@given(sizes, sizes, kernels, seeds, st.integers(-9, 9), st.integers(-9, 9))
@settings(max_examples=40, deadline=None)
def test_shifting_the_image_shifts_the_result(height, width, kernel, seed, dy, dx):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(1, height, width))
    weight = generator.normal(size=(1, 1, *kernel))
    options = {"padding": "same", "padding_mode": "circular"}
    shifted = conv2d(np.roll(x, (dy, dx), (1, 2)), weight, **options)
    np.testing.assert_array_equal(shifted, np.roll(conv2d(x, weight, **options), (dy, dx), (1, 2)))


@given(sizes, sizes, kernels, kernels, seeds)
@settings(max_examples=40, deadline=None)
def test_two_convolutions_are_one_with_the_convolved_kernel(height, width, first, second, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(1, height, width))
    a, b = generator.normal(size=first), generator.normal(size=second)
    step = conv2d(x, a[None, None], padding="full", flip=True)
    twice = conv2d(step, b[None, None], padding="full", flip=True)
    once = conv2d(x, scipy.signal.convolve2d(a, b)[None, None], padding="full", flip=True)
    np.testing.assert_allclose(twice, once, atol=1e-10)


@given(sizes, sizes, st.integers(1, 7), seeds, st.sampled_from(MODES))
@settings(max_examples=40, deadline=None)
def test_a_column_filter_is_the_transposed_row_filter(height, width, length, seed, mode):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (height, width)).astype(np.uint8)
    taps = generator.normal(size=length)
    options = {"padding": "same", "padding_mode": mode, "pad_value": 3.0}
    across = conv2d(x[None], taps.reshape(1, 1, 1, -1), **options)
    down = conv2d(x.T[None], taps.reshape(1, 1, -1, 1), **options)
    np.testing.assert_array_equal(across, down.transpose(0, 2, 1))


@given(sizes, sizes, kernels, st.integers(1, 3), seeds)
@settings(max_examples=40, deadline=None)
def test_the_flipped_full_convolution_is_the_adjoint(height, width, kernel, maps, seed):
    height, width = height + kernel[0] - 1, width + kernel[1] - 1
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(2, height, width))
    weight = generator.normal(size=(maps, 2, *kernel))
    forward = conv2d(x, weight)
    y = generator.normal(size=forward.shape)
    back = conv2d(y, weight.transpose(1, 0, 2, 3), padding="full", flip=True)
    assert np.vdot(forward, y) == pytest.approx(np.vdot(x, back), abs=1e-9)


@pytest.mark.parametrize(("dtype", "taps"), [(np.uint8, 31), (np.uint16, 31), (np.int16, 9)])
def test_integer_sums_are_exact_beyond_the_bound_of_float32(generator, dtype, taps):
    x = np.full((1, taps, taps + 3), np.iinfo(dtype).max, dtype)
    x[0, ::3] -= generator.integers(0, 50, x[0, ::3].shape).astype(dtype)
    weight = generator.integers(100, 3000, (1, 1, taps, taps))
    exact = scipy.signal.correlate(x[0].astype(np.int64), weight[0, 0], "valid", "direct")
    assert exact.max() > 2**24
    got = conv2d(x, weight)
    np.testing.assert_array_equal(got[0], exact.astype(np.float32))


def test_integer_images_and_kernels_are_exact_in_every_mode(generator):
    for dtype, mode in itertools.product((np.uint8, np.uint16, np.int16), MODES):
        x = draw(generator, (1, 2, 12, 11), dtype)
        weight = generator.integers(-9, 10, (3, 2, 5, 4))
        got = conv2d(x, weight, padding="full", padding_mode=mode, pad_value=-3)
        sides = (4, 4, 3, 3)
        want = reference.conv2d(x, weight, sides=sides, mode=mode, value=-3)
        np.testing.assert_array_equal(got, want)


def test_the_number_of_threads_does_not_change_a_bit(generator):
    x = draw(generator, (2, 3, 301, 157), np.float32)
    weight = generator.normal(size=(4, 3, 5, 5))
    results = bytes_by_threads(lambda: conv2d(x, weight, stride=(2, 1), padding=2), (1, 2, 3, 8))
    assert len(results) == 1


def test_a_batch_is_its_images_one_by_one(generator):
    x = draw(generator, (3, 2, 20, 18), np.float32)
    weight = generator.normal(size=(4, 2, 3, 3))
    together = conv2d(x, weight, padding=1)
    for image, maps in zip(x, together, strict=True):
        np.testing.assert_array_equal(conv2d(image, weight, padding=1), maps)


def test_any_memory_layout_gives_the_same_result(generator):
    x = draw(generator, (2, 12, 14), np.float32)
    weight = generator.normal(size=(3, 2, 3, 3))
    want = conv2d(x, weight)
    channels_last = np.ascontiguousarray(x.transpose(1, 2, 0)).transpose(2, 0, 1)
    reverse = x[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    spaced = np.repeat(np.repeat(x, 2, 1), 3, 2)[:, ::2, ::3]
    raw = bytearray(x.nbytes + 1)
    unaligned = np.frombuffer(raw, np.float32, x.size, 1).reshape(x.shape)
    unaligned[:] = x
    for view in (channels_last, reverse, spaced, unaligned, x.astype(">f4")):
        np.testing.assert_array_equal(conv2d(view, weight), want)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float16, np.uint32, np.int64])
def test_other_number_types_are_widened(generator, dtype):
    x = generator.integers(0, 2, (1, 6, 7)).astype(dtype)
    weight = generator.integers(-3, 4, (1, 1, 3, 3))
    np.testing.assert_array_equal(conv2d(x, weight), conv2d(x.astype(np.float64), weight))


def test_nan_and_infinity_reach_exactly_the_outputs_that_see_them():
    x = np.zeros((1, 9, 9), np.float32)
    x[0, 4, 4], x[0, 0, 8] = np.nan, np.inf
    got = conv2d(x, np.ones((1, 1, 3, 3)), padding=1)[0]
    rows, columns = np.nonzero(np.isnan(got))
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == set(
        itertools.product((3, 4, 5), (3, 4, 5))
    )
    assert np.isinf(got[:2, 7:]).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_kernel_larger_than_the_image_works_with_any_padding(generator, mode):
    for size in ((1, 1), (1, 5), (2, 3)):
        x = draw(generator, (1, *size), np.float64)
        weight = generator.normal(size=(1, 1, 9, 8))
        got = conv2d(x, weight, padding="same", padding_mode=mode)
        want = reference.conv2d(x[None], weight, sides=(4, 4, 3, 4), mode=mode)[0]
        np.testing.assert_allclose(got, want, atol=1e-12)
        assert got.shape[1:] == size


def test_an_empty_batch_is_empty_and_an_empty_image_is_padding_or_refused():
    weight = np.ones((2, 1, 3, 3))
    assert conv2d(np.zeros((0, 1, 5, 5), np.float32), weight).shape == (0, 2, 3, 3)
    options = {"padding": 2, "padding_mode": "constant", "pad_value": 1}
    padded = conv2d(np.zeros((1, 0, 1), np.float32), weight, **options)
    np.testing.assert_array_equal(padded, np.full((2, 2, 3), 9))
    with pytest.raises(ShapeError, match="padded input's height is 0"):
        conv2d(np.zeros((1, 0, 5), np.float32), weight)
    with pytest.raises(ShapeError, match="empty axis"):
        conv2d(np.zeros((1, 0, 5), np.float32), weight, padding=2, padding_mode="reflect")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 2}, "groups=2 does not divide in_channels=3"),
        ({"groups": 3}, "groups=3 does not divide out_channels=2"),
        ({"groups": 0}, "groups=0"),
        ({"stride": 0}, "stride=0.*at least 1"),
        ({"dilation": (1, 0)}, "dilation=.*at least 1"),
        ({"padding": -1}, "padding"),
        ({"padding": "same", "stride": 2}, "same needs stride 1"),
        ({"padding": "wide"}, "expected same, valid, full"),
        ({"dilation": 9}, "spans 19 elements but the padded input's height is 5"),
        ({"bias": np.zeros(3)}, r"bias of shape \(3,\), expected \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_numbers(arguments, message):
    with pytest.raises(ShapeError, match=message):
        conv2d(np.zeros((3, 5, 6), np.float32), np.ones((2, 3, 3, 3)), **arguments)


def test_border_names_of_other_libraries_are_understood(generator):
    x = draw(generator, (1, 6, 7), np.float32)
    weight = generator.normal(size=(1, 1, 3, 3))
    got = conv2d(x, weight, padding=1, padding_mode="reflect101")
    np.testing.assert_array_equal(got, conv2d(x, weight, padding=1, padding_mode="reflect"))
    with pytest.raises(UsageError, match="mirrored"):
        conv2d(x, weight, padding=1, padding_mode="mirrored")


def test_wrong_ranks_and_channels_are_refused():
    weight = np.ones((2, 3, 3, 3))
    with pytest.raises(ShapeError, match=r"expected \(C, H, W\)"):
        conv2d(np.zeros((5, 5), np.float32), weight)
    with pytest.raises(ShapeError, match="expects in_channels=3, got 4"):
        conv2d(np.zeros((4, 5, 5), np.float32), weight)
    with pytest.raises(ShapeError, match="non-empty"):
        conv2d(np.zeros((3, 5, 5), np.float32), np.ones((2, 3, 0, 3)))
    with pytest.raises(ShapeError, match="expected numbers"):
        conv2d(np.zeros((3, 5, 5), np.complex64), weight)


def test_float64_layers_of_many_channels_are_convolved():
    """Their taps were once unrolled into one loop that Numba could not compile."""
    generator = np.random.default_rng(0)
    x, weight = generator.normal(size=(64, 20, 20)), generator.normal(size=(4, 64, 3, 3))
    expected = [
        sum(scipy.signal.correlate2d(x[c], w[c], "same") for c in range(64)) for w in weight
    ]  # fmt: skip
    np.testing.assert_allclose(conv2d(x, weight, padding=1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(3, 16, 5, 5), (1, 400, 1, 1), (2, 3, 6, 2), (16, 5, 5)])
def test_kernels_of_the_maps_size_see_all_of_them(shape, activation):
    generator = np.random.default_rng(5)
    x = generator.normal(size=shape).astype(np.float32)
    weight = generator.normal(size=(12, *shape[-3:])).astype(np.float32)
    bias = generator.normal(size=12).astype(np.float32)
    got = conv2d(x, weight, bias, activation=activation)
    expected = np.einsum("...chw,mchw->...m", x.astype(np.float64), weight) + bias
    expected = expected if activation is None else np.maximum(expected, 0)
    bound = 1e-5 * np.abs(weight).sum(axis=(1, 2, 3)).max() * np.abs(x).max()
    assert got.shape == (*shape[:-3], 12, 1, 1)
    np.testing.assert_allclose(got[..., 0, 0], expected, rtol=0, atol=bound)
    turned = conv2d(x, weight[..., ::-1, ::-1], bias, activation=activation, flip=True)
    np.testing.assert_allclose(turned[..., 0, 0], expected, rtol=0, atol=bound)
    if len(shape) == 4:
        for n, one in enumerate(x):
            np.testing.assert_array_equal(conv2d(one, weight, bias, activation=activation), got[n])
