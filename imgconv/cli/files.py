"""What commands share that turn image files into image files."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any, NamedTuple

import numpy as np

from imgconv import __version__
from imgconv.batch import inputs as naming
from imgconv.batch import runner
from imgconv.batch.division import Divided, Division, rows_of_part
from imgconv.batch.filtering import Recipe, rule_of
from imgconv.batch.pictured import names_of, results_of
from imgconv.batch.plan import Plan, check_against_input, names_folder
from imgconv.batch.reporting import Reports
from imgconv.batch.streaming import MapRows, map_rows
from imgconv.cli import recording
from imgconv.cli.boundary import drop_stdout, printable, reason, say
from imgconv.compute import jit
from imgconv.compute.rows import WatchedRows, read_rows
from imgconv.errors import ImageError, ImgconvError, OutputError, UsageError
from imgconv.images import formats, scaling
from imgconv.images.complete import is_complete
from imgconv.images.image import Image
from imgconv.images.publish import EXISTS, exists, held, leads_to_a_stream, publish
from imgconv.images.reading import parse_frame, read_images
from imgconv.images.remote import is_url
from imgconv.images.source import is_zarr
from imgconv.images.streamed import Streamed, open_rows, rows_of
from imgconv.images.writing import check_pyramid, encode, encode_archive, encode_rows
from imgconv.pictures.colormaps import check_colormap
from imgconv.pictures.layout import Layout


@dataclass(eq=False, repr=False)
class Request:
    """A command line: input names, the recipe and the other options by name."""

    inputs: tuple[str, ...]
    recipe: Recipe
    given: dict[str, Any]


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
    for kernel in recipe.kernels:
        scaling.check_rule(rule_of(kernel, recipe))
    if recipe.colormap:
        check_colormap(recipe.colormap)
        if any(kernel.combine == "direction" for kernel in recipe.kernels):
            raise UsageError(
                f"--colormap {recipe.colormap}: --combine direction is in colours already, "
                "expected one of them"
            )
    frame = given["frame"]
    parse_frame(frame)
    _level(given["compress"])
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


class _Output(NamedTuple):
    """A map as rows, the format to write, the options of `encode_rows` and the --json line."""

    rows: MapRows
    made: formats.Format
    options: dict[str, Any]
    result: dict[str, Any]


class Work:
    """Read, filter, encode and publish one input."""

    def __init__(
        self, request: Request, target: str | None, made: formats.Format | None, plan: Plan,
        reports: Reports | None = None,
    ) -> None:  # fmt: skip
        self.request, self.target, self.made, self.plan = request, target, made, plan
        self.reports = reports
        self.tell: Callable[[int, int], None] | None = None  # of rows done, for one large image
        self.replacing = any(
            request.given[option] for option in ("overwrite", "in_place", "skip_existing")
        )

    def __getstate__(self) -> dict[str, Any]:
        """A copy for another process, which has no bar to move."""
        return {**self.__dict__, "tell": None}

    def outputs(self, source: str, index: int) -> list[str]:
        """The paths of an input's results, of the first frame."""
        paths = [
            self._path(source, k.name, n, index, 0) for k, _, n in names_of(self.request.recipe)
        ]
        return [*paths, self.reports.path(source, index)] if self.reports else paths

    def warm(self) -> None:
        """Compile or load what this work runs, by doing it to small images."""
        given, made = self.request.given, self.made or formats.FORMATS["png"]
        for channels in (1, 3):
            for dtype in (np.uint8, np.uint16):
                blank = Image(np.zeros((64, 64, channels), dtype))
                with contextlib.suppress(ImgconvError):
                    kind = formats.output_dtype(made, given["depth"], blank.pixels.dtype)
                    for result in results_of(blank, self.request.recipe, kind, made.raw):
                        list(encode(result.samples, made, compress=_level(given["compress"])))

    def __call__(self, source: str, index: int, replace: bool = False) -> list[dict[str, Any]]:
        """Make an input's results; `replace`: over any that exist. Raises ImgconvError."""
        if self.request.given["cluster"]:  # whose tasks have to know at once what is there
            return self._made(source, index, replace)
        with held():
            return self._made(source, index, replace)

    def _made(self, source: str, index: int, replace: bool) -> list[dict[str, Any]]:
        given, recipe = self.request.given, self.request.recipe
        named = [(k, n, self._path(source, k.name, n, index, 0)) for k, _, n in names_of(recipe)]
        page = self.reports.path(source, index) if self.reports else None
        if given["dry_run"]:
            pages = [("report", page)] if page else []
            paths = [*((name, path) for _, name, path in named), *pages]
            return [{"input": source, "output": path, "map": name} for name, path in paths]
        frame = given["frame"]
        # The names of further frames are known only once the file is read.
        finished = all(self._finished(path, replace) for _, _, path in named)
        if page and finished:
            # A page appears whole or not at all.
            finished = given["skip_existing"] and not replace and os.path.exists(page)
        if frame != "all" and finished:
            return [_skipped(source, path, name) for _, name, path in named]
        if not (replace or self.replacing or given["cluster"]) and self.target != "-":
            for _, _, path in named:
                if exists(path) and not leads_to_a_stream(path):
                    raise OutputError(f"{path}: {EXISTS}")
        if page and self.reports:
            self.reports.check(page, replace or self.replacing)
        plain = frame is None and not self.reports and self._has_one_map()
        if plain and _in_files(source, named[0][2]):
            streamed = self._streamed(source, index, replace)
            if streamed is not None:
                return [streamed]
        data: Any = sys.stdin.buffer.read() if source == "-" else source
        results = []
        for image in read_images(data, frame=frame, max_pixels=given["max_pixels"],
                                 level=given["level"],
                                 name="standard input" if source == "-" else ""):  # fmt: skip
            self._tell(image.notes)
            # MPO is a camera's JPEG: its further frames are previews of the old picture.
            if given["in_place"] and image.frames > 1 and image.format != "MPO":
                raise OutputError(
                    f"{source}: --in-place would lose frames of its {image.frames}; "
                    "write them elsewhere with --frame all -o DIR/"
                )
            results += self._write(source, index, image, frame == "all", replace)
            if self.reports:
                from imgconv.batch.reports import report_of

                path = self.reports.path(source, index, image.frame * (frame == "all"))
                made = report_of(image, recipe)
                row = self.reports.write(made, path, replace or self.replacing)
                results.append({"input": source} | row)
        return results

    def _path(self, source: str, kernel: str, name: str, index: int, frame: int) -> str:
        if self.target == "-":
            return "-"
        path = self.plan.path(source, kernel, name, index, frame)
        check_against_input(path, source, self.plan.in_place)
        return path

    def _finished(self, path: str, replace: bool) -> bool:
        """Whether --skip-existing leaves this output alone."""
        skipping = self.request.given["skip_existing"] and path != "-" and not replace
        if skipping and is_url(path):
            return exists(path)
        return skipping and is_complete(path, self._format(path).name)

    def _format(self, path: str) -> formats.Format:
        return self.made or formats.format_of(path)

    def _streamed(self, source: str, index: int, replace: bool) -> dict[str, Any] | None:
        """The result of a file whose rows are read while others are written, where that goes."""
        from imgconv.images.png_chunks import Unusual

        image = self._open(source)
        if image is None:
            return None
        self._tell(image.notes)
        with contextlib.closing(image.rows):
            try:
                return self._write_rows(source, index, image, 0, replace)
            except Unusual:
                return None  # the file is damaged: the whole of it is left to Pillow

    def _open(self, source: str) -> Streamed | None:
        given = self.request.given
        return open_rows(source, given["max_pixels"], given["memory"], given["level"])

    def _write_rows(
        self, source: str, index: int, image: Streamed, frame: int, replace: bool
    ) -> dict[str, Any] | None:
        """Write the one map of an image whose rows come in order; None where there is none."""
        given = self.request.given
        if not self._has_one_map():
            return None
        kernel, _, name = names_of(self.request.recipe)[0]
        path = self._path(source, kernel.name, name, index, frame)
        if self._finished(path, replace):
            return _skipped(source, path, name)
        output = self._output(source, path, image)
        if output is None:
            return None
        rows, made = output.rows, output.made
        if given["cluster"] and (part := rows_of_part(image, rows, made, given["memory"])):
            shape = rows.height, rows.width, rows.channels
            raise Divided(Division(
                shape, rows.dtype, part, path, made, output.options, output.result, rows.scaling
            ))  # fmt: skip
        watched = WatchedRows(rows, self.tell) if self.tell else rows
        with jit.expecting(functools.partial(rows.rehearse, made.name == "png")):
            size = self._publish(
                path, encode_rows(watched, made, **output.options, patched=path != "-"), replace
            )
        self._warn(source, rows.warning())
        return output.result | {"bytes": size}

    def _output(self, source: str, path: str, image: Streamed) -> "_Output | None":
        """The one map of an image as rows to write to a path; None where it has no rows."""
        recipe = self.request.recipe
        kernel, _, name = names_of(recipe)[0]
        made = self._format(path)
        dtype, raw = self._samples(made, image.rows.dtype)
        rows = map_rows(image, recipe, dtype, raw, made.alpha)
        if rows is None:
            return None
        scale = "none" if raw else rows.rule
        options = self._options(path, name, scale, image.icc) | {"alpha": rows.alpha}
        result = {"input": source, "output": path, "kernel": kernel.name, "map": name,
                  "width": rows.width, "height": rows.height, "channels": rows.channels,
                  "dtype": str(rows.dtype), "scale": scale}  # fmt: skip
        return _Output(rows, made, options, result)

    def part(
        self, source: str, index: int, start: int, stop: int, folder: str | None
    ) -> tuple[Any, int]:
        """Make rows start…stop − 1 of a divided image, in a folder's Zarr image if one is given.

        Return (the samples, or None where they were written; how many were clipped).
        """
        kernel, _, name = names_of(self.request.recipe)[0]
        image = self._open(source)
        path = self._path(source, kernel.name, name, index, 0)
        output = image and self._output(source, path, image)
        if not image or not output:
            raise ImageError(f"{source}: changed while it was read")
        with contextlib.closing(image.rows):
            rows = output.rows
            rows.start_at(start)
            if folder is not None:
                from imgconv.images import zarr_arrays

                zarr_arrays.write_rows(folder, rows, start, stop)
                return None, rows.lost
            samples = np.empty((stop - start, rows.width, rows.channels), rows.dtype)
            read_rows(rows, samples)
            return samples, rows.lost

    def assembled(
        self, source: str, division: Division, rows: Any, replace: bool
    ) -> dict[str, Any]:
        """Write the file of a divided image whose rows come from workers."""
        watched = rows
        if self.tell and division.made.name != "zarr":
            watched = WatchedRows(rows, self.tell)
        size = self._publish(
            division.path,
            encode_rows(watched, division.made, **division.options, patched=True), replace,
        )  # fmt: skip
        self._warn(source, division.warning(rows.lost))
        return division.result | {"input": source, "bytes": size}

    def _options(self, path: str, name: str, scale: str, icc: bytes | None) -> dict[str, Any]:
        """The options of `encode` for one map's file."""
        given = self.request.given
        return {
            "compress": _level(given["compress"]), "quality": given["quality"],
            "metadata": self._metadata(name, scale), "pyramid": given["pyramid"],
            "icc": icc if self.request.recipe.keeps_colors() else None,
            "ome": path.lower().endswith((".ome.tif", ".ome.tiff")),
        }  # fmt: skip

    def _has_one_map(self) -> bool:
        return not self.plan.together and len(names_of(self.request.recipe)) == 1

    def _samples(self, made: formats.Format, source: Any) -> tuple[Any, bool]:
        """(dtype of the samples to write, whether they are responses as they were computed)."""
        given, recipe = self.request.given, self.request.recipe
        depth = given["depth"] or ("8" if recipe.sheet or recipe.colormap else None)
        dtype = formats.output_dtype(made, depth, source)
        return dtype, made.raw or (dtype.kind == "f" and given["scale"] in (None, "none"))

    def _metadata(self, name: str, scale: str) -> dict[str, Any] | None:
        if self.request.given["no_metadata"]:
            return None
        facts = self.request.recipe.as_dict() | {"scale": scale}
        shown = None if self.plan.together else name or None
        return {"imgconv": __version__, "map": shown, **facts}

    def _tell(self, notes: Iterable[str]) -> None:
        for note in () if self.request.given["quiet"] else notes:
            say(f"imgconv: {note}")

    def _warn(self, source: str, warning: str | None) -> None:
        if warning and not self.request.given["quiet"]:
            say(f"imgconv: {source}: {warning}")

    def _write(
        self, source: str, index: int, image: Any, all_frames: bool, replace: bool
    ) -> list[dict[str, Any]]:
        recipe = self.request.recipe
        frame = image.frame * all_frames
        streamed = self._write_rows(source, index, rows_of(image), frame, replace)
        if streamed is not None:
            return [streamed]
        results: list[dict[str, Any]] = []
        archives: dict[str, tuple[dict[str, Any], Any, list[dict[str, Any]]]] = {}
        if not names_of(recipe):
            return results
        first = names_of(recipe)[0]
        path = self._path(source, first[0].name, first[2], index, image.frame * all_frames)
        made = self._format(path)
        dtype, raw = self._samples(made, image.pixels.dtype)
        for result in results_of(image, recipe, dtype, raw):
            path = self._path(
                source, result.kernel.name, result.name, index, image.frame * all_frames
            )
            if self._finished(path, replace):
                results.append(_skipped(source, path, result.name))
                continue
            samples, alpha = result.samples, result.alpha
            if alpha and not made.alpha:
                samples, alpha = samples[..., :-1], False
            self._warn(source, result.warning)
            height, width, channels = samples.shape
            scale = "none" if raw else result.scale
            row = {"input": source, "output": path, "kernel": result.kernel.name,
                   "map": result.name, "width": width, "height": height, "channels": channels,
                   "dtype": str(samples.dtype), "scale": scale}  # fmt: skip
            results.append(row)
            if self.plan.together:
                metadata = self._metadata(result.name, scale)
                arrays, _, rows = archives.setdefault(path, ({}, metadata, []))
                arrays[result.name or "image"] = samples
                rows.append(row)
                continue
            options = self._options(path, result.name, scale, image.icc)
            row["bytes"] = self._publish(
                path, encode(samples, made, alpha=alpha, **options), replace
            )
        for path, (arrays, metadata, rows) in archives.items():
            size = self._publish(path, encode_archive(arrays, made, metadata), replace)
            for row in rows:
                row["bytes"] = size
        return results

    def _publish(self, path: str, pieces: Any, replace: bool) -> int:
        if path == "-":
            return _to_stdout(pieces)
        # A cluster may run a task twice: what the first run left is then found done.
        or_same = bool(self.request.given["cluster"])
        return publish(path, pieces, replace or self.replacing, or_same)


def _in_files(source: str, path: str) -> bool:
    """Whether both are files: a pipe is read once, and takes back nothing of a damaged image."""
    return (
        (os.path.isfile(source) or is_zarr(source)) and path != "-" and not leads_to_a_stream(path)
    )


def _skipped(source: str, path: str, name: str) -> dict[str, Any]:
    return {"input": source, "output": path, "map": name, "skipped": True}


def _level(text: str) -> int | str:
    if text in ("fast", "small"):
        return text
    if text.isdigit() and int(text) <= 9:
        return int(text)
    raise UsageError(f"--compress {text}: expected 0 to 9, fast or small")


def _to_stdout(pieces: Any) -> int:
    size = 0
    try:
        out = sys.stdout.buffer
        for piece in pieces:
            out.write(piece)
            size += len(piece)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        raise OutputError(f"standard output: {reason(error)}") from None
    return size


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
