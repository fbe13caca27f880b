"""imgconv: image filtering and CNN feature maps with the semantics of torch.nn.Conv2d.

`__all__` is the public API. Its names are imported when one of them is first asked for, so that
`import imgconv` costs nothing.

>>> import imgconv
>>> photo = imgconv.read("sample:chart")
>>> edges = imgconv.apply(photo, "sobel")
>>> edges.pixels.shape == photo.pixels.shape
True
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [  # noqa: RUF022 - what one does first comes first
    "read", "write", "apply", "maps", "kernel", "network", "Image", "Kernel", "Network",
    "conv2d", "conv_transpose2d", "filter_image", "linear", "pad", "activate", "softmax",
    "max_pool2d", "min_pool2d", "avg_pool2d", "lp_pool2d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d", "batch_norm", "instance_norm", "local_response_norm", "ImgconvError",
]  # fmt: skip

if TYPE_CHECKING:
    from imgconv.api import (
        Image,
        ImgconvError,
        Kernel,
        Network,
        activate,
        adaptive_avg_pool2d,
        adaptive_max_pool2d,
        apply,
        avg_pool2d,
        batch_norm,
        conv2d,
        conv_transpose2d,
        filter_image,
        instance_norm,
        kernel,
        linear,
        local_response_norm,
        lp_pool2d,
        maps,
        max_pool2d,
        min_pool2d,
        network,
        pad,
        read,
        softmax,
        write,
    )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from imgconv import api

    found: object = getattr(api, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
