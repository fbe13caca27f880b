"""Numbers as tables and bars in SVG: no script draws them, and no style attribute is needed."""

from collections.abc import Iterable, Sequence

import numpy as np

from imgconv.viz.explain.text import number
from imgconv.viz.html import text
from imgconv.viz.report.sections import Statistics

_TALL = 64
_CHART = 120
_MOST_BARS = 1024


def statistics_table(of: Statistics) -> str:
    """The table of a layer's statistics."""
    cells = {
        "smallest": number(of.low), "largest": number(of.high), "mean": number(of.mean),
        "deviation": number(of.deviation), "zeros": f"{of.zeros:.1%}",
    }  # fmt: skip
    if of.odd:
        cells["not finite"] = str(of.odd)
    heads = "".join(f'<th scope="col">{name}</th>' for name in cells)
    values = "".join(f"<td>{value}</td>" for value in cells.values())
    return f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{values}</tr></tbody></table>"


def histogram(of: Statistics) -> str:
    """Bars whose heights grow with the root of their counts, so that rare values are seen."""
    largest = max(of.counts) or 1
    shapes = "".join(
        f'<rect x="{n * 5}" y="{_TALL - height:.1f}" width="4" height="{height:.1f}"/>'
        for n, count in enumerate(of.counts)
        if (height := (_TALL - 2) * (count / largest) ** 0.5) > 0.05
    )
    words = f"Histogram of all values from {number(of.low)} to {number(of.high)}, square root scale"
    return (
        f'<figure class="chart"><svg class="histogram" viewBox="0 0 {5 * len(of.counts)} {_TALL}" '
        f'role="img" aria-label="{words}" preserveAspectRatio="none">{shapes}</svg>'
        f"<figcaption>{number(of.low)} … {number(of.high)}, √count</figcaption></figure>"
    )


def bars(rows: Iterable[tuple[str, float, str]], longest: float) -> str:
    """A list of names, each with a bar and its value in words; `longest` fills the bar's place."""
    items = "".join(
        f'<li><span>{text(name)}</span><svg viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect width="{100 * value / longest:.2f}" height="10"/></svg>'
        f"<span>{text(words)}</span></li>"
        for name, value, words in rows
    )
    return f'<ol class="bars">{items}</ol>'


def unit_chart(name: str, units: Sequence[float]) -> str:
    """Bars up or down from the line of zero, one per unit; what is not finite has none.

    Of more units than fit, each bar is the one of its neighbors that is farthest from zero.
    """
    values = np.nan_to_num(np.array(units), posinf=0, neginf=0)
    together = -(-len(values) // _MOST_BARS)
    blocks = np.pad(values, (0, -len(values) % together)).reshape(-1, together)
    values = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(axis=1)]
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = _CHART / ((high - low) or 1.0)
    zero = high * scale
    # Narrow bars without gaps: a gap under a pixel would only gray them.
    width = 0.8 if len(values) <= 256 else 1
    paths = {True: "", False: ""}
    for n, value in enumerate(values):
        if value:
            paths[bool(value > 0)] += f"M{n} {zero:.1f}v{-value * scale:.1f}h{width}V{zero:.1f}z"
    words = f"{text(name)}: {len(units)} values from {number(low)} to {number(high)}"
    each = f"; each the strongest of {together}" if together > 1 else ""
    return (
        f'<figure class="chart"><svg class="column" viewBox="0 0 {len(values)} {_CHART}" '
        f'role="img" aria-label="{words}" preserveAspectRatio="none">'
        f'<path d="{paths[True]}"/><path class="below" d="{paths[False]}"/></svg>'
        f"<figcaption>unit 0 … {len(units) - 1}; bars from {number(low)} to {number(high)}{each}"
        "</figcaption></figure>"
    )
