"""`imgconv compare`."""

import json
from typing import TYPE_CHECKING

import click

from imgconv.cli import options
from imgconv.cli.help import Command
from imgconv.console import echo
from imgconv.errors import ImgconvError, UsageError
from imgconv.pipeline.settings.table import Table, local

if TYPE_CHECKING:
    from imgconv.io.image import Image
    from imgconv.typing import Array


class CompareSettings(Table):
    """What is written of the differences of two images, and how large they may be."""

    output: str | None = local(
        "Write the map of absolute differences.",
        default=None,
        kind="image",
        metavar="PATH",
        names=("-o", "--output"),
    )
    scale: str = local(
        "How differences become samples: clip keeps them as they are, minmax stretches them.",
        default="clip",
        metavar="RULE",
        shown=True,
    )
    colormap: str | None = local(
        "Show the largest difference of a pixel's channels in colors: viridis, magma, ….",
        default=None,
        kind="colormap",
    )
    overwrite: bool = local("Replace an existing file.", default=False)
    max_error: float | None = local("Exit 1 when any difference is larger.", default=None)
    min_psnr: float | None = local("Exit 1 when PSNR is below this many decibels.", default=None)
    min_ssim: float | None = local("Exit 1 when SSIM is below this.", default=None)
    as_json: bool = local("The numbers as one JSON object.", default=False, names=("--json",))


@click.command(cls=Command)
@click.argument("first", type=options.IMAGE)
@click.argument("second", type=options.IMAGE)
@options.allow_scheme
@options.options_of(CompareSettings)
@options.gathered(CompareSettings)
def compare(first: str, second: str, settings: CompareSettings) -> int:
    """Measure how much two images differ: largest error, RMSE, PSNR, SSIM.

    \b
    imgconv compare a.png b.png
    imgconv compare a.png b.png --max-error 1 && echo close enough
    imgconv compare a.png b.png -o difference.png --scale minmax --colormap magma

    Without limits the exit code is 0 for equal images and 1 for different ones; with limits it is
    0 if all of them hold. It is 2 if the images cannot be compared, for example because a file is
    missing. One of the images may be - for standard input. Images of different depths are compared
    on the scale of the deeper one.
    """
    try:
        return _compared(first, second, settings)
    except ImgconvError as error:
        error.exit_code = 2  # as of cmp and diff: 1 says that they differ
        raise


def _compared(first: str, second: str, settings: CompareSettings) -> int:
    from imgconv.io.scaling import check_rule
    from imgconv.viz.colormaps import check_colormap
    from imgconv.viz.compare import compare as measure

    check_rule(settings.scale)
    if settings.colormap:
        check_colormap(settings.colormap)
    if first == second == "-":
        raise UsageError("standard input is named twice, expected once")
    if settings.output:
        from imgconv.pipeline.plan import check_against_input

        for name in (first, second):
            check_against_input(settings.output, name, False, "expected another name")
    a, b = _read(first), _read(second)
    white = max(a.full_scale, b.full_scale)
    found, difference = measure(_to(a, white), _to(b, white), white)
    if settings.as_json:
        echo(json.dumps(found.as_dict()))
    else:
        psnr = "inf" if found.equal else f"{found.psnr:.2f}"
        echo(
            f"max error {found.max_error:g}, RMSE {found.rmse:.4g}, PSNR {psnr} dB, "
            f"SSIM {found.ssim:.5f}, {found.differing} of {found.pixels} pixels differ"
        )
    if settings.output:
        _write(difference, a if a.full_scale == white else b, settings.output, settings)
    limits = (
        (found.max_error, settings.max_error, -1),
        (found.psnr, settings.min_psnr, 1),
        (found.ssim, settings.min_ssim, 1),
    )
    wanted = [(value, limit, sign) for value, limit, sign in limits if limit is not None]
    if not wanted:
        return 0 if found.equal else 1
    return 0 if all(sign * value >= sign * limit for value, limit, sign in wanted) else 1


def _read(name: str) -> "Image":
    from imgconv.io.reading import read_input

    return next(read_input(name))


def _to(image: "Image", white: float) -> "Array":
    """The pixels in units where `white` is white."""
    if image.full_scale == white:
        return image.pixels
    return image.pixels * (white / image.full_scale)


def _write(difference: "Array", image: "Image", output: str, settings: CompareSettings) -> None:
    from imgconv.io.formats import format_of, output_dtype
    from imgconv.io.publish import publish
    from imgconv.io.scaling import scale_map
    from imgconv.io.writing import encode
    from imgconv.viz.colormaps import colorize

    made = format_of(output)
    alpha = image.alpha and difference.shape[2] in (2, 4)
    if alpha:
        # A picture of differences is opaque: equal pixels would vanish in it.
        difference = difference[..., :-1]
    if settings.colormap:
        difference = difference.max(axis=2, keepdims=True)
    depth = "8" if settings.colormap else None
    dtype = output_dtype(made, depth, image.sample_type)
    samples, _ = scale_map(difference, settings.scale, image.full_scale, dtype)
    if settings.colormap:
        samples = colorize(samples, settings.colormap, difference)
    publish(output, encode(samples, made), settings.overwrite)
