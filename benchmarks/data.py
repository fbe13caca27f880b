"""Real photographs at the sizes that the tables speak of."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

SIZES = {"0.25": (512, 512), "1": (1024, 1024), "12": (3000, 4000), "100": (8000, 12500),
         "400": (16000, 25000)}  # fmt: skip


@functools.cache
def photo(megapixels: str, gray: bool = False) -> Any:
    """A photo of (H, W, 3) or (H, W) uint8: enlarged real photos side by side, with sensor noise.

    Enlarging alone would make files that compress better than a camera's; noise of σ = 2 brings
    the size of a PNG to about half of the raw bytes, as for photographs.
    """
    height, width = SIZES[megapixels]
    tiles = [data.astronaut(), data.coffee()[:400, :400], data.chelsea()[:300, :300]]
    generator = np.random.default_rng(7)
    out = np.empty((height, width, 3), np.uint8)
    side = min(1024, height)
    number = 0
    for top in range(0, height, side):
        for left in range(0, width, side):
            rows, columns = min(side, height - top), min(side, width - left)
            source = Image.fromarray(tiles[number % 3])
            tile = source.resize((columns, rows), Image.Resampling.BICUBIC)
            noise = generator.normal(0, 2, (rows, columns, 3))
            out[top : top + rows, left : left + columns] = np.clip(np.asarray(tile) + noise, 0, 255)
            number += 1
    return np.ascontiguousarray(out[..., 1]) if gray else out


def photo_file(folder: Path, megapixels: str, suffix: str = ".png") -> Path:
    """The photo as a file, written by Pillow at its default level."""
    path = folder / f"photo-{megapixels}{suffix}"
    if not path.exists():
        Image.fromarray(photo(megapixels)).save(path)
    return path


def kernels(size: int) -> dict[str, Any]:
    """One kernel of each kind of a size; absolute sum 1."""
    generator = np.random.default_rng(size)
    columns, rows = generator.uniform(0.1, 1, (2, 2, size))
    sparse = generator.normal(size=(size, size)) * (generator.uniform(size=(size, size)) < 0.15)
    sparse[0, 0] = sparse[-1, -1] = 1
    found = {
        "dense": generator.normal(size=(size, size)),
        "rank 1": np.outer(columns[0], rows[0]),
        "rank 2": np.outer(columns[0], rows[0]) - 0.3 * np.outer(columns[1], rows[1]),
        "box": np.ones((size, size)),
        "sparse": sparse,
    }
    return {kind: weights / np.abs(weights).sum() for kind, weights in found.items()}
