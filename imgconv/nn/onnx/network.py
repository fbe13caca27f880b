"""An ONNX file as a network: its graph with what its input needs and its outputs mean."""

import json
from pathlib import Path

from imgconv.errors import ModelError
from imgconv.nn.models import Network
from imgconv.nn.onnx.graph import OnnxGraph
from imgconv.nn.onnx.reading import Model, read_model
from imgconv.nn.onnx.writing import LABELS, METADATA
from imgconv.nn.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocess,
    preprocess_of,
)

# Where exporters keep the names of classes (the last is Ultralytics', a Python dictionary).
_LABEL_KEYS = (LABELS, "labels", "classes", "names")


def onnx_network(path: str | Path) -> Network:
    """Return the network of an ONNX classifier or feature extractor, with its weights.

    Preprocessing is what `imgconv net convert` wrote into the file; else ImageNet's for three
    channels at the model's own size, and plain 0…1 for others. Raises ModelError.
    """
    model = read_model(path)
    if len(model.inputs) != 1:
        raise ModelError(
            f"{path}: inputs {', '.join(model.inputs) or '(none)'}, expected one, an image"
        )
    ((name, (kind, _)),) = model.inputs.items()
    if kind not in ("FLOAT", "FLOAT16", "BFLOAT16"):
        raise ModelError(f"{path}: input {name!r} of type {kind}, expected floats")
    graph = OnnxGraph(model)
    shape = graph.inputs[name]
    if len(shape) != 4:
        raise ModelError(f"{path}: input {name!r} of shape {shape}, expected (N, C, H, W)")
    return Network(
        Path(path).stem, graph, _preprocess(model, shape), f"ONNX, opset {model.opset}",
        labels=_labels(model),
    )  # fmt: skip


def _preprocess(model: Model, shape: tuple[int, ...]) -> Preprocess:
    _, channels, height, width = shape
    if METADATA in model.metadata:
        return _stored(model)
    if channels == 3:
        short = max(round(min(height, width) * 256 / 224), max(height, width))
        return Preprocess("rgb", short, (height, width), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if channels == 1:
        return Preprocess("gray", (height, width), None, mean=(0.0,), std=(1.0,))
    raise ModelError(f"{model.path}: an input of {channels} channels, expected 1 or 3")


def _stored(model: Model) -> Preprocess:
    source = f"{model.path}: metadata {METADATA}"
    try:
        table = json.loads(model.metadata[METADATA])
    except ValueError as error:
        raise ModelError(f"{source}: {error}") from None
    return preprocess_of(table, Preprocess(), source)


def _labels(model: Model) -> tuple[str, ...]:
    """The classes' names where the metadata hold a list or a dictionary of them."""
    import ast

    for key in _LABEL_KEYS:
        text = model.metadata.get(key, "")
        if not 0 < len(text) < 1 << 20:
            continue
        try:
            held = json.loads(text)
        except ValueError:
            try:
                held = ast.literal_eval(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
        if isinstance(held, dict):
            held = list(held.values())
        if isinstance(held, list) and all(isinstance(name, str) for name in held):
            return tuple(held)
    return ()
