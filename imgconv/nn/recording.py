"""Recording a graph: what its layers compute by loops, and where its maps lie.

Recording goes through the layers once and computes nothing (`jit.capture`); the maps that it
makes are never touched, so they take no memory. Then every map gets a place in one piece of
memory, which two maps share where no layer needs both, and which is kept between runs: no page is
asked of the system twice. A layer that computes in another way parts the recording in two: it is
called as in a walk, and calls that follow are told where its results lie.

A batch's early maps are larger than the caches: eight of ResNet-50's first block are 26 MB. While
maps are large, each image is one task of one thread, whose maps stay in its caches and which meets
no other thread; after that, a batch shares each reading of the weights.
"""

from typing import NamedTuple

import numpy as np

from imgconv.jit import capture
from imgconv.jit import loop as jit
from imgconv.jit.capture import Tape
from imgconv.jit.parallel import num_threads
from imgconv.jit.replay import LINE, Memory, Program, Region, takes
from imgconv.nn import layers
from imgconv.nn.graph import Graph, Node, named
from imgconv.nn.layers import tensors
from imgconv.nn.layers.base import Layer, Shape
from imgconv.nn.layers.functions import Joined
from imgconv.nn.layers.normalization import LayerNorm
from imgconv.nn.layers.quantized import FakeQuantize
from imgconv.nn.layers.wrappers import Bound, Viewed
from imgconv.nn.playback import Call, Place, Playback, is_plain, plain
from imgconv.typing import Array

# Layers that compute by loops, or say that they did not (`capture.refuse`), where their inputs are
# float32 without gaps; and those that are views.
_COMPILED: tuple[type[Layer], ...] = (
    layers.Activation, layers.AdaptiveAvgPool2d, layers.AdaptiveMaxPool2d, layers.Add,
    layers.AvgPool2d, layers.BatchNorm2d, layers.Concat, layers.Conv2d, layers.Flatten,
    layers.Identity, layers.Linear, layers.LocalResponseNorm, layers.MaxPool2d, layers.MinPool2d,
    layers.Mul, layers.ResidualConv2d, layers.Softmax, FakeQuantize, Joined, LayerNorm,
    tensors.Reshape, tensors.Slice, tensors.Split, tensors.Transpose,
)  # fmt: skip
# Layers of maps (N, C, H, W) that compute each image from its own.
_BY_IMAGE: tuple[type[Layer], ...] = (
    layers.Activation, layers.AdaptiveAvgPool2d, layers.AdaptiveMaxPool2d, layers.Add,
    layers.AvgPool2d, layers.BatchNorm2d, layers.Concat, layers.Conv2d, layers.Identity,
    layers.LocalResponseNorm, layers.MaxPool2d, layers.MinPool2d, layers.Mul, layers.ResidualConv2d,
    FakeQuantize,
)  # fmt: skip
UNEVEN = 1.15  # of the time that images take where threads have as many: 8 of 7, not 6 of 5
# A batch shares its readings of weights from the first layer on that has fewer outputs a map, each
# using a weight once, and more bytes of weights; squeeze-and-excite blocks have less. ResNet-50 and
# AlexNet took 1 to 3% less with maps of 14×14 and 13×13 image by image too, EfficientNet-B0 3% more
# with those of 7×7.
REUSED = 100
WEIGHTS = 1 << 17
HELD = 1 << 25  # bytes of wanted maps; more are walked to, one after the other


class _Block:
    """The memory of a map and of all that are views of it, and the first and last node in need."""

    def __init__(self, array: Array, node: int) -> None:
        self.array = array
        self.start, self.size = jit.address(array), array.nbytes
        self.born = self.last = node
        self.number = -1  # of an array that the programs are given
        self.place = 0

    def holds(self, array: Array) -> bool:
        """Whether it is a view of this memory."""
        return 0 <= jit.address(array) - self.start < self.size

    def region(self, step: int = 0, like: "_Block | None" = None) -> Region:
        """Its memory, which stands for that of a block like it."""
        other = like or self
        place = other.place if other.number < 0 else -1 - other.number
        return Region(self.start, self.size, place, step)


class _Value(NamedTuple):
    """A value as recorded, and the block that it lies in.

    array: of no numbers that mean anything. block: None of what a layer outside made.
    """

    array: Array
    block: _Block | None


class _Outside:
    """A node that is called, with results by number of output that loops read: their blocks."""

    def __init__(self, node: Node, index: int) -> None:
        self.node, self.index = node, index
        self.read: dict[int, _Block] = {}


