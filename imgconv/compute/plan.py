"""Which algorithm runs a convolution, and why.

Every algorithm is a module with two functions: `offer(job)` says what it would cost, or None
where it does not apply or would miss the error bound; `run(job, offer)` computes. The cheapest
offer wins. A new algorithm is one more name in ALGORITHMS.
"""

import importlib
from typing import Any, NamedTuple

from imgconv.compute.tiles import Job

ALGORITHMS = ("direct", "sparse", "matmul")


class Offer(NamedTuple):
    """What an algorithm would do.

    cost: estimated nanoseconds on one core per output element of one map.
    reason: what it is and why it applies, for people.
    detail: what `run` needs again.
    """

    algorithm: str
    cost: float
    reason: str
    detail: Any = None


def offers(job: Job) -> list[Offer]:
    """All offers for a job, cheapest first."""
    found = []
    for name in ALGORITHMS:
        offer = importlib.import_module(f"imgconv.compute.{name}").offer(job)
        if offer is not None:
            found.append(offer)
    return sorted(found, key=lambda offer: offer.cost)


def choose(job: Job) -> Offer:
    """The cheapest offer."""
    return offers(job)[0]


def run(job: Job) -> None:
    """Compute a job by the cheapest algorithm; nothing where it has no outputs."""
    if job.out.size == 0:
        return
    job.trim()
    best = choose(job)
    importlib.import_module(f"imgconv.compute.{best.algorithm}").run(job, best)
