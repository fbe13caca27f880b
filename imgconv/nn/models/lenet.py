"""LeNet-5: as it is taught today, and as the paper has it.

The paper's form keeps the trainable subsampling, the sparse second convolution of its table I and
the scaled tanh, and gives distances to codes.
"""

import math
import os
from typing import ClassVar

import numpy as np

from imgconv.nn.builder import Builder
from imgconv.nn.layers import Activation, AvgPool2d, Conv2d, Flatten, Layer, Linear, Shape
from imgconv.nn.models.base import Family, Network
from imgconv.nn.preprocess import Preprocess
from imgconv.typing import Array

CITATION = (
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document "
    "recognition, Proc. IEEE 86 (1998)"
)
LABELS = tuple("0123456789")
# Trained on scikit-learn's digits by tests/train_lenet5.py.
WEIGHTS = os.path.join(os.path.dirname(__file__), "..", "data", "lenet5.safetensors")

# Table I of the paper: which maps of S2 each map of C3 reads; kernels lie in this order.
CONNECTIONS = (
    *(tuple(sorted((first + i) % 6 for i in range(3))) for first in range(6)),
    *(tuple(sorted((first + i) % 6 for i in range(4))) for first in range(6)),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


class SparseConv2d(Conv2d):
    """A convolution whose filters read only some channels; weight is (connections, kH, kW)."""

    connections: tuple[tuple[int, ...], ...] = ()

    def parameter_shapes(self) -> dict[str, Shape]:
        weight, bias = super().parameter_shapes().values()
        return {"weight": (sum(map(len, self.connections)), *weight[2:]), "bias": bias}

    def parameter(self, name: str) -> Array:
        found = super().parameter(name)
        if name == "bias":
            return found
        dense = np.zeros((self.out_channels, self.in_channels, *found.shape[1:]), np.float32)
        pairs = [(out, read) for out, reads in enumerate(self.connections) for read in reads]
        dense[tuple(np.array(pairs).T)] = found
        return dense

    def multiply_adds(self, *given: Shape) -> int:
        weight = self.parameter_shapes()["weight"]
        area = math.prod(self.output_shape(*given)[2:])
        return given[0][0] * area * math.prod(weight)


class Subsampling(AvgPool2d):
    """The sum of each 2×2 window times a weight, plus a bias; both one a channel."""

    channels: int = 0

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"weight": (self.channels,), "bias": (self.channels,)}

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.norm import scale_shift

        means = super().forward(*inputs)
        return scale_shift(means, self.parameter("weight") * 4, self.parameter("bias"))


class ScaledTanh(Layer):
    """1.7159 · tanh(2/3 · x), which maps ±1 to ±1: the paper's appendix A."""

    def forward(self, *inputs: Array) -> Array:
        from imgconv.ops.activation import activate

        return np.float32(1.7159) * activate(inputs[0] * np.float32(2 / 3), "tanh")


class DigitDistances(Layer):
    """−Σ (x − code)² for each class; the codes, drawn digits of 7×12 pixels of ±1, are fixed."""

    classes: int
    buffers: ClassVar[tuple[str, ...]] = ("weight",)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"weight": (self.classes, 84)}

    def output_shape(self, *given: Shape) -> Shape:
        return (given[0][0], self.classes)

    def forward(self, *inputs: Array) -> Array:
        gaps = inputs[0][:, None] - self.parameter("weight")
        result: Array = -np.square(gaps).sum(axis=2)
        return result


def build(name: str, form: str = "modern", classes: int = 10) -> Network:
    """lenet5, modern (dense C3, tanh, average pooling, linear output) or the paper's."""
    paper = form == "paper"
    net = Builder(1, 32, 32)

    def squash(of: str) -> None:
        net.add(f"{of}.tanh", ScaledTanh() if paper else Activation("tanh"))

    def pool(channels: int) -> Layer:
        return Subsampling(2, channels=channels) if paper else AvgPool2d(2)

    net.add("c1", Conv2d(1, 6, 5))  # (N, 6, 28, 28)
    squash("c1")
    net.add("s2", pool(6))  # (N, 6, 14, 14)
    if paper:
        squash("s2")
    third = SparseConv2d(6, 16, 5, connections=CONNECTIONS) if paper else Conv2d(6, 16, 5)
    net.add("c3", third)  # (N, 16, 10, 10)
    squash("c3")
    net.add("s4", pool(16))  # (N, 16, 5, 5)
    if paper:
        squash("s4")
    net.add("c5", Conv2d(16, 120, 5))  # (N, 120, 1, 1)
    squash("c5")
    net.add("flatten", Flatten())
    net.add("f6", Linear(120, 84))
    squash("f6")
    net.add("output", DigitDistances(classes) if paper else Linear(84, classes))
    preprocess = Preprocess(
        channels="gray", resize=(32, 32), crop=None, mean=(0.0,), std=(1.0,)
    )  # fmt: skip
    variant = (
        "paper: subsampling with weights, sparse C3, distances to codes"
        if paper
        else "as taught: dense C3, tanh, average pooling, linear output"
    )
    labels = LABELS if classes == 10 else ()
    weights = WEIGHTS if classes == 10 and not paper else None
    return Network(name, net.graph(), preprocess, variant, CITATION, labels, weights)


FAMILY = Family(
    "LeNet-5", CITATION, ("lenet5",), build,
    {"form": ("modern", ("modern", "paper")), "classes": (10, ())},
)  # fmt: skip
