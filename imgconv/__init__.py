"""imgconv: image filtering and CNN feature maps with the semantics of torch.nn.Conv2d.

`__all__` is the public API. Its names are imported when one of them is first asked for, so that
`import imgconv` costs nothing.

>>> import imgconv
>>> photo = imgconv.read("sample:chart")
>>> edges = imgconv.apply(photo, "sobel")
>>> edges.pixels.shape == photo.pixels.shape
True
"""

__version__ = "0.2.0"
__all__ = [  # noqa: RUF022 - what one does first comes first
    "read", "write", "apply", "maps", "sheet", "kernel", "network", "Image", "Kernel", "Network",
    "conv2d", "conv_transpose2d", "filter_image", "linear", "pad", "activate", "softmax",
    "max_pool2d", "min_pool2d", "avg_pool2d", "lp_pool2d", "median_pool2d", "rank_pool2d",
    "range_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "batch_norm", "instance_norm",
    "local_response_norm", "ImgconvError",
]  # fmt: skip

# Where they are, looked through in this order.
_HOMES = ("api", "errors", "ops.activation", "ops.conv", "ops.conv_transpose", "ops.filter",
          "ops.linear", "ops.norm", "ops.padding", "ops.pool", "ops.rank")  # fmt: skip

TYPE_CHECKING = False  # true to type checkers; `typing` takes 2 ms
if TYPE_CHECKING:
    from imgconv.api import apply, kernel, maps, network, read, sheet, write
    from imgconv.errors import ImgconvError
    from imgconv.io.image import Image
    from imgconv.kernels.kernel import Kernel
    from imgconv.nn.models.base import Network
    from imgconv.ops.activation import activate, softmax
    from imgconv.ops.conv import conv2d
    from imgconv.ops.conv_transpose import conv_transpose2d
    from imgconv.ops.filter import filter_image
    from imgconv.ops.linear import linear
    from imgconv.ops.norm import batch_norm, instance_norm, local_response_norm
    from imgconv.ops.padding import pad
    from imgconv.ops.pool import (
        adaptive_avg_pool2d,
        adaptive_max_pool2d,
        avg_pool2d,
        lp_pool2d,
        max_pool2d,
        min_pool2d,
    )
    from imgconv.ops.rank import median_pool2d, range_pool2d, rank_pool2d


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    homes = (import_module(f"imgconv.{home}") for home in _HOMES)
    found: object = next(getattr(home, name) for home in homes if hasattr(home, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
