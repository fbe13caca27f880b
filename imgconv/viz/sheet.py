"""Contact sheets: many maps in one picture, each with its label and the values it spans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imgconv.errors import LimitError
from imgconv.io.scaling import limits_of, scale_map
from imgconv.typing import Array
from imgconv.viz.colormaps import colorize, table
from imgconv.viz.explain.text import number
from imgconv.viz.layout import Layout
from imgconv.viz.lettering import Font, drawable, fit, fit_numbers, font

if TYPE_CHECKING:
    from PIL import Image

GUTTER = 8
LINE = 16
FONT = 12
BAR = 14
PAPER = (255, 255, 255)
INK = (32, 36, 44)
DIM = (110, 116, 128)

# A sheet nears this width; tiles are between the bounds, so that seven maps are seen well and
# 2048 still fit into one picture.
WIDTH = 1280
TILES = (32, 320)
MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Tile:
    """A picture uint8 (H, W, 1 or 3), its label, and a second line such as its range.

    bar: of a picture in colors that has a scale of its own.
    """

    label: str
    picture: npt.NDArray[np.uint8]
    note: str = ""
    bar: "Bar | None" = None


@dataclass(frozen=True)
class Shown:
    """A map (H, W, C) with its label and `--scale`."""

    label: str
    values: Array
    rule: str


@dataclass(frozen=True)
class Bar:
    """The color bar of a scale: its colors from low to high and the two values."""

    colormap: str
    low: float
    high: float


def draw_maps(
    maps: Sequence[Shown],
    white: float,
    layout: Layout,
    colormap: str | None = None,
    first: Sequence[Tile] = (),
    title: str = "",
) -> npt.NDArray[np.uint8]:
    """Return the (H, W, 3) sheet of maps, after the tiles of `first`, under a title.

    white: the input's, as `scale_map` takes it. Maps of three channels are colors unless there
    is a color map; other counts become one tile per channel. On a shared scale, maps of unlike
    rules all go from the smallest to the largest value.
    Raises LimitError when the sheet would have more than MAX_PIXELS pixels.
    """
    planes = [plane for shown in maps for plane in _planes(shown, colormap)]
    limits, bar = None, None
    if layout.shared and planes:
        rules = {plane.rule for plane in planes}
        rule = rules.pop() if len(rules) == 1 else "minmax"
        planes = [replace(plane, rule=rule) for plane in planes]
        spans = [limits_of(plane.values, rule, white) for plane in planes]
        limits = (min(low for low, _ in spans), max(high for _, high in spans))
        bar = Bar(colormap or "gray", *limits)
    tiles = list(first)
    for plane in planes:
        own = limits or limits_of(plane.values, plane.rule, white)
        samples, _ = scale_map(plane.values, plane.rule, white, np.dtype(np.uint8), limits)
        picture, note = samples, range_note(plane.values)
        if samples.shape[2] == 1:
            picture = colorize(samples, colormap or "gray", plane.values)
        scale = Bar(colormap, *own) if colormap and not bar else None
        if not (scale or bar or _spans(plane.values, own)):
            note += f", shown {number(own[0])} … {number(own[1])}"
        tiles.append(Tile(plane.label, picture, note, scale))
    return draw(tiles, layout, bar, title)


def draw(
    tiles: Sequence[Tile], layout: Layout, bar: Bar | None = None, title: str = ""
) -> npt.NDArray[np.uint8]:
    """Return the (H, W, 3) sheet of tiles, row by row, under a title.

    bar: of a scale that all tiles share. Raises LimitError when the sheet would have more than
    MAX_PIXELS pixels.
    """
    from PIL import Image, ImageDraw

    side, columns = _arrange(tiles, layout)
    sizes = [_fitted(tile.picture.shape, side) for tile in tiles]
    wide = max([size[0] for size in sizes], default=0)
    tall = max([size[1] for size in sizes], default=0)
    strip = BAR + LINE if any(tile.bar for tile in tiles) else 0
    caption = LINE * (1 + any(tile.note for tile in tiles)) + strip
    width = GUTTER + columns * (wide + GUTTER)
    head = GUTTER + LINE * bool(title)
    height = head + -(-len(tiles) // columns) * (tall + caption + GUTTER)
    height += (BAR + LINE + GUTTER) * bool(bar)
    if width * height > MAX_PIXELS:
        raise LimitError(
            f"sheet: {width}×{height} pixels are more than {MAX_PIXELS:,}; "
            "expected fewer maps or a smaller --tile"
        )
    paper = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(paper)
    letters = font(FONT)
    pen.text((GUTTER, GUTTER - 2), fit(title, width - 2 * GUTTER, pen, letters), INK, letters)
    for index, (tile, size) in enumerate(zip(tiles, sizes, strict=True)):
        left = GUTTER + index % columns * (wide + GUTTER)
        top = head + index // columns * (tall + caption + GUTTER)
        paper.paste(_resized(tile.picture, size), (left, top))
        below = top + size[1] + 1
        pen.text((left, below), fit(tile.label, wide, pen, letters), fill=INK, font=letters)
        note = fit_numbers(tile.note, wide, pen, letters)
        pen.text((left, below + LINE), note, fill=DIM, font=letters)
        if tile.bar:
            _draw_bar(paper, (left, below + 2 * LINE + 2), size[0], letters, tile.bar)
    if bar:
        place = GUTTER, paper.height - GUTTER - LINE - BAR
        _draw_bar(paper, place, min(paper.width - 2 * GUTTER, 256), letters, bar)
    return np.asarray(paper)


def _planes(shown: Shown, colormap: str | None) -> list[Shown]:
    channels = shown.values.shape[2]
    if channels == 1 or (channels == 3 and not colormap):
        return [shown]
    return [
        Shown(f"{shown.label} {c}".strip(), shown.values[..., c : c + 1], shown.rule)
        for c in range(channels)
    ]


def range_note(values: Array) -> str:
    """The values that a map spans, as its caption says it."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no finite value"
    odd = "" if finite.size == values.size else f", {values.size - finite.size} not finite"
    return f"{number(finite.min())} … {number(finite.max())}{odd}"


