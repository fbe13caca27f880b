"""What options do to a kernel: normalize, divide, rotate, flip, add a bias."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from imgconv.errors import KernelError
from imgconv.kernels.kernel import Kernel, check_anchor
from imgconv.shapes import flipped_anchor

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


def turned_anchor(
    anchor: tuple[int, int], size: tuple[int, int], degrees: float, source: str
) -> tuple[int, int]:
    """Where the tap at `anchor` is after `rotated`. Raises KernelError as that does."""
    taps = np.zeros(size)
    taps[anchor] = 1
    y, x = np.argwhere(rotated(taps, degrees, source))[0]
    return int(y), int(x)


def joined(
    filters: Sequence[npt.NDArray[np.float64]], anchors: Sequence[tuple[int, int] | None]
) -> tuple[npt.NDArray[np.float64], tuple[int, int] | None]:
    """Return one bank of filters (…, kH, kW), and its anchor.

    Where their anchors differ, zeros around them make them meet. Raises ValueError for filters of
    several sizes without anchors.
    """
    if len(set(anchors)) == 1 and len({part.shape[-2:] for part in filters}) == 1:
        return np.concatenate(filters), anchors[0]
    if None in anchors:
        raise ValueError("filters of several sizes, or with and without an anchor")
    places = np.array(anchors)
    after = np.array([part.shape[-2:] for part in filters]) - places
    anchor, most = places.max(axis=0), after.max(axis=0)
    bank = []
    for part, place, rest in zip(filters, places, after, strict=True):
        around = [*zip(anchor - place, most - rest, strict=True)]
        bank.append(np.pad(part, [(0, 0)] * (part.ndim - 2) + around))
    return np.concatenate(bank), (int(anchor[0]), int(anchor[1]))


def anchored(kernel: Kernel, anchor: int | tuple[int, ...] | None) -> Kernel:
    """Return the kernel with the tap at `anchor` on the output's pixel; None leaves its own.

    Raises KernelError where it has no such tap.
    """
    if anchor is None:
        return kernel
    return replace(kernel, anchor=check_anchor(anchor, kernel.size, kernel.name))


def combined(kernel: Kernel, rule: str | None) -> Kernel:
    """Return the kernel with another way to make one map of its maps; None keeps its own.

    Raises KernelError for a kernel with a threshold, whose maps mean nothing else.
    """
    if rule in (None, kernel.combine):
        return kernel
    if kernel.combine == "shrink":
        raise KernelError(f"{kernel.name}: combine with a threshold, expected one of them")
    return replace(kernel, combine=rule)


def transform(
    kernel: Kernel,
    normalize: str | None = None,
    divisor: float | None = None,
    rotate: float = 0,
    flip: bool = False,
    bias: float | None = None,
) -> Kernel:
    """Return the kernel after the options of the command line, in this order.

    rotate, flip (by 180°, true convolution), which move the anchor with its tap; normalize `sum`
    (weights of each filter sum to 1) or `abs` (absolute weights sum to 1), which replaces the
    divisor; divisor; bias, added to every response. Raises KernelError for a zero divisor or a sum
    of zero, and where these last three would move a kernel's threshold.
    """
    weights, anchor = kernel.weights, kernel.anchor
    if kernel.combine == "shrink":
        for option, given in (("normalize", normalize), ("divisor", divisor), ("bias", bias)):
            if given not in (None, "none"):
                raise KernelError(f"{kernel.name}: {option} with a threshold, expected one of them")
    if rotate:
        weights = rotated(weights, rotate, kernel.name)
        anchor = anchor and turned_anchor(anchor, kernel.size, rotate, kernel.name)
    if flip:
        weights = weights[:, :, ::-1, ::-1].copy()
        anchor = anchor and flipped_anchor(anchor, (weights.shape[2], weights.shape[3]))
    changes: dict[str, object] = {"weights": weights, "anchor": anchor}
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
