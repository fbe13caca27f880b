"""How tiles of matrix products are filled: planes of padded rows for each channel of a block."""

import numpy as np

from imgconv.jit import simd
from imgconv.jit.loop import Built, Helper, loop
from imgconv.ops.algorithms import gemm_geometry  # noqa: F401 - records of the signature
from imgconv.ops.algorithms.tiles import even_rows, fill_row
from imgconv.ops.microkernels import copy as copying


@loop
def filled_tile(lanes: int) -> Built:
    """Fill a tile with the channels of a block from channel `first` on.

    Where panels read the source as it lies, with what the last of them reads beyond.
    """
    fill_planes, fill_rest = _planes(lanes), _rest(lanes)

    def body(tile, source, tables, units, geometry, cut, task, unit, first):  # type: ignore[no-untyped-def]
        count = min(geometry.block, geometry.channels - first)
        if geometry.lying:
            if cut.near < cut.panels:
                here = units[unit].source + tables.channels[first] + task.top * geometry.row_stride
                fill_rest(tile, simd.at(source, here), tables, geometry, cut, count)
            return
        rows = task.bottom - task.top - 1 + geometry.rows
        joined = min(geometry.joined, task.last - unit)
        # Columns beyond the pixels, which vectors read, are filled: what memory happens to hold
        # may be subnormal numbers, under which a product takes ten times as long.
        tail = (joined - 1) * geometry.apart + (rows - 1) * geometry.pitch + geometry.own
        tail += geometry.shared
        for k in range(joined):
            fill_planes(
                simd.at(tile, k * geometry.apart), source, units[unit + k].source, tables, geometry,
                first, count, task.top * geometry.stride_y, rows, -1 if k else tail,
            )  # fmt: skip

    return "disjoint f32* f32* GemmTables GemmUnit* GemmGeometry* GemmCut GemmTask i64 i64", body


def _rest(lanes: int) -> Helper:
    """A helper that copies the columns of a 1×1's source that no whole panel covers."""
    fill_rows = copying.fill_rows(lanes)

    def fill(tile, source, tables, geometry, cut, count):  # type: ignore[no-untyped-def]
        beyond = cut.vectors * lanes - cut.columns
        run = copying.Rows(0, 0, 1, 0, cut.columns - cut.left, beyond, 1, 0)
        for k in range(count):
            first = tables.offsets[geometry.block + k] + cut.left
            plane = simd.at(tile, k * geometry.plane)
            fill_rows(plane, simd.at(source, first), run, geometry.fill)

    return Helper(fill)


@loop
def copied_planes(lanes: int) -> Built:
    """tile[k·plane + i] = source[channels[first + k] + i] for k < count, i < length."""
    copy = copying.copy(lanes)

    def body(tile, plane, source, channels, first, count, length):  # type: ignore[no-untyped-def]
        for k in range(count):
            copy(simd.at(tile, k * plane), simd.at(source, channels[first + k]), length)

    return "disjoint f32* i64 f32* i64* i64 i64 i64", body


def _planes(lanes: int) -> Helper:
    """A helper that fills `rows` padded rows from `top` on of each plane of `count` channels.

    tail: the first of the columns to be filled beyond the pixels, or −1.
    """
    copy_planes = copied_planes.part(lanes)
    fill_plane = _plane(lanes)

    def fill(  # type: ignore[no-untyped-def]
        tile, source, start, tables, geometry, first, count, top, rows, tail
    ):
        line = tables.row_map[top]
        end = top + (rows - 1) * geometry.stride_y
        # A tile that is a part of the source as it lies.
        level = geometry.plain == 2 and line >= 0 and tables.row_map[end] - line == rows - 1
        for c in range(first, first + count):
            origin = start + tables.channels[c]
            for number in range(geometry.phases):
                phase = tables.phases[number]
                plane = simd.at(tile, ((c - first) * geometry.phases + number) * geometry.plane)
                # They may reach into the next plane, which is filled later.
                for i in range(lanes if tail >= 0 else 0):
                    plane[tail + i] = geometry.fill
                if level:
                    continue
                beyond = 0
                if c + copying.AHEAD < geometry.channels and (
                    number == 0 or tables.phases[number - 1].down != phase.down
                ):
                    beyond = tables.channels[c + copying.AHEAD] - tables.channels[c]
                fill_plane(
                    plane, source, origin, tables, phase, geometry, top, rows, beyond
                )  # fmt: skip
        if level:
            copy_planes(
                tile, geometry.plane, simd.at(source, start + line * geometry.row_stride),
                tables.channels, first, count, rows * geometry.pitch,
            )  # fmt: skip

    return Helper(fill)


def _plane(lanes: int) -> Helper:
    """A helper that fills the rows of one plane; beyond: what is asked for into the cache."""
    fill_rows = copying.fill_rows(lanes)

    def fill(plane, source, origin, tables, phase, geometry, top, rows, beyond):  # type: ignore[no-untyped-def]
        pitch, apart, step = geometry.pitch, geometry.row_stride, geometry.stride_y
        before, inside = phase.before, phase.inside
        upper, lower = even_rows(
            tables.row_map, top + phase.down, step, rows if inside > 0 else 0, geometry.padded
        )
        if upper < lower:
            above = tables.row_map[top + phase.down + upper * step]
            first = origin + above * apart + phase.across + before * geometry.step - geometry.near
            taken = copying.Rows(
                pitch, apart * step, lower - upper, before, inside,
                geometry.own - before - inside, geometry.step, beyond,
            )  # fmt: skip
            fill_rows(simd.at(plane, upper * pitch), simd.at(source, first), taken, geometry.fill)
        for side in range(2):
            for j in range(lower if side else 0, rows if side else upper):
                padded = top + phase.down + j * step
                line = tables.row_map[padded] if padded < geometry.padded else np.int64(-1)
                fill_row(
                    plane, j * pitch, source, line, origin + line * apart, phase.across,
                    geometry.own, tables.col_map, geometry, geometry.fill,
                )  # fmt: skip
        for i in range(rows * pitch, rows * pitch + geometry.shared):
            plane[i] = geometry.fill

    return Helper(fill)
