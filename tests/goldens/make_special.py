"""Write tests/goldens/special.npz: activations and power means by PyTorch and mpmath, in float64.

    python -m tests.goldens.make_special

Needs PyTorch and mpmath, which the tests do not. Activations: PyTorch's float64 results at special
points, and mpmath's over float32's range. Power means: PyTorch's float32 `lp_pool2d` of 2×2.
"""

import functools
import itertools
from pathlib import Path

import mpmath
import numpy as np
import torch
from torch.nn import functional

from tests.samples import POWERS, range_of_float32, special_numbers, special_windows

ACTIVATIONS = {
    "relu": (functional.relu, lambda v: max(v, 0)),
    "leaky-relu": (functional.leaky_relu, lambda v: v if v > 0 else v * mpmath.mpf(0.01)),
    "relu6": (functional.relu6, lambda v: min(max(v, 0), 6)),
    "hardtanh": (functional.hardtanh, lambda v: min(max(v, -1), 1)),
    "elu": (functional.elu, lambda v: v if v > 0 else mpmath.expm1(v)),
    "sigmoid": (torch.sigmoid, lambda v: 1 / (1 + mpmath.exp(-v))),
    "hard-sigmoid": (functional.hardsigmoid, lambda v: min(max(v + 3, 0), 6) / 6),
    "hard-swish": (functional.hardswish, lambda v: v * (min(max(v + 3, 0), 6) / 6)),
    "tanh": (torch.tanh, mpmath.tanh),
    "silu": (functional.silu, lambda v: v / (1 + mpmath.exp(-v))),
    "gelu": (functional.gelu, lambda v: v * mpmath.erfc(-v / mpmath.sqrt(2)) / 2),
    "gelu-tanh": (
        functools.partial(functional.gelu, approximate="tanh"),
        lambda v: v / (1 + mpmath.exp(-mpmath.sqrt(8 / mpmath.pi) * (v + 0.044715 * v**3))),
    ),
    "mish": (functional.mish, lambda v: v * mpmath.tanh(mpmath.log1p(mpmath.exp(v)))),
    "erf": (torch.erf, mpmath.erf),
    "softplus": (functional.softplus, lambda v: mpmath.log1p(mpmath.exp(v)) if v < 20 else v),
    "abs": (torch.abs, abs),
    "square": (torch.square, lambda v: v * v),
}


def main() -> None:
    mpmath.mp.dps = 60
    found = {}
    special, everywhere = special_numbers(), range_of_float32()
    for name, (ours, exact) in ACTIVATIONS.items():
        found[f"{name}/special"] = ours(torch.tensor(special)).numpy()
        found[f"{name}/exact"] = np.array(
            [float(exact(mpmath.mpf(float(value)))) for value in everywhere]
        )
    windows = special_windows()
    for power, number in itertools.product(POWERS, range(len(windows))):
        x = torch.tensor(windows[number].reshape(1, 1, 2, 2))
        found[f"lp/{power}/{number}"] = functional.lp_pool2d(x, power, 2).numpy()
    np.savez_compressed(Path(__file__).with_name("special.npz"), **found)


if __name__ == "__main__":
    main()
