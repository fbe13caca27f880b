"""The operations of `simd` in LLVM's instructions.

Each is a function of an IR builder and of the arguments that `simd.TABLE` names: T a TileType, t, a
tile's Registers, p a Pointer, n a tuple of integers, all else LLVM's values, integers 64 bits wide.
It appends instructions and returns what the table says: the list of a tile's vectors, or a value.
"""

import functools
import itertools
import operator
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir

from imgconv.jit import simd_types
from imgconv.jit.simd_types import Emit, Pointer, Registers, TileType

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_ROUNDER_BITS = 0x4B400000  # of 1.5·2²³


def _each(emit: Callable[..., ir.Value]) -> Emit:
    """An operation on tiles and numbers, of what appends it for a vector of each."""

    def every(b: ir.IRBuilder, *given: Any) -> list[ir.Value]:
        kind = next(value.kind for value in given if isinstance(value, Registers))
        tiles = [
            value
            if isinstance(value, list)
            else [_repeated(b, value, kind.lanes)] * kind.llvm.count
            for value in given
        ]
        return [emit(b, *vectors) for vectors in zip(*tiles, strict=True)]

    return every


def _of_numbers_too(emit: Callable[..., ir.Value]) -> Emit:
    """An operation on tiles and numbers, or on numbers alone."""
    each = _each(emit)
    return lambda b, *given: (
        each if any(isinstance(value, Registers) for value in given) else emit
    )(b, *given)  # fmt: skip


def _call(b: ir.IRBuilder, name: str, result: ir.Type, *values: ir.Value) -> ir.Value:
    """Emit a call of one of LLVM's functions; its name has the vectors' type for a `%`."""
    kind = ir.FunctionType(result, [value.type for value in values])
    for vector in (each for each in (result, *kind.args) if isinstance(each, ir.VectorType)):
        element = str(vector.element).replace("float", "f32").replace("double", "f64")
        name = name.replace("%", f"v{vector.count}{element}")
    return b.call(b.module.globals.get(name) or ir.Function(b.module, kind, name), values)


def _numbers(places: Sequence[int]) -> ir.Value:
    return ir.Constant(ir.VectorType(_I32, len(places)), list(places))


