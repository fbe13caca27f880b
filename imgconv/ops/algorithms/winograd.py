"""3×3 convolutions of many channels in a quarter of the multiplications: F(4×4, 3×3).

A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: tiles of 6×6
padded pixels, four apart, and the kernels are transformed to 36 numbers each; for each of the 36
places the channels are summed by a matrix product; an inverse transform gives 4×4 outputs a tile.

A task is some rows of tiles of a unit: their pixels are transformed once, and MAPS maps at a time
have their kernels transformed, their 36 products computed and their sums transformed to outputs.
Tiles that see extreme numbers are summed tap by tap (`winograd_outliers`). The tiles' grid begins
at the map's corner and channels are summed in order, so results do not depend on how work is
divided.

Kernels are transformed for each call, so small maps, which would pay for that with too few pixels,
are left to `gemm`. A network that is played again keeps them in four times the memory of the
weights: 512 to 512 maps at 28×28 then take 7.8 ms instead of 14.
"""

import numpy as np

from imgconv.jit import loop as jit
from imgconv.jit import scratch, simd
from imgconv.jit.loop import Built, Helper, loop
from imgconv.jit.parallel import over_bands
from imgconv.ops import epilogue
from imgconv.ops.algorithms import copies
from imgconv.ops.algorithms.problem import Candidate, ConvProblem
from imgconv.ops.algorithms.tiles import WIDEST, fill_row, panel_at
from imgconv.ops.algorithms.winograd_layout import MAPS, VECTOR, Layout, WinogradScratch
from imgconv.ops.arrays import contiguous
from imgconv.ops.microkernels import copy as copying
from imgconv.ops.microkernels import gemm, winograd, winograd_outliers
from imgconv.ops.microkernels.winograd import PLACES, SEEN, SIDE, TAPS, spread
from imgconv.typing import Array, Float32

LEAST_MAPS = 16
LEAST_AREA = 576  # outputs a map


def _line_at(source, origin, padded, top, rows, geometry, tables):  # type: ignore[no-untyped-def]
    """A pointer to the pixels of a padded row."""
    if not geometry.plain:
        return simd.at(rows, (SEEN + 1 + padded - SIDE * top) * geometry.pitch)
    line = tables.row_map[padded] if padded < geometry.padded else np.int64(-1)
    if line < 0:
        return simd.at(rows, SEEN * geometry.pitch)
    return simd.at(source, origin + line * geometry.row_stride)


line_at = Helper(_line_at)


def _fill_lines(rows, source, origin, top, bottom, geometry, tables):  # type: ignore[no-untyped-def]
    """Put a channel's padded rows where `line_at` finds them."""
    for padded in range(SIDE * top, SIDE * bottom + 2):
        line = tables.row_map[padded] if padded < geometry.padded else np.int64(-1)
        fill_row(
            rows, (SEEN + 1 + padded - SIDE * top) * geometry.pitch, source, line,
            origin + line * geometry.row_stride, 0, SIDE * geometry.across + 2, tables.col_map,
            geometry, geometry.fill,
        )  # fmt: skip


fill_lines = Helper(_fill_lines)


def _clear(scratch, held, top, bottom, geometry):  # type: ignore[no-untyped-def]
    """Make room for `_pixels`: a row of fill, zeros where vectors reach beyond pixels and tiles.

    What memory happens to hold may be subnormal numbers, under which a product takes ten times as
    long.
    """
    pitch = geometry.pitch
    for i in range(SEEN * pitch):
        scratch.rows[i] = np.float32(0)
    for i in range(SEEN * pitch, (SEEN + 1) * pitch):
        scratch.rows[i] = geometry.fill
    for i in range(((bottom - top) * SIDE + 2) * pitch):
        scratch.marks[i] = np.int32(0)
    last = (held - 1) // VECTOR * VECTOR
    step = spread(geometry.channels * geometry.columns)
    for t in range(PLACES):
        for c in range(geometry.channels):
            for i in range(VECTOR):
                scratch.pixels[t * step + c * geometry.columns + last + i] = np.float32(0)


clear = Helper(_clear)


