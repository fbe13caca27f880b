"""The operations of `simd` in LLVM's instructions, and its types as Numba's.

A tile is an LLVM array of vectors. LLVM makes single values of arrays that are only ever taken
apart, hence registers.
"""

import functools
import inspect
import operator
import platform
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

OPERATIONS: dict[str, Any] = {}
_I32, _LONG = ir.IntType(32), ir.IntType(64)
_ELEMENTS = {  # LLVM's type, Numba's, bytes
    "f32": (ir.FloatType(), types.float32, 4),
    "f64": (ir.DoubleType(), types.float64, 8),
    "i32": (_I32, types.int32, 4),
    "i1": (ir.IntType(1), types.boolean, 1),  # of masks
}


class TileType(types.Type):  # type: ignore[misc]
    """rows × vectors of `lanes` elements."""

    def __init__(self, rows: int, vectors: int, lanes: int, element: str) -> None:
        self.rows, self.vectors, self.lanes, self.element = rows, vectors, lanes, element
        scalar, self.number, self.align = _ELEMENTS[element]
        self.vector = ir.VectorType(scalar, lanes)
        self.llvm = ir.ArrayType(self.vector, rows * vectors)
        super().__init__(f"Tile({rows}, {vectors}, {lanes}, {element})")

    def like(self, **other: Any) -> "TileType":
        """The type with other rows, lanes or elements."""
        given = {name: getattr(self, name) for name in ("rows", "vectors", "lanes", "element")}
        return TileType(**{**given, **other})


class PlacesType(types.Type):  # type: ignore[misc]
    """Numbers known when a kernel compiles."""

    def __init__(self, places: tuple[int, ...]) -> None:
        self.places = places
        super().__init__(f"Places{places}")


class OffsetsType(types.Type):  # type: ignore[misc]
    """Integers, one for each row of a tile."""

    def __init__(self, rows: int) -> None:
        self.llvm = ir.ArrayType(_LONG, rows)
        super().__init__(f"Offsets({rows})")


@register_model(TileType)
@register_model(OffsetsType)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.llvm)


class Registers(list[Any]):
    """The vectors of a tile, row by row."""

    def __init__(self, kind: TileType, vectors: Any) -> None:
        super().__init__(vectors)
        self.kind = kind


class Pointer(NamedTuple):
    """A pointer to elements of one of Numba's types."""

    value: Any
    dtype: Any


def _given(builder: Any, kind: Any, value: Any) -> Any:
    """An argument as operations take it."""
    if isinstance(kind, types.TypeRef):
        return kind.instance_type
    if isinstance(kind, types.CPointer):
        return Pointer(value, kind.dtype)
    if not isinstance(kind, TileType | OffsetsType):
        return value
    values = [builder.extract_value(value, place) for place in range(kind.llvm.count)]
    return Registers(kind, values) if isinstance(kind, TileType) else values


