"""The layers of convolutional networks, by torch.nn's names and arguments.

Each states its parameters, its output's shape and what a unit sees, and computes by one line
into `compute`. Compiled operations are imported when a layer runs.
"""

from imgconv.nn.layers.base import Layer, Reach, Shape
from imgconv.nn.layers.convolution import (
    Conv2d,
    ConvTranspose2d,
    Linear,
    ResidualConv2d,
)
from imgconv.nn.layers.normalization import BatchNorm2d, InstanceNorm2d, LocalResponseNorm
from imgconv.nn.layers.pointwise import (
    Activation,
    Add,
    Concat,
    Dropout,
    Flatten,
    Identity,
    Mul,
    Softmax,
)
from imgconv.nn.layers.pooling import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    LPPool2d,
    MaxPool2d,
    MedianPool2d,
    MinPool2d,
    RangePool2d,
    RankPool2d,
    WindowPool,
)

__all__ = [
    "Activation", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "Add", "AvgPool2d",
    "BatchNorm2d", "Concat", "Conv2d", "ConvTranspose2d", "Dropout", "Flatten",
    "Identity", "InstanceNorm2d", "LPPool2d", "Layer", "Linear", "LocalResponseNorm",
    "MaxPool2d", "MedianPool2d", "MinPool2d", "Mul", "RangePool2d", "RankPool2d", "Reach",
    "ResidualConv2d", "Shape", "Softmax", "WindowPool",
]  # fmt: skip
