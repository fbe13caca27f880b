"""Options of the `net` commands that several of them share, and what they make."""

from typing import TYPE_CHECKING

import click

from imgconv.arguments import whole_numbers
from imgconv.cli import options
from imgconv.cli.options import IMAGE as IMAGE
from imgconv.cli.options import (
    KINDS,
    Context,
    Decorator,
    Names,
    Parameter,
    gathered,
    options_of,
    together,
)
from imgconv.pipeline.settings import BatchSettings
from imgconv.pipeline.settings.network import (
    MapSettings,
    ModelSettings,
    NetSettings,
    PreprocessSettings,
    WeightSettings,
)

if TYPE_CHECKING:
    from imgconv.nn.models import Network


def _networks() -> list[str]:
    from imgconv.nn.models import network_names

    return network_names()


NETWORK = Names(_networks, "NETWORK")
network = click.argument("network", type=NETWORK)


class Size(click.ParamType):  # type: ignore[type-arg]
    """`224`, `240x320` or `240,320`: height and width; with `none` where a step can be left out."""

    name = "size"

    def __init__(self, one: bool = False, none: bool = False) -> None:
        self.one, self.none = one, none

    def convert(self, value: object, param: Parameter, ctx: Context) -> object:
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
    """Numbers separated by commas, one or one per channel."""

    name = "numbers"

    def convert(self, value: object, param: Parameter, ctx: Context) -> object:
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers:
            self.fail(f"{value!r}: expected a number, or one a channel", param, ctx)
        return numbers

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "X[,X…]"


KINDS |= {
    "height-width": Size(), "resize": Size(one=True, none=True), "crop": Size(none=True),
    "numbers": Floats(),
}  # fmt: skip
inputs = options.inputs
form = together((options_of(ModelSettings), options_of(PreprocessSettings, "size", "channels")))
weights = options_of(WeightSettings)
preprocess = together((options_of(ModelSettings), options_of(PreprocessSettings)))
many = options_of(
    BatchSettings, "recursive", "files_from", "null", "threads", "as_json", "quiet", "debug"
)
settings = gathered(NetSettings)


def picture(help: str) -> Decorator:
    """Where a picture goes."""
    return click.option("-o", "--output", "picture", type=IMAGE, metavar="PATH", help=help)


def only_report(maps: MapSettings) -> bool:
    """Whether a page, one file or a ranking is all that is asked for: no -o was given."""
    from click.core import ParameterSource

    source = click.get_current_context().get_parameter_source("output")
    asked = any(part is not None for part in (maps.report, maps.gather, maps.top_maps))
    return asked and source is ParameterSource.DEFAULT


def ready(name: str, settings: NetSettings) -> "tuple[Network, str]":
    """The network with its weights, and what these are; says so where they are drawn."""
    from imgconv.console import say
    from imgconv.pipeline.networks import loading

    def tell(text: str) -> None:
        if not settings.batch.quiet:
            say(f"imgconv: {text}")

    network, source = loading.ready(name, settings, tell)
    seed = settings.weights.seed
    if seed is not None:
        tell(f"{network.name}: weights are random (seed {seed}), not trained")
    return network, source
