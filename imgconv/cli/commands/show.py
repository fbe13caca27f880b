"""`imgconv show`."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import click

from imgconv.cli import options
from imgconv.cli.help import Command
from imgconv.pipeline.settings.table import Range, Table, local

if TYPE_CHECKING:
    from imgconv.viz.terminal import Terminal

Protocol = Literal["auto", "kitty", "iterm", "sixel", "blocks", "ascii"]


class PreviewSettings(Table):
    """What is shown of images, and by which means."""

    gray: bool = local("Convert colors to gray before filtering.", default=False)
    scale: str | None = local("How maps become pixels, as for apply.", default=None, metavar="RULE")
    colormap: str | None = local(
        "Show maps in colors, as for apply.", default=None, kind="colormap"
    )
    protocol: Protocol = local(
        "How pictures reach the screen; auto asks the terminal.", default="auto", shown=True
    )
    width: int | None = local("Columns to use; default: all.", default=None, kind=Range(1, 1000))
    height: int | None = local(
        "Lines per picture; default: the screen.", default=None, kind=Range(1, 1000)
    )


@click.command(cls=Command)
@click.argument("images", nargs=-1, required=True, type=options.IMAGE, metavar="IMAGE…")
@options.allow_scheme
@click.option(
    "-k", "--kernel", "kernels", multiple=True, type=options.KERNEL,
    help="Show each image before and after this filter; repeatable.",
)  # fmt: skip
@options.options_of(PreviewSettings)
@options.gathered(PreviewSettings)
def show(images: tuple[str, ...], kernels: tuple[str, ...], settings: PreviewSettings) -> None:
    """Preview images in the terminal, side by side.

    \b
    imgconv show photo.png
    imgconv show photo.png -k sobel              before and after
    imgconv show before.png after.png
    imgconv apply -k sobel photo.png -o png:- | imgconv show photo.png -

    Terminals with the kitty, iTerm2 or sixel protocol show pixels; others show half blocks, two
    pixels per character. With NO_COLOR set, they are ASCII characters.
    """
    import numpy as np

    from imgconv.errors import UsageError
    from imgconv.io.reading import read_input
    from imgconv.io.scaling import check_rule
    from imgconv.kernels import get_kernel
    from imgconv.pipeline.recipe import Recipe, rule_of
    from imgconv.pipeline.results import bytes_of, results_of
    from imgconv.pipeline.settings import ReadSettings
    from imgconv.viz.colormaps import check_colormap
    from imgconv.viz.preview import Named
    from imgconv.viz.preview import show as preview

    if images.count("-") > 1:
        raise UsageError("standard input is named twice, expected once")
    if settings.colormap:
        check_colormap(settings.colormap)
    recipe = Recipe(
        tuple(get_kernel(spec) for spec in kernels), read=ReadSettings(gray=settings.gray),
        scale=settings.scale, colormap=settings.colormap,
    )  # fmt: skip
    for kernel in recipe.kernels:
        check_rule(rule_of(kernel, recipe))
    terminal = _terminal(settings.protocol)
    size = (settings.width, settings.height)
    waiting = []
    for name in images:
        image = next(read_input(name))
        shown = [Named(image.name, bytes_of(image))]
        if kernels:
            for found in results_of(image, recipe, np.dtype(np.uint8), raw=False):
                title = f"{found.kernel.name}-{found.name}" if found.name else found.kernel.name
                shown.append(Named(title, found.samples))
            _print(preview(shown, terminal, *size))
        else:
            waiting += shown
    _print(preview(waiting, terminal, *size))


def _terminal(protocol: Protocol) -> "Terminal":
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
