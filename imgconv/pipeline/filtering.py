"""From an image to its finished maps: the work of `apply` on one image, in memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imgconv.errors import LimitError, UsageError
from imgconv.io import color, scaling
from imgconv.io.image import Image
from imgconv.io.limits import MAX_PIXELS
from imgconv.io.scaling import Missing
from imgconv.jit.loop import Wanted
from imgconv.kernels import Kernel
from imgconv.nn.chain import Step, sizes_of, trace
from imgconv.ops.filter import filter_banks, filter_masked
from imgconv.ops.rows import ArrayRows
from imgconv.pipeline.naming import Part, component, spelled, unique
from imgconv.pipeline.settings import ReadSettings
from imgconv.shapes import ReceptiveField, Window, output_size, pair
from imgconv.typing import Array, Dtype
from imgconv.viz.colormaps import default_rule
from imgconv.viz.layout import Layout

if TYPE_CHECKING:
    from imgconv.ops.missing import Mask
    from imgconv.ops.pool_text import Pool

_AS_IT_IS = ReadSettings()
WALK = 1 << 29  # bytes of the maps of one walk over an image: three of 12 MP in RGB


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
        """Whether colours become gray first: asked for, or because a map is shown in colours."""
        directed = any(kernel.combine == "direction" for kernel in self.kernels)
        return self.read.gray or self.colormap is not None or directed

    def keeps_colors(self) -> bool:
        """Whether the results are in the colours of the input, as its profile describes them."""
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


class Map(ArrayRows):
    """One result that is made whole: its samples, ready to encode, as rows of one band.

    alpha: whether the last channel is opacity. rule: how they were scaled. note: what to tell of
    clipped samples.
    """

    def __init__(
        self, kernel: Kernel, name: str, samples: Array, alpha: bool, rule: str,
        note: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(samples)
        self.kernel, self.name, self.alpha, self.rule, self.note = kernel, name, alpha, rule, note

    @property
    def samples(self) -> Array:
        """The samples (H, W, C)."""
        return self.pixels

    def opaque(self) -> "Map":
        """The map without its opacity."""
        if not self.alpha:
            return self
        return Map(self.kernel, self.name, self.pixels[..., :-1], False, self.rule, self.note)

    def warning(self) -> str | None:
        """As of `MapRows`."""
        return self.note

    def loops(self) -> list[Wanted]:
        """As of `MapRows`: these samples are there already."""
        return []


def maps_of(image: Image, recipe: Recipe, dtype: Dtype, raw: bool) -> Iterator[Map]:
    """Yield the maps of an image as samples of `dtype`; `raw` formats hold responses unscaled.

    Raises ShapeError where kernel, window and image do not fit.
    """
    image, absent = _prepared(image, recipe)
    pixels, opacity = image.pixels, None
    if image.alpha:
        if recipe.read.alpha == "filter":
            pixels = _premultiplied(image)
        else:
            opacity = pixels[..., -1:] if recipe.read.alpha == "keep" else None
            pixels = np.ascontiguousarray(pixels[..., :-1])
    if isinstance(recipe, ChainRecipe):
        yield from _chain_maps(pixels, absent, image, opacity, recipe, dtype, raw)
        return
    for kernels in _walks(recipe, pixels):
        if kernels[0].combine == "direction":
            yield _direction(pixels, absent, kernels[0], image, opacity, recipe, dtype, raw)
            continue
        found = _responses(pixels, absent, kernels, recipe, dtype, raw, image)
        for kernel, responses in zip(kernels, found, strict=True):
            names = [one.name for one in recipe.names if one.kernel is kernel]
            for name, (response, lost) in zip(names, responses, strict=True):
                yield _finished(
                    response, kernel, name, image, opacity, recipe, dtype, raw, missing=lost
                )


def _walks(recipe: Recipe, pixels: Array) -> list[list[Kernel]]:
    """The kernels in their order, those together that may share one walk over the image.

    Their maps are in memory at once, so they are no more than WALK bytes.
    """
    found: list[list[Kernel]] = []
    free, before = 0, None
    for kernel in recipe.kernels:
        needed = len(kernel.weights) * pixels.size * max(4, pixels.itemsize)
        window = recipe.window.geometry(kernel.size, kernel.anchor)
        kind = window, kernel.weights.shape[1], rule_of(kernel, recipe)
        if kernel.combine == "none" and kind == before and needed <= free:
            found[-1].append(kernel)
            free -= needed
        else:
            found.append([kernel])
            free, before = WALK - needed, kind if kernel.combine == "none" else None
    return found


def _chain_maps(
    pixels: Array, absent: Missing | None, image: Image, opacity: Array | None,
    recipe: ChainRecipe, dtype: Dtype, raw: bool,
) -> Iterator[Map]:  # fmt: skip
    named = {one.number: (one.kernel, one.name) for one in recipe.names}
    check_chain(recipe, pixels.shape, image.name)
    for index, (maps, mask) in enumerate(_traced(pixels, absent, recipe)):
        if index in named:
            wide = maps.astype(np.float64 if maps.dtype in (np.float64, np.int32) else np.float32)
            yield _finished(
                wide, *named[index], image, opacity, recipe, dtype, raw,
                missing=_unknown(wide, mask, absent),
            )  # fmt: skip


def _traced(
    pixels: Array, absent: Missing | None, recipe: ChainRecipe
) -> "Iterator[tuple[Array, Mask | None]]":
    """Every step's maps (H, W, C), and which of their samples are missing."""
    if absent is None:
        yield from ((maps, None) for _, maps in trace(pixels, list(recipe.steps)))
        return
    from imgconv.nn.missing import trace_masked

    yield from trace_masked(pixels, absent.mask, list(recipe.steps), recipe.read.missing_fill)


