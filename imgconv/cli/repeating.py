"""Making an output again: its record, its input, the same work, and what came of it."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from imgconv import __version__
from imgconv.batch.runner import shares
from imgconv.cli.again import MapAgain, maps_again
from imgconv.cli.again_net import FeaturesAgain, features_again
from imgconv.cli.boundary import printable, say
from imgconv.cli.outputs import check_terminal, to_stdout
from imgconv.errors import ImageError, UsageError
from imgconv.io.formats import FORMATS, format_of
from imgconv.io.notes import read_note
from imgconv.io.sameness import Sameness, compared
from imgconv.io.source import is_zarr, read_stdin
from imgconv.pipeline.origin import Origin, taken
from imgconv.pipeline.plan import check_against_input, names_folder
from imgconv.pipeline.record import Record, parse
from imgconv.pipeline.repeat_settings import RepeatSettings


def repeat_result(result: str, settings: RepeatSettings) -> int:
    """Do what the options say; return the exit code. Raises ImageError, UsageError."""
    record = parse(read_note(result), result)
    if settings.again.show:
        _show(record, settings)
        return 0
    target = settings.again.output
    _check_target(target, result, record, settings)
    if record.imgconv != __version__ and not settings.batch.quiet:
        say(f"imgconv: {result}: made by imgconv {record.imgconv}, this is {__version__}")
    shares(None, settings.batch.threads, 1)
    source, data, origin = _found(record, result, settings)
    if target not in (None, "-"):
        check_against_input(target, source, False)
    with blamed(result):
        work = work_of(record, result, settings, origin)
    content = work(source, data)
    if target == "-":
        to_stdout([content])
    if target is not None and not settings.again.check:
        return 0
    same = compared(result, content if target in (None, "-") else target)
    _tell(result, source, same, target, settings)
    return 0 if same.pixels else 1


def work_of(
    record: Record, result: str, settings: RepeatSettings, origin: Origin
) -> "FeaturesAgain | MapAgain":
    """What makes the output: called with the input's name and its bytes or path, returns bytes.

    result: the output's name. Raises UsageError, and click's own, for what the record asks
    for wrongly.
    """
    if record.command == "net features":
        return features_again(record, settings, origin)
    return maps_again(record, result, settings, origin)


def _show(record: Record, settings: RepeatSettings) -> None:
    words = record.words(settings.again.source or record.input.name)
    if settings.batch.as_json:
        click.echo(json.dumps({"command": words, **record.as_dict()}))
    else:
        click.echo(printable(shlex.join(words)))


def _check_target(
    target: str | None, result: str, record: Record, settings: RepeatSettings
) -> None:  # fmt: skip
    if target is None:
        if is_zarr(result):
            raise UsageError(f"{result}: a Zarr image is a folder, expected -o with a path")
        return
    if target == "-":
        if settings.batch.as_json:
            raise UsageError("--json and image data both on standard output, expected one of them")
        check_terminal(FORMATS[record.options["format"]])
        return
    if names_folder(target) or "{" in target:
        raise UsageError(f"-o {target}: expected the name of a file")
    if os.path.exists(target) and os.path.samefile(target, result):
        raise UsageError(f"-o {target}: is the result itself, expected another name")
    wanted = record.options["format"]
    if os.path.splitext(target)[1] and format_of(target).name != wanted:
        raise UsageError(f"-o {target}: the result is {wanted}, expected a name of that format")


def _found(record: Record, result: str, settings: RepeatSettings) -> tuple[str, Any, Origin]:
    """The input's path, what to read it from, and what is recorded of it.

    Raises ImageError where it is not there or has other bytes than were recorded.
    """
    wanted, name = record.input.sha256, record.input.name
    if wanted is None:
        return name, name, Origin(name)
    explicit = settings.again.source
    if explicit is None:
        folders = dict.fromkeys((os.path.dirname(result), ""))
        places = [os.path.join(folder, name) for folder in folders]
        places = [path for path in places if os.path.isfile(path) or is_zarr(path)]
        if name == "-" or not places:
            what = "standard input" if name == "-" else f"{name}, not beside it and not here"
            raise ImageError(f"{result}: made from {what}, expected --input FILE")
    elif os.path.isdir(explicit) and not is_zarr(explicit):
        places = [os.path.join(explicit, name)]
    else:
        places = [explicit]
    for path in places:
        data = taken(path, settings.read.max_pixels, read_stdin)
        got = Origin(path, data if isinstance(data, bytes) else None).digest
        if got == wanted:
            return path, data, Origin(name, known=wanted)
    raise ImageError(
        f"{places[0]}: SHA-256 {got}, expected {wanted}: not what {result} was made from"
    )


@contextmanager
def blamed(result: str) -> Iterator[None]:
    """Put what a record asks for wrongly down to the record."""
    try:
        yield
    except click.ClickException as error:
        raise ImageError(f"{result}: its record: {error.format_message()}") from None
    except UsageError as error:
        raise ImageError(f"{result}: its record: {error}") from None


def _tell(
    result: str, source: str, same: Sameness, target: str | None, settings: RepeatSettings
) -> None:  # fmt: skip
    if settings.batch.as_json:
        facts = {"result": result, "input": source, "output": target, **same.as_dict()}
        click.echo(json.dumps({k: printable(v) if isinstance(v, str) else v
                               for k, v in facts.items()}))  # fmt: skip
        return
    line = f"{printable(result)}: {same.words} from {printable(source)}"
    if target == "-":
        say(line)
    elif not settings.batch.quiet:
        click.echo(line)
