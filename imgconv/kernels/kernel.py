"""What a kernel is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from imgconv.errors import KernelError, ShapeError
from imgconv.shapes import anchored_sides, pair
from imgconv.typing import JSON, Array


@dataclass(eq=False, repr=False)  # frozen takes 0.6 ms more of every start
class Kernel:
    """A bank of filters, with all that is needed to apply and describe it.

    Attributes
    ----------
    weights
        float64 (C_out, C_in/groups, kH, kW), as in the literature, before division. With one input
        channel, every image channel is filtered separately; otherwise there must be as many as the
        image has.
    bias
        float64 (C_out,) in units of the divided response, or None.
    divisor
        The response is divided by it; never zero.
    combine
        How the C_out maps become one, one of COMBINE_RULES; `none` keeps them all. With `shrink`,
        biases are limits: a map counts where its magnitude reaches its own.
    scale
        The default of `--scale` for its maps: clip, abs, signed, minmax, ….
    labels
        One name per map, for file names.
    captions
        What each map is, for pictures, if its label does not say so.
    source
        The preset's name, the file, or the text that it came from.
    parameters
        Those of a parametric kernel, including defaults.
    named
        Whether `source` is a name that makes this kernel on any machine.
    anchor
        (row, column) of the tap that lies on the output pixel if the size is kept; None is the
        middle one, or the tap before it if a side is even, as in PyTorch.
    """

    name: str
    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64] | None = None
    divisor: float = 1.0
    combine: str = "none"
    scale: str = "clip"
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    description: str = ""
    citation: str = ""
    source: str = ""
    parameters: Mapping[str, JSON] = field(default_factory=dict)
    named: bool = False
    anchor: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(kH, kW)."""
        return self.weights.shape[2], self.weights.shape[3]

    def caption(self, number: int) -> str:
        """What a map is, in pictures; "" for the only one."""
        for texts in (self.captions, self.labels):
            if len(texts) == len(self.weights):
                return texts[number]
        return str(number) if len(self.weights) > 1 else ""

    def effective_weights(self) -> npt.NDArray[np.float64]:
        """Weights divided by the divisor, as they multiply pixels."""
        return self.weights / self.divisor

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """The effective weights: a kernel stands for them wherever an array of weights does."""
        return np.asarray(self.effective_weights(), dtype)

    def _repr_png_(self) -> bytes:
        """The heat map of `imgconv kernels plot`, for notebooks."""
        from imgconv.io.png.writer import encode
        from imgconv.viz.kernel_plot import draw

        return b"".join(encode(draw(self)))


def check_anchor(anchor: int | Sequence[int], size: tuple[int, int], where: str) -> tuple[int, int]:
    """Return the row and column of one of a kernel's taps; raises KernelError for anything else."""
    try:
        anchored_sides(anchor, size)
        return pair(anchor, "anchor", 0)
    except (ShapeError, TypeError) as error:
        raise KernelError(f"{where}: {error}") from None


def check_bias(bias: npt.NDArray[np.float64], maps: int, where: str) -> npt.NDArray[np.float64]:
    """Return a bias of one finite number per map; raises KernelError for anything else."""
    if bias.shape != (maps,) or not np.isfinite(bias).all():
        raise KernelError(f"{where}: bias of shape {bias.shape}, expected {maps} finite numbers")
    return bias


def once(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """A JSON object; raises ValueError for a key that comes twice, of which JSON keeps the last."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} twice, expected it once")
    return table
