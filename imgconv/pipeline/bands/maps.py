"""The work of `apply` on an image that comes in bands of rows, where its recipe allows it.

The samples are those of `filtering.maps_of` bit for bit. What needs the whole map before its first
sample is known (minmax, percentile, symmetric), and kernels of several maps, are left to it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgconv.io import color, scaling
from imgconv.io.image import Image
from imgconv.io.streamed import Streamed
from imgconv.jit.loop import Wanted
from imgconv.kernels import Kernel
from imgconv.ops.rows import FilteredRows, RowSource, band_rows, loops_of, start_at
from imgconv.pipeline.bands.shared import shared
from imgconv.pipeline.recipe import (
    ChainRecipe,
    Recipe,
    check_chain,
    check_map_of,
    later_of,
    rule_of,
)
from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    from imgconv.pipeline.bands.chain import Wide


def map_rows(
    image: Streamed, recipe: Recipe, dtype: Dtype, raw: bool, opacity: bool = True,
    wanted: Sequence[int] = (0,),
) -> "list[MapRows] | None":  # fmt: skip
    """The rows of a recipe's maps as samples of `dtype`, or None where `maps_of` has to do it.

    opacity: whether the format can hold it. wanted: which of the recipe's maps. Raises what
    `maps_of` raises; rows are read as they are asked for, those of several maps by one thread.
    """
    if isinstance(recipe, ChainRecipe):
        return _chain(image, recipe, dtype, raw)
    if not _in_bands(recipe, raw):
        return None
    value, mark = _missing(image, recipe)
    image = _prepared(image, recipe, value)
    found = []
    for place, source in zip(wanted, shared(image.rows, len(wanted)), strict=True):
        kernel, name = recipe.names[place].kernel, recipe.names[place].name
        filtered = _filtered(source, image, kernel, recipe, value, dtype, raw)
        if filtered is None:
            return None
        kept = image.alpha and opacity and recipe.read.alpha == "keep"
        size = filtered.height, filtered.width
        if kept and (size != (source.height, source.width) or recipe.pool):
            return None
        if raw and (kept or dtype != filtered.dtype):
            return None
        found.append(
            MapRows(filtered, kernel, name, rule_of(kernel, recipe), image.full_scale, dtype,
                    raw, kept, recipe.read.linear, mark)
        )  # fmt: skip
    return found


def _filtered(
    source: RowSource,
    image: Streamed,
    kernel: Kernel,
    recipe: Recipe,
    value: float | None,
    samples: Dtype,
    raw: bool,
) -> "FilteredRows | Wide | None":
    """The responses to a kernel, pooled; None for a pool that needs the whole map."""
    pool = recipe.pool
    check_map_of(kernel, recipe, (source.height, source.width), image.name)
    missing = None if value is None else recipe.read.missing_fill
    later = 1.0, 0.0
    if not raw:
        later = later_of(recipe, rule_of(kernel, recipe), image.full_scale, samples)
    filtered = FilteredRows(
        source, kernel.weights, kernel.bias,
        colors=(source.channels - image.alpha) // (1 if missing is None else 2), missing=missing,
        **(recipe.window.options(kernel.size, kernel.anchor) | {
            "divisor": kernel.divisor, "combine": kernel.combine,
            "activation": recipe.activation, "later": later,
            "out_dtype": samples if raw and pool is None else None,
        }),
    )  # fmt: skip
    if pool is None:
        return filtered
    from imgconv.pipeline.bands.chain import Wide, pooled

    rows = pooled(filtered, pool, missing)
    return None if rows is None else Wide(rows)


def _chain(image: Streamed, recipe: ChainRecipe, dtype: Dtype, raw: bool) -> "list[MapRows] | None":
    from imgconv.pipeline.bands.chain import Wide, chain_rows

    rule = recipe.scale or "clip"
    if recipe.kept or recipe.only or recipe.sheet or recipe.colormap or image.alpha:
        return None
    if not raw and rule not in scaling.FIXED:
        return None
    value, mark = _missing(image, recipe)
    image = _prepared(image, recipe, value)
    source, missing = image.rows, None if value is None else recipe.read.missing_fill
    channels = source.channels // (1 if missing is None else 2)
    check_chain(recipe, (source.height, source.width, channels), image.name)
    if source.dtype == np.int32:  # as `trace` does
        source = Wide(source)
    found = chain_rows(source, recipe.steps, missing)
    if found is None or (raw and dtype != found.dtype):
        return None
    last = recipe.names[-1]
    return [
        MapRows(
            found,
            last.kernel,
            last.name,
            rule,
            image.full_scale,
            dtype,
            raw,
            False,
            recipe.read.linear,
            mark,
        )
    ]


def _in_bands(recipe: Recipe, raw: bool) -> bool:
    """Whether every sample of a recipe's maps depends on what the kernel sees alone."""
    window, several = recipe.window, len(recipe.kernels) > 1
    whole = (
        recipe.sheet, recipe.colormap, recipe.read.alpha == "filter",
        recipe.activation == "softmax",
        (window.groups or 1) > 1, len(recipe.names) != len(recipe.kernels),
        several and window.padding_mode == "circular",  # of which each would hold the whole image
    )  # fmt: skip
    return not any(whole) and all(
        kernel.combine != "direction" and (raw or rule_of(kernel, recipe) in scaling.FIXED)
        for kernel in recipe.kernels
    )


def _missing(image: Streamed, recipe: Recipe) -> tuple[float | None, scaling.Mark | None]:
    """The value of missing samples, and what they are written as."""
    if recipe.read.missing is None:
        return None, None
    from imgconv.pipeline.missing import mark_of, missing_value

    value = missing_value(recipe, image)
    return value, None if value is None else mark_of(recipe, image, value)


