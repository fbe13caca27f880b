"""What the outputs of `net features` record of their network and weights."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from imgconv.io.digest import sha256_of
from imgconv.io.formats import Format
from imgconv.pipeline.records.origin import Origin
from imgconv.pipeline.records.record import (
    ITS_OWN,
    NO_BYTES,
    Named,
    OptionText,
    Record,
    options_of_output,
    unrepeatable,
)
from imgconv.pipeline.settings.network import NetSettings
from imgconv.typing import JSON


def named_network(text: str) -> Named:
    """A published network by its name, a chain with the numbers of its kernels, a file by digest.

    Raises UsageError, KernelError, OSError.
    """
    if text.endswith((".toml", ".onnx")):
        return Named(os.path.basename(text), sha256_of(text))
    if "|" not in text and " " not in text.strip():
        return Named(text)
    from imgconv.nn.steps import literal, parse_step

    steps = (parse_step(part, number) for number, part in enumerate(text.split("|"), 1))
    return Named(" | ".join(literal(step.text, step.loaded) for step in steps))


@dataclass(eq=False, repr=False)
class NetworkProvenance:
    """What the records of all outputs of one `net features` share.

    weights: their name and digest, made when they are first asked for; None where none are loaded.
    """

    settings: NetSettings
    patterns: tuple[str, ...]
    network: Named
    weights: Callable[[], Named] | None = None

    def record(
        self, origin: Origin, frame: int, form: Format, layer: str | None, number: str | None
    ) -> dict[str, JSON]:
        """The record of an output: of a layer's map, of a layer, or of all (None, None)."""
        if not origin.is_known:
            return unrepeatable(NO_BYTES)
        options: dict[str, OptionText] = {"layer": list(self.patterns)}
        options |= options_of_output("net features", self.settings.recorded(), form, frame)
        return Record(
            "net features", options, Named(origin.name, origin.digest), network=self.network,
            weights=self.weights() if self.weights else None, layer=layer, map=number or None,
        ).as_dict(form.note)  # fmt: skip


def provenance_of(
    network: str, source: str, settings: NetSettings, patterns: tuple[str, ...]
) -> NetworkProvenance:
    """What the outputs of a command record; source: what `with_weights` says of the weights."""
    if source == ITS_OWN or settings.weights.seed is not None:
        return NetworkProvenance(settings, patterns, named_network(network))
    origin = Origin(source)  # beside the work on the first image
    name = ITS_OWN if settings.weights.weights is None else origin.name
    return NetworkProvenance(
        settings, patterns, named_network(network), lambda: Named(name, origin.digest)
    )
