"""PNG's row filters in both directions, and sample expansion, as machine code.

A scanline is one byte of filter type (0 None, 1 Sub, 2 Up, 3 Average, 4 Paeth) followed by the
row's bytes, each a difference modulo 256 from a prediction out of the bytes to the left (`step`
bytes back: a whole pixel, at least one byte), above, and above left. Source: Portable Network
Graphics Specification, third edition, section 9.
"""

import numpy as np

from imgconv.jit.loop import Built, Helper, helper, loop

NONE, SUB, UP, AVERAGE, PAETH = range(5)
_BLOCK = 256  # differences whose sum, of 128 each at most, 16 bits hold


@helper
def _undo_paeth(x, left, above, corner):  # type: ignore[no-untyped-def]
    """Add the neighbor nearest to left + above − corner; ties go to left, then above.

    Gives what the specification's three distances give: with low ≤ high the two neighbors, high
    wins when 3·corner − left − above ≤ low, low when it is ≥ high, corner in between. Two
    selections stand between a pixel and the next where the distances need five dependent steps.
    """
    low = min(left, above)
    high = max(left, above)
    turn = np.int32(3) * corner - (left + above)
    nearest = low if high <= turn else corner
    nearest = high if turn <= low else nearest
    return np.int32(np.uint8(x + nearest))


@helper
def _undo_sub(x, left, above, corner):  # type: ignore[no-untyped-def]
    return np.int32(np.uint8(x + left))


@helper
def _undo_average(x, left, above, corner):  # type: ignore[no-untyped-def]
    return np.int32(np.uint8(x + ((left + above) >> 1)))


def _chains(step: int, undo: Helper) -> Helper:
    """A row whose every byte needs the one a pixel before it: one dependent chain a channel.

    Up to four chains run side by side with their state in registers: Paeth on RGB takes 35 ms
    for 12 megapixels, against 78 ms for one chain over as many bytes.
    """
    lanes = step if step <= 4 else step // 2

    def row(out, o, source, s, up, u, width):  # type: ignore[no-untyped-def]
        for group in range(0, step, lanes):
            a0 = a1 = a2 = a3 = np.int32(0)
            c0 = c1 = c2 = c3 = np.int32(0)
            for i in range(group, width, step):
                b0 = np.int32(up[u + i])
                a0 = undo(np.int32(source[s + i]), a0, b0, c0)
                c0 = b0
                out[o + i] = np.uint8(a0)
                if lanes > 1:
                    b1 = np.int32(up[u + i + 1])
                    a1 = undo(np.int32(source[s + i + 1]), a1, b1, c1)
                    c1 = b1
                    out[o + i + 1] = np.uint8(a1)
                if lanes > 2:
                    b2 = np.int32(up[u + i + 2])
                    a2 = undo(np.int32(source[s + i + 2]), a2, b2, c2)
                    c2 = b2
                    out[o + i + 2] = np.uint8(a2)
                if lanes > 3:
                    b3 = np.int32(up[u + i + 3])
                    a3 = undo(np.int32(source[s + i + 3]), a3, b3, c3)
                    c3 = b3
                    out[o + i + 3] = np.uint8(a3)

    return Helper(row)


@loop
def unfilter(step: int) -> Built:
    """Undo the filters of `rows` scanlines of 1 + `width` bytes; step is 1, 2, 3, 4, 6 or 8.

    out: rows × width bytes; width is a multiple of step. above: the row before the first one,
    zeros before an image's first. bad: where a filter type is above 4, set to 1 + that type;
    such a row is not written.
    """
    sub = _chains(step, _undo_sub)
    average = _chains(step, _undo_average)
    nearest = _chains(step, _undo_paeth)

    def body(out, source, above, rows, width, bad):  # type: ignore[no-untyped-def]
        for row in range(rows):
            s = row * (width + 1) + 1
            o = row * width
            if row == 0:
                up = above
                u = np.int64(0)
            else:
                up = out
                u = o - width
            kind = source[s - 1]
            if kind == NONE:
                for i in range(width):
                    out[o + i] = source[s + i]
            elif kind == SUB:
                sub(out, o, source, s, up, u, width)
            elif kind == UP:
                for i in range(width):
                    out[o + i] = np.uint8(source[s + i] + up[u + i])
            elif kind == AVERAGE:
                average(out, o, source, s, up, u, width)
            elif kind == PAETH:
                nearest(out, o, source, s, up, u, width)
            else:
                bad[0] = np.int64(kind) + 1

    return "u8* u8* u8* i64 i64 i64*", body


@helper
def _magnitude(difference):  # type: ignore[no-untyped-def]
    """Distance of a difference from 0 modulo 256."""
    d = np.uint8(difference)
    return min(d, np.uint8(-d))


