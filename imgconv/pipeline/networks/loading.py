"""The network that options ask for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

from imgconv.errors import UsageError
from imgconv.jit import parallel
from imgconv.kernels import Kernel
from imgconv.nn.find import find_network, with_weights
from imgconv.nn.models import Network
from imgconv.nn.preprocess import ORDERS, Reading, by_recipe
from imgconv.pipeline.settings.network import NetSettings
from imgconv.shapes import Pair

T = TypeVar("T", bound=int | Pair)


def settled(
    name: str, settings: NetSettings, find: Callable[[str], Kernel] | None = None
) -> Network:
    """The network of a name with the preprocessing that the options ask for.

    find: what makes a chain's kernels of their texts, where no file is to be opened.
    """
    wanted = settings.preprocess
    if wanted.channels and wanted.order:
        raise UsageError("--channels with --order, expected one of them")
    found = find_network(name, wanted.size, find, _reading(settings))
    usual = found.preprocess
    if settings.recipe:
        usual = by_recipe(usual, settings.recipe)
    channels = wanted.channels or wanted.order or usual.channels
    mean, std = usual.mean, usual.std
    if channels != usual.channels and len(mean) not in (1, ORDERS.get(channels)):
        mean, std = (0.0,), (1.0,)
    return replace(found, preprocess=replace(
        usual, channels=channels,
        resize=_chosen(wanted.resize, usual.resize), crop=_chosen(wanted.crop, usual.crop),
        interpolation=wanted.interpolation or usual.interpolation,
        scale=usual.scale if wanted.white is None else wanted.white,
        mean=wanted.mean or mean, std=wanted.std or std,
        invert=usual.invert if wanted.invert is None else wanted.invert,
        max_pixels=wanted.max_pixels or usual.max_pixels,
    ))  # fmt: skip


def _chosen(wanted: T | Literal["none"] | None, usual: T | None) -> T | None:
    """What is wanted of a setting that a network may do without, and otherwise what is usual."""
    if wanted == "none":
        return None
    return usual if wanted is None else wanted


def _reading(settings: NetSettings) -> Reading:
    """How an ONNX model is read. Raises UsageError."""
    model, channels = settings.model, settings.preprocess.channels
    feed = {}
    for part in (model.feed or "").split():
        name, _, text = part.rpartition("=")
        try:
            feed[name] = tuple(float(number) for number in text.split(","))
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"--feed {part!r}: expected NAME=NUMBER or NAME=NUMBER,NUMBER")
    outputs = tuple(filter(None, (model.outputs or "").split(",")))
    return Reading(model.layout, channels.count(",") + 1 if channels else None, feed, outputs)


def ready(name: str, settings: NetSettings, tell: Callable[[str], None]) -> tuple[Network, str]:
    """The network with its weights, and what these are; tell: what to say of them."""
    if settings.batch.threads:
        parallel.set_num_threads(settings.batch.threads)
    found, weights = settled(name, settings), settings.weights.weights
    if settings.recipe and not settings.preprocess.preprocess:
        tell(f"{weights}: torchvision's second weights, taken with --preprocess {settings.recipe}")
    return with_weights(found, weights, settings.weights.seed, tell)


def convert(network: Network, source: str, output: str, overwrite: bool) -> int:
    """Write a network's weights, or all of it as ONNX; return the file's size.

    Raises UsageError, OutputError, and ModelError for what ONNX cannot say.
    """
    from imgconv.io.formats import format_of
    from imgconv.io.publish import publish
    from imgconv.io.writing import encode_archive
    from imgconv.nn.weights import loaded

    if output.lower().endswith(".onnx"):
        from imgconv.nn.onnx import to_onnx

        return publish(output, [to_onnx(network).SerializeToString()], overwrite)
    made = format_of(output)
    if not made.archive:
        raise UsageError(f"{output}: expected a name that ends in .safetensors, .npz or .onnx")
    facts = {"network": network.name, "weights": source}
    return publish(output, encode_archive(loaded(network.graph), made, facts), overwrite)
