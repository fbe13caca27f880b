"""Random inputs that several tests draw; nothing of imgconv is imported here."""

import numpy as np


def draw(generator, shape, dtype):
    """Normal floats, or integers over the whole range of the dtype, up to 2⁵³."""
    if np.issubdtype(dtype, np.integer):
        bounds = np.iinfo(dtype)
        low, high = max(bounds.min, -(2**53)), min(bounds.max, 2**53)
        return generator.integers(low, high + 1, shape).astype(dtype)
    return generator.normal(size=shape).astype(dtype)


def golden_inputs(dtype):
    """The input of every golden case of a dtype: (4, 9, 10)."""
    values = np.random.default_rng(0).normal(size=(4, 9, 10))
    if dtype.startswith("float"):
        return values.astype(dtype)
    bounds = np.iinfo(dtype)
    return np.clip(values * 60 + 100, bounds.min, bounds.max).astype(dtype)


def golden_weights(groups, dtype):
    """(6, 4/groups, 3, 2); whole numbers for integer images."""
    values = np.random.default_rng(1).normal(size=(6, 4 // groups, 3, 2))
    return values if dtype.startswith("float") else np.rint(values * 4)


def pool_input(case):
    """The map of a case of goldens/pool.npz: `dtype` numbers of `shape`, `odd` values in some."""
    rng = np.random.default_rng(case["seed"])
    x = (rng.normal(size=case["shape"]) * 30).astype(case["dtype"])
    x = np.abs(x) if case["op"] == "lp" else x
    if case["odd"]:
        x[rng.random(x.shape) < 0.2] = float(case["odd"])
    return x


POWERS = (1.0, 2.0, 3.0, 2.5, 0.5, -1.0, -2.0, np.inf, -np.inf)


def special_windows():
    """2×2 windows at which a power mean of some power is negative, not a number, or overflows."""
    nan, inf = np.nan, np.inf
    rows = [
        (1, 2, 3, 4), (-1, -2, -3, -4), (1, -2, 3, -4), (0, 0, 0, 0), (0, -0.0, 0, 5),
        (nan, 1, 1, 1), (1, 2, nan, inf), (inf, 1, 1, 1), (-inf, 1, 1, 1), (inf, -inf, 1, 1),
        (1e19, 1e19, 1e19, 1e19), (9e18, 1e18, 3, 1), (3e38, 1, 2, 3),
        (3e-23, 3e-23, 3e-23, 3e-23), (1e-30, -1e-30, 0, 2e-30),
    ]  # fmt: skip
    return np.array(rows, np.float32)


def special_numbers():
    """Where activations are not finite, saturate, change their branch or become subnormal."""
    most, tiny = np.finfo(np.float32).max, 1e-45
    ends = [np.inf, most, 3e38, 5.7e37, 1e20, 104, 89, 88.5, 20.5, 20, 19.5, 6, 3, 2.9999998, 1,
            0.625, 1e-20, 1e-40, tiny, 0]  # fmt: skip
    return np.array([np.nan, *ends, *(-end for end in ends)], np.float32)


def range_of_float32():
    """Numbers all over float32's range: of every size, and every hundredth near 0."""
    sizes = np.geomspace(1e-45, 3.4e38, 600)
    near = np.linspace(-18, 18, 1801)
    return np.concatenate([sizes, -sizes, near]).astype(np.float32)
