"""What the planner chooses, by its estimates alone."""

import numpy as np
import pytest

from imgconv.kernels import get_kernel
from imgconv.ops import filter
from imgconv.ops.algorithms import select


def chosen(weights, dtype=np.uint8, size=(3000, 4000, 3)):
    pixels = np.broadcast_to(np.zeros(1, dtype), size)
    job = filter.make_job(pixels, weights, allocate=False, out_dtype=dtype)
    return select.choose(job).algorithm


def dense(size):
    return np.random.default_rng(size).normal(size=(1, 1, size, size))


def corners(size):
    weights = np.zeros((1, 1, size, size))
    weights[..., :: size - 1, :: size - 1] = 0.3, -0.7
    weights[..., 0, 0] = 0.5
    return weights


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("weights", "algorithm"),
    [
        (dense(3), "direct"),
        (dense(7), "direct"),
        (dense(15), "direct"),
        (dense(31), "fourier"),
        (dense(63), "fourier"),
        (corners(9), "sparse"),
        (corners(31), "sparse"),
        (get_kernel("gaussian:sigma=1").effective_weights(), "separable"),
        (get_kernel("gaussian:sigma=10").effective_weights(), "separable"),
    ],
)
def test_each_kind_of_kernel_meets_its_algorithm(weights, algorithm, dtype):
    assert chosen(weights, dtype) == algorithm


def test_boxes_are_summed_as_they_run():
    box = [get_kernel(f"box:size={size}").effective_weights() for size in (3, 63)]
    assert chosen(box[0]) == chosen(box[1]) == "box"
    assert chosen(box[0], np.uint16) == "direct", "32-bit sums are worth it from 5×5 on"
    assert chosen(box[1], np.float32) == "separable", "in floats a running sum keeps its errors"


def test_small_jobs_need_no_loop_of_their_own():
    assert chosen(dense(3), size=(512, 512, 1)) == "sparse"


def test_the_estimate_grows_with_what_is_read_and_written():
    found = []
    for dtype in (np.uint8, np.float32):
        pixels = np.broadcast_to(np.zeros(1, dtype), (3000, 4000, 3))
        job = filter.make_job(pixels, dense(3), allocate=False, out_dtype=dtype)
        found.append({offer.algorithm: offer.cost for offer in select.offers(job)})
    small, large = found
    assert all(large[name] > small[name] for name in small.keys() & large.keys())
