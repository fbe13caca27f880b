"""A graph that is recorded at its first run and played back from then on.

Recording goes through the layers once and computes nothing (`jit.capture`); the maps that it
makes are never touched, so they take no memory. Then every map gets a place in one piece of
memory, which two maps share where no layer needs both, and which is kept between runs: no page is
asked of the system twice.

A batch's early maps are larger than the caches: eight of ResNet-50's first block are 26 MB. While
maps are large, each image is one task of one thread, whose maps stay in its caches and which meets
no other thread; after that, a batch shares each reading of the weights.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

import numpy as np

from imgconv.jit import capture
from imgconv.jit import loop as jit
from imgconv.jit.capture import Tape
from imgconv.jit.parallel import num_threads
from imgconv.jit.replay import LINE, Program, Region, takes
from imgconv.nn import layers
from imgconv.nn.graph import Graph, Node, named
from imgconv.nn.layers.base import Layer, Shape
from imgconv.nn.layers.tensors import Reshape, Transpose
from imgconv.typing import Array

# Layers whose every number is computed by a loop, where their inputs are float32 without gaps.
_COMPILED: tuple[type[Layer], ...] = (
    layers.Activation, layers.AdaptiveAvgPool2d, layers.AdaptiveMaxPool2d, layers.Add,
    layers.AvgPool2d, layers.BatchNorm2d, layers.Concat, layers.Conv2d, layers.Flatten,
    layers.Identity, layers.Linear, layers.LocalResponseNorm, layers.MaxPool2d, layers.MinPool2d,
    layers.Mul, layers.ResidualConv2d, layers.Softmax, Reshape, Transpose,
)  # fmt: skip
# Layers of maps (N, C, H, W) that compute each image from its own.
_BY_IMAGE: tuple[type[Layer], ...] = (
    layers.Activation, layers.AdaptiveAvgPool2d, layers.AdaptiveMaxPool2d, layers.Add,
    layers.AvgPool2d, layers.BatchNorm2d, layers.Concat, layers.Conv2d, layers.Identity,
    layers.LocalResponseNorm, layers.MaxPool2d, layers.MinPool2d, layers.Mul, layers.ResidualConv2d,
)  # fmt: skip
UNEVEN = 1.15  # of the time that images take where threads have as many: 8 of 7, not 6 of 5
# A batch shares its readings of weights from the first layer on that has fewer outputs a map, each
# using a weight once, and more bytes of weights; squeeze-and-excite blocks have less. ResNet-50 and
# AlexNet took 1 to 3% less with maps of 14×14 and 13×13 image by image too, EfficientNet-B0 3% more
# with those of 7×7.
REUSED = 100
WEIGHTS = 1 << 17
HELD = 1 << 25  # bytes of wanted maps; more are walked to, one after the other


class Replayed(Graph):
    """A graph that plays compiled calls back where all of its layers allow that.

    Where they do not, and where many large maps are wanted, it is walked; the bits are the same.
    Numbers written into its layers' arrays need not be noticed.
    """

    _idle: "tuple[Key, list[_Playback] | None] | None" = None

    def run(self, values: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; a generator between would take LeNet-5 a tenth of its time."""
        found = None
        if self.outputs and isinstance(values, np.ndarray) and _plain(values):
            found = self._played(values, tuple(dict.fromkeys(self.outputs)))
        if found is None:
            return super().run(values)
        return {name: found[name] for name in self.outputs}

    def trace(
        self, values: Array | Mapping[str, Array], wanted: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Array]]:
        """Yield (name, maps) of the wanted values, of all by default, as Graph.trace does."""
        names = None if wanted is None else tuple(dict.fromkeys(wanted))
        found = None
        if names and isinstance(values, np.ndarray) and _plain(values):
            found = self._played(values, names)
        yield from super().trace(values, names) if found is None else found.items()

    def _played(self, x: Array, names: tuple[str, ...]) -> dict[str, Array] | None:
        """The wanted values by name, in the walk's order; None where it has to be walked."""
        if capture.current() is not None:
            return None
        key = names, x.shape, num_threads()
        if self._idle is None or self._idle[0] != key:
            self._idle = key, []
        waiting = self._idle[1]
        if waiting is None:
            return None
        # Each of the caller's threads has one of its own; after an interrupt another thread may
        # still be in it, so it does not come back.
        try:
            playback = waiting.pop()
        except IndexError:
            playback = None
        again = playback is not None and playback.current()
        if playback is None or not again or not playback.packed:
            # From the second run on copies of weights are worth their memory and making.
            made = _record(self, x, names, packs=again)
            if made is None:
                self._idle = key, None
                return None
            playback = made
        found = playback.run(x)
        if len(waiting) < key[2]:
            waiting.append(playback)
        return found


