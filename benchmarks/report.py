"""Tables of ratios and plots from measured results."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.summary import summary

PACKAGES = ("imgconv", "numpy", "numba", "pillow", "isal", "opencv-python-headless",
            "pyvips-binary", "scipy", "torch", "onnxruntime")  # fmt: skip

SLOWER = 1.05  # of kept's rows, those above are shown one by one


def about(command: str) -> dict[str, str]:
    """What is stored beside the results: how, where and with what they were measured."""
    return {"command": command, "machine": machine(), "versions": versions()}


def write_report(
    results: dict[str, list[dict[str, Any]]], origin: dict[str, str], folder: Path
) -> None:
    """Write README.md and one plot per table that has an x axis.

    origin: `about`, and under `note` what else a reader has to know of these results.
    """
    parts = [
        "# Benchmarks",
        "",
        *summary(results),
        "",
        "## How it is measured",
        "",
        "Every round runs all tools once in random order. A ratio is imgconv's time divided by "
        "the peer's in the same round, shown as the median with its quartiles; below 1 imgconv "
        "is faster. CPU is the same ratio for processor time over all threads, since elapsed "
        "time means little if other work shares the machine. Milliseconds are the best of all "
        "rounds. MiB is the peak memory of the whole process (the largest one, if there are "
        "several).",
        "",
        f"Measured by `{origin['command']}`. `benchmarks/run` measures everything (hours), "
        "`benchmarks/run --short` up to 100 MP in half an hour, and `benchmarks/run --only png` "
        "one group; `python -m benchmarks.bench --report` writes this page again from "
        "results.json.",
        "",
        *([origin["note"], ""] if origin.get("note") else []),
        f"Machine: {origin['machine']}. Versions: {origin['versions']}.",
    ]
    for group, rows in results.items():
        if group == "kept":
            parts += ["", *kept_summary(rows)]
            continue
        tables: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            tables.setdefault(row["table"], []).append(row)
        for title, members in tables.items():
            parts += ["", f"## {title}", "", *table(members)]
            picture = plot(title, members, folder)
            if picture:
                parts += ["", f"![{title}]({picture})"]
    (folder / "README.md").write_text("\n".join(parts) + "\n")


def kept_summary(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines: this version against a commit by kind of work, and every slower row."""
    against = next(iter(rows[0]["ratios"]))
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kind = row["table"].removeprefix("kept, ")
        kinds.setdefault(kind, []).append(row | {"row": f"{kind}: {row['row']}"})
    lines = [
        f"## kept: this version against {against}",
        "",
        "Both versions take turns in one run, each with its own compiled loops. Below 1 this "
        f"version is faster. Every row is in results.json; those above {SLOWER} are listed.",
        "",
        "| work | rows | geometric mean | CPU | largest | largest CPU |",
        "|---" * 6 + "|",
    ]
    for kind, members in [*kinds.items(), ("all", rows)]:
        elapsed = [row["ratios"][against][1] for row in members]
        effort = [row["work"][against] for row in members]
        numbers = [geometric_mean(elapsed), geometric_mean(effort), max(elapsed), max(effort)]
        cells = " | ".join(f"{number:.2f}" for number in numbers)
        lines.append(f"| {kind} | {len(members)} | {cells} |")
    slower = [row for row in rows if max(row["ratios"][against][1], row["work"][against]) > SLOWER]
    if not slower:
        return lines
    slower.sort(key=lambda row: -row["work"][against])
    titled = [
        row | {"row": f"{row['table'].removeprefix('kept, ')}: {row['row']}"} for row in slower
    ]
    return [*lines, "", *table(titled)]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines of one table."""
    peers = list(dict.fromkeys(name for row in rows for name in row["ratios"]))
    lines = [
        "| work | imgconv, ms | " + " | ".join(f"× {name}" for name in peers) + " | target |",
        "|---" * (len(peers) + 3) + "|",
    ]
    for row in rows:
        held = row.get("peak", {})
        cells = [row["row"], f"{row['best']['imgconv']:.1f}{mebibytes(held, 'imgconv')}"]
        for name in peers:
            if name in row["ratios"]:
                low, middle, high = row["ratios"][name]
                effort = row.get("work", {}).get(name)
                shown = f", CPU {effort:.2f}" if effort else ""
                shown += mebibytes(held, name)
                cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f}){shown}")
            else:
                cells.append("")
        goals = [
            f"{'✓' if row['ratios'][name][1] <= goal else '✗'} ≤ {goal} × {name}"
            for name, goal in row["target"].items()
            if name in row["ratios"]
        ]
        limit = row.get("limit")
        if limit is not None:
            goals.append(f"{'✓' if row['best']['imgconv'] <= limit else '✗'} ≤ {limit:.0f} ms")
        lines.append("| " + " | ".join([*cells, ", ".join(goals)]) + " |")
    return lines


def mebibytes(held: dict[str, float], name: str) -> str:
    """The memory of a tool as a cell shows it."""
    return f", {held[name]:.0f} MiB" if name in held else ""


def plot(title: str, rows: list[dict[str, Any]], folder: Path) -> str | None:
    """Draw best times against x; return the file's name."""
    rows = [row for row in rows if row["x"] is not None]
    if len({row["x"] for row in rows}) < 3:
        return None
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = title  # the same results are the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    growth = title.startswith("growth")
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        kind = "" if growth else row["row"].split()[-1]
        for name, value in row["best"].items():
            point = value / row["x"] if growth else value
            lines.setdefault((name, kind), []).append((row["x"], point))
    # A color for each kind of pixels, a stroke for each tool; of one kind, a color per tool.
    names, kinds = (list(dict.fromkeys(keys)) for keys in zip(*lines, strict=True))
    for (name, kind), points in lines.items():
        color = kinds.index(kind) if len(kinds) > 1 else names.index(name)
        at = names.index(name) % 3
        axes.plot(
            *zip(*points, strict=True), marker="os^"[at], markersize=4, color=f"C{color}",
            linestyle=("-", "--", ":")[at], label=f"{name} {kind}".rstrip(),
        )  # fmt: skip
    logarithmic(axes, sorted({row["x"] for row in rows}))
    unit = "file" if "files" in title else "megapixel"
    axes.set_xlabel(f"{unit}s" if growth else "σ" if "Gauss" in title else "kernel size")
    axes.set_ylabel(f"ms per {unit}" if growth else "ms")
    axes.set_title(f"{title}: lower is faster")
    # Beside the lines, in their order from above, and long enough to tell strokes apart.
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda at: -handles[at].get_ydata()[-1])
    axes.legend(
        [handles[at] for at in order], [labels[at] for at in order], fontsize=8, handlelength=3.5,
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False,
    )  # fmt: skip
    axes.grid(alpha=0.3)
    name = title.replace(" ", "-").lower() + ".svg"
    figure.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return name


def logarithmic(axes: Any, places: list[float]) -> None:
    """Both axes by their logarithms with plain numbers, x marked where something was measured."""
    from matplotlib import ticker

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(places)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def machine() -> str:
    """CPU and core count."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def versions() -> str:
    """The tools that took part."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
