"""Integer arithmetic of convolution and pooling windows. No arrays here.

Formulas are those of torch.nn.Conv2d and torch.nn.MaxPool2d (PyTorch documentation, section
"Shape"); `same` follows PyTorch: with an odd total the far side gets one more.
"""

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from imgconv.errors import ShapeError

if TYPE_CHECKING:
    import numpy.typing as npt

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, "Sides", Pair]  # kernel size, stride, pads, dilation


class Sides(NamedTuple):
    """Padding in elements on the four sides of a map."""

    top: int
    bottom: int
    left: int
    right: int


NO_PADDING = Sides(0, 0, 0, 0)
LARGEST = 2**31 - 1  # of a stride, dilation or size: products of two still fit the loops' int64


def pair(value: int | Sequence[int], name: str, minimum: int = 1) -> Pair:
    """Return `value` as a (vertical, horizontal) pair.

    Raises ShapeError when it is not one or two integers from `minimum` to LARGEST.
    """
    values: tuple[Any, ...]
    values = (value, value) if isinstance(value, (int, Real)) else tuple(value)
    if len(values) != 2:
        raise ShapeError(f"{name}={value}: expected one integer or a (vertical, horizontal) pair")
    for number in values:
        if not isinstance(number, Real) or number % 1 != 0 or number < minimum:
            raise ShapeError(f"{name}={value}: expected integers of at least {minimum}")
    vertical, horizontal = int(values[0]), int(values[1])
    if max(vertical, horizontal) > LARGEST:
        raise ShapeError(f"{name}={value}: expected integers of at most {LARGEST}")
    return vertical, horizontal


def extent(kernel: int, dilation: int) -> int:
    """Elements that a dilated kernel spans from its first tap to its last."""
    return dilation * (kernel - 1) + 1


def resolve_padding(
    padding: int | str | Sequence[int],
    kernel_size: Pair,
    dilation: Pair = (1, 1),
    stride: Pair = (1, 1),
) -> Sides:
    """Return the four pads for `same`, `valid`, `full`, one number, a pair or four sides.

    Four sides are (top, bottom, left, right). `same` keeps the size and therefore needs stride 1,
    as in PyTorch. `full` pads by extent − 1, so that every partial overlap gives an output.
    Raises ShapeError for anything else.
    """
    spans = [extent(k, d) - 1 for k, d in zip(kernel_size, dilation, strict=True)]
    if isinstance(padding, str):
        if padding == "valid":
            return NO_PADDING
        if padding == "full":
            return Sides(spans[0], spans[0], spans[1], spans[1])
        if padding == "same":
            if stride != (1, 1):
                raise ShapeError(
                    f"padding=same needs stride 1, got stride={stride[0]},{stride[1]}; "
                    "give the padding as numbers"
                )
            top, left = spans[0] // 2, spans[1] // 2
            return Sides(top, spans[0] - top, left, spans[1] - left)
        raise ShapeError(f"padding={padding!r}: expected same, valid, full or numbers")
    values: tuple[Any, ...] = (padding,) * 4 if isinstance(padding, (int, Real)) else tuple(padding)
    if len(values) == 2:
        values = values[0], values[0], values[1], values[1]
    if len(values) != 4:
        raise ShapeError(
            f"padding={padding}: expected one number, vertical,horizontal or top,bottom,left,right"
        )
    if not all(isinstance(side, Real) and side % 1 == 0 and not side < 0 for side in values):
        raise ShapeError(f"padding={padding}: expected integers of at least 0")
    return Sides(*map(int, values))


def anchored_sides(
    anchor: int | Sequence[int], kernel_size: Pair, dilation: Pair = (1, 1)
) -> Sides:
    """Return the four pads that keep the size and put a kernel's tap at `anchor` on each output.

    anchor: the tap's row and column from 0, or one number for both. Raises ShapeError where the
    kernel has no such tap.
    """
    place = pair(anchor, "anchor", 0)
    if place[0] >= kernel_size[0] or place[1] >= kernel_size[1]:
        last = kernel_size[0] - 1, kernel_size[1] - 1
        raise ShapeError(
            f"anchor={place[0]},{place[1]} of a {kernel_size[0]}×{kernel_size[1]} kernel, "
            f"expected 0,0 to {last[0]},{last[1]}"
        )
    near = [a * d for a, d in zip(place, dilation, strict=True)]
    far = [(k - 1) * d - n for k, d, n in zip(kernel_size, dilation, near, strict=True)]
    return Sides(near[0], far[0], near[1], far[1])


def flipped_anchor(anchor: int | Sequence[int], kernel_size: Pair) -> Pair:
    """Where the tap at `anchor` is once a kernel was turned by 180°."""
    y, x = pair(anchor, "anchor", 0)
    return kernel_size[0] - 1 - y, kernel_size[1] - 1 - x


