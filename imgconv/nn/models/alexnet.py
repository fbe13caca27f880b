"""AlexNet: torchvision's one-column form, and the paper's form of two groups with LRN."""

from typing import NamedTuple

from imgconv.nn.builder import Builder
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
)
from imgconv.nn.models.base import Family, Network
from imgconv.nn.preprocess import caffe, imagenet

CITATION = "A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep CNNs, 2012"
ONE_COLUMN = (
    "A. Krizhevsky, One weird trick for parallelizing convolutional neural networks, "
    "arXiv:1404.5997"
)


class Conv(NamedTuple):
    """A convolution and what follows it."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    norm: bool = False
    pool: bool = False


ONE = (
    Conv(64, 11, 4, 2, pool=True),
    Conv(192, 5, 1, 2, pool=True),
    Conv(384, 3, 1, 1),
    Conv(256, 3, 1, 1),
    Conv(256, 3, 1, 1, pool=True),
)
TWO = (
    Conv(96, 11, 4, norm=True, pool=True),
    Conv(256, 5, 1, 2, groups=2, norm=True, pool=True),
    Conv(384, 3, 1, 1),
    Conv(384, 3, 1, 1, groups=2),
    Conv(256, 3, 1, 1, groups=2, pool=True),
)


def build(name: str, form: str = "torchvision", classes: int = 1000) -> Network:
    """The network in one of its forms."""
    return _one_column(name, classes) if form == "torchvision" else _two_groups(name, classes)


def _one_column(name: str, classes: int) -> Network:
    net = Builder(3, 224, 224)
    index = 0
    for conv in ONE:
        net.add(f"features.{index}", Conv2d(net.channels(), *conv[:4]))
        net.add(f"features.{index + 1}", Activation("relu"))
        index += 2
        if conv.pool:
            net.add(f"features.{index}", MaxPool2d(3, 2))
            index += 1
    net.add("avgpool", AdaptiveAvgPool2d(6))  # (N, 256, 6, 6)
    net.add("flatten", Flatten())
    for place, features in ((0, 4096), (3, 4096)):
        net.add(f"classifier.{place}", Dropout())
        net.add(f"classifier.{place + 1}", Linear(net.channels(), features))
        net.add(f"classifier.{place + 2}", Activation("relu"))
    net.add("classifier.6", Linear(net.channels(), classes))
    return Network(name, net.graph(), imagenet(), "torchvision, one column", ONE_COLUMN)


def _two_groups(name: str, classes: int) -> Network:
    # 227, not the 224 that the paper says: 11×11 with stride 4 gives its 55×55 only then.
    net = Builder(3, 227, 227)
    for number, conv in enumerate(TWO, 1):
        layer = Conv2d(net.channels(), *conv[:4], groups=conv.groups)
        net.add(f"conv{number}", layer)
        net.add(f"relu{number}", Activation("relu"))
        if conv.norm:
            # The paper's α multiplies the sum, PyTorch's the mean of 5.
            net.add(f"norm{number}", LocalResponseNorm(5, 5e-4, 0.75, 2.0))
        if conv.pool:
            net.add(f"pool{number}", MaxPool2d(3, 2))
    net.add("flatten", Flatten())  # (N, 256 · 6 · 6)
    for number in (6, 7):
        net.add(f"fc{number}", Linear(net.channels(), 4096))
        net.add(f"relu{number}", Activation("relu"))
        net.add(f"drop{number}", Dropout())
    net.add("fc8", Linear(4096, classes))
    return Network(name, net.graph(), caffe(227), "paper, two groups and LRN", CITATION)


FAMILY = Family(
    "AlexNet", CITATION, ("alexnet",), build,
    {"form": ("torchvision", ("torchvision", "paper")), "classes": (1000, ())},
)  # fmt: skip
