"""An input on its way from reading to writing: how it is read, and what is said of it."""

from collections.abc import Callable, Iterator

from imgconv.io.image import Image
from imgconv.io.reading import read_images
from imgconv.io.streamed import Streamed, open_rows
from imgconv.pipeline import finish
from imgconv.pipeline.outputs import Outputs
from imgconv.pipeline.records.origin import Origin


class Input:
    """An input on its way; replace: over outputs that exist. origin: what records say of it."""

    watch: Callable[[int, int], None] | None = None

    def __init__(
        self, out: Outputs, source: str, index: int, replace: bool = False,
        origin: Origin | None = None,
    ) -> None:  # fmt: skip
        self.out, self.source, self.index, self.replace = out, source, index, replace
        self.origin = origin

    def images(self, data: str | bytes) -> Iterator[Image]:
        """The wanted images, each in memory as a whole. data: bytes or a path, from `taken`."""
        settings = self.out.request.settings
        return read_images(
            data, frame=settings.read.frame, max_pixels=settings.read.max_pixels,
            level=settings.read.level, memory=settings.batch.memory,
            cmyk=finish.keeps_inks(self.out, self.source, self.index),
            name="standard input" if self.source == "-" else self.source,
            partial=settings.read.truncated == "allow",
        )  # fmt: skip

    def rows(self, data: str | bytes) -> Streamed | None:
        """The image of a file whose rows come in order; None where it has to be read whole."""
        settings = self.out.request.settings
        if settings.read.truncated == "allow":
            return None  # a cut would be found when rows are written already
        return open_rows(
            data, settings.read.max_pixels, settings.batch.memory, settings.read.level,
            finish.keeps_inks(self.out, self.source, self.index), self.source,
        )  # fmt: skip

    def tell(self, *notes: str | None) -> None:
        """Say what there is to be said of it."""
        self.out.request.tell(notes)
