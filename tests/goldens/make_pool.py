"""Make tests/goldens/pool.npz: PyTorch's pools over drawn corners, and what it refuses.

    pip install torch==2.13.0 && python -m tests.goldens.make_pool

The test suite only reads the file: `cases` is JSON, a list of the cases with the shape and type
of each result, or what PyTorch said where it refused; `values` are all results' numbers.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

from tests.samples import pool_input

CASES = 500


# Few windows and types: each pair of them is a loop to compile, where a test runs first.
SMALL = ([1, 2], [2, 2], [3, 3], [4, 3], [3, 5], [5, 5])
LARGE = ([4, 3], [3, 5])
STRIDES = ([1, 1], [2, 2], [3, 3], [4, 2])
OTHERS = {"max": ["float64", "float16", "int8", "int16"], "indices": ["float64"],
          "avg": ["float64"], "lp": ["float64"]}  # fmt: skip


def _pair(rng, low, high):
    return [int(number) for number in rng.integers(low, high, 2)]


def _one(rng, choices):
    return choices[rng.integers(len(choices))]


def case_of(seed):
    """A drawn case: maps of 1 to 8, windows of 1 to 5, whose borders meet often."""
    rng = np.random.default_rng([15, seed])
    op = _one(rng, ["max", "indices", "avg", "lp", "adaptive_avg", "adaptive_max"])
    other = rng.random() < 0.3 and op in OTHERS
    dtype = _one(rng, OTHERS[op]) if other else "float32"
    case = {"op": op, "seed": seed, "dtype": dtype, "shape": [2, *_pair(rng, 1, 9)], "odd": ""}
    if op in ("max", "indices", "adaptive_max") and dtype[0] == "f" and rng.random() < 0.4:
        case["odd"] = _one(rng, ["nan", "inf", "-inf"])
    if op.startswith("adaptive"):
        return case | {"options": {"output_size": _pair(rng, 1, 8)}}
    kernel = _one(rng, LARGE if other else SMALL)
    stride = _one(rng, STRIDES[:1] if other else STRIDES)
    options = {"kernel_size": kernel, "stride": stride, "ceil_mode": bool(rng.random() < 0.6)}
    if op == "lp":
        options["norm_type"] = 2.0
    else:
        # Half of the window, and now and then more.
        more = int(rng.random() < 0.1)
        options["padding"] = [int(rng.integers(0, k // 2 + 1 + more)) for k in kernel]
    if op in ("max", "indices") and rng.random() < 0.5:
        options["dilation"] = _pair(rng, 1, 5)
    if op == "avg":
        options["count_include_pad"] = bool(rng.random() < 0.5)
        if rng.random() < 0.3:
            options["divisor_override"] = int(rng.choice([-2, 1, 3, 7]))
    return case | {"options": options}


def result_of(case):
    """What PyTorch computes, or its message."""
    op, options = case["op"], dict(case["options"])
    function = getattr(functional, f"{'max' if op == 'indices' else op}_pool2d")
    x = torch.from_numpy(pool_input(case))[None]
    try:
        if op == "indices":
            return function(x, **options, return_indices=True)[1][0].numpy()
        return function(x, **options)[0].numpy()
    except NotImplementedError:
        raise
    except RuntimeError as error:
        return str(error).splitlines()[0]


def main():
    cases, values = [], []
    for case in map(case_of, range(CASES)):
        result = result_of(case)
        if isinstance(result, str):
            cases.append(case | {"refused": result})
            continue
        cases.append(case | {"result": [list(result.shape), str(result.dtype)]})
        values.append(result.ravel().astype(np.float64))
    np.savez_compressed(
        Path(__file__).with_name("pool.npz"), torch=np.array(torch.__version__),
        cases=np.frombuffer(json.dumps(cases).encode(), np.uint8), values=np.concatenate(values),
    )  # fmt: skip


if __name__ == "__main__":
    main()
