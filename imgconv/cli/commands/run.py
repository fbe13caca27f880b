"""`imgconv run`."""

from typing import TYPE_CHECKING

import click

from imgconv.cli import options
from imgconv.cli.help import Command

if TYPE_CHECKING:
    from imgconv.pipeline.settings import Settings


@click.command(cls=Command)
@click.argument("chain")
@options.inputs
@click.option(
    "--keep", multiple=True, metavar="STEP", help="Write this step's maps too: 2, conv, *."
)
@options.settings_of("run")
def run(chain: str, inputs: tuple[str, ...], keep: tuple[str, ...], settings: "Settings") -> int:
    """Chain layers: each step's maps are the next one's input.

    \b
    imgconv run 'gray | conv gaussian:sigma=1 | conv sobel | relu | maxpool 2' photo.png
    imgconv run 'conv sobel-x stride=2 | abs' photo.png -o edges.png
    imgconv run edges.toml photo.png --keep '*' -o maps/

    Steps: gray, conv KERNEL [stride= padding= dilation= groups= mode= value= flip=
    combine= bias=],
    maxpool, avgpool, minpool, lppool, adaptive-avgpool, global-avgpool …, softmax and every
    activation. -o is a file, a folder/ or a template, as `imgconv apply --help` says.
    """
    from imgconv.batch import files
    from imgconv.cli.printing import Printer, show_files
    from imgconv.nn.chain import parse_chain
    from imgconv.pipeline.requests import chain_request

    request = chain_request(inputs, parse_chain(chain), keep, settings)
    with (
        files.opened(request) as (outcomes, total, work),
        Printer(total, settings.batch, show_files(settings, total)) as printer,
    ):
        work.watch = printer.progress.rows if total == 1 else None
        for outcome in outcomes:
            printer.tell(outcome)
        return printer.exit_code