def pool_sides(padding: int | Sequence[int], kernel_size: Pair, dilation: Pair = (1, 1)) -> Sides:
    """Return the four pads of a pooling window.

    A number and a pair are at most half of kernel_size, as in PyTorch. Four sides are those of an
    ONNX file: less than the dilated window, whatever side it comes from. Raises ShapeError.
    """
    sides = resolve_padding(padding, kernel_size)
    four = not isinstance(padding, (int, Real)) and len(padding) == 4
    for place, pad in enumerate(sides):
        k, d = kernel_size[place // 2], dilation[place // 2]
        most = extent(k, d) - 1 if four else k // 2
        if pad > most:
            limit = "less than the window" if four else "half of it"
            raise ShapeError(
                f"padding={pad} with kernel_size={k}, expected at most {most}: {limit}"
            )
    return sides


def output_size(
    size: Pair,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Sides = NO_PADDING,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> Pair:
    """Return the (height, width) of a convolution's or pooling's output.

    With `ceil_mode` a last window may reach beyond the padded input, by less than the stride, and
    so may the only one; one that would start beyond the input and its near-side padding is
    dropped, as in PyTorch. Raises ShapeError when the kernel is larger than the padded input.
    """
    result = []
    pads = ((padding.top, padding.bottom), (padding.left, padding.right))
    for axis in (0, 1):
        near, far = pads[axis]
        span = extent(kernel_size[axis], dilation[axis])
        free = size[axis] + near + far - span
        steps = -(-free // stride[axis]) if ceil_mode else free // stride[axis]
        if ceil_mode and steps * stride[axis] >= size[axis] + near:
            steps -= 1
        if steps < 0:
            name = ("height", "width")[axis]
            raise ShapeError(
                f"kernel spans {span} elements but the padded input's {name} is "
                f"{size[axis] + near + far}"
            )
        result.append(steps + 1)
    return result[0], result[1]


def transposed_size(
    size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    output_padding: Pair,
) -> Pair:
    """Return the (height, width) of a transposed convolution's output. Raises ShapeError."""
    result = []
    pads = (padding.top + padding.bottom, padding.left + padding.right)
    for axis in (0, 1):
        most = max(stride[axis], dilation[axis])
        if output_padding[axis] >= most:
            raise ShapeError(
                f"output_padding={output_padding[axis]}, expected less than stride or dilation: "
                f"{most}"
            )
        span = extent(kernel_size[axis], dilation[axis])
        length = (size[axis] - 1) * stride[axis] - pads[axis] + span + output_padding[axis]
        if length < 1:
            raise ShapeError(f"a transposed convolution's {('height', 'width')[axis]} of {length}")
        result.append(length)
    return result[0], result[1]


def check_groups(in_channels: int, out_channels: int, groups: int, operation: str) -> None:
    """Raise ShapeError unless `groups` divides both channel counts."""
    if groups < 1:
        raise ShapeError(f"{operation}: groups={groups}, expected at least 1")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise ShapeError(f"{operation}: groups={groups} does not divide {name}={channels}")


class FilterOptions(TypedDict, total=False):
    """How an image is filtered, beside the kernel; see `ops.filter.filter_image`."""

    stride: int | Sequence[int]
    padding: int | str | Sequence[int]
    dilation: int | Sequence[int]
    padding_mode: str
    pad_value: float
    groups: int | None
    anchor: int | Sequence[int] | None
    flip: bool
    combine: str
    activation: object  # its text, or what `parse_activation` made of it
    gain: float
    offset: float
    out_dtype: "npt.DTypeLike | None"
    divisor: float
    later: tuple[float, float]


class Window(NamedTuple):
    """Stride, padding, dilation and groups as the user gave them; None is the default."""

    stride: int | Sequence[int] = 1
    padding: int | str | Sequence[int] | None = None
    dilation: int | Sequence[int] = 1
    groups: int | None = None
    padding_mode: str = "reflect"
    pad_value: float = 0.0

    def options(self, size: Pair, anchor: Pair | None = None) -> FilterOptions:
        """The options of `filter_image` for a kernel of a size (kH, kW) and anchor.

        Padding that is not given is `same`, or half the kernel where a stride rules `same` out. An
        anchor has a meaning only where padding is to keep the size.
        """
        padding, dilation = self.padding, pair(self.dilation, "dilation")
        if padding not in (None, "same"):
            anchor = None
        elif padding is None and anchor is None and pair(self.stride, "stride") != (1, 1):
            padding = tuple((extent(k, d) - 1) // 2 for k, d in zip(size, dilation, strict=True))
        return {
            "stride": self.stride, "padding": "same" if padding is None else padding,
            "dilation": self.dilation, "padding_mode": self.padding_mode,
            "pad_value": self.pad_value, "groups": self.groups, "anchor": anchor,
        }  # fmt: skip

    def geometry(self, size: Pair, anchor: Pair | None = None) -> Geometry:
        """(kernel size, stride, pads, dilation) of a kernel's window."""
        options = self.options(size, anchor)
        stride, dilation = pair(self.stride, "stride"), pair(self.dilation, "dilation")
        place = options["anchor"]
        if place is not None:
            return size, stride, anchored_sides(place, size, dilation), dilation
        return size, stride, resolve_padding(options["padding"], size, dilation, stride), dilation

    def places(self, size: Pair, anchor: Pair | None = None) -> Geometry:
        """As `geometry`, of the window in whose middle the pixel lies that an output stands for.

        That is the kernel's own, or with an anchor that tap alone.
        """
        found = self.geometry(size, anchor)
        if self.options(size, anchor)["anchor"] is None:
            return found
        return (1, 1), found[1], NO_PADDING, (1, 1)


class ReceptiveField(NamedTuple):
    """What one axis of a map sees of the input.

    A unit at index i is centered on input position `start + i * jump` and sees `size` positions;
    layers that enlarge make `jump` a fraction.
    Source: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks",
    Distill 2019.
    """

    size: float = 1
    jump: float = 1
    start: float = 0.0

    def through(
        self, kernel: int, stride: float, near_pad: float, dilation: int = 1
    ) -> "ReceptiveField":
        """The field after one more window operation."""
        span = extent(kernel, dilation)
        return ReceptiveField(
            self.size + (span - 1) * self.jump,
            self.jump * stride,
            self.start + ((span - 1) / 2 - near_pad) * self.jump,
        )
