"""Sums of maps with an activation, in one pass over memory."""

from typing import Any

import numpy as np
import numpy.typing as npt

from imgconv.compute import epilogue, jit
from imgconv.compute.bands import num_threads, over_bands

Array = npt.NDArray[Any]

_FEW = 1 << 15  # elements; below this a thread costs more than it saves


@jit.loop
def add_elements(element: str, activation: str) -> jit.Built:
    """out[i] = activation(a[i] + b[i])."""
    act = epilogue.activation_of(activation, element)

    def body(out, a, b, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            out[i] = act(a[i] + b[i])

    return f"{element}* {element}* {element}* i64", body


def add(a: Array, b: Array, activation: Any = None) -> Array:
    """Return activation(a + b); shapes are NumPy's to broadcast.

    Residual blocks add maps of one shape in float32: these take a single pass. Other arrays are
    added by NumPy. float64 stays, everything else becomes float32 where there is an activation.
    """
    same = a.shape == b.shape and a.dtype == b.dtype and a.dtype in (np.float32, np.float64)
    if not same or not (a.flags.c_contiguous and b.flags.c_contiguous):
        from imgconv.compute.pointwise import activate

        total = np.add(a, b)
        return total if activation is None else activate(total, activation)
    out = np.empty_like(a)
    work = add_elements(jit.ELEMENT_NAMES[a.dtype], epilogue.activation_key(activation))
    left, right, target = a.reshape(-1), b.reshape(-1), out.reshape(-1)
    band = max(_FEW, -(-out.size // num_threads()))
    over_bands(
        out.size, band, lambda i, j: work(target[i:j], left[i:j], right[i:j], j - i)
    )  # fmt: skip
    return out
