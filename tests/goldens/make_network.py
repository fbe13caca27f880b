"""Make tests/goldens/network.npz: what PyTorch computes for the six families.

    pip install torch==2.13.0 && python -m tests.goldens.make_network

Models are those of torch_networks.py; weights and inputs those of network_samples.py, by PyTorch's
own parameter names, which therefore must be ours for the test to pass.
"""

from pathlib import Path

import numpy as np
import torch

from tests.goldens.torch_networks import model
from tests.network_samples import CLASSES, SIZES, golden_network_input, golden_parameters


def main() -> None:
    found = {"torch": np.array(torch.__version__)}
    for name in SIZES:
        network = model(name, CLASSES).eval()
        state = network.state_dict()
        shapes = {
            key: tuple(value.shape) for key, value in state.items()
            if not key.endswith("num_batches_tracked")
        }  # fmt: skip
        arrays = golden_parameters(shapes)
        network.load_state_dict(
            {key: torch.from_numpy(value) for key, value in arrays.items()}, strict=False
        )
        channels = 1 if name.startswith("lenet") else 3
        with torch.no_grad():
            x = torch.from_numpy(golden_network_input(name, channels)).double()
            found[name] = network.double()(x).numpy()
        found[f"{name} parameters"] = np.array(sorted(shapes))
        print(name, found[name].shape, float(np.abs(found[name]).max()))
    np.savez_compressed(Path(__file__).with_name("network.npz"), **found)


if __name__ == "__main__":
    main()
