"""Run the tables and write benchmarks/README.md, results.json and plots."""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import files, loops, networks
from benchmarks.measure import Case, Result, measure
from benchmarks.report import write_report

HERE = Path(__file__).parent
GROUPS = (
    "loops", "gaussians", "pools", "layers", "networks", "png", "start", "process", "batch",
    "growth",
)  # fmt: skip


def cases(group: str, folder: Path) -> Iterator[Case]:
    """The cases of one group, made lazily so that only one table's images are in memory."""
    if group == "loops":
        yield from loops.filters()
    elif group == "gaussians":
        yield from loops.gaussians()
    elif group == "pools":
        yield from loops.pools()
    elif group == "layers":
        yield from networks.layers()
    elif group == "networks":
        yield from networks.networks()
    elif group == "png":
        yield from files.codec()
    elif group == "start":
        yield from files.starts(folder)
    elif group == "process":
        yield from files.processes(folder)
    elif group == "batch":
        yield from files.batches(folder)
    elif group == "growth":
        yield from loops.growth()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=GROUPS, help="run this group")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="3 rounds a case")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    stored = HERE / "results.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for group in options.only or GROUPS:
            measured: list[Result] = []
            for case in cases(group, Path(folder)):
                result = measure(case, 3 if options.quick else options.rounds, generator)
                print(line(result), flush=True)
                measured.append(result)
            results[group] = [asdict(result) for result in measured]
    stored.write_text(json.dumps(results, indent=1) + "\n")
    write_report(results, HERE)


def line(result: Result) -> str:
    """One result as one line for the terminal."""
    ratios = [
        f"{middle:.2f}× {name} ({low:.2f}–{high:.2f})"
        for name, (low, middle, high) in result.ratios.items()
    ]
    best = ", ".join(f"{name} {value:.1f} ms" for name, value in result.best.items())
    return f"{result.table}: {result.row}: {'; '.join(ratios)} [{best}]"


if __name__ == "__main__":
    main()
