"""`imgconv show`."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from imgconv.cli import options


@click.command()
@click.argument("images", nargs=-1, required=True, type=options.IMAGE, metavar="IMAGE…")
@options.allow_scheme
@click.option(
    "-k", "--kernel", "kernels", multiple=True, type=options.KERNEL,
    help="Show each image before and after this filter; repeatable.",
)  # fmt: skip
@click.option("--gray", is_flag=True, help="Turn colours into gray before filtering.")
@click.option("--scale", metavar="RULE", help="How maps become pixels, as for apply.")
@click.option("--colormap", type=options.COLORMAP, help="Show maps in colours, as for apply.")
@click.option(
    "--protocol",
    type=click.Choice(["auto", "kitty", "iterm", "sixel", "blocks", "ascii"]),
    default="auto",
    show_default=True,
    help="How pictures reach the screen; auto asks the terminal.",
)
@click.option("--width", type=click.IntRange(1, 1000), help="Columns to use; default: all.")
@click.option(
    "--height", type=click.IntRange(1, 1000), help="Lines a picture; default: the screen."
)
def show(images: tuple[str, ...], kernels: tuple[str, ...], **given: Any) -> None:
    """Preview images in the terminal, side by side.

    \b
    imgconv show photo.png
    imgconv show photo.png -k sobel              before and after
    imgconv show before.png after.png
    imgconv apply -k sobel photo.png -o png:- | imgconv show photo.png -

    Terminals with the kitty protocol, iTerm2's or sixel show pixels; others show half blocks, two
    pixels a character. NO_COLOR gives shades of ASCII.
    """
    import numpy as np

    from imgconv.errors import UsageError
    from imgconv.io.reading import read_images
    from imgconv.io.scaling import check_rule
    from imgconv.io.source import read_stdin
    from imgconv.kernels import get_kernel
    from imgconv.pipeline.filtering import Recipe, rule_of
    from imgconv.pipeline.pictured import bytes_of, results_of
    from imgconv.pipeline.settings import ReadSettings
    from imgconv.viz.colormaps import check_colormap
    from imgconv.viz.preview import Named
    from imgconv.viz.preview import show as preview

    if images.count("-") > 1:
        raise UsageError("standard input is named twice, expected once")
    if given["colormap"]:
        check_colormap(given["colormap"])
    recipe = Recipe(
        tuple(get_kernel(spec) for spec in kernels), read=ReadSettings(gray=given["gray"]),
        scale=given["scale"], colormap=given["colormap"],
    )  # fmt: skip
    for kernel in recipe.kernels:
        check_rule(rule_of(kernel, recipe))
    terminal = _terminal(given["protocol"])
    size = (given["width"], given["height"])
    waiting = []
    for name in images:
        data: Any = read_stdin() if name == "-" else name
        image = next(read_images(data, name="standard input" if name == "-" else ""))
        shown = [Named(image.name, bytes_of(image))]
        if kernels:
            for found in results_of(image, recipe, np.dtype(np.uint8), raw=False):
                title = f"{found.kernel.name}-{found.name}" if found.name else found.kernel.name
                shown.append(Named(title, found.samples))
            _print(preview(shown, terminal, *size))
        else:
            waiting += shown
    _print(preview(waiting, terminal, *size))


def _terminal(protocol: str) -> Any:
    from dataclasses import replace

    from imgconv.errors import UsageError
    from imgconv.viz.terminal import detect

    terminal = detect(sys.stdout, os.environ, protocol)
    encoding = sys.stdout.encoding or "ascii"
    if terminal.protocol == "blocks" and encoding.lower().replace("-", "") != "utf8":
        if protocol == "blocks":
            raise UsageError(
                f"--protocol blocks: standard output is in {encoding}, expected UTF-8; "
                "use --protocol ascii"
            )
        return replace(terminal, protocol="ascii")
    return terminal


def _print(parts: Iterator[str]) -> None:
    encoding = sys.stdout.encoding or "ascii"
    for part in parts:
        sys.stdout.write(part.encode(encoding, "replace").decode(encoding))