def _spans(values: Array, limits: tuple[float, float]) -> bool:
    """Whether black and white are the least and the greatest value, to the digits of a note."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return True
    return [number(end) for end in (finite.min(), finite.max())] == [number(v) for v in limits]


def _arrange(tiles: Sequence[Tile], layout: Layout) -> tuple[int, int]:
    """(long side of a tile, columns)."""
    count = max(1, len(tiles))
    tallest = max([tile.picture.shape[0] / max(1, tile.picture.shape[1]) for tile in tiles] or [1])
    columns = layout.columns or int(np.ceil(np.sqrt(count * min(2.0, max(0.5, tallest)))))
    columns = min(columns, count)
    side = layout.tile or int(np.clip(WIDTH // columns - GUTTER, *TILES))
    return side, columns


def _fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """(width, height) in a square of `side`: whole multiples of small maps, shrunken large ones."""
    height, width = shape[:2]
    longest = max(height, width)
    if longest <= side:
        factor = side // longest
        return width * factor, height * factor
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def _resized(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> "Image.Image":
    from PIL import Image

    pixels = picture[..., 0] if picture.shape[2] == 1 else picture
    made = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    grown = size[0] >= made.width
    return made.resize(size, Image.Resampling.NEAREST if grown else Image.Resampling.BOX)


def _draw_bar(
    paper: "Image.Image", place: tuple[int, int], length: int, letters: Font, bar: Bar
) -> None:
    from PIL import Image, ImageDraw

    pen = ImageDraw.Draw(paper)
    left, top = place
    colors = table(bar.colormap)[None, np.arange(length) * 256 // length]
    strip = np.ascontiguousarray(np.broadcast_to(colors, (BAR, length, 3)))
    paper.paste(Image.fromarray(strip), place)
    below, right = top + BAR + 2, left + length
    pen.text((left, below), drawable(number(bar.low)), fill=INK, font=letters)
    pen.text((right, below), drawable(number(bar.high)), fill=INK, font=letters, anchor="ra")
    if bar.low < 0 < bar.high:
        zero = left + length * -bar.low / (bar.high - bar.low)
        pen.line((zero, top, zero, top + BAR + 2), fill=INK)
        pen.text((zero, below), "0", fill=INK, font=letters, anchor="ma")
