"""`imgconv run`."""

import fnmatch
from typing import TYPE_CHECKING

import click

from imgconv.cli import options

if TYPE_CHECKING:
    from imgconv.cli.outputs import Request
    from imgconv.nn.chain import Step
    from imgconv.pipeline.settings import Settings


@click.command(cls=options.Command)
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
    from imgconv.cli.files import write_all
    from imgconv.nn.chain import parse_chain

    return write_all(request_of(inputs, parse_chain(chain), keep, settings))


def request_of(
    inputs: tuple[str, ...], steps: "list[Step]", keep: tuple[str, ...], settings: "Settings"
) -> "Request":
    """What the options ask for with steps that are parsed. Raises UsageError."""
    from imgconv.cli.files import layout_of
    from imgconv.cli.outputs import Request
    from imgconv.errors import UsageError
    from imgconv.pipeline.filtering import ChainRecipe
    from imgconv.pipeline.provenance import Provenance

    kept = []
    for index, step in enumerate(steps[:-1]):
        labels = (str(index + 1), step.name, step.name.partition("-")[2], step.text)
        if any(fnmatch.fnmatchcase(label, want) for label in labels for want in keep):
            kept.append(index)
    if keep and not kept and not any(want in ("*", str(len(steps))) for want in keep):
        names = ", ".join(step.name for step in steps)
        raise UsageError(f"--keep {keep[0]}: no such step, expected one of {names}")
    recipe = ChainRecipe(
        kernels=(), read=settings.read, scale=settings.write.scale,
        colormap=settings.show.colormap, sheet=layout_of(settings.show), steps=tuple(steps),
        kept=tuple(kept),
    )  # fmt: skip
    return Request(inputs, recipe, settings, Provenance("run", settings))
