"""Sums and scalings of maps with an activation, in one pass over memory."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.jit import capture
from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops import epilogue
from imgconv.ops.arrays import contiguous, readable

Array = npt.NDArray[Any]

_FEW = 1 << 15  # elements; below this a thread costs more than it saves
_BLOCK = 16  # elements; shorter runs are NumPy's to copy


@jit.loop
def add_elements(element: str, activation: str) -> jit.Built:
    """out[i] = activation(a[i] + b[i])."""
    act = epilogue.activation_of(activation, element)

    def body(out, a, b, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            out[i] = act(a[i] + b[i])

    return f"{element}* {element}* {element}* i64", body


@jit.loop
def scale_planes(element: str, activation: str) -> jit.Built:
    """Planes first…last − 1 of `size` elements, each times its factor."""
    act = epilogue.activation_of(activation, element)

    def body(out, x, factors, size, first, last):  # type: ignore[no-untyped-def]
        for plane in range(first, last):
            factor = factors[plane]
            for i in range(plane * size, (plane + 1) * size):
                out[i] = act(x[i] * factor)

    return f"disjoint {element}* {element}* {element}* i64 i64 i64", body


def add(a: Array, b: Array, activation: Any = None) -> Array:
    """Return activation(a + b); shapes are NumPy's to broadcast.

    Residual blocks add maps of one shape in float32: these take a single pass. Other arrays are
    added by NumPy. float64 stays, everything else becomes float32 where there is an activation.
    """
    same = a.shape == b.shape and a.dtype == b.dtype and a.dtype in (np.float32, np.float64)
    if not same or not (_lies(a) and _lies(b)):
        return _activated(np.add(a, b), activation)
    out = np.empty_like(a)
    work = add_elements(jit.ELEMENT_NAMES[a.dtype], epilogue.activation_key(activation))
    left, right, target = a.reshape(-1), b.reshape(-1), out.reshape(-1)
    over_bands(
        out.size, band_of(out.size, _FEW),
        lambda i, j: work(target[i:j], left[i:j], right[i:j], j - i),
    )  # fmt: skip
    return out


def multiply(a: Array, b: Array, activation: Any = None) -> Array:
    """Return activation(a · b); shapes are NumPy's to broadcast, types as for `add`.

    Squeeze-and-excite blocks scale each map by a number, in either order. NumPy's broadcasting does
    so on one thread; there it takes up to 1.6 times as long for large maps, and less for 7×7.
    """
    x, factors = (b, a) if a.size < b.size else (a, b)
    planes = x.ndim == 4 and factors.shape == (*x.shape[:2], 1, 1) and x.size > 0
    same = x.dtype == factors.dtype and x.dtype in (np.float32, np.float64)
    if not planes or not same or not _lies(x):
        return _activated(np.multiply(a, b), activation)
    out = np.empty_like(x)
    size = math.prod(x.shape[2:])
    work = scale_planes(jit.ELEMENT_NAMES[x.dtype], epilogue.activation_key(activation))
    scales = contiguous(factors)
    count = scales.size
    over_bands(
        count, band_of(count, _FEW // size),
        lambda first, last: work(out, x, scales, size, first, last),
    )  # fmt: skip
    return out


@jit.loop
def copy_elements(element: str) -> jit.Built:
    """out[i] = x[i]."""

    def body(out, x, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            out[i] = x[i]

    return f"disjoint {element}* {element}* i64", body


def concatenate(arrays: Sequence[Array], axis: int) -> Array:
    """Return numpy.concatenate of arrays that fit; those of float32 are copied by all threads."""
    if not all(x.dtype == np.float32 and _lies(x) for x in arrays):
        capture.refuse()
        return readable(np.concatenate(arrays, axis=axis))
    shape = list(arrays[0].shape)
    axis %= len(shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    out = np.empty(shape, np.float32)
    outer = math.prod(shape[:axis])
    rows = out.reshape(outer, math.prod(shape[axis:]))
    ends = list(itertools.accumulate(math.prod(x.shape[axis:]) for x in arrays))
    parts = [
        (rows[item, end - part.size : end], part)
        for x, end in zip(arrays, ends, strict=True)
        for item, part in enumerate(x.reshape(outer, -1))
    ]  # fmt: skip
    work = copy_elements("f32")

    def copy(first: int, last: int) -> None:
        for target, part in parts[first:last]:
            work(target, part, part.size)

    over_bands(len(parts), len(parts) if out.size < _FEW else 1, copy)
    return out


@jit.loop
def copy_blocks(element: str) -> jit.Built:
    """Blocks first…last − 1 of `size` elements; block i is the one of x that places[i] says."""

    def body(out, x, places, size, first, last):  # type: ignore[no-untyped-def]
        for block in range(first, last):
            at = places[block] * size
            for i in range(size):
                out[block * size + i] = x[at + i]

    return f"disjoint {element}* {element}* i64* i64 i64 i64", body


def transpose(x: Array, order: tuple[int, ...]) -> Array:
    """Return numpy.transpose without gaps; float32 whose last axes stay is copied by all threads.

    So are the maps that ShuffleNet's blocks shuffle.
    """
    moved = max((axis + 1 for axis, source in enumerate(order) if axis != source), default=0)
    size = math.prod(x.shape[moved:])
    if x.dtype != np.float32 or not _lies(x) or size < _BLOCK:
        capture.refuse()
        return contiguous(x.transpose(order))
    out = np.empty([x.shape[axis] for axis in order], np.float32)
    outer = x.shape[:moved]
    count = math.prod(outer)
    places = np.arange(count).reshape(outer).transpose(order[:moved]).ravel()
    work = copy_blocks("f32")
    over_bands(
        count, band_of(count, _FEW // size),
        lambda first, last: work(out, x, places, size, first, last),
    )  # fmt: skip
    return out


def _lies(x: Array) -> bool:
    """Whether loops may walk over an array from its first element to its last."""
    flags = x.flags
    return flags.c_contiguous and flags.aligned


def _activated(result: Array, activation: Any) -> Array:
    capture.refuse()  # NumPy has computed it
    if activation is None:
        return result
    from imgconv.ops.activation import activate

    own = result if result.dtype in (np.float32, np.float64) and result.ndim else None
    own = own if _lies(result) else None
    return activate(result, activation, out=own)
