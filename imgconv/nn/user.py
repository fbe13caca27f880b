"""Networks of one's own: a chain of steps, or a TOML file.

    input = [3, 32, 32]                     # channels, height, width
    labels = ["cat", "dog"]                 # optional
    weights = "mine.safetensors"            # optional, beside this file

    [preprocess]                            # optional; names as in `Preprocess`
    resize = [32, 32]
    mean = [0.5, 0.5, 0.5]

    [[layers]]
    name = "conv1"                          # optional; parameters are conv1.weight, conv1.bias
    layer = "conv2d 16 3 padding=1"
    inputs = ["input"]                      # optional; the layer before

A file with `steps = ["conv2d 16 3", "relu", …]` instead of `[[layers]]` is a chain.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard, TypeVar

from imgconv.errors import ModelError, UsageError
from imgconv.io.limits import MAX_PIXELS, read_text
from imgconv.kernels.kernel import Kernel
from imgconv.nn.builder import Builder
from imgconv.nn.chain import split_chain
from imgconv.nn.models import Network
from imgconv.nn.preprocess import Preprocess, preprocess_of
from imgconv.nn.steps import parse_step
from imgconv.shapes import Pair
from imgconv.toml import parse_toml

T = TypeVar("T")

IMAGE = (3, 224, 224)  # of a chain, until a size is asked for
_KEYS = ("name", "input", "labels", "weights", "preprocess", "layers", "steps", "description")


def chain_network(
    text: str, size: Pair | None = None, find: Callable[[str], Kernel] | None = None
) -> Network:
    """The network of `gray | conv sobel | conv2d 8 3 | relu`; pixels go in as they are, 0…255.

    Values are called `2-conv`, as `run` calls them. size: what pixels are resized to. find: as of
    `parse_chain`. Raises UsageError, KernelError, ShapeError.
    """
    net = Builder(IMAGE[0], *(size or IMAGE[1:]))
    _add_steps(net, text.split("|") if find else split_chain(text), find)
    return Network("chain", net.graph(), replace(_RAW, resize=size), "a chain of steps")


_RAW = Preprocess(resize=None, crop=None, scale=255.0, mean=(0.0,), std=(1.0,))


def file_network(path: str, changed: Pair | None = None) -> Network:
    """The network of a TOML file, for inputs of another height and width where they are given.

    Raises ModelError naming the file and what was expected, ShapeError naming the layer.
    """
    try:
        table = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    for key in table:
        if key not in _KEYS:
            raise ModelError(f"{path}: {key!r}, expected one of {', '.join(_KEYS)}")
    for key in ("name", "weights", "description"):
        if not isinstance(table.get(key, ""), str):
            raise ModelError(f"{path}: {key} = {table[key]}, expected a text")
    size = table.get("input", list(IMAGE))
    if not _is_list(size, int) or len(size) != 3 or min(size) < 1:
        raise ModelError(f"{path}: input = {size}, expected [channels, height, width]")
    if size[1] * size[2] > MAX_PIXELS:
        raise ModelError(f"{path}: input = {size}, expected at most {MAX_PIXELS} pixels")
    size = [size[0], *(changed or size[1:])]
    net = Builder(*size)
    try:
        if "steps" in table:
            if not _is_list(table["steps"], str) or "layers" in table:
                raise ModelError('expected steps = ["conv2d 8 3", "relu", …] or [[layers]]')
            _add_steps(net, table["steps"])
        else:
            _add_layers(net, table.get("layers"))
    except UsageError as error:
        raise ModelError(f"{path}: {error}") from None
    labels = table.get("labels", [])
    if not _is_list(labels, str):
        raise ModelError(f'{path}: labels = {labels}, expected ["cat", "dog", …]')
    raw = "steps" in table and "input" not in table
    usual = replace(_RAW, resize=changed) if raw else Preprocess(
        channels="gray" if size[0] == 1 else "rgb", resize=(size[1], size[2]), crop=None,
        mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    weights = table.get("weights")
    return Network(
        table.get("name", Path(path).stem), net.graph(),
        preprocess_of(table.get("preprocess", {}), usual, path),
        str(table.get("description", "")), labels=tuple(labels),
        weights=_beside(path, weights) if weights else None,
    )  # fmt: skip


def _beside(path: str, name: str) -> str:
    """The file of weights that a description names, which need not be there yet.

    A description may be anybody's: it reaches no further than its own folder.
    """
    place = Path(path).parent
    if not (place / name).resolve().is_relative_to(place.resolve()):
        raise ModelError(
            f"{path}: weights = {name!r}, expected a file within its own folder; "
            "--weights takes one from anywhere"
        )
    return str(place / name)


def _add_steps(
    net: Builder, texts: Sequence[str], find: Callable[[str], Kernel] | None = None
) -> None:
    for number, text in enumerate(texts, 1):
        step = parse_step(text, number, find)
        net.add(step.name, step.make(net.shapes[net.last]))


def _add_layers(net: Builder, tables: object) -> None:
    if not _is_list(tables, dict) or not tables:
        raise ModelError('no [[layers]], expected one table with layer = "conv2d 8 3" each')
    for number, table in enumerate(tables, 1):
        text, inputs = table.get("layer"), table.get("inputs", [net.last])
        where = f"layer {number}"
        named = isinstance(table.get("name", ""), str)
        if not isinstance(text, str) or not _is_list(inputs, str) or not inputs or not named:
            raise ModelError(f'{where}: expected layer = "…", inputs = ["…"] and name = "…"')
        if set(table) - {"name", "layer", "inputs"}:
            odd = ", ".join(sorted(set(table) - {"name", "layer", "inputs"}))
            raise ModelError(f"{where}: {odd}, expected name, layer and inputs")
        step = parse_step(text, number)
        name = table.get("name", step.name)
        for value in (name, *inputs):
            if (value in net.shapes) == (value is name):
                problem = "is there twice" if value is name else "is made by no layer before"
                raise ModelError(f"{where}: {value!r} {problem}")
        net.add(name, step.make(net.shapes[inputs[0]]), *inputs)


def _is_list(value: object, kind: type[T]) -> TypeGuard[list[T]]:
    return isinstance(value, list) and all(
        isinstance(item, kind) and not isinstance(item, bool) for item in value
    )