def _pixels(lanes: int) -> Helper:
    """A helper that transforms the pixels of tile rows top…bottom − 1 of all channels."""
    columns, rows = winograd.transform_columns(lanes), winograd.transform_rows(lanes)

    def transform(source, start, scratch, geometry, tables, top, bottom):  # type: ignore[no-untyped-def]
        pitch, across = geometry.pitch, geometry.across
        near, inside = geometry.near, geometry.width
        if not geometry.plain:
            near, inside = 0, SIDE * across + 2
        step = spread(geometry.channels * geometry.columns)
        clear(scratch, (bottom - top) * across, top, bottom, geometry)
        for c in range(geometry.channels):
            origin = start + tables.channels[c]
            if not geometry.plain:
                fill_lines(scratch.rows, source, origin, top, bottom, geometry, tables)
            for y in range(top, bottom):
                six = (
                    line_at(source, origin, SIDE * y, top, scratch.rows, geometry, tables),
                    line_at(source, origin, SIDE * y + 1, top, scratch.rows, geometry, tables),
                    line_at(source, origin, SIDE * y + 2, top, scratch.rows, geometry, tables),
                    line_at(source, origin, SIDE * y + 3, top, scratch.rows, geometry, tables),
                    line_at(source, origin, SIDE * y + 4, top, scratch.rows, geometry, tables),
                    line_at(source, origin, SIDE * y + 5, top, scratch.rows, geometry, tables),
                )
                columns(
                    scratch.rows, pitch, SIDE * across + 2, six, near, inside, geometry.fill,
                    simd.at(scratch.marks, (y - top) * SIDE * pitch), y == bottom - 1,
                )  # fmt: skip
                place = c * geometry.columns + (y - top) * across
                rows(simd.at(scratch.pixels, place), step, scratch.rows, pitch, across)

    return Helper(transform)


def _products(lanes: int, heights: gemm.Heights) -> Helper:
    """A helper that computes the sums of `maps` maps: for each place, kernels times pixels."""
    most = len(heights)
    panel = gemm.panel(lanes, heights)

    def multiply(scratch, kernels, maps, held, geometry, tables):  # type: ignore[no-untyped-def]
        count = geometry.channels
        sums, pixels = spread(maps * geometry.columns), spread(count * geometry.columns)
        vectors = (held + lanes - 1) // lanes
        panels = (vectors + most - 1) // most
        for t in range(PLACES):
            for number in range(panels):
                place = panel_at(number, vectors, panels)
                first, width = place[0] * lanes, place[1] * lanes
                panel(
                    simd.at(scratch.sums, t * sums + first * maps),
                    simd.at(scratch.pixels, t * pixels + first), tables.places,
                    simd.at(kernels, t * spread(maps * count)), tables.zeros, tables.zeros,
                    gemm.Panel(maps, width, count, width, count, True, False, -np.inf),
                )  # fmt: skip

    return Helper(multiply)


def _outputs(lanes: int, most: int, activation: str) -> Helper:
    """A helper that transforms map m's sums to outputs and stores them."""
    copy = copying.copy(lanes)
    transform = winograd.transform_sums(lanes)
    activate = epilogue.activated(activation)
    room = SEEN * SIDE * lanes

    def write(out, scratch, m, maps, bias, geometry, top, bottom):  # type: ignore[no-untyped-def]
        across, columns, width = geometry.across, geometry.columns, geometry.out_width
        vectors = ((bottom - top) * across + lanes - 1) // lanes
        panels = (vectors + most - 1) // most
        apart = SIDE * columns  # from line to line of all tiles' outputs
        lines = simd.at(scratch.rows, room)
        for number in range(panels):
            panel = panel_at(number, vectors, panels)
            for v in range(panel[1]):
                first = (panel[0] + v) * lanes
                at = panel[0] * lanes * maps + (m * panel[1] + v) * lanes
                transform(
                    simd.at(lines, SIDE * first), apart, simd.at(scratch.sums, at),
                    spread(maps * columns), scratch.rows, bias, geometry.floor,
                )  # fmt: skip
        if activate is not None:
            for r in range(SIDE):
                activate(lines, r * apart, SIDE * vectors * lanes)
        for y in range(top, bottom):
            for r in range(min(SIDE, geometry.out_height - SIDE * y)):
                line = r * apart + SIDE * (y - top) * across
                copy(simd.at(out, (SIDE * y + r) * width), simd.at(lines, line), width)

    return Helper(write)


