"""What makes Click options of the tables of settings, and the types of their texts."""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args, get_origin

import click

from imgconv.cli.help import Choice, Option
from imgconv.pipeline.settings import COMMANDS, Settings
from imgconv.pipeline.settings.table import Range, Row, Table, filled, flag_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Parameter = click.Parameter | None
Context = click.Context | None
Function = Callable[..., object]
Decorator = Callable[[Function], Function]


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers separated by commas: `3`, `3,5` (vertical, horizontal) or four sides."""

    name = "n"

    def __init__(
        self, counts: tuple[int, ...], minimum: int = 1, words: tuple[str, ...] = ()
    ) -> None:
        self.counts, self.minimum, self.words = counts, minimum, words

    def convert(self, value: object, param: Parameter, ctx: Context) -> object:
        if not isinstance(value, str) or value in self.words:
            return value
        from imgconv.arguments import whole_numbers

        try:
            numbers = whole_numbers(value, self.counts)
            if min(numbers if isinstance(numbers, tuple) else (numbers,)) >= self.minimum:
                return numbers
        except ValueError:
            pass
        if self.words and _is_mode(value):
            return self.fail(f"{value!r}: did you mean --padding-mode {value}?", param, ctx)
        kinds = " or ".join(str(count) for count in self.counts)
        words = f"{', '.join(self.words)} or " if self.words else ""
        return self.fail(
            f"{value!r}: expected {words}{kinds} whole numbers from {self.minimum}", param, ctx
        )

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        numbers = "N" if self.counts == (1,) else "N[,N]" if 1 in self.counts else "N,N"
        return "|".join((*self.words, numbers))


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes: a number with K, M, G or T after it, powers of 1024."""

    name = "size"

    def convert(self, value: object, param: Parameter, ctx: Context) -> object:
        if not isinstance(value, str):
            return value
        number, unit = value.rstrip("KMGTkmgtiB"), value.lstrip("0123456789.").upper()[:1]
        try:
            found = int(float(number) * 1024 ** ("KMGT".index(unit) + 1 if unit else 0))
        except ValueError:
            found = 0
        if found < 1 << 20:
            self.fail(f"{value!r}: expected a size from 1M, such as 500M or 2G", param, ctx)
        return found

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "SIZE"


class ImagePath(click.Path):
    """A path or URL of an image; a URL that is not to be opened is refused before any work."""

    def __init__(self) -> None:
        super().__init__(path_type=str)

    def convert(
        self, value: str | os.PathLike[str], param: Parameter, ctx: Context
    ) -> str | bytes | os.PathLike[str]:
        from imgconv.io import remote

        if isinstance(value, str) and remote.is_url(value):
            remote.check(value)
        return super().convert(value, param, ctx)


class Missing(click.ParamType):  # type: ignore[type-arg]
    """The value of missing samples: a number, `nan`, or `nodata` for what a file says."""

    name = "value"

    def convert(self, value: object, param: Parameter, ctx: Context) -> object:
        if not isinstance(value, str) or value == "nodata":
            return value
        try:
            return float(value)
        except ValueError:
            return self.fail(f"{value!r}: expected a number, nan or nodata", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NUMBER|nan|nodata"


class Names(click.ParamType):  # type: ignore[type-arg]
    """Text that completes from a list made when it is asked for."""

    name = "name"

    def __init__(self, names: Callable[[], Iterable[str]], metavar: str) -> None:
        self.names, self.metavar = names, metavar

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.metavar

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list["CompletionItem"]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]


def _kernels() -> list[str]:
    from imgconv.kernels import preset_names

    return preset_names()


def _modes() -> tuple[str, ...]:
    from imgconv.ops.padding import MODES

    return MODES


def _is_mode(text: str) -> bool:
    from imgconv.ops.padding import ALIASES, MODES

    return text.lower().replace("_", "-") in (*MODES, *ALIASES)


def _formats() -> list[str]:
    from imgconv.io.formats import FORMATS

    return list(FORMATS)


def _colormaps() -> tuple[str, ...]:
    from imgconv.viz.colormaps import NAMES

    return NAMES


IMAGE = ImagePath()
COLORMAP = Names(_colormaps, "NAME")
KERNEL = Names(_kernels, "KERNEL")
FORMAT = Names(_formats, "FORMAT")
MODE = Names(_modes, "MODE")
KINDS: dict[str, "click.ParamType[object]"] = {
    "image": IMAGE, "kernel": KERNEL, "colormap": COLORMAP, "format": FORMAT, "mode": MODE,
    "missing": Missing(), "size": Size(), "pair": Numbers((1, 2)), "place": Numbers((1, 2), 0),
    "unit": Numbers((2,), 0), "padding": Numbers((1, 2, 4), 0, ("same", "valid", "full")),
}  # fmt: skip


def _type(row: Row, kind: object) -> "click.ParamType[object] | type[float] | type[str]":
    """What reads an option's text. kind: its field's type."""
    if isinstance(row.kind, Range):
        return click.IntRange(*row.kind)
    if row.kind:
        return KINDS[row.kind]
    parts = (kind, *get_args(kind))
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    return Choice(choices) if choices else float if float in parts else str


def _option(name: str, row: Row, kind: object) -> Decorator:
    """The Click option of a row. kind: its field's type."""
    option = functools.partial(
        click.option, *(row.names or (f"--{flag_of(name, row)}",)), name,
        cls=Option, help=row.help, metavar=row.metavar, heading=row.heading, rare=row.rare,
    )  # fmt: skip
    if row.is_flag:
        return option(is_flag=True, default=row.default)
    if row.kind == "count":
        return option(count=True)
    return option(type=_type(row, kind), default=row.default, show_default=row.shown)


def options_of(table: type[Table], *names: str) -> Decorator:
    """Give a command a table's options, or those of some names, as parameters of these names."""
    types = table.types()
    chosen = [_option(name, table.ROWS[name], types[name]) for name in names or table.ROWS]
    return together((*chosen, allow_scheme) if "frame" in table.ROWS and not names else chosen)


def gathered(kind: type[Table] | type[NamedTuple], name: str = "settings") -> Decorator:
    """Give a command's function the values of a table's options, or of several, as one argument."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def run(**values: object) -> object:
            settings = filled(kind, values)
            return function(**values, **{name: settings})

        return run

    return decorate


def settings_of(command: str) -> Decorator:
    """Give a command its tables of options, and its function one argument `settings` of them."""
    return together((*map(options_of, COMMANDS[command]), gathered(Settings)))


def together(options: Sequence[Decorator]) -> Decorator:
    """One decorator that adds options in their order."""

    def apply(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


def _allow(_: click.Context, __: click.Parameter, schemes: tuple[str, ...]) -> None:
    from imgconv.io import remote

    remote.allow(schemes)


# Eager, since the types of other parameters look at URLs.
allow_scheme = click.option(
    "--allow-scheme",
    multiple=True,
    metavar="SCHEME",
    expose_value=False,
    cls=Option,
    rare=True,
    is_eager=True,
    callback=_allow,
    help="Also open URLs of this scheme, such as http; repeatable. Default: file, memory, s3,"
    " gs, az, abfs and https.",
)
kernel = click.option(
    "-k",
    "--kernel",
    "kernels",
    cls=Option,
    heading="Kernel",
    multiple=True,
    required=True,
    type=KERNEL,
    help="Preset, name:param=value, matrix text, kernel file or - for standard input; repeatable.",
)
inputs = click.argument("inputs", nargs=-1, type=IMAGE, metavar="INPUT…")
