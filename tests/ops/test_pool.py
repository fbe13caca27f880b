"""Pooling against a slow loop written from PyTorch's documentation."""

import json

import numpy as np
import pytest

from imgconv.errors import ShapeError
from imgconv.jit import cache
from imgconv.ops import pool as pooling
from tests import reference
from tests.goldens import load
from tests.samples import draw, pool_input

GOLDENS = load("pool.npz")


CASES = [
    ((2, 2), (2, 2), (0, 0), (1, 1), False),
    ((3, 3), (2, 2), (1, 1), (1, 1), True),
    ((2, 5), (1, 3), (1, 2), (1, 1), True),
    ((3, 2), (2, 1), (0, 1), (2, 3), False),
    ((5, 4), (3, 2), (2, 0), (1, 1), True),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize(("k", "s", "p", "d", "ceil"), CASES)
def test_max_and_min_match_the_loop(dtype, k, s, p, d, ceil):
    x = (np.random.default_rng(1).normal(size=(3, 13, 11)) * 50 + 60).astype(dtype)
    for kind, function in (("max", pooling.max_pool2d), ("min", pooling.min_pool2d)):
        result = function(x, k, s, p, d, ceil)
        assert result.dtype == dtype
        expected = reference.pool2d(x, kind, k, s, (p[0], p[0], p[1], p[1]), d, ceil)
        np.testing.assert_array_equal(result, expected[0] if kind == "max" else expected)


WINDOWS = [((3, 3), (1, 1)), ((3, 3), (2, 2)), ((2, 2), (2, 2)), ((2, 3), (2, 1)), ((1, 3), (2, 2))]


@pytest.fixture(params=[8, 16])
def lanes(request, monkeypatch):
    if request.param > cache.vectors()[0]:
        pytest.skip("narrower vectors")
    monkeypatch.setattr(cache, "vectors", lambda: (request.param, 16))


def windows_of(x, k, s, p, blank):
    padded = np.pad(x, ((0, 0), (p[0],) * 2, (p[1],) * 2), constant_values=blank)
    return np.lib.stride_tricks.sliding_window_view(padded, k, (1, 2))[:, :: s[0], :: s[1]]


@pytest.mark.parametrize("size", [(3, 3), (7, 7), (8, 16), (9, 17), (15, 33), (29, 40), (31, 70)])
@pytest.mark.parametrize(("k", "s"), WINDOWS)
def test_maps_of_any_width_are_pooled_in_vectors(size, k, s, lanes):
    x = np.random.default_rng(3).normal(size=(3, *size)).astype(np.float32)
    x[0, size[0] // 2, -1] = np.nan
    x[1] = -np.inf
    for p in ((0, 0), (0, 1), (1, 1)):
        if p[0] > k[0] // 2:
            continue
        expected = windows_of(x, k, s, p, -np.inf).max(axis=(3, 4))
        np.testing.assert_array_equal(pooling.max_pool2d(x, k, s, p), expected)
        np.testing.assert_array_equal(pooling.min_pool2d(-x, k, s, p), -expected)
        x[1] = x[2]
        sums = windows_of(x.astype(np.float64), k, s, p, 0).sum(axis=(3, 4))
        for include in (True, False):
            ones = windows_of(np.ones_like(x), k, s, p, float(include)).sum(axis=(3, 4))
            np.testing.assert_allclose(
                pooling.avg_pool2d(x, k, s, p, count_include_pad=include), sums / ones, atol=1e-6
            )
        x[1] = -np.inf


def test_nan_wins_wherever_a_window_has_it(lanes):
    rng = np.random.default_rng(4)
    for k, s in WINDOWS:
        x = rng.normal(size=(40, 19, 37)).astype(np.float32)
        x[rng.random(x.shape) < 0.004] = np.nan
        found = pooling.max_pool2d(x, k, s)
        np.testing.assert_array_equal(found, windows_of(x, k, s, (0, 0), 0).max(axis=(3, 4)))


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(
    ("k", "s", "p", "d", "ceil"), [case for case in CASES if case[3] == (1, 1)]
)
def test_average_counts_padding_as_asked(k, s, p, d, ceil, include):
    x = np.random.default_rng(2).normal(size=(2, 13, 11)).astype(np.float32)
    result = pooling.avg_pool2d(x, k, s, p, ceil, include)
    sides = p[0], p[0], p[1], p[1]
    expected = reference.pool2d(x, "avg", k, s, sides, d, ceil, include)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def settings(rng):
    """A drawn map and window; small, so that borders, ceil_mode and lone padding are frequent.

    Few windows and types: each pair of them is a loop to compile, where a test runs first.
    """
    dtype = np.dtype(str(rng.choice(["u1", "i1", "i2", "f2", "f4", "f8", ">f8", ">i2"])))
    x = draw(rng, (2, *rng.integers(1, 8, 2)), dtype)
    if dtype.kind == "f" and rng.random() < 0.3:
        x[rng.random(x.shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    k = [(4, 1), (2, 4), (5, 3), (1, 6)][rng.integers(4)]
    s = [(1, 1), (4, 1), (2, 1), (3, 3)][rng.integers(4)]
    d = tuple(map(int, rng.integers(1, 4, 2))) if rng.random() < 0.5 else (1, 1)
    reaches = [d[i] * (k[i] - 1) for i in (0, 0, 1, 1)]
    sides = tuple(int(rng.integers(0, reach + 1)) for reach in reaches)
    p = tuple(int(rng.integers(0, k[i] // 2 + 1)) for i in (0, 1))
    four = rng.random() < 0.4
    given = sides if four else p
    return x, k, s, given, sides if four else (p[0], p[0], p[1], p[1]), d, bool(rng.random() < 0.5)


def test_drawn_pools_match_the_definition():
    rng = np.random.default_rng(15)
    made = lone = 0
    for _ in range(700):
        x, k, s, p, sides, d, ceil = settings(rng)
        maxima = reference.pool2d(x, "max", k, s, sides, d, ceil)
        if maxima is None:
            with pytest.raises(ShapeError, match="kernel spans"):
                pooling.max_pool2d(x, k, s, p, d, ceil)
            continue
        made += 1
        lone += bool((maxima[1] < 0).any())
        kept = x.dtype.newbyteorder("=")
        for expected, result in (
            (maxima[0], pooling.max_pool2d(x, k, s, p, d, ceil)),
            (reference.pool2d(x, "min", k, s, sides, d, ceil),
             pooling.min_pool2d(x, k, s, p, d, ceil)),
        ):  # fmt: skip
            assert result.dtype == kept
            if kept.kind in "iu":  # −∞ and ∞ are the type's limits
                expected = np.clip(expected, np.iinfo(kept).min, np.iinfo(kept).max)
            np.testing.assert_array_equal(result, expected)
        both = pooling.max_pool2d(x, k, s, p, d, ceil, return_indices=True)
        np.testing.assert_array_equal(both[1], maxima[1])
        include = bool(rng.random() < 0.5)
        divisor = int(rng.integers(1, 5)) if rng.random() < 0.3 else None
        if kept.kind == "f" and np.isfinite(x).all():
            expected = reference.pool2d(x, "avg", k, s, sides, d, ceil, include, divisor)
            result = pooling.avg_pool2d(x, k, s, p, ceil, include, divisor, d)
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
    assert made > 250
    assert lone > 10


def test_corners_are_pytorchs():
    assert str(GOLDENS["torch"]).startswith("2.13.0")
    values, at, refused = GOLDENS["values"], 0, 0
    for case in json.loads(GOLDENS["cases"].tobytes()):
        x, indices = pool_input(case), case["op"] == "indices"
        function = getattr(pooling, f"{'max' if indices else case['op']}_pool2d")
        if "refused" in case:
            refused += 1
            with pytest.raises(ShapeError):
                function(x, **case["options"])
            continue
        result = function(x, **case["options"])
        shape, dtype = case["result"]
        end = at + int(np.prod(shape))
        expected, at = values[at:end].reshape(shape), end
        if indices:
            maxima, result = function(x, **case["options"], return_indices=True)
            lone = result < 0  # where PyTorch leaves any number, since there is no maximum
            assert (maxima[lone] == -np.inf).all(), case
            expected = np.where(lone, -1, expected)
        assert (list(result.shape), str(result.dtype)) == (shape, dtype), case
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6, err_msg=str(case))
    assert at == len(values)
    assert refused > 100


def test_the_lecture_example_averages_and_picks_the_largest():
    grid = np.array([[2, -4, 2, 2], [0, 1, 0, -1], [2, 1, 0, 2], [5, -3, 1, 4]], np.float32)[None]
    assert pooling.avg_pool2d(grid, 2)[0].tolist() == [[-0.25, 0.75], [1.25, 1.75]]
    assert pooling.max_pool2d(grid, 2)[0].tolist() == [[2, 2], [5, 4]]


def test_nan_wins_a_maximum_and_indices_point_at_it():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    x[0, 0, 0] = np.nan
    out, indices = pooling.max_pool2d(x, 2, return_indices=True)
    assert np.isnan(out[0, 0, 0])
    assert indices[0].tolist() == [[0, 7], [13, 15]]


def test_adaptive_windows_overlap_where_sizes_do_not_divide():
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    assert pooling.adaptive_avg_pool2d(x, (1, 3))[0, 0].tolist() == [0.5, 2, 3.5]
    assert pooling.global_max_pool2d(x)[0].tolist() == [[4]]


def test_lp_is_the_norm_of_the_window():
    x = np.array([[[3.0, 4.0]]], np.float32)
    assert pooling.lp_pool2d(x, 2, (1, 2))[0, 0, 0] == pytest.approx(5)


def test_padding_beyond_half_the_window_names_both():
    with pytest.raises(ShapeError, match=r"padding=2 .*expected at most 1"):
        pooling.max_pool2d(np.zeros((1, 5, 5), np.float32), 3, padding=2)


def test_a_pool_seen_before_still_refuses_what_does_not_fit():
    x = np.ones((1, 6, 6), np.float32)
    first = pooling.avg_pool2d(x, [2, 2], divisor_override=1)
    assert (first == 4).all()
    assert (pooling.avg_pool2d(x, (2, 2)) == 1).all()
    assert pooling.avg_pool2d(x[:, :4], (2, 2)).shape == (1, 2, 3)
    with pytest.raises(ShapeError, match="divisor_override=0"):
        pooling.avg_pool2d(x, (2, 2), divisor_override=0)


def test_means_of_maps_are_those_of_float64():
    x = np.random.default_rng(5).normal(3, 1, size=(2, 7, 97, 101)).astype(np.float32)
    expected = x.astype(np.float64).mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(pooling.global_avg_pool2d(x), expected, rtol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (14, 14), (8, 8), (13, 17)])
def test_means_of_small_maps_do_not_depend_on_the_maps_beside_them(size):
    x = np.random.default_rng(6).normal(3, 1, size=(2, 5, *size)).astype(np.float32)
    got = pooling.global_avg_pool2d(x)
    np.testing.assert_allclose(got, x.astype(np.float64).mean((2, 3), keepdims=True), rtol=1e-6)
    np.testing.assert_array_equal(pooling.global_avg_pool2d(x[1, 3:4]), got[1, 3:4])
