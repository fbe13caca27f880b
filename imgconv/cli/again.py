"""The work of a record: that of the command it names, with one output that goes where we say."""

from dataclasses import replace
from typing import Any

import click

from imgconv.cli.files import checked
from imgconv.cli.outputs import Request
from imgconv.cli.work import Work
from imgconv.errors import UsageError
from imgconv.io.formats import FORMATS, Format
from imgconv.io.image import Image
from imgconv.io.publish import joined
from imgconv.io.reading import Frames
from imgconv.io.streamed import Streamed
from imgconv.io.writing import EncodeOptions
from imgconv.io.writing import Record as Facts
from imgconv.kernels import kernel_without_files
from imgconv.pipeline.carrying import Result
from imgconv.pipeline.naming import Part, component
from imgconv.pipeline.origin import Origin
from imgconv.pipeline.pictured import names_of
from imgconv.pipeline.plan import Plan, check_against_input
from imgconv.pipeline.record import Record, option_words
from imgconv.pipeline.repeat_settings import RepeatSettings
from imgconv.pipeline.settings import Settings


def parameters(
    command: click.Command, record: Record, settings: RepeatSettings, *words: str
) -> dict[str, Any]:
    """A command's parameters as its command line of the record makes them, with ours."""
    line = [*option_words(record.options), "--", *words]  # a chain is none, whatever its text
    with command.make_context(record.command, line) as context:
        return context.params | settings.ours()


def maps_again(record: Record, result: str, settings: RepeatSettings, origin: Origin) -> "MapAgain":
    """The work of `apply` or `run`."""
    made = FORMATS[record.options["format"]]
    if record.command == "apply":
        from imgconv.cli.commands import apply

        values = parameters(apply.apply, record, settings)
        kernels = tuple(map(kernel_without_files, values["kernels"]))
        request = apply.request_of((), kernels, Settings.of(values))
    else:
        from imgconv.cli.commands import run
        from imgconv.nn.chain import parse_chain

        values = parameters(run.run, record, settings, record.chain or "")
        steps = parse_chain(values["chain"], kernel_without_files)
        request = run.request_of((), steps, values["keep"], Settings.of(values))
    # An earlier version recorded labels as they were.
    only = record.map and component(record.map)
    request.recipe = replace(request.recipe, only=only)
    checked(request)
    if not names_of(request.recipe):
        raise UsageError(f"no map {record.map!r}")
    again = MapAgain(request, settings.again.output, made, record.map is None, origin)
    again.ome = result.lower().endswith((".ome.tif", ".ome.tiff"))
    return again


class MapAgain(Work):
    """One output of one input; `content` are its bytes where it is not to go to a file."""

    def __init__(
        self, request: Request, target: str | None, made: Format, together: bool, origin: Origin
    ) -> None:
        plan = Plan(target, made=made)
        super().__init__(request, "-" if target is None else target, made, plan)
        self._whole = made.archive and together
        self._known = origin
        self.content = self._data = b""
        self.ome = False

    def __call__(self, source: str, data: Any, replace: bool = False) -> Any:
        """Make the output; return its bytes, or b"" where they went to a file."""
        self._data = data
        super().__call__("-" if isinstance(data, bytes) else source, 0)
        return self.content

    def stdin(self) -> bytes:
        return self._data

    def _origin(self, source: str, data: Any) -> Origin:
        return self._known

    def together(self, source: str) -> bool:
        return self._whole

    def _in_one_file(self, source: str, path: str, frames: Frames) -> bool:
        return bool(self.request.settings.read.frame == "all")

    def _path(self, source: str, part: Part, index: int, frame: int) -> str:
        check_against_input(self.target or "-", source, False)
        return self.target or "-"

    def _options(
        self, path: str, record: Facts, image: Image | Streamed, result: Result
    ) -> EncodeOptions:
        return super()._options(path, record, image, result) | {"ome": self.ome}

    def _publish(self, path: str, pieces: Any, replace: bool) -> int:
        if path != "-":
            return super()._publish(path, pieces, replace)
        self.content = joined(pieces)
        return len(self.content)
