"""SIMD values: each operation against NumPy, by the CPU's vectors and by those of lesser CPUs.

LLVM makes several narrower vectors, or a wider one, of vectors that a CPU has not.
"""

import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest

from imgconv.jit import cache, simd
from imgconv.jit import loop as jit
from tests.guard_pages import Guarded

# Lanes to try by CPU: AVX2 with FMA, and SSE2 alone, have to split the wider ones.
WIDTHS = {"this": (16, 8, 4), "x86-64-v3": (16, 4), "x86-64": (8,)}
CPUS = list(WIDTHS) if platform.machine() in ("x86_64", "AMD64") else ["this"]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5, -3.5, 1e30, -1e-30, 7, -7, 3, 4, 5]


@pytest.fixture(params=CPUS)
def cpu(request, monkeypatch):
    """Compile for a CPU; its name, to tell its loops from others'."""
    monkeypatch.setenv("IMGCONV_STORE", "")
    if request.param != "this":
        llvm = cache._llvm()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=request.param, features="", opt=3, reloc="default", codemodel="jitdefault", jit=True
        )
        monkeypatch.setattr(cache, "_target_machine", lambda: machine)
    return request.param


def same(got, expected):
    """Whether two arrays have the same numbers, with NaN and the signs of zeros."""
    np.testing.assert_array_equal(got, expected)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


@jit.loop
def lane_by_lane(cpu, lanes, element):
    line = simd.Vec(lanes, element)

    def body(out, p, q, r, number):
        a = simd.load(line, p, 0)
        b = simd.load(line, q, 0)
        c = simd.load(line, r, 0)
        simd.store(out, 0, a + b)
        simd.store(out, lanes, a - b)
        simd.store(out, 2 * lanes, a * b)
        simd.store(out, 3 * lanes, a / b)
        simd.store(out, 4 * lanes, -a)
        simd.store(out, 5 * lanes, simd.max(a, b))
        simd.store(out, 6 * lanes, simd.min(a, b))
        simd.store(out, 7 * lanes, simd.clamp_min(a, number))
        simd.store(out, 8 * lanes, simd.select(a < b, a, c))
        simd.store(out, 9 * lanes, simd.select(a <= b, a, c))
        simd.store(out, 10 * lanes, simd.select(a > b, a, c))
        simd.store(out, 11 * lanes, simd.select(a >= b, a, c))
        simd.store(out, 12 * lanes, simd.select(a == b, a, c))
        simd.store(out, 13 * lanes, simd.select(a != b, a, c))
        simd.store(out, 14 * lanes, simd.select((a < b) & (a < c), a, c))
        simd.store(out, 15 * lanes, simd.select((a < b) | (a < c), a, c))
        simd.store(out, 16 * lanes, simd.splat(line, number))
        simd.store(out, 17 * lanes, simd.zeros(line))
        simd.store(out, 18 * lanes, simd.fma(a, b, c))

    return f"{element}* {element}* {element}* {element}* {element}", body


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_operations_lane_by_lane(cpu, element):
    dtype = jit.DTYPES[element]
    generator = np.random.default_rng(5)
    for lanes in WIDTHS[cpu]:
        for turn in range(4):
            a, b, c = (generator.permutation(np.array(SPECIAL, dtype))[:lanes] for _ in range(3))
            number = [dtype.type(0), dtype.type(2), dtype.type(-np.inf), dtype.type(np.nan)][turn]
            out = np.empty((19, lanes), dtype)
            lane_by_lane(cpu, lanes, element)(out, a, b, c, number)
            with np.errstate(all="ignore"):
                nan = np.isnan(a) | np.isnan(b)
                expected = [
                    a + b, a - b, a * b, a / b, -a,
                    np.where(nan, np.nan, np.where(a > b, a, b)),
                    np.where(nan, np.nan, np.where(a < b, a, b)),
                    np.where(a < number, number, a),
                    *(np.where(holds, a, c) for holds in (
                        a < b, a <= b, a > b, a >= b, a == b, a != b, (a < b) & (a < c),
                        (a < b) | (a < c),
                    )),
                    np.full(lanes, number), np.zeros(lanes),
                ]  # fmt: skip
                for got, wanted in zip(out, expected, strict=False):
                    same(got, wanted.astype(dtype))
                # Rounded once or twice, as the CPU has it.
                once = (a.astype(np.longdouble) * b + c).astype(dtype)
                twice = a * b + c
            for k in range(lanes):
                assert any(np.array_equal(out[18, k], each[k], equal_nan=True)
                           for each in (once, twice))  # fmt: skip


