"""What is written for an image: its maps, in colors, or one contact sheet of them."""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from imgconv.errors import UsageError
from imgconv.io import color, scaling
from imgconv.io.image import Image
from imgconv.pipeline.recipe import SHEET, ChainRecipe, Recipe
from imgconv.pipeline.whole import Map, maps_of
from imgconv.typing import Array, Dtype


def results_of(image: Image, recipe: Recipe, dtype: Dtype, raw: bool) -> Iterator[Map]:
    """Yield an image's results as samples of `dtype`, or bytes where colors are asked for.

    Raises UsageError when a format of raw values or 16 bits is to hold a picture.
    """
    if recipe.only_report:
        return
    if not (recipe.sheet or recipe.colormap):
        yield from _wanted(maps_of(image, recipe, dtype, raw), recipe)
        return
    option = "--sheet" if recipe.sheet else "--colormap"
    if raw or dtype != np.uint8:
        raise UsageError(f"{option}: got {dtype} samples, expected a format and depth of 8 bits")
    if recipe.sheet:
        yield _sheet(image, recipe)
        return
    for found in _wanted(maps_of(image, recipe, _wide(image), raw=True), recipe):
        yield _colored(found, _white(image, recipe), recipe)


def _wanted(maps: Iterator[Map], recipe: Recipe) -> Iterator[Map]:
    return (found for found in maps if recipe.only in (None, found.name))


def _wide(image: Image) -> Dtype:
    return np.dtype(np.float64 if image.pixels.dtype == np.float64 else np.float32)


def _colored(found: Map, white: float, recipe: Recipe) -> Map:
    from imgconv.viz.colormaps import colorize

    values, opacity = found.samples, None
    if found.alpha:
        values, opacity = values[..., :-1], values[..., -1:]
    if values.shape[2] != 1:
        raise UsageError(
            f"--colormap: a map of {values.shape[2]} channels, expected one; use --sheet"
        )
    byte = np.dtype(np.uint8)
    samples, warning = scaling.scale_map(values, found.rule, white, byte)
    colors: Array = colorize(samples, recipe.colormap or "gray", values)
    if opacity is not None:
        kept, _ = scaling.scale_map(opacity, "clip", white, byte)
        colors = np.concatenate([colors, kept], axis=2)
    return Map(found.kernel, found.name, colors, found.alpha, found.rule, warning)


def _sheet(image: Image, recipe: Recipe) -> Map:
    from imgconv.viz.sheet import Shown, Tile, draw_maps

    assert recipe.sheet is not None
    shown, white = [], _white(image, recipe)
    for found in maps_of(
        image, replace(recipe, read=recipe.read.changed(alpha="drop")), _wide(image), raw=True
    ):
        values = found.samples
        if found.kernel.combine == "direction":
            values = _hued(values, found.rule, white)
        elif recipe.read.linear and not recipe.colormap:
            values = color.from_linear(values)
        shown.append(Shown(_caption(recipe, found.name), values, found.rule))
    tile = Tile("input", bytes_of(replace(image, alpha=False, pixels=_opaque(image))))
    samples = draw_maps(shown, white, recipe.sheet, recipe.colormap, [tile], _title(image, recipe))
    return Map(SHEET, "", samples, False, "sheet")


def _caption(recipe: Recipe, name: str) -> str:
    """What a map is: the step of a chain with its number, a kernel's filter such as θ 45°."""
    found = next(one for one in recipe.names if one.name == name)
    if isinstance(recipe, ChainRecipe):
        return f"{found.number + 1} {recipe.steps[found.number].text}"
    several = len({one.kernel.name for one in recipe.names}) > 1
    caption = found.kernel.caption(found.number) if found.number >= 0 else ""
    return f"{found.kernel.name} {caption}".strip() if several else caption or found.kernel.name


def _title(image: Image, recipe: Recipe) -> str:
    """The image and what was done to it."""
    if isinstance(recipe, ChainRecipe):
        done = " | ".join(step.text for step in recipe.steps)
    else:
        done = ", ".join(dict.fromkeys(one.kernel.name for one in recipe.names))
    return f"{os.path.basename(image.name)}: {done}"


def _hued(both: Array, rule: str, white: float) -> Array:
    """Colors (H, W, 3) of (degrees, magnitude) in units of white."""
    from imgconv.viz.direction import hue

    value, _ = scaling.scale_map(both[..., 1], rule, white, both.dtype)
    return hue(both[..., 0], np.clip(value, 0, white))


def _opaque(image: Image) -> Array:
    return image.pixels[..., : image.pixels.shape[2] - image.alpha]


def bytes_of(image: Image) -> npt.NDArray[np.uint8]:
    """An image as bytes (H, W, 1, 2, 3 or 4), opacity last; the first of other channel counts."""
    pixels = image.pixels
    colors = pixels.shape[2] - image.alpha
    if colors not in (1, 3):
        pixels = pixels[..., :1]
    shown, _ = scaling.scale_map(pixels, "clip", image.full_scale, np.dtype(np.uint8))
    return shown


def _white(image: Image, recipe: Recipe) -> float:
    return 1.0 if recipe.read.linear else image.full_scale
