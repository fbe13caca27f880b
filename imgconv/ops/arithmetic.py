"""Sums and scalings of maps with an activation, in one pass over memory."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from imgconv.jit import cache, capture, simd
from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops import epilogue
from imgconv.ops.arrays import contiguous, readable
from imgconv.typing import Array, Int64

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


# Formulas of two numbers, or of two tiles.
JOINS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "prelu": lambda a, b: simd.choose(a < np.float32(0), a * b, a),
}


@jit.loop
def join_rows(lanes: int, name: str, activation: str, steps: tuple[int, int]) -> jit.Built:
    """Rows first…last − 1 of `count` float32: activation(join(a, b)).

    places: where a's and b's part of each row begins. steps: 0 for one that is a number a row.
    """
    act = epilogue.activation_of(activation, "f32")
    join, line, wide = jit.Helper(JOINS[name]), simd.Vec(lanes), simd.Tile(1, 2, lanes)
    of_a, of_b = (_reader(line, step) for step in steps)
    wide_a, wide_b = (_reader(wide, step, False) for step in steps)

    def body(out, a, b, places, count, first, last):  # type: ignore[no-untyped-def]
        for row in range(first, last):
            left, right = simd.at(a, places[2 * row]), simd.at(b, places[2 * row + 1])
            target = simd.at(out, row * count)
            whole = count // (2 * lanes) * (2 * lanes)
            for i in range(0, whole, 2 * lanes):
                simd.store(target, i, act(join(wide_a(left, i, 0), wide_b(right, i, 0))))
            for i in range(whole, count, lanes):
                mask = simd.below(line, count - i)
                values = act(join(of_a(left, i, mask), of_b(right, i, mask)))
                simd.store_masked(target, i, values, mask)

    return "f32* f32* f32* i64* i64 i64 i64", body


def _reader(line: simd.Tile, step: int, masked: bool = True) -> jit.Helper:
    """A helper (row, i, mask): a row's elements from the i-th on, or its only one."""
    if step == 0:
        return jit.Helper(lambda row, i, mask: simd.splat(line, row[0]))
    if not masked:
        return jit.Helper(lambda row, i, mask: simd.load(line, row, i))
    return jit.Helper(lambda row, i, mask: simd.load_masked(line, row, i, mask, simd.zeros(line)))


def _rows(shape: tuple[int, ...], a: Array, b: Array) -> tuple[int, tuple[int, int], Int64]:
    """(elements of a row, steps, places) of two arrays that are repeated to a shape.

    A row is as many of the last axes as both go on along, or one of them stays at.
    """
    strides = [np.broadcast_to(x, shape).strides for x in (a, b)]
    count, steps = 1, (0, 0)
    axis = len(shape)
    while axis:
        size = shape[axis - 1]
        own = tuple(stride[axis - 1] // 4 for stride in strides)
        if size > 1:
            if count == 1:
                steps = own[0], own[1]
            elif own != (steps[0] * count, steps[1] * count):
                break
            count *= size
        axis -= 1
    places = np.zeros((*shape[:axis], 2), np.int64)
    for number, stride in enumerate(strides):
        for outer in range(axis):
            along = np.arange(shape[outer]) * (stride[outer] // 4)
            places[..., number] += along.reshape(-1, *(1,) * (axis - 1 - outer))
    return count, steps, places.reshape(-1, 2)


def join(name: str, a: Array, b: Array, activation: Any = None) -> Array | None:
    """Return activation(a · b) for one of JOINS, repeated as NumPy repeats.

    None, which is noted, where they are not float32 or do not lie in one piece.
    """
    if not (a.dtype == b.dtype == np.float32 and _lies(a) and _lies(b) and a.size and b.size):
        capture.refuse()
        return None
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.float32)
    count, steps, places = _rows(out.shape, a, b)
    lanes = cache.vectors()[0]
    work = join_rows(lanes, name, epilogue.activation_key(activation), steps)
    if len(places) == 1:
        flat, left, right = out.reshape(-1), a.reshape(-1), b.reshape(-1)
        over_bands(
            count, band_of(count, _FEW),
            lambda i, j: work(
                flat[i:j], left[i * steps[0] :], right[i * steps[1] :], places, j - i, 0, 1
            ),
        )  # fmt: skip
    else:
        over_bands(
            len(places), band_of(len(places), _FEW // count),
            lambda i, j: work(out, a, b, places, count, i, j),
        )  # fmt: skip
    return out


def add(a: Array, b: Array, activation: Any = None) -> Array:
    """Return activation(a + b); shapes are NumPy's to broadcast.

    float32 takes a single pass, and so do residual blocks in float64. Other arrays are added by
    NumPy: float64 stays, everything else becomes float32 where there is an activation.
    """
    if a.shape != b.shape or a.dtype != b.dtype or a.dtype not in (np.float32, np.float64):
        out = join("add", a, b, activation)
        return _activated(np.add(a, b), activation) if out is None else out
    if not (_lies(a) and _lies(b)):
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
    """Return activation(a · b); shapes are NumPy's to broadcast, types as for `add`."""
    out = join("mul", a, b, activation)
    return _activated(np.multiply(a, b), activation) if out is None else out


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
