"""Every shared option and parameter type, defined once."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command whose short options are found at once.

    Click looks for `-k` among the long options first, and compares it with every one of them for
    a message that nobody sees: 1 ms an option.
    """

    def make_parser(self, ctx: click.Context) -> Any:
        parser = super().make_parser(ctx)
        with contextlib.suppress(AttributeError):  # Click's own names, which it may change
            parser._long_opt.update(parser._short_opt)
        return parser


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers separated by commas: `3`, `3,5` (vertical, horizontal) or four sides."""

    name = "n"

    def __init__(
        self, counts: tuple[int, ...], minimum: int = 1, words: tuple[str, ...] = ()
    ) -> None:
        self.counts, self.minimum, self.words = counts, minimum, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or value in self.words:
            return value
        from imgconv.arguments import whole_numbers

        try:
            numbers = whole_numbers(value, self.counts)
            if min(numbers if isinstance(numbers, tuple) else (numbers,)) >= self.minimum:
                return numbers
        except ValueError:
            pass
        kinds = " or ".join(str(count) for count in self.counts)
        words = f"{', '.join(self.words)} or " if self.words else ""
        return self.fail(
            f"{value!r}: expected {words}{kinds} whole numbers from {self.minimum}", param, ctx
        )

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "|".join((*self.words, "N[,N]" if 2 in self.counts else "N"))


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes: a number with K, M, G or T after it, powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from imgconv.images import remote

        if isinstance(value, str) and remote.is_url(value):
            remote.check(value)
        return super().convert(value, param, ctx)


class Missing(click.ParamType):  # type: ignore[type-arg]
    """The value of missing samples: a number, `nan`, or `nodata` for what a file says."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
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

    def __init__(self, names: Callable[[], Any], metavar: str) -> None:
        self.names, self.metavar = names, metavar

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.metavar

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list["CompletionItem"]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]


def _kernels() -> list[str]:
    from imgconv.bank import preset_names

    return preset_names()


def _modes() -> tuple[str, ...]:
    from imgconv.ops.padding import MODES

    return MODES


def _formats() -> list[str]:
    from imgconv.images.formats import FORMATS

    return list(FORMATS)


def _colormaps() -> tuple[str, ...]:
    from imgconv.pictures.colormaps import NAMES

    return NAMES


IMAGE = ImagePath()
COLORMAP = Names(_colormaps, "NAME")
KERNEL = Names(_kernels, "KERNEL")
FORMAT = Names(_formats, "FORMAT")
MODE = Names(_modes, "MODE")

