"""Making an output again: its record, its input, the same work, and what came of it."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from imgconv import __version__
from imgconv.batch.origin import Origin, taken
from imgconv.batch.plan import check_against_input, names_folder
from imgconv.batch.record import Record, parse
from imgconv.batch.runner import shares
from imgconv.cli.again import maps_again
from imgconv.cli.again_net import features_again
from imgconv.cli.boundary import printable, say
from imgconv.cli.outputs import check_terminal, to_stdout
from imgconv.errors import ImageError, UsageError
from imgconv.images.formats import FORMATS, format_of
from imgconv.images.notes import read_note
from imgconv.images.sameness import Sameness, compared
from imgconv.images.source import is_zarr, read_stdin


def repeat_result(result: str, given: dict[str, Any]) -> int:
    """Do what the options say; return the exit code. Raises ImageError, UsageError."""
    record = parse(read_note(result), result)
    if given["show"]:
        _show(record, given)
        return 0
    target = given["output"]
    _check_target(target, result, record, given)
    if record.imgconv != __version__ and not given["quiet"]:
        say(f"imgconv: {result}: made by imgconv {record.imgconv}, this is {__version__}")
    shares(None, given["threads"], 1)
    source, data, origin = _found(record, result, given)
    if target not in (None, "-"):
        check_against_input(target, source, False)
    with blamed(result):
        work = work_of(record, {**given, "result": result}, origin)
    content = work(source, data)
    if target == "-":
        to_stdout([content])
    if target is not None and not given["check"]:
        return 0
    same = compared(result, content if target in (None, "-") else target)
    _tell(result, source, same, target, given)
    return 0 if same.pixels else 1


def work_of(record: Record, given: dict[str, Any], origin: Origin) -> Any:
    """What makes the output: called with the input's name and its bytes or path, returns bytes.

    given: the options of `repeat`. Raises UsageError, and click's own, for what the record asks
    for wrongly.
    """
    again = features_again if record.command == "net features" else maps_again
    return again(record, given, origin)


def _show(record: Record, given: dict[str, Any]) -> None:
    words = record.words(given["source"] or record.input.name)
    if given["as_json"]:
        click.echo(json.dumps({"command": words, **record.as_dict()}))
    else:
        click.echo(printable(shlex.join(words)))


def _check_target(
    target: str | None, result: str, record: Record, given: dict[str, Any]
) -> None:  # fmt: skip
    if target is None:
        if is_zarr(result):
            raise UsageError(f"{result}: a Zarr image is a folder, expected -o with a path")
        return
    if target == "-":
        if given["as_json"]:
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


def _found(record: Record, result: str, given: dict[str, Any]) -> tuple[str, Any, Origin]:
    """The input's path, what to read it from, and what is recorded of it.

    Raises ImageError where it is not there or has other bytes than were recorded.
    """
    wanted, name = record.input.sha256, record.input.name
    if wanted is None:
        return name, name, Origin(name)
    explicit = given["source"]
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
        data = taken(path, given["max_pixels"], read_stdin)
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
    result: str, source: str, same: Sameness, target: str | None, given: dict[str, Any]
) -> None:  # fmt: skip
    if given["as_json"]:
        facts = {"result": result, "input": source, "output": target, **same.as_dict()}
        click.echo(json.dumps({k: printable(v) if isinstance(v, str) else v
                               for k, v in facts.items()}))  # fmt: skip
        return
    line = f"{printable(result)}: {same.words} from {printable(source)}"
    if target == "-":
        say(line)
    elif not given["quiet"]:
        click.echo(line)
