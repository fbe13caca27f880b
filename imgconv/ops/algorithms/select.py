"""Which algorithm runs a convolution, and why.

Every algorithm is a module whose `offer(job)` says what it would cost, or None where it does not
apply or would miss the error bound; the cheapest offer wins, whatever the layout of the image. A
new algorithm is one more name in ALGORITHMS. Most are run by the module's `run(job, offer)`; one
that computes with loops and then by itself says so (`capture.refuse`), or its loops alone would be
called the next time. Those of LAYERS take plain jobs and look at no weight: their `Product(job)` is
all of a layer but its numbers, and computes any layer of the same shapes.
"""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from imgconv.jit import capture
from imgconv.jit.loop import Wanted
from imgconv.ops import exact
from imgconv.ops.algorithms.problem import Candidate, ConvProblem

LAYERS = ("depthwise", "blocked", "winograd", "gemm")
ALGORITHMS = ("direct", "sparse", "box", "separable", "fourier", *LAYERS)
# Those whose output rows are the same bits wherever a job begins: an image may come in bands.
BANDED = frozenset({"direct", "sparse", "box", "separable"})


def offers(job: ConvProblem, names: Sequence[str] = ()) -> list[Candidate]:
    """All offers for a job, or those of some of the algorithms, cheapest first."""
    found = []
    # Networks' layers are plain: for images, which are not, start-up is spared fifteen modules.
    skipped = () if job.is_plain else LAYERS
    for name in ALGORITHMS:
        if (names and name not in names) or name in skipped:
            continue
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
    """The candidate that wins; cuts a job's zero rows away unless it is a network's layer."""
    found = offers(job, LAYERS) if job.is_layer else []
    if not found:
        job.trim()
        found = offers(job)
    best = found[0]
    if best.algorithm in LAYERS:
        best = found[0] = best._replace(detail=_module(best.algorithm).Product(job))
    for listener in tuple(_listeners):
        listener(job, found)
    return best


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
    if offer.algorithm in LAYERS:
        more = () if job.residual is None else (job.residual,)
        capture.keep(offer.detail)
        offer.detail(job.out, job.source, job.weights, job.bias, *more)
    else:
        _module(offer.algorithm).run(job, offer)


def runner(job: ConvProblem, offer: Candidate) -> Callable[[ConvProblem, Candidate], None]:
    """What computes a job, and bands of it, by an offer: `run_by`, or what that would call."""
    if job.limit != math.inf or offer.algorithm in LAYERS:
        return run_by
    run: Callable[[ConvProblem, Candidate], None] = _module(offer.algorithm).run
    return run


def loops(job: ConvProblem, offer: Candidate) -> list[Wanted]:
    """The loops that `run_by` needs; of networks' layers none are told beforehand."""
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
