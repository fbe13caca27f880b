"""A layer as text: `conv sobel stride=2`, `relu`, `maxpool 2`, `conv2d 16 3 padding=1`.

One grammar for `run`, whose kernels are the bank's and fixed, and for networks of one's own, whose
layers may have weights. Options are PyTorch's, by their names.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

from imgconv.arguments import flag, not_among, real_number, whole_number, whole_numbers
from imgconv.errors import ShapeError, UsageError
from imgconv.nn import layers
from imgconv.nn.layers.base import Layer, Shape
from imgconv.nn.layers.image import Canny, Gray, KernelFilter
from imgconv.nn.layers.pooling import POOLS as POOL_LAYERS
from imgconv.ops.pool_kinds import MORPHOLOGY
from imgconv.ops.pool_text import parse_pool
from imgconv.shapes import Window

if TYPE_CHECKING:
    from imgconv.kernels import Kernel

# A step's word → the pool's name in `--pool`.
POOLS = {f"{kind}pool": kind for kind in (*POOL_LAYERS, "global-max", "global-avg")} | {
    name: name for name in MORPHOLOGY
}


def _sides(text: str) -> int | tuple[int, ...]:
    return whole_numbers(text, (1, 2, 4))


def _padding(text: str) -> str | int | tuple[int, ...]:
    if text in ("same", "valid", "full"):
        return text
    try:
        return _sides(text)
    except ValueError as error:
        raise ValueError(f"{error}, same, valid or full") from None


def _mode(text: str) -> str:
    from imgconv.ops.padding import normalize_mode

    return normalize_mode(text)


def _activation(text: str) -> str:
    from imgconv.ops.activation import parse_activation

    return str(parse_activation(text))


def _combine(text: str) -> str:
    from imgconv.ops.epilogue import check_combine

    check_combine(text)
    return text


Reader = Callable[[str], object]
# Option → what reads its text; that raises ValueError or UsageError.
_FILTER_OPTIONS: dict[str, Reader] = {
    "stride": whole_numbers, "padding": _padding, "dilation": whole_numbers,
    "groups": whole_number, "mode": _mode, "value": real_number, "flip": flag,
    "combine": _combine, "bias": real_number, "anchor": whole_numbers,
}  # fmt: skip
_SPECIAL = {"padding_mode": _mode, "activation": _activation}

# Word → (layer, arguments without a name, arguments that the input's channels give).
_LAYERS: dict[str, tuple[type[Layer], tuple[str, ...], tuple[str, ...]]] = {
    "conv2d": (layers.Conv2d, ("out_channels", "kernel_size"), ("in_channels",)),
    "conv-transpose": (layers.ConvTranspose2d, ("out_channels", "kernel_size"), ("in_channels",)),
    "linear": (layers.Linear, ("out_features",), ("in_features",)),
    "batchnorm": (layers.BatchNorm2d, (), ("num_features",)),
    "instancenorm": (layers.InstanceNorm2d, (), ("num_features",)),
    "lrn": (layers.LocalResponseNorm, ("size",), ()),
    "canny": (Canny, ("low", "high"), ()),
    "flatten": (layers.Flatten, (), ()),
    "dropout": (layers.Dropout, ("p",), ()),
    "softmax": (layers.Softmax, ("axis",), ()),
    "identity": (layers.Identity, (), ()),
    "add": (layers.Add, (), ()),
    "mul": (layers.Mul, (), ()),
    "concat": (layers.Concat, ("axis",), ()),
}


@dataclass(frozen=True)
class ParsedStep:
    """A step's text, its name with its number, and how to make its layer for an input's shape.

    kernel: the bank's kernel of a fixed filter, and loaded: as it was before flip and bias.
    learned: the layer needs weights or a shape.
    """

    text: str
    name: str
    make: Callable[[Shape], Layer]
    kernel: "Kernel | None" = None
    loaded: "Kernel | None" = None
    learned: bool = False

    def fixed(self) -> Layer:
        """The layer of a step that has no weights. Raises UsageError for one that does."""
        if self.learned:
            raise UsageError(
                f"chain: {self.text!r} has weights, which `run` does not load, expected a fixed "
                "layer; `imgconv net features` takes chains with weights"
            )
        return self.make(())


def literal(text: str, loaded: "Kernel | None") -> str:
    """A step's text with its loaded kernel's numbers in place of a name the bank does not know."""
    words = shlex.split(text)
    if loaded is not None and not loaded.named:
        from imgconv.kernels.literal import spelled

        words[1] = spelled(loaded)
    return shlex.join(words)


def parse_step(part: str, number: int, find: "Callable[[str], Kernel] | None" = None) -> ParsedStep:
    """Return a step, the number-th of its chain. Raises UsageError, KernelError.

    find: what makes kernels of their texts; `get_kernel` by default, which opens files.
    """
    text = part.strip()
    try:
        words = shlex.split(part)
    except ValueError as error:
        raise UsageError(f"chain: {text!r}: {error}") from None
    if not words:
        raise UsageError(f"chain: step {number} is empty, expected a layer such as relu")
    kind, rest = words[0].lower().replace("_", "-"), words[1:]
    name = f"{number}-{kind}"
    if kind == "gray":
        if rest:
            raise UsageError(f"chain: {text!r}: {rest[0]!r}, expected gray alone")
        return ParsedStep(text, name, lambda shape: Gray())
    if kind in ("conv", "convolve", "conv2d"):
        if len(rest) > 1 and rest[0].isdigit() and "=" not in rest[1]:
            return _learned("conv2d", rest, text, name)
        layer, kernel, loaded = _filter(rest, text, find)
        return ParsedStep(text, name, lambda shape: layer, kernel, loaded)
    if kind in POOLS:
        layer = _pool(POOLS[kind], rest, text)
        return ParsedStep(text, name, lambda shape: layer)
    if kind == "canny":  # its thresholds are also written as one pair
        rest = [
            word for given in rest for word in (given.split(",") if "=" not in given else [given])
        ]
    if kind in _LAYERS:
        return _learned(kind, rest, text, name)
    from imgconv.ops.activation import ACTIVATIONS, ALIASES, parse_activation

    head = kind.partition(":")[0]
    if head in ACTIVATIONS or head in ALIASES:
        activation = str(parse_activation(":".join([kind, *rest]) if rest else kind))
        return ParsedStep(text, f"{number}-{head}", lambda shape: layers.Activation(activation))
    from imgconv.kernels import preset_names

    if kind.partition(":")[0] in preset_names():
        raise UsageError(
            f"chain: step {number}: {words[0]!r} is a kernel, expected conv {words[0]}"
        )
    known = ["gray", "conv", *POOLS, *_LAYERS, *ACTIVATIONS]
    raise UsageError(f"chain: step {number}: {words[0]!r}, {not_among(kind, known)}")


def _pool(kind: str, rest: Sequence[str], text: str) -> Layer:
    for word in rest[1:]:
        if "=" not in word:  # PyTorch's second argument is the stride, ours a pair's second number
            raise UsageError(f"chain: {text!r}: {word!r}, expected stride={word}, or a size N,N")
    pool = parse_pool(f"{kind}:{','.join(rest)}")
    options = {"output_size": 1} if pool.kind.startswith("global-") else pool.options
    return POOL_LAYERS[pool.kind.replace("global", "adaptive")](**options)


def _filter(
    rest: list[str], text: str, find: "Callable[[str], Kernel] | None"
) -> "tuple[Layer, Kernel, Kernel]":
    """The layer of `conv KERNEL …`, its kernel, and that as it was loaded."""
    from imgconv.kernels import anchored, combined, get_kernel, transform

    if not rest:
        raise UsageError(f"chain: {text!r}: expected conv KERNEL")
    expected = ", ".join(f"{name}=" for name in _FILTER_OPTIONS)
    options = _options(rest[1:], _FILTER_OPTIONS, expected, text)
    window = Window(
        options.get("stride", 1), options.get("padding"), options.get("dilation", 1),
        options.get("groups"), options.get("mode", "reflect"), options.get("value", 0.0),
    )  # fmt: skip
    loaded = (find or get_kernel)(rest[0])
    if "anchor" in options and options.get("padding", "same") != "same":
        raise UsageError(f"chain: {text!r}: anchor= with padding=, expected one of them")
    kernel = transform(
        anchored(loaded, options.get("anchor")),
        flip=options.get("flip", False),
        bias=options.get("bias"),
    )
    layer = KernelFilter(
        kernel.weights, kernel.bias, window,
        combined(kernel, options.get("combine")).combine, kernel.anchor, kernel.divisor,
    )  # fmt: skip
    return layer, kernel, loaded


def _options(
    words: list[str], known: Mapping[str, Reader], expected: str, text: str,
    order: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What words set: KEY=VALUE, or a VALUE alone for the next key of `order`.

    known: the readers of values by key. expected: the words there may be, for errors.
    """
    options: dict[str, Any] = {}
    places = iter(order)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            key, value = next(places, ""), word
        if key not in known:
            raise UsageError(f"chain: {text!r}: {word!r}, expected {expected}")
        if key in options:
            raise UsageError(f"chain: {text!r}: {key}= twice, expected it once")
        try:
            options[key] = known[key](value)
        except ValueError as error:
            raise UsageError(f"chain: {text!r}: {key}={error}") from None
    return options


