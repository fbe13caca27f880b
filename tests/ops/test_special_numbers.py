"""Activations, power means, normalizations and 3×3 layers where numbers are extreme.

Golden values: PyTorch's at special points, mpmath's over float32's range (`make_special`).
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.ops import exact, norm
from imgconv.ops.activation import ACTIVATIONS, activate
from imgconv.ops.algorithms import winograd
from imgconv.ops.conv import conv2d
from imgconv.ops.pool import lp_pool2d
from tests import reference
from tests.goldens import load
from tests.samples import POWERS, range_of_float32, special_numbers, special_windows

GOLDENS = load("special.npz")
NAMES = sorted({name.partition("/")[0] for name in GOLDENS} - {"lp"})
# Units in the last place, down to where exp(−x) is 2¹²⁷·⁵, as PyTorch, or exp x has fewer
# digits. gelu-tanh below −5, where exp's rounded argument is large; above, 12.
MOST = {
    "gelu": 12, "gelu-tanh": 150, "hard-swish": 3, "mish": 4, "softplus": 3, "sigmoid": 3,
    "silu": 3,
}  # fmt: skip
LEAST = {"gelu-tanh": -9.9, "mish": -87, "sigmoid": -88, "silu": -88}


def test_every_activation_has_golden_values():
    assert set(NAMES) == set(ACTIVATIONS) - {"identity"}


@pytest.mark.parametrize("name", NAMES)
def test_an_activation_is_exact_to_a_few_places_everywhere(name):
    x, want = range_of_float32(), GOLDENS[f"{name}/exact"]
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = want.astype(np.float32)
        got = activate(x, name)
    usual = x > LEAST.get(name, -np.inf)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    places = np.abs(got.astype(float) - want)[finite] / np.spacing(np.abs(rounded[finite]))
    assert places[usual[finite]].max() <= MOST.get(name, 2)
    assert np.abs(got - want)[~usual & finite].max(initial=0) < 1e-36
    wide = activate(x.astype(float), name)
    if name != "softplus":  # whose threshold is PyTorch's
        np.testing.assert_allclose(wide, want, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", NAMES)
def test_an_activation_has_pytorchs_values_at_special_points(name):
    """But for −∞ and 3e38 under hard-swish and GELU: their limits, where PyTorch has ∞ · 0."""
    x, want = special_numbers(), GOLDENS[f"{name}/special"].copy()
    if name == "hard-swish":
        beyond = np.abs(x) > 5e37
        want[beyond] = np.where(x[beyond] > 0, x[beyond], -0.0)
    if name.startswith("gelu"):
        want = np.where(np.isinf(x), np.where(x > 0, x, -0.0), want)
        tail = (x > -14) & (x < -2)  # PyTorch loses its digits; see the range above
        want[tail] = activate(x[tail].astype(float), name)
        want[np.abs(x) > 1e38] = np.where(x > 0, x, -0.0)[np.abs(x) > 1e38]
    with np.errstate(over="ignore", invalid="ignore"):
        got = activate(x, name)
    assert (np.isnan(got) == np.isnan(want)).all()
    np.testing.assert_allclose(got, want, rtol=5e-7, atol=2e-36)
    signs = np.signbit(got) != np.signbit(want)
    assert not signs[~np.isnan(want) & (want != 0)].any()


@pytest.mark.parametrize("power", POWERS)
def test_a_power_mean_has_pytorchs_values(power):
    """Negative sums too: NaN under a root, and what is not a number stays so."""
    for number, window in enumerate(special_windows()):
        want = GOLDENS[f"lp/{power}/{number}"]
        with np.errstate(all="ignore"):
            got = lp_pool2d(window.reshape(1, 1, 2, 2), power, 2)
        np.testing.assert_allclose(got, want, rtol=5e-7, err_msg=f"{window} to {power}")


@given(st.sampled_from([0, 1, -30, 1000, 1e5]), st.sampled_from([1, 0.1, 50]), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_statistics_far_from_zero_lose_no_digits(offset, spread, seed):
    x = np.random.default_rng(seed).normal(offset, spread, (2, 3, 9, 11)).astype(np.float32)
    weight, bias = np.array([1, -2, 0.5]), np.array([0, 3, -1.0])
    wide = x.astype(float)
    mean, var = wide.mean((2, 3), keepdims=True), wide.var((2, 3), keepdims=True)
    normal = (wide - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(norm.instance_norm(x), normal, atol=1e-6)
    want = normal * weight.reshape(3, 1, 1) + bias.reshape(3, 1, 1)
    np.testing.assert_allclose(norm.instance_norm(x, weight, bias), want, atol=3e-6)


def layer(seed, size=(26, 27), channels=16):
    generator = np.random.default_rng(seed)
    x = np.maximum(generator.normal(size=(2, channels, *size)), 0).astype(np.float32)
    weights = generator.normal(size=(20, channels, 3, 3)) / np.sqrt(4.5 * channels)
    return x, weights.astype(np.float32), generator.normal(size=20).astype(np.float32)


def test_transformed_tiles_are_the_algorithm_that_is_tested_here():
    assert winograd.LEAST_MAPS <= 16
    assert winograd.LEAST_AREA <= 26 * 27


@pytest.mark.parametrize("channels", [16, 64])
def test_transformed_tiles_err_little_more_than_sums_do(channels):
    """At the points 0, ±1 and ±2 it was 5 times and more."""
    x, weights, _ = layer(1, (40, 40), channels)
    want = reference.conv2d(x, weights, sides=(1, 1, 1, 1))
    error = np.sqrt(np.mean((conv2d(x, weights, padding=1) - want) ** 2))
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    sums = np.zeros(want.shape, np.float32)
    for c, i, j in itertools.product(range(channels), range(3), range(3)):
        sums += weights[:, c, i, j][:, None, None] * padded[:, c, None, i : i + 40, j : j + 40]
    assert error < 3 * np.sqrt(np.mean((sums - want) ** 2))


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_an_outlier_reaches_no_output_that_does_not_see_it(data):
    x, weights, bias = layer(data.draw(st.integers(0, 9)))
    usual = conv2d(x, weights, bias, padding=1, activation="relu")
    y, left = data.draw(st.integers(0, 25)), data.draw(st.integers(0, 26))
    many = data.draw(st.booleans())  # a row of them
    value = data.draw(st.sampled_from([1e30, -1e30, 3e38, 1e6, np.inf, -np.inf, np.nan]))
    spoilt = x.copy()
    spoilt[0, 5, y, slice(None) if many else left] = value
    seen = np.zeros((26, 27), bool)
    columns = slice(None) if many else slice(max(0, left - 1), left + 2)
    seen[max(0, y - 1) : y + 2, columns] = True
    with np.errstate(all="ignore"):
        got = conv2d(spoilt, weights, bias, padding=1, activation="relu")
        want = np.maximum(
            reference.conv2d(spoilt, weights, bias, sides=(1, 1, 1, 1)).astype(np.float32), 0
        )
    np.testing.assert_allclose(got[:, :, ~seen][0], usual[:, :, ~seen][0], atol=2e-5)
    np.testing.assert_array_equal(got[1], usual[1])
    finite = np.isfinite(want)
    most = 1e-6 * max(abs(value), 20) if np.isfinite(value) else 2e-5
    np.testing.assert_allclose(got[finite], want[finite], atol=most)
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    assert (np.isnan(got) == np.isnan(want)).all()


def test_zeros_around_an_outlier_stay_zeros():
    _, weights, _ = layer(2)
    x = np.zeros((1, 16, 26, 27), np.float32)
    x[0, 3, 11, 13] = 1e30
    got = conv2d(x, weights, padding=1)
    assert np.count_nonzero(got) == np.count_nonzero(got[:, :, 10:13, 12:15]) == 20 * 9


def test_integer_weights_of_a_network_are_no_integers_over_a_number():
    """Looking for a divisor among a float image's weights would cost more than it could save."""
    weights = np.full((4, 8, 3, 3), 0.5, np.float32)
    assert exact.rational_form(np.dtype(np.float32), weights, 1.0)[0] is weights