@jit.loop
def whole_numbers(cpu, lanes):
    line, real = simd.Vec(lanes, "i32"), simd.Vec(lanes)

    def body(out, p, q, x):
        a = simd.load(line, p, 0)
        b = simd.load(line, q, 0)
        simd.store(out, 0, a + b)
        simd.store(out, lanes, a - b * a)
        simd.store(out, 2 * lanes, -a)
        simd.store(out, 3 * lanes, simd.max(a, b))
        simd.store(out, 4 * lanes, simd.min(a, b))
        simd.store(out, 5 * lanes, simd.clamp_min(a, 3))
        simd.store(out, 6 * lanes, simd.select(a < b, a, b))
        simd.store(out, 7 * lanes, a & b)
        simd.store(out, 8 * lanes, a | b)
        simd.store(out, 9 * lanes, simd.convert(line, simd.load(real, x, 0)))
        simd.store(out, 10 * lanes, simd.reinterpret(line, simd.load(real, x, 0)))
        total = simd.sum(simd.convert(real, a))
        simd.store(x, 0, total)

    return "i32* i32* i32* f32*", body


def test_whole_numbers(cpu):
    for lanes in WIDTHS[cpu]:
        generator = np.random.default_rng(lanes)
        a, b = generator.integers(-1000, 1000, (2, lanes)).astype(np.int32)
        x = generator.normal(0, 100, lanes).astype(np.float32)
        bits = x.view(np.int32).copy()
        expected = [
            a + b, a - b * a, -a, np.maximum(a, b), np.minimum(a, b), np.maximum(a, 3),
            np.minimum(a, b), a & b, a | b, np.trunc(x).astype(np.int32), bits,
        ]  # fmt: skip
        out = np.empty((11, lanes), np.int32)
        whole_numbers(cpu, lanes)(out, a, b, x)
        np.testing.assert_array_equal(out, expected)
        assert x[0] == a.sum()


@jit.loop
def short_numbers(cpu, lanes, element):
    line, narrow = simd.Vec(lanes, element), simd.Vec(lanes, "u8")

    def body(out, low, p, q, factor, shift):
        a, b = simd.load(line, p, 0), simd.load(line, q, 0)
        simd.store(out, 0, a + b)
        simd.store(out, lanes, a - b * a)
        simd.store(out, 2 * lanes, simd.select(a == b, a & -2, b))
        simd.store(out, 3 * lanes, simd.mul_high(a, factor, shift))
        simd.store(low, 0, simd.convert(narrow, a))
        simd.store(low, lanes, simd.load(narrow, low, 0))

    return f"{element}* u8* {element}* {element}* i64 i64", body


@pytest.mark.parametrize("element", ["i16", "i32"])
def test_integers_wrap_around_and_have_an_upper_half(cpu, element):
    dtype = jit.DTYPES[element]
    generator, bits = np.random.default_rng(4), 8 * dtype.itemsize
    for lanes in {*WIDTHS[cpu], *(2 * n for n in WIDTHS[cpu])}:
        a, b = generator.integers(0, 1 << bits, (2, lanes), np.uint64)
        b[::3] = a[::3]
        factor, shift = int(generator.integers(1 << bits)), int(generator.integers(8))
        expected = [a + b, a - b * a, np.where(a == b, a & ~np.uint64(1), b)]
        expected.append(np.array([(int(n) * factor >> bits) >> shift for n in a], np.uint64))
        out, low = np.empty((4, lanes), dtype), np.empty((2, lanes), np.uint8)
        short_numbers(cpu, lanes, element)(
            out, low, *(n.astype(np.uint64).astype(dtype) for n in (a, b)), factor, shift
        )
        np.testing.assert_array_equal(out, np.array(expected).astype(dtype))
        np.testing.assert_array_equal(low, np.broadcast_to(a.astype(np.uint8), (2, lanes)))


