"""`imgconv repeat`."""

import click

from imgconv.cli import options
from imgconv.pipeline.repeat_settings import AgainSettings, RepeatSettings
from imgconv.pipeline.settings import BatchSettings, ReadSettings, WriteSettings


@click.command()
@click.argument("result", type=click.Path(path_type=str))
@options.options_of(AgainSettings)
@options.options_of(ReadSettings, "max_pixels")
@options.allow_scheme
@options.options_of(WriteSettings, "overwrite")
@options.options_of(BatchSettings, "threads", "as_json", "quiet", "debug")
@options.gathered(RepeatSettings.of)
def repeat(result: str, settings: RepeatSettings) -> int:
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

    return repeat_result(result, settings)
