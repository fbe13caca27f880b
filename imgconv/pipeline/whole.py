"""The maps of an image that is in memory: one band that a recipe may need the whole of.

What is in bands otherwise (`bands`) has the same samples here, bit for bit; kernels of several maps
share walks over the image, and maps of the image's own depth are cast while they are in the cache.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from imgconv.errors import UsageError
from imgconv.io import color, scaling
from imgconv.io.image import Image
from imgconv.io.scaling import Missing
from imgconv.jit.loop import Wanted
from imgconv.kernels import Kernel
from imgconv.nn.chain import trace
from imgconv.ops.filter import filter_banks, filter_masked
from imgconv.ops.rows import ArrayRows
from imgconv.pipeline.recipe import (
    ChainRecipe,
    Recipe,
    check_chain,
    check_map_of,
    fields_of,
    later_of,
    rule_of,
)
from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    from imgconv.ops.missing import Mask

WALK = 1 << 29  # bytes of the maps of one walk over an image: three of 12 MP in RGB
_Responses = list[list[tuple[Array, Missing | None]]]


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
    return _Whole(image, recipe, dtype, raw).maps()


class _Whole:
    """An image, prepared, and what its maps become.

    absent: which of its samples are missing; these are 0.
    """

    def __init__(self, image: Image, recipe: Recipe, dtype: Dtype, raw: bool) -> None:
        self.recipe, self.dtype, self.raw = recipe, dtype, raw
        self.image, self.absent = _prepared(image, recipe)
        self.pixels = self.image.pixels
        self.opacity: Array | None = None
        if self.image.alpha:
            if recipe.read.alpha == "filter":
                self.pixels = _premultiplied(self.image)
            else:
                self.opacity = self.pixels[..., -1:] if recipe.read.alpha == "keep" else None
                self.pixels = np.ascontiguousarray(self.pixels[..., :-1])

    def maps(self) -> Iterator[Map]:
        """Yield the maps in order, finished."""
        if isinstance(self.recipe, ChainRecipe):
            yield from self._of_chain(self.recipe)
            return
        for kernels in _walks(self.recipe, self.pixels):
            if kernels[0].combine == "direction":
                yield self._direction(kernels[0])
                continue
            responses = self._responses(kernels, self.dtype, self.raw)
            for kernel, ones in zip(kernels, responses, strict=True):
                names = [one.name for one in self.recipe.names if one.kernel is kernel]
                for name, (response, missing) in zip(names, ones, strict=True):
                    yield self._finished(response, kernel, name, missing)

    def _of_chain(self, recipe: ChainRecipe) -> Iterator[Map]:
        named = {one.number: (one.kernel, one.name) for one in recipe.names}
        check_chain(recipe, self.pixels.shape, self.image.name)
        for index, (maps, mask) in enumerate(self._traced(recipe)):
            if index in named:
                exact = maps.dtype in (np.float64, np.int32)
                wide = maps.astype(np.float64 if exact else np.float32)
                yield self._finished(wide, *named[index], _unknown(wide, mask, self.absent))

    def _traced(self, recipe: ChainRecipe) -> "Iterator[tuple[Array, Mask | None]]":
        """Every step's maps (H, W, C), and which of their samples are missing."""
        steps = list(recipe.steps)
        if self.absent is None:
            yield from ((maps, None) for _, maps in trace(self.pixels, steps))
            return
        from imgconv.nn.missing import trace_masked

        yield from trace_masked(self.pixels, self.absent.mask, steps, recipe.read.missing_fill)

    def _direction(self, kernel: Kernel) -> Map:
        """The direction as hue and the scaled magnitude as value; (degrees, magnitude) when raw."""
        from imgconv.viz.direction import direction

        for option, given in (
            ("--activation", self.recipe.activation),
            ("--pool", self.recipe.pool),
        ):
            if given:
                raise UsageError(f"--combine direction with {option} {given}, expected one of them")
        if self.pixels.shape[2] != 1 or kernel.weights.shape[1] != 1:
            raise UsageError(
                f"--combine direction: got {self.pixels.shape[2]} channels, expected a gray or RGB "
                "image"
            )
        alone = [replace(kernel, combine="none")]
        (found,) = self._responses(alone, np.dtype(np.float32), True)
        responses = np.stack([response[..., 0] for response, _ in found])
        degrees, strength = direction(responses, kernel.effective_weights()[:, 0], kernel.name)
        if self.raw:
            both = np.stack([degrees, strength], axis=2).astype(self.dtype)
            return self._finished(both, kernel, "")
        return self._finished(strength[..., None], kernel, "", degrees=degrees)

    def _responses(self, kernels: list[Kernel], dtype: Dtype, raw: bool) -> _Responses:
        """The maps of each of some kernels of one window, rule and combination."""
        kernel, recipe, pixels, absent = kernels[0], self.recipe, self.pixels, self.absent
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
            check_map_of(one, recipe, pixels.shape[:2], self.image.name)
        white = self.image.full_scale
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
            return [
                [(map_, None) for map_ in maps] for maps in filter_banks(pixels, banks, **options)
            ]
        found = []
        for weights, bias, divisor in banks:
            maps, masks = filter_masked(
                pixels, absent.mask, weights, bias, fill=recipe.read.missing_fill,
                **(options | {"divisor": divisor}),
            )  # fmt: skip
            found.append(
                [(m, _unknown(m, mask, absent)) for m, mask in zip(maps, masks, strict=True)]
            )
        return found

    def _pooled(self, response: Array, missing: Missing | None) -> tuple[Array, Missing | None]:
        """Responses after softmax and the pool, and which of them are missing."""
        recipe = self.recipe
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
        return response, missing

    def _finished(
        self, response: Array, kernel: Kernel, name: str, missing: Missing | None = None,
        degrees: Array | None = None,
    ) -> Map:  # fmt: skip
        """A map of responses: pooled, scaled, with its opacity. degrees: directions, its hues."""
        image, recipe, dtype, raw = self.image, self.recipe, self.dtype, self.raw
        opacity = self.opacity
        rule = rule_of(kernel, recipe)
        response, missing = self._pooled(response, missing)
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
            # Without a direction there is no color: NaN becomes black, as it does in gray.
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
        centers = (index + 0.5) * opacity.shape[axis] / size[axis] - 0.5
        if fixed:
            field = fields_of(recipe, kernel)[axis]
            centers = field.start + index * field.jump
        # Half a pixel goes to the nearer side of the start, as `same` pads an even kernel.
        places.append(np.clip(np.ceil(centers - 0.5), 0, opacity.shape[axis] - 1).astype(np.int64))
    return opacity[np.ix_(*places)]