def _prepared(image: Streamed, recipe: Recipe, value: float | None) -> Streamed:
    """The image after `--linear`, `--gray` and `--channels`; see `_Prepared`."""
    if value is None and not (
        recipe.read.gray or recipe.read.linear or recipe.read.channels is not None
    ):
        return image
    rows = _Prepared(image, recipe, value)
    return image._replace(rows=rows, alpha=rows.alpha, stored=rows.stored)


class _Prepared:
    """Rows after `--linear`, `--gray` and `--channels`.

    value: of missing samples. Where one is given, samples of that value are 0, and as many
    channels follow all others as there are colors: 1 where these are missing.
    """

    def __init__(self, image: Streamed, recipe: Recipe, value: float | None) -> None:
        self._image, self._value = image, value
        self._options: color.Preparation = {
            "gray": recipe.read.gray, "channels": recipe.read.channels, "linear": recipe.read.linear
        }  # fmt: skip
        rows = image.rows
        self._band = np.empty((band_rows(rows), rows.width, rows.channels), rows.dtype)
        probe = self._image_of(np.zeros((1, 1, rows.channels), rows.dtype))
        done = color.prepare(probe, **self._options)
        self.height, self.width, self.channels = rows.height, rows.width, done.pixels.shape[2]
        self.dtype, self.alpha, self.stored = done.pixels.dtype, done.alpha, done.stored
        if value is not None:
            self.channels += self.channels - self.alpha

    def _image_of(self, pixels: Array) -> Image:
        given = self._image
        return Image(pixels, alpha=given.alpha, name=given.name, stored=given.stored)

    def rows_into(self, out: Array, count: int | None = None) -> int:
        count = len(out) if count is None else count
        got = self._image.rows.rows_into(self._band, min(count, len(self._band)))
        image = self._image_of(self._band[:got])
        if self._value is None:
            out[:got] = color.prepare(image, **self._options).pixels
        else:
            from imgconv.pipeline.missing import prepared

            done, mask = prepared(image, self._value, **self._options)
            out[:got, :, : done.pixels.shape[2]] = done.pixels
            out[:got, :, done.pixels.shape[2] :] = mask
        return got

    def start_at(self, row: int) -> None:
        start_at(self._image.rows, row)

    def loops(self) -> list[Wanted]:
        return loops_of(self._image.rows)

    def close(self) -> None:
        self._image.rows.close()


class MapRows:
    """The rows of a map as samples; `lost` counts those that were clipped or missing so far.

    rule: how they are scaled, "none" where they are raw responses. linear: whether these are in
    linear light. missing: what missing samples are written as, where the last channels of
    `filtered` say which these are.
    """

    def __init__(
        self, filtered: "FilteredRows | Wide", kernel: Kernel, name: str, rule: str, white: float,
        dtype: Dtype, raw: bool, alpha: bool, linear: bool,
        missing: scaling.Mark | None = None,
    ) -> None:  # fmt: skip
        self._filtered, self._linear = filtered, linear
        self.kernel, self.name, self.alpha = kernel, name, alpha
        self.rule = "none" if raw else rule
        self.height, self.width = filtered.height, filtered.width
        self._colors = filtered.channels // (1 if missing is None else 2)
        self.channels = self._colors + alpha
        self.dtype = dtype
        self.lost = scaling.Lost()
        self._next = 0
        self.scaling = None if raw else scaling.Scaling.of(rule, white, dtype, missing=missing)
        self._opacity = scaling.Scaling.of("clip", white, dtype)
        self._band = np.empty((0, 0, 0), filtered.dtype)
        self._missing = missing
        if self.height and not (raw and missing is None):
            # A strip of a small PNG is then one band: each costs 0.2 ms whatever its size.
            rows = min(filtered.band, 2 * band_rows(filtered))
            self._band = np.empty((rows, self.width, filtered.channels), filtered.dtype)

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = min(len(out) if count is None else count, self.height - self._next)
        if not len(self._band):
            self._next += count
            return self._filtered.rows_into(out, count)
        for start in range(0, count, len(self._band)):
            rows = min(len(self._band), count - start)
            self._write(out[start : start + rows])
            self._next += rows
        return count

    def _write(self, target: Array) -> None:
        """Write the samples of the next rows, and the opacity that stands there."""
        rows = len(target)
        band, mask = self._band[:rows], None
        self._filtered.rows_into(band)
        if self._missing:
            mask = band[..., self._colors :] != 0
            band = band[..., : self._colors]
            band[mask] = np.nan
        if self.scaling is None:
            target[...] = band
            if self._missing and mask is not None:
                self._missing.put(target, mask)
            return
        if self._linear:
            band = color.from_linear(band)
        lost = self.scaling.write(band, target[..., : self._colors], mask)
        self.lost = self.lost.plus(lost)
        if self.alpha:
            assert isinstance(self._filtered, FilteredRows)
            seen = self._filtered.opacity(self._next, rows)
            self._opacity.write(seen, target[..., -1:])

    def start_at(self, row: int) -> None:
        """Begin at a row; see `start_at` of `ops.rows`."""
        self._next = row
        start_at(self._filtered, row)

    def done(self) -> int:
        """How many rows were handed out."""
        return self._next

    def loops(self) -> list[Wanted]:
        """The loops that these samples need, with those of what they are made from."""
        found = loops_of(self._filtered)
        if self.scaling is not None and self._band.size:
            found += self.scaling.loops(self._band.dtype)
        return found

    def warning(self) -> str | None:
        """What to tell of the clipped samples, once all rows were written."""
        if self.scaling is None:
            return None
        return self.scaling.warning(self.lost, self.height * self.width * self._colors)

    def close(self) -> None:
        self._filtered.close()
