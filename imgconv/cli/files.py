"""What commands share that turn image files into image files."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace as replaced
from typing import Any

from imgconv.batch import runner
from imgconv.batch.inputs import Scan, Spooled, failure
from imgconv.cli import recording
from imgconv.cli.boundary import printable, say
from imgconv.cli.outputs import Request, check_terminal, level_of
from imgconv.cli.work import Work
from imgconv.errors import UsageError
from imgconv.io import formats, scaling
from imgconv.io.reading import parse_frame
from imgconv.io.writing import check_pyramid
from imgconv.pipeline.filtering import rule_of
from imgconv.pipeline.naming import Template
from imgconv.pipeline.pictured import names_of
from imgconv.pipeline.plan import FIELDS, Claims, Kept, Plan, folder_of, names_folder
from imgconv.pipeline.reporting import Reports
from imgconv.pipeline.settings import BatchSettings, ShowSettings, WriteSettings
from imgconv.viz.colormaps import check_colormap
from imgconv.viz.layout import Layout


def layout_of(show: ShowSettings) -> Layout | None:
    """The contact sheet that the options ask for. Raises UsageError for its options alone."""
    if show.sheet:
        return Layout(show.columns, show.tile, show.share_scale)
    for name in ("columns", "tile", "share_scale"):
        if getattr(show, name):
            raise UsageError(f"--{name.replace('_', '-')}: expected --sheet with it")
    return None


def write_all(request: Request) -> int:
    """Do the work; return the exit code. Raises UsageError before any work."""
    settings = request.settings
    _check_inputs(request)
    checked(request)
    target, made = _target(settings.write)
    if made:
        check_pyramid(made, settings.write.pyramid)
    reports = None
    if settings.show.report:
        reports = Reports(settings.show.report, len(request.inputs) > 1)
        if settings.write.output is None and not settings.write.in_place:
            request.recipe = replaced(request.recipe, only_report=True)
    scan = Scan(settings.batch.recursive, not settings.write.in_place, folder_of(target))
    sources: Any = scan.expand(request.inputs, settings.batch.files_from, settings.batch.null)
    sources = recording.recent(sources, settings.batch)
    with contextlib.ExitStack() as stack:
        claims = stack.enter_context(contextlib.closing(_claims(settings.batch.files_from)))
        plan = _plan(request, target, made, scan, claims)
        if reports:
            reports.plan.folders, reports.plan.claims = scan.folders, claims
        work = Work(request, target, made, plan, reports)
        if settings.batch.stream:
            return _do(_planned_as_they_come(sources, work), None, work)
        if settings.batch.files_from is None:
            sources = list(sources)
        else:  # a list may have any number of names
            sources = stack.enter_context(contextlib.closing(Spooled(sources)))
        _plan_ahead(sources, work)
        if not settings.batch.quiet:
            _tell_of(scan, len(sources), settings.batch.files_from)
        return _do(sources, len(sources), work)


def _do(sources: Any, total: int | None, work: Work) -> int:
    """Work on inputs, and say what becomes of them; return the exit code.

    total: how many there are, if that is known.
    """
    settings = work.request.settings
    jobs = 1  # of a cluster's own choice
    if not settings.batch.cluster:
        jobs = runner.shares(settings.batch.jobs, settings.batch.threads, total)
    progress = runner.Progress(total, settings.batch.quiet or settings.batch.as_json)
    if total == 1:
        work.tell = progress.rows
    failed = 0
    try:
        for outcome in recording.run(sources, work, jobs, total, work.request.recipe, settings):
            progress.step()
            if outcome.error is not None:
                progress.end()
                failed = max(failed, outcome.error.exit_code if total == 1 else 1)
                say(f"imgconv: {outcome.error}")
            _print(outcome, settings.batch)
    finally:
        progress.end()
    return failed


def _check_inputs(request: Request) -> None:
    settings = request.settings
    if not request.inputs and settings.batch.files_from is None:
        raise UsageError("no input: expected image files, - or sample:chart")
    if request.inputs.count("-") + (settings.batch.files_from == "-") > 1:
        raise UsageError("standard input is named twice, expected once")
    if settings.batch.cluster and "-" in request.inputs:
        raise UsageError("--cluster: an image on standard input, expected files or URLs")
    if settings.batch.stream and settings.batch.files_from is None:
        raise UsageError("--stream: expected --files-from with it")


def _claims(files_from: str | None) -> Claims:
    """What finds collisions, in a file where the names of a list may be too many for memory."""
    if files_from is None:
        return Claims()
    from imgconv.batch.names import SpilledNames

    return Claims(SpilledNames())


def _plan(
    request: Request, target: str | None, made: formats.Format | None, scan: Scan, claims: Claims
) -> Plan:
    """How the outputs are called."""
    settings, recipe = request.settings, request.recipe
    pictures = bool(recipe.sheet or recipe.colormap)
    directed = any(kernel.combine == "direction" for kernel in recipe.kernels)
    frame = settings.read.frame
    return Plan(
        target, made=made, kept=Kept(settings.write.depth, pictures, pictures or directed),
        in_place=settings.write.in_place,
        several=len(names_of(recipe)) > 1 or len(request.inputs) > 1, claims=claims,
        folders=scan.folders, frame=0 if frame in (None, "all") else int(frame),
    )  # fmt: skip


def _plan_ahead(sources: Any, work: Work) -> None:
    """Name every output before any work, so that collisions are found now."""
    on_stdout = 0
    for index, source in enumerate(sources):
        if isinstance(source, str):
            on_stdout += _plan_one(source, index, work)
            if on_stdout > 1:
                raise UsageError(
                    "more than one result for standard output, expected one; use -o DIR/, "
                    "--combine or npz:-"
                )


def _planned_as_they_come(sources: Any, work: Work) -> Iterator[Any]:
    """Yield sources once their outputs are named; one that collides is yielded as its error."""
    for index, source in enumerate(sources):
        if isinstance(source, str):
            try:
                if _plan_one(source, index, work):
                    raise UsageError(f"{source}: --stream and standard output, expected -o DIR/")
            except UsageError as error:
                source = failure(source, error)
        yield source


def _plan_one(source: str, index: int, work: Work) -> int:
    """Name an input's outputs; return how many results go to standard output."""
    settings = work.request.settings
    if settings.write.in_place:
        if source == "-" or source.startswith("sample:"):
            raise UsageError(f"--in-place: {source} cannot be replaced, expected files")
    elif work.plan.claims:
        work.plan.claims.input(source)
    planned = work.planned(source, index)
    if settings.write.pyramid and work.made is None:
        for one in planned:
            check_pyramid(work.format(source, one.path), True)
    maps = [one for one in planned if one.path == "-"]
    if maps:
        _check_stdout(source, work)
    return len({one.frame for one in maps} if work.together(source) else maps)


