"""The lecture's networks, whole and layer by layer, against PyTorch and ONNX Runtime."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import Case
from imgconv.nn.models import get_network
from imgconv.ops.conv import conv2d
from imgconv.ops.linear import linear

NETWORKS = (
    "lenet5", "alexnet", "vgg16", "googlenet", "resnet50", "efficientnet_b0"
)  # fmt: skip


class Layer(NamedTuple):
    """A convolution of a square map: channels, map's side, maps, kernel, stride, groups."""

    channels: int
    side: int
    maps: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        # AlexNet's first layer is the one that is not padded by half its kernel.
        return 2 if self.kernel == 11 else self.kernel // 2

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        kind = "depthwise " if self.groups > 1 else f"{self.channels}→"
        return f"{kind}{self.maps}, {self.kernel}×{self.kernel}{stride} at {self.side}²"


# Shapes from the networks' papers (torchvision's forms); repeated shapes are left out.
CONVOLUTIONS = {
    "AlexNet": [
        Layer(3, 224, 64, 11, 4), Layer(64, 27, 192, 5), Layer(192, 13, 384, 3),
        Layer(384, 13, 256, 3), Layer(256, 13, 256, 3),
    ],
    "VGG16": [
        Layer(3, 224, 64, 3), Layer(64, 224, 64, 3), Layer(64, 112, 128, 3),
        Layer(128, 112, 128, 3), Layer(128, 56, 256, 3), Layer(256, 56, 256, 3),
        Layer(256, 28, 512, 3), Layer(512, 28, 512, 3), Layer(512, 14, 512, 3),
    ],
    "GoogLeNet": [
        Layer(3, 224, 64, 7, 2), Layer(64, 56, 64, 1), Layer(64, 56, 192, 3),
        Layer(192, 28, 96, 1), Layer(96, 28, 128, 3), Layer(16, 28, 32, 5),
        Layer(528, 14, 256, 1), Layer(160, 14, 320, 3), Layer(32, 14, 128, 5),
        Layer(832, 7, 384, 1), Layer(192, 7, 384, 3),
    ],
    "ResNet-50": [
        Layer(64, 56, 64, 3), Layer(64, 56, 256, 1), Layer(256, 56, 64, 1),
        Layer(128, 56, 128, 3, 2), Layer(128, 28, 128, 3), Layer(512, 28, 128, 1),
        Layer(256, 14, 256, 3), Layer(1024, 14, 256, 1), Layer(256, 14, 1024, 1),
        Layer(1024, 14, 2048, 1, 2), Layer(512, 7, 512, 3), Layer(512, 7, 2048, 1),
        Layer(2048, 7, 512, 1),
    ],
    "EfficientNet-B0": [
        Layer(3, 224, 32, 3, 2), Layer(32, 112, 32, 3, 1, 32), Layer(32, 112, 16, 1),
        Layer(16, 112, 96, 1), Layer(96, 112, 96, 3, 2, 96), Layer(96, 56, 24, 1),
        Layer(24, 56, 144, 1), Layer(144, 56, 144, 5, 2, 144), Layer(240, 28, 240, 3, 2, 240),
        Layer(240, 14, 80, 1), Layer(480, 14, 480, 5, 1, 480), Layer(112, 14, 672, 1),
        Layer(672, 14, 672, 5, 2, 672), Layer(192, 7, 1152, 1), Layer(1152, 7, 1152, 5, 1, 1152),
        Layer(320, 7, 1280, 1),
    ],
}  # fmt: skip
LINEARS = {"VGG16's and AlexNet's": [(25088, 4096), (9216, 4096), (4096, 4096), (4096, 1000)],
           "ResNet-50's": [(2048, 1000)]}  # fmt: skip


def layers(batches: tuple[int, ...] = (1, 8)) -> Iterator[Case]:
    """Each convolution with bias and ReLU, and each fully connected layer with bias."""
    for batch in batches:
        for network, shapes in CONVOLUTIONS.items():
            for layer in shapes:
                yield convolution(network, layer, batch)
        for network, sizes in LINEARS.items():
            for features, outputs in sizes:
                yield connected(network, features, outputs, batch)


