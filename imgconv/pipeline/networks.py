"""The network that options ask for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from imgconv.errors import UsageError
from imgconv.jit import parallel
from imgconv.kernels import Kernel
from imgconv.nn.find import find_network, with_weights
from imgconv.nn.models import Network
from imgconv.pipeline.network_settings import NetSettings, PreprocessSettings


def settled(
    name: str, wanted: PreprocessSettings, find: Callable[[str], Kernel] | None = None
) -> Network:
    """The network of a name with the preprocessing that the options ask for.

    find: what makes a chain's kernels of their texts, where no file is to be opened.
    """
    found = find_network(name, wanted.size, find)
    options = {
        "interpolation": wanted.interpolation, "channels": wanted.order, "scale": wanted.white,
        "mean": wanted.mean, "std": wanted.std, "invert": wanted.invert,
        "resize": wanted.resize, "crop": wanted.crop,
    }  # fmt: skip
    changed: dict[str, Any] = {
        field: None if value == "none" else value
        for field, value in options.items() if value is not None
    }  # fmt: skip
    count = found.input_shape[1]
    if count not in (1, 3):
        raise UsageError(f"{found.name} takes {count} channels, expected 1 or 3 for images")
    usual = found.preprocess
    if changed.get("channels") == "gray" and len(usual.mean) == 3:
        changed = {"mean": (0.0,), "std": (1.0,)} | changed
    return replace(found, preprocess=replace(usual, **changed))


def ready(name: str, settings: NetSettings, tell: Callable[[str], None]) -> tuple[Network, str]:
    """The network with its weights, and what these are; tell: what to say of them."""
    if settings.batch.threads:
        parallel.set_num_threads(settings.batch.threads)
    found = settled(name, settings.preprocess)
    return with_weights(found, settings.weights.weights, settings.weights.seed, tell)
