"""A network's summary as a table and as JSON."""

from imgconv.nn.analysis.receptive import Field
from imgconv.nn.analysis.summary import Summary
from imgconv.nn.models import Network
from imgconv.typing import JSON

HEADS = (
    "layer",
    "type",
    "output",
    "parameters",
    "mult-adds",
    "field",
    "stride",
    "center",
    "memory",
)


def table(network: Network, summary: Summary) -> str:
    """The summary for people: one line per layer, the totals, and the lecture's argument."""
    lines = [
        (
            row.name, row.kind, _times(row.shape[1:]), _count(row.parameters),
            _count(row.multiply_adds), *_field(row.field, summary.input_shape), _bytes(row.memory),
        )
        for row in summary.rows
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in (HEADS, *lines)) for i in range(len(HEADS))]
    text = [f"{network.name}: {network.variant}" if network.variant else network.name]
    if network.citation:
        text.append(f"source: {network.citation}")
    text.append(f"input {_times(summary.input_shape[1:])}\n")
    for line in (HEADS, *lines):
        cells = (
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )  # fmt: skip
        text.append("  ".join(cells).rstrip())
    text += ["", (
        f"{summary.parameters:,} parameters ({_bytes(summary.weights)} with statistics), "
        f"{summary.multiply_adds:,} multiply-adds"
    ), f"maps: {_bytes(summary.maps)} in all, at most {_bytes(summary.peak)} at once"]  # fmt: skip
    if summary.dense:
        dense = summary.dense
        text.append(
            f"{dense.layer} has {dense.convolution:,} weights. {dense.units} fully connected units "
            f"on the same input would have {_dots(dense.inputs)}·{dense.units} = "
            f"{dense.weights:,}: {dense.weights / dense.convolution:,.0f} times as many."
        )
    return "\n".join(text)


def as_json(network: Network, summary: Summary) -> dict[str, JSON]:
    """The summary as one JSON object."""
    dense = summary.dense
    return {
        "network": network.name,
        "variant": network.variant,
        "citation": network.citation,
        "input_shape": list(summary.input_shape),
        "preprocess": network.preprocess.as_dict(),
        "layers": [row.as_dict() for row in summary.rows],
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
        "weights_bytes": summary.weights,
        "maps_bytes": summary.maps,
        "peak_maps_bytes": summary.peak,
        "fully_connected_first_layer": None if dense is None else {
            "layer": dense.layer, "units": dense.units, "weights": dense.weights,
            "convolution_weights": dense.convolution,
        },
    }  # fmt: skip


def _field(field: Field | None, shape: tuple[int, ...]) -> tuple[str, str, str]:
    """Size, stride and center; one number where both axes agree, + all where gates add the rest."""
    if field is None:
        return "", "", ""
    size, stride, center = (
        _both(*(getattr(axis, name) for axis in field.axes)) for name in ("size", "jump", "start")
    )
    return size + (" + all" if field.everywhere else ""), stride, center


def _both(down: float, across: float) -> str:
    return f"{down:g}" if down == across else f"{down:g}×{across:g}"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _bytes(number: float) -> str:
    """1.2 MB, in powers of 1000."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number:g} B"


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _dots(shape: tuple[int, ...]) -> str:
    """H·W·C, as the lecture writes it."""
    return "·".join(map(str, (*shape[1:], shape[0])))
