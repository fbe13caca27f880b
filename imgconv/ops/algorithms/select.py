"""Which algorithm runs a convolution, and why.

Every algorithm is a module with two functions: `offer(job)` says what it would cost, or None
where it does not apply or would miss the error bound; `run(job, offer)` computes. The cheapest
offer wins; a new algorithm is one more name in ALGORITHMS. `gemm` is asked before them.
"""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from imgconv.jit.loop import Wanted
from imgconv.ops import exact
from imgconv.ops.algorithms import problem
from imgconv.ops.algorithms.problem import Candidate, ConvProblem

ALGORITHMS = ("direct", "sparse", "box", "separable", "fourier")
# Those whose output rows are the same bits wherever a job begins: an image may come in bands.
BANDED = frozenset({"direct", "sparse", "box", "separable"})


def offers(job: ConvProblem) -> list[Candidate]:
    """All offers for a job, cheapest first."""
    found = []
    for name in ALGORITHMS:
        offer = _module(name).offer(job)
        if offer is not None:
            found.append(offer)
    return sorted(found, key=lambda offer: offer.cost)


Listener = Callable[[ConvProblem, list[Candidate]], None]
_listeners: list[Listener] = []


@contextlib.contextmanager
def telling(listener: Listener) -> Iterator[None]:
    """Tell `listener` of every job that is planned meanwhile, with its offers, the winner first."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def is_told() -> bool:
    """Whether somebody is told of the jobs that are planned."""
    return bool(_listeners)


def described(job: ConvProblem, found: list[Candidate]) -> str:
    """The offers for a job in words, the winner first; costs in nanoseconds a sample and core."""
    maps, channels, kh, kw = job.weights.shape[1:]
    height, width = job.out_size
    lines = [
        f"{height}×{width}×{job.run} samples, {job.source.dtype} to {job.out.dtype}, "
        f"{maps} map(s) of {channels}×{kh}×{kw} taps, sums in {job.real}:"
    ]
    for offer in found:
        mark = "*" if offer is found[0] else " "
        lines.append(f" {mark} {offer.algorithm:<9} {offer.cost:8.2f} ns  {offer.reason}")
    return "\n".join(lines)


def choose(job: ConvProblem) -> Candidate:
    """The offer that wins; cuts a job's zero rows away unless it is a network's layer."""
    if job.run == 1 and job.source.dtype == job.out.dtype == np.float32 and not _one_plane(job):
        # Looking for zeros among a network's weights would cost more than it could save.
        layer: Candidate | None = _module("gemm").offer(job)
        if layer is not None:
            _tell(job, [layer])
            return layer
    job.trim()
    found = offers(job)
    _tell(job, found)
    return found[0]


def _tell(job: ConvProblem, found: list[Candidate]) -> None:
    for listener in tuple(_listeners):
        listener(job, found)


def _one_plane(job: ConvProblem) -> bool:
    """Whether it is a large gray image under one kernel or a few, rather than a layer."""
    groups, _, channels, kh, kw = job.weights.shape
    height, width = job.out_size
    return bool(groups == channels == 1 and height * width * kh * kw >= problem.SMALL)


def run(job: ConvProblem) -> Candidate | None:
    """Compute a job by the cheapest algorithm and return what it was; None without outputs."""
    if job.out.size == 0:
        return None
    best = choose(job)
    run_by(job, best)
    return best


def run_by(job: ConvProblem, offer: Candidate) -> None:
    """Compute a job by an offer that `choose` made for it, or for the image its rows are of.

    Raises ValueRangeError where sums of integers would not be exact.
    """
    if job.limit != math.inf:
        exact.check(job.source, job.fill, job.limit)
    _module(offer.algorithm).run(job, offer)


def loops(job: ConvProblem, offer: Candidate) -> list[Wanted]:
    """The loops that `run_by` needs; of networks' layers (`gemm`) none are told beforehand."""
    told = getattr(_module(offer.algorithm), "loops", None)
    return told(job, offer) if told else []


def band_unit(job: ConvProblem, offer: Candidate) -> int:
    """Bands of an image give the bits of the whole if they begin at multiples of so many rows.

    0 where they do not.
    """
    if offer.algorithm == "fourier":
        return int(_module("fourier").rows_of_tiles(job, offer))
    return 1 if offer.algorithm in BANDED else 0


def _module(name: str) -> Any:
    return importlib.import_module(f"imgconv.ops.algorithms.{name}")
