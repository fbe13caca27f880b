"""Make the gallery: every preset's kernel, and what it does to a photograph and the test chart.

    python docs/make_gallery.py

Writes docs/gallery.md, the pictures in docs/gallery/, and those of the README.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from imgconv.io.formats import FORMATS
from imgconv.io.reading import read_images
from imgconv.io.writing import encode
from imgconv.kernels import generators, get_kernel, presets
from imgconv.nn.chain import parse_chain
from imgconv.ops.pool_text import parse_pool
from imgconv.pipeline.recipe import ChainRecipe, Recipe
from imgconv.pipeline.results import results_of
from imgconv.pipeline.settings import ReadSettings
from imgconv.pipeline.whole import maps_of
from imgconv.shapes import Window
from imgconv.viz.colormaps import NAMES, colorize
from imgconv.viz.direction import hue
from imgconv.viz.kernel_plot import draw as plot
from imgconv.viz.layout import Layout
from imgconv.viz.sheet import Tile, draw

DOCS = Path(__file__).parent
SIZE = 192
BYTE = np.dtype(np.uint8)

FAMILIES = {
    "edges": ("Edges", "First derivatives, and the magnitude or maximum of several."),
    "second-order": ("Second derivatives", "Laplacians, sharpening, relief, lines."),
    "smoothing": ("Smoothing", "Means and binomial and Gaussian blurs."),
    "transforms": ("Transforms", "Filters of a block transform; with a stride, the transform."),
    "parametric": ("Parametric kernels", "Made for the parameters that you give."),
}
ACTIVATIONS = ("relu", "leaky-relu:0.2", "sigmoid", "tanh", "abs", "square", "softplus", "gelu")
POOLS = ("max:4", "avg:4", "min:4", "lp:4", "max:9,stride=1,padding=4", "adaptive-avg:16")
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
CHAIN = "gray | conv gaussian:sigma=1 | conv sobel | maxpool 2 | conv log:sigma=2 | relu"

INTRO = """# Gallery

What every kernel that comes with imgconv does to a photograph and to a test chart.
`docs/make_gallery.py` makes this page from the kernels themselves; `imgconv kernels show NAME`
prints a matrix and its source. Each picture is what such a command writes, at this size:

```sh
imgconv apply -k sobel sample:photo:192 -o cat.png
imgconv apply -k sobel sample:chart:192 -o chart.png
```
"""


def sample(kind, size=SIZE):
    """The test chart or the photograph as an image."""
    return next(read_images(f"sample:{kind}:{size}"))


def result(image, **recipe):
    """The first map of a recipe as bytes."""
    return next(maps_of(image, Recipe(**recipe), BYTE, raw=False)).samples


def applied(spec, image):
    """What `apply -k SPEC` shows of an image: one map, or the sheet's first of a bank."""
    kernel = get_kernel(spec)
    if kernel.combine == "none" and len(kernel.weights) > 1:
        return [
            Tile(f"{kernel.name.partition(':')[0]} {found.name}", found.samples)
            for found in maps_of(image, Recipe((kernel,)), BYTE, raw=False)
        ]
    return [Tile(spec, result(image, kernels=(kernel,)))]


def write(name, tiles, columns=6, tile=SIZE):
    """Write a sheet and return the Markdown that shows it."""
    save(DOCS / "gallery" / f"{name}.webp", draw(tiles, Layout(columns, tile)))
    return f"![{name}](gallery/{name}.webp)\n"


