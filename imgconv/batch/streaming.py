"""The work of `apply` on an image that comes in bands of rows, where its recipe allows it.

The samples are those of `filtering.maps_of` bit for bit. What needs the whole map before its first
sample is known (minmax, percentile, symmetric), or more than one result, is left to it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgconv.bank import Kernel
from imgconv.batch.filtering import ChainRecipe, Recipe, check_chain, check_map_of, rule_of
from imgconv.compute import png_rows
from imgconv.compute.rows import FilteredRows, band_rows, start_at
from imgconv.images import color, scaling
from imgconv.images.image import Image
from imgconv.images.streamed import Streamed

if TYPE_CHECKING:
    from imgconv.batch.chain_rows import Wide

Array = npt.NDArray[Any]


def map_rows(
    image: Streamed, recipe: Recipe, dtype: np.dtype[Any], raw: bool, opacity: bool = True
) -> "MapRows | None":
    """The rows of a recipe's one map as samples of `dtype`, or None where `maps_of` has to do it.

    opacity: whether the format can hold it. Raises what `maps_of` raises; rows are read as they
    are asked for.
    """
    if isinstance(recipe, ChainRecipe):
        return _chain(image, recipe, dtype, raw)
    if not _one_pass(recipe, raw):
        return None
    source, alpha = image.rows, image.alpha
    if recipe.gray or recipe.channels is not None:
        source = prepared = _Prepared(image, recipe)
        alpha = prepared.alpha
    kernel, window = recipe.kernels[0], recipe.window
    check_map_of(kernel, recipe, (source.height, source.width), image.name)
    filtered = FilteredRows(
        source, kernel.effective_weights(), kernel.bias, colors=source.channels - alpha,
        stride=window.stride, padding=window.padding_for(kernel.size), dilation=window.dilation,
        padding_mode=window.padding_mode, pad_value=window.pad_value, groups=window.groups,
        combine=kernel.combine, activation=recipe.activation,
        out_dtype=np.float64 if source.dtype == np.float64 else np.float32,
    )  # fmt: skip
    kept = alpha and opacity and recipe.alpha == "keep"
    if kept and (filtered.height, filtered.width) != (source.height, source.width):
        return None
    if raw and (kept or dtype != filtered.dtype):
        return None
    return MapRows(filtered, kernel, rule_of(kernel, recipe), image.full_scale, dtype, raw, kept)


def _chain(
    image: Streamed, recipe: ChainRecipe, dtype: np.dtype[Any], raw: bool
) -> "MapRows | None":
    from imgconv.batch.chain_rows import chain_rows

    rule = recipe.scale or "clip"
    if recipe.kept or recipe.sheet or recipe.colormap or recipe.linear or image.alpha:
        return None
    if not raw and rule not in scaling.FIXED:
        return None
    source = image.rows
    if recipe.gray or recipe.channels is not None:
        source = prepared = _Prepared(image, recipe)
        if prepared.alpha:
            return None
    check_chain(recipe, (source.height, source.width, source.channels), image.name)
    found = chain_rows(source, recipe.steps)
    if found is None or (raw and dtype != found.dtype):
        return None
    return MapRows(found, recipe.names()[-1][0], rule, image.full_scale, dtype, raw, False)


def _one_pass(recipe: Recipe, raw: bool) -> bool:
    """Whether a recipe has one map whose samples depend on what the kernel sees alone."""
    if type(recipe) is not Recipe or len(recipe.kernels) != 1 or len(recipe.names()) != 1:
        return False
    kernel = recipe.kernels[0]
    whole = (
        recipe.sheet, recipe.colormap, recipe.pool, recipe.linear, recipe.alpha == "filter",
        recipe.activation == "softmax", kernel.combine == "direction",
        not raw and rule_of(kernel, recipe) not in scaling.FIXED,
        (recipe.window.groups or 1) > 1,
    )  # fmt: skip
    return not any(whole)


class _Prepared:
    """Rows after `--gray` and `--channels`."""

    def __init__(self, image: Streamed, recipe: Recipe) -> None:
        self._image, self._recipe = image, recipe
        rows = image.rows
        self._band = np.empty((band_rows(rows), rows.width, rows.channels), rows.dtype)
        probe = self._changed(np.zeros((1, 1, rows.channels), rows.dtype))
        self.height, self.width, self.channels = rows.height, rows.width, probe.pixels.shape[2]
        self.dtype, self.alpha = probe.pixels.dtype, probe.alpha

    def _changed(self, pixels: Array) -> Image:
        image = Image(pixels, alpha=self._image.alpha, name=self._image.name)
        return color.prepare(image, gray=self._recipe.gray, channels=self._recipe.channels)

    def rows_into(self, out: Array, count: int | None = None) -> int:
        count = len(out) if count is None else count
        got = self._image.rows.rows_into(self._band, min(count, len(self._band)))
        out[:got] = self._changed(self._band[:got]).pixels
        return got

    def start_at(self, row: int) -> None:
        start_at(self._image.rows, row)

    def close(self) -> None:
        self._image.rows.close()


class MapRows:
    """The rows of a map as samples; `lost` counts those that were clipped so far."""

    def __init__(
        self, filtered: "FilteredRows | Wide", kernel: Kernel, rule: str, white: float,
        dtype: np.dtype[Any], raw: bool, alpha: bool,
    ) -> None:  # fmt: skip
        self._filtered = filtered
        self.kernel, self.rule, self.alpha = kernel, rule, alpha
        self.name = ""
        self.height, self.width = filtered.height, filtered.width
        self.channels = filtered.channels + alpha
        self.dtype = dtype
        self.lost = 0
        self._next = 0
        self.scaling = None if raw else scaling.Scaling.of(rule, white, dtype)
        self._opacity = scaling.Scaling.of("clip", white, dtype)
        self._band = np.empty((0, 0, 0), filtered.dtype)
        if not raw and self.height:
            rows = min(filtered.band, band_rows(filtered))
            self._band = np.empty((rows, self.width, filtered.channels), filtered.dtype)

    def rows_into(self, out: Array, count: int | None = None) -> int:
        """Write the next rows; see `RowSource`."""
        count = min(len(out) if count is None else count, self.height - self._next)
        if self.scaling is None:
            self._next += count
            return self._filtered.rows_into(out, count)
        for start in range(0, count, len(self._band)):
            rows = min(len(self._band), count - start)
            band = self._band[:rows]
            self._filtered.rows_into(band)
            target = out[start : start + rows]
            self.lost += self.scaling.write(band, target[..., : band.shape[2]])
            if self.alpha:
                assert isinstance(self._filtered, FilteredRows)
                seen = self._filtered.input_rows(self._next, rows)[..., -1:]
                self._opacity.write(seen, target[..., -1:])
            self._next += rows
        return count

    def start_at(self, row: int) -> None:
        """Begin at a row; see `start_at` of `compute.rows`."""
        self._next = row
        start_at(self._filtered, row)

    def rehearse(self, png: bool) -> None:
        """Ask for the loops of these rows and of writing them, for `jit.expecting`."""
        if isinstance(self._filtered, FilteredRows):
            self._filtered.rehearse()
        if self.scaling is not None and self._band.size:
            sample = np.zeros((1, *self._band.shape[1:]), self._band.dtype)
            self.scaling.write(sample, np.empty(sample.shape, self.dtype))
        if png:
            png_rows.filter_rows()

    def warning(self) -> str | None:
        """What to tell of the clipped samples, once all rows were written."""
        if self.scaling is None:
            return None
        return self.scaling.warning(self.lost, self.height * self.width * self._filtered.channels)

    def close(self) -> None:
        self._filtered.close()
