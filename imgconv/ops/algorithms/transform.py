"""A pair of tiles to the frequencies and back, by panels of LANES columns (`microkernels.fft`).

A panel is read from the tile, transformed and written while it lies in the first-level cache; what
is written are rows of the tile turned by a quarter, so that rows are transformed as columns are.
"""

from typing import NamedTuple

from imgconv.jit import simd
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.record import record
from imgconv.ops.microkernels import fft
from imgconv.ops.microkernels.fft import LANES, ROW


@record
class TransformSteps(NamedTuple):
    """Steps begin…end − 1 of a transform of n by n pixels of `run` elements.

    keep: 0 to use the frequencies at once, 1 to keep them too, 2 to take those that were kept.
    """

    n: int
    run: int
    keep: int
    begin: int
    end: int


def _turns(real: str) -> tuple[Helper, Helper]:
    """Helpers (turned, rows, panel): LANES rows of a panel as columns of `turned`, and back.

    Column k stands at turned[rows[k]…]; real or imaginary parts alone.
    """
    side = fft.complex_vector(real).lanes
    square = simd.Tile(side, 1, side, real)

    def out(turned, rows, panel):  # type: ignore[no-untyped-def]
        for across in range(0, LANES, side):
            places = simd.offsets(square, rows, across)
            for down in range(0, LANES, side):
                block = simd.load_rows(square, panel, down * ROW + across, ROW)
                simd.store_rows(turned, down, places, simd.transpose(block))

    def back(turned, rows, panel):  # type: ignore[no-untyped-def]
        for across in range(0, LANES, side):
            places = simd.offsets(square, rows, across)
            for down in range(0, LANES, side):
                block = simd.load_rows(square, turned, down, places)
                simd.store_rows(panel, down * ROW + across, ROW, simd.transpose(block))

    return Helper(out), Helper(back)


def _moves(real: str) -> tuple[Helper, Helper]:
    """Helpers for panels of n rows.

    move(n, to, step, far, source, source_step, source_far): rows `step` apart, real and imaginary
    parts `far` apart, from those of the source. multiply(n, panel, kernels): by complex numbers
    that stand as the panel's do.
    """
    vector = fft.complex_vector(real)
    lanes = vector.lanes

    def move(n, to, step, far, source, source_step, source_far):  # type: ignore[no-untyped-def]
        for y in range(n):
            for lane in range(0, LANES, lanes):
                row = simd.load_rows(vector, source, y * source_step + lane, source_far)
                simd.store_rows(to, y * step + lane, far, row)

    def multiply(n, panel, kernels):  # type: ignore[no-untyped-def]
        for y in range(n):
            for at in range(y * ROW, y * ROW + LANES, lanes):
                x = simd.load_rows(vector, panel, at, LANES)
                w = simd.load_rows(vector, kernels, at, LANES)
                product = times(x, simd.rows(w, fft.RE), simd.rows(w, fft.IM))
                simd.store_rows(panel, at, LANES, product)

    times = Helper(fft.times)
    return Helper(move), Helper(multiply)


@loop
def transform(real: str) -> Built:
    """Steps of the way of a pair of tiles to the frequencies and back.

    With P panels of LANES columns in an interleaved tile, step p < P transforms one panel of
    columns and writes it as rows of `turned`, each element of a pixel in a plane of its own (so
    interleaved channels part at no cost); step P + p transforms a panel of rows, multiplies and
    turns it back; step 2 P + p leaves LANES columns of the result in the panel. kept, kernels:
    frequencies, panel by panel.
    """
    ahead, back = fft.columns(real, True), fft.columns(real, False)
    turn_out, turn_in = _turns(real)
    move, multiply = _moves(real)

    def body(tile, turned, kept, kernels, panel, table, rows, steps):  # type: ignore[no-untyped-def]
        n, run, keep = steps.n, steps.run, steps.keep
        wide, pitch = n * run + LANES, n + LANES
        panels = n // LANES
        plane = run * n * pitch
        for step in range(steps.begin, steps.end):
            phase = step // (panels * run)
            p = step - phase * panels * run
            lines = simd.at(turned, p // panels * n * pitch + p % panels * LANES)
            columns = simd.at(rows, p * LANES)
            own = simd.at(kept, p * n * ROW)
            if phase == 0:
                move(n, panel, ROW, LANES, simd.at(tile, p * LANES), wide, n * wide)
            elif phase == 1 and keep < 2:
                move(n, panel, ROW, LANES, lines, pitch, plane)
            elif phase == 1:
                move(n, panel, ROW, LANES, own, ROW, LANES)
            else:
                for b in range(panels):
                    block, at = simd.at(panel, b * LANES * ROW), b * LANES
                    turn_in(simd.at(turned, at), columns, block)
                    turn_in(simd.at(turned, plane + at), columns, simd.at(block, LANES))
            if phase < 2 and keep < 2:
                ahead(panel, table, n)
            if phase == 1 and keep == 1:
                move(n, own, ROW, LANES, panel, ROW, LANES)
            if phase == 0:
                for b in range(panels):
                    block, at = simd.at(panel, b * LANES * ROW), b * LANES
                    turn_out(simd.at(turned, at), columns, block)
                    turn_out(simd.at(turned, plane + at), columns, simd.at(block, LANES))
            else:
                if phase == 1:
                    multiply(n, panel, simd.at(kernels, p % panels * n * ROW))
                back(panel, table, n)
                if phase == 1:
                    move(n, lines, pitch, plane, panel, ROW, LANES)

    return f"disjoint {real}* {real}* {real}* {real}* {real}* {real}* i64* TransformSteps", body
