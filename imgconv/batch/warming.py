"""Compiling the loops of the common commands ahead of their first use, several at a time."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from imgconv.jit import cache, parallel

KERNELS = (
    "sobel", "sobel-x", "laplacian", "sharpen", "emboss", "kirsch", "gaussian-3",
    "gaussian:sigma=1", "gaussian:sigma=2", "gaussian:sigma=5", "box-3", "box:size=9",
    "unsharp", "disk:radius=15",
)  # fmt: skip
NETWORKS = ("lenet5", "googlenet", "resnet50", "efficientnet_b0")


def tasks() -> list[Callable[[], None]]:
    """Pieces of work that need, together, the loops of the common commands."""
    found: list[Callable[[], None]] = [_networks(name) for name in NETWORKS]
    found += [_kernel(*one) for one in itertools.product(KERNELS, (1, 3), (np.uint8, np.uint16))]
    found += [_codec, _others]
    return found


def _kernel(name: str, channels: int, dtype: npt.DTypeLike) -> Callable[[], None]:
    """As `apply` does it, on a small image and on one that is worth a loop of its own."""

    def run() -> None:
        from imgconv.io.formats import FORMATS
        from imgconv.io.image import Image
        from imgconv.io.writing import encode
        from imgconv.kernels import get_kernel
        from imgconv.pipeline.recipe import Recipe
        from imgconv.pipeline.whole import maps_of

        recipe = Recipe((get_kernel(name),))
        for side in (64, 1500):
            image = Image(np.zeros((side, side, channels), dtype))
            for result in maps_of(image, recipe, np.dtype(dtype), raw=False):
                list(encode(result.samples, FORMATS["png"]))

    return run


def _codec() -> None:
    from imgconv.io.png import reader as png_reader
    from imgconv.io.png import writer as png_writer

    for channels, dtype in itertools.product((1, 2, 3, 4), (np.uint8, np.uint16)):
        pixels = np.random.default_rng(0).integers(0, 255, (64, 64, channels)).astype(dtype)
        for level in ("fast", "small"):
            png_reader.decode(
                b"".join(png_writer.encode(pixels, alpha=channels in (2, 4), compress=level))
            )


def _others() -> None:
    """Gray, pools, activations and float images."""
    from imgconv.io.color import to_gray
    from imgconv.ops.activation import activate, parse_activation
    from imgconv.ops.filter import filter_image
    from imgconv.ops.pool_text import parse_pool

    for dtype in (np.uint8, np.uint16, np.float32):
        image = np.zeros((64, 64, 3), dtype)
        to_gray(image)
        filter_image(image.astype(np.float32), np.ones((1, 1, 3, 3)))
    maps = np.zeros((64, 64, 3), np.float32)
    for pool in ("max:2", "avg:2", "max:3,stride=2"):
        parse_pool(pool).image(maps)
    for name in ("relu", "leaky-relu", "sigmoid", "tanh", "gelu", "abs"):
        activate(maps, parse_activation(name))


def _networks(name: str) -> Callable[[], None]:
    def run() -> None:
        from imgconv.nn.fusion import FusedGraph
        from imgconv.nn.models import get_network
        from imgconv.nn.weights import draw_weights

        network = get_network(name)
        x = np.zeros((1, *network.input_shape[1:]), np.float32)
        FusedGraph(draw_weights(network.graph, 1)).at(x.shape).run(x)

    return run


def _work(number: int) -> int:
    before = cache.compiled
    parallel.set_num_threads(1)
    tasks()[number]()
    return cache.compiled - before


def warm(processes: int = 0) -> Iterator[tuple[int, int]]:
    """Compile; yield (tasks done of all, loops compiled) as it goes.

    processes: at once, 0 for one per CPU. Each is started afresh: Numba compiles one loop at a time
    in a process.
    """
    from multiprocessing import get_context

    count = len(tasks())
    workers = min(processes or parallel.num_threads(), count)
    made = 0
    with get_context("spawn").Pool(workers) as pool:
        for done, loops in enumerate(pool.imap_unordered(_work, range(count)), 1):
            made += loops
            yield done, made
