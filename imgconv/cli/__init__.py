"""The command line: one module per command in `commands`, shared options in `options`."""

import click

from imgconv import __version__
from imgconv.cli.help import Group

# Command → its sentence in the overview, kept here so that --help imports no command.
COMMANDS = {
    "apply": "Filter images with kernels and write the maps.",
    "run": "Chain layers: 'gray | conv sobel | relu | maxpool 2'.",
    "kernels": "List, show, plot and check kernels.",
    "ops": "List activations, pools and color maps.",
    "net": "Run CNNs and write the feature maps of any layer.",
    "explain": "Show a convolution or pooling step by step.",
    "show": "Preview images in the terminal, before and after.",
    "compare": "Measure how much two images differ.",
    "repeat": "Make an output again from the record that it holds.",
    "jobs": "Show how far an interrupted batch has come.",
    "warmup": "Compile the loops of the common commands now.",
    "doctor": "Show CPU, threads, versions, codecs and the store.",
    "completion": "Print a shell completion script.",
}


ELSEWHERE = {name: f"imgconv.cli.commands.{name}" for name in COMMANDS}
ELSEWHERE["net"] += ".group"


class Overview(Group):
    """Shows the commands in their order, without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@click.group(
    cls=Overview, elsewhere=ELSEWHERE, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="imgconv")
def main() -> None:
    """Filter images by convolution and look at feature maps.

    \b
    imgconv apply -k sobel sample:photo -o edges.png
    imgconv apply -k gaussian:sigma=2 photos/*.jpg -o soft/
    imgconv run 'gray | conv sobel | relu | maxpool 2' photo.png -o maps.png
    imgconv kernels list

    Manual pages: man imgconv, man imgconv-apply, man imgconv-net-features, …
    """
