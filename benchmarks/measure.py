"""Timing side by side: every round runs all peers once in random order.

A ratio is taken within a round, so that the machine's drift hits both sides; the table shows the
median of these ratios and their quartiles. What takes under a millisecond is repeated within its
turn, as it would be over the files of a batch.
"""

import gc
import math
import random
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Case:
    """One row of a table: the same work by several tools; `ours` is the numerator.

    target: the ratio to a peer that is aimed at; limit: milliseconds that are, whatever the peers.
    """

    table: str
    row: str
    peers: dict[str, Callable[[], Any]]
    ours: str = "imgconv"
    target: dict[str, float] = field(default_factory=dict)
    limit: float | None = None
    x: float | None = None


@dataclass
class Result:
    """What a case measured; times in milliseconds.

    ratios: quartiles of the paired ratios of elapsed times; work: median ratio of CPU times;
    peak: MiB of whole processes.
    """

    table: str
    row: str
    best: dict[str, float]
    ratios: dict[str, tuple[float, float, float]]
    work: dict[str, float]
    target: dict[str, float]
    limit: float | None
    x: float | None
    peak: dict[str, float]


def cpu_seconds() -> float:
    """CPU time of this process and of those that it waited for, all threads."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timed(work: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Seconds and CPU seconds of so many calls; a peer in another process tells its own."""
    if hasattr(work, "timed"):
        elapsed, effort = work.timed(calls)
        return elapsed, effort
    before, start = cpu_seconds(), time.perf_counter()
    for _ in range(calls):
        work()
    elapsed = time.perf_counter() - start
    return elapsed, cpu_seconds() - before


TURN = 0.005  # seconds that each tool's turn takes at least, in calls of the fastest of them


def measure(case: Case, rounds: int, generator: random.Random, budget: float = 20.0) -> Result:
    """Time a case for `rounds` rounds, or fewer once `budget` seconds are spent (never under 3)."""
    times: dict[str, list[float]] = {name: [] for name in case.peers}
    spent: dict[str, list[float]] = {name: [] for name in case.peers}
    peak: dict[str, float] = {}
    fastest = math.inf
    for name, work in case.peers.items():
        work()
        if hasattr(work, "peak"):
            peak[name] = work.peak()
            fastest = TURN  # a whole process, of which a second one would be for nothing
        else:
            fastest = min(fastest, timed(work, 1)[0])
    calls = math.ceil(TURN / fastest)
    begun = time.perf_counter()
    for turn in range(rounds):
        names = list(case.peers)
        generator.shuffle(names)
        for name in names:
            gc.collect()
            elapsed, effort = timed(case.peers[name], calls)
            times[name].append(elapsed * 1000 / calls)
            spent[name].append(max(effort, 1e-6) / calls)
        if turn >= 2 and time.perf_counter() - begun > budget:
            break
    ratios, efforts = {}, {}
    for name, values in times.items():
        if name != case.ours:
            paired = [a / b for a, b in zip(times[case.ours], values, strict=True)]
            low, middle, high = statistics.quantiles(paired, n=4)
            ratios[name] = (low, middle, high)
            efforts[name] = statistics.median(
                a / b for a, b in zip(spent[case.ours], spent[name], strict=True)
            )
    best = {name: min(values) for name, values in times.items()}
    return Result(
        case.table, case.row, best, ratios, efforts, case.target, case.limit, case.x, peak
    )