kernel = click.option(
    "-k",
    "--kernel",
    "kernels",
    multiple=True,
    required=True,
    type=KERNEL,
    help="Preset, name:param=value, matrix text, kernel file or - for standard input; repeatable.",
)
_KERNEL_CHANGES = (
    click.option(
        "--combine",
        type=click.Choice(["none", "magnitude", "max", "sum", "mean", "direction"]),
        help="Make one map of a kernel's maps; direction shows a gradient's way as hue. Default: "
        "the preset's rule, none for own kernels.",
    ),
    click.option(
        "--normalize",
        type=click.Choice(["sum", "abs", "none"]),
        help="Divide the weights by their sum or absolute sum.",
    ),
    click.option("--divisor", type=float, help="Divide the response by this number."),
    click.option("--bias", type=float, help="Add this number to every response, in pixel units."),
    click.option(
        "--rotate",
        type=float,
        default=0,
        metavar="DEGREES",
        help="Turn the kernel counter-clockwise: multiples of 90, of 45 for 3×3.",
    ),
    click.option("--flip", is_flag=True, help="True convolution: rotate the kernel by 180°."),
    click.option(
        "--groups",
        type=click.IntRange(1),
        help="As in Conv2d: filters and channels fall into N groups that do not mix.",
    ),
)
_WINDOW = (
    click.option("--stride", type=Numbers((1, 2)), default="1", help="Step of the window."),
    click.option(
        "--padding",
        type=Numbers((1, 2, 4), 0, ("same", "valid", "full")),
        default=None,
        help="same, valid, full, one number, vertical,horizontal or top,bottom,left,right; "
        "default: same, or half the kernel when --stride is given.",
    ),
    click.option(
        "--padding-mode",
        type=MODE,
        default="reflect",
        show_default=True,
        help="zeros, constant, reflect, replicate, circular or symmetric; OpenCV's, "
        "SciPy's and NumPy's names work too.",
    ),
    click.option(
        "--pad-value", type=float, default=0, help="The value of --padding-mode constant."
    ),
    click.option("--dilation", type=Numbers((1, 2)), default="1", help="Distance between taps."),
    click.option(
        "--anchor",
        type=Numbers((1, 2), 0),
        default=None,
        help="Row,column of the tap that lies on the output's pixel, from 0; default: the middle, "
        "of an even side the tap before it.",
    ),
)
_AFTER = (
    click.option(
        "--activation",
        metavar="NAME[:VALUE]",
        help="relu, leaky-relu:0.2, sigmoid, tanh, gelu, abs, square, softmax, …",
    ),
    click.option(
        "--pool",
        metavar="KIND:SIZE[,stride=N]",
        help="max:2, avg:3,5,stride=2,1, min:2, lp:2, global-avg, adaptive-max:7, …",
    ),
)
# Options that commands with fewer of them take one by one.
frame = click.option("--frame", metavar="N|all", help="Frame or page of a file of several.")
max_pixels = click.option(
    "--max-pixels", type=click.IntRange(1), help="Refuse larger images; default 179 million."
)


def _allow(_: click.Context, __: click.Parameter, schemes: tuple[str, ...]) -> None:
    from imgconv.images import remote

    remote.allow(schemes)


