"""What a layer is: parameters, shapes, what a unit sees, and one line into `compute`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from imgconv import shapes
from imgconv.errors import ModelError, ShapeError

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]
Shape = tuple[int, ...]
Ints = int | Sequence[int]
Padding = int | str | Sequence[int]


class Reach(NamedTuple):
    """What one output unit sees of a layer's input along one axis, as a window.

    stride is a fraction for layers that enlarge. Output i sees input positions from
    i · stride − near on, `kernel` of them at a distance of `dilation`.
    """

    kernel: int = 1
    stride: float = 1
    near: float = 0
    dilation: int = 1


POINT = Reach()


@dataclass(frozen=True, eq=False)
class Layer:
    """Base of all layers. Shapes include the batch: (N, C, H, W).

    parameters: arrays by PyTorch's names (`weight`, `running_mean`, …); empty until loaded.
    """

    parameters: Mapping[str, Array] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )
    # Names of parameters that are statistics, which PyTorch does not count as parameters.
    buffers: ClassVar[tuple[str, ...]] = ()

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
        size = before[2 + axis] if len(before) == 4 else 1
        return Reach(size, size)

    def sees(self, axis: int, units: Places, before: Shape, after: Shape) -> Places:
        """The input positions that any of these output units sees; some may lie in the padding."""
        reach = self.reach(axis, before, after)
        starts = np.floor(units * reach.stride - reach.near).astype(np.int64)
        places: Places = starts[:, None] + reach.dilation * np.arange(reach.kernel)
        return places.ravel()


def image_shape(shape: Shape, channels: int | None, operation: str) -> tuple[int, int, shapes.Pair]:
    """Return (N, C, (H, W)). Raises ShapeError unless there are four axes and these channels."""
    if len(shape) != 4 or channels not in (None, shape[1]):
        wanted = f"(N, {'C' if channels is None else channels}, H, W)"
        raise ShapeError(f"{operation}: input {shape}, expected {wanted}")
    return shape[0], shape[1], (shape[2], shape[3])
