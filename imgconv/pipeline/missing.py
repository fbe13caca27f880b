"""Which samples of an image are missing, before and after its colors are prepared."""

import contextlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import numpy as np

from imgconv.errors import ImageError
from imgconv.io import color
from imgconv.io.image import Image
from imgconv.io.scaling import Mark
from imgconv.io.streamed import Streamed
from imgconv.ops.missing import Mask, held_by, mask_of, without

if TYPE_CHECKING:
    from imgconv.pipeline.recipe import Recipe


def missing_value(recipe: "Recipe", image: Image | Streamed) -> float | None:
    """The value of an image's missing samples; None where nothing says that there are any.

    Raises ImageError where the file's tag is asked for and its format has none, or it is no number.
    """
    if recipe.read.missing is None or isinstance(recipe.read.missing, float):
        return recipe.read.missing
    if image.nodata is None:
        raise ImageError(
            f"{image.name}: --missing nodata: only TIFF says which value is missing, expected "
            "--missing NUMBER or nan"
        )
    if not image.nodata:
        return None
    try:
        return float(image.nodata)
    except ValueError:
        raise ImageError(
            f"{image.name}: its nodata tag {image.nodata[:40]!r} is not a number; "
            "expected --missing NUMBER or nan"
        ) from None


def mark_of(recipe: "Recipe", image: Image | Streamed, value: float) -> Mark:
    """What missing results are written as: what the output's own tag says, if it has one."""
    with contextlib.suppress(ValueError):
        if recipe.tagged and image.nodata:
            return Mark(value, float(image.nodata))
    return Mark(value)


def missing_notes(recipe: "Recipe", image: Image | Streamed) -> tuple[str, ...]:
    """What to tell where `--missing` finds nothing to leave out, whatever the samples are."""
    if recipe.read.missing is None:
        return ()
    value = missing_value(recipe, image)
    dtype = image.pixels.dtype if isinstance(image, Image) else image.rows.dtype
    if value is None:
        return (f"{image.name}: no nodata tag; no sample is taken for missing",)
    if not held_by(value, dtype):
        what = "NaN" if math.isnan(value) else f"{value:g}"
        return (f"{image.name}: its samples of {dtype} are never {what}; none is missing",)
    return ()


def prepared(
    image: Image, value: float, **options: Unpack[color.Preparation]
) -> tuple[Image, Mask]:
    """`color.prepare`, and which samples of the result are missing; there they are 0.

    A gray sample is missing where one of its colors is. The mask has no channel for opacity, which
    is never missing. options: of `color.prepare`.
    """
    colors = image.pixels.shape[2] - image.alpha
    found = mask_of(image.pixels, value)
    found[..., colors:] = False
    if not found.any():
        done = color.prepare(image, **options)
        shape = done.pixels.shape
        return done, np.zeros((*shape[:2], shape[2] - done.alpha), bool)
    done = color.prepare(replace(image, pixels=without(image.pixels, found)), **options)
    flags = replace(image, pixels=found.view(np.uint8) * np.uint8(255))
    seen = color.prepare(flags, **(options | {"linear": False}))
    mask: Mask = seen.pixels[..., : seen.pixels.shape[2] - seen.alpha] != 0
    done.pixels[..., : mask.shape[2]][mask] = 0
    return done, mask
