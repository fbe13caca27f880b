"""An array in a weights file, known by what the file declares and read when asked for."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from weakref import finalize

import numpy as np

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


class WeightFile:
    """An open file of weights, closed with the last layer that may still read from it."""

    def __init__(self, stack: ExitStack) -> None:
        self.lock = threading.Lock()
        finalize(self, stack.close)


class FileArrays(Mapping[str, Array]):
    """A layer's arrays as float32, each read when it is first asked for.

    A layer that nothing is computed of is not read: the last ones of VGG are 500 MB.
    """

    def __init__(self, stored: Mapping[str, Stored], file: WeightFile) -> None:
        self._stored, self._file = stored, file
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        entry = self._stored[name]
        with self._file.lock:
            if name not in self._arrays:
                self._arrays[name] = entry.load().astype(np.float32, copy=False)
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
