"""Running a network over many images, and what the commands print of it."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING

from imgconv.batch.runner import Outcome, Progress, R, run
from imgconv.console import printable, say
from imgconv.errors import ImageError, ImgconvError, UsageError
from imgconv.pipeline.settings import BatchSettings

if TYPE_CHECKING:
    from imgconv.batch.prediction import Prediction, PredictionRow
    from imgconv.nn.models import Network
    from imgconv.pipeline.attribution import Attribution, HeatRow
    from imgconv.pipeline.features import Features, LayerRow
    from imgconv.pipeline.firing import Fired


def run_features(work: "Features", inputs: tuple[str, ...], batch: BatchSettings) -> int:
    """Write every image's maps; return the exit code. Raises UsageError before any work."""
    from imgconv.batch.inputs import Scan, Spooled
    from imgconv.cli.net_options import sources_of
    from imgconv.pipeline.plan import Claims, folder_of

    takes = None if work.request.only_report else folder_of(work.request.settings.maps.output)
    scan = Scan(batch.recursive, without=takes)
    with contextlib.ExitStack() as stack:
        sources = sources_of(inputs, batch, scan)
        claims = Claims()
        if batch.files_from is not None:  # which may have any number of names
            from imgconv.batch.names import SpilledNames

            sources = stack.enter_context(contextlib.closing(Spooled(sources)))
            claims = stack.enter_context(contextlib.closing(Claims(SpilledNames())))
        work.follow(scan.folders, claims)
        for index, source in enumerate(sources):
            if isinstance(source, str):
                _planned(work, source, index)
        for folder in () if batch.quiet else sorted(scan.passed):
            say(f"imgconv: {folder}: passed over, since the outputs go there")
        return _written(work, sources, batch)


def _written(work: "Features", sources: Iterable[str | ImageError], batch: BatchSettings) -> int:
    dry_run = work.request.settings.maps.dry_run
    totals = [0, 0, 0]

    def show(outcome: "Outcome[LayerRow]") -> None:
        for row in outcome.results:
            totals[0] += row["maps"]
            totals[1] += row["bytes"]
            totals[2] += 1
            if batch.as_json:
                print(json.dumps({key: v for key, v in row.items() if key != "paths"}), flush=True)
            elif "top_maps" in row and not batch.quiet:
                print(f"{printable(row['input'])} {row['layer']}: {_fired(row['top_maps'])}")
            elif dry_run:
                size = f"{row['height']}×{row['width']}"
                print(
                    f"{printable(row['input'])} {row['layer']}: {row['maps']} maps of {size} -> "
                    f"{printable(row['output'])}"
                )

    # One image after the other: each takes all threads.
    code = _all(run(sources, work, 1), sources, batch, show, quiet=dry_run)
    for row in work.firing.over_all() if work.firing and not dry_run else ():
        if batch.as_json:
            print(json.dumps(row))
        elif row["images"] > 1:
            print(f"over {row['images']} images {row['layer']}: {_fired(row['top_maps'])}")
    if dry_run and not batch.as_json:
        print(f"{totals[0]:,} maps of {totals[2]:,} layers, {totals[1]:,} bytes as float32")
    return code


def _fired(maps: "list[Fired]") -> str:
    """Maps by their means, the largest first, with their largest value and where it is."""
    return ", ".join(
        f"map {row['map']} mean {row['mean']:.4g}"
        + (
            f" (up to {row['largest']:.4g} at {','.join(map(str, row['at']))})"
            if "at" in row
            else ""
        )
        for row in maps
    )


def _planned(work: "Features", source: str, index: int) -> None:
    """Collisions are refused before any work; what cannot be read is told when its turn comes."""
    try:
        work.plan(source, index)
    except ImgconvError as error:
        if type(error) is UsageError:  # not of the image, as a ShapeError is
            raise


def run_predictions(
    work: "Prediction", sources: Iterable[str | ImageError], batch: BatchSettings
) -> int:
    """Print every image's classes; return the exit code."""

    def show(outcome: "Outcome[PredictionRow]") -> None:
        for row in outcome.results:
            if batch.as_json:
                print(json.dumps(row), flush=True)
                continue
            classes = ", ".join(
                f"{found['label'] or found['class']} {found['probability']:.1%}"
                for found in row["top"]
            )
            frame = f" frame {row['frame']}" if "frame" in row else ""
            print(f"{printable(row['input'])}{frame}: {classes}", flush=True)

    return _all(work.outcomes(sources), sources, batch, show, quiet=True)


def run_attributions(
    work: "Attribution", sources: Iterable[str | ImageError], batch: BatchSettings
) -> int:
    """Write every image's map; return the exit code. Raises UsageError before any work."""
    names = list(sources)
    for index, source in enumerate(names):
        if isinstance(source, str):
            work.plan.claims.input(source) if work.plan.claims else None
            work.path(source, index)
    work.plan.claims = None

    def show(outcome: "Outcome[HeatRow]") -> None:
        for row in outcome.results:
            if batch.as_json:
                print(json.dumps(row), flush=True)
            elif "skipped" not in row and not batch.quiet:
                layer = f" of {row['layer']}" if row["layer"] else ""
                print(
                    f"{printable(row['input'])}: {row['label'] or row['class']}, score "
                    f"{row['score']:.4g}: {row['height']}×{row['width']}{layer} -> "
                    f"{printable(row['output'])}",
                    flush=True,
                )

    # One image after the other: each takes all threads.
    return _all(run(names, work, 1), names, batch, show, quiet=False)


def _all(
    outcomes: Iterable[Outcome[R]], sources: Iterable[str | ImageError], batch: BatchSettings,
    show: Callable[[Outcome[R]], None], quiet: bool,
) -> int:  # fmt: skip
    """Show every outcome; return the exit code. quiet: without a bar."""
    total = len(sources) if isinstance(sources, Sized) else None
    progress = Progress(total, quiet or batch.quiet or batch.as_json)
    failed = 0
    try:
        for outcome in outcomes:
            progress.step()
            if outcome.error is not None:
                failed = max(failed, outcome.error.exit_code if total == 1 else 1)
                say(f"imgconv: {outcome.error}")
                if batch.as_json:
                    row = {"input": printable(outcome.source), "error": str(outcome.error)}
                    print(json.dumps(row), flush=True)
            show(outcome)
    finally:
        progress.end()
        sys.stdout.flush()
    return failed


def convert_weights(network: "Network", source: str, output: str, overwrite: bool) -> int:
    """Write a network's weights, or all of it as ONNX; return the file's size.

    Raises UsageError, OutputError, and ModelError for what ONNX cannot say.
    """
    from imgconv.io.formats import format_of
    from imgconv.io.publish import publish
    from imgconv.io.writing import encode_archive
    from imgconv.nn.weights import loaded

    if output.lower().endswith(".onnx"):
        from imgconv.nn.onnx import to_onnx

        return publish(output, [to_onnx(network).SerializeToString()], overwrite)
    made = format_of(output)
    if not made.archive:
        raise UsageError(f"{output}: expected a name that ends in .safetensors, .npz or .onnx")
    facts = {"network": network.name, "weights": source}
    return publish(output, encode_archive(loaded(network.graph), made, facts), overwrite)
