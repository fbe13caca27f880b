"""Floats as integers and back, against NumPy's arithmetic step by step."""

import numpy as np
import pytest

from imgconv.ops.quantize import Steps, dequantize, quantize, requantize, rounded
from tests.running import num_threads

TYPES = ("i1", "u1", "i2", "u2")


def steps_of(dtype, scale, zero):
    return Steps.of(np.array(scale, np.float32), np.array(zero, dtype))


def expected(x, scale, zero, dtype):
    levels = np.rint(x / np.float32(scale)).astype(np.float64)
    levels[np.isnan(levels)] = 0
    ends = np.iinfo(dtype)
    return (levels + zero).clip(ends.min, ends.max).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_ties_ends_and_special_numbers_become_integers(dtype):
    rng = np.random.default_rng(5)
    ties = (np.arange(-70_000, 70_000, dtype=np.float32) + 0.5) * 0.25
    drawn = rng.normal(scale=40, size=9_001).astype(np.float32)
    special = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, -0.0, 1e-45], np.float32)
    x = np.concatenate([ties, drawn, special])
    for scale, zero in ((0.25, 0), (0.37, 3), (1e-30, 100)):
        steps = steps_of(dtype, scale, zero)
        with np.errstate(all="ignore"):
            levels = expected(x, scale, zero, dtype)
        found = quantize(x, steps)
        assert found.dtype == levels.dtype
        assert np.array_equal(found, levels)
        back = (levels.astype(np.float32) - np.float32(zero)) * np.float32(scale)
        assert np.array_equal(dequantize(levels, steps), back)
        with num_threads(2):
            assert np.array_equal(rounded(x, steps), back)


@pytest.mark.parametrize("element", [np.float32, np.float64])
def test_sums_become_integers_by_channel(element):
    rng = np.random.default_rng(6)
    most = 1 << (23 if element == np.float32 else 30)
    sums = rng.integers(-most, most, (2, 3, 17, 5)).astype(element)
    bias, factors = np.array([0, 1 << 22, -3]), np.array([2e-6, 5e-6, 1e-7], np.float32)
    steps = steps_of("i1", 1, -4)
    totals = (sums.astype(np.int64) + bias[:, None, None]).astype(np.float32)
    levels = np.rint(totals * factors[:, None, None]).astype(np.int64) - 4
    assert np.array_equal(requantize(sums, bias, factors, steps), levels.clip(-128, 127))


def test_other_types_and_several_scales_are_left_to_others():
    assert steps_of("i4", 1, 0) is None
    assert Steps.of(np.ones(2, np.float32), np.zeros(2, np.int8)) is None
    assert Steps.of(np.ones((), np.float64), np.zeros((), np.int8)) is None
