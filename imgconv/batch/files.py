"""A batch of image files: which inputs there are, where their outputs go, who works on them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import replace

from imgconv.batch import runner
from imgconv.batch.inputs import Scan, check_names, claimed, failure, spooled
from imgconv.errors import ImageError, UsageError
from imgconv.io import formats
from imgconv.io.writing import check_pyramid
from imgconv.ops.algorithms import select
from imgconv.pipeline import finish
from imgconv.pipeline.filter import Work
from imgconv.pipeline.naming import Template
from imgconv.pipeline.outputs import Outputs, Request, Row, check_terminal
from imgconv.pipeline.plan import FIELDS, Claims, Kept, Plan, Reports, folder_of, names_folder
from imgconv.pipeline.recipe import names_of
from imgconv.pipeline.settings import BatchSettings, WriteSettings

_LEAST = 12  # files that repay the start of worker processes

Sources = Iterable[str | ImageError]


@contextlib.contextmanager
def opened(request: Request) -> Iterator[tuple[Iterator[runner.Outcome[Row]], int | None, Work]]:
    """The batch that a request asks for, with its outputs named.

    What becomes of each input, in order; how many there are, if that is known; and the work on
    them. Raises UsageError before any work.
    """
    settings = request.settings
    _check_inputs(request)
    finish.check(request)
    target, made = _target(settings.write)
    if made:
        check_pyramid(made, settings.write.pyramid)
    reports = None
    if settings.show.report:
        reports = Reports(settings.show.report, len(request.inputs) > 1)
        if settings.write.output is None and not settings.write.in_place:
            request.recipe = replace(request.recipe, only_report=True)
    scan = Scan(settings.batch.recursive, not settings.write.in_place, folder_of(target))
    sources: Sources = scan.expand(request.inputs, settings.batch.files_from, settings.batch.null)
    sources = _recent(sources, settings.batch)
    with contextlib.ExitStack() as stack:
        claims = stack.enter_context(claimed(settings.batch))
        plan = _plan(request, target, made, scan, claims)
        if reports:
            reports.plan.folders, reports.plan.claims = scan.folders, claims
        work = Work(Outputs(request, plan, made, reports))
        if settings.batch.stream:
            sources = _planned_as_they_come(sources, work)
        else:
            sources = stack.enter_context(spooled(sources, settings.batch))
        total = len(sources) if isinstance(sources, Sized) else None
        if total is not None:
            _plan_ahead(sources, work)
            request.tell(_notes_of(scan, total, settings.batch.files_from))
        jobs = 1  # of a cluster's own choice
        if not settings.batch.cluster:
            jobs = runner.shares(settings.batch.jobs, settings.batch.threads, total)
        yield _outcomes(sources, work, jobs, total), total, work


def _recent(sources: Sources, batch: BatchSettings) -> Sources:
    """The sources that `--since` leaves. Raises UsageError for what it cannot mean."""
    if not batch.since:
        return sources
    from imgconv.batch.ledger_file import DEFAULT
    from imgconv.batch.since import changed_since, parse_since

    return changed_since(sources, parse_since(batch.since, batch.ledger or DEFAULT))


def _outcomes(
    sources: Sources, work: Work, jobs: int, total: int | None
) -> Iterator[runner.Outcome[Row]]:
    """What becomes of every source, by a cluster and recorded where that was asked for."""
    batch = work.out.request.settings.batch
    if batch.dry_run or not (batch.ledger or batch.resume or batch.cluster):
        return _by_workers(sources, work, jobs, total, runner.run)
    return _recorded(sources, work, jobs, total)


def _recorded(
    sources: Sources, work: Work, jobs: int, total: int | None
) -> Iterator[runner.Outcome[Row]]:
    from imgconv.batch import ledger, resuming
    from imgconv.batch.ledger_file import DEFAULT

    batch, write = work.out.request.settings.batch, work.out.request.settings.write
    opened = None
    if batch.ledger or batch.resume:
        opened = ledger.Ledger(
            batch.ledger or DEFAULT, work.out.request.recipe, write.deciding(),
            resume=batch.resume, overwrite=write.overwrite or write.in_place,
        )  # fmt: skip
    recorder = resuming.Recorder(work, opened, write.in_place)
    completed = False
    try:
        if batch.cluster:
            from imgconv.batch.cluster import client

            yield from client.run(sources, batch.cluster, work, recorder, total, batch.threads)
        else:
            yield from _by_workers(
                sources, work, jobs, total,
                lambda some, by, *rest: resuming.run(some, replace(recorder, work=by), *rest),
            )  # fmt: skip
            yield from resuming.put_aside(recorder)
        completed = True
    finally:
        if opened:
            opened.close(completed)


def _by_workers(
    sources: Sources, work: Work, jobs: int, total: int | None,
    run: Callable[[Sources, runner.Work, int, int], Iterator[runner.Outcome[Row]]],
) -> Iterator[runner.Outcome[Row]]:  # fmt: skip
    """What `run(sources, work, jobs, 0)` yields, by processes where these are of use."""
    settings = work.out.request.settings
    # A pipe, or a file that has changed, may have frames that are named only when it is read, and
    # plans are told where the loops run.
    alone = jobs == 1 or settings.batch.dry_run or settings.read.frame == "all" or select.is_told()
    if alone or (total is not None and total < _LEAST):
        return run(sources, work, jobs, 0)
    from imgconv.batch import workers

    return workers.run(sources, work, jobs, run)


def _check_inputs(request: Request) -> None:
    settings = request.settings
    check_names(request.inputs, settings.batch)
    if settings.batch.cluster and "-" in request.inputs:
        raise UsageError("--cluster: an image on standard input, expected files or URLs")
    if settings.batch.stream and settings.batch.files_from is None:
        raise UsageError("--stream needs --files-from")


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


def _plan_ahead(sources: Sources, work: Work) -> None:
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


def _planned_as_they_come(sources: Sources, work: Work) -> Iterator[str | ImageError]:
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
    settings = work.out.request.settings
    if settings.write.in_place:
        if source == "-" or source.startswith("sample:"):
            raise UsageError(f"--in-place: {source} cannot be replaced, expected files")
    elif work.out.plan.claims:
        work.out.plan.claims.input(source)
    planned = work.out.planned(source, index)
    if settings.write.pyramid and work.out.made is None:
        for one in planned:
            check_pyramid(work.out.format(source, one.path), True)
    maps = [one for one in planned if one.path == "-"]
    if maps:
        _check_stdout(source, work)
    return len({one.frame for one in maps} if work.out.together(source) else maps)


def _check_stdout(source: str, work: Work) -> None:
    """Raise UsageError where standard output cannot take a result."""
    settings = work.out.request.settings
    if settings.batch.as_json:
        raise UsageError("--json and image data both on standard output, expected one of them")
    for option in ("cluster", "ledger", "resume"):
        if getattr(settings.batch, option):
            raise UsageError(f"--{option} and standard output, expected -o with files")
    if not settings.batch.dry_run:
        check_terminal(work.out.format(source, "-"))


def _notes_of(scan: Scan, total: int, files_from: str | None) -> Iterator[str]:
    """What of the inputs was passed over, where one would not expect it."""
    for folder in sorted(scan.passed):
        yield f"{folder}: skipped, since outputs go there"
    if files_from is not None and not total:
        yield f"--files-from {files_from}: no names, nothing to do"


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
