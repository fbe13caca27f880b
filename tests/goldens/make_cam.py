"""Make tests/goldens/cam.npz: Grad-CAM by PyTorch's automatic differentiation.

    pip install torch==2.13.0 && python -m tests.goldens.make_cam

Models are those of torch_networks.py; weights and inputs those of network_samples.py. For each
(network, layer): the class, each map's weight (the mean gradient), and the class map, in float64.
"""

from pathlib import Path

import numpy as np
import torch

from tests.goldens.torch_networks import model
from tests.network_samples import CLASSES, golden_network_input, golden_parameters

# Network, our layer (None: the one that is chosen), and where PyTorch has it.
CASES = {
    ("lenet5", "c3"): lambda m: m.c3,
    ("alexnet", None): lambda m: m.features[11],
    ("vgg11_bn", None): lambda m: m.features[27],
    ("googlenet:form=torchvision,aux=true", "inception4b.cat"): lambda m: m.inception4b,
    ("resnet18", None): lambda m: m.layer4,
    ("resnet18", "layer2.1.relu_1"): lambda m: m.layer2,
    ("efficientnet_b0", "features.3.1.add"): lambda m: m.features[3],
}


def main() -> None:
    found = {"torch": np.array(torch.__version__)}
    for (name, layer), part in CASES.items():
        network = model(name, CLASSES).eval()
        shapes = {
            key: tuple(value.shape) for key, value in network.state_dict().items()
            if not key.endswith("num_batches_tracked")
        }  # fmt: skip
        arrays = golden_parameters(shapes)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False)
        kept = []

        def keep(_, __, maps, kept=kept):
            maps.retain_grad()
            kept.append(maps)

        part(network).register_forward_hook(keep)
        channels = 1 if name.startswith("lenet") else 3
        x = torch.from_numpy(golden_network_input(name, channels)[:1]).double()
        scores = network.double()(x.requires_grad_())[0, :CLASSES]
        number = int(scores.argmax())
        scores[number].backward()
        weights = kept[0].grad.mean((2, 3))[0]
        maps = torch.relu((weights[:, None, None] * kept[0][0]).sum(0))
        key = f"{name} {layer or ''}".strip()
        found[key] = maps.detach().numpy()
        found[f"{key} weights"] = weights.numpy()
        found[f"{key} class"] = np.array(number)
        print(key, maps.shape, number)
    np.savez_compressed(Path(__file__).with_name("cam.npz"), **found)


if __name__ == "__main__":
    main()
