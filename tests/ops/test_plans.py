"""What is kept of a call for the next one like it: the same results, and no image."""

import gc
import threading
import weakref
from unittest.mock import Mock

import numpy as np
import pytest

from imgconv.jit.bound import Plans, held
from imgconv.ops import conv, plans
from imgconv.ops.algorithms import problem, select
from imgconv.ops.conv import conv2d
from imgconv.ops.filter import filter_image
from tests.running import num_threads

KERNEL = np.array([[1, 2, 1], [0, 3, 0], [-1, 2, -1.5]])[None, None]


@pytest.fixture(autouse=True)
def nothing_kept():
    plans.store.clear()
    yield
    plans.store.clear()


def unplanned(function, *arguments, **options):
    """The result of a call for which nothing is kept and nothing is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "CONTENT", -1)
        return function(*arguments, **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_next_call_gives_what_the_first_would(dtype, channels, monkeypatch):
    rng = np.random.default_rng(3)
    chosen = []
    choose = select.choose
    monkeypatch.setattr(select, "choose", lambda job: chosen.append(job) or choose(job))
    for size in ((31, 45, channels), (16, 16, channels), (1, 7, channels)):
        drawn = rng.integers(0, 255, (4, *size)).astype(dtype)
        for options in (
            {"out_dtype": dtype},
            {"bias": np.array([0.5]), "activation": "relu", "stride": 2, "padding": [2, 1]},
            {"dilation": (2, 1), "padding_mode": "symmetric", "flip": True, "gain": 0.5},
        ):
            want = [unplanned(filter_image, pixels, KERNEL, **options) for pixels in drawn]
            chosen.clear()
            for pixels, maps in zip(drawn, want, strict=True):
                np.testing.assert_array_equal(filter_image(pixels, KERNEL, **options), maps)
            lists = isinstance(options.get("padding"), list)
            assert len(chosen) == (len(drawn) if lists else 1)


SMOOTH = np.outer(*2 * [np.exp(-(np.arange(-7, 8) ** 2) / 18)])
KERNELS = {
    "box": np.full((7, 7), 1 / 49), "separable": SMOOTH, "sparse": SMOOTH, "direct": SMOOTH[:3, :3],
    "fourier": np.random.default_rng(11).normal(size=(19, 19)),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", sorted(KERNELS))
@pytest.mark.parametrize("threads", [1, 3])
def test_every_algorithm_of_images_gives_its_own_bits_again(algorithm, threads, monkeypatch):
    monkeypatch.setattr(select, "ALGORITHMS", (algorithm,))
    monkeypatch.setattr(problem, "SMALL", 0)
    rng = np.random.default_rng(12)
    images = rng.integers(0, 255, (3, 90, 140, 3)).astype(np.uint8)
    images = {"u8": images, "f32": images.astype(np.float32) + np.float32(0.25)}
    weights, tried = KERNELS[algorithm][None, None], 0
    with num_threads(threads):
        for options in (
            {},
            {"stride": 2, "padding": 3, "padding_mode": "zeros"},
            {"activation": "relu"},
        ):
            options = {"out_dtype": np.float32, "divisor": 3.0, **options}
            for drawn in images.values():
                try:
                    want = [unplanned(filter_image, one, weights, **options) for one in drawn]
                except IndexError:  # no offer: no strides by Fourier, for one
                    continue
                filter_image(drawn[0], weights, **options)
                key = plans.key_of(drawn[0], weights, None, tuple(options.items()))
                assert plans.store.get(key)
                tried += 1
                for one, maps in zip(drawn, want, strict=True):
                    np.testing.assert_array_equal(filter_image(one, weights, **options), maps)
                    filter_image(drawn[0, 7:], weights, **options)  # others use the same scratch
    assert tried >= 2  # boxes are of integers alone


# Channels, the weight's shape, groups.
LAYERS = {
    "depthwise": (32, (32, 1, 5, 5), 32), "blocked": (32, (32, 1, 3, 3), 32),
    "winograd": (16, (20, 16, 3, 3), 1), "gemm": (6, (10, 3, 5, 5), 2),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", select.LAYERS)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_algorithm_of_layers_gives_its_own_bits_again(algorithm, threads, monkeypatch):
    monkeypatch.setattr(select, "LAYERS", (algorithm,))
    monkeypatch.setattr(select, "ALGORITHMS", (algorithm,))
    channels, shape, groups = LAYERS[algorithm]
    rng = np.random.default_rng(14)
    weight, bias = (rng.normal(size=size).astype(np.float32) for size in (shape, shape[0]))
    drawn = rng.normal(size=(4, 2, channels, 33, 40)).astype(np.float32)
    options = {"padding": 2, "groups": groups, "activation": "silu"}
    with num_threads(threads):
        want = [unplanned(conv2d, x, weight, bias, **options) for x in drawn]
        plans.store.clear()
        monkeypatch.setattr(conv, "_key", lambda *arguments: None)  # the layer is not kept as one
        conv2d(drawn[0], weight, bias, **options)
        gc.collect()
        others = [np.full(size, -7) for size in range(1, 3000, 7)]  # where tables were, if freed
        monkeypatch.setattr(select, "choose", Mock(side_effect=AssertionError("it is planned")))
        for x, maps in zip(drawn, want, strict=True):
            np.testing.assert_array_equal(conv2d(x, weight, bias, **options), maps)
    assert others


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_the_caller_writes_into_its_arrays_later_changes_no_plan(dtype):
    rng = np.random.default_rng(15)
    for size in (3, 9):
        x = rng.normal(size=(1, 30, 30)).astype(dtype)
        weight, bias = rng.normal(size=(4, 1, size, size)).astype(dtype), np.arange(4.0)
        own, offsets = weight.copy(), bias.copy()
        want = conv2d(x, own, offsets)
        own *= 2
        offsets += 1
        np.testing.assert_array_equal(conv2d(x, weight, bias), want)


def test_a_kernel_is_planned_as_its_weights_are(monkeypatch):
    from imgconv.kernels import get_kernel

    pixels = np.random.default_rng(13).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    want = filter_image(pixels, get_kernel("gaussian:sigma=1"))
    monkeypatch.setattr(select, "choose", None)
    np.testing.assert_array_equal(filter_image(pixels, get_kernel("gaussian:sigma=1")), want)


@pytest.mark.parametrize("groups", [1, 3])
def test_planes_and_batches_too(groups):
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(3, 3 // groups, 3, 3))
    for _ in range(3):
        x = rng.normal(size=(2, 3, 20, 18)).astype(np.float32)
        want = unplanned(conv2d, x, weight, padding=1, groups=groups, padding_mode="reflect")
        got = conv2d(x, weight, padding=1, groups=groups, padding_mode="reflect")
        np.testing.assert_array_equal(got, want)
        alone = conv2d(x[1], weight, padding=1, groups=groups, padding_mode="reflect")
        np.testing.assert_array_equal(alone, want[1])


def test_whatever_decides_a_result_is_looked_at():
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 255, (12, 16, 4), np.uint8)
    views = [pixels, pixels[::-1], pixels[:, ::2], pixels[:, 1:9], pixels[:, :, 1:2], pixels + 0.0]
    views += [np.swapaxes(pixels, 0, 1), pixels.astype(">i2"), np.asfortranarray(pixels)]
    kernels = [KERNEL, KERNEL * 2, KERNEL[..., :2], KERNEL.astype(np.float32), KERNEL[..., ::-1]]
    cases = [
        (view, kernel, options)
        for view in views for kernel in kernels
        for options in ({}, {"bias": np.ones(1)}, {"bias": np.zeros(1)}, {"offset": 1.0})
    ]  # fmt: skip
    want = [unplanned(filter_image, view, kernel, **options) for view, kernel, options in cases]
    for _ in range(2):
        for (view, kernel, options), maps in zip(cases, want, strict=True):
            np.testing.assert_array_equal(filter_image(view, kernel, **options), maps)


def test_an_input_that_is_not_aligned_or_writable_is_read():
    rng = np.random.default_rng(6)
    pixels = rng.normal(size=(9, 11, 1)).astype(np.float32)
    want = filter_image(pixels, KERNEL)
    room = np.zeros(pixels.nbytes + 1, np.uint8)
    shifted = room[1:].view(np.float32).reshape(pixels.shape)
    shifted[...] = pixels
    np.testing.assert_array_equal(filter_image(shifted, KERNEL), want)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(filter_image(pixels, KERNEL), want)


def test_no_image_is_kept_and_results_are_new():
    class Array(np.ndarray):
        """One that can be watched."""

    pixels = np.arange(400.0, dtype=np.float32).reshape(20, 20, 1).view(Array)
    first, second = filter_image(pixels, KERNEL), filter_image(pixels, KERNEL)
    assert not np.shares_memory(first, second)
    watched = weakref.ref(pixels)
    del pixels
    gc.collect()
    assert watched() is None


def test_threads_share_a_plan():
    rng = np.random.default_rng(7)
    images = rng.integers(0, 255, (8, 40, 50, 3), np.uint8)
    want = [unplanned(filter_image, pixels, KERNEL) for pixels in images]
    wrong = []

    def work(number):
        for _ in range(200):
            if (filter_image(images[number], KERNEL) != want[number]).any():
                wrong.append(number)

    with num_threads(2):  # bands of one call besides
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_integers_that_may_not_be_summed_exactly_are_looked_at_every_time():
    pixels = np.full((6, 6, 1), 1, np.int32)
    kernel = np.full((1, 1, 3, 3), 2.0**30)
    filter_image(pixels, kernel)
    with pytest.raises(Exception, match="exactly"):
        filter_image(pixels * 2**30, kernel)


def test_plans_hold_so_many_bytes_and_those_not_used_for_longest_go_first():
    kept = Plans(40_000)
    for number in range(3):
        kept.put(number, np.zeros(10_000, np.uint8))
    assert kept.get(0) is not None
    kept.put(3, np.zeros(10_000, np.uint8))
    assert [number for number in range(4) if kept.get(number) is not None] == [0, 2, 3]
    kept.put("large", np.zeros(40_000, np.uint8))  # larger than all may be
    assert [number for number in range(4) if kept.get(number) is not None] == [0, 2, 3]
    kept.put(3, (np.zeros(10_000, np.uint8)[1:],) * 2)  # one memory, in place of an older plan
    assert 30_000 < kept.size < 32_000
    assert kept.get(3) is not None
    kept.clear()
    assert kept.get(3) is None
    assert kept.size == 0


def test_many_kernels_are_bounded_by_what_their_plans_hold(monkeypatch):
    monkeypatch.setattr(plans, "store", Plans(400_000))
    pixels = np.zeros((64, 64, 1), np.float32)
    for number in range(40):
        filter_image(pixels, np.random.default_rng(number).normal(size=(1, 1, 31, 31)))
        assert plans.store.size <= 400_000
    # Tables that plans share are counted for each.
    assert 100_000 < held(plans.store) < 420_000
