"""ResNet-18, 34, 50, 101 and 152 by torchvision's names.

torchvision's bottleneck is "v1.5": the stride stands in the 3×3 convolution. The paper's (v1) has
it in the first 1×1.
"""

from imgconv.nn.builder import Builder
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    Add,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
)
from imgconv.nn.models.base import Family, Network
from imgconv.nn.preprocess import imagenet

CITATION = "K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning, CVPR 2016 (arXiv:1512.03385)"

# Blocks of each stage.
DEPTHS = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
}  # fmt: skip
CHANNELS = (64, 128, 256, 512)
EXPANSION = 4


def build(name: str, form: str = "v1.5", classes: int = 1000) -> Network:
    """resnet18 … resnet152; form v1.5 or v1, which differ from 50 layers on."""
    depth = int(name.removeprefix("resnet"))
    net = Builder(3, 224, 224)
    net.add("conv1", Conv2d(3, 64, 7, 2, 3, bias=False))  # (N, 64, 112, 112)
    net.add("bn1", BatchNorm2d(64))
    net.add("relu", Activation("relu"))
    net.add("maxpool", MaxPool2d(3, 2, 1))  # (N, 64, 56, 56)
    for stage, (count, channels) in enumerate(zip(DEPTHS[depth], CHANNELS, strict=True), 1):
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            block = f"layer{stage}.{index}"
            if depth < 50:
                _basic(net, block, channels, stride)
            else:
                _bottleneck(net, block, channels, stride, form)
    net.add("avgpool", AdaptiveAvgPool2d(1))
    net.add("flatten", Flatten())
    net.add("fc", Linear(net.channels(), classes))
    variant = "as the paper" if depth < 50 else f"{form}, stride in the "
    if depth >= 50:
        variant += "3×3 (torchvision)" if form == "v1.5" else "first 1×1 (paper)"
    return Network(name, net.graph(), imagenet(), variant, CITATION)


def _basic(net: Builder, block: str, channels: int, stride: int) -> None:
    source = net.last
    _normed(net, block, 1, Conv2d(net.channels(), channels, 3, stride, 1, bias=False))
    net.add(f"{block}.relu", Activation("relu"))
    _normed(net, block, 2, Conv2d(channels, channels, 3, 1, 1, bias=False))
    _joined(net, block, source, stride)


def _bottleneck(net: Builder, block: str, channels: int, stride: int, form: str) -> None:
    source = net.last
    first, second = (stride, 1) if form == "v1" else (1, stride)
    _normed(net, block, 1, Conv2d(net.channels(), channels, 1, first, bias=False))
    net.add(f"{block}.relu", Activation("relu"))
    _normed(net, block, 2, Conv2d(channels, channels, 3, second, 1, bias=False))
    net.add(f"{block}.relu", Activation("relu"))
    _normed(net, block, 3, Conv2d(channels, EXPANSION * channels, 1, bias=False))
    _joined(net, block, source, stride)


def _normed(net: Builder, block: str, number: int, conv: Conv2d) -> None:
    net.add(f"{block}.conv{number}", conv)
    net.add(f"{block}.bn{number}", BatchNorm2d(conv.out_channels))


def _joined(net: Builder, block: str, source: str, stride: int) -> None:
    """Add the block's input, projected where sizes or channels differ, and activate."""
    result, channels = net.last, net.channels()
    if stride != 1 or net.channels(source) != channels:
        projection = Conv2d(net.channels(source), channels, 1, stride, bias=False)
        net.add(f"{block}.downsample.0", projection, source)
        source = net.add(f"{block}.downsample.1", BatchNorm2d(channels))
    net.add(f"{block}.add", Add(), result, source)
    net.add(f"{block}.relu", Activation("relu"))


FAMILY = Family(
    "ResNet", CITATION, tuple(f"resnet{depth}" for depth in DEPTHS), build,
    {"form": ("v1.5", ("v1.5", "v1")), "classes": (1000, ())},
)  # fmt: skip
