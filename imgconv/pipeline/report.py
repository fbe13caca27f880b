"""The report of one image under a recipe: every map, its statistics, what it sees."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from imgconv.io import color
from imgconv.io.image import Image
from imgconv.kernels import Kernel
from imgconv.nn.analysis.receptive import Field, fields
from imgconv.nn.chain import graph_of
from imgconv.pipeline.recipe import ChainRecipe, Recipe, fields_of
from imgconv.pipeline.results import bytes_of
from imgconv.pipeline.whole import Map, maps_of
from imgconv.typing import Array
from imgconv.viz.report.page import Page, render
from imgconv.viz.report.sections import Section, section

_COLORS = ("red", "green", "blue")


def report_of(image: Image, recipe: Recipe) -> bytes:
    """Return the page of an image under a recipe. Raises what filtering raises."""
    plain = replace(recipe, read=recipe.read.changed(alpha="drop"), colormap=None, sheet=None)
    if isinstance(plain, ChainRecipe):
        plain = replace(plain, kept=tuple(range(len(plain.steps) - 1)))
        found = list(_of_chain(image, plain))
    else:
        found = list(_of_kernels(image, plain))
    facts = [(name.replace("_", " "), _words(value)) for name, value in recipe.as_dict().items()]
    opaque = image.pixels[..., : image.pixels.shape[2] - image.alpha]
    shown = bytes_of(replace(image, pixels=opaque, alpha=False))
    return render(Page(f"imgconv: {image.name}", facts, shown, found))


def _of_kernels(image: Image, recipe: Recipe) -> Iterator[Section]:
    for kernel in recipe.kernels:
        one = replace(recipe, kernels=(kernel,))
        maps = list(maps_of(image, one, np.dtype(np.float32), raw=True))
        planes = [plane for found in maps for plane in np.moveaxis(found.samples, 2, 0)]
        labels = [label for found in maps for label in _labels(found, kernel)]
        done = [kernel.description, *([recipe.activation] if recipe.activation else [])]
        if recipe.pool:
            done.append(f"pool {recipe.pool.text}")
        yield section(
            kernel.name, ", ".join(filter(None, done)), np.stack(planes), labels,
            len(recipe.kernels), _field(kernel, recipe), kernels=_planes(kernel),
        )  # fmt: skip


def _of_chain(image: Image, recipe: ChainRecipe) -> Iterator[Section]:
    prepared = color.prepare(image, gray=recipe.read.gray, channels=recipe.read.channels)
    height, width, channels = prepared.pixels.shape
    graph = graph_of(list(recipe.steps), (1, channels - prepared.alpha, height, width))
    seen = fields(graph, graph.shapes())
    for step, found in zip(
        recipe.steps, maps_of(image, recipe, np.dtype(np.float32), raw=True), strict=True
    ):
        planes = np.moveaxis(found.samples, 2, 0)
        kernels = _planes(step.kernel) if step.kernel else []
        yield section(
            step.name, step.text, planes, _channels(len(planes)), len(recipe.steps),
            seen.get(step.name), kernels,
        )  # fmt: skip


def _labels(found: Map, kernel: Kernel) -> list[str]:
    if kernel.combine == "direction":
        return ["direction in degrees", "magnitude"]
    channels = _channels(found.samples.shape[2])
    return [f"{found.name} {label}".strip() for label in channels]


def _channels(count: int) -> list[str]:
    if count == 1:
        return ["gray"]
    return list(_COLORS) if count == 3 else [f"channel {index}" for index in range(count)]


def _planes(kernel: Kernel) -> list[tuple[str, Array]]:
    """The filters' matrices by their labels; a single one by the kernel's name."""
    weights = kernel.effective_weights()
    labels = kernel.labels or (kernel.name,) * len(weights)
    return [(label, bank.mean(axis=0)) for label, bank in zip(labels, weights, strict=True)]


def _field(kernel: Kernel, recipe: Recipe) -> Field | None:
    """What a map's pixel sees of the image, or None where a pool's windows depend on its size."""
    if recipe.pool and recipe.pool.window is None:
        return None
    return Field(*fields_of(recipe, kernel, placed=False))


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
