"""What `kept` times in memory: every kind of work of the other groups, a row a name and a maker.

A maker returns the call that is timed. It runs in the process of one version, which `kept_side`
gives the names of modules that this file imports.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import kernels, photo
from benchmarks.loops import TYPES, dense
from benchmarks.networks import CONVOLUTIONS, LINEARS, NETWORKS, Layer

Call = Callable[[], Any]
PLANAR = (3, 5, 11, 21, 31, 63)
# Depthwise layers of large kernels: (channels, side of the map, kernel).
LARGE = {
    "ConvNeXt": [(96, 56, (7, 7)), (192, 28, (7, 7)), (384, 14, (7, 7)), (768, 7, (7, 7))],
    "RepLKNet": [(128, 56, (31, 31)), (512, 14, (27, 27))],
    "SLaK": [(128, 56, (51, 5)), (128, 56, (5, 51))],
}  # fmt: skip


class Row(NamedTuple):
    """One piece of work; `short` ones make up the short form."""

    table: str
    name: str
    make: Callable[[], Call]
    short: bool = True


def rows() -> list[Row]:
    """Every row, in the same order in both versions."""
    return [*_filters(), *_sizes(), *_planes(), *_pools(), *_files(), *_layers(), *_networks()]


def _filters() -> Iterator[Row]:
    """A photo of 12 MP under kernels of every structure."""
    for size in (3, 5, 7, 11, 15, 31, 63):
        for kind, (source, target) in TYPES.items():
            make = partial(_filter, "12", False, dense(size), source, target)
            short = kind != "u8→f32" and size != 11
            yield Row("dense kernels", f"{size}×{size} {kind}", make, short)
    for sigma in (1, 2, 5, 10):
        for kind, (source, target) in TYPES.items():
            make = partial(_gaussian, "12", False, sigma, source, target)
            yield Row("Gaussian", f"σ={sigma} {kind}", make, kind in ("u8→u8", "f32→f32"))
    for size in (5, 15, 31, 63):
        for structure, weights in kernels(size).items():
            if structure == "dense":
                continue
            for kind, (source, target) in TYPES.items():
                make = partial(_filter, "12", False, weights, source, target)
                short = kind == "u8→u8" or (kind == "f32→f32" and structure in ("box", "sparse"))
                yield Row(structure, f"{size}×{size} {kind}", make, short and size != 63)


def _sizes() -> Iterator[Row]:
    """Images from 64×64 on, gray and color, where a call costs more than its pixels."""
    for megapixels in ("64×64", "256×256", "0.25", "1"):
        unit = "" if "×" in megapixels else " MP"
        for gray in (True, False):
            for kind in ("u8→u8", "u16→u16", "f32→f32"):
                source, target = TYPES[kind]
                of = f"{megapixels}{unit} {'gray' if gray else 'RGB'}, {kind}"
                short = kind != "u16→u16"
                for size in (3, 9):
                    make = partial(_filter, megapixels, gray, dense(size), source, target)
                    yield Row("sizes", f"{of}, {size}×{size}", make, short)
                make = partial(_gaussian, megapixels, gray, 2, source, target)
                yield Row("sizes", f"{of}, Gaussian σ=2", make, short)


def _planes() -> Iterator[Row]:
    """The photo's three planes, each under a kernel of its own, as a layer with groups."""
    for size in PLANAR:
        make = partial(_planar, size)
        yield Row("planes", f"3 × 12 MP, {size}×{size}", make, size in (3, 11, 31))


def _pools() -> Iterator[Row]:
    for size in (2, 3):
        for kind in ("max", "average"):
            yield Row("pooling", f"{kind} {size}×{size}/2", partial(_pool, kind, size))


def _files() -> Iterator[Row]:
    """Files in memory, read and written."""
    for suffix, kind in itertools.product(("png", "tiff"), ("uint8", "uint16")):
        for megapixels in ("0.25", "12"):
            of = f"{megapixels} MP RGB, {kind}"
            yield Row(f"{suffix.upper()} decode", of, partial(_decode, suffix, megapixels, kind))
            yield Row(f"{suffix.upper()} encode", of, partial(_encode, suffix, megapixels, kind))


def _layers() -> Iterator[Row]:
    for batch in (1, 8):
        for network, shapes in CONVOLUTIONS.items():
            for number, layer in enumerate(shapes):
                make = partial(_convolution, layer, batch)
                short = number % 2 == (batch == 8)
                yield Row(f"convolutions, batch {batch}", f"{network} {layer}", make, short)
        for network, sizes in LINEARS.items():
            for features, outputs in sizes:
                yield Row(
                    f"fully connected, batch {batch}", f"{network} {features}→{outputs}",
                    partial(_connected, features, outputs, batch), batch == 1,
                )  # fmt: skip
    for network, sizes in LARGE.items():
        for channels, side, kernel in sizes:
            yield Row(
                "large kernels, batch 1",
                f"{network} depthwise {channels}, {kernel[0]}×{kernel[1]} at {side}²",
                partial(_depthwise, channels, side, kernel),
            )  # fmt: skip
    yield Row("transposed", "64→32, 4×4/2 at 56²", _transposed)


