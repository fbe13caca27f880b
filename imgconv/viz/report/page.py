"""The page itself: HTML with its style, script and pictures inside, closed to everything else.

The content security policy names the hashes of the one style and the one script, lets pictures be
data only, and forbids all else, so that no name shown on the page could load or run anything even
if it were not escaped. Without scripts every picture and number is still there.
"""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgconv import __version__
from imgconv.io.scaling import scale_map
from imgconv.nn.analysis.receptive import Field
from imgconv.typing import JSON
from imgconv.viz.colormaps import DIVERGING, NAMES, colorize, table
from imgconv.viz.explain_text import number
from imgconv.viz.report.sections import Section, Statistics

_HERE = Path(__file__).parent
_INPUT_SIDE = 640


@dataclass(frozen=True)
class Page:
    """A report: its title, facts as (name, text), the input as bytes (H, W, 1 or 3), sections."""

    title: str
    facts: Sequence[tuple[str, str]]
    input: npt.NDArray[np.uint8]
    sections: Sequence[Section]


def render(page: Page) -> bytes:
    """Return the page as UTF-8."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    height, width = page.input.shape[:2]
    tables = {name: table(name).tobytes().hex() for name in NAMES}
    body = "".join(_section(section, f"layer-{n}") for n, section in enumerate(page.sections))
    links = "".join(
        f'<li><a href="#layer-{n}">{_text(section.name)}</a></li>'
        for n, section in enumerate(page.sections)
    )
    facts = "".join(
        f'<p><span class="dim">{_text(name)}:</span> <code>{_text(value)}</code></p>'
        for name, value in page.facts
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_text(page.title)}</title>
<style>{style}</style>
</head>
<body data-tables="{_json(tables)}" data-diverging="{_json(list(DIVERGING))}" \
data-input="{_json({"width": width, "height": height})}">
<a class="skip" href="#layers">Skip to the layers</a>
<header><h1>{_text(page.title)}</h1>{facts}</header>
<main>
<aside class="side" aria-label="Input and controls">
<figure class="input"><img src="{_photo(page.input)}" alt="The input, {width} by {height} pixels">\
<canvas id="field" width="{min(width, 2 * _INPUT_SIDE)}" \
height="{max(1, round(height * min(width, 2 * _INPUT_SIDE) / width))}" \
aria-hidden="true"></canvas></figure>
<p class="dim">Input, {width}×{height}</p>
<p id="readout" aria-live="polite">Point at a map, or move to it with Tab and the arrow keys, to \
read a value and see on the input what it sees.</p>
<div class="controls" hidden>{_controls()}</div>
<nav aria-label="Layers"><ol>{links}</ol></nav>
</aside>
<div id="layers" tabindex="-1">{body}</div>
</main>
<footer>Made by imgconv {_text(__version__)}. This page needs no network and sends nothing.</footer>
<script>{script}</script>
</body>
</html>
""".encode("utf-8", "replace")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _text(text: str) -> str:
    """Escaped, with control characters replaced, for text and quoted attributes."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def _json(value: JSON) -> str:
    return escape(json.dumps(value, ensure_ascii=True, separators=(",", ":")))


def _controls() -> str:
    choices = {
        "colors": ("Colors", [(name, name) for name in (*NAMES[1:], NAMES[0])]),
        "scale": ("Scale", [("own", "each map its own"), ("shared", "one for the layer")]),
        "size": ("Size", [("112px", "small"), ("192px", "medium"), ("384px", "large")]),
    }
    return "".join(
        f'<label>{title} <select name="{name}">'
        + "".join(f'<option value="{value}">{text}</option>' for value, text in options)
        + "</select></label>"
        for name, (title, options) in choices.items()
    )


def _section(section: Section, anchor: str) -> str:
    height, width = section.size
    shown = f", {len(section.tiles)} shown" if len(section.tiles) < section.total else ""
    chosen = " (those that vary most)" if shown else ""
    columns = max(1, int(np.ceil(np.sqrt(len(section.tiles)))))
    facts = [f"{section.total} map{'s' * (section.total != 1)} of {height}×{width}{shown}{chosen}"]
    if section.field:
        facts.append(_seen(section.field))
    return (
        f'<section id="{anchor}" data-layer="{_json(_layer(section, columns))}">'
        f"<h2>{_text(section.name)}</h2><p>{_text(section.what)}</p>"
        f'<p class="dim">{_text("; ".join(facts))}</p>'
        f'<div class="facts">{_table(section.statistics)}{_histogram(section.statistics)}</div>'
        f"{_kernels(section)}{_picture(section)}<h3>Maps</h3>"
        f'<div class="maps"><img class="atlas" loading="lazy" decoding="async" '
        f'src="{_png(_atlas(section, columns))}" '
        f'alt="{len(section.tiles)} maps of {_text(section.name)}, in gray"></div></section>\n'
    )


def _picture(section: Section) -> str:
    if section.picture is None:
        return ""
    height, width = section.picture.shape[:2]
    return (
        f'<h3>Over the image</h3><img src="{_photo(section.picture)}" width="{width}" '
        f'height="{height}" alt="{_text(section.name)}, over the image">'
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
    more = " and, by a gate, all of it" if field.everywhere else ""
    return f"each value sees {sizes} of the input{more}, {steps} apart"


def _table(of: Statistics) -> str:
    cells = {
        "smallest": number(of.low), "largest": number(of.high), "mean": number(of.mean),
        "deviation": number(of.deviation), "zeros": f"{of.zeros:.1%}",
    }  # fmt: skip
    if of.odd:
        cells["not finite"] = str(of.odd)
    heads = "".join(f'<th scope="col">{name}</th>' for name in cells)
    values = "".join(f"<td>{value}</td>" for value in cells.values())
    return f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{values}</tr></tbody></table>"


def _histogram(of: Statistics) -> str:
    """Bars whose heights grow with the root of their counts, so that rare values are seen."""
    largest = max(of.counts) or 1
    bars = "".join(
        f'<rect x="{n * 5}" y="{64 - height:.1f}" width="4" height="{height:.1f}"/>'
        for n, count in enumerate(of.counts)
        if (height := 62 * (count / largest) ** 0.5) > 0.05
    )
    words = f"Histogram of all values from {number(of.low)} to {number(of.high)}, square root scale"
    return (
        f'<figure class="chart"><svg class="histogram" viewBox="0 0 {5 * len(of.counts)} 64" '
        f'role="img" aria-label="{words}" preserveAspectRatio="none">{bars}</svg>'
        f"<figcaption>{number(of.low)} … {number(of.high)}, √count</figcaption></figure>"
    )


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
            f'<figure><img src="{_png(pixels)}" alt="Kernel {_text(label)}, {size}" '
            f'width="64" height="{max(1, round(64 * grid.shape[0] / grid.shape[1]))}">'
            f"<figcaption>{_text(label)}</figcaption></figure>"
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
    return _data(pixels, "png", optimize=True)


def _photo(pixels: npt.NDArray[np.uint8]) -> str:
    """The input as it is where it is small, else shrunken and as JPEG."""
    from PIL import Image

    if max(pixels.shape[:2]) <= 256:
        return _png(pixels)
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    picture = Image.fromarray(np.ascontiguousarray(flat))
    picture.thumbnail((_INPUT_SIDE, _INPUT_SIDE), Image.Resampling.BOX)
    small = np.asarray(picture)
    return _data(small.reshape(*small.shape[:2], -1), "jpeg", quality=90)


def _data(pixels: npt.NDArray[np.uint8], kind: str, **options: int) -> str:
    from PIL import Image

    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(flat)).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
