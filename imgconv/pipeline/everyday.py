"""The loops of everyday filters, compiled together where a person waits.

Somebody who tries a blur after an edge filter would wait again and again, a second each time. So
the first wait at a terminal is one for all of these; pipes and scripts compile what they need.
"""

from collections.abc import Iterator

import numpy as np

from imgconv.jit.loop import Wanted


def loops() -> Iterator[Wanted]:
    """Those of small kernels, blurs and boxes on 8-bit images of up to a few megapixels."""
    from imgconv.ops.algorithms.box import box_rows
    from imgconv.ops.algorithms.separable import separable_rows
    from imgconv.ops.algorithms.sparse import sparse_rows
    from imgconv.ops.microkernels import png_rows
    from imgconv.ops.scaling import scale_loop, weighted_sum

    yield Wanted(png_rows.filter_rows, ())
    yield Wanted(png_rows.unfilter, (3,))
    yield scale_loop(np.dtype(np.float32), np.dtype(np.uint8), 1.0, 1.0, False)
    yield Wanted(weighted_sum, ("u8", True))
    for combine, divided in (("none", False), ("none", True), ("magnitude", False)):
        yield Wanted(sparse_rows, ("u8", "f32", "f32", combine, divided, ""))
    yield Wanted(separable_rows, ("u8", "f32", "f32", "none", False, ""))
    yield Wanted(box_rows, ("u8", "f32", "i32", "f32", True, ""))