def _networks() -> Iterator[Row]:
    for batch in (1, 8):
        for name in NETWORKS:
            yield Row(f"networks, batch {batch}", name, partial(_network, name, batch))


def _pixels(megapixels: str, gray: bool, dtype: Any) -> Any:
    if "×" in megapixels:
        side = int(megapixels.split("×")[0])
        pixels = photo("0.25", gray)[:side, :side]
    else:
        pixels = photo(megapixels, gray)
    pixels = np.ascontiguousarray(pixels[..., None] if gray else pixels)
    return pixels.astype(np.uint16) * 257 if dtype == np.uint16 else pixels.astype(dtype)


def _filter(megapixels: str, gray: bool, weights: Any, source: Any, target: Any) -> Call:
    from imgconv.ops.filter import filter_image

    pixels = _pixels(megapixels, gray, source)
    return lambda: filter_image(pixels, weights[None, None], out_dtype=target)


def _gaussian(megapixels: str, gray: bool, sigma: int, source: Any, target: Any) -> Call:
    from imgconv.kernels import get_kernel
    from imgconv.ops.filter import filter_image

    pixels = _pixels(megapixels, gray, source)
    weights = get_kernel(f"gaussian:sigma={sigma}").effective_weights()
    return lambda: filter_image(pixels, weights, out_dtype=target)


def _maps() -> Any:
    return np.ascontiguousarray(photo("12").transpose(2, 0, 1)).astype(np.float32)


def _planar(size: int) -> Call:
    from imgconv.ops.conv import conv2d

    maps = _maps()[None]
    weight = np.stack([dense(size)] * 3)[:, None].astype(np.float32)
    return lambda: conv2d(maps, weight, padding=size // 2, groups=3)


def _pool(kind: str, size: int) -> Call:
    from imgconv.ops.pool import avg_pool2d, max_pool2d

    maps, pool = _maps(), max_pool2d if kind == "max" else avg_pool2d
    return lambda: pool(maps, size, 2)


def _decode(suffix: str, megapixels: str, dtype: str) -> Call:
    from imgconv.io.reading import read_images

    file = b"".join(map(bytes, _encode(suffix, megapixels, dtype)()))
    return lambda: [image.pixels for image in read_images(file)]


def _encode(suffix: str, megapixels: str, dtype: str) -> Call:
    from imgconv.io.formats import format_named
    from imgconv.io.writing import encode

    pixels, made = _pixels(megapixels, False, np.dtype(dtype)), format_named(suffix)
    return lambda: list(encode(pixels, made))


def _drawn(seed: int, *shapes: tuple[int, ...]) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


def _convolution(layer: Layer, batch: int) -> Call:
    from imgconv.ops.conv import conv2d

    x, weight, bias = _drawn(
        layer.channels,
        (batch, layer.channels, layer.side, layer.side),
        (layer.maps, layer.channels // layer.groups, layer.kernel, layer.kernel),
        (layer.maps,),
    )
    options = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    return lambda: conv2d(x, weight, bias, **options, activation="relu")


def _connected(features: int, outputs: int, batch: int) -> Call:
    from imgconv.ops.linear import linear

    x, weight, bias = _drawn(features, (batch, features), (outputs, features), (outputs,))
    return lambda: linear(x, weight, bias)


def _depthwise(channels: int, side: int, kernel: tuple[int, int]) -> Call:
    from imgconv.ops.conv import conv2d

    x, weight, bias = _drawn(
        channels, (1, channels, side, side), (channels, 1, *kernel), (channels,)
    )
    padding = (kernel[0] // 2, kernel[1] // 2)
    return lambda: conv2d(x, weight, bias, padding=padding, groups=channels)


def _transposed() -> Call:
    from imgconv.ops.conv_transpose import conv_transpose2d

    x, weight, bias = _drawn(64, (1, 64, 56, 56), (64, 32, 4, 4), (32,))
    return lambda: conv_transpose2d(x, weight, bias, stride=2, padding=1)


def _network(name: str, batch: int) -> Call:
    """A network's third run and those after: the first records calls, the second copies weights."""
    from imgconv.nn.fusion import FusedGraph
    from imgconv.nn.models import get_network
    from imgconv.nn.weights import draw_weights

    network = get_network(name)
    fused = FusedGraph(draw_weights(network.graph, 1))
    (x,) = _drawn(2, (batch, *network.input_shape[1:]))
    run = lambda: next(iter(fused.at(x.shape).run(x).values()))  # noqa: E731
    run(), run()
    return run
