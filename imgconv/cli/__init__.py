"""The command line: one module a command, shared options in `options`."""

import click

from imgconv import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imgconv")
def main() -> None:
    """Filter images by convolution and look at feature maps."""
