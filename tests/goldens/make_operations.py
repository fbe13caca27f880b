"""Make tests/goldens/operations.npz: what PyTorch computes for our operations.

    pip install torch==2.13.0 && python -m tests.goldens.make_operations

The test suite only reads the file. Every array is named by the JSON of its case.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

from tests.samples import golden_inputs, golden_weights

TYPES = {"uint8": torch.float64, "int16": torch.float64, "uint16": torch.float64,
         "float32": torch.float32, "float64": torch.float64}  # fmt: skip
MODES = ("zeros", "reflect", "replicate", "circular")
ACTIVATIONS = {
    "relu": functional.relu, "leaky-relu:0.2": lambda v: functional.leaky_relu(v, 0.2),
    "relu6": functional.relu6, "elu": functional.elu, "sigmoid": torch.sigmoid,
    "hard-sigmoid": functional.hardsigmoid, "tanh": torch.tanh, "silu": functional.silu,
    "hard-swish": functional.hardswish, "gelu": functional.gelu, "softplus": functional.softplus,
    "abs": torch.abs, "square": torch.square,
}  # fmt: skip


def convolutions() -> dict[str, np.ndarray]:
    found = {}
    axes = (MODES, (1, 2), (1, 2), (1, 2), TYPES)
    for mode, stride, dilation, groups, dtype in itertools.product(*axes):
        x = torch.from_numpy(golden_inputs(dtype).astype(np.float64)).to(TYPES[dtype])[None]
        w = torch.from_numpy(golden_weights(groups, dtype)).to(TYPES[dtype])
        bias = torch.arange(6, dtype=TYPES[dtype])
        pads = (1, 1, 2, 2)
        padded = functional.pad(x, pads, "constant" if mode == "zeros" else mode)
        out = functional.conv2d(padded, w, bias, stride, 0, dilation, groups)
        case = {"op": "conv2d", "mode": mode, "stride": stride, "dilation": dilation,
                "groups": groups, "dtype": dtype}  # fmt: skip
        found[json.dumps(case)] = out[0].numpy()
    return found


def pools() -> dict[str, np.ndarray]:
    found = {}
    for dtype, (kernel, stride, padding), ceil in itertools.product(
        ("float32", "float64"), ((2, 2, 0), (3, 2, 1), (3, 1, 0), (4, 3, 2)), (False, True)
    ):
        x = torch.from_numpy(golden_inputs(dtype))[None]
        base = {
            "dtype": dtype,
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "ceil": ceil,
        }
        out, indices = functional.max_pool2d(
            x, kernel, stride, padding, 1, ceil, return_indices=True
        )
        found[json.dumps({"op": "max", **base})] = out[0].numpy()
        found[json.dumps({"op": "indices", **base})] = indices[0].numpy()
        for include, divisor in ((True, None), (False, None), (True, 5)):
            out = functional.avg_pool2d(x, kernel, stride, padding, ceil, include, divisor)
            case = {"op": "avg", "include": include, "divisor": divisor, **base}
            found[json.dumps(case)] = out[0].numpy()
        if padding == 0:
            out = functional.lp_pool2d(x.abs(), 3, kernel, stride, ceil)
            found[json.dumps({"op": "lp", **base})] = out[0].numpy()
    x = torch.from_numpy(golden_inputs("float32"))[None]
    for size in ((1, 1), (3, 4), (7, 5)):
        for name, function in (
            ("adaptive-avg", functional.adaptive_avg_pool2d),
            ("adaptive-max", functional.adaptive_max_pool2d),
        ):
            found[json.dumps({"op": name, "size": size})] = function(x, size)[0].numpy()
    return found


def activations() -> dict[str, np.ndarray]:
    x = torch.from_numpy(golden_inputs("float32")) * 3
    found = {
        json.dumps({"op": "activation", "name": name}): function(x).numpy()
        for name, function in ACTIVATIONS.items()
    }
    found[json.dumps({"op": "softmax"})] = functional.softmax(x, 0).numpy()
    return found


if __name__ == "__main__":
    made = convolutions() | pools() | activations()
    made["torch"] = np.array(torch.__version__)
    np.savez_compressed(Path(__file__).with_name("operations.npz"), **made)
