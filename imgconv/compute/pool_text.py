"""Poolings as text: `max:2`, `avg:3,stride=2,padding=1`, `lp:2,p=3`, `adaptive-max:7`, ….

Sizes may be pairs written 2x3, paddings also four sides (top, bottom, left, right) 1x0x1x0.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import pooling
from imgconv.errors import UsageError
from imgconv.shapes import Pair, Sides, pair, resolve_padding

Array = npt.NDArray[Any]

KINDS: dict[str, Callable[..., Any]] = {
    "max": pooling.max_pool2d,
    "avg": pooling.avg_pool2d,
    "min": pooling.min_pool2d,
    "lp": pooling.lp_pool2d,
    "adaptive-max": pooling.adaptive_max_pool2d,
    "adaptive-avg": pooling.adaptive_avg_pool2d,
    "global-max": pooling.global_max_pool2d,
    "global-avg": pooling.global_avg_pool2d,
}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Pool:
    """A pooling with its options by PyTorch's names; `text` is what it was parsed from."""

    text: str
    kind: str
    options: dict[str, Any]

    def __call__(self, x: Array) -> Array:
        """Pool (C, H, W) or (N, C, H, W). Raises ShapeError."""
        result: Array = KINDS[self.kind](x, **self.options)
        return result

    def image(self, pixels: Array) -> Array:
        """Pool an interleaved image (H, W, C)."""
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return np.ascontiguousarray(self(planes).transpose(1, 2, 0))

    def masked_image(self, pixels: Array, mask: Array, fill: str) -> tuple[Array, Array]:
        """`image` of the samples that are not missing, and which results have none of them."""
        from imgconv.compute.missing import pool_masked

        planes, absent = (np.ascontiguousarray(a.transpose(2, 0, 1)) for a in (pixels, mask))
        out, gone = pool_masked(planes, absent, self.kind, self.options, fill)
        return np.ascontiguousarray(out.transpose(1, 2, 0)), gone.transpose(1, 2, 0)

    @property
    def window(self) -> tuple[Pair, Pair, Sides, Pair] | None:
        """(kernel_size, stride, padding, dilation), or None where the map's size decides."""
        if self.kind.startswith(("adaptive", "global")):
            return None
        kernel = pair(self.options["kernel_size"], "kernel_size")
        return (
            kernel,
            pair(self.options.get("stride", kernel), "stride"),
            resolve_padding(self.options.get("padding", 0), kernel),
            pair(self.options.get("dilation", 1), "dilation"),
        )


def parse_pool(text: str) -> Pool:
    """Return the pooling of a text; see the module's. Raises UsageError naming what it expected."""
    kind, _, rest = text.strip().partition(":")
    kind = kind.strip().lower().replace("_", "-")
    if kind not in KINDS:
        raise UsageError(f"pool {text!r}: {kind!r}, expected one of {', '.join(KINDS)}")
    known = list(inspect.signature(KINDS[kind]).parameters)[1:]
    size = next((name for name in ("kernel_size", "output_size") if name in known), "")
    options: dict[str, Any] = {}
    for part in filter(None, (item.strip() for item in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "size", part
        key = {"size": size, "p": "norm_type"}.get(key.strip(), key.strip().replace("-", "_"))
        if key not in known or key == "return_indices":
            raise UsageError(f"pool {text!r}: {part!r}, expected {_expected(known, size)}")
        try:
            options[key] = _value(key, value.strip())
        except (ValueError, KeyError):
            raise UsageError(f"pool {text!r}: {part!r} is not a size or number") from None
    if size and size not in options:
        raise UsageError(f"pool {text!r}: no size, expected {kind}:SIZE")
    if "norm_type" in known:
        options.setdefault("norm_type", 2.0)
    pool = Pool(text.strip(), kind, options)
    pool.window  # noqa: B018 - raises for sizes that cannot be
    return pool


def _value(key: str, text: str) -> Any:
    if key in ("ceil_mode", "count_include_pad"):
        return _FLAGS[text.lower()]
    if key == "norm_type":
        return float(text)
    numbers = tuple(int(number) for number in text.split("x"))
    return numbers[0] if len(numbers) == 1 else numbers


def _expected(known: list[str], size: str) -> str:
    names = [name for name in known if name not in ("return_indices", size, "norm_type")]
    if "norm_type" in known:
        names.append("p")
    return ", ".join([*(["a size"] if size else []), *(f"{name}=" for name in names)]) or "nothing"