def _check_stdout(source: str, work: Work) -> None:
    """Raise UsageError where standard output cannot take a result."""
    settings = work.request.settings
    if settings.batch.as_json:
        raise UsageError("--json and image data both on standard output, expected one of them")
    for option in ("cluster", "ledger", "resume"):
        if getattr(settings.batch, option):
            raise UsageError(f"--{option} and standard output, expected -o with files")
    if not settings.batch.dry_run:
        check_terminal(work.format(source, "-"))


def _tell_of(scan: Scan, total: int, files_from: str | None) -> None:
    """Say what of the inputs was passed over, where one would not expect it."""
    for folder in sorted(scan.passed):
        say(f"imgconv: {folder}: passed over, since the outputs go there")
    if files_from is not None and not total:
        say(f"imgconv: --files-from {files_from}: no names, nothing to do")


def checked(request: Request) -> None:
    """Raise UsageError for options whose texts mean nothing, or do not go together."""
    recipe = request.recipe
    for kernel in recipe.kernels:
        scaling.check_rule(rule_of(kernel, recipe))
    if recipe.colormap:
        check_colormap(recipe.colormap)
        if any(kernel.combine == "direction" for kernel in recipe.kernels):
            raise UsageError(
                f"--colormap {recipe.colormap}: --combine direction is in colours already, "
                "expected one of them"
            )
    if recipe.read.missing is not None and recipe.read.alpha == "filter":
        raise UsageError(
            "--missing with --alpha filter, where opacity says what is there; expected --alpha "
            "keep or drop"
        )
    parse_frame(request.settings.read.frame)
    level_of(request.settings.write.compress)


def _target(write: WriteSettings) -> tuple[str | None, formats.Format | None]:
    """Return (-o without its format prefix, the format if it is the same for all outputs)."""
    target = write.output
    made = formats.format_named(write.format) if write.format else None
    if write.in_place:
        if target is not None:
            raise UsageError("--in-place and --output, expected one of them")
        return None, made
    if target is None:
        return None, made
    prefix, colon, rest = target.partition(":")
    if colon and rest == "-":
        return "-", formats.format_named(prefix)
    if target == "-":
        return "-", made
    if made is None and not names_folder(target):
        Template(target, FIELDS)  # which first says what is wrong with its fields
        if not target.endswith(".{ext}"):
            made = formats.format_of(target)
    return target, made


def _print(outcome: runner.Outcome, batch: BatchSettings) -> None:
    """Say what became of an input, where that was asked for."""
    if batch.as_json:
        _print_json(outcome)
    elif batch.dry_run or batch.verbose:
        stream = sys.stdout if batch.dry_run else sys.stderr
        # The maps in an archive are one output.
        rows = {row["output"]: row for row in outcome.results}
        for path, row in rows.items():
            if not (batch.dry_run and row.get("skipped")):
                print(f"{printable(row['input'])} -> {printable(path)}", file=stream)


def _print_json(outcome: runner.Outcome) -> None:
    rows: list[dict[str, Any]] = outcome.results
    if outcome.error is not None:
        rows = [{"input": outcome.source, "error": str(outcome.error)}]
    for row in rows:
        safe = {k: _in_unicode(v) if isinstance(v, str) else v for k, v in row.items()}
        print(json.dumps(safe), flush=True)


def _in_unicode(text: str) -> str:
    """Names as they are, except bytes that are not UTF-8, which JSON cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
