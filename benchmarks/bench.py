"""Run the tables and write benchmarks/README.md, results.json and plots."""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from benchmarks import files, kept, loops, networks, planner, scale
from benchmarks.measure import Case, Result, measure
from benchmarks.report import about, kept_summary, write_report

HERE = Path(__file__).parent
GROUPS = (
    "loops", "gaussians", "planner", "pools", "layers", "networks", "png", "start", "process",
    "batch", "scale", "growth", "models", "kept",
)  # fmt: skip


class Extent(NamedTuple):
    """How much is measured: image sizes in megapixels, files of a batch, rounds a case."""

    sizes: tuple[str, ...]
    files: tuple[int, ...]
    rounds: int
    budget: float

    @property
    def photo(self) -> str:
        """The size of the tables that have one."""
        return "12" if "12" in self.sizes else self.sizes[-1]


FULL = Extent(("0.25", "1", "12", "100", "400"), (10, 100, 1000), 11, 20)
SHORT = Extent(("0.25", "1", "12", "100"), (10, 100, 1000), 5, 3)
QUICK = Extent(("0.25", "1"), (10,), 3, 1)


def cases(
    group: str, folder: Path, extent: Extent, against: str, match: str = ""
) -> Iterator[Case]:
    """The cases of one group, made lazily so that only one table's images are in memory."""
    if group == "kept":
        yield from kept.cases(folder, against, extent is not FULL, match)
    elif group == "loops":
        yield from loops.filters(extent.photo)
    elif group == "gaussians":
        yield from loops.gaussians(extent.photo)
        yield from loops.boxes(extent.photo)
    elif group == "planner":
        for size in ("0.25", extent.photo):
            yield from planner.choices(size)
    elif group == "pools":
        yield from loops.pools(extent.photo)
    elif group == "layers":
        yield from networks.layers()
    elif group == "networks":
        yield from networks.networks()
    elif group == "models":
        from benchmarks import models

        yield from models.cases(folder)
    elif group == "png":
        yield from files.codec(("0.25", extent.photo))
    elif group == "start":
        yield from files.starts(folder)
    elif group == "process":
        yield from files.processes(folder, ("0.25", extent.photo))
    elif group == "batch":
        yield from files.batches(folder, extent.files)
    elif group == "scale":
        yield from scale.large(folder, [size for size in extent.sizes if float(size) >= 1])
        yield from scale.batches(folder, extent.files)
    elif group == "growth":
        yield from loops.growth(extent.sizes)
        yield from files.growth(folder, extent.sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=GROUPS, help="run this group")
    parser.add_argument("--short", action="store_true", help="up to 100 MP, 5 rounds")
    parser.add_argument("--quick", action="store_true", help="up to 1 MP and 10 files, 3 rounds")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing; write the report again"
    )
    parser.add_argument("--no-report", action="store_true", help="print and write nothing")
    parser.add_argument(
        "--against", default=kept.FIRST, metavar="COMMIT",
        help="what the group kept compares this version with (%(default)s, the first release)",
    )  # fmt: skip
    parser.add_argument("--rows", default="", metavar="TEXT", help="only kept's rows with this")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    extent = QUICK if options.quick else SHORT if options.short else FULL
    generator = random.Random(options.seed)
    stored = HERE / "results.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    origin = results.pop("about", {})
    if options.report:
        write_report(results, origin, HERE)
        return
    origin |= about(" ".join(["benchmarks/run", *sys.argv[1:]]))
    with tempfile.TemporaryDirectory() as folder:
        for group in options.only or GROUPS:
            begun = time.perf_counter()
            measured: list[Result] = []
            for case in cases(group, Path(folder), extent, options.against, options.rows):
                rounds, budget = extent.rounds, extent.budget
                if group == "kept":
                    rounds, budget = kept.ROUNDS, budget / 3
                result = measure(case, rounds, generator, budget)
                print(line(result), flush=True)
                measured.append(result)
                # After every case, so that an interrupted run leaves what it measured.
                results[group] = [asdict(result) for result in measured]
                if not (options.quick or options.no_report):
                    stored.write_text(json.dumps({"about": origin, **results}, indent=1) + "\n")
                    write_report(results, origin, HERE)
            if group == "kept":
                print("\n".join(kept_summary(results[group])), flush=True)
            print(f"{group}: {time.perf_counter() - begun:.0f} s", flush=True)


def line(result: Result) -> str:
    """One result as one line for the terminal."""
    ratios = [
        f"{middle:.2f}× {name} ({low:.2f}–{high:.2f}, CPU {result.work[name]:.2f})"
        for name, (low, middle, high) in result.ratios.items()
    ]
    best = ", ".join(
        f"{name} {value:.1f} ms" + (f", {result.peak[name]:.0f} MiB" if name in result.peak else "")
        for name, value in result.best.items()
    )
    return f"{result.table}: {result.row}: {'; '.join(ratios)} [{best}]"


if __name__ == "__main__":
    main()
