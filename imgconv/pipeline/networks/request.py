"""What the options of `net features` ask for."""

from dataclasses import dataclass

from imgconv.io.formats import Format, format_named
from imgconv.nn.find import select_values
from imgconv.nn.models import Network
from imgconv.pipeline.recipe import layout_of
from imgconv.pipeline.records.network_provenance import NetworkProvenance
from imgconv.pipeline.settings.network import NetSettings
from imgconv.viz.colormaps import default_rule
from imgconv.viz.layout import Layout


@dataclass(frozen=True)
class Request:
    """What is to be written, and how.

    values: names of the network's values. made: the output format: one picture per map (or per
    layer, with `sheet`), one array (C, H, W) per layer, or one archive per image. weights: what
    they are, for people. only_report: of the page and the maps only the page. provenance: makes
    the records of outputs.
    """

    network: Network
    values: tuple[str, ...]
    made: Format
    weights: str
    settings: NetSettings
    sheet: Layout | None = None
    only_report: bool = False  # and what is told, such as the maps that fire most
    provenance: NetworkProvenance | None = None

    @property
    def scale(self) -> str:
        """How maps become pictures."""
        maps = self.settings.maps
        return maps.scale or default_rule(maps.colormap or "gray")

    @property
    def pictures(self) -> bool:
        """Whether maps become pictures, instead of arrays of what was computed."""
        return not self.made.raw


def request_of(
    network: Network, weights: str, provenance: NetworkProvenance | None, settings: NetSettings,
    patterns: tuple[str, ...], only_report: bool = False,
) -> Request:  # fmt: skip
    """What the options ask of a network with its weights. Raises UsageError."""
    return Request(
        network, select_values(network.graph, patterns), format_named(settings.maps.format),
        weights, settings, layout_of(settings.maps), only_report, provenance,
    )  # fmt: skip
