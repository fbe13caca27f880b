"""A report's page. Without scripts every picture and number is still there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgconv.io.scaling import scale_map
from imgconv.nn.analysis.receptive import Field
from imgconv.typing import JSON
from imgconv.viz.colormaps import DIVERGING, NAMES, colorize, table
from imgconv.viz.explain.text import number
from imgconv.viz.html import attribute, document, picture, text
from imgconv.viz.report.charts import bars, histogram, statistics_table, unit_chart
from imgconv.viz.report.sections import Section, parts

_INPUT_SIDE = 640
_NAMED = 10


@dataclass(frozen=True)
class Page:
    """A report: its title, facts as (name, text), the input as bytes (H, W, 1 or 3), sections.

    classes: the likeliest ones and their probabilities.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    input: npt.NDArray[np.uint8]
    sections: Sequence[Section]
    classes: Sequence[tuple[str, float]] = ()


def render(page: Page) -> bytes:
    """Return the page as UTF-8."""
    height, width = page.input.shape[:2]
    tables = {name: table(name).tobytes().hex() for name in NAMES}
    layers, links = _parts(page.sections)
    facts = "".join(
        f'<p><span class="dim">{text(name)}:</span> <code>{text(value)}</code></p>'
        for name, value in page.facts
    )
    likely = [(name, share, f"{share:.1%}") for name, share in page.classes]
    prediction = f'<div class="prediction"><h2>Prediction</h2>{bars(likely, 1)}</div>'
    data: dict[str, JSON] = {
        "tables": tables, "diverging": list(DIVERGING), "input": {"width": width, "height": height}
    }  # fmt: skip
    body = f"""\
<a class="skip" href="#layers">Skip to the layers</a>
<header><h1>{text(page.title)}</h1>{facts}\
{prediction if likely else ""}</header>
<main>
<aside class="side" aria-label="Input and controls">
<figure class="input"><img src="{_photo(page.input)}" alt="The input, {width} by {height} pixels">\
<canvas id="field" width="{min(width, 2 * _INPUT_SIDE)}" \
height="{max(1, round(height * min(width, 2 * _INPUT_SIDE) / width))}" \
aria-hidden="true"></canvas></figure>
<p class="dim">Input, {width}×{height}</p>
<p id="readout" aria-live="polite">Point at a map, or move to it with Tab and the arrow keys, to \
read a value and to see its receptive field on the input.</p>
<div class="controls" hidden>{_controls()}</div>
<nav aria-label="Layers">{links}</nav>
</aside>
<div id="layers" tabindex="-1">{layers}</div>
</main>"""
    return document(page.title, Path(__file__).parent, data, body)


def _parts(sections: Sequence[Section]) -> tuple[str, str]:
    """The sections and the list of links to them; parts of a large network are closed at first."""
    body, links = "", ""
    for path, indices in parts([section.name for section in sections]):
        inside = "".join(_section(sections[n], f"layer-{n}") for n in indices)
        names = "".join(
            f'<li><a href="#layer-{n}">{text(sections[n].name)}</a></li>' for n in indices
        )
        if path:
            last = sections[indices[-1]]
            size = f"{last.total}×{last.size[0]}×{last.size[1]}"
            inside = (
                f'<details class="part"><summary>{text(path)} <span class="dim">{len(indices)} '
                f"layers, to {size}</span></summary>{inside}</details>"
            )
            names = f"<li><details><summary>{text(path)}</summary><ol>{names}</ol></details></li>"
        body, links = body + inside, links + names
    return body, f"<ol>{links}</ol>"


def _controls() -> str:
    choices = {
        "colors": ("Colors", [(name, name) for name in (*NAMES[1:], NAMES[0])]),
        "scale": ("Scale", [("own", "each map its own"), ("shared", "one for the layer")]),
        "size": ("Size", [("112px", "small"), ("192px", "medium"), ("384px", "large")]),
    }
    return "".join(
        f'<label>{title} <select name="{name}">'
        + "".join(f'<option value="{value}">{words}</option>' for value, words in options)
        + "</select></label>"
        for name, (title, options) in choices.items()
    )


def _section(section: Section, anchor: str) -> str:
    head = f"<h2>{text(section.name)}</h2><p>{text(section.what)}</p>"
    facts = (
        f'<div class="facts">{statistics_table(section.statistics)}'
        f"{histogram(section.statistics)}</div>"
    )
    if section.units:
        units = f'<p class="dim">{section.total} value{"s" * (section.total != 1)}</p>'
        return f'<section id="{anchor}">{head}{units}{facts}{_units(section)}</section>\n'
    height, width = section.size
    shown = f", {len(section.tiles)} shown" if len(section.tiles) < section.total else ""
    chosen = " (the ones that vary most)" if shown else ""
    columns = max(1, int(np.ceil(np.sqrt(len(section.tiles)))))
    told = [f"{section.total} map{'s' * (section.total != 1)} of {height}×{width}{shown}{chosen}"]
    if section.field:
        told.append(_seen(section.field))
    return (
        f'<section id="{anchor}" data-layer="{attribute(_layer(section, columns))}">{head}'
        f'<p class="dim">{text("; ".join(told))}</p>{facts}'
        f"{_kernels(section)}{_picture(section)}<h3>Maps</h3>"
        f'<div class="maps"><img class="atlas" loading="lazy" decoding="async" '
        f'src="{_png(_atlas(section, columns))}" '
        f'alt="{len(section.tiles)} maps of {text(section.name)}, in gray"></div></section>\n'
    )


