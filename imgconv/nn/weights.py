"""Weights: read from safetensors, checkpoints, NPZ or ONNX initializers, compared, or drawn.

Only headers are read before names and shapes have been compared, so a file cannot make more be
allocated than its network needs.
"""

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from imgconv import npy
from imgconv.errors import ModelError
from imgconv.marks import PREFIX, kind_of
from imgconv.nn.graph import Graph
from imgconv.nn.layers import BatchNorm2d, InstanceNorm2d, Shape
from imgconv.nn.stored import FileArrays, Stored, WeightFile
from imgconv.nn.weight_names import Note, as_named, state_dictionary
from imgconv.typing import Array

# PyTorch keeps how many batches made the statistics; evaluation has no use for it.
_IGNORED = ("*num_batches_tracked",)
_SHOWN = 4


def load_weights(
    graph: Graph, path: str | Path, name: str = "the network", note: Note = lambda text: None
) -> Graph:
    """Return the graph with the weights of a file, as float32; they are read when they are needed.

    Parameters
    ----------
    graph
        The network.
    path
        A safetensors, NPZ or ONNX file, or a PyTorch checkpoint.
    name
        What messages call the network.
    note
        Told where in the file the weights were and what their names became, in a line.

    Raises
    ------
    ModelError
        The file is none of these or broken, or its names or shapes differ; lists the differences.
        Reading raises it too, where the file is cut meanwhile.
    """
    with ExitStack() as stack:
        stored = as_named(graph, stack.enter_context(opened(path, note)), str(path), note)
        compare(graph, {key: entry.shape for key, entry in stored.items()}, str(path), name)
        for key in graph.parameters():
            if stored[key].dtype.kind not in "fiu":
                raise ModelError(f"{path}: {key}: {stored[key].dtype}, expected numbers")
        file = WeightFile(stack.pop_all())
    nodes = []
    for node in graph.nodes:
        if names := node.layer.parameter_shapes():
            own = FileArrays({name: stored[f"{node.name}.{name}"] for name in names}, file)
            node = replace(node, layer=node.layer.with_parameters(own))
        nodes.append(node)
    return graph.with_nodes(nodes)


@contextmanager
def opened(
    path: str | Path, note: Note = lambda text: None
) -> Iterator[dict[str, Stored]]:  # fmt: skip
    """The arrays of a weights file by name, each loaded when asked for. Raises ModelError."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
            prefix = file.read(PREFIX)
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror or error}") from None
        kind = kind_of(prefix)
        if kind in ("pickle", "npz"):
            from imgconv.nn.checkpoint import is_archive, read_checkpoint

            if kind == "pickle" or is_archive(file):
                yield state_dictionary(read_checkpoint(file, str(path)), str(path), note)
                return
        if kind == "npz":
            with npy.reported_as(ModelError):
                index = _npz_index(file, path)
            yield index
            return
        if kind == "" and (what := _no_weights(prefix)):
            raise ModelError(f"{path}: {what}")
        if kind == "npy":
            what = "one NPY array, expected safetensors or NPZ with named arrays"
            raise ModelError(f"{path}: {what}")
        if kind != "safetensors" and str(path).endswith(".onnx"):
            from imgconv.nn.onnx import read_initializers

            yield {
                key: Stored(array.shape, array.dtype, lambda array=array: array)  # type: ignore[misc]
                for key, array in read_initializers(path).items()
            }
            return
        from imgconv.safetensors import open_safetensors

        yield {
            key: Stored(entry.shape, entry.dtype, entry.load)
            for key, entry in open_safetensors(file, path).items()
        }


def _no_weights(prefix: bytes) -> str:
    """What is often found in the place of a download; "" for anything else."""
    if prefix == b"version h":
        return "a pointer of Git LFS, expected the file that it stands for: `git lfs pull`"
    if prefix.lstrip().lower().startswith((b"<!doct", b"<html")):
        return "a web page, expected weights"
    return ""


def _npz_index(file: IO[bytes], path: str | Path) -> dict[str, Stored]:
    members = npy.open_npz(file, str(path), "imgconv")
    return {
        member.name: Stored(
            member.declared.shape, member.declared.dtype, partial(_load_member, member)
        )
        for member in members
    }


def _load_member(member: npy.Member) -> Array:
    with npy.reported_as(ModelError):
        return member.load()


def compare(graph: Graph, shapes: Mapping[str, Shape], source: str, name: str) -> None:
    """Raise ModelError, listing the differences, unless names and shapes are the graph's."""
    expected = graph.parameters()
    ignored = (*graph.optional, *_IGNORED)
    missing = [key for key in expected if key not in shapes]
    unexpected = [
        key for key in shapes
        if key not in expected and not any(fnmatchcase(key, pattern) for pattern in ignored)
    ]  # fmt: skip
    other = [
        f"{key} is {_times(shapes[key])}, expected {_times(parameter.shape)}"
        for key, parameter in expected.items()
        if key in shapes and tuple(shapes[key]) != parameter.shape
    ]
    parts = [
        f"{len(keys)} {what} ({_some(keys, mark)})"
        for keys, what, mark in (
            (missing, "missing", ", "),
            (unexpected, "unexpected", ", "),
            (other, "of another shape", "; "),
        )
        if keys
    ]
    if parts:
        raise ModelError(f"{source}: these weights are not {name}'s: {', '.join(parts)}")


def fits(graph: Graph, shapes: Mapping[str, Shape]) -> bool:
    """Whether `compare` would let these names and shapes pass."""
    try:
        compare(graph, shapes, "", "")
    except ModelError:
        return False
    return True


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _some(names: list[str], mark: str) -> str:
    shown = mark.join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def draw_weights(graph: Graph, seed: int) -> Graph:
    """Return the graph with weights drawn from a seed: untrained, for shapes and first looks.

    Weights are uniform within ±√(6 / fan_in), which keeps the variance through ReLU layers (K. He
    et al., arXiv:1502.01852); biases and running means are 0, scales and running variances 1. A
    parameter's numbers depend on the seed and its name alone.
    """
    arrays = {}
    for node in graph.nodes:
        normed = isinstance(node.layer, (BatchNorm2d, InstanceNorm2d))
        for key, shape in node.layer.parameter_shapes().items():
            name = f"{node.name}.{key}"
            if key in ("bias", "running_mean"):
                arrays[name] = np.zeros(shape, np.float32)
            elif normed or key == "running_var":
                arrays[name] = np.ones(shape, np.float32)
            else:
                generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
                bound = math.sqrt(6 / max(1, math.prod(shape[1:])))
                values = generator.random(shape, np.float32)
                values -= np.float32(0.5)
                values *= np.float32(2 * bound)
                arrays[name] = values
    return graph.with_parameters(arrays)


def loaded(graph: Graph) -> dict[str, Array]:
    """All arrays of a graph by full name."""
    return {
        f"{node.name}.{key}": node.layer.parameters[key]
        for node in graph.nodes
        for key in node.layer.parameter_shapes()
    }
