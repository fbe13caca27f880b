"""Networks, inputs and weights of the golden outputs; shared by the maker and the test."""

import zlib

import numpy as np

CLASSES = 10

# Name → the input's height and width: small, and odd where the network allows it.
SIZES = {
    "lenet5": (32, 32), "lenet5:form=paper": (32, 32), "alexnet": (95, 111),
    "alexnet:form=paper": (227, 227), "vgg11_bn": (50, 35), "vgg16": (33, 47),
    "googlenet:aux=true": (224, 224), "googlenet:form=torchvision,aux=true": (77, 64),
    "resnet18": (65, 50), "resnet50": (65, 50), "resnet50:form=v1": (65, 50),
    "efficientnet_b0": (65, 50), "efficientnet_b5": (33, 40),
}  # fmt: skip


def golden_network_input(name, channels):
    """(2, C, H, W) float32, normal."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    return draw.normal(size=(2, channels, *SIZES[name])).astype(np.float32)


def golden_parameters(shapes):
    """Arrays by name: weights that keep the variance, and statistics unlike those of a new net."""
    found = {}
    for name, shape in shapes.items():
        draw = np.random.default_rng(zlib.crc32(name.encode()))
        values = draw.random(shape, np.float32)
        if name.endswith("running_var"):
            values = values + np.float32(0.5)
        elif len(shape) == 1 and name.endswith("weight"):
            values = values * np.float32(0.5) + np.float32(0.5)
        elif len(shape) == 1:
            values = values * np.float32(0.2) - np.float32(0.1)
        else:
            fan_in = max(1, int(np.prod(shape[1:])))
            values = (values - np.float32(0.5)) * np.float32(2 * np.sqrt(6 / fan_in))
        found[name] = values
    return found
