"""Write our networks as ONNX with seeded weights and compare ONNX Runtime's outputs with ours.

Needs `pip install onnxruntime onnx` and takes some minutes:

    python tests/compare_onnxruntime.py [NETWORK …]

Three results are compared on one random image: ONNX Runtime on the file, our importer on the
file, and our own graph. The last two, fused, must agree bit for bit. Our own graph in float64
judges: random weights amplify rounding in the deepest networks, so where the difference passes
LIMIT ours must not be further from float64 than ONNX Runtime is. Exits with 1 otherwise.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgconv.networks.architectures import get_network
from imgconv.networks.fusion import fuse
from imgconv.networks.layers import BatchNorm2d
from imgconv.networks.onnx import load_onnx, write_onnx
from imgconv.networks.weights import draw_weights

NETWORKS = (
    "lenet5", "alexnet", "vgg11", "vgg16_bn", "googlenet", "googlenet:form=torchvision",
    "resnet18", "resnet50", "resnet50:form=v1", "efficientnet_b0", "efficientnet_b3",
)  # fmt: skip
# Largest difference over the largest output; float32 sums in another order differ by this much.
LIMIT = 1e-4


def with_statistics(graph, seed):
    """The graph with drawn weights, and batch norm that does something."""
    drawn, generator = draw_weights(graph, seed), np.random.default_rng(seed)
    nodes = []
    for node in drawn.nodes:
        if isinstance(node.layer, BatchNorm2d):
            shape = (node.layer.num_features,)
            held = {
                "weight": generator.uniform(0.6, 1.4, shape),
                "bias": generator.normal(0, 0.1, shape),
                "running_mean": generator.normal(0, 0.1, shape),
                "running_var": generator.uniform(0.6, 1.4, shape),
            }
            held = {name: array.astype(np.float32) for name, array in held.items()}
            node = replace(node, layer=node.layer.with_parameters(held))
        nodes.append(node)
    return drawn.with_nodes(nodes)


def compare(name, folder, seed=1):
    import onnxruntime

    network = get_network(name)
    network = replace(network, graph=with_statistics(network.graph, seed))
    path = folder / "model.onnx"
    write_onnx(path, network)
    image = np.random.default_rng(seed).normal(size=network.input_shape).astype(np.float32)
    ours, read = (list(fuse(g).run(image).values()) for g in (network.graph, load_onnx(path)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: image})
    exact = list(network.graph.run(image.astype(np.float64)).values())
    same = all(np.array_equal(a, b) for a, b in zip(ours, read, strict=True))
    return same, apart(ours, theirs), apart(ours, exact), apart(theirs, exact)


def apart(found, expected):
    """The largest difference over the largest output."""
    most = max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))
    return float(most / max(np.abs(b).max() for b in expected))


def main(names):
    failed = False
    for name in names or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            same, difference, ours, theirs = compare(name, Path(folder))
        failed |= not same or (difference > LIMIT and ours > theirs)
        print(
            f"{name:28} to ONNX Runtime {difference:.1e}; to float64: ours {ours:.1e}, ONNX "
            f"Runtime {theirs:.1e}; read back {'the same' if same else 'DIFFERENT'}",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
