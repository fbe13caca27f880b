"""A recorded graph as it is played: programs, and calls of other layers between them."""

import math
import operator
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from imgconv.jit.replay import Program
from imgconv.nn.graph import Node, named
from imgconv.nn.layers.base import Shape
from imgconv.typing import Array


def is_plain(x: Array) -> bool:
    """Whether loops read an array as it lies."""
    return x.dtype == np.float32 and x.flags.c_contiguous and x.flags.aligned and x.size > 0


def plain(x: Array) -> Array:
    return x if is_plain(x) else np.array(x, np.float32, order="C")


class Place(NamedTuple):
    """Where an array lies: in one that programs are given, or in their own memory."""

    number: int
    first: int
    shape: Shape

    def at(self, given: list[Array | None], own: Array) -> Array:
        """The array. own: the programs' memory."""
        array = own if self.number < 0 else given[self.number]
        assert array is not None
        last = self.first + math.prod(self.shape)
        return array.reshape(-1)[self.first : last].reshape(self.shape)


class Call(NamedTuple):
    """A node between programs.

    inputs: where they lie, or names of what other such nodes made. read: which results programs
    read, as which given arrays. spent: names that no later node reads.
    """

    node: Node
    inputs: list[Place | str]
    read: dict[int, int]
    spent: list[str]


class Playback:
    """Programs and calls for inputs of one shape, and whether they use copies of weights.

    outputs: places of results, or names of what calls made. sizes: bytes of the arrays after the
    input that are made anew for each run, which are results.
    """

    def __init__(
        self, nodes: list[Node], parts: list[Program | Call], own: Array, sizes: list[int],
        outputs: dict[str, Place | str], packed: bool,
    ) -> None:  # fmt: skip
        self.parts, self.own, self.sizes = parts, own, sizes
        self.outputs, self.packed = outputs, packed
        calls = [part for part in parts if isinstance(part, Call)]
        self._more = sum(len(call.read) for call in calls)
        self._mappings = [node.layer.parameters for node in nodes if node.layer.parameters]
        self._arrays = list(self._parameters())

    def _parameters(self) -> Iterator[Array]:
        return chain.from_iterable(arrays.values() for arrays in self._mappings)

    def current(self) -> bool:
        """Whether the layers still have the arrays that they were recorded with."""
        return all(map(operator.is_, self._arrays, self._parameters()))

    def run(self, x: Array) -> dict[str, Array]:
        """The outputs, in memory of their own."""
        given: list[Array | None] = [x]
        given += [np.empty(size >> 2, np.float32) for size in self.sizes]
        given += [None] * self._more
        values: dict[str, Array] = {}
        for part in self.parts:
            if isinstance(part, Program):
                part.run(given)
            else:
                self._call(part, given, values)
        results = {}
        for name, place in self.outputs.items():
            found = values[place] if isinstance(place, str) else place.at(given, self.own)
            inside = isinstance(place, str) and np.may_share_memory(found, self.own)
            results[name] = found.copy() if inside else found
        return results

    def _call(self, call: Call, given: list[Array | None], values: dict[str, Array]) -> None:
        inputs = [
            values[place] if isinstance(place, str) else place.at(given, self.own)
            for place in call.inputs
        ]
        with named(call.node):
            results = call.node.layer.run(*inputs)
        values.update(zip(call.node.outputs, results, strict=True))
        for number, place in call.read.items():
            given[place] = plain(results[number])
        for name in call.spent:
            del values[name]
