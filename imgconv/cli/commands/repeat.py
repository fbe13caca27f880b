"""`imgconv repeat`."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from imgconv import __version__
from imgconv.cli import options
from imgconv.cli.help import Command
from imgconv.console import echo, printable, say
from imgconv.errors import ImageError, UsageError
from imgconv.pipeline.settings import BatchSettings, ReadSettings, WriteSettings
from imgconv.pipeline.settings.repeat import AgainSettings, RepeatSettings

if TYPE_CHECKING:
    from imgconv.io.sameness import Sameness
    from imgconv.pipeline.records.record import Record


@click.command(cls=Command)
@click.argument("result", type=click.Path(path_type=str))
@options.options_of(AgainSettings)
@options.options_of(ReadSettings, "max_pixels")
@options.allow_scheme
@options.options_of(WriteSettings, "overwrite")
@options.options_of(BatchSettings, "threads", "as_json", "quiet", "debug")
@options.gathered(RepeatSettings)
def repeat(result: str, settings: RepeatSettings) -> int:
    """Make an output again from the record that it holds, and see whether it is the same.

    \b
    imgconv repeat edges.png                       checks whether it comes out the same
    imgconv repeat edges.png -o again.png --check
    imgconv repeat edges.png --input photos/photo.jpg
    imgconv repeat edges.png --show

    The input must have the SHA-256 that was recorded. PNG, TIFF, JPEG, WebP, GIF, NPZ,
    safetensors and Zarr hold a record, unless they were made with --no-record
    or --no-metadata.
    """
    from imgconv.batch.runner import shares
    from imgconv.io.metadata.notes import read_note
    from imgconv.io.sameness import compared
    from imgconv.pipeline import rerun
    from imgconv.pipeline.outputs import to_stdout
    from imgconv.pipeline.plan import check_against_input
    from imgconv.pipeline.records.record import parse

    record = parse(read_note(result), result)
    if settings.again.show:
        _show(record, settings)
        return 0
    target = settings.again.output
    rerun.check_target(target, result, record, settings)
    if record.imgconv != __version__ and not settings.batch.quiet:
        say(f"imgconv: {result}: made by imgconv {record.imgconv}, this is {__version__}")
    shares(None, settings.batch.threads, 1)
    source, data, origin = rerun.find_input(record, result, settings)
    if target not in (None, "-"):
        check_against_input(target, source, False)
    with blamed(result):
        work = rerun.work_of(record, result, settings, origin, values_of(record, settings))
    content = work(source, data)
    if target == "-":
        to_stdout([content])
    if target is not None and not settings.again.check:
        return 0
    same = compared(result, content if target in (None, "-") else target)
    _tell(result, source, same, target, settings)
    return 0 if same.pixels else 1


def values_of(record: "Record", settings: RepeatSettings) -> dict[str, object]:
    """The options of the recorded command as its command line makes them, with ours.

    Raises click's exceptions.
    """
    from imgconv.cli.commands import apply, run
    from imgconv.cli.commands.net import group
    from imgconv.pipeline.records.record import Named, option_words

    command: click.Command
    words: tuple[str, ...]
    if record.command == "apply":
        command, words = apply.apply, ()
    elif record.command == "run":
        command, words = run.run, (record.chain or "",)
    else:
        command, words = group.features, ((record.network or Named("")).name,)
    line = [*option_words(record.options), "--", *words]  # a chain is none, whatever its text
    with command.make_context(record.command, line) as context:
        return context.params | settings.ours()


@contextmanager
def blamed(result: str) -> Iterator[None]:
    """Put what a record asks for wrongly down to the record."""
    try:
        yield
    except click.ClickException as error:
        raise ImageError(f"{result}: its record: {error.format_message()}") from None
    except UsageError as error:
        raise ImageError(f"{result}: its record: {error}") from None


def _show(record: "Record", settings: RepeatSettings) -> None:
    words = record.words(settings.again.source or record.input.name)
    if settings.batch.as_json:
        echo(json.dumps({"command": words, **record.as_dict()}))
    else:
        echo(printable(shlex.join(words)))


def _tell(
    result: str, source: str, same: "Sameness", target: str | None, settings: RepeatSettings
) -> None:  # fmt: skip
    if settings.batch.as_json:
        facts = {"result": result, "input": source, "output": target, **same.as_dict()}
        echo(json.dumps({k: printable(v) if isinstance(v, str) else v
                               for k, v in facts.items()}))  # fmt: skip
        return
    line = f"{printable(result)}: {same.words} from {printable(source)}"
    if target == "-":
        say(line)
    elif not settings.batch.quiet:
        echo(line)
