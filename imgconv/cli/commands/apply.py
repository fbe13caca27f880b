"""`imgconv apply`."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from imgconv.cli import options

if TYPE_CHECKING:
    from imgconv.cli.outputs import Request
    from imgconv.kernels import Kernel
    from imgconv.ops.algorithms.problem import Candidate, ConvProblem
    from imgconv.ops.pool_text import Pool
    from imgconv.pipeline.settings import LayerSettings, Settings


@click.command(cls=options.Command)
@options.kernel
@options.inputs
@options.settings_of("apply")
@click.option("--explain-plan", is_flag=True, help="Say which algorithm filters, and why.")
def apply(
    inputs: tuple[str, ...], kernels: tuple[str, ...], explain_plan: bool, settings: "Settings"
) -> int:
    """Filter images with kernels and write the maps.

    \b
    imgconv apply -k sobel photo.jpg                        writes photo-sobel.jpg
    imgconv apply -k gaussian:sigma=2 photo.jpg -o soft.jpg
    imgconv apply -k "0 -1 0; -1 5 -1; 0 -1 0" a.png b.png -o sharp/
    imgconv apply -k sobel photos --recursive -o edges/     photos/a/b.jpg to edges/a/b.jpg
    cat photo.png | imgconv apply -k laplacian - > edges.png

    Inputs are files, folders, globs, - for standard input, or sample:chart. Without -o, the
    result of photo.jpg is photo-KERNEL.jpg in the current folder, and that of - goes to
    standard output; formats that cannot be written become PNG.

    -o may be a template of these fields:

    \b
    {stem}    the input's name without folder and extension
    {kernel}  the kernel's name
    {map}     the map's name among all of an image
    {frame}   number of the frame or page; {frame:03d} pads it
    {parent}  name of the input's folder
    {ext}     the output's extension: the input's, or that of --format
    {index}   the input's number, in four digits; {index:06d}
    """
    from imgconv.cli.files import write_all

    loaded = tuple(map(_loaded, kernels))
    if not settings.batch.quiet:
        _tell_flat(loaded)
    request = request_of(inputs, loaded, settings)
    if not explain_plan:
        return write_all(request)
    from imgconv.ops.algorithms import select

    with select.telling(_teller()):
        return write_all(request)


def request_of(
    inputs: tuple[str, ...], loaded: "tuple[Kernel, ...]", settings: "Settings"
) -> "Request":
    """What the options ask for with kernels that are loaded. Raises UsageError."""
    from imgconv.cli.files import layout_of
    from imgconv.cli.outputs import Request
    from imgconv.errors import UsageError
    from imgconv.ops.padding import normalize_mode
    from imgconv.pipeline.filtering import Recipe
    from imgconv.pipeline.provenance import Provenance
    from imgconv.shapes import Window

    layer = settings.layer
    if layer.anchor is not None and layer.padding not in (None, "same"):
        raise UsageError("--anchor with --padding, expected one of them, or --padding same")
    recipe = Recipe(
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
    return Request(inputs, recipe, settings, Provenance("apply", settings, loaded))


def _teller() -> "Callable[[ConvProblem, Sequence[Candidate]], None]":
    """A listener that prints each different plan once."""
    from imgconv.cli.boundary import say
    from imgconv.ops.algorithms import select

    seen: set[str] = set()

    def tell(problem: "ConvProblem", candidates: "Sequence[Candidate]") -> None:
        text = select.described(problem, list(candidates))
        if text not in seen:
            seen.add(text)
            for line in text.splitlines():
                say(line)

    return tell


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


def _loaded(spec: str) -> "Kernel":
    from imgconv.kernels import get_kernel, parse_kernel_text

    if spec == "-":
        import sys

        return parse_kernel_text(sys.stdin.read(), "-")
    return get_kernel(spec)


def _tell_flat(loaded: "tuple[Kernel, ...]") -> None:
    """Say of nine numbers in a row, which other tools take for a square, what they are here."""
    from imgconv.cli.boundary import say

    for kernel in loaded:
        (height, width), side = kernel.size, math.isqrt(kernel.size[1])
        text = kernel.source in ("kernel", "-") and not kernel.named
        if text and height == 1 and side > 1 and side % 2 and side * side == width:
            say(
                f"imgconv: {width} numbers in one row are a 1×{width} kernel; of a {side}×{side} "
                "one each row ends with ;"
            )


def _changed(kernel: "Kernel", layer: "LayerSettings") -> "Kernel":
    from dataclasses import replace

    from imgconv.kernels import anchored, transform

    kernel = transform(
        anchored(kernel, layer.anchor), layer.normalize, layer.divisor, layer.rotate, layer.flip,
        layer.bias,
    )  # fmt: skip
    return replace(kernel, combine=layer.combine) if layer.combine else kernel
