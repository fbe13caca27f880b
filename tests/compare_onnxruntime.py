"""Write our networks as ONNX with seeded weights and compare ONNX Runtime's outputs with ours.

Needs `pip install onnxruntime onnx` and takes some minutes:

    python tests/compare_onnxruntime.py [NETWORK …]

Three results are compared on one random image: ONNX Runtime on the file, our importer on the
file, and our own graph. The last two, fused, must agree bit for bit, and with the first within
LIMIT. Exits with 1 otherwise.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgconv.nn.fusion import fuse
from imgconv.nn.layers import BatchNorm2d
from imgconv.nn.models import get_network
from imgconv.nn.onnx import load_onnx, write_onnx
from imgconv.nn.weights import draw_weights

NETWORKS = (
    "lenet5", "alexnet", "vgg11", "vgg16_bn", "googlenet", "googlenet:form=torchvision",
    "resnet18", "resnet50", "resnet50:form=v1", "efficientnet_b0", "efficientnet_b3",
)  # fmt: skip
# Largest difference over the largest output; float32 sums in another order differ by this much.
LIMIT = 1e-4


def trained_alike(graph, image, seed):
    """The graph with drawn weights, and batch norm with statistics of the image's own maps.

    So maps keep their size through the deepest networks, as after training; with other statistics
    they grow until rounding is all that is left.
    """
    generator, nodes = np.random.default_rng(seed), []
    values = {next(iter(graph.inputs)): image}
    for node in draw_weights(graph, seed).nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.layer, BatchNorm2d):
            shape = (node.layer.num_features,)
            held = {
                "weight": generator.uniform(0.6, 1.4, shape),
                "bias": generator.normal(0, 0.3, shape),
                "running_mean": inputs[0].mean(axis=(0, 2, 3)),
                "running_var": inputs[0].var(axis=(0, 2, 3)) + 0.01,
            }
            held = {name: array.astype(np.float32) for name, array in held.items()}
            node = replace(node, layer=node.layer.with_parameters(held))
        nodes.append(node)
        values.update(zip(node.outputs, node.layer.run(*inputs), strict=True))
    return graph.with_nodes(nodes)


def compare(name, folder, seed=1):
    import onnxruntime

    network = get_network(name)
    image = np.random.default_rng(seed).normal(size=network.input_shape).astype(np.float32)
    network = replace(network, graph=trained_alike(network.graph, image, seed))
    path = folder / "model.onnx"
    write_onnx(path, network)
    ours, read = (list(fuse(g).run(image).values()) for g in (network.graph, load_onnx(path)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: image})
    good = all(np.array_equal(a, b) for a, b in zip(ours, read, strict=True))
    difference = apart(ours, theirs)
    return good and difference <= LIMIT, difference


def apart(found, expected):
    """The largest difference over the largest output."""
    most = max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))
    return float(most / max(np.abs(b).max() for b in expected))


def main(names):
    failed = False
    for name in names or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            good, difference = compare(name, Path(folder))
        failed |= not good
        print(f"{name:28} {difference:.1e}{'' if good else ' FAILED'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
