"""Help in groups, a short one and a long one, and hints at what a word was meant to be."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from imgconv.arguments import not_among

if TYPE_CHECKING:
    from click.parser import _OptionParser

# What other tools call our options, where spelling alone does not lead there.
SYNONYMS = {
    "--grey": "--gray", "--grayscale": "--gray", "--greyscale": "--gray", "--cmap": "--colormap",
    "--colourmap": "--colormap", "--colour-map": "--colormap", "--force": "--overwrite",
    "--yes": "--overwrite", "--border": "--padding-mode", "--boundary": "--padding-mode",
    "--mode": "--padding-mode", "--pad-mode": "--padding-mode", "--cval": "--pad-value",
    "--workers": "--jobs", "--processes": "--jobs", "--page": "--frame", "--out": "--output",
    "--nodata": "--missing", "--relu": "--activation", "--rate": "--dilation",
    "--strides": "--stride", "--convolve": "--flip", "--offset": "--bias", "--delta": "--bias",
}  # fmt: skip
# What other tools have as options and we as parameters of kernels.
PARAMETERS = {
    "--threshold": "-k unsharp:threshold=N", "--amount": "-k unsharp:amount=N",
    "--sigma": "-k gaussian:sigma=N", "--radius": "-k disk:radius=N",
}  # fmt: skip


class Choice(click.Choice[str]):
    """One of some words; a message names the nearest."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        return f"{value!r}, {not_among(str(value), self.choices)}"


class Option(click.Option):
    """An option that knows its place in the help.

    heading: begins a group of the help. rare: the short help leaves it out.
    """

    def __init__(
        self, *names: Any, heading: str | None = None, rare: bool = False, **facts: Any
    ) -> None:
        super().__init__(*names, **facts)
        self.heading, self.rare = heading, rare


class Command(click.Command):
    """A command whose options stand in groups; those of everyday use come with `--help` alone.

    What follows a form feed in the description belongs to the long help.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        rare = sum(getattr(param, "rare", False) for param in params)
        if rare:
            page = "-".join(ctx.command_path.split())
            long = Option(
                ["--help-all"], is_flag=True, is_eager=True, expose_value=False,
                help=f"Show {rare} more option{'s' * (rare > 1)}; see also man {page}.",
                callback=_show_all,
            )  # fmt: skip
            params.append(long)
        return params

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        short = self.help
        if ctx.meta.get(_ALL) and short:
            self.help = short.replace("\f", "")
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = short

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in self.get_params(ctx):
            heading = getattr(param, "heading", None) or heading
            if getattr(param, "rare", False) and not ctx.meta.get(_ALL):
                continue
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                groups.setdefault(heading, []).append((record[0].ljust(_COLUMN), record[1]))
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=_COLUMN + 4)

    def make_parser(self, ctx: click.Context) -> "_OptionParser":
        # Click looks for `-k` among the long options first, and compares it with every one of
        # them for a message that nobody sees: 1 ms per option.
        parser = super().make_parser(ctx)
        with contextlib.suppress(AttributeError):  # Click's own names, which it may change
            parser._long_opt.update(parser._short_opt)
        return parser

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            names = {name for param in self.params for name in param.opts}
            meant = SYNONYMS.get(error.option_name)
            if meant not in names:
                meant = PARAMETERS.get(error.option_name) if "--kernel" in names else None
            if meant is None:
                raise
            raise click.NoSuchOption(
                error.option_name, possibilities=[str(meant)], ctx=ctx
            ) from None


class Group(click.Group):
    """A group that names the command that a mistyped one was meant to be.

    elsewhere: module of each command that is imported only when it is used.
    """

    command_class = Command

    def __init__(
        self, *names: Any, elsewhere: Mapping[str, str] = MappingProxyType({}), **facts: Any
    ) -> None:
        super().__init__(*names, **facts)
        self.elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, *self.elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.elsewhere:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(self.elsewhere[cmd_name])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = click.utils.make_str(args[0])
        if not ctx.resilient_parsing and not name.startswith("-"):
            names = self.list_commands(ctx)
            if name not in names:
                ctx.fail(f"no command {name!r}, {not_among(name, names)}")
        return super().resolve_command(ctx, args)


def commands_of(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and, of a group, all below it, each with its words after `path`."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from commands_of(inner, (*path, name))


_ALL = "imgconv.cli.help.all"
_COLUMN = 22  # where the meanings begin, in every group


def _show_all(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()
