"""What stands between an image and a model: its layout, type, batch, and inputs that are no image.

A network takes one image as (N, C, H, W) float32. Where the model declares something else, nodes
before its own make that of it, so that all that reads shapes or runs a network need not know.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.onnx.operation import Operation
from imgconv.nn.onnx.reading import MAX_ELEMENTS, Dimension, Model
from imgconv.nn.preprocess import READ, Reading
from imgconv.typing import Array

FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")
# NumPy's types by those of a model's input that samples are rounded to.
OTHERS = {
    "UINT8": "uint8", "INT8": "int8", "UINT16": "uint16", "INT16": "int16", "INT32": "int32",
    "INT64": "int64", "DOUBLE": "float64",
}  # fmt: skip
SAMPLES = "imgconv.Samples"  # an operator of ours: samples as numbers of another type
# Axes of these lengths are taken for an image's channels, if they are the first or the last.
FIRST, LAST = (1, 2, 3, 4), (1, 3, 4)
# Operators that leave axes where they are, behind which a Transpose still tells the layout.
_POINTWISE = ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear", "Sub", "Add", "Mul", "Div",
              "Unsqueeze")  # fmt: skip


def image_model(model: Model, reading: Reading = READ) -> Model:
    """Return the model of one input, an image (N, C, H, W) float32. Raises ModelError."""
    if reading.outputs:
        model = until(model, reading.outputs)
    model = _fed(model, reading.feed)
    if len(model.inputs) != 1:
        raise ModelError(
            f"{model.path}: inputs {_listed(model)}, expected one, an image; "
            "--feed 'NAME=NUMBERS' makes others constants"
        )
    ((name, (kind, declared)),) = model.inputs.items()
    if kind not in (*FLOATS, *OTHERS):
        raise ModelError(
            f"{model.path}: input {name!r} of type {kind}, expected floats or integers"
        )
    declared = ("", "", "", "") if declared is None else declared
    if len(declared) not in (3, 4):
        raise ModelError(
            f"{model.path}: input {name!r} of shape {shown(declared)}, expected (N, C, H, W), "
            "(N, H, W, C), or those without N"
        )
    steps: list[tuple[str, Mapping[str, object]]] = []
    form = list(declared)
    if len(form) == 3:
        form = [1, *form]
        steps.append(("Squeeze", {"axes": [0]}))
    if _layout(model, name, form, reading.layout) == "nhwc":
        form = [form[0], form[3], form[1], form[2]]
        steps.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    if kind not in FLOATS:
        steps.append((SAMPLES, {"dtype": OTHERS[kind]}))
    if isinstance(form[0], int) and form[0] > 1:
        model = _of_any_batch(model, form[0])
        form[0] = ""
    if reading.channels and not _is_number(form[1]):
        form[1] = reading.channels
    return _led(model, name, tuple(form), steps[::-1])


def shown(declared: tuple[Dimension, ...]) -> str:
    """A declared shape for people: free lengths by their names, or ?."""
    return f"({', '.join(str(n) if _is_number(n) else str(n or '?') for n in declared)})"


def _is_number(n: Dimension) -> bool:
    return isinstance(n, int) and n > 0


def _listed(model: Model) -> str:
    texts = [
        f"{name} {shown(declared) if declared is not None else ''}".strip()
        for name, (_, declared) in model.inputs.items()
    ]
    return ", ".join(texts) or "(none)"


def until(model: Model, outputs: tuple[str, ...]) -> Model:
    """The part of a model that makes these values. Raises ModelError for one that is not there."""
    makers = {name: operation for operation in model.operations for name in operation.outputs}
    for name in outputs:
        if name not in makers:
            raise ModelError(f"{model.path}: --outputs {name}: no node makes it")
    wanted, needed = list(outputs), set()
    while wanted:
        maker = makers.get(wanted.pop())
        if maker is not None and maker.name not in needed:
            needed.add(maker.name)
            wanted += maker.inputs
    kept = tuple(operation for operation in model.operations if operation.name in needed)
    read = {name for operation in kept for name in operation.inputs}
    inputs = {name: value for name, value in model.inputs.items() if name in read}
    return replace(model, operations=kept, inputs=inputs or model.inputs, outputs=outputs)


def _fed(model: Model, feed: Mapping[str, tuple[float, ...]]) -> Model:
    """The model whose inputs of these names are constants."""
    inputs, constants = dict(model.inputs), dict(model.constants)
    for name, numbers in feed.items():
        if name not in inputs:
            raise ModelError(f"{model.path}: --feed {name}: no such input, got {_listed(model)}")
        kind, declared = inputs.pop(name)
        constants[name] = _array(model.path, name, kind, declared or (), numbers)
    return replace(model, inputs=inputs, constants=constants)


def _array(
    path: str, name: str, kind: str, declared: tuple[Dimension, ...], numbers: tuple[float, ...]
) -> Array:
    """Numbers in the shape and type of an input; one fills all of it."""
    free = [axis for axis, n in enumerate(declared) if not _is_number(n)]
    shape = [n if isinstance(n, int) and n > 0 else 1 for n in declared]
    if free and len(numbers) > 1:  # what is free takes all that there is, the last axis first
        shape[free[-1]] = max(len(numbers) // math.prod(shape), 1)
    if len(numbers) not in (1, math.prod(shape)) or math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(
            f"{path}: --feed {name}: {len(numbers)} numbers for shape {shown(declared)}"
        )
    dtype = np.dtype(bool if kind == "BOOL" else np.float32 if kind in FLOATS else kind.lower())
    return np.broadcast_to(np.array(numbers, dtype).reshape(-1), (math.prod(shape),)).reshape(shape)


def _layout(model: Model, name: str, form: list[Dimension], wanted: str | None) -> str:
    """Whether an input of four axes is nchw or nhwc."""
    if wanted:
        return wanted
    first, last = form[1] in FIRST, form[3] in LAST
    if first != last and _is_number(form[3 if first else 1]):
        return "nchw" if first else "nhwc"
    if any(operation.attributes.get("perm") == [0, 3, 1, 2] for operation in _behind(model, name)):
        return "nhwc"
    return "nhwc" if last and not first else "nchw"


def _behind(model: Model, name: str) -> Iterator[Operation]:
    """The operators that read an input, also through some that keep its axes."""
    names = {name}
    for operation in model.operations:
        if not names.isdisjoint(operation.inputs):
            yield operation
            if operation.kind in _POINTWISE:
                names.update(operation.outputs)


def _of_any_batch(model: Model, batch: int) -> Model:
    """A model made for a batch, whose Reshapes name it, for batches of any size."""
    constants = dict(model.constants)
    for operation in model.operations:
        if operation.kind == "Constant" and "value" in operation.attributes:
            constants[operation.results[0]] = operation.attributes["value"]
    shapes = {operation.operands[1] for operation in model.operations
              if operation.kind == "Reshape" and len(operation.operands) > 1}  # fmt: skip
    changed = {}
    for name in shapes & constants.keys():
        shape = np.array(constants[name])
        if shape.ndim == 1 and len(shape) > 1 and shape[0] == batch:
            shape[0] = 1 if -1 in shape else -1
            changed[name] = shape
    kept = tuple(op for op in model.operations if changed.keys().isdisjoint(op.results))
    return replace(model, operations=kept, constants={**model.constants, **changed})


def _led(
    model: Model,
    name: str,
    form: tuple[Dimension, ...],
    steps: list[tuple[str, Mapping[str, object]]],
) -> Model:
    """The model whose input goes through steps, operators with their attributes, first."""
    taken = {value for operation in model.operations for value in operation.outputs}
    led, source = [], name
    for kind, attributes in steps:
        made = f"{name}:{kind.rpartition('.')[2].lower()}"
        while made in taken:
            made += "_"
        led.append(Operation(kind, made, (source,), (made,), attributes))
        source = made
    operations = tuple(
        replace(op, operands=tuple(source if value == name else value for value in op.operands))
        for op in model.operations
    ) if steps else model.operations  # fmt: skip
    return replace(model, operations=(*led, *operations), inputs={name: ("FLOAT", form)})
