"""What a command line calls a network: a published name, a file, or a chain of steps."""

import difflib
import fnmatch
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from imgconv.errors import ModelError
from imgconv.nn.graph import Graph
from imgconv.nn.models import Network, family_of, get_network, network_names
from imgconv.nn.models.base import MAX_CLASSES
from imgconv.nn.preprocess import READ, Reading
from imgconv.nn.stored import Stored
from imgconv.nn.weight_names import Note, as_named
from imgconv.nn.weights import draw_weights, fits, load_weights, opened
from imgconv.shapes import Pair

if TYPE_CHECKING:
    from imgconv.kernels import Kernel


_CHECKPOINTS = (".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".safetensors", ".npz")


def find_network(
    text: str, size: Pair | None = None, find: "Callable[[str], Kernel] | None" = None,
    reading: Reading = READ,
) -> Network:  # fmt: skip
    """Return the network of `resnet50`, `vgg16:classes=10`, a file, or `conv sobel | relu`.

    Files are `mine.toml` and `model.onnx`. size: height and width of its input, for another than
    the usual; crop and resize follow it. find: what makes a chain's kernels of their texts; no
    file is opened then. reading: how an ONNX model is read.

    Raises ModelError with a suggestion for a name that is not known, ShapeError where a layer does
    not fit the size.
    """
    if find:
        from imgconv.nn.user import chain_network

        chain = "|" in text or " " in text.strip()
        return chain_network(text, size, find) if chain else _sized(get_network(text), size)
    if text.endswith(".toml"):
        from imgconv.nn.user import file_network

        return file_network(text, size)
    if text.endswith(".onnx"):
        from imgconv.nn.onnx import onnx_network

        return _sized(onnx_network(text, size, reading), size)
    if reading.layout or reading.feed or reading.outputs:
        raise ModelError(f"{text}: --layout, --feed and --outputs are for ONNX files")
    if "|" in text or " " in text.strip():
        from imgconv.nn.user import chain_network

        return chain_network(text, size)
    if text.lower().endswith(_CHECKPOINTS):
        raise ModelError(
            f"{text}: a checkpoint has a network's weights alone, expected the network's name and "
            f"--weights {text}"
        )
    return _sized(get_network(text), size)


def _sized(network: Network, size: Pair | None) -> Network:
    if size is None:
        return network
    settings, graph = network.preprocess, network.graph
    if settings.crop is None:
        settings = replace(settings, resize=size)
    else:
        short = max(min(size), settings.resize) if isinstance(settings.resize, int) else size
        settings = replace(settings, crop=size, resize=short)
    shape = (*network.input_shape[:2], *size)
    if shape != network.input_shape:
        graph = graph.sized({next(iter(graph.inputs)): shape})
    return replace(network, preprocess=settings, graph=graph)


def with_weights(
    network: Network, path: str | None, seed: int | None, note: Note = lambda text: None
) -> tuple[Network, str]:
    """Return the network ready to run, and what its weights are, for people.

    path: a weights file; by default the one that ships or is named with the network. seed: draw
    untrained weights instead. note: told how a file's names were read. A network without
    parameters needs neither. Raises ModelError.
    """
    graph = network.graph
    if path is not None and seed is not None:
        raise ModelError("--weights and --seed, expected one of them")
    if seed is not None:
        return replace(network, graph=draw_weights(graph, seed)), f"untrained, seed {seed}"
    missing = any(
        node.layer.parameter_shapes().keys() - node.layer.parameters.keys() for node in graph.nodes
    )
    if path is None and not missing:
        return network, "its own"
    path = path or network.weights
    if path is None:
        raise ModelError(
            f"{network.name}: no weights, expected --weights FILE, or --seed N for untrained ones"
        )
    try:
        graph = load_weights(graph, path, network.name, note)
    except ModelError as error:
        better = _better_form(network, path)
        hint = f"; they are those of {better}" if better else ""
        raise ModelError(f"{error}{hint}") from None
    return replace(network, graph=graph), str(path)


def _better_form(network: Network, path: str) -> str | None:
    """A network, of another form or number of classes perhaps, whose weights the file has."""
    own = network.name.partition(":")[0]
    try:
        family_of(own)
        with opened(path) as stored:
            texts = [text for name in (own, *network_names()) for text in _forms(name, stored)]
            for text in texts:
                graph = get_network(text).graph
                entries = as_named(graph, stored, path, lambda text: None)
                if fits(graph, {key: entry.shape for key, entry in entries.items()}):
                    return text
    except ModelError:
        pass
    return None


def _forms(name: str, stored: dict[str, Stored]) -> list[str]:
    """A network in its forms, as they are usual and with the file's number of classes."""
    forms: list[list[str]] = [[]]
    for key, (_, choices) in family_of(name).options.items():
        if choices:
            forms = [[*form, f"{key}={str(c).lower()}"] for form in forms for c in choices]
    last = [entry.shape[0] for key, entry in stored.items() if len(entry.shape) == 2][-1:]
    classes = [f"classes={count}" for count in last if 1 <= count <= MAX_CLASSES]
    found = [*forms, *([*form, *classes] for form in forms if classes)]
    return [f"{name}:{','.join(form)}" if form else name for form in found]


def select_values(graph: Graph, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the values that any of the globs matches, in the order of computation.

    A name that only begins values (`layer2` of `layer2.0.conv1`) is the last of them: the output
    of that part. Raises ModelError for a pattern that matches nothing.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(graph.values, pattern)
        if not found:
            inner = [name for name in graph.values if name.startswith(f"{pattern}.")]
            found = inner[-1:]
        if not found:
            near = difflib.get_close_matches(pattern, graph.values, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else "`imgconv net summary` lists them"
            raise ModelError(f"--layer {pattern}: no such layer; {hint}")
        chosen.update(found)
    return tuple(name for name in graph.values if name in chosen)
