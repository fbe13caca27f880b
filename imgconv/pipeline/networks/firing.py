"""Which maps of a layer fire most: on an image, and over all of them."""

from collections.abc import Iterator
from typing import NotRequired, TypedDict

import numpy as np

from imgconv.typing import Array


def maps_of(values: Array) -> Array:
    """(C, H, W) of one image's value; features (1, F) are maps of one number."""
    return values[0] if values.ndim == 4 else values.reshape(values.shape[1], -1, 1)


class Fired(TypedDict):
    """A map that fires: its number and mean; on one image its largest value and where that is."""

    map: int
    mean: float
    largest: NotRequired[float]
    at: NotRequired[list[int]]


class LayerFired(TypedDict):
    """The maps of a layer that fire most on average over images."""

    layer: str
    images: int
    top_maps: list[Fired]


class Firing:
    """Ranks the maps of layers by their mean, of which it keeps one number per map and image.

    count: how many of each layer are told.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._sums: dict[str, Array] = {}
        self._images: dict[str, int] = {}

    def of_image(self, layer: str, maps: Array) -> list[Fired]:
        """The maps (C, H, W) that fire most on one image: largest value and its place, too."""
        means = maps.mean(axis=(1, 2), dtype=np.float64)
        if self._sums.setdefault(layer, np.zeros(len(maps))).shape == means.shape:
            self._sums[layer] += means
            self._images[layer] = self._images.get(layer, 0) + 1
        rows: list[Fired] = []
        for number in self._best(means):
            place = np.unravel_index(int(maps[number].argmax()), maps.shape[1:])
            rows.append({
                "map": int(number), "mean": float(means[number]),
                "largest": float(maps[number][place]), "at": [int(at) for at in place],
            })  # fmt: skip
        return rows

    def over_all(self) -> Iterator[LayerFired]:
        """One row per layer: the maps that fire most on average over all images, and how many."""
        for layer, sums in self._sums.items():
            means = sums / max(1, self._images.get(layer, 0))
            yield {
                "layer": layer, "images": self._images.get(layer, 0),
                "top_maps": [{"map": int(n), "mean": float(means[n])} for n in self._best(means)],
            }  # fmt: skip

    def _best(self, means: Array) -> Array:
        return np.argsort(-np.nan_to_num(means, nan=-np.inf), kind="stable")[: self.count]
