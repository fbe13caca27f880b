"""The algorithm that is chosen for a filter against each of the others that could run it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.data import kernels, photo
from benchmarks.measure import Case
from imgconv.ops.algorithms import select
from imgconv.ops.algorithms.problem import Candidate
from imgconv.ops.filter import make_job

KERNELS = (3, 5, 9, 15, 31, 63)
TYPES = {"u8": np.uint8, "u16": np.uint16, "f32": np.float32}
FAR = 4.0  # what is estimated to take so many times as long is not measured
GOAL = 1.1


def choices(megapixels: str) -> Iterator[Case]:
    """What is chosen stands for imgconv; the estimates decide what it is compared with."""
    image = photo(megapixels)
    for size in KERNELS:
        for kind, weights in kernels(size).items():
            for name, dtype in TYPES.items():
                job = make_job(image.astype(dtype), weights[None, None], out_dtype=dtype)
                job.trim()
                found = select.offers(job)
                others = [offer for offer in found[1:] if offer.cost < FAR * found[0].cost]
                if not others:
                    continue
                yield Case(
                    f"planner, {megapixels} MP",
                    f"{size}×{size} {kind} {name}: {found[0].algorithm}",
                    {
                        "imgconv": _by(job, found[0]),
                        **{offer.algorithm: _by(job, offer) for offer in others},
                    },
                    target={offer.algorithm: GOAL for offer in others},
                )


def _by(job: Any, offer: Candidate) -> Callable[[], None]:
    return lambda: select.run_by(job, offer)
