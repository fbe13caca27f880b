"""`imgconv compare`."""

import json
from typing import Any

import click

from imgconv.cli import options
from imgconv.errors import ImgconvError, UsageError


@click.command()
@click.argument("first", type=options.IMAGE)
@click.argument("second", type=options.IMAGE)
@options.allow_scheme
@click.option(
    "-o",
    "--output",
    type=options.IMAGE,
    metavar="PATH",
    help="Write the map of absolute differences.",
)
@click.option(
    "--scale", metavar="RULE", default="clip", show_default=True,
    help="How differences become samples: clip shows them as they are, minmax all that is there.",
)  # fmt: skip
@click.option(
    "--colormap", type=options.COLORMAP,
    help="Show the largest difference of a pixel's channels in colours: viridis, magma, gray.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--max-error", type=float, help="Exit 1 when any difference is larger.")
@click.option("--min-psnr", type=float, help="Exit 1 when PSNR is below this many decibels.")
@click.option("--min-ssim", type=float, help="Exit 1 when SSIM is below this.")
@click.option("--json", "as_json", is_flag=True, help="The numbers as one JSON object.")
def compare(first: str, second: str, **given: Any) -> int:
    """Measure how far two images are apart: largest error, RMSE, PSNR, SSIM.

    \b
    imgconv compare a.png b.png
    imgconv compare a.png b.png --max-error 1 && echo close enough
    imgconv compare a.png b.png -o difference.png --scale minmax --colormap magma

    Without limits the exit code is 0 for equal images and 1 for different ones; with limits it is
    0 when all of them hold. One of the images may be - for standard input. Images of unlike depth
    are compared on the scale of the deeper one. Where they cannot be compared, as a file that is
    missing or broken, it is 2.
    """
    try:
        return _compared(first, second, given)
    except ImgconvError as error:
        error.exit_code = 2  # as of cmp and diff: 1 says that they differ
        raise


def _compared(first: str, second: str, given: dict[str, Any]) -> int:
    from imgconv.io.scaling import check_rule
    from imgconv.viz.colormaps import check_colormap
    from imgconv.viz.compare import compare as measure

    check_rule(given["scale"])
    if given["colormap"]:
        check_colormap(given["colormap"])
    if first == second == "-":
        raise UsageError("standard input is named twice, expected once")
    for name in (first, second) if given["output"] else ():
        from imgconv.pipeline.plan import check_against_input

        check_against_input(given["output"], name, False, "expected another name")
    a, b = _read(first), _read(second)
    white = max(a.full_scale, b.full_scale)
    found, difference = measure(_to(a, white), _to(b, white), white)
    if given["as_json"]:
        click.echo(json.dumps(found.as_dict()))
    else:
        psnr = "inf" if found.equal else f"{found.psnr:.2f}"
        click.echo(
            f"max error {found.max_error:g}, RMSE {found.rmse:.4g}, PSNR {psnr} dB, "
            f"SSIM {found.ssim:.5f}, {found.differing} of {found.pixels} pixels differ"
        )
    if given["output"]:
        deeper = a if a.full_scale == white else b
        _write(difference, deeper, given)
    limits = (
        (found.max_error, given["max_error"], -1),
        (found.psnr, given["min_psnr"], 1),
        (found.ssim, given["min_ssim"], 1),
    )
    wanted = [(value, limit, sign) for value, limit, sign in limits if limit is not None]
    if not wanted:
        return 0 if found.equal else 1
    return 0 if all(sign * value >= sign * limit for value, limit, sign in wanted) else 1


def _read(name: str) -> Any:
    from imgconv.io.reading import read_images
    from imgconv.io.source import read_stdin

    if name == "-":
        return next(read_images(read_stdin(), name="standard input"))
    return next(read_images(name))


def _to(image: Any, white: float) -> Any:
    """The pixels in units where `white` is white."""
    if image.full_scale == white:
        return image.pixels
    return image.pixels * (white / image.full_scale)


def _write(difference: Any, image: Any, given: dict[str, Any]) -> None:
    from imgconv.io.formats import format_of, output_dtype
    from imgconv.io.publish import publish
    from imgconv.io.scaling import scale_map
    from imgconv.io.writing import encode
    from imgconv.viz.colormaps import colorize

    made = format_of(given["output"])
    alpha = image.alpha and difference.shape[2] in (2, 4)
    if alpha:
        # A picture of differences is opaque: equal pixels would vanish in it.
        difference = difference[..., :-1]
    if given["colormap"]:
        difference = difference.max(axis=2, keepdims=True)
    depth = "8" if given["colormap"] else None
    dtype = output_dtype(made, depth, image.sample_type)
    samples, _ = scale_map(difference, given["scale"], image.full_scale, dtype)
    if given["colormap"]:
        samples = colorize(samples, given["colormap"])
    publish(given["output"], encode(samples, made), given["overwrite"])
