"""EfficientNet B0 to B7 by torchvision's names: inverted bottlenecks with gates.

torchvision pads strided convolutions alike on both sides, where the paper's TensorFlow code has
`same` padding, so a unit's window lies up to a pixel elsewhere.
"""

import math
from typing import NamedTuple

from imgconv.nn.builder import Builder
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    Add,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    Mul,
)
from imgconv.nn.models.base import Family, Network
from imgconv.nn.preprocess import imagenet

CITATION = "M. Tan, Q. Le, EfficientNet: rethinking model scaling, ICML 2019 (arXiv:1905.11946)"


class Stage(NamedTuple):
    """Blocks of one kind: the paper's table 1."""

    expand: int
    kernel: int
    stride: int
    channels: int
    blocks: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class Scaling(NamedTuple):
    """Compound scaling, the input's size, and the shorter side that torchvision resizes to."""

    width: float
    depth: float
    size: int
    resize: int
    dropout: float
    eps: float = 1e-5


SCALINGS = {
    "efficientnet_b0": Scaling(1.0, 1.0, 224, 256, 0.2),
    "efficientnet_b1": Scaling(1.0, 1.1, 240, 256, 0.2),
    "efficientnet_b2": Scaling(1.1, 1.2, 288, 288, 0.3),
    "efficientnet_b3": Scaling(1.2, 1.4, 300, 320, 0.3),
    "efficientnet_b4": Scaling(1.4, 1.8, 380, 384, 0.4),
    "efficientnet_b5": Scaling(1.6, 2.2, 456, 456, 0.4, 1e-3),
    "efficientnet_b6": Scaling(1.8, 2.6, 528, 528, 0.5, 1e-3),
    "efficientnet_b7": Scaling(2.0, 3.1, 600, 600, 0.5, 1e-3),
}


def rounded(channels: float) -> int:
    """The nearest multiple of 8, not below 90% of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def build(name: str, classes: int = 1000) -> Network:
    """efficientnet_b0 … efficientnet_b7."""
    scaling = SCALINGS[name]
    net = Builder(3, scaling.size, scaling.size)
    maker = _Maker(net, scaling.eps)
    maker.conv("features.0", rounded(32 * scaling.width), 3, 2)
    for number, stage in enumerate(STAGES, 1):
        channels = rounded(stage.channels * scaling.width)
        for index in range(math.ceil(stage.blocks * scaling.depth)):
            stride = stage.stride if index == 0 else 1
            maker.block(f"features.{number}.{index}", stage, channels, stride)
    maker.conv(f"features.{len(STAGES) + 1}", 4 * net.channels(), 1)
    net.add("avgpool", AdaptiveAvgPool2d(1))
    net.add("flatten", Flatten())
    net.add("classifier.0", Dropout(scaling.dropout))
    net.add("classifier.1", Linear(net.channels(), classes))
    preprocess = imagenet(scaling.size, scaling.resize, "bicubic")
    variant = "torchvision, symmetric padding"
    return Network(name, net.graph(), preprocess, variant, CITATION)


class _Maker:
    def __init__(self, net: Builder, eps: float) -> None:
        self.net, self.eps = net, eps

    def conv(
        self, name: str, channels: int, size: int, stride: int = 1, groups: int = 1,
        activation: str = "silu",
    ) -> None:  # fmt: skip
        """Convolution, batch norm and activation."""
        net = self.net
        layer = Conv2d(
            net.channels(), channels, size, stride, size // 2, groups=groups, bias=False
        )  # fmt: skip
        net.add(f"{name}.0", layer)
        net.add(f"{name}.1", BatchNorm2d(channels, self.eps))
        if activation:
            net.add(f"{name}.2", Activation(activation))

    def block(self, name: str, stage: Stage, channels: int, stride: int) -> None:
        """MBConv: expand, filter each channel, squeeze and excite, project, add the input."""
        net, source = self.net, self.net.last
        entering = net.channels()
        wide = rounded(entering * stage.expand)
        places = iter(f"{name}.block.{place}" for place in range(4))
        if wide != entering:
            self.conv(next(places), wide, 1)
        self.conv(next(places), wide, stage.kernel, stride, groups=wide)
        self.squeeze(next(places), max(1, entering // 4))
        self.conv(next(places), channels, 1, activation="")
        if stride == 1 and entering == channels:
            net.add(f"{name}.add", Add(), net.last, source)

    def squeeze(self, name: str, channels: int) -> None:
        """A gate for each channel, from the means of all."""
        net, source = self.net, self.net.last
        wide = net.channels()
        net.add(f"{name}.avgpool", AdaptiveAvgPool2d(1))
        net.add(f"{name}.fc1", Conv2d(wide, channels, 1))
        net.add(f"{name}.activation", Activation("silu"))
        net.add(f"{name}.fc2", Conv2d(channels, wide, 1))
        net.add(f"{name}.scale_activation", Activation("sigmoid"))
        net.add(f"{name}.mul", Mul(), net.last, source)


FAMILY = Family(
    "EfficientNet", CITATION, tuple(SCALINGS), build, {"classes": (1000, ())}
)  # fmt: skip
