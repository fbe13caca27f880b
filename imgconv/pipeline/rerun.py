"""Making an output again: its record, its input, the same work, and what comes of it."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace

from imgconv.errors import ImageError, UsageError
from imgconv.io.digest import sha256_of
from imgconv.io.formats import format_of
from imgconv.io.publish import Piece, joined, publish
from imgconv.io.source import StandardInput, is_zarr
from imgconv.kernels import kernel_without_files
from imgconv.pipeline import finish, requests
from imgconv.pipeline.filter import Work
from imgconv.pipeline.naming import component
from imgconv.pipeline.networks import loading
from imgconv.pipeline.outputs import Outputs, Recorded, check_terminal
from imgconv.pipeline.plan import Plan, names_folder
from imgconv.pipeline.recipe import names_of
from imgconv.pipeline.records.network_provenance import NetworkProvenance
from imgconv.pipeline.records.origin import Origin, taken
from imgconv.pipeline.records.record import ITS_OWN, Named, Record
from imgconv.pipeline.settings import Settings
from imgconv.pipeline.settings.network import NetSettings
from imgconv.pipeline.settings.repeat import RepeatSettings
from imgconv.pipeline.settings.table import filled

# Makes the output of an input's name and what to read it from: its bytes, or b"" where they went
# to a file.
Rerun = Callable[[str, str | bytes], bytes]


def check_target(
    target: str | None, result: str, record: Record, settings: RepeatSettings
) -> None:  # fmt: skip
    """Raise UsageError for a target that the output cannot go to."""
    if target is None:
        if is_zarr(result):
            raise UsageError(f"{result}: a Zarr image is a folder, expected -o with a path")
        return
    if target == "-":
        if settings.batch.as_json:
            raise UsageError("--json and image data both on standard output, expected one of them")
        check_terminal(record.format)
        return
    if names_folder(target) or "{" in target:
        raise UsageError(f"-o {target}: expected the name of a file")
    if os.path.exists(target) and os.path.samefile(target, result):
        raise UsageError(f"-o {target}: is the result itself, expected another name")
    wanted = record.format.name
    if os.path.splitext(target)[1] and format_of(target).name != wanted:
        raise UsageError(f"-o {target}: the result is {wanted}, expected a name of that format")


def find_input(
    record: Record, result: str, settings: RepeatSettings
) -> tuple[str, str | bytes, Origin]:
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
        # Of a batch, a result has its input's name; it is not what it was made from.
        places = [
            path
            for path in places
            if (os.path.isfile(path) or is_zarr(path)) and not os.path.samefile(path, result)
        ]
        if name == "-" or not places:
            what = (
                "standard input" if name == "-" else f"{name}, which is neither beside it nor here"
            )
            raise ImageError(f"{result}: made from {what}; expected --input FILE")
    elif os.path.isdir(explicit) and not is_zarr(explicit):
        places = [os.path.join(explicit, name)]
    else:
        places = [explicit]
    for path in places:
        data = taken(path, settings.read.max_pixels, StandardInput(settings.read.max_pixels))
        got = Origin(path, data if isinstance(data, bytes) else None).digest
        if got == wanted:
            return path, data, Origin(name, known=wanted)
    raise ImageError(
        f"{places[0]}: SHA-256 {got}, expected {wanted}: not what {result} was made from"
    )


def work_of(
    record: Record, result: str, settings: RepeatSettings, origin: Origin, values: dict[str, object]
) -> Rerun:
    """What makes the output again.

    result: its name. values: of the recorded command's options, with ours, by their names. Raises
    UsageError and ImageError for what the record asks for wrongly.
    """
    if record.command == "net features":
        return _features(record, settings, origin, values)
    return _maps(record, result, settings, origin, values)


def _maps(
    record: Record, result: str, settings: RepeatSettings, origin: Origin, values: dict[str, object]
) -> Rerun:
    """The work of `apply` or `run`: one output of one input."""
    wanted, made = filled(Settings, values), record.format
    if record.command == "apply":
        kernels = tuple(map(kernel_without_files, record.texts("kernel")))
        request = requests.apply_request((), kernels, wanted)
    else:
        from imgconv.nn.chain import parse_chain

        steps = parse_chain(record.chain or "", kernel_without_files)
        request = requests.chain_request((), steps, record.texts("keep"), wanted)
    # An earlier version recorded labels as they were.
    request.recipe = replace(request.recipe, only=record.map and component(record.map))
    finish.check(request)
    if not names_of(request.recipe):
        raise UsageError(f"no map {record.map!r}")
    recorded = Recorded(
        together=made.archive and record.map is None,
        ome=result.lower().endswith((".ome.tif", ".ome.tiff")),
    )
    plan = Plan(settings.again.output or "-", made=made, claims=None)

    def run(source: str, data: str | bytes) -> bytes:
        content: list[bytes] = []

        def keep(pieces: Iterable[Piece]) -> int:
            content.append(joined(pieces))
            return len(content[0])

        out = Outputs(request, plan, made, recorded=recorded, given=data, to_stdout=keep)
        Work(out, origin)(source, 0)
        return b"".join(content)

    return run


def _features(
    record: Record, settings: RepeatSettings, origin: Origin, values: dict[str, object]
) -> Rerun:
    """The work of `net features`: one output of one image."""
    from imgconv.nn.find import with_weights
    from imgconv.pipeline.networks.features import Features
    from imgconv.pipeline.networks.request import request_of

    named = record.network or Named("")
    wanted = filled(NetSettings, values | {"output": "maps", "overwrite": True})
    if named.sha256 is None:
        found = loading.settled(named.name, wanted, kernel_without_files)
    else:
        file = _checked_file(settings.again.network, named, "--network")
        found = loading.settled(file, wanted)
    path = None
    if record.weights is not None:
        shipped = found.weights if record.weights.name == ITS_OWN else None
        path = settings.again.weights or shipped
        _checked_file(path, record.weights, "--weights")
    found, source = with_weights(found, path, wanted.weights.seed)
    known, patterns = record.weights, record.texts("layer")
    provenance = NetworkProvenance(wanted, patterns, named, (lambda: known) if known else None)
    request = request_of(found, source, provenance, wanted, patterns)
    if record.layer is not None and record.layer not in request.values:
        raise UsageError(f"no layer {record.layer[:40]!r}")

    def run(source: str, data: str | bytes) -> bytes:
        content: list[bytes] = []

        def save(_: str, pieces: Iterable[Piece]) -> None:
            target = settings.again.output
            if target is None or target == "-":
                content.append(joined(pieces))
            else:
                publish(target, pieces, settings.write.overwrite)
                content.append(b"")

        only = record.layer, record.map or None
        Features(request, data, origin, only, save)(source, 0)
        if not content:
            raise ImageError(f"its record: no map {record.map!r}")
        return content[0]

    return run


def _checked_file(path: str | None, wanted: Named, option: str) -> str:
    """The file at hand. Raises ImageError unless it has the digest that was recorded."""
    if path is None:
        raise ImageError(f"made with {wanted.name}, expected {option} FILE")
    try:
        got = sha256_of(path)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from None
    if got != wanted.sha256:
        raise ImageError(f"{path}: SHA-256 {got}, expected {wanted.sha256}")
    return path