# Eager, since the types of other parameters look at URLs.
allow_scheme = click.option(
    "--allow-scheme",
    multiple=True,
    metavar="SCHEME",
    expose_value=False,
    is_eager=True,
    callback=_allow,
    help="Open URLs of this scheme too, such as http; repeatable. Default: file, memory, s3, gs, "
    "az, abfs and https.",
)
no_metadata = click.option(
    "--no-metadata", is_flag=True, help="Write no metadata: neither the input's nor our record."
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
skip_existing = click.option("--skip-existing", is_flag=True, help="Leave complete outputs alone.")
colormap = click.option(
    "--colormap",
    type=COLORMAP,
    help="Show gray maps in colours: viridis, magma, gray or coolwarm, whose middle is zero.",
)
columns = click.option("--columns", type=click.IntRange(1, 256), help="Columns of the sheet.")
tile = click.option(
    "--tile", type=click.IntRange(16, 4096), help="Long side of the sheet's tiles in pixels."
)
recursive = click.option("--recursive", is_flag=True, help="Take the images in folders and below.")
files_from = click.option(
    "--files-from", metavar="FILE|-", help="Read input names from a file, one a line."
)
null = click.option("-0", "--null", is_flag=True, help="Names in --files-from end with NUL.")
threads = click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads within one image; default: its share of the CPUs.",
)
as_json = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a result on standard output."
)
quiet = click.option("-q", "--quiet", is_flag=True, help="Only errors.")
debug = click.option("--debug", is_flag=True, help="Show tracebacks.")
_READ = (
    click.option("--gray", is_flag=True, help="Turn colours into gray first."),
    click.option("--channels", metavar="LIST", help="Keep these channels: r,g,b,a or 0,2."),
    click.option("--linear", is_flag=True, help="Work in linear light (decode and encode sRGB)."),
    click.option(
        "--alpha",
        type=click.Choice(["keep", "drop", "filter"]),
        default="keep",
        show_default=True,
        help="Opacity: copy it, drop it, or filter premultiplied colours.",
    ),
    click.option(
        "--missing",
        type=Missing(),
        help="Leave out samples of this value (nodata: of a TIFF's tag) and renormalize by the "
        "weights that remain.",
    ),
    click.option(
        "--missing-fill",
        type=click.Choice(["keep", "interpolate"]),
        default="keep",
        show_default=True,
        help="What was missing stays so, or gets the value of its neighbors.",
    ),
    frame,
    click.option(
        "--level",
        type=click.IntRange(0),
        default=0,
        help="Level of a TIFF's or Zarr's pyramid: 0 is the largest, the default.",
    ),
    max_pixels,
    allow_scheme,
)
_WRITE = (
    click.option(
        "-o",
        "--output",
        type=IMAGE,
        metavar="PATH",
        help="File, folder/, template such as '{stem}-{map}.png', or - for standard output.",
    ),
    click.option("--format", "format_", type=FORMAT, help="Output format, whatever the name says."),
    click.option(
        "--scale",
        metavar="RULE",
        help="How maps become integers: clip, minmax, abs, signed, symmetric, "
        "percentile=P or none.",
    ),
    click.option("--depth", type=click.Choice(["8", "16", "32f"]), help="Bits a sample."),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        help="JPEG and WebP quality; default: that of a JPEG input for JPEG, else 92 (WebP: 80).",
    ),
    click.option(
        "--compress",
        metavar="0…9|fast|small",
        default="fast",
        show_default=True,
        help="PNG compression.",
    ),
    click.option(
        "--pyramid", is_flag=True, help="Write smaller levels too, each half: TIFF and Zarr."
    ),
    no_metadata,
    click.option("--no-record", is_flag=True, help="Leave out our record of how it was made."),
    overwrite,
    skip_existing,
    click.option("--in-place", is_flag=True, help="Replace every input by its result."),
)
_SHOW = (
    colormap,
    click.option(
        "--report",
        metavar="PATH",
        help="Write an HTML page: input, kernels, all maps, statistics; without -o only that.",
    ),
    click.option("--sheet", is_flag=True, help="One contact sheet of all maps of an image."),
    columns,
    tile,
    click.option(
        "--share-scale", is_flag=True, help="One scale for all maps of the sheet, with a bar."
    ),
)
_BATCH = (
    recursive,
    files_from,
    null,
    click.option(
        "--stream",
        is_flag=True,
        help="Begin before the list of --files-from ends; collisions are found as names come.",
    ),
    click.option(
        "--jobs", type=click.IntRange(1), help="Files worked on at once; default: the CPUs."
    ),
    click.option(
        "--memory",
        type=Size(),
        help="Memory that one image may take, such as 500M; larger ones go in bands.",
    ),
    threads,
    click.option(
        "--since", metavar="TIME", help="Only inputs changed since a date, an age (12h) or last."
    ),
    click.option(
        "--ledger", metavar="FILE", help="Record what is done; default imgconv-ledger.sqlite."
    ),
    click.option(
        "--resume", is_flag=True, help="Go on with a ledger's batch: pass over what is done."
    ),
    click.option(
        "--cluster",
        metavar="ADDRESS|local:N",
        help="Work on a Dask cluster: tcp:// or tls://HOST:PORT, or N processes here.",
    ),
    click.option("--dry-run", is_flag=True, help="List what would be written and stop."),
    as_json,
    quiet,
    click.option("-v", "--verbose", count=True, help="Say more."),
    debug,
)


def together(options: tuple[Decorator, ...]) -> Decorator:
    """One decorator that adds options in their order."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


kernel_changes = together(_KERNEL_CHANGES)
window = together(_WINDOW)
after = together(_AFTER)
read = together(_READ)
write = together(_WRITE)
show = together(_SHOW)
batch = together(_BATCH)
inputs = click.argument("inputs", nargs=-1, type=IMAGE, metavar="INPUT…")
