"""Chains of layers as text: `gray | conv gaussian:sigma=1 | conv sobel | relu | maxpool 2`.

A step is a word, its main argument and options `key=value`. The maps of one step are the next
one's input; channels are filtered one by one, as `apply` does it.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgconv.errors import UsageError
from imgconv.shapes import extent, pair

if TYPE_CHECKING:
    from imgconv.bank import Kernel

Array = npt.NDArray[Any]

POOLS = {
    "maxpool": "max", "avgpool": "avg", "minpool": "min", "lppool": "lp",
    "adaptive-maxpool": "adaptive-max", "adaptive-avgpool": "adaptive-avg",
    "global-maxpool": "global-max", "global-avgpool": "global-avg",
}  # fmt: skip
_CONV_OPTIONS = (
    "stride", "padding", "dilation", "groups", "mode", "value", "flip", "combine", "bias",
)  # fmt: skip


class Window(NamedTuple):
    """Stride, padding, dilation and groups as the user gave them; None is the default."""

    stride: Any = 1
    padding: Any = None
    dilation: Any = 1
    groups: int | None = None
    padding_mode: str = "reflect"
    pad_value: float = 0.0

    def padding_for(self, size: tuple[int, int]) -> Any:
        """The given padding; else `same`, or half the kernel where a stride rules `same` out."""
        if self.padding is not None:
            return self.padding
        if pair(self.stride, "stride") == (1, 1):
            return "same"
        dilation = pair(self.dilation, "dilation")
        return tuple((extent(k, d) - 1) // 2 for k, d in zip(size, dilation, strict=True))


class Step(NamedTuple):
    """One layer: its text, its name in file names, (H, W, C) → (H', W', C'), and its kernel."""

    text: str
    name: str
    run: Callable[[Array], Array]
    kernel: "Kernel | None" = None


def parse_chain(text: str) -> list[Step]:
    """Return the steps of a chain, or of a TOML file that holds `steps = [...]`.

    Raises UsageError naming the step, and KernelError for a kernel in it.
    """
    parts = text.split("|")
    if text.endswith(".toml"):
        parts = _from_file(text)
    steps = []
    for number, part in enumerate(parts, 1):
        words = _words(part)
        if not words:
            raise UsageError(f"chain: step {number} is empty, expected a layer such as relu")
        steps.append(_step(words, number, part.strip()))
    return steps


def trace(pixels: Array, steps: list[Step]) -> Iterator[tuple[Step, Array]]:
    """Yield every step with its maps (H, W, C)."""
    for step in steps:
        pixels = step.run(pixels)
        yield step, pixels


def _from_file(path: str) -> list[str]:
    import tomllib

    try:
        with open(path, encoding="utf-8") as file:
            table = tomllib.loads(file.read())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {reason}") from None
    steps = table.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise UsageError(f'{path}: expected steps = ["gray", "conv sobel", …]')
    return steps


def _words(part: str) -> list[str]:
    """Split at blanks, except within quotes."""
    import shlex

    try:
        return shlex.split(part)
    except ValueError as error:
        raise UsageError(f"chain: {part.strip()!r}: {error}") from None


def _step(words: list[str], number: int, text: str) -> Step:
    kind, rest = words[0].lower().replace("_", "-"), words[1:]
    name = f"{number}-{kind}"
    if kind == "gray":
        return Step(text, name, _gray)
    if kind in ("conv", "convolve", "conv2d"):
        return Step(text, name, *_conv(rest, text))
    if kind in POOLS:
        return Step(text, name, _pool(POOLS[kind], rest))
    if kind == "softmax":
        from imgconv.compute.pointwise import softmax

        return Step(text, name, lambda maps: softmax(maps, 2))
    from imgconv.compute.pointwise import ACTIVATIONS, activate, parse_activation

    head = kind.partition(":")[0]
    if head in ACTIVATIONS or head in ("leakyrelu", "hardsigmoid", "hardswish", "swish"):
        activation = parse_activation(":".join([kind, *rest]) if rest else kind)
        return Step(text, f"{number}-{head}", lambda maps: activate(maps, activation))
    known = ", ".join(["gray", "conv", *POOLS, "softmax", *ACTIVATIONS])
    raise UsageError(f"chain: step {number}: {words[0]!r}, expected one of {known}")


def _gray(maps: Array) -> Array:
    from imgconv.images.color import to_gray

    return to_gray(maps) if maps.shape[2] == 3 else maps


def _pool(kind: str, rest: list[str]) -> Callable[[Array], Array]:
    from imgconv.compute.pool_text import parse_pool

    return parse_pool(f"{kind}:{','.join(rest)}").image


def _conv(rest: list[str], text: str) -> tuple[Callable[[Array], Array], "Kernel"]:
    from imgconv.bank import get_kernel, transform
    from imgconv.compute.filtering import filter_image
    from imgconv.compute.padding import normalize_mode

    if not rest:
        raise UsageError(f"chain: {text!r}: expected conv KERNEL")
    options = dict.fromkeys(_CONV_OPTIONS, "")
    for word in rest[1:]:
        key, equals, value = word.partition("=")
        if key not in options or not equals:
            expected = ", ".join(f"{name}=" for name in _CONV_OPTIONS)
            raise UsageError(f"chain: {text!r}: {word!r}, expected {expected}")
        options[key] = value
    try:
        groups = int(options["groups"]) if options["groups"] else None
        bias = float(options["bias"]) if options["bias"] else None
        window = Window(
            _numbers(options["stride"] or "1"), _numbers(options["padding"]) or None,
            _numbers(options["dilation"] or "1"), groups,
            normalize_mode(options["mode"] or "reflect"),
            float(options["value"] or 0),
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(f"chain: {text!r}: {error}") from None
    kernel = transform(get_kernel(rest[0]), flip=options["flip"] in ("1", "true"), bias=bias)

    def run(maps: Array) -> Array:
        found = filter_image(
            maps, kernel.effective_weights(), kernel.bias, stride=window.stride,
            padding=window.padding_for(kernel.size), dilation=window.dilation,
            padding_mode=window.padding_mode, pad_value=window.pad_value, groups=window.groups,
            combine=options["combine"] or kernel.combine,
            out_dtype=np.float64 if maps.dtype == np.float64 else np.float32,
        )  # fmt: skip
        # Several filters of several channels become channels, a filter's after the other's.
        return found[0] if len(found) == 1 else np.concatenate(list(found), axis=2)

    return run, kernel


def _numbers(text: str) -> Any:
    if text in ("", "same", "valid", "full"):
        return text
    numbers = tuple(int(number) for number in text.split(","))
    return numbers[0] if len(numbers) == 1 else numbers
