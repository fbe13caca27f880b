"""Boxes by running sums."""

import itertools
import math

import numpy as np
import pytest

from imgconv.ops import filter, plans
from imgconv.ops.algorithms import box, problem, select
from imgconv.ops.filter import filter_image
from tests.ops.test_filter import maps_by_definition
from tests.running import num_threads
from tests.samples import draw


@pytest.fixture(autouse=True)
def only_box(monkeypatch):
    monkeypatch.setattr(select, "ALGORITHMS", ("box",))
    monkeypatch.setattr(problem, "SMALL", 0)
    monkeypatch.setattr(plans, "CONTENT", -1)  # each call is planned


def test_boxes_of_every_shape_are_exact_for_integers():
    generator = np.random.default_rng(3)
    sizes = ((1, 1), (1, 7), (6, 1), (3, 3), (9, 4), (31, 21))
    dtypes = (np.uint8, np.int16, np.uint32)
    for (kh, kw), channels, dtype in itertools.product(sizes, (1, 3), dtypes):
        pixels = draw(generator, (37, 43, 2 * channels), dtype)[..., ::2]
        ones = np.ones((1, 1, kh, kw))
        for mode in ("reflect", "zeros", "circular"):
            got = filter_image(pixels, ones / ones.size, padding_mode=mode)
            want = maps_by_definition(pixels, ones, mode=mode) / ones.size
            np.testing.assert_array_equal(got, want.astype(np.float32))


def test_means_of_16_bits_are_rounded_once_from_exact_sums():
    """Sums pass 2²³, where float32's quotients are no longer right for every divisor."""
    generator = np.random.default_rng(5)
    pixels = generator.integers(65500, 65536, (60, 70, 1), np.uint16)
    pixels[30:] = draw(generator, (30, 70, 1), np.uint16)
    for size, real in ((15, "f32"), (17, "f64")):
        ones = np.ones((1, 1, size, size))
        assert filter.make_job(pixels, ones / ones.size, out_dtype=np.uint16).real == real
        got = filter_image(pixels, ones / ones.size, out_dtype=np.uint16)
        want = np.rint(maps_by_definition(pixels, ones) / ones.size)
        np.testing.assert_array_equal(got, want)


MEANS = [(2, 2), (3, 3), (1, 6), (4, 4), (5, 5), (5, 3), (7, 1), (15, 15), (16, 16), (31, 30)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_means_of_integers_are_divided_as_integers(dtype):
    """Ties go to even; samples of the largest values reach the last bit of 16 and of 32."""
    generator = np.random.default_rng(8)
    most = np.iinfo(dtype).max
    pixels = generator.integers(0, most + 1, (50, 143, 3)).astype(dtype)
    pixels[:24] = generator.integers(0, 3, (24, 143, 3))  # many quotients are ties
    pixels[30:] = most - (pixels[30:] & 1)
    for height, width in MEANS:
        ones = np.ones((1, 1, height, width))
        for mode, value in (("reflect", 0), ("constant", most)):
            options = {"padding_mode": mode, "pad_value": value}
            job = filter.make_job(pixels, ones / ones.size, out_dtype=dtype, **options)
            assert box.loops(job, None)[0].loop is box.box_means
            got = filter_image(pixels, ones / ones.size, out_dtype=dtype, **options)
            sums = maps_by_definition(pixels, ones, mode=mode, value=value).astype(np.int64)
            whole, rest = np.divmod(sums, ones.size)
            up = (2 * rest > ones.size) | ((2 * rest == ones.size) & (whole % 2 == 1))
            np.testing.assert_array_equal(got, whole + up)


def test_every_sum_of_bytes_is_divided_right():
    """All means of 16 × 16 bytes, by columns that step through them."""
    sums = np.arange(256 * 255 + 1)
    for size in (4, 9, 25, 36, 49, 225, 256):
        side = math.isqrt(size)
        values = sums[: size * 255 + 1]
        blocks = (values[:, None] + np.arange(size)) // size  # size bytes of each sum
        pixels = blocks.reshape(-1, side, side).transpose(1, 0, 2).reshape(side, -1)
        ones = np.ones((1, 1, side, side))
        got = filter_image(
            pixels.astype(np.uint8)[..., None], ones / size, out_dtype=np.uint8, padding="valid"
        )[0, 0, ::side, 0]
        whole, rest = np.divmod(values, size)
        up = (2 * rest > size) | ((2 * rest == size) & (whole % 2 == 1))
        np.testing.assert_array_equal(got, whole + up)


def test_a_view_with_gaps_and_sums_beyond_32_bits_are_exact():
    pixels = draw(np.random.default_rng(6), (280, 290, 6), np.uint16)[..., ::2] | np.uint16(0xF000)
    ones = np.ones((1, 1, 251, 263))
    got = filter_image(pixels[:, :, 1:], ones, out_dtype=np.float64, padding_mode="zeros")
    sums = np.pad(pixels[:, :, 1:].astype(np.int64), ((126, 125), (132, 131), (0, 0)))
    sums = sums.cumsum(0).cumsum(1)
    want = sums[251:, 263:] - sums[:-251, 263:] - sums[251:, :-263] + sums[:-251, :-263]
    np.testing.assert_array_equal(got[0], want)


def test_strips_bands_and_threads_do_not_change_a_bit(monkeypatch):
    pixels = draw(np.random.default_rng(4), (201, 330, 3), np.uint8)
    results = []
    for threads, strip in ((1, 4096), (2, 100), (5, 7)):
        monkeypatch.setattr(box, "STRIP", strip)
        with num_threads(threads):
            results.append(
                filter_image(pixels, np.full((1, 1, 9, 11), -2.0), np.array([7.0])).tobytes()
            )
    assert len(set(results)) == 1


def test_only_integers_take_running_sums():
    ones = np.ones((1, 1, 5, 5))
    image = np.zeros((50, 50, 3), np.uint8)
    assert select.offers(filter.make_job(image, ones))
    assert not select.offers(filter.make_job(image.astype(np.float32), ones))
    assert not select.offers(filter.make_job(image, ones * 0.3 + np.eye(5)))
    assert not select.offers(filter.make_job(image, ones, stride=2, padding=2))


def test_what_was_chosen_can_be_heard(monkeypatch):
    monkeypatch.setattr(select, "ALGORITHMS", ("direct", "box"))
    heard = []
    pixels = np.zeros((20, 30, 3), np.uint8)
    with select.telling(lambda job, offers: heard.append(select.described(job, offers))):
        filter_image(pixels, np.ones((1, 1, 31, 31)))
    filter_image(pixels, np.ones((1, 1, 31, 31)))
    (text,) = heard
    lines = text.splitlines()
    assert lines[0].startswith("20×30×3 samples, uint8 to float32, 1 map(s) of 1×31×31 taps")
    assert lines[1].startswith(" * box")
    assert "running sums over 31×31 (exact)" in lines[1]
    assert lines[2].startswith("   direct")