def convolution(network: str, layer: Layer, batch: int) -> Case:
    """One layer by all three."""
    import torch
    import torch.nn.functional as functional

    generator = np.random.default_rng(layer.channels)
    taps = layer.channels // layer.groups, layer.kernel, layer.kernel
    size = (batch, layer.channels, layer.side, layer.side)
    x = generator.normal(size=size).astype(np.float32)
    weight = generator.normal(size=(layer.maps, *taps)).astype(np.float32)
    bias = generator.normal(size=layer.maps).astype(np.float32)
    options: dict[str, int] = {
        "stride": layer.stride, "padding": layer.padding, "groups": layer.groups
    }  # fmt: skip
    tx, tw, tb = torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias)

    @torch.inference_mode()
    def by_torch() -> Any:
        return functional.conv2d(tx, tw, tb, **options).relu_()

    peers: dict[str, Callable[[], Any]] = {
        "imgconv": lambda: conv2d(x, weight, bias, **options, activation="relu"),
        "PyTorch": by_torch,
    }
    attributes = {
        "strides": [layer.stride] * 2, "pads": [layer.padding] * 4, "group": layer.groups
    }  # fmt: skip
    session = runtime(x, {"w": weight, "b": bias}, [("Conv", attributes), ("Relu", {})])
    peers["ONNX Runtime"] = lambda: session.run(None, {"x": x})
    return Case(
        f"convolutions, batch {batch}", f"{network} {layer}", peers,
        target={"PyTorch": 1.0, "ONNX Runtime": 1.0},
    )  # fmt: skip


def connected(network: str, features: int, outputs: int, batch: int) -> Case:
    """One fully connected layer by all three."""
    import torch
    import torch.nn.functional as functional

    generator = np.random.default_rng(features)
    x = generator.normal(size=(batch, features)).astype(np.float32)
    weight = generator.normal(size=(outputs, features)).astype(np.float32)
    bias = generator.normal(size=outputs).astype(np.float32)
    tx, tw, tb = torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias)

    @torch.inference_mode()
    def by_torch() -> Any:
        return functional.linear(tx, tw, tb)

    session = runtime(x, {"w": weight, "b": bias}, [("Gemm", {"transB": 1})])
    return Case(
        f"fully connected, batch {batch}", f"{network} {features}→{outputs}",
        {
            "imgconv": lambda: linear(x, weight, bias),
            "PyTorch": by_torch,
            "ONNX Runtime": lambda: session.run(None, {"x": x}),
        },
        target={"PyTorch": 1.0, "ONNX Runtime": 1.0},
    )  # fmt: skip


def networks(batches: tuple[int, ...] = (1, 8)) -> Iterator[Case]:
    """Whole networks with drawn weights, from input to scores; all three must agree."""
    import torch

    from benchmarks.translation import by_torch, onnx_model
    from imgconv.nn.fusion import FusedGraph
    from imgconv.nn.weights import draw_weights

    for name in NETWORKS:
        network = get_network(name)
        graph = draw_weights(network.graph, 1)
        fused, eager = FusedGraph(graph), by_torch(graph)
        for batch in batches:
            shape = (batch, *network.input_shape[1:])
            x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
            tensor = torch.from_numpy(x)
            session = start_session(onnx_model(graph, batch))
            feed = {session.get_inputs()[0].name: x}

            def ours(x: Any = x, fused: Any = fused) -> Any:
                return next(iter(fused.at(x.shape).run(x).values()))

            @torch.inference_mode()
            def theirs(tensor: Any = tensor, eager: Any = eager) -> Any:
                return eager(tensor)

            scores = ours()
            for other in (theirs().numpy(), session.run(None, feed)[0]):
                np.testing.assert_allclose(scores, other, atol=1e-4 * np.abs(other).max())
            yield Case(
                f"networks, batch {batch}", name,
                {
                    "imgconv": ours,
                    "PyTorch": theirs,
                    "ONNX Runtime": lambda session=session, feed=feed: session.run(None, feed),
                },
                target={"PyTorch": 1.0, "ONNX Runtime": 1.0},
            )  # fmt: skip


def runtime(x: Any, weights: dict[str, Any], nodes: list[tuple[str, dict[str, Any]]]) -> Any:
    """An ONNX Runtime session of a chain of nodes; the first also takes the weights."""
    from onnx import TensorProto, helper, numpy_helper

    names = ["x", *(f"v{number}" for number in range(1, len(nodes))), "y"]
    graph = helper.make_graph(
        [
            helper.make_node(kind, [names[i], *(weights if i == 0 else ())], [names[i + 1]], **more)
            for i, (kind, more) in enumerate(nodes)
        ],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return start_session(model.SerializeToString())


def start_session(model: bytes) -> Any:
    """An ONNX Runtime session on the CPU with as many threads as PyTorch takes."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin after a run would take the cores from whoever is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
