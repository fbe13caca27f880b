"""linear: a fully connected layer, the weights read once in the order they lie in memory.

Where each item of a batch has many rows, as a transformer's tokens, it is a product of matrices
whose weights are laid out first (`algorithms.packed`). Else, at batch 1, the product is bound by
reading the weights (VGG's first is 411 MB), so they are used where they lie; a batch
shares one reading of them. NumPy's matmul is not used: its sums depend on the batch and on the
number of threads; these do not.
"""

import math
from typing import Any

import numpy as np

from imgconv.errors import ShapeError
from imgconv.jit import cache, capture, scratch, simd
from imgconv.jit import loop as jit
from imgconv.jit.parallel import band_of, over_bands
from imgconv.ops import epilogue
from imgconv.ops.algorithms import copies, packed
from imgconv.ops.algorithms.tiles import round_up
from imgconv.ops.arrays import contiguous, real_type
from imgconv.ops.microkernels import dot
from imgconv.ops.microkernels import packed as packed_kernel
from imgconv.ops.microkernels.gemm import Heights
from imgconv.typing import Array

LANES = 64  # partial sums of float64: enough vectors to hide an addition's latency
PIECE = 4096  # features a pass: a block of rows and a batch of eight stay in the cache
BLOCK = 8  # rows a pass, two blocks of registers
CHUNK = 48  # rows of a product whose sums stay in the cache: whole groups of each height
MANY = 16  # rows of an item from which on weights are laid out
_FEW = 1 << 18  # multiplications below which a thread costs more than it saves


@jit.loop
def linear_rows(element: str, activation: str) -> jit.Built:
    """Outputs first…last − 1 of every item of a batch; sums holds LANES elements."""
    zero = jit.DTYPES[element].type(0)
    act = epilogue.activation_of(activation, element)

    def body(out, x, weight, bias, sums, count, features, outputs, first, last):  # type: ignore[no-untyped-def]
        whole = features // LANES
        for o in range(first, last):
            row = o * features
            for n in range(count):
                item = n * features
                for lane in range(LANES):
                    sums[lane] = zero
                for block in range(whole):
                    at = block * LANES
                    for lane in range(LANES):
                        sums[lane] += weight[row + at + lane] * x[item + at + lane]
                for i in range(whole * LANES, features):
                    sums[i - whole * LANES] += weight[row + i] * x[item + i]
                total = bias[o]
                for lane in range(LANES):
                    total += sums[lane]
                out[n * outputs + o] = act(total)

    kinds = f"{element}* " * 5
    return f"disjoint {kinds}i64 i64 i64 i64 i64", body


