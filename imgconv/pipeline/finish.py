"""What a map's file is to be: its samples, metadata and record, and what is said of it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from imgconv.errors import UsageError
from imgconv.io import scaling
from imgconv.io.formats import Format, output_dtype
from imgconv.io.image import Image, white_of
from imgconv.io.reading import parse_frame
from imgconv.io.streamed import Streamed
from imgconv.io.writing import EncodeOptions, Record
from imgconv.pipeline.bands.maps import MapRows
from imgconv.pipeline.metadata import carried
from imgconv.pipeline.outputs import Outputs, Request, Row
from imgconv.pipeline.recipe import ChainRecipe, Recipe, names_of, rule_of
from imgconv.pipeline.records.origin import Origin
from imgconv.pipeline.whole import Map
from imgconv.typing import Dtype
from imgconv.viz.colormaps import check_colormap


def check(request: Request) -> None:
    """Raise UsageError for options whose texts mean nothing, or do not go together."""
    recipe = request.recipe
    for kernel in recipe.kernels:
        scaling.check_rule(rule_of(kernel, recipe))
    if recipe.colormap:
        check_colormap(recipe.colormap)
        if any(kernel.combine == "direction" for kernel in recipe.kernels):
            raise UsageError(
                f"--colormap {recipe.colormap}: --combine direction is in colors already, "
                "expected one of them"
            )
    if recipe.read.missing is not None and recipe.read.alpha == "filter":
        raise UsageError(
            "--missing with --alpha filter, where opacity says what is there; expected --alpha "
            "keep or drop"
        )
    parse_frame(request.settings.read.frame)
    level_of(request.settings.write.compress)


def level_of(text: str) -> int | str:
    """The value of --compress. Raises UsageError for none."""
    if text in ("fast", "small"):
        return text
    if text.isdigit() and int(text) <= 9:
        return int(text)
    raise UsageError(f"--compress {text}: expected 0 to 9, fast or small")


def recipe_for(request: Request, format: Format) -> Recipe:
    """The recipe for outputs of a format, which say what is missing as their own tag does."""
    recipe = request.recipe
    # A picture shows what is missing by its color, not by a value.
    if recipe.read.missing is None or recipe.sheet or recipe.colormap:
        return recipe
    return replace(recipe, tagged=format.name == "tiff" and not request.settings.write.no_metadata)


def keeps_inks(out: Outputs, source: str, index: int) -> bool:
    """Whether an input in CMYK is filtered as inks: into TIFF, which holds them."""
    recipe = out.request.recipe
    each = not isinstance(recipe, ChainRecipe) and all(
        kernel.weights.shape[1] == 1 and kernel.combine == "none" for kernel in recipe.kernels
    )
    if out.reports or recipe.read.channels is not None or not (each and recipe.keeps_colors()):
        return False
    paths = [out.path(source, one.part, index, 0) for one in names_of(recipe)]
    return all(out.format(source, path).name == "tiff" for path in paths)


def sample_type(request: Request, format: Format, image: Image | Streamed) -> tuple[Dtype, bool]:
    """(dtype of the samples to write, whether they are responses as they were computed)."""
    write, recipe = request.settings.write, request.recipe
    depth = write.depth or ("8" if recipe.sheet or recipe.colormap else None)
    source = image.sample_type
    if recipe.read.linear or any(kernel.combine == "direction" for kernel in recipe.kernels):
        # Light is not in the file's units, nor is a hue.
        source = np.dtype(source if source.itemsize == 1 or source.kind == "f" else np.uint16)
    dtype = output_dtype(format, depth, source)
    return dtype, format.raw or (dtype.kind == "f" and write.scale in (None, "none"))


def encode_options(
    out: Outputs, path: str, record: Record, image: Image | Streamed, map: Map | MapRows
) -> EncodeOptions:
    """The options of `encode` for one map's file."""
    write = out.request.settings.write
    ome = path.lower().endswith((".ome.tif", ".ome.tiff"))
    return {
        "alpha": map.alpha, "compress": level_of(write.compress), "quality": write.quality,
        "record": record, "pyramid": write.pyramid,
        "ome": out.recorded.ome if out.recorded else ome,
        "cmyk": image.cmyk and map.channels - map.alpha == 4,
        **carried(image, out.request.recipe, map, bool(write.no_metadata)),
    }  # fmt: skip


def record_of(
    out: Outputs, source: str, origin: Origin | None, frame: int | None, name: str, format: Format
) -> Record:
    """How an output is made, for itself to say."""
    if origin is None:
        return None
    recipe = out.request.recipe
    one = None
    if not (out.together(source) or recipe.sheet):
        one = next(found for found in recipe.names if found.name == name)
    return out.request.provenance.record(origin, frame, recipe, one, format)


def origin_of(out: Outputs, source: str, data: str | bytes) -> Origin | None:
    """What the records say of an input, if there are any."""
    write = out.request.settings.write
    without = write.no_metadata or write.no_record or out.request.recipe.only_report
    if without or not (out.made is None or out.made.note):
        return None
    return Origin(source, data if isinstance(data, bytes) else None)


def row_of(source: str, path: str, map: Map | MapRows, raw: bool) -> Row:
    """The --json line of a map, but for what its file will tell."""
    return {
        "input": source, "output": path, "kernel": map.kernel.name, "map": map.name,
        "width": map.width, "height": map.height, "channels": map.channels,
        "dtype": str(map.dtype), "scale": "none" if raw else map.rule,
    }  # fmt: skip


def notes_of(request: Request, image: Image | Streamed) -> Iterator[str]:
    """What is to be said of an image that was read. Raises ImageError for a wrong `--missing`."""
    yield from image.notes
    if image.metadata is not None and not request.settings.write.no_metadata:
        yield from image.metadata.notes
    if request.recipe.read.missing is not None:
        from imgconv.pipeline.missing import missing_notes

        yield from missing_notes(request.recipe, image)


def note_of_opacity(
    request: Request, source: str, image: Image | Streamed, format: Format
) -> str | None:
    """What to say where an image's opacity is lost in the outputs' format."""
    recipe = request.recipe
    kept = recipe.read.alpha != "drop" and recipe.read.channels is None and not recipe.sheet
    if image.alpha and kept and not format.alpha:
        return f"{source}: its opacity is left out: {format.name} holds none"
    return None


def note_of_type(request: Request, image: Image | Streamed, format: Format) -> str | None:
    """What to say where a format cannot hold an image's integers, and nobody asked for others."""
    recipe, source = request.recipe, image.sample_type
    dtype, raw = sample_type(request, format, image)
    asked = raw or request.settings.write.depth or recipe.sheet or recipe.colormap
    wide = source.kind == "i" or (source.kind == "u" and source.itemsize > 2)
    if asked or not wide or dtype.kind != "u" or (isinstance(image, Image) and image.frame):
        return None
    low = ", those below 0 to 0 unless --scale says otherwise" if source.kind == "i" else ""
    return (
        f"{image.name}: {format.name} holds no {source}: samples are scaled to {dtype}, "
        f"{image.full_scale:.0f} to {white_of(dtype):.0f}{low}; tiff, zarr and npy keep them"
    )
