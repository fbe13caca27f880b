"""Pictures in a terminal: side by side, scaled to its cells, in its protocol.

Protocols: kitty's (sw.kovidgoyal.net/kitty/graphics-protocol), iTerm2's inline images
(iterm2.com/documentation-images.html), DEC sixel (VT3xx Graphics Programming, chapter 14), else
half blocks of Unicode, which give every cell two square pixels.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgconv.viz.terminal import Terminal

Pixels = npt.NDArray[np.uint8]

GAP = 2
NARROWEST = 24
_KITTY_CHUNK = 4096
_SHADES = " .:-=+*#%@"
_CUBE = np.array([0, 95, 135, 175, 215, 255])


@dataclass(frozen=True)
class Named:
    """A picture (H, W, 1, 2, 3 or 4) of bytes, opacity last where there is one, and its caption."""

    name: str
    pixels: Pixels


def show(
    pictures: Sequence[Named],
    terminal: Terminal,
    width: int | None = None,
    height: int | None = None,
) -> Iterator[str]:
    """Yield text that shows the pictures, as many side by side as have 24 columns each.

    width, height: cells to use, by default the terminal's, less the lines of captions and prompt.
    """
    columns = width or max(1, terminal.columns)
    beside = max(1, min(len(pictures), (columns + GAP) // (NARROWEST + GAP)))
    for start in range(0, len(pictures), beside):
        row = pictures[start : start + beside]
        room = (columns - GAP * (len(row) - 1)) // len(row)
        sizes = [_cells(one.pixels, room, height or max(4, terminal.lines - 3), terminal)
                 for one in row]  # fmt: skip
        yield from _draw(_compose(row, sizes, terminal), sizes, terminal)
        yield _captions(row, sizes)


def _cells(pixels: Pixels, columns: int, lines: int, terminal: Terminal) -> tuple[int, int]:
    """(columns, lines) that a picture takes with its proportions kept."""
    height, width = pixels.shape[:2]
    across, down = _unit(terminal)
    scale = min(columns * across / width, lines * down / height)
    return (
        max(1, min(columns, round(width * scale / across))),
        max(1, min(lines, round(height * scale / down))),
    )


def _unit(terminal: Terminal) -> tuple[int, int]:
    """Pixels a cell, across and down."""
    return {"blocks": (1, 2), "ascii": (1, 2)}.get(terminal.protocol, terminal.cell)


def _compose(row: Sequence[Named], sizes: Sequence[tuple[int, int]], terminal: Terminal) -> Pixels:
    """One picture (H, W, 4) of all of them at the pixels that their cells have."""
    from PIL import Image

    across, down = _unit(terminal)
    width = sum(size[0] for size in sizes) + GAP * (len(sizes) - 1)
    paper = Image.new("RGBA", (width * across, max(size[1] for size in sizes) * down))
    left = 0
    for one, (columns, lines) in zip(row, sizes, strict=True):
        picture = Image.fromarray(_rgba(one.pixels))
        size = (columns * across, lines * down)
        grown = size[0] >= picture.width and size[1] >= picture.height
        method = Image.Resampling.NEAREST if grown else Image.Resampling.BOX
        paper.paste(picture.resize(size, method), (left * across, 0))
        left += columns + GAP
    return np.asarray(paper)


def _rgba(pixels: Pixels) -> Pixels:
    channels = pixels.shape[2]
    opacity = pixels[..., -1:] if channels in (2, 4) else np.full_like(pixels[..., :1], 255)
    colors = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(np.concatenate([colors, opacity], axis=2))


def _draw(picture: Pixels, sizes: Sequence[tuple[int, int]], terminal: Terminal) -> Iterator[str]:
    columns = sum(size[0] for size in sizes) + GAP * (len(sizes) - 1)
    lines = max(size[1] for size in sizes)
    if terminal.protocol == "kitty":
        yield from _kitty(picture, columns, lines)
    elif terminal.protocol == "iterm":
        yield _iterm(picture, columns, lines)
    elif terminal.protocol == "sixel":
        yield _sixel(picture)
    elif terminal.protocol == "ascii" or terminal.colors == "none":
        yield from _ascii(picture)
    else:
        yield from _blocks(picture, terminal.colors == "true")


def _captions(row: Sequence[Named], sizes: Sequence[tuple[int, int]]) -> str:
    cells = []
    for one, (columns, _) in zip(row, sizes, strict=True):
        name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in one.name)
        cells.append((name if len(name) <= columns else name[: columns - 1] + "…").center(columns))
    return (" " * GAP).join(cells).rstrip() + "\n"


def _png(picture: Pixels) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", compress_level=1)
    return base64.standard_b64encode(buffer.getvalue()).decode()


def _kitty(picture: Pixels, columns: int, lines: int) -> Iterator[str]:
    data = _png(picture)
    for start in range(0, len(data), _KITTY_CHUNK):
        more = int(start + _KITTY_CHUNK < len(data))
        # a=T: transmit and show; f=100: PNG; q=2: no answer, which nobody would read.
        first = f"a=T,f=100,q=2,c={columns},r={lines}," if start == 0 else ""
        yield f"\x1b_G{first}m={more};{data[start : start + _KITTY_CHUNK]}\x1b\\"
    yield "\n"


def _iterm(picture: Pixels, columns: int, lines: int) -> str:
    size = f"width={columns};height={lines};preserveAspectRatio=0"
    return f"\x1b]1337;File=inline=1;{size}:{_png(picture)}\a\n"


def _sixel(picture: Pixels) -> str:
    """Bands of six rows; within a band a row of runs for each of up to 255 colors."""
    from PIL import Image

    flat = Image.fromarray(np.ascontiguousarray(picture[..., :3]))
    indexed = flat.quantize(255, dither=Image.Dither.NONE)
    palette = np.array(indexed.getpalette(), np.int64).reshape(-1, 3)
    index = np.asarray(indexed).astype(np.int64)
    index[picture[..., 3] < 128] = -1
    height, width = index.shape
    # P2=1: pixels that are not drawn keep the background. "1;1;w;h: square pixels and the size.
    parts = ["\x1bP0;1q", f'"1;1;{width};{height}']
    parts += [
        f"#{n};2;{r};{g};{b}" for n, (r, g, b) in enumerate(np.rint(palette / 2.55).astype(int))
    ]
    bits = 1 << np.arange(6)
    for top in range(0, height, 6):
        band = index[top : top + 6]
        rows = []
        for color in np.unique(band[band >= 0]):
            values = ((band == color) * bits[: len(band), None]).sum(axis=0)
            rows.append(f"#{color}{_runs(values)}")
        parts.append("$".join(rows) + "-" * (top + 6 < height))
    # The cursor stays on the picture's last line.
    return "".join(parts) + "\x1b\\\n"


def _runs(values: npt.NDArray[np.int64]) -> str:
    """Sixels of a row of 6-bit values, with repeats of more than three as !count."""
    edges = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], edges])
    counts = np.diff(np.concatenate([starts, [len(values)]]))
    text = []
    for value, count in zip(values[starts].tolist(), counts.tolist(), strict=True):
        sign = chr(63 + value)
        text.append(f"!{count}{sign}" if count > 3 else sign * count)
    return "".join(text)


def _blocks(picture: Pixels, full: bool) -> Iterator[str]:
    """▀ with the upper pixel's color on the lower one's; nothing where both are transparent."""
    code = _true if full else _of_256
    for top in range(0, picture.shape[0], 2):
        line, now = [], ""
        for upper, lower in zip(picture[top].tolist(), picture[top + 1].tolist(), strict=True):
            seen = (upper[3] >= 128, lower[3] >= 128)
            if seen == (True, True):
                style, sign = f"{code(38, upper)};{code(48, lower)}", "▀"
            elif seen[0] or seen[1]:
                style, sign = f"0;{code(38, upper if seen[0] else lower)}", "▀" if seen[0] else "▄"
            else:
                style, sign = "0", " "
            if style != now:
                line.append(f"\x1b[{style}m")
                now = style
            line.append(sign)
        yield "".join(line) + "\x1b[0m\n"


def _true(layer: int, color: Sequence[int]) -> str:
    return f"{layer};2;{color[0]};{color[1]};{color[2]}"


def _of_256(layer: int, color: Sequence[int]) -> str:
    """The nearest of xterm's 6×6×6 cube and 24 grays."""
    rgb = np.array(color[:3])
    cube = np.abs(_CUBE[:, None] - rgb).argmin(axis=0)
    gray = int(np.clip(round((int(rgb.sum()) / 3 - 8) / 10), 0, 23))
    in_cube = int(np.square(_CUBE[cube] - rgb).sum())
    in_gray = int(np.square(8 + 10 * gray - rgb).sum())
    best = 232 + gray if in_gray < in_cube else 16 + int(cube @ (36, 6, 1))
    return f"{layer};5;{best}"


def _ascii(picture: Pixels) -> Iterator[str]:
    light = picture[..., :3].astype(np.float64) @ (0.299, 0.587, 0.114)
    light[picture[..., 3] < 128] = 0
    cells = light.reshape(-1, 2, light.shape[1]).mean(axis=1)
    for row in np.rint(cells / 255 * (len(_SHADES) - 1)).astype(int):
        yield "".join(_SHADES[shade] for shade in row).rstrip() + "\n"
