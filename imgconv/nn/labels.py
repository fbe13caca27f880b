"""Names of classes: ImageNet's thousand, which ship with imgconv, and files of one's own."""

import functools
import io
import math
import os
from typing import TYPE_CHECKING

from imgconv.errors import ModelError, UsageError
from imgconv.io.limits import read_text

if TYPE_CHECKING:
    from imgconv.nn.models import Network

_IMAGENET = os.path.join(os.path.dirname(__file__), "data", "imagenet.txt")


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """Names of ImageNet's 1,000 classes, in the order of the outputs; the file says whence."""
    return tuple(name for name in read_labels(_IMAGENET) if not name.startswith("#"))


def check_labels(network: "Network") -> None:
    """Raise UsageError for labels that are not as many as the classes."""
    classes = math.prod(network.graph.shapes()[network.scores][1:])
    if network.labels and len(network.labels) != classes:
        raise UsageError(
            f"{network.name}: {len(network.labels)} labels for {classes} classes, expected as many"
        )


def read_labels(path: str) -> tuple[str, ...]:
    """Lines of a file; `imagenet` is the list that ships. Raises ModelError."""
    if path == "imagenet":
        return imagenet_labels()
    try:
        return tuple(line.rstrip("\r\n") for line in io.StringIO(read_text(path), None))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