class _Walk:
    """Nodes that are recorded one after the other: values by name, and the blocks they lie in.

    held: the blocks that a value needs, all that it is a view of. made: who made a value outside.
    """

    def __init__(self, name: str, x: Array, packs: bool) -> None:
        self.packs = packs
        self.parts: list[Tape | _Outside] = []
        self.blocks = [_Block(x, -1)]
        self.live = {name: _Value(x, self.blocks[0])}
        self.held = {name: {self.blocks[0]}}
        self.made: dict[str, tuple[_Outside, int]] = {}

    def run(self, nodes: list[Node], first: int, by_image: bool = False) -> None:
        """Record nodes, which are numbered from `first` on. by_image: raises _Refused."""
        for index, node in enumerate(nodes, first):
            with named(node):
                if not (_may_record(node.layer) and self.record(node, index)):
                    if by_image:
                        raise _Refused
                    self._call(node, index)
            for block in set[_Block]().union(*(self.held[value] for value in node.inputs)):
                block.last = index

    def record(self, node: Node, index: int) -> bool:
        """Whether a node's loops were noted; nothing is where it computes in another way."""
        inputs = [self._readable(value) for value in node.inputs]
        if any(array is None for array in inputs):
            return False
        if not self.parts or not isinstance(self.parts[-1], Tape):
            self.parts.append(Tape(self.packs))
        tape = self.parts[-1]
        assert isinstance(tape, Tape)
        stages, begun = len(tape.stages), len(tape.calls)
        with capture.recording(tape=tape):
            results = node.layer.run(*inputs)  # type: ignore[arg-type]
        blocks = [
            next((block for block in self.blocks if is_plain(r) and block.holds(r)), None)
            or _Block(r, index)
            for r in results
        ]
        known = [block in self.blocks or _written(tape, begun, block) for block in blocks]
        if tape.refused or not all(map(is_plain, results)) or not all(known):
            if not tape.inside:
                tape.undo(stages)
            tape.refused = tape.inside
            return False
        for name, array, block in zip(node.outputs, results, blocks, strict=True):
            self.live[name], self.held[name] = _Value(array, block), {block}
            if block not in self.blocks:
                self.blocks.append(block)
        return True

    def _readable(self, value: str) -> Array | None:
        """A value as loops read it; None where they do not."""
        array, block = self.live[value]
        if block is not None:
            return array
        if array.dtype != np.float32 or not array.size:
            return None
        outside, number = self.made[value]
        if number not in outside.read:
            outside.read[number] = _Block(plain(array).copy(), outside.index)
            self.blocks.append(outside.read[number])
        self.held[value].add(outside.read[number])
        return outside.read[number].array

    def _call(self, node: Node, index: int) -> None:
        """Call a node on zeros, to know of its results what does not depend on numbers."""
        outside = _Outside(node, index)
        self.parts.append(outside)
        inputs = [
            np.zeros(array.shape, array.dtype) if block is not None else array
            for array, block in (self.live[value] for value in node.inputs)
        ]
        for number, result in enumerate(node.layer.run(*inputs)):
            name = node.outputs[number]
            seen = [
                self.held[value] for value, array in zip(node.inputs, inputs, strict=True)
                if np.may_share_memory(array, result)
            ]  # fmt: skip
            self.live[name], self.held[name] = _Value(result, None), set[_Block]().union(*seen)
            self.made[name] = outside, number


def _may_record(layer: Layer) -> bool:
    if isinstance(layer, Bound | Viewed):
        return _may_record(layer.layer)
    return type(layer) in _COMPILED


def record(graph: Graph, x: Array, names: tuple[str, ...], packs: bool = False) -> Playback | None:
    """Record what wanted values need; None where it has to be walked. Raises as layers do."""
    nodes = graph.needed(names)
    if len(graph.inputs) != 1:
        return None
    (name,) = graph.inputs
    cut = by_image(nodes, name, x.shape)
    with np.errstate(all="ignore"):
        if cut:
            try:
                return _recorded(nodes, name, x, names, packs, cut, names == graph.outputs)
            except _Refused:
                pass
        return _recorded(nodes, name, x, names, packs, 0, names == graph.outputs)


def _placed(value: _Value) -> Place:
    """Where a value lies whose block has its place."""
    array, block = value
    assert block is not None
    own = 0 if block.number >= 0 else block.place
    return Place(block.number, (jit.address(array) - block.start + own) >> 2, array.shape)