def _unknown(response: Array, mask: "Mask | None", absent: Missing | None) -> Missing | None:
    """Make missing results NaN, where they are floats; return which these are."""
    if absent is None or mask is None:
        return None
    if response.dtype.kind == "f":
        response[mask] = np.nan
    return absent._replace(mask=mask)


def _prepared(image: Image, recipe: Recipe) -> tuple[Image, Missing | None]:
    """The image after `--linear`, `--gray` and `--channels`, and which of its samples are missing.

    Those are 0 in it.
    """
    options: color.Preparation = {
        "gray": recipe.needs_gray(), "channels": recipe.read.channels, "linear": recipe.read.linear
    }  # fmt: skip
    if recipe.read.missing is not None:
        from imgconv.pipeline import missing

        value = missing.missing_value(recipe, image)
        if value is not None:
            done, mask = missing.prepared(image, value, **options)
            return done, Missing(mask, missing.mark_of(recipe, image, value))
    return color.prepare(image, **options), None


def rule_of(kernel: Kernel, recipe: Recipe) -> str:
    """The scaling of a kernel's maps: the user's, all of a colour map, or the kernel's own."""
    if recipe.scale:
        return recipe.scale
    if kernel.combine == "direction":
        return "clip"
    return default_rule(recipe.colormap) if recipe.colormap else kernel.scale


def _direction(
    pixels: Array, absent: Missing | None, kernel: Kernel, image: Image, opacity: Array | None,
    recipe: Recipe, dtype: Dtype, raw: bool,
) -> Map:  # fmt: skip
    """The direction as hue and the scaled magnitude as value; (degrees, magnitude) when raw."""
    from imgconv.viz.direction import direction

    for option, given in (("--activation", recipe.activation), ("--pool", recipe.pool)):
        if given:
            raise UsageError(f"--combine direction with {option} {given}, expected one of them")
    if pixels.shape[2] != 1 or kernel.weights.shape[1] != 1:
        raise UsageError(
            f"--combine direction: got {pixels.shape[2]} channels, expected a gray or RGB image"
        )
    alone = [replace(kernel, combine="none")]
    (found,) = _responses(pixels, absent, alone, recipe, np.dtype(np.float32), True, image)
    responses = np.stack([response[..., 0] for response, _ in found])
    degrees, strength = direction(responses, kernel.effective_weights()[:, 0], kernel.name)
    if raw:
        both = np.stack([degrees, strength], axis=2).astype(dtype)
        return _finished(both, kernel, "", image, opacity, recipe, dtype, raw)
    return _finished(strength[..., None], kernel, "", image, opacity, recipe, dtype, raw, degrees)


def _responses(
    pixels: Array, absent: Missing | None, kernels: list[Kernel], recipe: Recipe,
    dtype: Dtype, raw: bool, image: Image,
) -> list[list[tuple[Array, Missing | None]]]:  # fmt: skip
    """The maps of each of some kernels of one window, rule and combination."""
    kernel = kernels[0]
    rule = rule_of(kernel, recipe)
    # Signed maps of the source's own depth are cast while they are in the cache; clipped ones
    # are not, since the warning of lost values needs them.
    fused = (
        not (
            raw
            or recipe.read.linear
            or recipe.pool
            or recipe.activation
            or recipe.read.alpha == "filter"
        )
        and rule == "signed"
        and dtype == pixels.dtype
        and dtype in (np.uint8, np.uint16)
    )
    for one in kernels:
        check_map_of(one, recipe, pixels.shape[:2], image.name)
    white = image.full_scale
    banks = [(one.weights, one.bias, one.divisor) for one in kernels]
    options = recipe.window.options(kernel.size, kernel.anchor) | {
        "combine": kernel.combine,
        "activation": recipe.activation if recipe.activation != "softmax" else None,
        "gain": 0.5 if fused else 1.0,
        "offset": np.floor(white / 2) + 1 if fused else 0.0,
        "out_dtype": dtype if fused else None,
        "later": (1.0, 0.0) if fused or raw else later_of(recipe, rule, white, dtype),
    }
    if absent is None or not absent.mask.any():
        return [[(map_, None) for map_ in maps] for maps in filter_banks(pixels, banks, **options)]
    found = []
    for weights, bias, divisor in banks:
        maps, masks = filter_masked(
            pixels, absent.mask, weights, bias, fill=recipe.read.missing_fill, divisor=divisor,
            **options,
        )  # fmt: skip
        found.append([(m, _unknown(m, mask, absent)) for m, mask in zip(maps, masks, strict=True)])
    return found


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


