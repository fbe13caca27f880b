"""A graph that is recorded at its first run and played back from then on.

What its layers compute by loops is noted once (`recording`) and played back without Python between
(`jit.replay`); layers that compute in other ways are called between two stretches of that.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from imgconv.jit import capture
from imgconv.jit.parallel import num_threads
from imgconv.nn.graph import Graph
from imgconv.nn.layers.base import Shape
from imgconv.nn.playback import Playback, is_plain
from imgconv.nn.recording import record
from imgconv.typing import Array


class Replayed(Graph):
    """A graph that plays compiled calls back, and calls its other layers between them.

    Where nothing is compiled, and where many large maps are wanted, it is walked; the bits are the
    same.
    Numbers written into its layers' arrays need not be noticed.
    """

    _idle: "tuple[Key, list[Playback] | None] | None" = None

    def run(self, values: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name; a generator between would take LeNet-5 a tenth of its time."""
        found = None
        if self.outputs and isinstance(values, np.ndarray) and is_plain(values):
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
        if names and isinstance(values, np.ndarray) and is_plain(values):
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
            made = record(self, x, names, packs=again)
            if made is None:
                self._idle = key, None
                return None
            playback = made
        found = playback.run(x)
        if len(waiting) < key[2]:
            waiting.append(playback)
        return found


Key = tuple[tuple[str, ...], Shape, int]
