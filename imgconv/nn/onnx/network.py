"""An ONNX file as a network: its graph with what its input needs and its outputs mean."""

import json
from pathlib import Path

from imgconv.errors import ModelError
from imgconv.nn.models import Network
from imgconv.nn.onnx.graph import OnnxGraph, usual
from imgconv.nn.onnx.images import OTHERS, image_model
from imgconv.nn.onnx.reading import Model, read_model
from imgconv.nn.onnx.writing import LABELS, METADATA
from imgconv.nn.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    READ,
    Preprocess,
    Reading,
    preprocess_of,
    usual_channels,
)
from imgconv.shapes import Pair

# Where exporters keep the names of classes (the last is Ultralytics', a Python dictionary).
_LABEL_KEYS = (LABELS, "labels", "classes", "names")


def onnx_network(path: str | Path, size: Pair | None = None, reading: Reading = READ) -> Network:
    """Return the network of an ONNX classifier or feature extractor, with its weights.

    Preprocessing is what `imgconv net convert` wrote into the file; else ImageNet's for three
    channels at the model's own size, and plain 0…1 for others, 0…255 where the model takes
    integers. size: height and width, for a model that leaves them free. reading: what the file
    does not say. Raises ModelError.
    """
    whole = read_model(path)
    model = image_model(whole, reading)
    ((name, (_, _)),) = model.inputs.items()
    shape = usual(model, name)
    graph = OnnxGraph(model, {name: (*shape[:2], *size)} if size else None)
    return Network(
        Path(path).stem, graph, _preprocess(whole, name, graph.inputs[name]),
        f"ONNX, opset {model.opset}", labels=_labels(model),
    )  # fmt: skip


def _preprocess(model: Model, name: str, shape: tuple[int, ...]) -> Preprocess:
    _, channels, height, width = shape
    if METADATA in model.metadata:
        return _stored(model)
    kind = model.inputs[name][0]
    scale = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if kind in OTHERS and kind != "DOUBLE":
        # Signed bytes are an image's less 128, as quantized models take them.
        scale, mean = 255.0, (128.0 if kind == "INT8" else 0.0,)
    elif channels == 3:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    if channels != 3:
        return Preprocess(
            usual_channels(channels), (height, width), None, scale=scale, mean=mean, std=std
        )
    short = max(round(min(height, width) * 256 / 224), max(height, width))
    return Preprocess("rgb", short, (height, width), scale=scale, mean=mean, std=std)


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
