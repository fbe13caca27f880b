"""`imgconv repeat`."""

from typing import Any

import click

from imgconv.batch.settings import BatchSettings, ReadSettings, WriteSettings
from imgconv.cli import options


@click.command()
@click.argument("result", type=click.Path(path_type=str))
@click.option(
    "--input", "source", type=options.IMAGE, metavar="PATH",
    help="The input: a file, the folder that it is in, or -; default: the file of its name "
    "beside the result or in this folder.",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=options.IMAGE,
    metavar="FILE",
    help="Write the result anew; - is standard output.",
)
@click.option(
    "--check", is_flag=True,
    help="Compare with the result, exit 1 for other pixels; without -o nothing else is done.",
)  # fmt: skip
@click.option("--show", is_flag=True, help="Print the command line that does the same and stop.")
@click.option("--weights", metavar="FILE", help="The weights of a network, where none ship.")
@click.option("--network", metavar="FILE", help="The TOML or ONNX file of the network.")
@options.options_of(ReadSettings, "max_pixels")
@options.allow_scheme
@options.options_of(WriteSettings, "overwrite")
@options.options_of(BatchSettings, "threads", "as_json", "quiet", "debug")
def repeat(result: str, **given: Any) -> int:
    """Make an output again from the record in it, and see whether it is the same.

    \b
    imgconv repeat edges.png                       says whether it comes out the same
    imgconv repeat edges.png -o again.png --check
    imgconv repeat edges.png --input photos/photo.jpg
    imgconv repeat edges.png --show

    The input has to have the SHA-256 that was recorded. PNG, TIFF, JPEG, WebP, GIF, NPZ,
    safetensors and Zarr hold a record, unless they were made with --no-metadata.
    """
    from imgconv.cli.repeating import repeat_result

    return repeat_result(result, given)