def _finished(
    response: Array, kernel: Kernel, name: str, image: Image, opacity: Array | None,
    recipe: Recipe, dtype: Dtype, raw: bool, degrees: Array | None = None,
    missing: Missing | None = None,
) -> Map:  # fmt: skip
    rule = rule_of(kernel, recipe)
    if recipe.activation == "softmax":
        from imgconv.ops.activation import softmax

        response = softmax(response, 2)
        if missing:  # its sum is not known
            every = np.broadcast_to(missing.mask.any(axis=2, keepdims=True), response.shape)
            missing = missing._replace(mask=every)
    if recipe.pool:
        if missing:
            response, mask = recipe.pool.masked_image(
                response, missing.mask, recipe.read.missing_fill
            )
            missing = _unknown(response, mask, missing)
        else:
            response = recipe.pool.image(response)
    if image.alpha and recipe.read.alpha == "filter":
        response = _divided(response, image.full_scale)
    if recipe.read.linear and not raw:
        response = color.from_linear(response)
    warning = None
    if not raw and response.dtype.kind == "f":
        response, warning = scaling.scale_map(
            response, rule, image.full_scale, dtype, missing=missing
        )
    elif missing and not raw:
        warning = scaling.marked(response, missing)
    elif raw:
        with np.errstate(over="ignore"):  # beyond float32's numbers it is infinite
            response = response.astype(dtype, copy=False)
        if missing:
            missing.mark.put(response, missing.mask)
    if degrees is not None:
        from imgconv.viz.direction import hue

        colors = hue(degrees, response[..., 0])
        # Without a direction there is no colour: NaN becomes black, as it does in gray.
        whole = np.rint(np.nan_to_num(colors)) if dtype.kind == "u" else colors
        response = whole.astype(dtype)
    alpha = image.alpha and recipe.read.alpha == "filter"
    if opacity is not None:
        if opacity.shape[:2] != response.shape[:2]:
            opacity = _seen_opacity(opacity, response.shape[:2], kernel, recipe)
        kept, _ = scaling.scale_map(opacity, "clip", image.full_scale, dtype)
        response = np.concatenate([response, kept], axis=2)
        alpha = True
    return Map(kernel, name, response, alpha, rule, warning)


def _premultiplied(image: Image) -> Array:
    work = image.pixels.astype(np.float32)
    work[..., :-1] *= work[..., -1:] / np.float32(image.full_scale)
    return work


def _divided(response: Array, white: float) -> Array:
    if response.shape[2] < 2:
        raise UsageError("--alpha filter: expected a kernel that filters each channel on its own")
    opacity = response[..., -1:]
    colors = np.divide(
        response[..., :-1] * white, opacity, out=np.zeros_like(response[..., :-1]),
        where=opacity > 0,
    )  # fmt: skip
    return np.concatenate([colors, opacity], axis=2)


def _seen_opacity(opacity: Array, size: tuple[int, int], kernel: Kernel, recipe: Recipe) -> Array:
    """The opacity (H, W, 1) at the middle of what each of `size` outputs sees.

    Chains, and pools that divide a map whatever its size, are taken to see equal parts.
    """
    pool = recipe.pool
    fixed = not isinstance(recipe, ChainRecipe) and not (pool and pool.window is None)
    places = []
    for axis in (0, 1):
        index = np.arange(size[axis])
        centres = (index + 0.5) * opacity.shape[axis] / size[axis] - 0.5
        if fixed:
            layers = [recipe.window.places(kernel.size, kernel.anchor)]
            if pool and pool.window:
                layers.append(pool.window)
            field = ReceptiveField()
            for taps, strides, pads, spreads in layers:
                field = field.through(taps[axis], strides[axis], pads[2 * axis], spreads[axis])
            centres = field.start + index * field.jump
        # Half a pixel goes to the nearer side of the start, as `same` pads an even kernel.
        places.append(np.clip(np.ceil(centres - 0.5), 0, opacity.shape[axis] - 1).astype(np.int64))
    return opacity[np.ix_(*places)]
