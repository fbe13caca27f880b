"""Where a command's results go: names, formats, metadata, publishing."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from imgconv.cli.boundary import drop_stdout, reason, say
from imgconv.errors import ImgconvError, OutputError, UsageError
from imgconv.io import formats
from imgconv.io.complete import is_complete
from imgconv.io.image import Image, white_of
from imgconv.io.publish import EXISTS, Patch, Piece, exists, leads_to_a_stream, publish
from imgconv.io.reading import Frames, count_frames
from imgconv.io.remote import is_url
from imgconv.io.source import is_special, read_stdin
from imgconv.io.streamed import Streamed
from imgconv.io.writing import EncodeOptions, Record
from imgconv.pipeline.carrying import Result, carried
from imgconv.pipeline.filtering import ChainRecipe, Recipe
from imgconv.pipeline.naming import Part
from imgconv.pipeline.origin import Origin
from imgconv.pipeline.pictured import names_of
from imgconv.pipeline.plan import Plan, check_against_input
from imgconv.pipeline.provenance import Provenance
from imgconv.pipeline.reporting import Reports
from imgconv.pipeline.settings import Settings


@dataclass(eq=False, repr=False)
class Request:
    """A command line: input names, the recipe, all options, and what it records."""

    inputs: tuple[str, ...]
    recipe: Recipe
    settings: Settings
    provenance: Provenance


def level_of(text: str) -> int | str:
    """The value of --compress. Raises UsageError for none."""
    if text in ("fast", "small"):
        return text
    if text.isdigit() and int(text) <= 9:
        return int(text)
    raise UsageError(f"--compress {text}: expected 0 to 9, fast or small")


class Planned(NamedTuple):
    """A result before it is made; is_page: it is a page of `--report`."""

    frame: int
    name: str
    path: str
    is_page: bool = False


class Outputs:
    """The outputs of a command, apart from what is in them."""

    def __init__(
        self, request: Request, target: str | None, made: formats.Format | None, plan: Plan,
        reports: Reports | None = None,
    ) -> None:  # fmt: skip
        self.request, self.target, self.made, self.plan = request, target, made, plan
        self.reports = reports
        self.tell: Callable[[int, int], None] | None = None  # of rows done, for one large image
        self._stdin: bytes | None = None
        plan.kept.stdin = self.stdin
        self.replacing = request.settings.write.replaces

    def __getstate__(self) -> dict[str, Any]:
        """A copy for another process, which has no bar to move."""
        return {**self.__dict__, "tell": None}

    def apart(self) -> None:
        """This is a worker's copy: what an output is called collides with nothing here."""
        self.plan.claims = None
        if self.reports:
            self.reports.plan.claims = None

    def stdin(self) -> bytes:
        """The bytes of the input `-`, which are read once."""
        if self._stdin is None:
            self._stdin = read_stdin()
        return self._stdin

    def outputs(self, source: str, index: int) -> list[str]:
        """The paths of all results of an input; finds collisions."""
        return [one.path for one in self.planned(source, index)]

    def planned(self, source: str, index: int) -> "list[Planned]":
        """All results of an input; of frame 0 alone where it is not known how many there are."""
        found = []
        frames = self._frames(source) or Frames(1)
        whole = False  # whether the maps of frame 0 hold the others too
        for frame in range(frames.number):
            for one in () if whole else names_of(self.request.recipe):
                path = self._path(source, one.part, index, frame)
                found.append(Planned(frame, one.name, path))
            whole = whole or bool(found and self._in_one_file(source, found[0].path, frames))
            if self.reports:
                path = self.reports.path(source, index, frame)
                found.append(Planned(frame, "report", path, is_page=True))
        return found

    def _in_one_file(self, source: str, path: str, frames: Frames) -> bool:
        """Whether the frames of an input go into one file each map."""
        wanted = self.request.settings.read.frame == "all" and frames.number > 1
        if not wanted or "frame" in self.plan.template.used or not names_of(self.request.recipe):
            return False
        return formats.holds_frames(self.format(source, path), path, frames.animated)

    def _frames(self, source: str) -> Frames | None:
        """How many frames of an input are wanted; None where only its work will tell."""
        if self.request.settings.read.frame != "all":
            return Frames(1)
        if is_special(source):
            return None
        try:
            data = self.stdin() if source == "-" else source
            settings = self.request.settings
            return count_frames(data, settings.read.max_pixels, settings.batch.memory)
        except ImgconvError:  # said when its turn comes
            return None

    def together(self, source: str) -> bool:
        """Whether the maps of an image go into one file."""
        return self.plan.together(source)

    def _origin(self, source: str, data: Any) -> Origin | None:
        """What the records say of the input, if there are any."""
        holds = self.made is None or self.made.note
        settings = self.request.settings
        without = settings.write.no_metadata or settings.write.no_record
        if without or self.request.recipe.only_report or not holds:
            return None
        return Origin(source, data if isinstance(data, bytes) else None)

    def _path(self, source: str, part: Part, index: int, frame: int) -> str:
        path = self.plan.path(source, part, index, frame)
        check_against_input(path, source, self.plan.in_place)
        return path

    def _check_free(self, paths: Iterable[str], replace: bool) -> None:
        """Raise OutputError for an output that exists and is not to be replaced."""
        if replace or self.replacing or self.request.settings.batch.cluster:
            return
        for path in paths:
            if path != "-" and exists(path) and not leads_to_a_stream(path):
                raise OutputError(f"{path}: {EXISTS}")

    def _finished(self, source: str, path: str, replace: bool) -> bool:
        """Whether --skip-existing leaves this output alone."""
        skipping = self.request.settings.write.skip_existing and path != "-" and not replace
        if skipping and is_url(path):
            return exists(path)
        return skipping and is_complete(path, self.format(source, path).name)

    def format(self, source: str, path: str) -> formats.Format:
        """The format of an output. Raises UsageError where its name does not tell."""
        if self.made is not None:
            return self.made
        return self.plan.kept.format(source) if path == "-" else formats.format_of(path)

    def _recipe(self, made: formats.Format) -> Recipe:
        """The recipe for outputs of a format, which say what is missing as their own tag does."""
        recipe = self.request.recipe
        if recipe.read.missing is None:
            return recipe
        carries = made.name == "tiff" and not self.request.settings.write.no_metadata
        return replace(recipe, tagged=carries)

    def _keeps_inks(self, source: str, index: int) -> bool:
        """Whether an input in CMYK is filtered as inks: into TIFF, which holds them."""
        recipe = self.request.recipe
        each = not isinstance(recipe, ChainRecipe) and all(
            kernel.weights.shape[1] == 1 and kernel.combine == "none" for kernel in recipe.kernels
        )
        if self.reports or recipe.read.channels is not None or not (each and recipe.keeps_colors()):
            return False
        paths = [self._path(source, one.part, index, 0) for one in names_of(recipe)]
        return all(self.format(source, path).name == "tiff" for path in paths)

    def _samples(self, made: formats.Format, image: Image | Streamed) -> tuple[Any, bool]:
        """(dtype of the samples to write, whether they are responses as they were computed)."""
        settings, recipe = self.request.settings, self.request.recipe
        depth = settings.write.depth or ("8" if recipe.sheet or recipe.colormap else None)
        source = image.sample_type
        if recipe.read.linear or any(kernel.combine == "direction" for kernel in recipe.kernels):
            # Light is not in the file's units, nor is a hue.
            source = np.dtype(source if source.itemsize == 1 or source.kind == "f" else np.uint16)
        dtype = formats.output_dtype(made, depth, source)
        return dtype, made.raw or (dtype.kind == "f" and settings.write.scale in (None, "none"))

    def _options(
        self, path: str, record: Record, image: Image | Streamed, result: Result
    ) -> EncodeOptions:
        """The options of `encode` for one map's file."""
        settings = self.request.settings
        return {
            "alpha": result.alpha, "compress": level_of(settings.write.compress),
            "quality": settings.write.quality,
            "record": record, "pyramid": settings.write.pyramid,
            "ome": path.lower().endswith((".ome.tif", ".ome.tiff")),
            "cmyk": image.cmyk and result.shape[2] - result.alpha == 4,
            **carried(image, self.request.recipe, result, bool(settings.write.no_metadata)),
        }  # fmt: skip

    def _record(
        self, source: str, origin: Origin | None, frame: int | None, name: str, made: formats.Format
    ) -> dict[str, Any] | None:
        if origin is None:
            return None
        recipe = self.request.recipe
        one = None
        if not (self.together(source) or recipe.sheet):
            one = next(found for found in recipe.names if found.name == name)
        return self.request.provenance.record(origin, frame, recipe, one, made)

    def _tell_of(self, image: Image | Streamed) -> None:
        """Print what is to be said of an image that was read.

        Raises ImageError for a wrong `--missing`.
        """
        self._tell(image.notes)
        if image.metadata is not None and not self.request.settings.write.no_metadata:
            self._tell(image.metadata.notes)
        if self.request.recipe.read.missing is not None:
            from imgconv.pipeline.missing import missing_notes

            self._tell(missing_notes(self.request.recipe, image))

    def _tell_of_type(
        self, image: Image | Streamed, made: formats.Format, dtype: Any, raw: bool
    ) -> None:
        """Say it where a format cannot hold the input's integers, and nobody asked for others."""
        settings, source = self.request.settings, image.sample_type
        asked = (
            raw or settings.write.depth or self.request.recipe.sheet or self.request.recipe.colormap
        )
        wide = source.kind == "i" or (source.kind == "u" and source.itemsize > 2)
        if asked or not wide or dtype.kind != "u" or getattr(image, "frame", 0):
            return
        low = ", those below 0 to 0 unless --scale says otherwise" if source.kind == "i" else ""
        self._tell([
            f"{image.name}: {made.name} holds no {source}: samples are scaled to {dtype}, "
            f"{image.full_scale:.0f} to {white_of(dtype):.0f}{low}; tiff, zarr and npy keep them"
        ])  # fmt: skip

    def _tell(self, notes: Iterable[str]) -> None:
        for note in () if self.request.settings.batch.quiet else notes:
            say(f"imgconv: {note}")

    def _warn_of_opacity(self, source: str, alpha: bool, made: formats.Format) -> None:
        """Say it where an image's opacity is lost in the outputs' format."""
        recipe = self.request.recipe
        kept = recipe.read.alpha != "drop" and recipe.read.channels is None and not recipe.sheet
        if alpha and kept and not made.alpha:
            self._warn(source, f"its opacity is left out: {made.name} holds none")

    def _warn(self, source: str, warning: str | None) -> None:
        if warning and not self.request.settings.batch.quiet:
            say(f"imgconv: {source}: {warning}")

    def _publish(self, path: str, pieces: Iterable[Piece], replace: bool) -> int:
        if path == "-":
            return to_stdout(pieces)
        # A cluster may run a task twice: what the first run left is then found done.
        or_same = bool(self.request.settings.batch.cluster)
        return publish(path, pieces, replace or self.replacing, or_same)


def check_terminal(made: formats.Format) -> None:
    """Raise UsageError where the bytes of an image would go to a terminal."""
    if not made.text and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(
            f"standard output is a terminal, not for {made.name}: expected > FILE, a pipe or "
            "-o FILE; `imgconv show` shows images here"
        )


def to_stdout(pieces: Iterable[Piece]) -> int:
    """Write a file's pieces to standard output; return its size. Raises OutputError."""
    size = 0
    try:
        out = sys.stdout.buffer
        for piece in pieces:
            assert not isinstance(piece, Patch)  # a pipe takes nothing back
            out.write(piece)
            size += len(piece)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        raise OutputError(f"standard output: {reason(error)}") from None
    return size
