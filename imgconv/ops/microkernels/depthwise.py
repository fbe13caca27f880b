"""The innermost loop of depthwise convolutions: each row of a plane read once, where it lies.

A row of the source is seen by `live` rows of outputs, the kernel's height over the stride. Their
sums stay in registers while the source's rows pass by. Of each row the columns of taps are slid out
of its vectors, by shuffles that cost next to nothing beside multiply-adds (vectors that begin
anywhere in memory take a cycle each), and a product of small matrices adds them, times the taps, to
all sums. Then the oldest row of sums is complete and the next begins:

    for t in range(height + live - 1):
        sums = matmul(sums, taps, windows(row t))
        out[t - live + 1] = sums[0]
        sums = [*sums[1:], bias]

Planes of at most half a vector's width go by pairs, one in each half. The terms are added in the
order (ky, kx) onto the bias.
"""

from typing import NamedTuple

from imgconv.jit import simd
from imgconv.jit.loop import Helper

NOWHERE = -(1 << 63)  # stands for the offset of a row of padding, which no view has


class Form(NamedTuple):
    """How planes are swept: what is known when a loop compiles.

    lanes: of a vector. kernel, stride: (vertical, horizontal). near: columns of padding before a
    row. pair: whether a vector's halves are two planes. vectors: of outputs, in a block of a
    plane's columns. whole: whether a block has all columns of a row, and all its vectors but the
    last are full. anew: whether the taps are read anew for each row.
    """

    lanes: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    near: int
    pair: bool
    vectors: int
    whole: bool
    anew: bool

    @property
    def live(self) -> int:
        """Rows of outputs that see a row of the source."""
        return -(-self.kernel[0] // self.stride[0])

    @property
    def halves(self) -> simd.Places:
        """The first half of one vector's lanes and the second of another's."""
        half = self.lanes // 2
        return simd.Places(*range(half), *range(self.lanes + half, 2 * self.lanes))


def taps(form: Form, phase: int) -> Helper:
    """A helper taps(weights, apart): row r is what rows phase, phase + stride, … meet for output r.

    The oldest output is the first. The second of two planes has its weights `apart` after.
    """
    (tall, wide), down, lanes = form.kernel, form.stride[0], form.lanes
    count = -(-(tall - phase) // down)
    line, square = simd.Tile(tall * wide, 1, lanes), simd.Tile(tall, wide, lanes)
    upwards = simd.Places(phase + (count - 1) * down, count, -down)
    halves = form.halves

    def of_plane(weights, apart):  # type: ignore[no-untyped-def]
        every = simd.splat_rows(line, weights, 0, 1)
        return simd.rows(simd.reshape(square, every), upwards)

    def of_pair(weights, apart):  # type: ignore[no-untyped-def]
        second = simd.splat_rows(line, weights, apart, 1)
        every = simd.shuffle(simd.splat_rows(line, weights, 0, 1), second, halves)
        return simd.rows(simd.reshape(square, every), upwards)

    return Helper(of_pair if form.pair else of_plane)


def taps_in_loop(form: Form, phase: int) -> tuple[Helper, Helper]:
    """Helpers hold(weights, apart), called before the loop over t, and take(held, t), within it."""
    read = taps(form, phase)
    if not form.anew:
        return read, Helper(lambda held, t: held)

    def take(weights, t):  # type: ignore[no-untyped-def]
        # t >> 40 is 0, which LLVM does not know: it would read all taps before the loop, and from
        # the stack once per multiply-add. From here it reads them once per row.
        return read(simd.at(weights, t >> 40), 0)

    return Helper(lambda weights, apart: weights), Helper(take)


def first_sums(form: Form) -> Helper:
    """A helper first_sums(bias, apart): a row of sums before any term."""
    row, halves = simd.Tile(1, form.vectors, form.lanes), form.halves

    def of_pair(bias, apart):  # type: ignore[no-untyped-def]
        return simd.shuffle(simd.splat(row, bias[0]), simd.splat(row, bias[apart]), halves)

    return Helper(of_pair if form.pair else lambda bias, apart: simd.splat(row, bias[0]))


def windows(form: Form) -> Helper:
    """A helper windows(row, apart, begin, width, edge): row kx is what column kx of taps sees.

    Output x of a row sees its columns from begin + x·stride − near on; those beyond its `width` are
    zero, as are the lanes of `edge`. The second plane's row is `apart`.
    """
    lanes, step, near = form.lanes, form.stride[1], form.near
    seen = simd.Tile(form.kernel[1], form.vectors, lanes)
    half, pair = simd.Vec(lanes // 2 * step), simd.Tile(1, step, lanes)
    halved, slid = simd.Places(-near, step, 2), simd.Places(-near, step, 1)

    def of_pair(row, apart, begin, width, edge):  # type: ignore[no-untyped-def]
        mask, zeros = simd.below(half, width), simd.zeros(half)
        first = simd.load_masked(half, row, 0, mask, zeros)
        both = simd.stack(first, simd.load_masked(half, row, apart, mask, zeros))
        return simd.windows(seen, simd.reshape(pair, both), edge, halved)

    full = (form.vectors - 1) * step
    inner, end, column = (
        simd.Tile(full, 1, lanes),
        simd.Tile(1, step, lanes),
        simd.Tile(step, 1, lanes),
    )

    def of_row(row, apart, begin, width, edge):  # type: ignore[no-untyped-def]
        mask = simd.below(end, width - full * lanes)
        last = simd.load_masked(end, row, full * lanes, mask, simd.zeros(end))
        pixels = simd.reshape(column, last)
        if full > 0:
            pixels = simd.stack(simd.load(inner, row, 0), pixels)
        return simd.windows(seen, pixels, edge, slid)

    # The vectors beside a block are read too.
    every, inside = simd.Tile(1, full + 3 * step, lanes), simd.Places(step * lanes - near, step, 1)

    def of_block(row, apart, begin, width, edge):  # type: ignore[no-untyped-def]
        first = begin - step * lanes
        mask = simd.between(every, -first, width - first)
        pixels = simd.load_masked(every, row, first, mask, simd.zeros(every))
        return simd.windows(seen, pixels, edge, inside)

    if form.pair:
        return Helper(of_pair)
    return Helper(of_row if form.whole else of_block)


def store(form: Form) -> Helper:
    """A helper store(out, o, apart, left, sums, floor) of a row's first `left` outputs.

    What is less than `floor` becomes `floor` (NaN is not less).
    """
    row, half = simd.Tile(1, form.vectors, form.lanes), simd.Vec(form.lanes // 2)
    halves = simd.Tile(2, 1, form.lanes // 2)
    first, second = simd.Places(0, 1), simd.Places(1, 1)

    def of_pair(out, o, apart, left, sums, floor):  # type: ignore[no-untyped-def]
        values, mask = simd.reshape(halves, simd.clamp_min(sums, floor)), simd.below(half, left)
        simd.store_masked(out, o, simd.rows(values, first), mask)
        simd.store_masked(out, o + apart, simd.rows(values, second), mask)

    def of_row(out, o, apart, left, sums, floor):  # type: ignore[no-untyped-def]
        simd.store_masked(out, o, simd.clamp_min(sums, floor), simd.below(row, left))

    return Helper(of_pair if form.pair else of_row)


def sweep(form: Form) -> Helper:
    """A helper that computes a block of columns, from column x on, of a plane or two.

    sweep(out, source, weights, bias, lines, zeros, plane, x, floor): all begin at the plane's own;
    `plane` says how large it is and how far apart the two are. lines[stride[0]·t], … say where
    in the source the rows begin that output t sees first, or NOWHERE.
    """
    tall, down, live = form.kernel[0], form.stride[0], form.live
    seen, keep, begin = windows(form), store(form), first_sums(form)
    again = simd.Places(0, live, 0)
    one, others = simd.Places(0, 1), simd.Places(1, live - 1)
    hold, take = taps_in_loop(form, 0)
    hold_odd, take_odd = taps_in_loop(form, 1) if down == 2 and tall > 1 else (hold, take)
    early, late = down == 2 and tall % 2 == 0, down == 2 and tall % 2 == 1
    edges, step, several = simd.Vec(form.lanes), form.stride[1], live > 1

    def add(sums, factors, source, line, plane, x, edge):  # type: ignore[no-untyped-def]
        if line != NOWHERE:
            pixels = seen(simd.at(source, line), plane.apart, x * step, plane.width, edge)
            sums = simd.matmul(sums, factors, pixels)
        return sums

    row = Helper(add)

    def body(out, source, weights, bias, lines, zeros, plane, x, floor):  # type: ignore[no-untyped-def]
        edge = simd.load(edges, zeros, 0)
        new = begin(bias, plane.bias_apart)
        held = hold(weights, plane.taps_apart)
        if down == 2:
            held_odd = hold_odd(weights, plane.taps_apart)
        sums = simd.rows(new, again)
        for t in range(plane.height + live - 1):
            line = lines[t * down]
            sums = row(sums, take(held, t), source, line, plane, x, edge)
            if down == 2:
                line = lines[t * down + 1]
            if early:
                sums = row(sums, take_odd(held_odd, t), source, line, plane, x, edge)
            ready = simd.rows(sums, one)
            if several:
                sums = simd.rows(sums, others)
                if late:
                    sums = row(
                        sums, take_odd(held_odd, t), source, lines[t * down + 1], plane, x, edge
                    )
                sums = simd.stack(sums, new)
            else:
                sums = new
            if t >= live - 1:
                o = (t - live + 1) * plane.across + x
                keep(out, o, plane.out_apart, plane.across - x, ready, floor)

    return Helper(body)
