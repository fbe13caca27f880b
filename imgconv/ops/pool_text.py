"""Poolings as text: `max:2`, `avg:3,stride=2,padding=1`, `lp:2,p=3`, `median:3,stride=1`, ….

`erode:3`, `dilate:3` and `morphological-gradient:3` are min, max and range as filters: with a
stride of 1, and padded so that the size stays.

Sizes may be pairs `max:2,3,stride=2,1` (vertical, horizontal), paddings also four sides (top,
bottom, left, right); `x` between the numbers does as well as a comma.
"""

import inspect
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgconv.arguments import (
    flag,
    not_among,
    real_number,
    split_arguments,
    whole_number,
    whole_numbers,
)
from imgconv.errors import ShapeError, UsageError
from imgconv.ops.pool import check_divisor
from imgconv.ops.pool_kinds import KINDS, MORPHOLOGY
from imgconv.ops.rank import index_of
from imgconv.shapes import Pair, Sides, pair, pool_sides
from imgconv.typing import Array

# Parameters that have no text.
_HIDDEN = ("return_indices", "missing")
_BY = re.compile(r"(?<=[0-9])x(?=[0-9])")


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
        from imgconv.ops.missing import pool_masked

        planes, absent = (np.ascontiguousarray(a.transpose(2, 0, 1)) for a in (pixels, mask))
        out, gone = pool_masked(planes, absent, self.kind, self.options, fill)
        return np.ascontiguousarray(out.transpose(1, 2, 0)), gone.transpose(1, 2, 0)

    @property
    def window(self) -> tuple[Pair, Pair, Sides, Pair] | None:
        """(kernel_size, stride, padding, dilation), or None where the map's size decides."""
        if self.kind.startswith(("adaptive", "global")):
            return None
        kernel = pair(self.options["kernel_size"], "kernel_size")
        dilation = pair(self.options.get("dilation", 1), "dilation")
        stride = pair(self.options.get("stride", kernel), "stride")
        return (
            kernel,
            stride,
            pool_sides(self.options.get("padding", 0), kernel, dilation),
            dilation,
        )


def parameters(kind: str) -> dict[str, str]:
    """A pooling's parameters by PyTorch's names with their defaults, "" where one must be given."""
    found = dict(inspect.signature(KINDS[kind]).parameters)
    return {
        name: "" if parameter.default is parameter.empty else str(parameter.default)
        for name, parameter in list(found.items())[1:] if name not in _HIDDEN
    }  # fmt: skip


def parse_pool(text: str) -> Pool:
    """Return the pooling of a text; see the module's. Raises UsageError naming what it expected."""
    kind, _, rest = text.strip().partition(":")
    kind = kind.strip().lower().replace("_", "-")
    if kind not in KINDS and kind not in MORPHOLOGY:
        raise UsageError(f"pool {text!r}: {kind!r}, {not_among(kind, [*KINDS, *MORPHOLOGY])}")
    name, kind = kind, MORPHOLOGY.get(kind, kind)
    known = list(inspect.signature(KINDS[kind]).parameters)[1:]
    size = next((name for name in ("kernel_size", "output_size") if name in known), "")
    options: dict[str, Any] = {}
    try:
        plain, named = split_arguments(rest)
        given = [*([("", plain)] if plain else []), *named.items()]
        for option, values in given:
            key = {"": size, "size": size, "p": "norm_type"}.get(option, option)
            part = f"{option}=" * bool(option) + ",".join(values)
            if key not in known or key in _HIDDEN:
                raise ValueError(f"{part!r}, expected {_expected(known, size)}")
            if key in options:
                raise ValueError(f"{part!r} is the second size, expected one")
            options[key] = _value(key, values)
    except ValueError as error:
        raise UsageError(f"pool {text!r}: {error}") from None
    if size and size not in options:
        raise UsageError(f"pool {text!r}: no size, expected {name}:SIZE")
    if kind == "rank" and "rank" not in options:
        raise UsageError(f"pool {text!r}: no rank, expected rank:SIZE,rank=N")
    if "norm_type" in known:
        options.setdefault("norm_type", 2.0)
    pool = Pool(text.strip(), kind, options)
    try:
        if name in MORPHOLOGY:
            options.setdefault("stride", 1)
            options.setdefault("padding", _centered(options))
        pool.window  # noqa: B018 - raises for sizes that cannot be
        pair(options.get("output_size", 1), "output_size")
        check_divisor(options.get("divisor_override"))
        if pool.window and "rank" in options:
            index_of(options["rank"], pool.window[0])
    except ShapeError as error:
        raise UsageError(f"pool {text!r}: {error}") from None
    return pool


def _centered(options: dict[str, Any]) -> tuple[int, ...]:
    """The padding that keeps a map's size; of an even window the middle is the later element."""
    kernel = pair(options["kernel_size"], "kernel_size")
    sides = zip(kernel, pair(options.get("dilation", 1), "dilation"), strict=True)
    return tuple(pad * d for k, d in sides for pad in (k // 2, (k - 1) // 2))


def _value(key: str, values: list[str]) -> Any:
    """An option's value. Raises ValueError naming what was got and expected."""
    text = ",".join(values)
    try:
        if key in ("ceil_mode", "count_include_pad"):
            return flag(text)
        if key == "norm_type":
            return real_number(text)
        if key == "rank":
            return whole_number(text)
        counts = {"padding": (1, 2, 4), "divisor_override": (1,)}.get(key, (1, 2))
        return whole_numbers(_BY.sub(",", text) if len(values) == 1 else text, counts)
    except ValueError as error:
        raise ValueError(f"{_public(key)}={error}") from None


def _public(key: str) -> str:
    return {"kernel_size": "size", "output_size": "size", "norm_type": "p"}.get(key, key)


def _expected(known: list[str], size: str) -> str:
    names = [name for name in known if name not in (*_HIDDEN, size, "norm_type")]
    if "norm_type" in known:
        names.append("p")
    return ", ".join([*(["a size"] if size else []), *(f"{name}=" for name in names)]) or "nothing"