@helper
def _nearest(left, above, corner):  # type: ignore[no-untyped-def]
    """As `_undo_paeth` chooses, in int16: whole rows take a fifth of the time of int32."""
    low = min(left, above)
    high = max(left, above)
    turn = np.int16(np.int16(3) * corner - np.int16(left + above))
    nearest = low if high <= turn else corner
    return high if turn <= low else nearest


@helper
def _cheapest(source, s, up, u, step, width):  # type: ignore[no-untyped-def]
    """The filter type with the least sum of differences, taken as signed bytes.

    The heuristic of the specification's section 12.7; Up wins ties, since it decodes fastest.
    The sums of a row of 2³¹ bytes or more would wrap; that only makes the choice worse.
    """
    none = sub = two = average = nearest = np.int32(0)
    for block in range((width - step + _BLOCK - 1) // _BLOCK):
        first = step + block * _BLOCK
        none16 = sub16 = two16 = average16 = nearest16 = np.uint16(0)
        for i in range(first, min(first + _BLOCK, width)):
            x = np.int16(source[s + i])
            a = np.int16(source[s + i - step])
            b = np.int16(up[u + i])
            c = np.int16(up[u + i - step])
            none16 = np.uint16(none16 + _magnitude(x))
            sub16 = np.uint16(sub16 + _magnitude(np.int16(x - a)))
            two16 = np.uint16(two16 + _magnitude(np.int16(x - b)))
            mean = np.int16(np.int16(a + b) >> 1)
            average16 = np.uint16(average16 + _magnitude(np.int16(x - mean)))
            nearest16 = np.uint16(nearest16 + _magnitude(np.int16(x - _nearest(a, b, c))))
        none += np.int32(none16)
        sub += np.int32(sub16)
        two += np.int32(two16)
        average += np.int32(average16)
        nearest += np.int32(nearest16)
    kind = UP
    least = two
    if sub < least:
        kind = SUB
        least = sub
    if average < least:
        kind = AVERAGE
        least = average
    if nearest < least:
        kind = PAETH
        least = nearest
    return NONE if none < least else kind


@loop
def filter_rows() -> Built:
    """Filter `rows` rows of `width` bytes, each by the type that looks cheapest.

    out: rows × (1 + width) bytes. above: the row before the first one, zeros before an image's
    first. The choice costs 0.5 ns a byte on one core and saves 5% of a photo's deflated size
    against Up alone. Differences are of int16, 32 to a vector.
    """
    cheapest = _cheapest
    predict = _nearest

    def body(out, source, above, rows, width, step):  # type: ignore[no-untyped-def]
        for row in range(rows):
            s = row * width
            o = row * (width + 1) + 1
            if row == 0:
                up = above
                u = np.int64(0)
            else:
                up = source
                u = s - width
            kind = cheapest(source, s, up, u, step, width)
            out[o - 1] = np.uint8(kind)
            if kind == NONE:
                for i in range(width):
                    out[o + i] = source[s + i]
            elif kind == SUB:
                for i in range(step):
                    out[o + i] = source[s + i]
                for i in range(step, width):
                    out[o + i] = np.uint8(source[s + i] - source[s + i - step])
            elif kind == UP:
                for i in range(width):
                    out[o + i] = np.uint8(source[s + i] - up[u + i])
            elif kind == AVERAGE:
                for i in range(step):
                    out[o + i] = np.uint8(source[s + i] - (up[u + i] >> 1))
                for i in range(step, width):
                    mean = np.int16(np.int16(source[s + i - step]) + np.int16(up[u + i])) >> 1
                    out[o + i] = np.uint8(source[s + i] - mean)
            else:
                for i in range(step):
                    out[o + i] = np.uint8(source[s + i] - up[u + i])
                for i in range(step, width):
                    a = np.int16(source[s + i - step])
                    b = np.int16(up[u + i])
                    c = np.int16(up[u + i - step])
                    out[o + i] = np.uint8(source[s + i] - predict(a, b, c))

    return "disjoint u8* u8* u8* i64 i64 i64", body


@loop
def look_up(depth: int, channels: int) -> Built:
    """Expand rows of packed `depth`-bit samples (1, 2, 4 or 8) through a table.

    out: rows × columns × channels bytes. source: rows of `width` bytes, the first sample in the
    high bits. table: 256 × channels bytes.
    """
    per_byte = 8 // depth
    mask = (1 << depth) - 1

    def body(out, source, table, rows, width, columns):  # type: ignore[no-untyped-def]
        for row in range(rows):
            for x in range(columns):
                packed = np.int64(source[row * width + x // per_byte])
                index = (packed >> (8 - depth - depth * (x % per_byte))) & mask
                for k in range(channels):
                    out[(row * columns + x) * channels + k] = table[index * channels + k]

    return "u8* u8* u8* i64 i64 i64", body
