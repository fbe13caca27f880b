"""VGG with 11, 13, 16 and 19 layers, with and without batch normalization (torchvision's names)."""

from imgconv.nn.builder import Builder
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
)
from imgconv.nn.models.base import Family, Network
from imgconv.nn.preprocess import imagenet

CITATION = "K. Simonyan, A. Zisserman, Very deep convolutional networks, ICLR 2015"

# Convolutions of 64, 128, 256, 512 and 512 channels before each pool: columns A, B, D, E.
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


def build(name: str, classes: int = 1000) -> Network:
    """vgg11 … vgg19, vgg11_bn … vgg19_bn."""
    depth, _, normed = name.removeprefix("vgg").partition("_")
    net = Builder(3, 224, 224)
    index = 0
    for count, channels in zip(DEPTHS[int(depth)], CHANNELS, strict=True):
        for _ in range(count):
            layers = [Conv2d(net.channels(), channels, 3, padding=1), Activation("relu")]
            if normed:
                layers.insert(1, BatchNorm2d(channels))
            for layer in layers:
                net.add(f"features.{index}", layer)
                index += 1
        net.add(f"features.{index}", MaxPool2d(2))
        index += 1
    net.add("avgpool", AdaptiveAvgPool2d(7))  # (N, 512, 7, 7)
    net.add("flatten", Flatten())
    for place in (0, 3):
        net.add(f"classifier.{place}", Linear(net.channels(), 4096))
        net.add(f"classifier.{place + 1}", Activation("relu"))
        net.add(f"classifier.{place + 2}", Dropout())
    net.add("classifier.6", Linear(4096, classes))
    variant = "torchvision, batch normalization" if normed else "torchvision, as the paper"
    return Network(name, net.graph(), imagenet(), variant, CITATION)


FAMILY = Family(
    "VGG", CITATION, tuple(f"vgg{depth}{bn}" for bn in ("", "_bn") for depth in DEPTHS), build,
    {"classes": (1000, ())},
)  # fmt: skip
