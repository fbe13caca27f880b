"""Builders of the operators that reduce axes: sums, means, limits, and where they are.

Source of formulas: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

from collections.abc import Callable

import numpy as np

from imgconv.nn.layers import AdaptiveAvgPool2d, AdaptiveMaxPool2d
from imgconv.nn.layers.functions import ArgReduce, Function, Reduce, TopK
from imgconv.nn.onnx.folding import Call, Use, operator
from imgconv.typing import Array, Dtype

Of = Callable[..., Array]


def _empty_safe(function: Of, edge: Callable[[Dtype], float]) -> Of:
    """A maximum or minimum that is the type's own limit where there is nothing to compare."""

    def apply(x: Array, **options: object) -> Array:
        return function(x, **options) if x.size else function(x, **options, initial=edge(x.dtype))

    return apply


def _limit(sign: int) -> Callable[[Dtype], float]:
    def edge(dtype: Dtype) -> float:
        if dtype.kind == "f":
            return sign * np.inf
        if dtype.kind == "b":
            return sign > 0
        info = np.iinfo(dtype)
        return info.max if sign > 0 else info.min

    return edge


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    if not x.size:
        empty: Array = np.log(x.sum(axis=axis, keepdims=keepdims))
        return empty
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    total: Array = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return total if keepdims else total.squeeze(axis)


REDUCTIONS: dict[str, Of] = {
    "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceProd": np.prod,
    "ReduceMax": _empty_safe(np.max, _limit(-1)), "ReduceMin": _empty_safe(np.min, _limit(1)),
    "ReduceL1": lambda x, **k: np.abs(x).sum(**k),
    "ReduceL2": lambda x, **k: np.sqrt(np.square(x).sum(**k)),
    "ReduceSumSquare": lambda x, **k: np.square(x).sum(**k),
    "ReduceLogSum": lambda x, **k: np.log(x.sum(**k)),
    "ReduceLogSumExp": _log_sum_exp,
}  # fmt: skip


@operator(*REDUCTIONS, fixed=(1,))
def _reduce(call: Call) -> Use:
    axes = tuple(call.numbers(1, "axes"))
    keepdims = bool(call.attribute("keepdims", 1))
    if not axes and call.attribute("noop_with_empty_axes", 0):
        # The part of the operator that works element by element still runs.
        return Use(Function(name=call.kind, function=lambda x: REDUCTIONS[call.kind](
            x[None], axis=(0,), keepdims=False)))  # fmt: skip
    shape = call.shape()
    maps = len(shape) == 4 and keepdims and {axis % 4 for axis in axes} == {2, 3}
    if maps and call.constant(0) is None and 0 not in shape[2:]:
        if call.kind == "ReduceMean":
            return Use(AdaptiveAvgPool2d(1))
        if call.kind == "ReduceMax":
            return Use(AdaptiveMaxPool2d(1))
    return Use(Reduce(call.kind, REDUCTIONS[call.kind], axes or None, keepdims))


@operator("GlobalLpPool")
def _global_lp(call: Call) -> Use:
    power = float(call.attribute("p", 2))
    axes = tuple(range(2, len(call.shape())))
    return Use(Reduce(call.kind, lambda x, **k: (np.abs(x) ** power).sum(**k) ** (1 / power), axes))


@operator("ArgMax", "ArgMin")
def _arg(call: Call) -> Use:
    layer = ArgReduce(
        call.kind, call.attribute("axis", 0), bool(call.attribute("keepdims", 1)),
        bool(call.attribute("select_last_index", 0)),
    )  # fmt: skip
    return Use(layer)


@operator("TopK", fixed=(1,))
def _top_k(call: Call) -> Use:
    k = call.fixed(1, "k").item() if call.has(1) else call.attribute("k")
    return Use(TopK(int(k), call.attribute("axis", -1), bool(call.attribute("largest", 1))))
