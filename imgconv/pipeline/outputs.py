"""Where the results of inputs go: their names and formats, what is there already, publishing."""

import functools
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from imgconv.console import drop_stdout, reason, say
from imgconv.errors import ImgconvError, OutputError, UsageError
from imgconv.io import formats
from imgconv.io.complete import is_complete
from imgconv.io.publish import EXISTS, Patch, Piece, exists, leads_to_a_stream, publish
from imgconv.io.reading import Frames, count_frames
from imgconv.io.remote import is_url
from imgconv.io.source import StandardInput, is_special
from imgconv.pipeline.naming import Part
from imgconv.pipeline.plan import Plan, Reports, check_against_input
from imgconv.pipeline.recipe import Recipe, names_of
from imgconv.pipeline.records.provenance import Provenance
from imgconv.pipeline.settings import Settings


class Row(TypedDict, total=False):
    """What --json says of one output, as far as it applies."""

    input: str
    output: str
    kernel: str
    map: str
    width: int
    height: int
    channels: int
    dtype: str
    scale: str
    frame: int
    frames: int
    bytes: int
    skipped: bool
    error: str


@dataclass(eq=False, repr=False)
class Request:
    """What a command line asks for: inputs, the recipe, all options, and what it records."""

    inputs: tuple[str, ...]
    recipe: Recipe
    settings: Settings
    provenance: Provenance

    def tell(self, notes: Iterable[str | None]) -> None:
        """Say what there is to be said, unless nothing is to be."""
        for note in () if self.settings.batch.quiet else notes:
            if note:
                say(f"imgconv: {note}")


class Planned(NamedTuple):
    """A result before it is made; is_page: it is a page of `--report`."""

    frame: int
    name: str
    path: str
    is_page: bool = False


class Recorded(NamedTuple):
    """What a record says of an output that its name does not.

    together: whether all maps of an image are in it. ome: whether it is an OME-TIFF.
    """

    together: bool
    ome: bool


