"""What the options of `apply` and `run` ask for."""

import fnmatch
from typing import TYPE_CHECKING

from imgconv.errors import UsageError
from imgconv.kernels import Kernel, anchored, combined, transform
from imgconv.nn.chain import Step
from imgconv.ops.padding import normalize_mode
from imgconv.pipeline.outputs import Request
from imgconv.pipeline.recipe import ChainRecipe, Recipe, layout_of
from imgconv.pipeline.records.provenance import Provenance
from imgconv.pipeline.settings import LayerSettings, Settings
from imgconv.shapes import Window

if TYPE_CHECKING:
    from imgconv.ops.pool_text import Pool


def apply_request(
    inputs: tuple[str, ...], loaded: tuple[Kernel, ...], settings: Settings
) -> Request:
    """What the options ask for with kernels that are loaded. Raises UsageError."""
    return Request(
        inputs, recipe_of(loaded, settings), settings, Provenance("apply", settings, loaded)
    )


def recipe_of(loaded: tuple[Kernel, ...], settings: Settings) -> Recipe:
    """What the options do to an image with kernels that are loaded. Raises UsageError."""
    layer = settings.layer
    if layer.anchor is not None and layer.padding not in (None, "same"):
        raise UsageError("--anchor with --padding, expected one of them, or --padding same")
    return Recipe(
        tuple(_changed(kernel, layer) for kernel in loaded),
        Window(
            layer.stride, layer.padding, layer.dilation, layer.groups,
            normalize_mode(layer.padding_mode), layer.pad_value,
        ),
        _activation(layer.activation),
        _pool(layer.pool),
        settings.read,
        settings.write.scale,
        settings.show.colormap,
        layout_of(settings.show),
    )  # fmt: skip


def chain_request(
    inputs: tuple[str, ...], steps: list[Step], keep: tuple[str, ...], settings: Settings
) -> Request:
    """What the options ask for with steps that are parsed. Raises UsageError."""
    kept = []
    for index, step in enumerate(steps[:-1]):
        labels = (str(index + 1), step.name, step.name.partition("-")[2], step.text)
        if any(fnmatch.fnmatchcase(label, want) for label in labels for want in keep):
            kept.append(index)
    if keep and not kept and not any(want in ("*", str(len(steps))) for want in keep):
        names = ", ".join(step.name for step in steps)
        raise UsageError(f"--keep {keep[0]}: no such step, expected one of {names}")
    recipe = ChainRecipe(
        kernels=(), read=settings.read, scale=settings.write.scale,
        colormap=settings.show.colormap, sheet=layout_of(settings.show), steps=tuple(steps),
        kept=tuple(kept),
    )  # fmt: skip
    return Request(inputs, recipe, settings, Provenance("run", settings))


def _activation(text: str | None) -> str | None:
    """The text, once it has been seen to name an activation."""
    if text not in (None, "softmax"):
        from imgconv.ops.activation import parse_activation

        parse_activation(text)
    return text


def _pool(text: str | None) -> "Pool | None":
    if not text:
        return None
    from imgconv.ops.pool_text import parse_pool

    return parse_pool(text)


def _changed(kernel: Kernel, layer: LayerSettings) -> Kernel:
    kernel = transform(
        anchored(kernel, layer.anchor), layer.normalize, layer.divisor, layer.rotate, layer.flip,
        layer.bias,
    )  # fmt: skip
    return combined(kernel, layer.combine)