def _repeated(b: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    blank = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    return b.shuffle_vector(b.insert_element(blank, scalar, _I32(0)), blank, _numbers([0] * lanes))


def _row(b: ir.IRBuilder, p: Pointer, i: ir.Value, k: Any, row: int) -> ir.Value:
    """Emit the address of a row's element. Where rows begin, LLVM finds outside of loops."""
    first = p.value
    if isinstance(k, list):
        first = b.gep(first, [k[row]])
    elif row:
        first = b.gep(first, [b.mul(k, _I64(row))])
    return b.gep(first, [i])


def _places(b: ir.IRBuilder, T: TileType, p: Pointer, i: ir.Value, k: Any = None) -> list[ir.Value]:
    """Emit the addresses of a tile's vectors in memory; without `k` each row follows the last."""
    k = _I64(T.vectors * T.lanes) if k is None else k
    vector = ir.VectorType(p.value.type.pointee, T.lanes).as_pointer()
    firsts = [_row(b, p, i, k, row) for row in range(T.rows)]
    steps = [_I64(v * T.lanes) for v in range(T.vectors)]
    return [b.bitcast(b.gep(first, [step]), vector) for first in firsts for step in steps]


def _load(b: ir.IRBuilder, T: TileType, p: Pointer, i: ir.Value, k: Any = None) -> list[ir.Value]:
    signed, align = getattr(p.dtype, "signed", True), p.dtype.bitwidth // 8
    read = [b.load(place, align=align) for place in _places(b, T, p, i, k)]
    return [_converted(b, vector, T.vector, signed) for vector in read]


def _store(b: ir.IRBuilder, p: Pointer, i: ir.Value, k: Any, t: Registers) -> list[ir.Value]:
    places = zip(t, _places(b, t.kind, p, i, k), strict=True)
    return [b.store(vector, place, align=t.kind.align) for vector, place in places]


def _store_past(b: ir.IRBuilder, p: Pointer, i: ir.Value, t: Registers) -> None:
    for stored in _store(b, p, i, None, t):
        stored.align *= t.kind.lanes
        stored.set_metadata("nontemporal", b.module.add_metadata([_I32(1)]))


def _converted(b: ir.IRBuilder, value: ir.Value, kind: ir.Type, signed: bool = True) -> ir.Value:
    """Emit a vector's numbers as elements of another type."""
    given, wanted = value.type.element, kind.element
    widths = getattr(given, "width", 0), getattr(wanted, "width", 0)  # 0 of floats
    convert = {
        (True, True): b.trunc if widths[0] > widths[1] else b.sext if signed else b.zext,
        (True, False): b.sitofp if signed else b.uitofp,
        (False, True): b.fptosi,
        (False, False): b.fpext if wanted == ir.DoubleType() else b.fptrunc,
    }[isinstance(given, ir.IntType), isinstance(wanted, ir.IntType)]
    return value if given == wanted else convert(value, kind)


def _whole(vector: ir.Value) -> bool:
    return isinstance(vector.type.element, ir.IntType)


def _arithmetic(name: str, b: ir.IRBuilder, *values: ir.Value) -> ir.Value:
    if _whole(values[0]):
        return getattr(b, name)(*values)
    return getattr(b, f"f{name}")(*values, flags=("contract",))


def _power(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Emit n + 127, the exponent of 2ⁿ, in its place; n stands in the last bits of x."""
    vector = isinstance(x.type, ir.VectorType)
    whole = ir.VectorType(_I32, x.type.count) if vector else _I32
    of = (lambda n: ir.Constant(whole, [n] * x.type.count)) if vector else _I32
    bits = b.add(b.bitcast(x, whole), of(127 - _ROUNDER_BITS))
    return b.bitcast(b.shl(bits, of(23)), x.type)


def _mul_high(b: ir.IRBuilder, t: Registers, x: ir.Value, k: ir.Value) -> list[ir.Value]:
    # Of products twice as wide LLVM sees that their upper half is one instruction of 16 bits.
    lanes, width = t.kind.lanes, x.type.width
    wide = ir.VectorType(ir.IntType(2 * width), lanes)
    factor, half = b.zext(_repeated(b, x, lanes), wide), ir.Constant(wide, [width] * lanes)
    high = [b.trunc(b.lshr(b.mul(b.zext(v, wide), factor), half), v.type) for v in t]
    return [b.lshr(v, _repeated(b, b.trunc(k, x.type), lanes)) for v in high]


def _fma(b: ir.IRBuilder, *values: ir.Value) -> ir.Value:
    return _call(b, "llvm.fmuladd.%", values[0].type, *values)


def _compared(sign: str, b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    if _whole(x):
        return b.icmp_signed(sign, x, y)
    # Of NaN only != is true.
    return (b.fcmp_unordered if sign == "!=" else b.fcmp_ordered)(sign, x, y)


def _chosen(sign: str, b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    first = _compared(sign, b, x, y)
    return b.select(first if _whole(x) else b.or_(first, b.fcmp_unordered("uno", x, x)), x, y)


def _clamp_min(b: ir.IRBuilder, t: Registers, x: ir.Value) -> list[ir.Value]:
    least = _repeated(b, x, t.kind.lanes)
    return [b.select(_compared("<", b, v, least), least, v) for v in t]


def _below(b: ir.IRBuilder, T: TileType, k: ir.Value) -> list[ir.Value]:
    # Lanes are compared by 32 bits, which the count is cut down to.
    width = T.vectors * T.lanes
    cut = _call(b, "llvm.smax.i64", _I64, _call(b, "llvm.smin.i64", _I64, k, _I64(width)), _I64(0))
    count = _repeated(b, b.trunc(cut, _I32), T.lanes)
    lanes = [_numbers(range(first, first + T.lanes)) for first in range(0, width, T.lanes)]
    return [b.icmp_signed(">", count, each) for each in lanes] * T.rows


def _outer_fma(
    b: ir.IRBuilder, t: Registers, p: Pointer, i: ir.Value, k: Any, row: Registers
) -> list[ir.Value]:
    sums: list[ir.Value] = []
    # A number is read where its row begins: all of them first would take as many registers more.
    for r in range(t.kind.rows):
        number = _repeated(b, b.load(_row(b, p, i, k, r)), t.kind.lanes)
        sums += [_fma(b, number, v, t[len(sums) + n]) for n, v in enumerate(row)]
    return sums


def _matmul(b: ir.IRBuilder, t: Registers, left: Registers, right: Registers) -> list[ir.Value]:
    # What registers do not hold goes to the stack, and loads twice as fast where that is aligned;
    # llvmlite writes attributes only where there is one that is a word.
    b.function.attributes.alignstack = max(b.function.attributes.alignstack, 4 * t.kind.lanes)
    b.function.attributes.add("nounwind")
    sums, depth, across = list(t), right.kind.rows, t.kind.vectors
    # A multiply-add waits four cycles for the last, and two begin per cycle: as many columns at a
    # time as have eight sums, and no more, so that few vectors of `right` are in use.
    step = -(-8 // t.kind.rows)
    for first, k in itertools.product(range(0, across, step), range(depth)):
        for r in range(t.kind.rows):
            for v in range(first, min(first + step, across)):
                n = r * across + v
                sums[n] = _fma(b, left[r * depth + k], right[k * across + v], sums[n])
    return sums


def _reshape(b: ir.IRBuilder, T: TileType, t: Registers) -> list[ir.Value]:
    vectors, lanes = list(t), t.kind.lanes
    while lanes < T.lanes:
        lanes *= 2
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.shuffle_vector(*pair, _numbers(range(lanes))) for pair in pairs]
    while lanes > T.lanes:
        lanes //= 2
        halves = _numbers(range(lanes)), _numbers(range(lanes, 2 * lanes))
        vectors = [b.shuffle_vector(v, v, half) for v in vectors for half in halves]
    return vectors


def _windows(
    b: ir.IRBuilder, T: TileType, t: Registers, edge: Registers, n: tuple[int, int, int]
) -> list[ir.Value]:
    (first, step, parts), lanes = n, T.lanes
    phases, part = [list(t)], lanes // parts
    if step == 2:
        masks = [_numbers(range(phase, 2 * lanes, 2)) for phase in range(2)]
        pairs = list(zip(t[::2], t[1::2], strict=True))
        phases = [[b.shuffle_vector(*pair, mask) for pair in pairs] for mask in masks]
    slid = []
    for k, v in itertools.product(range(T.rows), range(T.vectors)):
        shift, phase = divmod(first + k, step)
        (q, begin), line = divmod(shift + v * lanes, lanes), phases[phase]
        mask = list(range(begin, begin + lanes))
        low, high = (line[j] if 0 <= j < len(line) else edge[0] for j in (q, q + 1))
        if parts > 1:
            low, high = line[v], edge[0]
            seen = [lane % part + shift for lane in range(lanes)]
            mask = [lane + shift if 0 <= x < part else lanes for lane, x in enumerate(seen)]
        slid.append(b.shuffle_vector(low, high, _numbers(mask)) if shift else line[v])
    return slid


def _folded(join: Callable[..., ir.Value], b: ir.IRBuilder, t: Registers) -> list[ir.Value]:
    vectors, lanes = list(t), t.kind.lanes
    while lanes > 1:
        lanes //= 2
        halves = _numbers(range(lanes)), _numbers(range(lanes, 2 * lanes))
        vectors = [join(b, *[b.shuffle_vector(v, v, half) for half in halves]) for v in vectors]
    return vectors


def _transpose(b: ir.IRBuilder, t: Registers) -> list[ir.Value]:
    """Exchange one bit after the other between the numbers of rows and of lanes."""
    rows, lanes = list(t), range(t.kind.lanes)
    for bit in (1 << place for place in range(len(rows).bit_length() - 1)):
        low = _numbers([n + len(rows) - bit if n & bit else n for n in lanes])
        high = _numbers([n + len(rows) if n & bit else n + bit for n in lanes])
        for r in (r for r in lanes if not r & bit):
            pair = rows[r], rows[r + bit]
            rows[r], rows[r + bit] = (b.shuffle_vector(*pair, mask) for mask in (low, high))
    return rows


def _prefetch(write: int, level: int) -> Callable[..., None]:
    def emit(b: ir.IRBuilder, T: TileType, p: Pointer, i: ir.Value, k: Any) -> None:
        how = _I32(write), _I32(level), _I32(1)
        for row in range(T.rows):
            line = b.bitcast(_row(b, p, i, k, row), ir.IntType(8).as_pointer())
            _call(b, "llvm.prefetch.p0", ir.VoidType(), line, *how)

    return emit


def _unaligned(b: ir.IRBuilder, T: TileType, p: Pointer, i: ir.Value) -> ir.Value:
    address = b.ptrtoint(b.gep(p.value, [i]), _I64)
    return b.udiv(b.and_(b.neg(address), _I64(T.lanes * T.align - 1)), _I64(T.align))


def _load_shared(b: ir.IRBuilder, p: Pointer, i: ir.Value) -> ir.Value:
    if platform.machine().lower() in ("x86_64", "amd64"):
        _call(b, "llvm.x86.sse2.pause", ir.VoidType())
    return b.load_atomic(b.gep(p.value, [i]), "acquire", 8)


def _call_address(b: ir.IRBuilder, p: Pointer, i: ir.Value, n: tuple[int, int]) -> None:
    places = [b.gep(p.value, [b.add(i, _I64(place))]) for place in range(1 + sum(n))]
    address, *values = map(b.load, places)
    values[n[0] :] = [b.bitcast(b.trunc(v, _I32), ir.FloatType()) for v in values[n[0] :]]
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    b.call(b.inttoptr(address, kind.as_pointer()), values)


_EMIT: dict[str, Emit] = {
    "zeros": lambda b, T: [ir.Constant(T.vector, None)] * T.llvm.count,
    "splat": lambda b, T, x: [_repeated(b, x, T.lanes)] * T.llvm.count,
    "load": _load,
    "load_rows": _load,
    "splat_rows": lambda b, T, p, i, k: [
        vector for row in range(T.rows)
        for vector in [_repeated(b, b.load(_row(b, p, i, k, row)), T.lanes)] * T.vectors
    ],
    "load_masked": lambda b, T, p, i, m, t: [
        _call(b, "llvm.masked.load.%.p0", T.vector, place, _I32(T.align), *lanes)
        for place, *lanes in zip(_places(b, T, p, i), m, t, strict=True)
    ],
    "store": lambda b, p, i, t: _store(b, p, i, None, t),
    "store_rows": _store,
    "store_masked": lambda b, p, i, t, m: [
        _call(b, "llvm.masked.store.%.p0", ir.VoidType(), v, place, _I32(t.kind.align), mask)
        for v, place, mask in zip(t, _places(b, t.kind, p, i), m, strict=True)
    ],
    "store_past": _store_past,
    "fence": lambda b: b.fence("seq_cst"),
    "below": _below,
    "between": lambda b, T, i, k: [
        b.and_(b.not_(before), mask)
        for before, mask in zip(_below(b, T, i), _below(b, T, k), strict=True)
    ],
    "any": lambda b, m: _call(
        b, f"llvm.vector.reduce.or.v{m.kind.lanes}i1", ir.IntType(1), functools.reduce(b.or_, m)
    ),
    "select": _each(lambda b, mask, x, y: b.select(mask, x, y)),
    "choose": _of_numbers_too(lambda b, truth, x, y: b.select(truth, x, y)),
    "power": _of_numbers_too(_power),
    "fma": _each(_fma),
    "mul_high": _mul_high,
    "outer_fma": _outer_fma,
    "outer": lambda b, t, column, row: [
        _fma(b, x, y, t[r * len(row) + v]) for r, x in enumerate(column) for v, y in enumerate(row)
    ],
    "matmul": _matmul,
    "max": _each(functools.partial(_chosen, ">")),
    "min": _each(functools.partial(_chosen, "<")),
    "clamp_min": _clamp_min,
    "sum": functools.partial(
        _folded, lambda b, x, y: b.add(x, y) if _whole(x) else b.fadd(x, y)
    ),
    "largest": functools.partial(_folded, functools.partial(_chosen, ">")),
    "number": lambda b, t: b.extract_element(t[0], _I32(0)),
    "convert": lambda b, T, t: [_converted(b, v, T.vector) for v in t],
    "reinterpret": lambda b, T, t: [b.bitcast(v, T.vector) for v in t],
    "shuffle": lambda b, x, y, n: _each(
        lambda b, v, w: b.shuffle_vector(v, w, _numbers(n))
    )(b, x, y),
    "transpose": _transpose,
    "reshape": _reshape,
    "windows": _windows,
    "part": lambda b, t, n: [t[n[0] * t.kind.vectors + n[1]]],
    "rows": lambda b, t, n: [
        vector for row in range(n[1]) for at in [(n[0] + row * (*n, 1)[2]) * t.kind.vectors]
        for vector in t[at : at + t.kind.vectors]
    ],
    "stack": lambda b, x, y: [*x, *y],
    "prefetch": _prefetch(0, 2),
    "prefetch_near": _prefetch(0, 3),
    "prefetch_write": _prefetch(1, 3),
    "offsets": lambda b, T, p, i: [b.load(_row(b, p, i, _I64(1), r)) for r in range(T.rows)],
    "unaligned": _unaligned,
    "at": lambda b, p, i: b.gep(p.value, [i]),
    "fetch_add": lambda b, p, i, k: b.atomic_rmw("add", b.gep(p.value, [i]), k, "acq_rel"),
    "load_shared": _load_shared,
    "call": _call_address,
}  # fmt: skip


def declare(table: Mapping[str, tuple[Sequence[str], str]]) -> dict[str, Any]:
    """Teach Numba the operators, and return what bodies call for each operation of the table.

    table: the names of an operation's arguments, and its result.
    """
    for name, symbol in {
        "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    }.items():  # fmt: skip
        simd_types.operator(symbol, _each(functools.partial(_arithmetic, name)))
    for sign, symbol in {
        "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
        "==": operator.eq, "!=": operator.ne,
    }.items():  # fmt: skip
        simd_types.operator(symbol, _each(functools.partial(_compared, sign)), "mask")
    simd_types.operator(abs, _each(lambda b, x: _call(b, "llvm.fabs.%", x.type, x)), count=1)
    simd_types.operator(operator.neg, _each(functools.partial(_arithmetic, "neg")), count=1)
    simd_types.operator(operator.and_, _each(lambda b, x, y: b.and_(x, y)))
    simd_types.operator(operator.or_, _each(lambda b, x, y: b.or_(x, y)))
    return {name: simd_types.operation(name, _EMIT[name], *row) for name, row in table.items()}
