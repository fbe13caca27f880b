"""Timing side by side: every round runs all peers once in random order.

A ratio is taken within a round, so that the machine's drift hits both sides; the table shows the
median of these ratios and their quartiles.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Case:
    """One row of a table: the same work by several tools; `ours` is the numerator."""

    table: str
    row: str
    peers: dict[str, Callable[[], Any]]
    ours: str = "imgconv"
    target: dict[str, float] = field(default_factory=dict)
    x: float | None = None
    unit: str = "ms"


@dataclass
class Result:
    """What a case measured; times in milliseconds."""

    table: str
    row: str
    best: dict[str, float]
    ratios: dict[str, tuple[float, float, float]]
    target: dict[str, float]
    x: float | None


def measure(case: Case, rounds: int, generator: random.Random, budget: float = 20.0) -> Result:
    """Time a case for `rounds` rounds, or fewer once `budget` seconds are spent (never under 3)."""
    times: dict[str, list[float]] = {name: [] for name in case.peers}
    for work in case.peers.values():
        work()
    begun = time.perf_counter()
    for turn in range(rounds):
        names = list(case.peers)
        generator.shuffle(names)
        for name in names:
            gc.collect()
            start = time.perf_counter()
            case.peers[name]()
            times[name].append((time.perf_counter() - start) * 1000)
        if turn >= 2 and time.perf_counter() - begun > budget:
            break
    ratios = {}
    for name, values in times.items():
        if name != case.ours:
            paired = [a / b for a, b in zip(times[case.ours], values, strict=True)]
            low, middle, high = statistics.quantiles(paired, n=4)
            ratios[name] = (low, middle, high)
    best = {name: min(values) for name, values in times.items()}
    return Result(case.table, case.row, best, ratios, case.target, case.x)
