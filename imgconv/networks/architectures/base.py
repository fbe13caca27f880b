"""What a published network is, and how its name is read."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imgconv.errors import ModelError
from imgconv.networks.graph import Graph
from imgconv.networks.preprocess import Preprocess

# Family modules in the lecture's order.
FAMILIES = ("lenet", "alexnet", "vgg", "googlenet", "resnet", "efficientnet")


@dataclass(frozen=True)
class Network:
    """A graph with what its input needs and its outputs mean.

    labels: names of the classes, empty where they are not known. weights: a file that ships with
    imgconv, or None. variant: which paper's or library's form this is.
    """

    name: str
    graph: Graph
    preprocess: Preprocess
    variant: str = ""
    citation: str = ""
    labels: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The usual shape (1, C, H, W) of the one input."""
        return next(iter(self.graph.inputs.values()))


@dataclass(frozen=True)
class Family:
    """Names of a family, their options with defaults and choices, and the maker.

    options: name → (default, choices or ()); `classes` is a number. build(name, **options).
    """

    title: str
    citation: str
    names: tuple[str, ...]
    build: Callable[..., Network]
    options: Mapping[str, tuple[Any, tuple[Any, ...]]] = field(default_factory=dict)


def families() -> list[Family]:
    """All families, in the lecture's order."""
    package = __name__.rpartition(".")[0]
    return [importlib.import_module(f"{package}.{name}").FAMILY for name in FAMILIES]


def network_names() -> list[str]:
    """Names of all published networks."""
    return [name for family in families() for name in family.names]


def family_of(name: str) -> Family:
    """The family that has a network of this name. Raises ModelError with a suggestion."""
    for family in families():
        if name in family.names:
            return family
    names = network_names()
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    raise ModelError(f"network {name!r}: {hint}")


def get_network(text: str) -> Network:
    """Return the network of `name` or `name:option=value,…`. Raises ModelError."""
    head, _, rest = text.partition(":")
    name = head.strip().lower().replace("-", "_")
    family = family_of(name)
    options = {key: default for key, (default, _) in family.options.items()}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = part.partition("=")
        if key not in options or not equals:
            expected = ", ".join(f"{known}=" for known in options)
            raise ModelError(f"network {text!r}: {part!r}, expected {expected}")
        options[key] = _value(text, key, value, *family.options[key])
    return family.build(name, **options)


def _value(text: str, key: str, value: str, default: Any, choices: tuple[Any, ...]) -> Any:
    if choices == (False, True):
        known = {"true": True, "1": True, "false": False, "0": False}
        if value.lower() in known:
            return known[value.lower()]
        raise ModelError(f"network {text!r}: {key}={value}, expected true or false")
    if choices:
        if value in choices:
            return value
        raise ModelError(f"network {text!r}: {key}={value}, expected {' or '.join(choices)}")
    if value.isdigit() and 1 <= int(value) <= 1_000_000:
        return int(value)
    raise ModelError(f"network {text!r}: {key}={value}, expected a number from 1 to 1000000")