@jit.loop
def dot_rows(lanes: int, activation: str) -> jit.Built:
    """Outputs first…last − 1 of every item of a float32 batch, PIECE features at a time."""
    act = epilogue.activation_of(activation, "f32")
    add_dots = dot.dots(lanes)

    def body(out, x, weight, bias, count, features, outputs, first, last):  # type: ignore[no-untyped-def]
        for number in range((last - first + BLOCK - 1) // BLOCK):
            o = first + number * BLOCK
            rows = min(BLOCK, last - o)
            for piece in range((features + PIECE - 1) // PIECE):
                at = piece * PIECE
                add_dots(
                    simd.at(out, o), outputs, simd.at(x, at), features,
                    simd.at(weight, o * features + at), features, min(PIECE, features - at),
                    rows, count, simd.at(bias, o), piece == 0,
                )  # fmt: skip
            if activation:
                for n in range(count):
                    for i in range(n * outputs + o, n * outputs + o + rows):
                        out[i] = act(out[i])

    return "disjoint f32* f32* f32* f32* i64 i64 i64 i64 i64", body


@jit.loop
def product_rows(lanes: int, heights: Heights, activation: str) -> jit.Built:
    """Rows first…last − 1 of x times packed weights: for each block of outputs, CHUNK rows a turn.

    spots, offsets: where rows begin, from that of a turn's first, and where features stand in one.
    """
    wide, line = lanes * len(heights), simd.Vec(lanes)
    panel = packed_kernel.panel(lanes, heights)
    act = epilogue.activation_of(activation, "f32")

    def body(out, x, weights, bias, sums, spots, offsets, features, outputs, first, last):  # type: ignore[no-untyped-def]
        for m in range(0, outputs, wide):
            vectors = (min(wide, outputs - m) + lanes - 1) // lanes
            width = vectors * lanes
            for row in range(first, last, CHUNK):
                count = min(CHUNK, last - row)
                ahead = wide * features if m + wide < outputs and row + CHUNK >= last else 0
                panel(
                    sums, simd.at(x, row * features), spots, offsets,
                    simd.at(weights, m * features), simd.at(bias, m),
                    packed_kernel.PackedPanel(count, vectors, features, ahead, True, -np.inf),
                )  # fmt: skip
                for p in range(count):
                    place = (row + p) * outputs + m
                    for v in range(0, width, lanes):
                        mask = simd.below(line, outputs - m - v)
                        values = act(simd.load(line, sums, p * width + v))
                        simd.store_masked(out, place + v, values, mask)

    return "disjoint f32* f32* f32* f32* f32* i64* i64* i64 i64 i64 i64", body


def _multiply_rows(out: Array, x: Array, weight: Array, bias: Array, key: str) -> None:
    """out = activation(x · weightᵀ + bias) of matrices of float32."""
    (rows, features), outputs = x.shape, len(bias)
    lanes, heights = cache.vectors()[0], packed_kernel.blocks()
    form = lanes, lanes * len(heights)
    if capture.current() is None:
        weights = packed.pack(weight, *form)
    else:
        weights = copies.copy_of(weight, ("packed", *form), lambda: packed.pack(weight, *form))
    biases = np.zeros(round_up(outputs, lanes), np.float32)
    biases[:outputs] = bias
    spots, offsets = np.arange(CHUNK) * features, np.arange(features)
    work = product_rows(lanes, heights, key)

    def run(first: int, last: int) -> None:
        sums = scratch.address("sums", CHUNK * form[1])
        work(
            out, x, weights, biases, sums, spots, offsets, features, outputs, first, last
        )  # fmt: skip

    over_bands(rows, round_up(band_of(rows, _FEW // (features * outputs)), CHUNK), run)


def linear(x: Array, weight: Array, bias: Array | None = None, activation: Any = None) -> Array:
    """Return a fully connected layer's output, as `torch.nn.functional.linear` does.

    Parameters
    ----------
    x
        (…, features).
    weight
        (outputs, features).
    bias
        (outputs,), added to each result.
    activation
        Applied last, as for `conv2d`.

    Returns
    -------
    ndarray
        (…, outputs): x times the transpose of weight, float64 if x is float64, else float32.

    Raises
    ------
    ShapeError
        Sizes do not fit together.
    """
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: input {x.shape} and weight {weight.shape}, expected (…, in_features) and "
            "(out_features, in_features)"
        )
    outputs, features = weight.shape
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"linear: bias of shape {bias.shape}, expected ({outputs},)")
    dtype = real_type(x)
    items = contiguous(x, dtype).reshape(math.prod(x.shape[:-1]), features)
    matrix = contiguous(weight, dtype)
    offsets = np.zeros(outputs, dtype) if bias is None else contiguous(bias, dtype)
    out = np.empty((len(items), outputs), dtype)
    key = epilogue.activation_key(activation)
    sizes = len(items), features, outputs
    band = band_of(outputs, _FEW // max(1, features * len(items)))
    # By an item's rows alone: results do not depend on the batch.
    if dtype == np.float32 and features and math.prod(x.shape[1:-1]) >= MANY and len(items):
        _multiply_rows(out, items, matrix, offsets, key)
        return out.reshape(*x.shape[:-1], outputs)
    if dtype == np.float64 or features == 0:
        work = linear_rows(jit.ELEMENT_NAMES[dtype], key)

        def run(first: int, last: int) -> None:
            work(out, items, matrix, offsets, np.empty(LANES, dtype), *sizes, first, last)
    else:
        work = dot_rows(cache.vectors()[0], key)

        def run(first: int, last: int) -> None:
            work(out, items, matrix, offsets, *sizes, first, last)

    over_bands(outputs, band, run)
    return out.reshape(*x.shape[:-1], outputs)
