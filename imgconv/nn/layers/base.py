"""What a layer is: parameters, shapes, what a unit sees, and one line into `compute`."""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, dataclass_transform

import numpy as np
import numpy.typing as npt

from imgconv import shapes
from imgconv.errors import ModelError, ShapeError
from imgconv.ops.borders import index_map
from imgconv.typing import Array

if TYPE_CHECKING:
    from fractions import Fraction

Places = npt.NDArray[np.int64]
Shape = tuple[int, ...]
Ints = int | Sequence[int]
Padding = int | str | Sequence[int]


NOWHERE = np.iinfo(np.int64).min  # stands for a tap that there is not


class Reach(NamedTuple):
    """What one output unit sees of a layer's input along one axis, as a window.

    stride is a fraction for layers that enlarge. Output i sees input positions from
    ⌊i · stride⌋ − near on, `kernel` of them at a distance of `dilation`; or, whichever output it
    is, the first `kernel`, which are all (`everything`).
    """

    kernel: int = 1
    stride: "Fraction | int" = 1
    near: int = 0
    dilation: int = 1
    everything: bool = False


POINT = Reach()


def all_of(size: int) -> Reach:
    """The reach of what depends on a whole row or column."""
    return Reach(size, size, everything=True)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
class _Fields:
    """Makes a dataclass of each class below it, of which nothing is written later.

    Type checkers hold that: methods that refuse to, and a `repr`, would take five of seven
    milliseconds that the classes of a small network's layers take at a start.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls) -> None:
        dataclass(eq=False, repr=False)(cls)


class Layer(_Fields):
    """Base of all layers. Shapes include the batch: (N, C, H, W).

    parameters: arrays by PyTorch's names (`weight`, `running_mean`, …); empty until loaded.
    """

    parameters: Mapping[str, Array] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )
    # Names of parameters that are statistics, which PyTorch does not count as parameters.
    buffers: ClassVar[tuple[str, ...]] = ()
    # Whether a unit depends on all of its map besides its window, by a mean or a variance.
    everywhere: ClassVar[bool] = False

    @property
    def turns(self) -> bool:
        """Whether rows become columns and the other way round."""
        return False

    @property
    def kind(self) -> str:
        """What summaries call the layer."""
        return type(self).__name__

    def parameter_shapes(self) -> dict[str, Shape]:
        """Shapes of the parameters and buffers by name, in PyTorch's order; nothing allocated."""
        return {}

    def with_parameters(self, parameters: Mapping[str, Array]) -> Self:
        """The layer with these arrays."""
        return replace(self, parameters=parameters)

    def parameter(self, name: str) -> Array:
        """An array by name. Raises ModelError where it was not loaded."""
        try:
            return self.parameters[name]
        except KeyError:
            raise ModelError(f"{self.kind}: no weights are loaded ({name} is missing)") from None

    def output_shape(self, *shapes: Shape) -> Shape:
        """The output's shape for these input shapes. Raises ShapeError where they do not fit."""
        return shapes[0]

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """The shapes of all outputs; a layer of several overrides this."""
        return (self.output_shape(*shapes),)

    def forward(self, *inputs: Array) -> Array:
        """Compute the output."""
        raise NotImplementedError

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        """Compute all outputs; a layer of several overrides this."""
        return (self.forward(*inputs),)

    def multiply_adds(self, *shapes: Shape) -> int:
        """Multiplications that are added up: those of convolutions and matrix products."""
        return 0

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        """What a unit of the output sees of an input along axis 0 (down) or 1 (across).

        The default is the unit above it; where rows and columns do not survive, everything.
        """
        if len(before) == len(after) == 4 and before[2:] == after[2:]:
            return POINT
        return all_of(before[2 + axis] if len(before) == 4 else 1)

    def advance(self, axis: int, before: Shape, after: Shape) -> "Fraction":
        """How far what is seen moves on from one unit to the next, in input positions."""
        from fractions import Fraction

        return Fraction(self.reach(axis, before, after).stride)

    def taps(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        """The input positions that each of these units would see if the input had no ends.

        Shape (units, taps); NOWHERE where a unit has fewer taps than others.
        """
        reach = self.reach(axis, before, after)
        if reach.everything:
            return np.broadcast_to(np.arange(reach.kernel), (len(units), reach.kernel))
        from fractions import Fraction

        stride = Fraction(reach.stride)
        starts = units * stride.numerator // stride.denominator - reach.near
        places: Places = starts[:, None] + reach.dilation * np.arange(reach.kernel)
        return places

    def seen(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        """`taps` of the input as it is: NOWHERE beyond its ends, or what stands for it there."""
        return within(self.taps(axis, units, before, after), before[2 + axis])

    def between(self, source: int, output: int, given: tuple[Shape, ...]) -> "Layer":
        """What lies between one of the inputs and one of the outputs, if not the same for all."""
        return self


def within(places: Places, size: int) -> Places:
    """Positions on an axis; NOWHERE for those that are not on it."""
    return np.where((places >= 0) & (places < size), places, NOWHERE)


def padded(places: Places, size: int, mode: str, near: int, far: int) -> Places:
    """Positions on an axis with pads before and behind: those that stand there by the mode."""
    source = index_map(size, near, far, mode)
    on = within(places + near, len(source))
    found: Places = np.where(on >= 0, source[np.maximum(on, 0)], -1)
    return np.where(found >= 0, found, NOWHERE)


def along(worked: int, axis: int, before: Shape) -> Reach | None:
    """The reach of what works along one axis of an array, if it is that one: the whole of it."""
    own = len(before) == 4 and worked % 4 == 2 + axis
    return all_of(before[2 + axis]) if own else None


class Everything(Layer):
    """What lies between an input and an output that depends on all of it, along these axes."""

    axes: tuple[int, ...] = (0, 1)

    def reach(self, axis: int, before: Shape, after: Shape) -> Reach:
        if len(before) == 4 and axis not in self.axes:
            return POINT
        return all_of(before[2 + axis] if len(before) == 4 else 1)


def image_shape(shape: Shape, channels: int | None, operation: str) -> tuple[int, int, shapes.Pair]:
    """Return (N, C, (H, W)). Raises ShapeError unless there are four axes and these channels."""
    if len(shape) != 4 or channels not in (None, shape[1]):
        wanted = f"(N, {'C' if channels is None else channels}, H, W)"
        raise ShapeError(f"{operation}: input {shape}, expected {wanted}")
    return shape[0], shape[1], (shape[2], shape[3])
