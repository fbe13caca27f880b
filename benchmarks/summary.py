"""What wins by how much and what does not: a line each from the stored results."""

from collections.abc import Iterator
from statistics import geometric_mean
from typing import Any, NamedTuple

Row = dict[str, Any]


class Line(NamedTuple):
    """One line: what was done, and of each peer the tables' first words and its name there."""

    work: str
    peers: dict[str, tuple[tuple[str, str], ...]]


LINES = (
    Line("One kernel on 12 MP, 3×3 to 63×63", {"OpenCV": (("dense kernels", "OpenCV"),)}),
    Line("5×5 on 0.25 to 100 MP", {"OpenCV": (("growth with pixels", "OpenCV"),)}),
    Line("Gaussian blur, σ 1 to 10", {"OpenCV": (("Gaussian", "OpenCV"),)}),
    Line("Box blur, 5×5 to 63×63", {"OpenCV": (("box", "OpenCV blur"),)}),
    Line("Pooling", {"PyTorch": (("pooling", "PyTorch"),)}),
    Line(
        "Reading and writing PNG",
        {
            "Pillow": (("PNG decode", "Pillow"), ("PNG encode", "Pillow level 1")),
            "OpenCV": (("PNG", "OpenCV"),),
        },
    ),
    Line(
        "Whole commands, 0.25 to 100 MP",
        {
            "libvips": (("growth of whole processes", "libvips"),),
            "ImageMagick": (("whole process", "ImageMagick"),),
        },
    ),
    Line(
        "10 to 1,000 files in one command",
        {"libvips": (("growth with files", "pyvips, two workers"),)},
    ),
    Line(
        "Whole networks",
        {name: (("networks", name),) for name in ("PyTorch", "ONNX Runtime")},
    ),
    Line(
        "Networks that nobody tuned for, one core", {"ONNX Runtime": (("models", "ONNX Runtime"),)}
    ),
    Line(
        "Single layers of the former networks",
        {
            name: (("convolutions", name), ("fully connected", name))
            for name in ("PyTorch", "ONNX Runtime")
        },
    ),
)


def summary(results: dict[str, list[Row]]) -> list[str]:
    """Markdown lines; empty where nothing of it was measured."""
    rows = [row for members in results.values() for row in members]
    lines = [line for line in (_bullet(each, rows) for each in LINES) if line]
    if not lines:
        return []
    return [
        "## In short",
        "",
        "imgconv's time divided by the peer's: the geometric mean over the rows of the tables "
        "below, the smallest and the largest ratio, and the same of CPU time. Above 1 imgconv is "
        "slower.",
        "",
        *lines,
    ]


def _bullet(line: Line, rows: list[Row]) -> str:
    """`- **Work**: 0.30 × PyTorch (0.11–0.55, CPU 0.31).`, or nothing."""
    told = [
        _against(peer, found)
        for peer, places in line.peers.items()
        if (found := list(_measured(rows, places)))
    ]
    return f"- **{line.work}**: {'; '.join(told)}." if told else ""


def _measured(
    rows: list[Row], places: tuple[tuple[str, str], ...]
) -> Iterator[tuple[float, float, str]]:
    """Ratio, ratio of CPU time and name of every row that has such a peer."""
    for table, name in places:
        for row in rows:
            if row["table"].startswith(table) and name in row["ratios"]:
                yield row["ratios"][name][1], row["work"][name], row["row"]


def _against(peer: str, found: list[tuple[float, float, str]]) -> str:
    ratios, efforts, _ = zip(*found, strict=True)
    text = (
        f"{geometric_mean(ratios):.2f} × {peer} ({min(ratios):.2f}–{max(ratios):.2f}, "
        f"CPU {geometric_mean(efforts):.2f})"
    )
    slower = sum(ratio > 1 for ratio in ratios)
    if not slower:
        return text
    return f"{text}, **slower in {slower} of {len(found)}**, most of all {max(found)[2]}"
