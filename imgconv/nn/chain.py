"""Chains of layers as text: `gray | conv gaussian:sigma=1 | conv sobel | relu | maxpool 2`.

A step is a word, its main argument and options `key=value`; `steps` makes a layer of it. The maps
of one step are the next one's input; channels are filtered one by one, as `apply` does it.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imgconv.errors import UsageError
from imgconv.io.limits import read_text
from imgconv.typing import Array

if TYPE_CHECKING:
    from imgconv.kernels import Kernel
    from imgconv.nn.graph import Graph
    from imgconv.nn.layers import Layer


class Step(NamedTuple):
    """One layer: its text, its name in file names, and its kernel where it has one of the bank.

    loaded: the kernel as it was before flip and bias.
    """

    text: str
    name: str
    layer: "Layer"
    kernel: "Kernel | None" = None
    loaded: "Kernel | None" = None


def parse_chain(text: str, find: "Callable[[str], Kernel] | None" = None) -> list[Step]:
    """Return the steps of a chain, or of a TOML file that holds `steps = [...]`.

    find: what makes kernels of their texts, where files are not to be opened; then the chain is
    no file either. Raises UsageError naming the step, and KernelError for a kernel in it.
    """
    from imgconv.nn.steps import parse_step

    steps = []
    for number, part in enumerate(text.split("|") if find else split_chain(text), 1):
        step = parse_step(part, number, find)
        steps.append(Step(step.text, step.name, step.fixed(), step.kernel, step.loaded))
    return steps


def split_chain(text: str) -> list[str]:
    """The steps' texts of a chain, or of a TOML file that holds `steps = [...]`."""
    return _from_file(text) if text.endswith(".toml") else text.split("|")


def trace(pixels: Array, steps: list[Step]) -> Iterator[tuple[Step, Array]]:
    """Yield every step with its maps (H, W, C), walking the graph that the steps are."""
    from imgconv.nn.layers.image import interleaved, planar

    # Layers keep float32 or float64: of these only the second holds every 32-bit integer.
    image = planar(pixels.astype(np.float64) if pixels.dtype == np.int32 else pixels)
    graph = graph_of(steps, image.shape)
    for step, (_, maps) in zip(steps, graph.trace(image), strict=True):
        yield step, interleaved(maps[0])


def sizes_of(steps: list[Step], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """The (height, width) of every step's maps for an image of shape (1, C, H, W)."""
    shapes = graph_of(steps, shape).shapes()
    return [(shapes[step.name][-2], shapes[step.name][-1]) for step in steps]


def graph_of(steps: list[Step], shape: tuple[int, ...]) -> "Graph":
    """The graph of the steps for an image of shape (1, C, H, W), the value `image`."""
    from imgconv.nn.graph import Graph, Node

    names = ["image", *(step.name for step in steps)]
    nodes = [
        Node(step.name, step.layer, (before,))
        for step, before in zip(steps, names, strict=False)
    ]  # fmt: skip
    return Graph({"image": shape}, nodes, names[-1:])


def _from_file(path: str) -> list[str]:
    from imgconv.toml import parse_toml

    try:
        table = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {reason}") from None
    steps = table.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise UsageError(f'{path}: expected steps = ["gray", "conv sobel", …]')
    return steps
