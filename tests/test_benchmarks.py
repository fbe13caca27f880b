"""The group `kept` of the benchmarks: a version in a process of its own, and what it reports."""

from pathlib import Path

import pytest

from benchmarks import kept, kept_rows, report
from imgconv.jit import cache


def test_a_version_makes_and_times_a_row_in_a_process_of_its_own(tmp_path):
    names = [f"{row.table}: {row.name}" for row in kept_rows.rows()]
    assert len(set(names)) == len(names)
    worker = kept.Worker(kept.Side("this", kept.ROOT, Path(cache.folder() or tmp_path)))
    try:
        worker.ask(names.index("sizes: 64×64 gray, u8→u8, 3×3"))
        worker.timed(1)
        elapsed, effort = worker.timed(20)
        assert 0 < elapsed < 60
        assert 0 < effort < 60
        with pytest.raises(kept.Unmeasured, match="IndexError"):
            worker.ask(len(names))
    finally:
        worker.close()


def test_rows_that_became_slower_are_shown_first_the_slowest():
    def row(name, ratio, effort):
        return {
            "table": "kept, pooling", "row": name, "best": {"imgconv": 2.0},
            "ratios": {"old": (ratio, ratio, ratio)}, "work": {"old": effort},
            "target": {"old": 1.1},
        }  # fmt: skip

    lines = report.kept_summary([row("a", 0.5, 0.5), row("b", 2.0, 1.06), row("c", 1.0, 1.2)])
    assert lines[0].endswith("against old")
    assert "| pooling | 3 | 1.00 | 0.86 | 2.00 | 1.20 |" in lines
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| pooling: c", "| pooling: b"]
