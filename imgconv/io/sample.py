"""`sample:` inputs: a photograph, and charts drawn by formula."""

import os
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from imgconv.errors import LimitError, UsageError
from imgconv.io.digit import STROKES, digit
from imgconv.io.image import Image

DEFAULT_SIZE = 512
LARGEST = 8192
PHOTO_WIDTH = 451

Plane = npt.NDArray[np.float64]


def sample(name: str, max_pixels: int = LARGEST**2) -> Image:
    """Return the sample [sample:]NAME[:SIZE], RGB or gray uint8.

    photo: a cat, photographed by Stéfan van der Walt (CC0), 451×300; SIZE is that of its longer
    side. chart: zone plate, Siemens star, ramps, text, edges and noise in one, SIZE × SIZE.
    zoneplate, star, ramp, noise, edges: one of them. digit, digit-0 … digit-9: a digit drawn with
    a pen.
    Raises UsageError for an unknown name or a size outside 16…8192, 16…451 of the photo.
    """
    name = name.removeprefix("sample:")
    kind, _, size_text = name.partition(":")
    kind = kind or "chart"
    if kind not in (names := ("photo", "chart", *PARTS)):
        from imgconv.arguments import not_among

        raise UsageError(f"sample:{name}: {not_among(kind, names)}")
    default, largest = (PHOTO_WIDTH,) * 2 if kind == "photo" else (DEFAULT_SIZE, LARGEST)
    size = int(size_text) if size_text.isdigit() else 0 if size_text else default
    if not 16 <= size <= largest:
        raise UsageError(f"sample:{name}: size {size_text}, expected a number from 16 to {largest}")
    if size * size > max_pixels:
        raise LimitError(
            f"sample:{name}: {size}×{size} pixels are more than the limit of {max_pixels}; "
            "--max-pixels raises it"
        )
    if kind == "photo":
        pixels = photo(size)
    elif kind == "chart":
        pixels = chart(size)
    else:
        pixels = _bytes(PARTS[kind](size))[..., None]
    return Image(pixels, name=f"sample:{name}", format="sample")


def photo(size: int) -> npt.NDArray[np.uint8]:
    """The photograph, (H, W, 3); size: of its longer side, at most its own.

    scikit-image's `data.chelsea()`, as a JPEG of quality 95 without subsampled colors.
    """
    from PIL import Image as Pillow

    path = os.path.join(os.path.dirname(__file__), "chelsea.jpg")
    with Pillow.open(path) as picture:
        if size < picture.width:
            height = round(picture.height * size / picture.width)
            return np.asarray(picture.resize((size, height), Pillow.Resampling.LANCZOS))
        return np.asarray(picture)


def zoneplate(size: int) -> Plane:
    """cos(k r²), its frequency growing from 0 to Nyquist at the middle of each edge."""
    y, x = _grid(size)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * size / 4 * (x**2 + y**2)))


def star(size: int) -> Plane:
    """Siemens star of 36 spokes."""
    y, x = _grid(size)
    spokes = 0.5 + 0.5 * np.sign(np.sin(36 * np.arctan2(y, x)))
    return np.asarray(np.where(np.hypot(x, y) < 0.95, spokes, 0.5))


def ramp(size: int) -> Plane:
    """Brightness growing to the right, smooth above and in 16 steps below."""
    row = np.linspace(0, 1, size)
    steps = np.floor(row * 15.999) / 15
    plane = np.tile(row, (size, 1))
    plane[size // 2 :] = steps
    return plane


def noise(size: int) -> Plane:
    """Gray Gaussian noise of σ = 1/8, the same at every call."""
    generator = np.random.default_rng(1998)
    return np.asarray(0.5 + generator.normal(0, 0.125, (size, size)))


def edges(size: int) -> Plane:
    """A bright square turned by 10° and a disk."""
    y, x = _grid(size)
    turn = np.radians(10)
    u, v = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    square = (np.abs(u + 0.25) < 0.5) & (np.abs(v + 0.2) < 0.5)
    disk = np.hypot(x - 0.45, y - 0.45) < 0.35
    return np.asarray(0.15 + 0.6 * square + 0.25 * disk)


def letters(size: int) -> Plane:
    """Lines of text, large to small."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    picture = Pillow.new("L", (size, size), 245)
    draw = ImageDraw.Draw(picture)
    top, height = size * 0.04, size / 5.5
    for line in ("imgconv", "convolve", "pool · activate", "stride dilation groups",
                 "the quick brown fox jumps over", "a lazy dog, 0123456789"):  # fmt: skip
        draw.text((size * 0.05, top), line, fill=15, font=ImageFont.load_default(max(height, 1)))
        top, height = top + height * 1.15, height * 0.72
    return np.asarray(picture, np.float64) / 255


PARTS: dict[str, Callable[[int], Plane]] = {
    "zoneplate": zoneplate, "star": star, "ramp": ramp, "noise": noise, "edges": edges,
    "digit": partial(digit, 5), **{f"digit-{n}": partial(digit, n) for n in STROKES},
}  # fmt: skip


def chart(size: int) -> npt.NDArray[np.uint8]:
    """The test chart: six fields of 1/3 × 1/2 over color bars, (size, size, 3)."""
    height, width = size * 7 // 16, size // 3
    cell = max(height, width)
    fields = [zoneplate, star, ramp, letters, edges, noise]
    out = np.full((size, size, 3), 0.5)
    for number, draw in enumerate(fields):
        top, left = number // 3 * height, number % 3 * width
        y, x = ((cell - height) // 2, (cell - width) // 2) if draw is not letters else (0, 0)
        plane = draw(cell)[y : y + height, x : x + width]
        out[top : top + height, left : left + width] = plane[..., None]
    bars = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1],
                     [0, 0, 0]], np.float64)  # fmt: skip
    columns = np.arange(size) * 8 // size
    out[2 * height :] = 0.1 + 0.8 * bars[columns]
    return _bytes(out)


def _grid(size: int) -> tuple[Plane, Plane]:
    places = np.linspace(-1, 1, size)
    y, x = np.meshgrid(places, places, indexing="ij")
    return y, x


def _bytes(plane: Plane) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(plane * 255), 0, 255).astype(np.uint8)
