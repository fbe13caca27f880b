"""Chains of layers over images with missing samples: each step says which of its are missing."""

from collections.abc import Iterator

import numpy as np

from imgconv.nn import layers
from imgconv.nn.chain import Step, graph_of
from imgconv.nn.graph import named
from imgconv.nn.layers.base import Layer
from imgconv.nn.layers.image import Canny, Gray, KernelFilter, interleaved, planar
from imgconv.nn.layers.pooling import POOLS
from imgconv.ops.missing import Mask, pool_masked
from imgconv.ops.pool import max_pool2d
from imgconv.typing import Array

_POINTWISE = (layers.Activation, layers.Identity, layers.Dropout)
_KINDS: dict[type[Layer], str] = {layer: kind for kind, layer in POOLS.items()}


def trace_masked(
    pixels: Array, mask: Mask, steps: list[Step], fill: str
) -> Iterator[tuple[Array, Mask]]:
    """Yield each step's maps (H, W, C), and which of their samples are missing."""
    x, absent = planar(pixels), planar(mask)
    for node in graph_of(steps, x.shape).nodes:
        with named(node):
            x, absent = forward_masked(node.layer, x, absent, fill)
        yield interleaved(x[0]), interleaved(absent[0])


def forward_masked(layer: Layer, x: Array, mask: Mask, fill: str) -> tuple[Array, Mask]:
    """A layer's output (1, C, H, W) for an input whose samples are missing where `mask` says so.

    Return it, 0 where it is missing, and where that is. Kernels and pools leave missing samples
    out; any other layer has no result where it uses one.
    """
    if not mask.any():
        out = layer.forward(x)
        return out, np.zeros(out.shape, bool)
    if isinstance(layer, KernelFilter):
        maps, gone = layer.filtered(interleaved(x[0]), interleaved(mask[0]), fill)
        out, absent = planar(maps), planar(gone)
    elif type(layer) in _KINDS:
        out, absent = pool_masked(x, mask, _KINDS[type(layer)], options_of(layer), fill)
    elif isinstance(layer, _POINTWISE):
        out, absent = layer.forward(x), mask
    elif isinstance(layer, Gray):
        out = layer.forward(x)
        absent = mask if out.shape == x.shape else np.logical_or.reduce(mask, 1, keepdims=True)
    elif isinstance(layer, Canny):
        gone = np.logical_or.reduce(mask, 1, keepdims=True)
        real = x if x.dtype.kind == "f" else x.astype(np.float32)
        out = layer.forward(np.where(gone, real.dtype.type(np.nan), real))
        absent = max_pool2d(gone.view(np.uint8), 3, 1, 1) == 1  # what Sobel's kernel sees
    else:
        out = layer.forward(x)
        real = x if x.dtype.kind == "f" else x.astype(np.float32)
        absent = np.isnan(layer.forward(np.where(mask, real.dtype.type(np.nan), real)))
        absent &= ~np.isnan(out)
    return np.where(absent, out.dtype.type(0), out), absent


def options_of(layer: Layer) -> dict[str, object]:
    """A pool's options, as its function takes them."""
    names = ("output_size", "kernel_size", "stride", "padding", "ceil_mode", "dilation",
             "count_include_pad", "divisor_override", "norm_type", "rank")  # fmt: skip
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}
