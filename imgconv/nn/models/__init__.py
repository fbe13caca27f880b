"""Published networks: one module a family, each a table → block → network.

A network is asked for by name and options, `resnet50`, `resnet50:form=v1`,
`googlenet:form=torchvision,aux=true`, `vgg16_bn:classes=10`.
"""

from imgconv.nn.models.base import (
    FAMILIES,
    Family,
    Network,
    families,
    family_of,
    get_network,
    network_names,
)

__all__ = ["FAMILIES", "Family", "Network", "families", "family_of", "get_network", "network_names"]
