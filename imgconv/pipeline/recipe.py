"""What is done to an image, its maps and what each is called, before any of it is done."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imgconv.errors import LimitError, UsageError
from imgconv.io import scaling
from imgconv.io.limits import MAX_PIXELS
from imgconv.kernels import Kernel
from imgconv.nn.chain import Step, sizes_of
from imgconv.pipeline.naming import Part, component, spelled, unique
from imgconv.pipeline.settings import ReadSettings, ShowSettings
from imgconv.shapes import ReceptiveField, Window, output_size, pair
from imgconv.typing import Dtype
from imgconv.viz.colormaps import default_rule
from imgconv.viz.layout import Layout

if TYPE_CHECKING:
    from imgconv.ops.pool_text import Pool
    from imgconv.pipeline.settings.network import MapSettings

_AS_IT_IS = ReadSettings()


class MapName(NamedTuple):
    """One map of a recipe.

    number: its filter, −1 where a kernel's filters make one map. name: among all maps of the
    recipe, "" where there is one. label: among its kernel's, "" where there is one. part: as
    file names have it.
    """

    kernel: Kernel
    number: int
    name: str
    label: str
    part: Part


@dataclass(eq=False, repr=False)  # frozen takes 0.6 ms more of every start
class Recipe:
    """Everything that `apply` does to an image, apart from reading and writing files.

    tagged: whether outputs carry the tag that says which value is missing.
    only: the name of the one map that is wanted of all.
    """

    kernels: tuple[Kernel, ...]
    window: Window = field(default_factory=Window)
    activation: str | None = None
    pool: "Pool | None" = None
    read: ReadSettings = _AS_IT_IS
    scale: str | None = None
    colormap: str | None = None
    sheet: Layout | None = None
    only_report: bool = False
    only: str | None = None
    tagged: bool = False

    def needs_gray(self) -> bool:
        """Whether colors become gray first: asked for, or because a map is shown in colors."""
        directed = any(kernel.combine == "direction" for kernel in self.kernels)
        return self.read.gray or self.colormap is not None or directed

    def keeps_colors(self) -> bool:
        """Whether the results are in the colors of the input, as its profile describes them."""
        return not (self.needs_gray() or self.read.linear or self.sheet)

    @cached_property
    def names(self) -> list[MapName]:
        """Every map in order, no two of one name: kernels that are called alike are numbered."""
        several = len(self.kernels) > 1
        owns = unique(
            spelled(kernel.name) if kernel.named else component(kernel.name)
            for kernel in self.kernels
        )
        found = []
        for kernel, own in zip(self.kernels, owns, strict=True):
            if kernel.combine != "none" or len(kernel.weights) == 1:
                found.append((kernel, -1, own, "", own))
                continue
            for number, label in enumerate(unique(map(component, kernel.labels))):
                found.append((kernel, number, own, label, f"{own}-{label}"))
        fulls = unique(full for *_, full in found)
        return [
            MapName(
                kernel,
                number,
                full if several else label,
                label,
                Part(own, full if several else label, full),
            )
            for (kernel, number, own, label, _), full in zip(found, fulls, strict=True)
        ]

    def as_dict(self) -> dict[str, object]:
        """What was applied, for metadata."""
        window = self.window
        facts = {
            "kernels": [k.source or k.name for k in self.kernels],
            "combine": [k.combine for k in self.kernels],
            "anchor": [k.anchor for k in self.kernels] if any(k.anchor for k in self.kernels)
            else None,
            "stride": window.stride, "padding": window.padding, "dilation": window.dilation,
            "groups": window.groups, "padding_mode": window.padding_mode,
            "activation": self.activation, "pool": self.pool.text if self.pool else None,
            "gray": self.read.gray, "linear": self.read.linear, "alpha": self.read.alpha,
            "scale": self.scale,
            "colormap": self.colormap, "missing": self.read.missing,
            "missing_fill": self.read.missing_fill if self.read.missing is not None else None,
        }  # fmt: skip
        return {key: value for key, value in facts.items() if value not in (None, False)}


@dataclass(eq=False, repr=False)
class ChainRecipe(Recipe):
    """A chain of layers instead of kernels; `kept` are the steps whose maps are written too."""

    steps: tuple[Step, ...] = ()
    kept: tuple[int, ...] = ()

    @cached_property
    def names(self) -> list[MapName]:
        """As for kernels: each written step is a kernel of its name; the last is `chain`."""
        found = []
        for index in self.kept:
            name = self.steps[index].name
            own = component(name)
            found.append(MapName(_stand_in(name), index, own, own, Part(own, own, own)))
        last = MapName(_stand_in("chain"), len(self.steps) - 1, "", "", Part("chain", "", "chain"))
        return [*found, last]

    def as_dict(self) -> dict[str, object]:
        """What was applied, for metadata."""
        facts = Recipe.as_dict(self)
        return {"chain": [s.text for s in self.steps], "alpha": self.read.alpha} | {
            key: facts[key]
            for key in ("gray", "linear", "scale", "colormap", "missing", "missing_fill")
            if key in facts
        }


def _stand_in(name: str) -> Kernel:
    return Kernel(name, np.ones((1, 1, 1, 1)), source=name)


SHEET = Kernel("sheet", np.ones((1, 1, 1, 1)), source="sheet")


def names_of(recipe: Recipe) -> list[MapName]:
    """Every result; a sheet is one of its own."""
    if recipe.only_report:
        return []
    if recipe.sheet:
        return [MapName(SHEET, -1, "", "", Part("sheet", "", "sheet"))]
    return [found for found in recipe.names if recipe.only in (None, found.name)]


def layout_of(show: "ShowSettings | MapSettings") -> Layout | None:
    """The contact sheet that options ask for. Raises UsageError for its options without it."""
    if show.sheet:
        return Layout(show.columns, show.tile, show.share_scale)
    # The maps of a layer may share their scale in files of their own.
    names = ("columns", "tile", *(["share_scale"] if isinstance(show, ShowSettings) else []))
    for name in names:
        if getattr(show, name):
            raise UsageError(f"--{name.replace('_', '-')} needs --sheet")
    return None


def rule_of(kernel: Kernel, recipe: Recipe) -> str:
    """The scaling of a kernel's maps: the user's, all of a color map, or the kernel's own."""
    if recipe.scale:
        return recipe.scale
    if kernel.combine == "direction":
        return "clip"
    return default_rule(recipe.colormap) if recipe.colormap else kernel.scale


