"""GoogLeNet: the paper's form (LRN, 5×5 branches), and torchvision's (batch norm, 3×3 for 5×5)."""

from typing import NamedTuple

from imgconv.nn.builder import Builder
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
)
from imgconv.nn.models.base import Family, Network
from imgconv.nn.preprocess import Preprocess, caffe

CITATION = "C. Szegedy et al., Going deeper with convolutions, CVPR 2015 (arXiv:1409.4842)"


class Inception(NamedTuple):
    """Channels of a module's branches: table 1 of the paper."""

    one: int  # 1×1
    three_reduce: int
    three: int  # 3×3
    five_reduce: int
    five: int  # 5×5
    pool: int  # 1×1 after the pool


MODULES = {
    "3a": Inception(64, 96, 128, 16, 32, 32),
    "3b": Inception(128, 128, 192, 32, 96, 64),
    "4a": Inception(192, 96, 208, 16, 48, 64),
    "4b": Inception(160, 112, 224, 24, 64, 64),
    "4c": Inception(128, 128, 256, 24, 64, 64),
    "4d": Inception(112, 144, 288, 32, 64, 64),
    "4e": Inception(256, 160, 320, 32, 128, 128),
    "5a": Inception(256, 160, 320, 32, 128, 128),
    "5b": Inception(384, 192, 384, 48, 128, 128),
}
HEADS = {"4a": "aux1", "4d": "aux2"}
POOLS_AFTER = {"3b": "maxpool3", "4e": "maxpool4"}


def build(name: str, form: str = "paper", aux: bool = False, classes: int = 1000) -> Network:
    """The network; aux adds the two heads that help training, as further outputs."""
    net = Builder(3, 224, 224)
    maker = _Maker(net, form == "paper", classes)
    heads = maker.trunk(aux)
    outputs = (net.last, *heads)
    optional = () if aux else ("aux1.*", "aux2.*")
    # torchvision's weights were trained on inputs from −1 to 1.
    half = (0.5, 0.5, 0.5)
    preprocess = caffe(224) if form == "paper" else Preprocess(mean=half, std=half)
    variant = (
        "paper, 5×5 branches and LRN"
        if form == "paper"
        else "torchvision, 3×3 in the place of 5×5, batch normalization"
    )
    return Network(name, net.graph(*outputs, optional=optional), preprocess, variant, CITATION)


class _Maker:
    def __init__(self, net: Builder, paper: bool, classes: int) -> None:
        self.net, self.paper, self.classes = net, paper, classes

    def trunk(self, aux: bool) -> list[str]:
        """Add everything; return the names of the auxiliary outputs."""
        net, heads = self.net, []
        self.conv("conv1", 64, 7, stride=2)  # (N, 64, 112, 112)
        net.add("maxpool1", MaxPool2d(3, 2, ceil_mode=True))  # (N, 64, 56, 56)
        self.norm("norm1")
        self.conv("conv2", 64, 1)
        self.conv("conv3", 192, 3)
        self.norm("norm2")
        net.add("maxpool2", MaxPool2d(3, 2, ceil_mode=True))  # (N, 192, 28, 28)
        for label, channels in MODULES.items():
            self.inception(f"inception{label}", channels)
            if aux and label in HEADS:
                trunk = net.last
                heads.append(self.head(HEADS[label]))
                net.last = trunk
            if label in POOLS_AFTER:
                size = 2 if label == "4e" and not self.paper else 3
                net.add(POOLS_AFTER[label], MaxPool2d(size, 2, ceil_mode=True))
        net.add("avgpool", AdaptiveAvgPool2d(1))  # (N, 1024, 1, 1)
        net.add("flatten", Flatten())
        net.add("dropout", Dropout(0.4 if self.paper else 0.2))
        net.add("fc", Linear(1024, self.classes))
        return heads

    def conv(self, name: str, channels: int, size: int, stride: int = 1, read: str = "") -> str:
        """A convolution that keeps the size, with ReLU and torchvision's batch norm."""
        net, source = self.net, read or self.net.last
        layer = Conv2d(net.channels(source), channels, size, stride, size // 2, bias=self.paper)
        net.add(f"{name}.conv", layer, source)
        if not self.paper:
            net.add(f"{name}.bn", BatchNorm2d(channels, eps=0.001))
        return net.add(f"{name}.relu", Activation("relu"))

    def norm(self, name: str) -> None:
        if self.paper:
            self.net.add(name, LocalResponseNorm(5, 1e-4, 0.75, 1.0))

    def inception(self, name: str, channels: Inception) -> None:
        """Four branches side by side, concatenated."""
        net, source = self.net, self.net.last
        one = self.conv(f"{name}.branch1", channels.one, 1, read=source)
        self.conv(f"{name}.branch2.0", channels.three_reduce, 1, read=source)
        three = self.conv(f"{name}.branch2.1", channels.three, 3)
        self.conv(f"{name}.branch3.0", channels.five_reduce, 1, read=source)
        five = self.conv(f"{name}.branch3.1", channels.five, 5 if self.paper else 3)
        net.add(f"{name}.branch4.0", MaxPool2d(3, 1, 1), source)
        pool = self.conv(f"{name}.branch4.1", channels.pool, 1)
        net.add(f"{name}.cat", Concat(), one, three, five, pool)

    def head(self, name: str) -> str:
        """An auxiliary classifier on the last value."""
        net = self.net
        # The paper's 5×5 with stride 3 gives the 4×4 that torchvision asks for, at 224×224.
        pool = AvgPool2d(5, 3) if self.paper else AdaptiveAvgPool2d(4)
        net.add(f"{name}.avgpool", pool)  # (N, C, 4, 4)
        self.conv(f"{name}.conv", 128, 1)
        net.add(f"{name}.flatten", Flatten())
        net.add(f"{name}.fc1", Linear(2048, 1024))
        net.add(f"{name}.relu", Activation("relu"))
        net.add(f"{name}.dropout", Dropout(0.7))
        return net.add(f"{name}.fc2", Linear(1024, self.classes))


FAMILY = Family(
    "GoogLeNet", CITATION, ("googlenet",), build,
    {"form": ("paper", ("paper", "torchvision")), "aux": (False, (False, True)),
     "classes": (1000, ())},
)  # fmt: skip
