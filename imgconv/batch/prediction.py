"""Classes of images, the likeliest first."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import NotRequired, TypedDict

import numpy as np

from imgconv.batch.runner import Outcome, failed, in_order, naming
from imgconv.errors import ImageError, ImgconvError
from imgconv.io.reading import read_input
from imgconv.jit.parallel import num_threads
from imgconv.nn.fusion import FusedGraph
from imgconv.nn.labels import check_labels
from imgconv.nn.layers import Shape
from imgconv.nn.models import Network
from imgconv.typing import Float32

ClassRow = TypedDict("ClassRow", {"class": int, "label": str | None, "probability": float})


class PredictionRow(TypedDict):
    """What --json says of an image; frame: where all of a file were asked for."""

    input: str
    frame: NotRequired[int]
    top: list[ClassRow]


@dataclass(eq=False, repr=False)
class _Ready:
    """An image as the network takes it, and what becomes of it."""

    row: PredictionRow
    tensor: Float32
    error: ImgconvError | None = None


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
        self.fused = FusedGraph(network.graph, max_pixels=network.preprocess.max_pixels)
        self.output = network.scores
        check_labels(network)

    def outcomes(self, sources: Iterable[str | ImageError]) -> Iterator[Outcome[PredictionRow]]:
        """Yield what became of every image, in order; one that cannot be read stops no other."""
        remaining = self._ahead(iter(sources))
        while outcomes := list(islice(remaining, self.batch)):
            by_shape: dict[Shape, list[_Ready]] = {}
            for outcome in outcomes:
                for image in outcome.results:
                    by_shape.setdefault(image.tensor.shape, []).append(image)
            for alike in by_shape.values():
                self._classify(alike)
            for outcome in outcomes:
                error = next((image.error for image in outcome.results if image.error), None)
                rows = [image.row for image in outcome.results if not error]
                yield Outcome(outcome.source, rows, outcome.error or error)

    def _ahead(self, sources: Iterator[str | ImageError]) -> Iterator[Outcome[_Ready]]:
        """Read every source in order, some while the network is at work on those before.

        Decoding and resizing photos of 1.2 MP takes a fifth of ResNet-50's whole time, on one CPU.
        """
        first = list(islice(sources, 2))
        if len(first) < 2:
            yield from map(self._read, first)
            return
        calls = (partial(self._read, source) for source in chain(first, sources))
        yield from in_order(calls, num_threads(), self.batch + 1)

    def _read(self, source: str | ImageError) -> Outcome[_Ready]:
        """An outcome with a tensor for each frame that is wanted."""
        if isinstance(source, ImageError):
            return failed(source)
        images = []
        try:
            for image in read_input(source, frame=self.frame, max_pixels=self.max_pixels):
                tensor = self.network.preprocess(image.pixels, image.full_scale, image.alpha)
                row: PredictionRow = {"input": source, "top": []}
                if self.frame == "all":
                    row["frame"] = image.frame
                images.append(_Ready(row, tensor))
        except ImgconvError as error:
            return Outcome(source, error=naming(error, source))
        return Outcome(source, images)

    def _classify(self, images: list[_Ready]) -> None:
        """Give images their classes, or the error that they meet."""
        try:
            tensor = np.concatenate([image.tensor for image in images])
            scores = self.fused.at(tensor.shape).run(tensor)[self.output]
            scores = scores.reshape(len(images), -1)
        except ImgconvError as error:
            if len(images) > 1:
                # A model may be made for a batch of one.
                for image in images:
                    self._classify([image])
                return
            images[0].error = naming(error, images[0].row["input"])
            return
        for image, own in zip(images, scores, strict=True):
            try:
                likeliest = self.network.likeliest(own, self.top)
            except ImgconvError as error:
                image.error = naming(error, image.row["input"])
                continue
            image.row["top"] = [
                {"class": index, "label": label, "probability": probability}
                for index, label, probability in likeliest
            ]