def operation(result: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an operation of a function that appends it to a builder and returns its vectors.

    result: the argument whose type it has; or what gives it from those of the arguments; or None.
    The function's arguments are `simd`'s: types, `Registers`, `Pointer`s, and LLVM's values of
    integers, 64 bits wide, and of a `number`, an element of the first tile.
    """

    def decorate(emit: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(emit).parameters)[1:]

        def typed(typing: Any, *kinds: Any) -> Any:
            seen = [getattr(kind, "instance_type", kind) for kind in kinds]
            taken = [types.int64 if isinstance(kind, types.Integer) else kind for kind in kinds]
            if "number" in names:
                taken[names.index("number")] = seen[0].number
            given = result(*seen) if callable(result) else None
            given = seen[names.index(result)] if isinstance(result, str) else given

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                pairs = zip(signature.args, values, strict=True)
                made = emit(builder, *(_given(builder, kind, value) for kind, value in pairs))
                if given is None:
                    return context.get_dummy_value()
                return _packed(builder, given, made) if isinstance(made, list) else made

            return (given or types.void)(*taken), generate

        # Numba passes arguments by the names of the function that types them.
        typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
             for name in ("typing", *names)]
        )  # fmt: skip
        typed.__name__ = emit.__name__.rstrip("_")
        OPERATIONS[typed.__name__] = intrinsic(typed)
        return emit

    return decorate


def _packed(builder: Any, kind: Any, values: Sequence[Any]) -> Any:
    made = ir.Constant(kind.llvm, ir.Undefined)
    for place, value in enumerate(values):
        made = builder.insert_value(made, value, place)
    return made


def _operator(symbol: Any, count: int, compares: bool, emit: Callable[..., Any]) -> None:
    """Teach Numba an operator on `count` tiles alike: `emit` appends it for vectors."""

    @type_callable(symbol)  # type: ignore[untyped-decorator]
    def typer(context: Any) -> Any:
        def unary(a: Any) -> Any:
            return a if isinstance(a, TileType) else None

        def binary(a: Any, b: Any) -> Any:
            if isinstance(a, TileType) and a == b:
                return a.like(element="i1") if compares else a
            return None

        return binary if count == 2 else unary

    @lower_builtin(symbol, *[TileType] * count)  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pairs = zip(signature.args, values, strict=True)
        tiles = [_given(builder, kind, value) for kind, value in pairs]
        vectors = [emit(builder, *group) for group in zip(*tiles, strict=True)]
        return _packed(builder, signature.return_type, vectors)


def _numbers(places: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(places)), list(places))


def _repeated(builder: Any, scalar: Any, lanes: int) -> Any:
    blank = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(blank, scalar, _I32(0))
    return builder.shuffle_vector(first, blank, _numbers([0] * lanes))


def _call(builder: Any, name: str, result: Any, *values: Any) -> Any:
    """Emit a call of one of LLVM's functions."""
    kind = ir.FunctionType(result, [value.type for value in values])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, values)


def _whole(vector: Any) -> bool:
    return isinstance(vector.type.element, ir.IntType)


def _row(builder: Any, pointer: Pointer, index: Any, apart: Any, row: int) -> Any:
    """Emit the address of a row's element. Where rows begin, LLVM finds outside of loops."""
    first = pointer.value
    if isinstance(apart, list):
        first = builder.gep(first, [apart[row]])
    elif row:
        first = builder.gep(first, [builder.mul(apart, _LONG(row))])
    return builder.gep(first, [index])


def _places(
    builder: Any, kind: TileType, pointer: Pointer, index: Any, apart: Any = None
) -> list[Any]:
    """Emit the addresses of a tile's vectors in memory; without `apart` each follows the last."""
    apart = _LONG(kind.vectors * kind.lanes) if apart is None else apart
    vector = ir.VectorType(pointer.value.type.pointee, kind.lanes).as_pointer()
    firsts = [_row(builder, pointer, index, apart, row) for row in range(kind.rows)]
    return [
        builder.bitcast(builder.gep(first, [_LONG(v * kind.lanes)]) if v else first, vector)
        for first in firsts for v in range(kind.vectors)
    ]  # fmt: skip


def _converted(builder: Any, value: Any, kind: Any, signed: bool = True) -> Any:
    """Emit a vector's numbers as elements of another type."""
    given, wanted = value.type.element, kind.element
    if given == wanted:
        return value
    whole = [isinstance(one, ir.IntType) for one in (given, wanted)]
    if all(whole):
        return (builder.sext if signed else builder.zext)(value, kind)
    if whole[0]:
        return (builder.sitofp if signed else builder.uitofp)(value, kind)
    if whole[1]:
        return builder.fptosi(value, kind)
    return (builder.fpext if isinstance(wanted, ir.DoubleType) else builder.fptrunc)(value, kind)


@operation("kind")
def zeros(builder: Any, kind: Any) -> Any:
    return ir.Constant(kind.llvm, None)


@operation("kind")
def splat(builder: Any, kind: Any, number: Any) -> Any:
    return [_repeated(builder, number, kind.lanes)] * kind.llvm.count


@operation("kind")
def load_rows(builder: Any, kind: Any, pointer: Any, index: Any, apart: Any) -> Any:
    signed, align = getattr(pointer.dtype, "signed", True), pointer.dtype.bitwidth // 8
    places = _places(builder, kind, pointer, index, apart)
    read = [builder.load(place, align=align) for place in places]
    return [_converted(builder, vector, kind.vector, signed) for vector in read]


@operation("kind")
def load(builder: Any, kind: Any, pointer: Any, index: Any) -> Any:
    return load_rows(builder, kind, pointer, index, None)


