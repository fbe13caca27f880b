"""`imgconv compare`."""

import json

import click


@click.command()
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.option("-o", "--output", metavar="PATH", help="Write the map of absolute differences.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--max-error", type=float, help="Exit 1 when any difference is larger.")
@click.option("--min-psnr", type=float, help="Exit 1 when PSNR is below this many decibels.")
@click.option("--json", "as_json", is_flag=True, help="The numbers as one JSON object.")
def compare(
    first: str, second: str, output: str | None, overwrite: bool, max_error: float | None,
    min_psnr: float | None, as_json: bool,
) -> int:  # fmt: skip
    """Measure how far two images are apart: largest error, RMSE, PSNR, SSIM.

    \b
    imgconv compare a.png b.png
    imgconv compare a.png b.png --max-error 1 && echo close enough
    imgconv compare a.png b.png -o difference.png

    Without limits the exit code is 0 for equal images and 1 for different ones.
    """
    from imgconv.images.formats import format_of, output_dtype
    from imgconv.images.publish import publish
    from imgconv.images.reading import read_images
    from imgconv.images.scaling import scale_map
    from imgconv.images.writing import encode
    from imgconv.pictures.compare import compare as measure

    a, b = next(read_images(first)), next(read_images(second))
    full_scale = max(a.full_scale, b.full_scale)
    found, difference = measure(a.pixels, b.pixels, full_scale)
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    else:
        psnr = "inf" if found.equal else f"{found.psnr:.2f}"
        click.echo(
            f"max error {found.max_error:g}, RMSE {found.rmse:.4g}, PSNR {psnr} dB, "
            f"SSIM {found.ssim:.5f}, {found.differing} of {found.pixels} pixels differ"
        )
    if output:
        made = format_of(output)
        samples, _ = scale_map(
            difference, "clip", full_scale, output_dtype(made, None, a.pixels.dtype)
        )
        publish(output, encode(samples, made, alpha=a.alpha), overwrite)
    if max_error is None and min_psnr is None:
        return 0 if found.equal else 1
    close = max_error is None or found.max_error <= max_error
    return 0 if close and (min_psnr is None or found.psnr >= min_psnr) else 1