class Outputs:
    """The outputs of a request.

    made: the format of all, None where their names tell. recorded: of an output that is made
    again. given: an input's bytes, or its path, where it was opened before. to_stdout: takes the
    pieces of the output `-`, in place of standard output, and returns their size.
    """

    def __init__(
        self, request: Request, plan: Plan, made: formats.Format | None,
        reports: Reports | None = None, recorded: Recorded | None = None,
        given: str | bytes | None = None,
        to_stdout: Callable[[Iterable[Piece]], int] | None = None,
    ) -> None:  # fmt: skip
        self.request, self.plan, self.made, self.reports = request, plan, made, reports
        self.recorded, self.given, self.to_stdout = recorded, given, to_stdout
        content = given if isinstance(given, bytes) else None
        self.stdin = StandardInput(request.settings.read.max_pixels, content)
        self.plan.kept.stdin = self.stdin
        self.replacing = self.request.settings.write.replaces

    def planned(self, source: str, index: int) -> list[Planned]:
        """All results of an input, of frame 0 alone where it is not known how many there are.

        Raises UsageError for collisions.
        """
        planned = []
        frames = self.frames(source) or Frames(1)
        whole = False  # whether the maps of frame 0 hold the others too
        for frame in range(frames.number):
            for one in () if whole else names_of(self.request.recipe):
                path = self.path(source, one.part, index, frame)
                planned.append(Planned(frame, one.name, path))
            whole = whole or bool(planned and self.in_one_file(source, planned[0].path, frames))
            if self.reports:
                path = self.reports.path(source, index, frame)
                planned.append(Planned(frame, "report", path, is_page=True))
        return planned

    def in_one_file(self, source: str, path: str, frames: Frames) -> bool:
        """Whether the frames of an input go into one file each map."""
        wanted = self.request.settings.read.frame == "all"
        if self.recorded or not wanted:
            return wanted
        several = frames.number > 1 and "frame" not in self.plan.template.used
        if not several or not names_of(self.request.recipe):
            return False
        return formats.holds_frames(self.format(source, path), path, frames.animated)

    def frames(self, source: str) -> Frames | None:
        """How many frames of an input are wanted; None where only its work will tell."""
        settings = self.request.settings
        if settings.read.frame != "all":
            return Frames(1)
        if is_special(source):
            return None
        try:
            data = self.stdin() if source == "-" else source
            return count_frames(data, settings.read.max_pixels, settings.batch.memory)
        except ImgconvError:  # said when its turn comes
            return None

    def together(self, source: str) -> bool:
        """Whether the maps of an image go into one file."""
        return self.recorded.together if self.recorded else self.plan.together(source)

    def side_by_side(self, paths: list[str], made: formats.Format) -> bool:
        """Whether several outputs can be written at once: files on this machine."""
        if self.request.settings.batch.cluster or made.name == "zarr":
            return False
        return not any(path == "-" or is_url(path) or leads_to_a_stream(path) for path in paths)

    def path(self, source: str, part: Part, index: int, frame: int) -> str:
        """The path of a map. Raises UsageError where it is the input's or another map's."""
        path = self.plan.path(source, part, index, frame)
        check_against_input(path, source, self.plan.in_place)
        return path

    def format(self, source: str, path: str) -> formats.Format:
        """The format of an output. Raises UsageError where its name does not tell."""
        if self.made is not None:
            return self.made
        return self.plan.kept.format(source) if path == "-" else formats.format_of(path)

    def check_free(self, paths: Iterable[str], replace: bool) -> None:
        """Raise OutputError for an output that exists and is not to be replaced."""
        if replace or self.replacing or self.request.settings.batch.cluster:
            return
        for path in paths:
            if path != "-" and exists(path) and not leads_to_a_stream(path):
                raise OutputError(f"{path}: {EXISTS}")

    def finished(self, source: str, path: str, replace: bool) -> bool:
        """Whether --skip-existing leaves this output alone."""
        skipping = self.request.settings.write.skip_existing and path != "-" and not replace
        if skipping and is_url(path):
            return exists(path)
        return skipping and is_complete(path, self.format(source, path).name)

    def all_finished(self, source: str, planned: list[Planned], replace: bool) -> bool:
        """Whether --skip-existing leaves all these results alone."""
        skips = self.request.settings.write.skip_existing and not replace
        return all(
            # A page appears whole or not at all.
            skips and os.path.exists(one.path)
            if one.is_page
            else self.finished(source, one.path, replace)
            for one in planned
        )

    def unneeded(self, source: str, planned: list[Planned], replace: bool) -> list[Row] | None:
        """The rows of an input that is left alone, or only looked at; None where it is to be made.

        Raises OutputError for an output that exists and is not to be replaced.
        """
        if self.all_finished(source, planned, replace) and self.frames(source):
            return [skipped(source, one.path, one.name) for one in planned]
        self.check_free((one.path for one in planned), replace)
        if not self.request.settings.batch.dry_run:
            return None
        return [
            skipped(source, one.path, one.name)
            if self.all_finished(source, [one], replace)
            else {"input": source, "output": one.path, "map": one.name, "frame": one.frame}
            for one in planned
        ]

    def publisher(self, replace: bool) -> Callable[[str, Iterable[Piece]], int]:
        """What writes a file's pieces to a path, or to standard output, and returns their size."""
        # A cluster may run a task twice: what the first run left is then found done.
        or_same = bool(self.request.settings.batch.cluster)
        return functools.partial(
            publish, overwrite=replace or self.replacing, or_same=or_same,
            stdout=self.to_stdout or to_stdout,
        )  # fmt: skip


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


def skipped(source: str, path: str, name: str) -> Row:
    """The --json line of an output that --skip-existing leaves alone."""
    return {"input": source, "output": path, "map": name, "skipped": True}
