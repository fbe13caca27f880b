"""Convolutions called again: what was worked out for a call serves the next one like it.

A key holds all that decides what is computed but the image's numbers: shapes, strides, types, the
kernel's and the bias's content, and the options. Under it stands a plan: the loops' calls, bound to
the arrays of each new call (`jit.bound`), or a network's layer (`conv`), whose weights are too many
to be part of a key. No plan keeps an image.
"""

import contextlib
import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from imgconv.jit import capture, memory, parallel
from imgconv.jit import loop as jit
from imgconv.jit.bound import Bound, Plans
from imgconv.ops.algorithms import select
from imgconv.ops.algorithms.problem import Candidate, ConvProblem
from imgconv.typing import Array, Dtype

CONTENT = 4096  # numbers of a kernel and a bias that are looked at in each call
# Bytes of all plans: some 4000 of small kernels, or 50 of the largest, whose spectra are a MiB.
store = Plans(1 << 26)


class Plan(NamedTuple):
    """The calls that compute a result, and what it is."""

    calls: Bound
    empty: Callable[..., Array]
    shape: tuple[int, ...]
    dtype: Dtype
    align: int  # of the address of the input

    def __call__(self, source: Array) -> Array | None:
        """The result for another input; None for one that loops cannot read where it lies."""
        start = jit.address(source)
        if start % self.align:
            return None
        out = self.empty(self.shape, self.dtype)
        self.calls([jit.address(out), start])
        return out


def key_of(source: Array, weights: Array, bias: Array | None, options: tuple[Any, ...]) -> Hashable:
    """What decides how a convolution is computed; None where that is not known at once."""
    try:
        weights = np.asarray(weights)  # which a kernel stands for
        if weights.size > CONTENT:
            return None
        offsets = None
        if bias is not None:
            bias = np.asarray(bias)
            offsets = bias.dtype, bias.shape, bias.tobytes()
        return (
            source.shape, source.strides, source.dtype, weights.shape, weights.dtype,
            weights.tobytes(), offsets, options, parallel.limit(),
        )  # fmt: skip
    except (AttributeError, TypeError, ValueError):  # lists, which are read as arrays
        return None


def again(key: Hashable, source: Array) -> Array | None:
    """The result by the plan under a key, or None where there is none that serves.

    None is used while calls are recorded or what is planned is told.
    """
    if key is None or capture.current() is not None or select.is_told():
        return None
    try:
        plan = store.get(key)
    except TypeError:  # an option that is a list
        return None
    return plan(source) if plan else None


def run(job: ConvProblem, source: Array, key: Hashable, shape: tuple[int, ...]) -> Candidate | None:
    """Compute a job by the cheapest algorithm, and plan the next call like it if that is possible.

    source: the array that the job was made of; shape: of the result as it is handed out. Returns
    the algorithm; None without outputs.
    """
    if job.out.size == 0:
        return None
    best = select.choose(job)
    if key is None or not _can_be_planned(job, source):
        select.run_by(job, best)
        return best
    # The caller may write into its own arrays before the next call.
    job.weights, job.bias = job.weights.copy(), job.bias.copy()
    with capture.recording() as tape:
        select.run_by(job, best)
    if tape.refused or not tape.calls:
        select.run_by(job, best)
        return best
    given = [jit.address(job.out), jit.address(source)]
    calls = Bound(tape, given)
    calls(given)
    empty = np.empty if job.out.nbytes < memory.LEAST else memory.empty
    with contextlib.suppress(TypeError):  # an option that is a list
        store.put(key, Plan(calls, empty, shape, job.out.dtype, source.dtype.alignment))
    return best


def _can_be_planned(job: ConvProblem, source: Array) -> bool:
    """Whether loops read the source where it lies, and nothing depends on its numbers."""
    return (
        job.limit == math.inf and job.residual is None
        and job.source.dtype == source.dtype and jit.address(job.source) == jit.address(source)
        and capture.current() is None
    )  # fmt: skip