def fields_of(
    recipe: Recipe, kernel: Kernel, *, placed: bool = True
) -> tuple[ReceptiveField, ReceptiveField]:
    """What a pixel of a kernel's map sees along each axis, through the pool if that has windows.

    placed: with the anchor in place of the kernel, which says where the pixel lies.
    """
    window = recipe.window
    find = window.places if placed else window.geometry
    layers = [find(kernel.size, kernel.anchor)]
    if recipe.pool and recipe.pool.window:
        layers.append(recipe.pool.window)
    axes = []
    for axis in (0, 1):
        field = ReceptiveField()
        for taps, strides, pads, spreads in layers:
            field = field.through(taps[axis], strides[axis], pads[2 * axis], spreads[axis])
        axes.append(field)
    return axes[0], axes[1]


def later_of(recipe: Recipe, rule: str, white: float, dtype: Dtype) -> tuple[float, float]:
    """What responses are multiplied by, or summed up to, before they are rounded; and an offset."""
    gain, offset = scaling.gain_of(rule, white, dtype)
    if recipe.pool and recipe.pool.kind == "avg" and recipe.pool.window is not None:
        gain *= math.prod(recipe.pool.window[0])
    return gain, offset


def check_map_of(kernel: Kernel, recipe: Recipe, size: tuple[int, ...], name: str) -> None:
    """Raise LimitError where a kernel's map of an image (height, width) is beyond the limit."""
    out = output_size((size[0], size[1]), *recipe.window.geometry(kernel.size, kernel.anchor))
    _check_size(f"{name}: {kernel.name}", out, recipe, size)
    if recipe.pool and "output_size" in recipe.pool.options:
        pooled = pair(recipe.pool.options["output_size"], "output_size")
        _check_size(f"{name}: {recipe.pool.text}", pooled, recipe, size)


def check_chain(recipe: ChainRecipe, shape: tuple[int, ...], name: str) -> None:
    """Raise LimitError where a step's maps of an image (H, W, C) are beyond the limit."""
    height, width, channels = shape
    sizes = sizes_of(list(recipe.steps), (1, channels, height, width))
    for step, size in zip(recipe.steps, sizes, strict=True):
        _check_size(f"{name}: {step.name}", size, recipe, shape)


def _check_size(what: str, size: tuple[int, ...], recipe: Recipe, image: tuple[int, ...]) -> None:
    """Refuse a map beyond the limit from its computed size, before it is allocated.

    An image beyond the default limit comes in bands, whose maps may be twice as large.
    """
    pixels = image[0] * image[1]
    limit = recipe.read.max_pixels or (MAX_PIXELS if pixels <= MAX_PIXELS else 2 * pixels)
    if size[0] * size[1] > limit:
        raise LimitError(
            f"{what}: a map of {size[1]}×{size[0]} pixels is more than the limit of {limit}; "
            "--max-pixels raises it"
        )
