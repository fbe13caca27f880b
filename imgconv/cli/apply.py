"""`imgconv apply`."""

import math
from typing import Any

import click

from imgconv.cli import options


@click.command(cls=options.Command)
@options.kernel
@options.inputs
@options.kernel_changes
@options.window
@options.after
@options.read
@options.write
@options.show
@options.batch
@click.option("--explain-plan", is_flag=True, help="Say which algorithm filters, and why.")
def apply(inputs: tuple[str, ...], kernels: tuple[str, ...], **given: Any) -> int:
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

    explained = given.pop("explain_plan")
    loaded = tuple(map(_loaded, kernels))
    if not given["quiet"]:
        _tell_flat(loaded)
    request = request_of(inputs, loaded, given)
    if not explained:
        return write_all(request)
    from imgconv.ops.algorithms import select

    with select.telling(_teller()):
        return write_all(request)


def request_of(inputs: tuple[str, ...], loaded: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """What the options ask for with kernels that are loaded. Raises UsageError."""
    from imgconv.batch.draft import Draft
    from imgconv.batch.filtering import Recipe
    from imgconv.cli.files import layout_of
    from imgconv.cli.outputs import Request
    from imgconv.errors import UsageError
    from imgconv.ops.padding import normalize_mode
    from imgconv.shapes import Window

    if given["anchor"] is not None and given["padding"] not in (None, "same"):
        raise UsageError("--anchor with --padding, expected one of them, or --padding same")
    window = Window(
        given["stride"], given["padding"], given["dilation"], given["groups"],
        normalize_mode(given["padding_mode"]), given["pad_value"],
    )  # fmt: skip
    recipe = Recipe(
        tuple(_changed(kernel, given) for kernel in loaded),
        window,
        _activation(given["activation"]),
        _pool(given["pool"]),
        given["gray"],
        given["channels"],
        given["linear"],
        given["alpha"],
        given["scale"],
        given["colormap"],
        layout_of(given),
        max_pixels=given["max_pixels"],
        missing=given["missing"],
        missing_fill=given["missing_fill"],
    )
    return Request(inputs, recipe, given, Draft("apply", given, loaded))


def _teller() -> Any:
    """A listener that prints each different plan once."""
    from imgconv.cli.boundary import say
    from imgconv.ops.algorithms import select

    seen: set[str] = set()

    def tell(job: Any, offers: Any) -> None:
        text = select.described(job, offers)
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


def _pool(text: str | None) -> Any:
    if not text:
        return None
    from imgconv.ops.pool_text import parse_pool

    return parse_pool(text)


def _loaded(spec: str) -> Any:
    from imgconv.bank import get_kernel, parse_kernel_text

    if spec == "-":
        import sys

        return parse_kernel_text(sys.stdin.read(), "-")
    return get_kernel(spec)


def _tell_flat(loaded: tuple[Any, ...]) -> None:
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


def _changed(kernel: Any, given: dict[str, Any]) -> Any:
    from dataclasses import replace

    from imgconv.bank import anchored, transform

    kernel = transform(
        anchored(kernel, given["anchor"]),
        given["normalize"],
        given["divisor"],
        given["rotate"],
        given["flip"],
        given["bias"],
    )
    return replace(kernel, combine=given["combine"]) if given["combine"] else kernel
