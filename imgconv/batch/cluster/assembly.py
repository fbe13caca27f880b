"""The parts of one large image: made by workers, put together by the client."""

import contextlib

import numpy as np

from imgconv.errors import ImageError
from imgconv.io.scaling import Lost
from imgconv.io.writing import encode_rows
from imgconv.ops.rows import WatchedRows, read_rows
from imgconv.pipeline.division import Division, LossyRows
from imgconv.pipeline.filter import Work, filter_bands
from imgconv.pipeline.item import Input
from imgconv.pipeline.outputs import Row
from imgconv.pipeline.recipe import names_of
from imgconv.typing import Array


def make_part(
    work: Work, source: str, index: int, start: int, stop: int, folder: str | None
) -> tuple[Array | None, Lost]:
    """Make rows start…stop − 1 of a divided image, in a folder's Zarr image if one is given.

    Return (the samples, or None where they were written; how many were lost).
    """
    out = work.out
    image = Input(out, source, index).rows(source)
    path = out.path(source, names_of(out.request.recipe)[0].part, index, 0)
    maps = image and filter_bands(out.request, image, out.format(source, path), (0,))
    if not image or not maps:
        raise ImageError(f"{source}: changed while it was read")
    with contextlib.closing(image.rows):
        rows = maps[0]
        rows.start_at(start)
        if folder is not None:
            from imgconv.io.zarr import arrays as zarr_arrays

            zarr_arrays.write_rows(folder, rows, start, stop)
            return None, rows.lost
        samples = np.empty((stop - start, rows.width, rows.channels), rows.dtype)
        read_rows(rows, samples)
        return samples, rows.lost


def assemble(work: Work, source: str, division: Division, rows: LossyRows, replace: bool) -> Row:
    """Write the file of a divided image whose rows come from workers; return its --json line."""
    made = division.made
    watched = WatchedRows(rows, work.watch) if work.watch and made.name != "zarr" else rows
    pieces = encode_rows(watched, made, **division.options, patched=True)
    size = work.out.publisher(replace)(division.path, pieces)
    if warning := division.warning(rows.lost):
        work.out.request.tell([f"{source}: {warning}"])
    return {**division.result, "input": source, "bytes": size}