def _units(section: Section) -> str:
    """All values of a layer as bars; the largest ones with their names."""
    finite = [(value, n) for n, value in enumerate(section.units) if np.isfinite(value)]
    best = sorted(finite, key=lambda pair: (-pair[0], pair[1]))[:_NAMED]
    names = section.names or [f"unit {n}" for n in range(len(section.units))]
    rows = [(names[n], max(value, 0.0), number(value)) for value, n in best]
    longest = max([value for value, _ in best] + [1e-30])
    return (
        f'<div class="units">{unit_chart(section.name, section.units)}'
        f"<div><h3>Largest</h3>{bars(rows, longest)}</div></div>"
    )


def _picture(section: Section) -> str:
    if section.picture is None:
        return ""
    height, width = section.picture.shape[:2]
    return (
        f'<h3>Over the image</h3><img src="{_photo(section.picture)}" width="{width}" '
        f'height="{height}" alt="{text(section.name)}, over the image">'
    )


def _layer(section: Section, columns: int) -> dict[str, JSON]:
    """What the script has to know of a section."""
    h, w = section.tiles[0].pixels.shape if section.tiles else (0, 0)
    field = None
    if section.field:
        axes = [
            {"size": axis.size, "jump": axis.jump, "start": axis.start}
            for axis in section.field.axes
        ]
        field = {"down": axes[0], "across": axes[1], "everywhere": section.field.everywhere}
    return {
        "name": section.name, "height": section.size[0], "width": section.size[1],
        "h": h, "w": w, "block": max(1, -(-section.size[0] // max(1, h))),
        "columns": columns, "field": field,
        "maps": [{"label": tile.label, "low": tile.low, "high": tile.high, "mean": tile.mean}
                 for tile in section.tiles],
    }  # fmt: skip


def _seen(field: Field) -> str:
    sizes = "×".join(f"{axis.size:g}" for axis in field.axes)
    steps = "×".join(f"{axis.jump:g}" for axis in field.axes)
    more = " and, through a gate or norm, all of it" if field.everywhere else ""
    return f"each value sees {sizes} pixels of the input{more}, in steps of {steps}"


def _kernels(section: Section) -> str:
    if not section.kernels:
        return ""
    figures = []
    heat = [grid for _, grid in section.kernels if grid.ndim == 2]
    largest = max([float(np.abs(grid).max()) for grid in heat] + [1e-30])
    for label, grid in section.kernels:
        if grid.ndim == 2:
            byte = np.dtype(np.uint8)
            samples, _ = scale_map(grid, "symmetric", 1.0, byte, (-largest, largest))
            pixels = colorize(samples, "coolwarm")
        else:
            pixels = np.rint(np.clip(grid, 0, 1) * 255).astype(np.uint8)
        size = "×".join(map(str, grid.shape[:2]))
        figures.append(
            f'<figure><img src="{_png(pixels)}" alt="Kernel {text(label)}, {size}" '
            f'width="64" height="{max(1, round(64 * grid.shape[0] / grid.shape[1]))}">'
            f"<figcaption>{text(label)}</figcaption></figure>"
        )
    note = f"blue negative, red positive, up to ±{number(largest)}" if heat else "as colors"
    return (
        f'<h3>Kernels <span class="dim">({note})</span></h3>'
        f'<div class="kernels">{"".join(figures)}</div>'
    )


def _atlas(section: Section, columns: int) -> npt.NDArray[np.uint8]:
    """All tiles in one picture, row by row."""
    if not section.tiles:
        return np.zeros((1, 1), np.uint8)
    h, w = section.tiles[0].pixels.shape
    rows = -(-len(section.tiles) // columns)
    out = np.zeros((rows * h, columns * w), np.uint8)
    for index, tile in enumerate(section.tiles):
        top, left = index // columns * h, index % columns * w
        out[top : top + h, left : left + w] = tile.pixels
    return out


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    return picture(pixels, "png", optimize=True)


def _photo(pixels: npt.NDArray[np.uint8]) -> str:
    """The input as it is where it is small, else shrunken and as JPEG."""
    from PIL import Image

    if max(pixels.shape[:2]) <= 256:
        return _png(pixels)
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    whole = Image.fromarray(np.ascontiguousarray(flat))
    whole.thumbnail((_INPUT_SIDE, _INPUT_SIDE), Image.Resampling.BOX)
    small = np.asarray(whole)
    return picture(small.reshape(*small.shape[:2], -1), "jpeg", quality=90)
