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
    """A bank of filters with what is needed to apply and describe it.

    weights: float64 (C_out, C_in/groups, kH, kW), as drawn in the literature, before division.
        C_in/groups = 1 filters every image channel on its own; otherwise it must be the image's
        channel count.
    bias: float64 (C_out,) in units of the divided response, or None.
    divisor: the response is divided by it; never zero.
    combine: how the C_out maps become one map (`none` keeps them), one of COMBINE_RULES. Under
        `shrink` the biases are limits: a map counts where its magnitude reaches its own.
    scale: the default of `--scale` for its maps: clip, abs, signed, minmax, ….
    labels: one name per map, for file names. captions: what each map is, in pictures, where its
        label does not say it.
    source: the preset's name, file or inline text it came from.
    parameters: of a parametric kernel, with the defaults filled in.
    named: whether `source` is a name of the bank, which makes this kernel on any machine.
    anchor: (row, column) of the tap that lies on the output's pixel where the size is kept; None is
        the middle, of an even side the tap before it, as in PyTorch.
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