def _block(geometry, group, first):  # type: ignore[no-untyped-def]
    """Where the kernels of a group's maps from `first` on begin, where those of all are kept."""
    blocks = (geometry.maps + MAPS - 1) // MAPS
    size = PLACES * spread(min(MAPS, geometry.maps) * geometry.channels)
    return (group * blocks + first // MAPS) * size


block = Helper(_block)


@loop
def turn_kernels(lanes: int) -> Built:
    """The transformed kernels of `block`s low…high − 1; room: for a block of kernels and SPARE."""
    transform = winograd.transform_kernels(lanes)

    def body(target, weights, room, geometry, low, high):  # type: ignore[no-untyped-def]
        blocks = (geometry.maps + MAPS - 1) // MAPS
        for number in range(low, high):
            group = number // blocks
            first = (number - group * blocks) * MAPS
            place = (group * geometry.maps + first) * geometry.channels * TAPS
            transform(
                simd.at(target, block(geometry, group, first)), simd.at(weights, place),
                geometry.weights - place, min(MAPS, geometry.maps - first), geometry.channels, room,
            )  # fmt: skip

    return "disjoint f32* f32* f32* WinogradGeometry* i64 i64", body


@loop
def winograd_rows(lanes: int, heights: gemm.Heights, activation: str, kept: bool) -> Built:
    """Tile rows top…bottom − 1 of unit `number`.

    kept: whether `scratch` has the transformed kernels of all maps, as
    `turn_kernels` leaves them.
    """
    pixels, products = _pixels(lanes), _products(lanes, heights)
    kernels = winograd.transform_kernels(lanes)
    outputs = _outputs(lanes, len(heights), activation)
    mark_tiles = winograd_outliers.mark_tiles(lanes)
    sum_tiles = winograd_outliers.sum_tiles(activation)

    def body(  # type: ignore[no-untyped-def]
        out, source, weights, bias, tables, units, geometry, scratch, number, top, bottom
    ):
        unit, held = units[number], (bottom - top) * geometry.across
        pixels(source, unit.source, scratch, geometry, tables, top, bottom)
        marks = ((bottom - top) * SIDE + 4) * geometry.pitch
        marked = mark_tiles(scratch.marks, marks, geometry, top, bottom)
        for first in range(0, geometry.maps, MAPS):
            maps = min(MAPS, geometry.maps - first)
            m = unit.group * geometry.maps + first
            place = m * geometry.channels * TAPS
            transformed = scratch.kernels
            if kept:
                transformed = simd.at(transformed, block(geometry, unit.group, first))
            if not kept:
                kernels(
                    transformed, simd.at(weights, place), geometry.weights - place, maps,
                    geometry.channels, scratch.rows,
                )  # fmt: skip
            products(scratch, transformed, maps, held, geometry, tables)
            for k in range(maps):
                target = simd.at(out, unit.out + (first + k) * geometry.out_map)
                outputs(target, scratch, k, maps, bias[m + k], geometry, top, bottom)
                if marked:
                    sum_tiles(
                        target, source, unit.source,
                        simd.at(weights, place + k * geometry.channels * TAPS), bias[m + k],
                        simd.at(scratch.marks, marks), geometry, tables, top, bottom,
                    )  # fmt: skip

    return (
        "disjoint f32* f32* f32* f32* WinogradTables WinogradUnit* WinogradGeometry* "
        "WinogradScratch i64 i64 i64",
        body,
    )


def offer(problem: ConvProblem) -> Candidate | None:
    """For 3×3 over many channels and maps and enough outputs of one image."""
    maps, channels, *kernel = problem.weights.shape[1:]
    height, width = problem.out_size
    if not problem.is_plain or kernel != [3, 3] or not problem.stride == problem.dilation == (1, 1):
        return None
    if problem.whole:  # the transforms have fractions
        return None
    if min(maps, channels) < LEAST_MAPS or height * width < LEAST_AREA or width > WIDEST:
        return None
    taps = 9 * channels
    reason = f"Winograd, transformed tiles of 4×4 outputs, {maps} maps of {taps} taps"
    return Candidate("winograd", 0.05 + 0.003 * taps, reason)


class Product:
    """All that a problem says beside its numbers: as `gemm.Product`."""

    def __init__(self, problem: ConvProblem) -> None:
        groups, maps = problem.weights.shape[:2]
        self._lanes, heights = gemm.blocks()
        activation = "" if problem.activation == "relu" else problem.activation
        self._constants = self._lanes, heights, activation
        self._blocks = groups * -(-maps // MAPS)
        self._layout = Layout.of(problem, self._lanes, len(heights))

    def __call__(
        self, out: Float32, source: Float32,
        weights: Array, bias: Array,
    ) -> None:  # fmt: skip
        """Compute out; source, weights (groups, M, …) and bias are laid out as in the problem."""
        weights = contiguous(weights, np.float32)
        kept = None
        if copies.wanted():
            kept = copies.copy_of(weights, ("transformed",), lambda: self._transformed(weights))
        layout = self._layout
        rows_loop = winograd_rows(*self._constants, kept is not None).fix(
            out, source, weights, np.ascontiguousarray(bias, np.float32), *layout.addresses
        )

        def work(first: int, last: int) -> None:
            buffers = WinogradScratch(
                *(
                    jit.address(kept) if kept is not None and name == "kernels"
                    else scratch.address(name, size)
                    for name, size in layout.sizes.items()
                )
            )  # fmt: skip
            for task in layout.tasks[first:last]:
                rows_loop(buffers, *task)

        over_bands(len(layout.tasks), 1, work)

    def _transformed(self, weights: Float32) -> Float32:
        layout = self._layout
        target = np.empty(self._blocks * layout.sizes["kernels"], np.float32)
        turn = turn_kernels(self._lanes).fix(target, weights)

        def work(first: int, last: int) -> None:
            room = scratch.address("rows", layout.sizes["rows"])
            turn(room, layout.geometry, first, last)

        over_bands(self._blocks, 1, work)
        return target
