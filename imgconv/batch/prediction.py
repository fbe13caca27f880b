"""Classes of images, the likeliest first."""

import sys
from typing import Any

import numpy as np

from imgconv.errors import UsageError
from imgconv.images.reading import read_images
from imgconv.networks.architectures import Network
from imgconv.networks.fusion import FusedGraph
from imgconv.networks.layers import Array, Softmax


class Prediction:
    """Predicts the classes of one image after the other; `batch.runner.run` calls it."""

    def __init__(
        self, network: Network, top: int, frame: int | str | None, max_pixels: int | None
    ) -> None:
        self.network, self.top, self.frame, self.max_pixels = network, top, frame, max_pixels
        self.fused = FusedGraph(network.graph)
        self.output = network.graph.outputs[0]
        maker = network.graph.producers.get(self.output)
        self.normalized = maker is not None and isinstance(maker.layer, Softmax)

    def __call__(self, source: str, index: int) -> list[dict[str, Any]]:
        """A row an image with its `top` classes. Raises ImgconvError."""
        data: Any = sys.stdin.buffer.read() if source == "-" else source
        name = "standard input" if source == "-" else ""
        rows = []
        for image in read_images(
            data, frame=self.frame, max_pixels=self.max_pixels, name=name
        ):  # fmt: skip
            tensor = self.network.preprocess(image.pixels, image.full_scale, image.alpha)
            row: dict[str, Any] = {"input": source}
            if self.frame == "all":
                row["frame"] = image.frame
            rows.append(row | {"top": self.classes(tensor)})
        return rows

    def classes(self, tensor: Array) -> list[dict[str, Any]]:
        """The likeliest classes of (1, C, H, W): class, label, probability."""
        graph = self.fused.at(tensor.shape)
        scores = graph.run(tensor)[self.output].reshape(-1).astype(np.float64)
        if not self.normalized:
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
        labels = self.network.labels
        if labels and len(labels) != len(scores):
            raise UsageError(f"{len(labels)} labels for {len(scores)} classes, expected as many")
        order = np.argsort(-scores, kind="stable")[: self.top]
        return [
            {
                "class": int(index),
                "label": labels[index] if labels else None,
                "probability": float(scores[index]),
            }
            for index in order
        ]  # fmt: skip
