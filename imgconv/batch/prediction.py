"""Classes of images, the likeliest first."""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np

from imgconv.batch.runner import Outcome, failed, in_order, naming
from imgconv.errors import ImageError, ImgconvError, UsageError
from imgconv.io.reading import read_images
from imgconv.io.source import read_stdin
from imgconv.jit.parallel import num_threads
from imgconv.nn.fusion import FusedGraph
from imgconv.nn.layers import Shape
from imgconv.nn.models import Network


class Prediction:
    """Predicts the classes of many images, `batch` of them in one walk.

    Large networks are bound by reading their weights, which a walk does once. Numbers do not depend
    on the batch. Raises UsageError for labels that are not as many as the classes.
    """

    def __init__(
        self, network: Network, top: int, frame: int | str | None = None,
        max_pixels: int | None = None, batch: int = 1,
    ) -> None:  # fmt: skip
        self.network, self.top, self.frame, self.max_pixels = network, top, frame, max_pixels
        self.batch = batch
        self.fused = FusedGraph(network.graph)
        self.output = network.scores
        classes = math.prod(network.graph.shapes()[self.output][1:])
        named = len(network.labels)
        if named and named != classes:
            raise UsageError(f"{named} labels for {classes} classes, expected as many")

    def outcomes(self, sources: Iterable[str | ImageError]) -> Iterator[Outcome]:
        """Yield what became of every image, in order; one that cannot be read stops no other."""
        remaining = self._ahead(iter(sources))
        while outcomes := list(islice(remaining, self.batch)):
            rows = [row for outcome in outcomes for row in outcome.results]
            by_shape: dict[Shape, list[dict[str, Any]]] = {}
            for row in rows:
                by_shape.setdefault(row["tensor"].shape, []).append(row)
            for alike in by_shape.values():
                self._classify(alike)
            for outcome in outcomes:
                errors = [row["error"] for row in outcome.results if "error" in row]
                if errors:
                    yield Outcome(outcome.source, error=errors[0])
                else:
                    yield outcome

    def _ahead(self, sources: Iterator[str | ImageError]) -> Iterator[Outcome]:
        """Read every source in order, some while the network is at work on those before.

        Decoding and resizing photos of 1.2 MP takes a fifth of ResNet-50's whole time, on one CPU.
        """
        first = list(islice(sources, 2))
        if len(first) < 2:
            yield from map(self._read, first)
            return
        calls = (partial(self._read, source) for source in chain(first, sources))
        yield from in_order(calls, num_threads(), self.batch + 1)

    def _read(self, source: str | ImageError) -> Outcome:
        """An outcome with a row, and its tensor, for each frame that is wanted."""
        if isinstance(source, ImageError):
            return failed(source)
        data: Any = read_stdin() if source == "-" else source
        name = "standard input" if source == "-" else ""
        rows = []
        try:
            for image in read_images(
                data, frame=self.frame, max_pixels=self.max_pixels, name=name
            ):  # fmt: skip
                tensor = self.network.preprocess(image.pixels, image.full_scale, image.alpha)
                row: dict[str, Any] = {"input": source, "tensor": tensor}
                if self.frame == "all":
                    row["frame"] = image.frame
                rows.append(row)
        except ImgconvError as error:
            return Outcome(source, error=naming(error, source))
        return Outcome(source, rows)

    def _classify(self, rows: list[dict[str, Any]]) -> None:
        """Replace the tensors of rows by their classes, or by the error that they meet."""
        try:
            tensor = np.concatenate([row["tensor"] for row in rows])
            scores = self.fused.at(tensor.shape).run(tensor)[self.output]
            scores = scores.reshape(len(rows), -1)
        except ImgconvError as error:
            if len(rows) > 1:
                # A model may be made for a batch of one.
                for row in rows:
                    self._classify([row])
                return
            rows[0]["error"] = naming(error, rows[0]["input"])
            return
        for row, one in zip(rows, scores, strict=True):
            del row["tensor"]
            row["top"] = [
                {"class": index, "label": label, "probability": probability}
                for index, label, probability in self.network.likeliest(one, self.top)
            ]
