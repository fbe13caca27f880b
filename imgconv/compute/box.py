"""Boxes by running sums: the time does not depend on the size.

A sum down each column loses the row that leaves the window and gains the one that enters; a sum
along the row does the same with these. Only for integer images under a kernel of one integer,
where every sum is exact: in floats the running sums would keep what rounding left of rows long
gone, and a NaN for ever.
"""

import numpy as np

from imgconv.compute import epilogue, exact, jit, plan, tiles
from imgconv.compute.bands import over_bands
from imgconv.compute.jit import Built, loop
from imgconv.compute.plan import Offer
from imgconv.compute.tiles import Job, Layout, band_rows, convert_row

STRIP = 4096  # elements of a row whose sums lie in the first-level cache


@loop
def box_rows(source: str, element: str, real: str, divided: bool, activation: str) -> Built:
    """Output rows top…bottom − 1 of the pixels from x on, of one unit."""
    store = epilogue.store(element, real, divided, False, activation)
    zero = jit.DTYPES[real].type(0)

    def body(  # type: ignore[no-untyped-def]
        out, source, line, columns, sums, row_map, col_map, bias, values, geometry, kh, kw, weight,
        start_in, start_out, top, bottom, x, pixels,
    ):  # fmt: skip
        run = geometry[tiles.RUN]
        seen = pixels + kw - 1
        count = pixels * run
        for i in range((seen + 1) * run):
            columns[i] = zero
        for step in range(bottom - top + kh - 1 + bottom - top - 1):
            # The first kh rows enter; then rows leave and enter by turns.
            after = step - kh + 1
            leaving = after > 0 and after % 2 == 1
            if after <= 0:
                row = top + step
            else:
                row = top + after // 2 if leaving else top + kh - 1 + after // 2
            convert_row(
                line, np.int64(0), source, row_map[row],
                start_in + row_map[row] * geometry[tiles.ROW_STRIDE], x, seen, col_map,
                geometry, values[epilogue.FILL],
            )  # fmt: skip
            if leaving:
                for i in range(seen * run):
                    columns[i] -= line[i]
                continue
            for i in range(seen * run):
                columns[i] += line[i]
            if after < 0:
                continue
            for e in range(run):
                total = zero
                for k in range(kw):
                    total += columns[k * run + e]
                # The difference does not wait for the sum before it: 2.2 ns a sample, not 2.9.
                for i in range(pixels):
                    at = i * run + e
                    sums[at] = total * weight
                    total += columns[at + kw * run] - columns[at]
            y = top + after // 2
            place = start_out + y * geometry[tiles.OUT_ROW] + x * run
            store(out, place, sums, np.int64(0), count, bias[0], values)

    arguments = (
        f"disjoint {element}* {source}* {real}* {real}* {real}* i64* i64* {real}* {real}* i64* "
        f"i64 i64 {real} i64 i64 i64 i64 i64 i64"
    )
    return arguments, body


def offer(job: Job) -> Offer | None:
    """For one map of one channel, without stride or dilation, of one integer all over."""
    _, maps, channels, kh, kw = job.weights.shape
    if channels > 1 or maps > 1 or job.stride != (1, 1) or job.dilation != (1, 1):
        return None
    if job.outputs * kh * kw < plan.SMALL or (job.weights != job.weights[0, 0, 0, 0, 0]).any():
        return None
    if not exact.is_integer(job.source.dtype, job.weights, job.fill):
        return None
    cost = 2.3 * (1.5 if job.real == "f64" else 1.0)
    return Offer("box", cost, f"running sums over {kh}×{kw} (exact)")


def run(job: Job, choice: Offer) -> None:
    """Compute the job's outputs, threads over bands of rows and strips of columns."""
    groups, _, _, kh, kw = job.weights.shape
    real = jit.DTYPES[job.real]
    height, width = job.out_size
    strips = max(1, -(-width * job.run // max(STRIP, 2 * kw * job.run)))
    wide = -(-width // strips)
    geometry = Layout.of(job).geometry(job, wide, 1)
    bias = np.ascontiguousarray(job.bias, real)
    values = epilogue.make_values(job.real, job.fill, job.gain, job.offset, job.divisor)
    rows_loop = box_rows(
        jit.ELEMENT_NAMES[job.source.dtype], jit.ELEMENT_NAMES[job.out.dtype], job.real,
        job.divisor != 1.0, job.activation,
    )  # fmt: skip
    weight = float(job.weights[0, 0, 0, 0, 0])
    # A band begins with kh rows that give no output.
    band = max(band_rows(height, 1, len(job.starts_in) * strips), min(height, 4 * kh))
    per_unit = -(-height // band) * strips

    def work(first: int, last: int) -> None:
        line, columns = (np.empty((wide + kw) * job.run, real) for _ in range(2))
        sums = np.empty(wide * job.run, real)
        for index in range(first, last):
            unit, rest = divmod(index, per_unit)
            turn, strip = divmod(rest, strips)
            pixels = min(wide, width - strip * wide)
            if pixels > 0:
                rows_loop(
                    job.out, job.source, line, columns, sums, job.row_map, job.col_map,
                    bias[unit % groups], values, geometry, kh, kw, weight,
                    job.starts_in[unit] + job.channels[0], job.starts_out[unit],
                    turn * band, min(height, (turn + 1) * band), strip * wide, pixels,
                )  # fmt: skip

    over_bands(per_unit * len(job.starts_in), 1, work)
