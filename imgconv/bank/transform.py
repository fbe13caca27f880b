"""What options do to a kernel: normalise, divide, rotate, flip, add a bias."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from imgconv.bank.kernel import Kernel
from imgconv.errors import KernelError

NORMALIZE_RULES = ("sum", "abs", "none")

# The eight outer places of a 3×3 matrix, clockwise from the upper left.
_RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))


def rotated(
    weights: npt.NDArray[np.float64], degrees: float, source: str
) -> npt.NDArray[np.float64]:
    """Return (…, kH, kW) weights turned counter-clockwise by `degrees`.

    Multiples of 90 work for every shape, multiples of 45 for 3×3 by turning the outer ring one
    place. Raises KernelError otherwise.
    """
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(weights, int(degrees) // 90 % 4, axes=(-2, -1)))
    if degrees % 45 or weights.shape[-2:] != (3, 3):
        kh, kw = weights.shape[-2:]
        raise KernelError(
            f"{source}: rotate={degrees:g} of a {kh}×{kw} kernel, expected a multiple of 90 "
            "(of 45 for 3×3)"
        )
    out = weights.copy()
    for place, (row, column) in enumerate(_RING):
        came_from = _RING[(place + int(degrees) // 45) % 8]
        out[..., row, column] = weights[..., came_from[0], came_from[1]]
    return out


def transform(
    kernel: Kernel,
    normalize: str | None = None,
    divisor: float | None = None,
    rotate: float = 0,
    flip: bool = False,
    bias: float | None = None,
) -> Kernel:
    """Return the kernel after the options of the command line, in this order.

    rotate, flip (by 180°, true convolution); normalize `sum` (weights of each filter sum to 1)
    or `abs` (absolute weights sum to 1), which replaces the divisor; divisor; bias, added to every
    response. Raises KernelError for a zero divisor or a sum of zero.
    """
    weights = rotated(kernel.weights, rotate, kernel.name) if rotate else kernel.weights
    if flip:
        weights = weights[:, :, ::-1, ::-1].copy()
    changes: dict[str, object] = {"weights": weights}
    if normalize not in (None, *NORMALIZE_RULES):
        raise KernelError(f"normalize={normalize}: expected {', '.join(NORMALIZE_RULES)}")
    if normalize in ("sum", "abs"):
        measured = np.abs(weights) if normalize == "abs" else weights
        totals = measured.sum(axis=(1, 2, 3), keepdims=True)
        if (np.abs(totals) < 1e-12 * np.abs(weights).sum()).any() or not totals.all():
            hint = "; use --normalize abs or --divisor" if normalize == "sum" else ""
            raise KernelError(
                f"{kernel.name}: --normalize {normalize} with weights that sum to 0, "
                f"expected a sum other than 0{hint}"
            )
        if np.all(totals == totals.flat[0]):
            changes["divisor"] = float(totals.flat[0])
        else:
            changes |= {"weights": weights / totals, "divisor": 1.0}
    if divisor is not None:
        if divisor == 0 or not np.isfinite(divisor):
            raise KernelError(f"divisor={divisor:g}: expected a finite number other than 0")
        changes["divisor"] = float(divisor)
    if bias is not None:
        own = kernel.bias if kernel.bias is not None else np.zeros(len(weights))
        changes["bias"] = own + bias
    return replace(kernel, **changes)  # type: ignore[arg-type]