@operation("kind")
def splat_rows(builder: Any, kind: Any, pointer: Any, index: Any, apart: Any) -> Any:
    numbers = [builder.load(_row(builder, pointer, index, apart, row)) for row in range(kind.rows)]
    return [_repeated(builder, n, kind.lanes) for n in numbers for _ in range(kind.vectors)]


@operation("kind")
def load_masked(builder: Any, kind: Any, pointer: Any, index: Any, mask: Any, other: Any) -> Any:
    name, align = f"llvm.masked.load.v{kind.lanes}{kind.element}.p0", _I32(kind.align)
    groups = zip(_places(builder, kind, pointer, index), mask, other, strict=True)
    return [_call(builder, name, kind.vector, place, align, m, o) for place, m, o in groups]


@operation(None)
def store_rows(builder: Any, pointer: Any, index: Any, apart: Any, tile: Any) -> None:
    places = _places(builder, tile.kind, pointer, index, apart)
    for place, vector in zip(places, tile, strict=True):
        builder.store(vector, place, align=tile.kind.align)


@operation(None)
def store(builder: Any, pointer: Any, index: Any, tile: Any) -> None:
    store_rows(builder, pointer, index, None, tile)


@operation(None)
def store_masked(builder: Any, pointer: Any, index: Any, tile: Any, mask: Any) -> None:
    kind = tile.kind
    name, align = f"llvm.masked.store.v{kind.lanes}{kind.element}.p0", _I32(kind.align)
    for place, vector, m in zip(_places(builder, kind, pointer, index), tile, mask, strict=True):
        _call(builder, name, ir.VoidType(), vector, place, align, m)


@operation(None)
def store_past(builder: Any, pointer: Any, index: Any, tile: Any) -> None:
    places = _places(builder, tile.kind, pointer, index)
    for place, vector in zip(places, tile, strict=True):
        stored = builder.store(vector, place, align=tile.kind.lanes * tile.kind.align)
        stored.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))


@operation(lambda kind, pointer, index: types.int64)
def unaligned(builder: Any, kind: Any, pointer: Any, index: Any) -> Any:
    address = builder.ptrtoint(builder.gep(pointer.value, [index]), _LONG)
    bytes_ = builder.and_(builder.neg(address), _LONG(kind.lanes * kind.align - 1))
    return builder.udiv(bytes_, _LONG(kind.align))


@operation(None)
def fence(builder: Any) -> None:
    builder.fence("seq_cst")


@operation(lambda kind, low, high: kind.like(element="i1"))
def between(builder: Any, kind: Any, low: Any, high: Any) -> Any:
    def limit(count: Any) -> Any:
        # Lanes are compared by 32 bits, which the count is cut down to.
        for sign, end in (("<", 0), (">", kind.vectors * kind.lanes)):
            count = builder.select(builder.icmp_signed(sign, count, _LONG(end)), _LONG(end), count)
        return _repeated(builder, builder.trunc(count, _I32), kind.lanes)

    low, high = None if low is None else limit(low), limit(high)
    found = []
    for v in range(kind.vectors):
        lanes = _numbers(range(v * kind.lanes, (v + 1) * kind.lanes))
        mask = builder.icmp_signed(">", high, lanes)
        if low is not None:
            mask = builder.and_(mask, builder.icmp_signed("<=", low, lanes))
        found.append(mask)
    return found * kind.rows


@operation(lambda kind, count: kind.like(element="i1"))
def below(builder: Any, kind: Any, count: Any) -> Any:
    return between(builder, kind, None, count)


@operation(lambda mask: types.boolean)
def any_(builder: Any, mask: Any) -> Any:
    joined = functools.reduce(builder.or_, mask, ir.Constant(mask.kind.vector, None))
    bits = builder.bitcast(joined, ir.IntType(mask.kind.lanes))
    return builder.icmp_unsigned("!=", bits, bits.type(0))


@operation("a")
def select(builder: Any, mask: Any, a: Any, b: Any) -> Any:
    return [builder.select(*group) for group in zip(mask, a, b, strict=True)]


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    suffix = "f64" if isinstance(a.type.element, ir.DoubleType) else "f32"
    return _call(builder, f"llvm.fmuladd.v{a.type.count}{suffix}", a.type, a, b, c)


@operation("a")
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return [_fma(builder, *group) for group in zip(a, b, c, strict=True)]


