"""What an input's file says beside its pixels, as it describes a map of them."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from imgconv.io.image import Image
from imgconv.io.streamed import Streamed
from imgconv.io.writing import EncodeOptions
from imgconv.kernels import Kernel
from imgconv.pipeline.recipe import ChainRecipe, Recipe, fields_of
from imgconv.shapes import ReceptiveField
from imgconv.typing import Dtype

if TYPE_CHECKING:
    from imgconv.io.metadata import Grid

Axes = tuple[ReceptiveField, ReceptiveField]


class Result(Protocol):
    """A map to write; alpha: whether its last channel is opacity."""

    kernel: Kernel
    name: str
    height: int
    width: int
    channels: int
    dtype: Dtype
    alpha: bool


def carried(
    image: Image | Streamed, recipe: Recipe, result: Result, bare: bool = False
) -> EncodeOptions:
    """Options of `encode`: the profile, and the metadata that is still true of a result.

    bare: only what says how samples were compressed and what colors they are.
    """
    source = image.pixels if isinstance(image, Image) else image.rows
    *size, channels = source.shape if isinstance(source, np.ndarray) else (
        source.height, source.width, source.channels
    )  # fmt: skip
    metadata = image.metadata
    if image.icc is None and metadata is None:
        return {}
    colors = (
        recipe.keeps_colors()
        and result.channels - result.alpha == channels - image.alpha
        and (result.dtype.kind == image.sample_type.kind or result.dtype.kind in "ui")
    )
    options: EncodeOptions = {"icc": image.icc if colors else None}
    if metadata is None:
        return options
    from imgconv.io.metadata import Change, Metadata, adjusted

    if bare:
        return options | {"metadata": Metadata(jpeg=metadata.jpeg)}
    height, width, count = result.height, result.width, result.channels
    alike = count == channels and result.dtype == image.sample_type
    grid = grid_of(recipe, result, (size[0], size[1], channels))
    return options | {"metadata": adjusted(metadata, Change(grid, (height, width), colors, alike))}


def grid_of(recipe: Recipe, result: Result, shape: tuple[int, int, int]) -> "Grid | None":
    """Where a result's pixels lie on those of an image (H, W, C); None for a contact sheet.

    A result of the image's size has its grid, also under an even kernel, which is then as near as
    `same` padding goes.
    """
    from imgconv.io.metadata import Grid

    if recipe.sheet:
        return None
    axes = _chain(recipe, result, shape) if isinstance(recipe, ChainRecipe) else _window(
        recipe, result, shape
    )  # fmt: skip
    start, step = [], []
    size = result.height, result.width
    for axis in (0, 1):
        same = size[axis] == shape[axis] and axes[axis].jump == 1
        start.append(0.0 if same else float(axes[axis].start))
        step.append(float(axes[axis].jump))
    return Grid((start[0], start[1]), (step[0], step[1]))


def _window(recipe: Recipe, result: Result, shape: tuple[int, ...]) -> Axes:
    """What a map of `apply` stands for: the kernel's window, or its anchor, then the pool's."""
    if not recipe.pool or recipe.pool.window:
        return fields_of(recipe, result.kernel)
    # One that divides a map into equal parts.
    down, across = shape[0] / result.height, shape[1] / result.width
    return ReceptiveField(down, down, (down - 1) / 2), ReceptiveField(
        across, across, (across - 1) / 2
    )


def _chain(recipe: ChainRecipe, result: Result, shape: tuple[int, ...]) -> Axes:
    """What a map of a chain's step stands for: its field, with anchors in place of kernels."""
    from imgconv.nn.analysis.receptive import fields
    from imgconv.nn.chain import graph_of
    from imgconv.nn.layers.image import KernelFilter

    height, width, channels = shape
    steps = [
        step._replace(layer=step.layer.placed()) if isinstance(step.layer, KernelFilter) else step
        for step in recipe.steps
    ]
    graph = graph_of(steps, (1, channels, height, width))
    name = result.name or recipe.steps[-1].name
    return fields(graph, graph.shapes())[name].axes