@jit.loop
def widened(cpu, lanes, element, wholes):
    tile = simd.Tile(2, 2, lanes, element)

    def both(out, source):
        simd.store(out, 0, simd.load(tile, source, 1))
        simd.store(out, 4 * lanes, simd.load_rows(tile, source, 0, 3))

    load = jit.Helper(both)
    size = 8 * lanes

    def body(out, u8, u16, i16, i32, f32, f64):
        load(out, u8)
        load(simd.at(out, size), u16)
        load(simd.at(out, 2 * size), i16)
        load(simd.at(out, 3 * size), i32)
        if not wholes:
            load(simd.at(out, 4 * size), f32)
            load(simd.at(out, 5 * size), f64)

    return f"{element}* u8* u16* i16* i32* f32* f64*", body


@pytest.mark.parametrize("element", ["f32", "f64", "i32"])
def test_loads_convert(cpu, element):
    for lanes in WIDTHS[cpu]:
        generator = np.random.default_rng(lanes)
        sources = []
        for name in ("u8", "u16", "i16", "i32"):
            bounds = np.iinfo(jit.DTYPES[name])
            numbers = generator.integers(bounds.min, bounds.max, 4 * lanes + 1, endpoint=True)
            numbers[:2] = bounds.min, bounds.max
            sources.append(numbers.astype(bounds.dtype))
        sources += [generator.normal(size=4 * lanes + 1).astype(d) for d in (np.float32, float)]
        out = np.empty((6, 2, 4 * lanes), jit.DTYPES[element])
        widened(cpu, lanes, element, element == "i32")(out, *sources)
        for got, source in zip(out, sources[: 4 if element == "i32" else 6], strict=False):
            rows = np.concatenate([source[: 2 * lanes], source[3 : 3 + 2 * lanes]])
            np.testing.assert_array_equal(got, np.array([source[1:], rows]).astype(out.dtype))


@jit.loop
def masked(cpu, lanes, element):
    line = simd.Tile(1, 2, lanes, element)

    def body(out, source, low, high):
        mask = simd.between(line, low, high) if low > 0 else simd.below(line, high)
        value = simd.load_masked(line, source, -low if low > 0 else 0, mask, simd.splat(line, 7))
        simd.store(out, 2 * lanes, value)
        simd.store_masked(out, 0, value + value, mask)
        if not simd.any(mask):
            out[0] = 99

    return f"{element}* {element}* i64 i64", body


@pytest.mark.skipif(sys.platform != "linux", reason="pages are guarded by mmap as Linux has it")
@pytest.mark.parametrize("after", [False, True])
def test_masked_lanes_touch_no_memory(cpu, after):
    guarded = Guarded(after)
    for element in ("f32", "f64", "i32"):
        for lanes in WIDTHS[cpu]:
            wide = 2 * lanes
            pairs = [(low, high) for low in (0, 1, lanes - 1, lanes, wide) for high in range(wide)]
            for low, high in (*pairs, (0, -(2**40)), (2, 2**40), (2**40, 3), (0, 2**40)):
                first, end = min(low, wide), min(max(high, 0), wide)
                seen = max(end - first, 0)
                source = guarded.empty(max(seen, 1), jit.DTYPES[element])
                source[:] = np.arange(1, source.size + 1)
                out = np.full(2 * wide, -1, source.dtype)
                masked(cpu, lanes, element)(out, source, low, high)
                expected = np.full(2 * wide, -1, source.dtype)
                expected[wide:] = 7
                if seen:
                    expected[first:end] = 2 * source
                    expected[wide + first : wide + end] = source
                else:
                    expected[0] = 99
                assert out.tolist() == expected.tolist()