Key = tuple[tuple[str, ...], Shape, int]


class _Output(NamedTuple):
    """A result: its array's number after the input, where it is in it, its shape."""

    name: str
    number: int
    part: slice
    shape: Shape


class _Playback:
    """A program for inputs of one shape, what it writes, and whether it uses copies of weights."""

    def __init__(
        self, nodes: list[Node], program: Program, sizes: list[int], outputs: list[_Output],
        packed: bool,
    ) -> None:  # fmt: skip
        self.program, self.sizes, self.outputs, self.packed = program, sizes, outputs, packed
        self._mappings = [node.layer.parameters for node in nodes if node.layer.parameters]
        self._arrays = list(self._parameters())

    def _parameters(self) -> Iterator[Array]:
        return chain.from_iterable(arrays.values() for arrays in self._mappings)

    def current(self) -> bool:
        """Whether the layers still have the arrays that they were recorded with."""
        return all(map(operator.is_, self._arrays, self._parameters()))

    def run(self, x: Array) -> dict[str, Array]:
        """The outputs, in memory of their own."""
        given = [x, *(np.empty(size >> 2, np.float32) for size in self.sizes)]
        self.program.run(*given)
        return {
            name: given[number][part].reshape(shape) for name, number, part, shape in self.outputs
        }


def _elements(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _plain(x: Array) -> bool:
    return x.dtype == np.float32 and x.flags.c_contiguous and x.flags.aligned and x.size > 0


class _Block:
    """The memory of a map and of all that are views of it, and the first and last node in need."""

    def __init__(self, array: Array, node: int) -> None:
        self.array = array
        self.start, self.size = jit.address(array), array.nbytes
        self.born = self.last = node
        self.number = -1  # of an array that the program is given
        self.place = 0

    def holds(self, array: Array) -> bool:
        """Whether it is a view of this memory."""
        return 0 <= jit.address(array) - self.start < self.size

    def region(self, step: int = 0, like: "_Block | None" = None) -> Region:
        """Its memory, which stands for that of a block like it."""
        found = like or self
        place = found.place if found.number < 0 else -1 - found.number
        return Region(self.start, self.size, place, step)


class _Walk:
    """Nodes that are recorded one after the other: values by name, and the blocks they lie in."""

    def __init__(self, noted: Tape, name: str, x: Array) -> None:
        self.noted = noted
        self.blocks = [_Block(x, -1)]
        self.live, self.owner = {name: x}, {name: self.blocks[0]}

    def run(self, nodes: list[Node], first: int) -> None:
        """Record nodes, which are numbered from `first` on, until one refuses."""
        for index, node in enumerate(nodes, first):
            begun = len(self.noted.calls)
            with named(node):
                (result,) = node.layer.run(*(self.live[value] for value in node.inputs))
            for value in node.inputs:
                self.owner[value].last = index
            if self.noted.refused or not _plain(result):
                self.noted.refused = True
                return
            (value,) = node.outputs
            self.live[value] = result
            block = next((block for block in self.blocks if block.holds(result)), None)
            if block is None:
                block = _Block(result, index)
                self.blocks.append(block)
                self.noted.refused |= not _written(self.noted, begun, block)
            self.owner[value] = block


def _record(
    graph: Graph, x: Array, names: tuple[str, ...], packs: bool = False
) -> _Playback | None:
    """Record what wanted values need; None where it has to be walked. Raises as layers do."""
    nodes = graph.needed(names)
    if len(graph.inputs) != 1 or any(type(node.layer) not in _COMPILED for node in nodes):
        return None
    joining = layers.Add | layers.Mul
    if any(isinstance(node.layer, joining) and len(node.inputs) != 2 for node in nodes):
        return None  # NumPy joins the others
    (name,) = graph.inputs
    cut = _by_image(nodes, name, x.shape)
    whole: dict[_Block, _Block] = {}  # of the batch, by that of one image
    with capture.recording(packs) as noted, np.errstate(all="ignore"):
        late = _Walk(noted, name, x)
        early = _Walk(noted, name, x[:1].copy() if cut else x)
        if cut:
            noted.bands(1, 1, lambda first, last: early.run(nodes[:cut], 0))
            whole[early.blocks[0]] = late.blocks[0]
            later = {value for node in nodes[cut:] for value in node.inputs}.union(names)
            for value, block in early.owner.items():
                if value in later and block not in whole:
                    made = np.empty((len(x), *block.array.shape[1:]), np.float32)
                    whole[block] = _Block(made, cut - 1)
                    late.blocks.append(whole[block])
                if value in later:
                    late.live[value], late.owner[value] = whole[block].array, whole[block]
        if not noted.refused:
            late.run(nodes[cut:], cut)
    if noted.refused or not takes(noted):
        return None
    outputs: list[_Output] = []
    given = late.blocks[:1]
    for value in sorted(names, key=list(late.live).index):
        block = late.owner[value]
        if block.born < 0:
            return None  # the input itself
        if block not in given:
            given.append(block)
        found = late.live[value]
        offset = (jit.address(found) - block.start) >> 2
        part = slice(offset, offset + found.size)
        outputs.append(_Output(value, given.index(block), part, found.shape))
    if names != graph.outputs and sum(block.size for block in given[1:]) > HELD:
        return None
    for number, block in enumerate(given):
        block.number = number
    own = place([block for block in late.blocks if block.number < 0])
    alone = [block for block in early.blocks if cut and block not in whole]
    room = noted.room("maps", place(alone))
    for block in alone:
        block.place += room
    regions = [block.region() for block in (*late.blocks, *alone)]
    regions += [block.region(block.size, like) for block, like in whole.items()]
    program = Program(noted, regions, own, num_threads(), len(x) if cut else 0)
    return _Playback(nodes, program, [block.size for block in given[1:]], outputs, packs)


def _by_image(nodes: list[Node], name: str, shape: Shape) -> int:
    """How many nodes, from the first on, are played image by image for an input of a shape.

    None with an image a thread: it gains a fiftieth at most, and waits for the slowest core.
    """
    threads = num_threads()
    count = shape[0] if len(shape) == 4 else 1
    if count < 2 * threads or -(-count // threads) * threads > UNEVEN * count:
        return 0
    shapes = {name: (1, *shape[1:])}
    for number, node in enumerate(nodes):
        layer, given = node.layer, [shapes[value] for value in node.inputs]
        joined = isinstance(layer, layers.Concat) and layer.axis in (0, -4)
        if type(layer) not in _BY_IMAGE or joined:
            return number
        with named(node):
            (shapes[node.outputs[0]],) = layer.output_shapes(*given)
        weights = sum(map(_elements, layer.parameter_shapes().values()))
        if 4 * weights > WEIGHTS and _elements(shapes[node.outputs[0]][2:]) < REUSED:
            return number
    return len(nodes)


def _written(noted: Tape, begun: int, block: _Block) -> bool:
    """Whether one of the calls from `begun` on is given memory of a block."""
    return any(
        kind.endswith("*") and value is not None and 0 <= value - block.start < block.size
        for call in noted.calls[begun:] for kind, value in zip(call.kinds, call.values, strict=True)
    )  # fmt: skip


def place(blocks: list[_Block]) -> int:
    """Give every block a place such that those needed at a time lie apart; return all bytes.

    The largest first, each at the lowest place that is free.
    """
    placed: list[_Block] = []
    total = 0
    for block in sorted(blocks, key=lambda block: -block.size):
        block.place = 0
        for other in sorted(placed, key=lambda other: other.place):
            if other.born <= block.last and block.born <= other.last:
                if block.place + block.size <= other.place:
                    break
                end = other.place + other.size
                block.place = max(block.place, end + -end % LINE)
        placed.append(block)
        total = max(total, block.place + block.size)
    return total
