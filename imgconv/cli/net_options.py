"""Options of the `net` commands that several of them share, and what they make."""

from dataclasses import replace
from typing import Any

import click

from imgconv.arguments import whole_numbers
from imgconv.cli import options
from imgconv.cli.options import IMAGE as IMAGE
from imgconv.cli.options import Names, options_of, together
from imgconv.errors import UsageError


def _networks() -> list[str]:
    from imgconv.networks.architectures import network_names

    return network_names()


NETWORK = Names(_networks, "NETWORK")
network = click.argument("network", type=NETWORK)
weights = together(
    (
        click.option(
            "--weights",
            metavar="FILE",
            help="Weights: safetensors, NPZ or ONNX, named as torchvision names them.",
        ),
        click.option(
            "--seed", type=click.IntRange(0), help="Draw untrained weights from a seed instead."
        ),
    )
)


class Size(click.ParamType):  # type: ignore[type-arg]
    """`224`, `240x320` or `240,320`: height and width; with `none` where a step can be left out."""

    name = "size"

    def __init__(self, one: bool = False, none: bool = False) -> None:
        self.one, self.none = one, none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or (self.none and value == "none"):
            return value
        try:
            found = whole_numbers(value.lower().replace("x", ","))
        except ValueError:
            found = 0
        pair = (found, found) if isinstance(found, int) else found
        if 1 <= min(pair) <= max(pair) <= 65536:
            return found if self.one else pair
        return self.fail(f"{value!r}: expected {self.get_metavar(param, ctx)}", param, ctx)

    def get_metavar(
        self, param: click.Parameter | None, ctx: click.Context | None = None
    ) -> str:  # fmt: skip
        return "N|HxW|none" if self.none else "N|HxW"


class Floats(click.ParamType):  # type: ignore[type-arg]
    """Numbers separated by commas, one or three."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r}: expected a number, or three for red, green, blue", param, ctx)
        return numbers

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "X[,X,X]"


class Unit(click.ParamType):  # type: ignore[type-arg]
    """Row and column of one unit, from 0."""

    name = "unit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = whole_numbers(value, (2,))
        except ValueError:
            found = 0
        if isinstance(found, tuple) and min(found) >= 0:
            return found
        return self.fail(f"{value!r}: expected ROW,COLUMN, counted from 0", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "ROW,COLUMN"


inputs = options.inputs
size = click.option("--size", type=Size(), help="The input's size, for another than the usual.")
preprocess = together(
    (
        size,
        click.option(
            "--resize", type=Size(one=True, none=True), help="Shorter side, or height and width."
        ),
        click.option("--crop", type=Size(none=True), help="Cut this much out of the middle."),
        click.option(
            "--interpolation",
            type=click.Choice(["nearest", "bilinear", "bicubic", "lanczos", "box"]),
            help="How --resize interpolates.",
        ),
        click.option(
            "--order", type=click.Choice(["rgb", "bgr", "gray"]), help="Channels of the input."
        ),
        click.option("--white", type=float, help="What white becomes: 1 or 255, before --mean."),
        click.option("--mean", type=Floats(), help="Subtracted, in the channels' order."),
        click.option("--std", type=Floats(), help="Divides, after --mean."),
        click.option("--invert/--no-invert", default=None, help="White becomes 0, black --white."),
        options_of("read", "frame", "max_pixels"),
        options.allow_scheme,
    )
)
many = options_of(
    "batch", "recursive", "files_from", "null", "threads", "as_json", "quiet", "debug"
)
replacing = options_of("write", "overwrite", "skip_existing")

pictured = together(
    (
        click.option(
            "--scale",
            metavar="RULE",
            help="How maps become pictures: minmax, clip, abs, signed, symmetric, percentile=P.",
        ),
        options_of("show", "colormap"),
        click.option("--depth", type=click.Choice(["8", "16"]), help="Bits of a gray picture."),
        click.option("--sheet", is_flag=True, help="One contact sheet a layer."),
        options_of("show", "columns", "tile"),
        click.option("--share-scale", is_flag=True, help="One scale for all maps of a layer."),
    )
)


def only_report(given: dict[str, Any]) -> bool:
    """Whether a report is all that is asked for: no -o was given."""
    from click.core import ParameterSource

    source = click.get_current_context().get_parameter_source("output")
    return given["report"] is not None and source is ParameterSource.DEFAULT


def layout(given: dict[str, Any]) -> Any:
    """The contact sheet that the options ask for. Raises UsageError for its options alone."""
    from imgconv.pictures.layout import Layout

    if given["sheet"]:
        return Layout(given["columns"], given["tile"], given["share_scale"])
    for name in ("columns", "tile"):
        if given[name]:
            raise UsageError(f"--{name}: expected --sheet with it")
    return None


def settled(name: str, given: dict[str, Any], find: Any = None) -> Any:
    """The network of a name with the preprocessing that the options ask for.

    find: what makes a chain's kernels of their texts, where no file is to be opened.
    """
    from imgconv.networks.find import find_network

    found = find_network(name, given.get("size"), find)
    changed = {
        field: given[option]
        for field, option in (
            ("interpolation", "interpolation"), ("channels", "order"), ("scale", "white"),
            ("mean", "mean"), ("std", "std"), ("invert", "invert"),
        )
        if given.get(option) is not None
    }  # fmt: skip
    for option in ("resize", "crop"):
        value = given.get(option)
        if value is not None:
            changed[option] = None if value == "none" else value
    count = found.input_shape[1]
    if count not in (1, 3):
        raise UsageError(f"{found.name} takes {count} channels, expected 1 or 3 for images")
    settings = found.preprocess
    if changed.get("channels") == "gray" and len(settings.mean) == 3:
        changed = {"mean": (0.0,), "std": (1.0,)} | changed
    return replace(found, preprocess=replace(settings, **changed))


def ready(name: str, given: dict[str, Any]) -> tuple[Any, str]:
    """The network with its weights, and what these are; says on stderr where they are drawn."""
    from imgconv.cli.boundary import say
    from imgconv.networks.find import with_weights

    if given["threads"]:
        from imgconv.jit import parallel

        parallel.set_num_threads(given["threads"])
    network, source = with_weights(settled(name, given), given["weights"], given["seed"])
    if given["seed"] is not None and not given["quiet"]:
        say(f"imgconv: {network.name}: weights are random (seed {given['seed']}), not trained")
    return network, source


def sources_of(inputs: tuple[str, ...], given: dict[str, Any], scan: Any = None) -> Any:
    """The images that a command line names. Raises UsageError where there are none.

    scan: how names become inputs, for another way than the usual.
    """
    from imgconv.batch.inputs import Scan

    if not inputs and given["files_from"] is None:
        raise UsageError("no input: expected image files, - or sample:chart")
    if inputs.count("-") + (given["files_from"] == "-") > 1:
        raise UsageError("standard input is named twice, expected once")
    scan = scan or Scan(given["recursive"])
    sources = scan.expand(inputs, given["files_from"], given["null"])
    return list(sources) if given["files_from"] is None else sources
