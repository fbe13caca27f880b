"""Memory of large results: it is used again only once nobody can see it."""

import gc
import threading

import numpy as np
import pytest

from imgconv.jit import memory, scratch
from imgconv.ops.filter import filter_image

SHAPE = (1024, 1024, 2)  # 8 MB of float32


def place(array):
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch):
    monkeypatch.setattr(memory, "_waiting", [])


def test_a_result_takes_the_memory_of_one_that_is_gone():
    first = memory.empty(SHAPE, np.float32)
    first[:] = 1
    before = place(first)
    del first
    again = memory.empty((2, 1024, 1024), np.int32)
    assert place(again) == before
    assert again.shape == (2, 1024, 1024)
    assert again.dtype == np.int32
    assert again.flags.c_contiguous
    assert again.flags.writeable


def test_memory_that_a_view_sees_is_not_used_again():
    view = memory.empty(SHAPE, np.float32)[10:20, ::2]
    view[:] = 7
    gc.collect()
    memory.empty(SHAPE, np.float32)[:] = 3
    others = [memory.empty(SHAPE, np.float32) for _ in range(3)]
    for other in others:
        other[:] = 5
    assert (view == 7).all()
    assert len({place(other) for other in others}) == 3


def test_images_filtered_one_after_the_other_do_not_change_each_other():
    images = [np.full((1200, 1200, 3), value, np.uint8) for value in (1, 2, 3)]
    kept = [filter_image(image, np.ones((1, 1, 3, 3))) for image in images]
    for _ in range(3):
        filter_image(images[0], np.ones((1, 1, 3, 3)))
    for value, result in zip((9, 18, 27), kept, strict=True):
        assert (result == value).all()


def test_only_so_much_waits_and_no_more_than_twice_what_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "_kept", 3 << 23)
    held = [memory.empty(SHAPE, np.float32) for _ in range(5)]
    held.clear()
    assert sum(map(len, memory._waiting)) == 3 << 23
    small = memory.empty((3 << 20,), np.uint8)  # under LEAST: NumPy's own
    assert small.base is None
    fitting = memory.empty((5 << 20,), np.uint8)
    assert len(memory._waiting) == 2
    del fitting
    monkeypatch.setattr(memory, "LEAST", 1)
    memory.empty((1 << 20,), np.uint8)
    assert sorted(map(len, memory._waiting)) == [1 << 20, 1 << 23, 1 << 23]


def test_threads_never_share_memory():
    failures = []

    def work(value):
        for _ in range(200):
            array = memory.empty((1 << 22,), np.uint8)
            array[::4096] = value
            if (array[::4096] != value).any():
                failures.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("module", [memory, scratch])
def test_results_are_the_same_where_no_memory_is_used_again(module, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3)).astype(np.uint8)
    usual = filter_image(image, np.ones((1, 1, 3, 3)))
    monkeypatch.setattr(module, "ENABLED", False)
    for _ in range(2):
        np.testing.assert_array_equal(filter_image(image, np.ones((1, 1, 3, 3))), usual)
    if module is memory:
        assert memory.empty(SHAPE, np.float32).base is None
