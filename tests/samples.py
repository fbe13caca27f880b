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
    """The map of a case of pool_goldens.npz: `dtype` numbers of `shape`, `odd` values in some."""
    rng = np.random.default_rng(case["seed"])
    x = (rng.normal(size=case["shape"]) * 30).astype(case["dtype"])
    x = np.abs(x) if case["op"] == "lp" else x
    if case["odd"]:
        x[rng.random(x.shape) < 0.2] = float(case["odd"])
    return x
