"""What commands share that turn image files into image files."""

import json
import os
import sys
from dataclasses import replace as replaced
from typing import Any

from imgconv.batch import inputs as naming
from imgconv.batch import runner
from imgconv.batch.filtering import Recipe, rule_of
from imgconv.batch.pictured import names_of
from imgconv.batch.plan import Plan, check_against_input, names_folder
from imgconv.batch.reporting import Reports
from imgconv.cli import recording
from imgconv.cli.boundary import printable, say
from imgconv.cli.outputs import Request, level_of
from imgconv.cli.work import Work
from imgconv.errors import ImgconvError, UsageError
from imgconv.images import formats, scaling
from imgconv.images.reading import parse_frame
from imgconv.images.writing import check_pyramid
from imgconv.pictures.colormaps import check_colormap
from imgconv.pictures.layout import Layout


def layout_of(given: dict[str, Any]) -> Layout | None:
    """The contact sheet that the options ask for. Raises UsageError for its options alone."""
    if given["sheet"]:
        return Layout(given["columns"], given["tile"], given["share_scale"])
    for name in ("columns", "tile", "share_scale"):
        if given[name]:
            raise UsageError(f"--{name.replace('_', '-')}: expected --sheet with it")
    return None


def write_all(request: Request) -> int:
    """Do the work; return the exit code. Raises UsageError before any work."""
    given, recipe = request.given, request.recipe
    if not request.inputs and given["files_from"] is None:
        raise UsageError("no input: expected image files, - or sample:chart")
    if request.inputs.count("-") + (given["files_from"] == "-") > 1:
        raise UsageError("standard input is named twice, expected once")
    if given["cluster"] and "-" in request.inputs:
        raise UsageError("--cluster: an image on standard input, expected files or URLs")
    frame = given["frame"]
    checked(request)
    target, made = _target(given)
    if made:
        check_pyramid(made, given["pyramid"])
    if target == "-" and given["as_json"]:
        raise UsageError("--json and image data both on standard output, expected one of them")
    reports = None
    if given["report"]:
        reports = Reports(given["report"], len(request.inputs) > 1)
        if given["output"] is None and not given["in_place"]:
            recipe = request.recipe = replaced(recipe, only_report=True)
    plan = Plan(target, made.suffixes[0] if made else ".png", given["in_place"],
                several=len(names_of(recipe)) > 1 or len(request.inputs) > 1,
                archive=made is not None and made.archive)  # fmt: skip
    sources: Any = naming.expand(
        request.inputs, given["recursive"], given["files_from"], given["null"]
    )
    if given["files_from"] is not None:
        from imgconv.batch.names import SpilledNames

        plan.taken = SpilledNames()
    sources = recording.recent(sources, given)
    total = None
    if given["files_from"] is None:
        sources = list(sources)
        total = len(sources)
        results = total if plan.together else total * len(names_of(recipe))
        if target == "-" and results > 1:
            raise UsageError(
                f"{results} results for standard output, expected one; "
                "use -o DIR/, --combine or npz:-"
            )
        if target != "-" and frame != "all":
            _plan_ahead(sources, plan, recipe, reports)
    work = Work(request, target, made, plan, reports)
    jobs = 1  # of a cluster's own choice
    if not given["cluster"]:
        jobs = runner.shares(given["jobs"], given["threads"], 1 if target == "-" else total)
    progress = runner.Progress(total, given["quiet"] or given["as_json"])
    if total == 1:
        work.tell = progress.rows
    failed = 0
    try:
        for outcome in recording.run(sources, work, jobs, total, recipe, given):
            progress.step()
            if outcome.error is not None:
                progress.end()
                failed = max(failed, outcome.error.exit_code if total == 1 else 1)
                say(f"imgconv: {outcome.error}")
            if given["as_json"]:
                _print_json(outcome)
            elif given["dry_run"] or given["verbose"]:
                stream = sys.stdout if given["dry_run"] else sys.stderr
                for result in outcome.results:
                    print(
                        f"{printable(result['input'])} -> {printable(result['output'])}",
                        file=stream,
                    )
    finally:
        progress.end()
    return failed


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
    if recipe.missing is not None and recipe.alpha == "filter":
        raise UsageError(
            "--missing with --alpha filter, where opacity says what is there; expected --alpha "
            "keep or drop"
        )
    parse_frame(request.given["frame"])
    level_of(request.given["compress"])


def _target(given: dict[str, Any]) -> tuple[str | None, formats.Format | None]:
    """Return (-o without its format prefix, the format if it is the same for all outputs)."""
    target = given["output"]
    made = formats.format_named(given["format_"]) if given["format_"] else None
    if given["in_place"]:
        if target is not None:
            raise UsageError("--in-place and --output, expected one of them")
        return None, made
    if target is None:
        return None, made or formats.FORMATS["png"]
    prefix, colon, rest = target.partition(":")
    if colon and rest == "-":
        return "-", formats.format_named(prefix)
    if target == "-":
        if made is None:
            raise UsageError("-o - needs --format, or a name such as png:-")
        return "-", made
    if made is None and not names_folder(target):
        suffix = os.path.splitext(target)[1]
        if not suffix.startswith(".{") and (suffix or "{" not in target):
            made = formats.format_of(target)
        return target, made
    if made is None:
        made = formats.FORMATS["png"]
    return target, made


def _plan_ahead(sources: list[Any], plan: Plan, recipe: Recipe, reports: Reports | None) -> None:
    """Name every output before any work, so that collisions are found now."""
    for index, source in enumerate(sources):
        if isinstance(source, ImgconvError):
            continue
        for kernel, _, name in names_of(recipe):
            path = plan.path(source, kernel.name, name, index)
            check_against_input(path, source, plan.in_place)
        if reports:
            reports.path(source, index)


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