def _learned(kind: str, rest: list[str], text: str, name: str) -> ParsedStep:
    """A layer of torch.nn with its arguments; channels come from the shape that it reads."""
    layer, order, given = _LAYERS[kind]
    maker: Callable[..., Layer] = layer
    known = {
        field.name: _SPECIAL.get(field.name) or _reader(field.name, field.type)
        for field in fields(layer) if field.name not in (*given, "parameters")
    }  # fmt: skip
    expected = " ".join([kind, *(place.upper() for place in order)])
    extra = ", ".join(f"{option}=" for option in known if option not in order)
    options = _options(rest, known, f"{expected} {extra}".rstrip(), text, order)
    missing = [place for place in order if place not in options and place not in _OPTIONAL]
    if missing:
        raise UsageError(f"chain: {text!r}: {missing[0]} is missing")

    def make(shape: Shape) -> Layer:
        channels = dict.fromkeys(given, shape[1] if given else 0)
        try:
            return maker(**channels, **options)
        except (TypeError, ValueError, ShapeError) as error:
            raise UsageError(f"chain: {text!r}: {error}") from None

    return ParsedStep(text, name, make, learned=bool(given))


_OPTIONAL = ("p", "axis")


def _reader(name: str, kind: object) -> Reader:
    """What reads a text as the type of a layer's field; it raises ValueError."""
    if kind is bool:
        return flag
    if kind is float:
        return real_number
    if kind in (int, int | None):
        return whole_number
    if str in get_args(kind):
        return _padding
    return _sides if name == "padding" else whole_numbers
