"""An array in a weights file, known by what the file declares and read when asked for."""

from collections.abc import Callable
from dataclasses import dataclass

from imgconv.nn.layers import Shape
from imgconv.typing import Array, Dtype


@dataclass(frozen=True)
class Stored:
    """An array's shape and type, and how to get it."""

    shape: Shape
    dtype: Dtype
    load: Callable[[], Array]

    def reshaped(self, *shape: int) -> "Stored":
        """The same numbers in another shape of as many."""
        return Stored(shape, self.dtype, lambda: self.load().reshape(shape))