def save(path, pixels, quality=80):
    """Write a picture as WebP."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(bytes(p) for p in encode(pixels, FORMATS["webp"], quality=quality)))


def family(name, specs):
    """The section of a family: what it is, its kernels, what they do, and their names."""
    title, sentence = FAMILIES[name]
    kernels = [
        Tile(spec, plot(kernel)) for spec, kernel in zip(specs, map(get_kernel, specs), strict=True)
    ]
    shown = [
        write(f"{name}-{kind}", [tile for spec in specs for tile in applied(spec, image)[:16]])
        for kind, image in (("photo", sample("photo")), ("chart", sample("chart")))
    ]
    listed = "\n".join(f"- `{spec}`: {get_kernel(spec).description}" for spec in specs)
    return "\n".join(
        [f"## {title}\n", f"{sentence}\n", write(f"{name}-kernels", kernels, 8, 128),
         *shown, f"{listed}\n"]
    )  # fmt: skip


def colors():
    """Color maps and directions."""
    image = sample("photo")
    tiles = []
    for name in NAMES:
        recipe = Recipe((get_kernel("gaussian-dx:sigma=2"),), colormap=name)
        scaled = next(maps_of(image, recipe, BYTE, raw=False))
        tiles.append(Tile(f"--colormap {name}", colorize(scaled.samples, name)))
    kernel = replace(get_kernel("scharr"), combine="direction")
    tiles.append(Tile("--combine direction", result(image, kernels=(kernel,))))
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    wheel = hue(np.degrees(np.arctan2(-y, x)) % 360, 255 * (np.hypot(x, y) < 1))
    tiles.append(Tile("the directions' hues", np.rint(wheel).astype(np.uint8)))
    text = "Maps in colors, and gradients by their direction:\n"
    return "\n".join(["## Colors\n", text, write("colors", tiles)])


def layers():
    """Activations, pools, padding and a chain."""
    image, edge = sample("photo"), replace(get_kernel("sobel-x"), divisor=64.0)
    activations = []
    for name in ACTIVATIONS:
        read = ReadSettings(gray=True)
        maps = result(image, kernels=(edge,), read=read, activation=name, scale="minmax")
        activations.append(Tile(name, maps))
    identity = get_kernel("identity")
    pools = [Tile(text, result(image, kernels=(identity,), pool=parse_pool(text)))
             for text in POOLS]  # fmt: skip
    small = replace(image, pixels=np.ascontiguousarray(image.pixels[:48, :48]))
    padded = [
        Tile(mode, result(small, kernels=(identity,), window=Window(padding=24, padding_mode=mode)))
        for mode in MODES
    ]
    steps = parse_chain(CHAIN)
    recipe = ChainRecipe((), scale="minmax", steps=tuple(steps), kept=tuple(range(len(steps) - 1)))
    maps = maps_of(image, recipe, BYTE, raw=False)
    chain = [Tile(step.text, found.samples) for step, found in zip(steps, maps, strict=True)]
    return "\n".join([
        "## Layers\n",
        "Activations after `-k sobel-x --divisor 64`, from their smallest value to their largest "
        "(`--scale minmax`):\n", write("activations", activations, 4),
        "Pools:\n", write("pools", pools), "Padding modes, 24 pixels around a 48×48 corner:\n",
        write("padding", padded, 5), f"A chain, step by step: `imgconv run '{CHAIN}'`:\n",
        write("chain", chain),
    ])  # fmt: skip


def examples():
    """The parametric kernels, each with the parameters of its example."""
    return [maker.example or name for name, maker in generators.GENERATORS.items()]


def readme():
    """The README's pictures: the photograph before and after Sobel, and Gabor's bank."""
    photo = sample("photo", 451)
    sobel = Tile("imgconv apply -k sobel", result(photo, kernels=(get_kernel("sobel"),)))
    pair = [Tile("sample:photo", photo.pixels), sobel]
    save(DOCS / "before-after.webp", draw(pair, Layout(2, 451)), 85)
    bank = (get_kernel("gabor-bank:orientations=8,lambda=8"),)
    recipe = Recipe(bank, read=ReadSettings(gray=True), sheet=Layout(3, 300))
    sheet = next(results_of(sample("photo", 300), recipe, BYTE, raw=False))
    save(DOCS / "gabor.webp", sheet.samples)


def main():
    for stale in (DOCS / "gallery").glob("*.webp"):
        stale.unlink()
    readme()
    sections = [family(name, specs) for name, specs in presets.families()]
    sections += [family("parametric", examples()), colors(), layers()]
    (DOCS / "gallery.md").write_text("\n".join([INTRO, *sections]))


if __name__ == "__main__":
    main()