@operation("tile")
def outer_fma(builder: Any, tile: Any, pointer: Any, index: Any, apart: Any, row: Any) -> Any:
    found: list[Any] = []
    # A number is read where its row begins: all of them first would take as many registers more.
    for r in range(tile.kind.rows):
        number = builder.load(_row(builder, pointer, index, apart, r))
        number = _repeated(builder, number, tile.kind.lanes)
        found += [_fma(builder, number, v, tile[len(found) + n]) for n, v in enumerate(row)]
    return found


@operation("tile")
def outer(builder: Any, tile: Any, column: Any, row: Any) -> Any:
    pairs = [(left, right) for left in column for right in row]
    return [_fma(builder, *pair, total) for pair, total in zip(pairs, tile, strict=True)]


def _chosen(builder: Any, sign: str, a: Any, b: Any) -> list[Any]:
    found = []
    for v, w in zip(a, b, strict=True):
        first = _compared(sign, builder, v, w)
        if not _whole(v):
            first = builder.or_(first, builder.fcmp_unordered("uno", v, v))
        found.append(builder.select(first, v, w))
    return found


@operation("a")
def max_(builder: Any, a: Any, b: Any) -> Any:
    return _chosen(builder, ">", a, b)


@operation("a")
def min_(builder: Any, a: Any, b: Any) -> Any:
    return _chosen(builder, "<", a, b)


@operation("tile")
def clamp_min(builder: Any, tile: Any, number: Any) -> Any:
    least = _repeated(builder, number, tile.kind.lanes)
    return [builder.select(_compared("<", builder, v, least), least, v) for v in tile]


@operation(lambda tile: tile.like(lanes=1))
def sum_(builder: Any, tile: Any) -> Any:
    vectors, lanes = list(tile), tile.kind.lanes
    while lanes > 1:
        lanes //= 2
        halves = [
            [builder.shuffle_vector(v, v, _numbers(range(start, start + lanes))) for v in vectors]
            for start in (0, lanes)
        ]
        add = builder.add if _whole(vectors[0]) else builder.fadd
        vectors = [add(*pair) for pair in zip(*halves, strict=True)]
    return vectors


@operation("kind")
def convert(builder: Any, kind: Any, tile: Any) -> Any:
    return [_converted(builder, vector, kind.vector) for vector in tile]


@operation("kind")
def reinterpret(builder: Any, kind: Any, tile: Any) -> Any:
    return [builder.bitcast(vector, kind.vector) for vector in tile]


@operation(lambda a, b, places: a.like(lanes=len(places.places)))
def shuffle(builder: Any, a: Any, b: Any, places: Any) -> Any:
    mask = _numbers(places.places)
    return [builder.shuffle_vector(*pair, mask) for pair in zip(a, b, strict=True)]


@operation(lambda tile, places: TileType(1, 1, tile.lanes, tile.element))
def part(builder: Any, tile: Any, places: Any) -> Any:
    row, v = places.places
    return [tile[row * tile.kind.vectors + v]]


@operation(lambda tile, places: tile.like(rows=places.places[1]))
def rows(builder: Any, tile: Any, places: Any) -> Any:
    first, count = (number * tile.kind.vectors for number in places.places)
    return tile[first : first + count]


@operation(lambda a, b: a.like(rows=a.rows + b.rows))
def stack(builder: Any, a: Any, b: Any) -> Any:
    return [*a, *b]


@operation("tile")
def transpose(builder: Any, tile: Any) -> Any:
    return turned(builder, list(tile))


def turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Emit the transpose of a square of vectors: within each 16 bytes first, as AVX shuffles."""
    lanes = len(rows)
    size = 2 if isinstance(rows[0].type.element, ir.DoubleType) else 4  # lanes of 16 bytes
    step = 1
    while step < size:
        # The lanes of the low, then of the high halves of 16 bytes of two vectors, interleaved.
        masks = [
            _numbers([
                place + i
                for base in range(begin, lanes, size)
                for first in range(base, base + size // 2, step)
                for place in (first, lanes + first)
                for i in range(step)
            ])
            for begin in (0, size // 2)
        ]  # fmt: skip
        mixed = list(rows)
        for i in range(lanes):
            if not i & step:
                pair = rows[i], rows[i | step]
                mixed[i], mixed[i | step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        rows = mixed
        step *= 2
    # That leaves the columns of 16 bytes in bit-reversed order.
    order = (0, 2, 1, 3) if size == 4 else (0, 1)
    columns = [_exchanged(builder, rows[i::size], size) for i in order]
    return [column[place] for place in range(lanes // size) for column in columns]


def _exchanged(builder: Any, rows: list[Any], size: int) -> list[Any]:
    """Emit the transpose of a square of parts of `size` lanes: every second one of two vectors."""
    if len(rows) == 1:
        return rows
    found = list(rows)
    for odd in (0, 1):
        mask = _numbers([n for n in range(2 * rows[0].type.count) if n // size % 2 == odd])
        pairs = zip(rows[::2], rows[1::2], strict=True)
        half = [builder.shuffle_vector(*pair, mask) for pair in pairs]
        found[odd::2] = _exchanged(builder, half, size)
    return found


def _ask(builder: Any, places: Sequence[Any], write: int, level: int) -> None:
    for place in places:
        line = builder.bitcast(place, ir.IntType(8).as_pointer())
        how = _I32(write), _I32(level), _I32(1)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), line, *how)


@operation(None)
def prefetch(builder: Any, kind: Any, pointer: Any, index: Any, apart: Any) -> None:
    _ask(builder, [_row(builder, pointer, index, apart, r) for r in range(kind.rows)], 0, 2)


@operation(None)
def prefetch_near(builder: Any, kind: Any, pointer: Any, index: Any, apart: Any) -> None:
    _ask(builder, [_row(builder, pointer, index, apart, r) for r in range(kind.rows)], 0, 3)


@operation(None)
def prefetch_write(builder: Any, kind: Any, pointer: Any, index: Any, apart: Any) -> None:
    _ask(builder, [_row(builder, pointer, index, apart, r) for r in range(kind.rows)], 1, 3)


@operation(lambda kind, pointer, index: OffsetsType(kind.rows))
def offsets(builder: Any, kind: Any, pointer: Any, index: Any) -> Any:
    places = [_row(builder, pointer, index, _LONG(1), row) for row in range(kind.rows)]
    return [builder.load(place) for place in places]


@operation("pointer")
def at(builder: Any, pointer: Any, index: Any) -> Any:
    return builder.gep(pointer.value, [index])


@operation(lambda pointer, index, more: types.int64)
def fetch_add(builder: Any, pointer: Any, index: Any, more: Any) -> Any:
    place = builder.gep(pointer.value, [index])
    return builder.atomic_rmw("add", place, more, "acq_rel")


@operation(lambda pointer, index: types.int64)
def load_shared(builder: Any, pointer: Any, index: Any) -> Any:
    if platform.machine().lower() in ("x86_64", "amd64"):
        _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    return builder.load_atomic(builder.gep(pointer.value, [index]), "acquire", 8)


@operation(None)
def call(builder: Any, pointer: Any, index: Any, places: Any) -> None:
    count, floats = places.places
    read = [
        builder.load(builder.gep(pointer.value, [builder.add(index, _LONG(place))]))
        for place in range(1 + count + floats)
    ]
    for place in range(1 + count, 1 + count + floats):
        read[place] = builder.bitcast(builder.trunc(read[place], _I32), ir.FloatType())
    address, *values = read
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(builder.inttoptr(address, kind.as_pointer()), values)


def _arithmetic(name: str, builder: Any, *values: Any) -> Any:
    if _whole(values[0]):
        return getattr(builder, name)(*values)
    return getattr(builder, f"f{name}")(*values, flags=("contract",))


def _compared(sign: str, builder: Any, a: Any, b: Any) -> Any:
    if _whole(a):
        return builder.icmp_signed(sign, a, b)
    # Of NaN only != is true.
    return (builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered)(sign, a, b)


for _name, _symbol in {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
}.items():  # fmt: skip
    _operator(_symbol, 2, False, functools.partial(_arithmetic, _name))
for _name, _symbol in {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
    "!=": operator.ne,
}.items():  # fmt: skip
    _operator(_symbol, 2, True, functools.partial(_compared, _name))
_operator(operator.and_, 2, False, lambda builder, a, b: builder.and_(a, b))
_operator(operator.or_, 2, False, lambda builder, a, b: builder.or_(a, b))
_operator(operator.neg, 1, False, functools.partial(_arithmetic, "neg"))
