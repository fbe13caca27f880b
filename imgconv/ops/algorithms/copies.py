"""Weights in another order or form, kept while a recorded network needs them.

A network that is played again may spend memory on them; a single call may not, nor a network's
first run: for one image the copying takes longer than it saves.
"""

import weakref
from collections.abc import Callable
from typing import Any

from imgconv.jit import capture
from imgconv.jit import loop as jit
from imgconv.typing import Float32


class Copy:
    """A form of some weights, which it holds: their address stands for them while it lives."""

    def __init__(self, weights: Float32, form: Float32) -> None:
        self.weights, self.form = weights, form


_copies: "weakref.WeakValueDictionary[tuple[Any, ...], Copy]" = weakref.WeakValueDictionary()


def wanted() -> bool:
    """Whether what is recorded now will be played often enough to be worth copies."""
    noted = capture.current()
    return noted is not None and noted.packs


def copy_of(
    weights: Float32,
    form: tuple[Any, ...],
    make: Callable[[], Float32],
) -> Float32:
    """Return what make() makes of the weights, kept with the tape; the same one while it is held.

    form: what tells this form of them from others.
    """
    key = jit.address(weights), weights.shape, *form
    found = _copies.get(key)
    if found is None:
        with capture.suspended():
            _copies[key] = found = Copy(weights, make())
    capture.keep(found)
    return found.form