class _Refused(Exception):
    """A layer of those that are played image by image is not computed by loops."""


def _recorded(
    nodes: list[Node], name: str, x: Array, names: tuple[str, ...], packs: bool, cut: int,
    usual: bool,
) -> Playback | None:  # fmt: skip
    """Record with the first `cut` nodes image by image. usual: whether the outputs are wanted."""
    late = _Walk(name, x, packs)
    early = _Walk(name, x[:1].copy(), packs) if cut else late
    whole = _recorded_by_image(nodes[:cut], late, early, len(x), {
        *names, *(value for node in nodes[cut:] for value in node.inputs)
    }) if cut else {}  # fmt: skip
    late.run(nodes[cut:], cut)
    tapes = [part for part in late.parts if isinstance(part, Tape)]
    if not any(tape.calls for tape in tapes) or not all(map(takes, tapes)):
        return None
    given, results = late.blocks[:1], []
    outside = [part for part in late.parts if isinstance(part, _Outside)]
    called = [block for part in outside for block in part.read.values()]
    for value in sorted(names, key=list(late.live).index):
        block = late.live[value].block
        if block is not None and block.born < 0:
            return None  # the input itself
        results.append(value)
        if block is not None and block not in (*called, *given):
            given.append(block)
    sizes = [block.size for block in given[1:]]
    if not usual and sum(sizes) > HELD:
        return None
    given += called
    for number, block in enumerate(given):
        block.number = number
    own = place([block for block in late.blocks if block.number < 0])
    alone = [block for block in early.blocks if cut and block not in whole]
    if cut:
        room = tapes[0].room("maps", place(alone))
        for block in alone:
            block.place += room
    regions = [block.region() for block in (*late.blocks, *alone)]
    regions += [block.region(block.size, like) for block, like in whole.items()]
    memory = Memory(own, tapes, num_threads())
    images = len(x) if cut else 0
    parts: list[Program | Call] = []
    last = {value: number for number, node in enumerate(nodes) for value in node.inputs}
    for part in late.parts:
        if isinstance(part, Tape):
            if part.calls:
                parts.append(Program(part, regions, memory, num_threads(), images))
            images = 0
        else:
            parts.append(_called(part, late, last, names))
    floats = memory.block[memory.start - jit.address(memory.block) :][: own & -4].view(np.float32)
    outputs: dict[str, Place | str] = {
        value: value if late.live[value].block is None else _placed(late.live[value])
        for value in results
    }
    return Playback(nodes, parts, floats, sizes, outputs, packs)


def _called(part: _Outside, walk: _Walk, last: dict[str, int], names: tuple[str, ...]) -> Call:
    """A node outside as it is played; last: the number of the last node that reads a value."""
    node = part.node
    inputs: list[Place | str] = [
        value if walk.live[value].block is None else _placed(walk.live[value])
        for value in node.inputs
    ]
    spent = [
        value for value in {*node.inputs, *node.outputs}
        if value in walk.made and value not in names and last.get(value, -1) <= part.index
    ]  # fmt: skip
    return Call(node, inputs, {n: block.number for n, block in part.read.items()}, spent)


def _recorded_by_image(
    nodes: list[Node], late: _Walk, early: _Walk, count: int, wanted: set[str]
) -> dict[_Block, _Block]:
    """Record nodes as one task for each image; return blocks of a batch by those of an image."""
    tape = Tape(late.packs)
    early.parts.append(tape)
    late.parts.append(tape)

    def work(first: int, last: int) -> None:
        early.run(nodes, 0, True)

    tape.bands(1, 1, work)
    whole = {early.blocks[0]: late.blocks[0]}
    for value, (_, block) in early.live.items():
        if value not in wanted or block is None:
            continue
        if block not in whole:
            made = np.empty((count, *block.array.shape[1:]), np.float32)
            whole[block] = _Block(made, len(nodes) - 1)
            late.blocks.append(whole[block])
        late.live[value] = _Value(whole[block].array, whole[block])
        late.held[value] = {whole[block]}
    return whole


def _elements(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def by_image(nodes: list[Node], name: str, shape: Shape) -> int:
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


def _written(tape: Tape, begun: int, block: _Block) -> bool:
    """Whether one of the calls from `begun` on is given memory of a block."""
    return any(
        kind.endswith("*") and value is not None and 0 <= value - block.start < block.size
        for call in tape.calls[begun:] for kind, value in zip(call.kinds, call.values, strict=True)
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