@jit.loop
def moved(cpu, lanes, element):
    line, square = simd.Vec(lanes, element), simd.Tile(lanes, 1, lanes, element)
    single = simd.Tile(lanes, 1, 1, element)
    backwards = simd.Places(*range(lanes - 1, -1, -1))
    mixed = simd.Places(*(k // 2 + k % 2 * lanes for k in range(2 * lanes)))
    third = simd.Places(lanes - 1, 0)
    half = lanes // 2
    upper, lower = simd.Places(0, half), simd.Places(half, half)

    def body(out, source):
        tile = simd.load_rows(square, source, 0, lanes)
        turned = simd.transpose(tile)
        simd.store_rows(out, 0, lanes, turned)
        at = lanes * lanes
        a = simd.part(tile, third)
        b = simd.load(line, source, 0)
        simd.store(out, at, simd.shuffle(a, a, backwards))
        simd.store(out, at + lanes, simd.shuffle(a, b, mixed))
        simd.store(out, at + 3 * lanes, simd.sum(tile))
        simd.store_rows(out, at + 4 * lanes, 2, simd.sum(turned) + simd.zeros(single))
        exchanged = simd.stack(simd.rows(tile, lower), simd.rows(tile, upper))
        simd.store(out, at + 6 * lanes, exchanged)

    return f"{element}* {element}*", body


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_lanes_move(cpu, element):
    for lanes in WIDTHS[cpu]:
        source = np.random.default_rng(1).integers(-99, 99, (lanes, lanes))
        source = source.astype(jit.DTYPES[element])
        out = np.zeros(2 * lanes * lanes + 6 * lanes, source.dtype)
        moved(cpu, lanes, element)(out, source)
        square, rest = out[: lanes * lanes].reshape(lanes, lanes), out[lanes * lanes :]
        np.testing.assert_array_equal(square, source.T)
        np.testing.assert_array_equal(rest[:lanes], source[-1, ::-1])
        np.testing.assert_array_equal(rest[lanes : 3 * lanes : 2], source[-1])
        np.testing.assert_array_equal(rest[lanes + 1 : 3 * lanes : 2], source[0])
        np.testing.assert_array_equal(rest[3 * lanes : 4 * lanes], source.sum(1))
        np.testing.assert_array_equal(rest[4 * lanes : 6 * lanes : 2], source.sum(0))
        stacked = rest[6 * lanes :].reshape(lanes, lanes)
        np.testing.assert_array_equal(stacked, np.roll(source, lanes // 2, 0))


@jit.loop
def products(cpu, rows, vectors, lanes, element):
    block, line = simd.Tile(rows, vectors, lanes, element), simd.Tile(1, vectors, lanes, element)
    column = simd.Tile(rows, 1, lanes, element)
    across = vectors * lanes

    def body(out, weights, pixels, places, count):
        total = simd.splat_rows(block, weights, 0, count)
        other = simd.zeros(block)
        lines = simd.zeros(block)
        spread = simd.offsets(block, places, 0)
        for k in range(count):
            simd.prefetch(block, weights, k + (1 << 30), count)
            simd.prefetch_near(block, pixels, k, 0)
            simd.prefetch_write(block, out, k, across)
            row = simd.load(line, pixels, k * across)
            total = simd.outer_fma(total, weights, k, count, row)
            other = simd.outer_fma(other, weights, k, spread, row)
            lines = simd.outer(lines, simd.load_rows(column, pixels, k, lanes), row)
        simd.store(out, 0, total)
        simd.store(out, rows * across, other)
        simd.store_rows(simd.at(out, 2 * rows * across), 0, across, lines)

    return f"{element}* {element}* {element}* i64* i64", body


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_register_tiles(cpu, element):
    generator = np.random.default_rng(2)
    for rows, vectors, lanes in ((8, 3, 16), (6, 4, 4), (4, 3, 8), (1, 8, 16), (3, 2, 4)):
        count, width = 9, vectors * lanes
        weights = generator.integers(-9, 9, (rows, count)).astype(jit.DTYPES[element])
        pixels = generator.integers(-9, 9, (count + rows, width)).astype(weights.dtype)
        places = generator.permutation(rows) * count
        out = np.empty((3, rows, vectors, lanes), weights.dtype)
        products(cpu, rows, vectors, lanes, element)(out, weights, pixels, places, count)
        sums = (weights @ pixels[:count]).reshape(rows, vectors, lanes)
        np.testing.assert_array_equal(out[0], sums + weights[:, 0, None, None])
        np.testing.assert_array_equal(out[1], sums[places // count])
        flat, expected = pixels.ravel(), 0
        for k in range(count):
            column = np.stack([flat[k + r * lanes :][:lanes] for r in range(rows)])
            expected = expected + column[:, None] * pixels[k].reshape(vectors, lanes)
        np.testing.assert_array_equal(out[2], expected)


@jit.loop
def matrices(cpu, rows, depth, vectors, lanes, element):
    left, right = (
        simd.Tile(rows * depth, 1, lanes, element),
        simd.Tile(depth, vectors, lanes, element),
    )
    shape = simd.Tile(rows, depth, lanes, element)
    block = simd.Tile(rows, vectors, lanes, element)
    backwards, repeated = simd.Places(rows - 1, rows, -1), simd.Places(0, rows, 0)

    def body(out, p, q):
        weights = simd.rows(simd.reshape(shape, simd.splat_rows(left, p, 0, 1)), backwards)
        pixels = simd.load(right, q, 0)
        first = simd.rows(simd.load(block, q, 0), repeated)
        simd.store(out, 0, simd.matmul(first, weights, pixels))

    return f"{element}* {element}* {element}*", body


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_products_of_matrices(cpu, element):
    generator = np.random.default_rng(3)
    for rows, depth, vectors in ((5, 5, 2), (3, 3, 7), (1, 2, 3), (2, 3, 9)):
        lanes = WIDTHS[cpu][0]
        p = generator.integers(-9, 9, (rows, depth)).astype(jit.DTYPES[element])
        q = generator.integers(-9, 9, (max(rows, depth), vectors * lanes)).astype(p.dtype)
        out = np.empty((rows, vectors * lanes), p.dtype)
        matrices(cpu, rows, depth, vectors, lanes, element)(out, p, q)
        np.testing.assert_array_equal(out, q[0] + p[::-1] @ q[:depth])


@jit.loop
def slid(cpu, lanes, element, first, step, parts):
    source = simd.Tile(1, 3 * step if parts == 1 else step, lanes, element)
    columns = simd.Tile(5, 3 if parts == 1 else 1, lanes, element)
    vector, halves = simd.Vec(lanes, element), simd.Vec(lanes // 2, element)
    split, joined = simd.Tile(2, 1, lanes // 2, element), simd.Tile(1, 1, lanes, element)
    places, last = simd.Places(first, step, parts), simd.Places(1, 1)

    def body(out, halved, p, edge):
        lines = simd.windows(columns, simd.load(source, p, 0), simd.load(vector, edge, 0), places)
        simd.store(out, 0, lines)
        pair = simd.reshape(split, simd.load(vector, p, 0))
        simd.store(halved, 0, simd.rows(pair, last))
        again = simd.stack(simd.load(halves, p, 0), simd.load(halves, p, 1))
        simd.store(halved, lanes // 2, simd.reshape(joined, again))

    return f"{element}* {element}* {element}* {element}*", body


@pytest.mark.parametrize("element", ["f32", "f64", "i32"])
def test_rows_slide(cpu, element):
    for lanes in WIDTHS[cpu]:
        edge = np.full(lanes, -7, jit.DTYPES[element])
        for first, step, parts in (
            (-2, 1, 1),
            (-3, 2, 1),
            (lanes - 1, 2, 1),
            (-2, 1, 2),
            (-1, 2, 2),
        ):
            count = 3 * step if parts == 1 else step
            source = np.arange(1, count * lanes + 1).astype(edge.dtype)
            out = np.empty((5, (3 if parts == 1 else 1) * lanes), edge.dtype)
            halved = np.empty(3 * lanes // 2, edge.dtype)
            slid(cpu, lanes, element, first, step, parts)(out, halved, source, edge)
            for part, line in enumerate(source.reshape(parts, -1)):
                width = out.shape[1] // parts
                for k in range(5):
                    at = first + k + step * np.arange(width)
                    inside = (at >= 0) & (at < line.size)
                    expected = np.where(inside, line[np.clip(at, 0, line.size - 1)], -7)
                    got = out[k, part * width : (part + 1) * width]
                    np.testing.assert_array_equal(got, expected)
            half = lanes // 2
            np.testing.assert_array_equal(halved[:half], source[half:lanes])
            np.testing.assert_array_equal(halved[half:lanes], source[:half])
            np.testing.assert_array_equal(halved[lanes:], source[1 : half + 1])


@jit.loop
def stored_past(cpu, lanes):
    tile = simd.Tile(2, 2, lanes)

    def body(out, source, first):
        at = first + simd.unaligned(tile, out, first)
        simd.store_past(out, at, simd.load(tile, source, 0))
        simd.fence()

    return "f32* f32* i64", body


def test_stores_past_the_caches(cpu):
    for lanes in WIDTHS[cpu]:
        source = np.arange(1, 4 * lanes + 1, dtype=np.float32)
        for first in range(lanes + 1):
            out = np.zeros(8 * lanes, np.float32)
            stored_past(cpu, lanes)(out, source, first)
            # The first element, from `first` on, that is aligned to a vector.
            at = first + -(out.ctypes.data // 4 + first) % lanes
            np.testing.assert_array_equal(out[at : at + 4 * lanes], source)
            assert not out[:at].any()
            assert not out[at + 4 * lanes :].any()


@jit.loop
def numbers_given(cpu):
    def body(out, first, second, factor):
        out[0] = first - second
        out[1] = np.int64(factor)

    return "i64* i64 i64 f32", body


@jit.loop
def shared(cpu):
    numbers = simd.Places(4, 1)  # the last integer is not asked for

    def body(counters, seen, record):
        seen[0] = simd.fetch_add(counters, 1, 5)
        seen[1] = simd.load_shared(counters, 1)
        simd.call(record, 1, numbers)

    return "i64* i64* i64*", body


@pytest.mark.skipif(os.name != "posix", reason="Windows counts integers and floats together")
def test_counters_of_several_threads_and_calls_of_an_address(cpu):
    counters, seen, out = np.array([1, 37]), np.zeros(2, np.int64), np.zeros(2, np.int64)
    factor = np.array([2.5 * 4, 0], np.float32).view(np.int64)[0]
    called = numbers_given(cpu)._address
    record = np.array([-1, called, out.ctypes.data, 9, 30, -1, factor])
    shared(cpu)(counters, seen, record)
    assert counters.tolist() == [1, 42]
    assert seen.tolist() == [37, 42]
    assert out.tolist() == [-21, 10]


def test_the_table_lists_every_operation():
    from imgconv.jit import lowering

    named = set(re.findall(r"^\| ([a-z_]+)\(", simd.__doc__, re.MULTILINE))
    assert named == set(simd.for_numba()) == set(lowering._EMIT)


def test_naming_values_imports_no_numba():
    program = (
        "import sys; from imgconv.jit import simd; simd.Tile(2, 2, 8); simd.Vec(4, 'f64')\n"
        "print('numba' in sys.modules, 'llvmlite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False False\n"
    with pytest.raises(AttributeError, match="no attribute 'sqrt'"):
        simd.sqrt  # noqa: B018
