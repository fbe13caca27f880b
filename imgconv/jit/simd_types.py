"""The types of `simd` as Numba's, and its operations as what bodies call.

A tile is an LLVM array of vectors, of which LLVM makes single values as long as it is only taken
apart, hence registers.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

Emit = Callable[..., Any]  # of a builder and an operation's arguments; see `lowering`

_ELEMENTS = {  # LLVM's type, Numba's, bytes
    "f32": (ir.FloatType(), types.float32, 4),
    "f64": (ir.DoubleType(), types.float64, 8),
    "i32": (ir.IntType(32), types.int32, 4),
    "i16": (ir.IntType(16), types.int16, 2),
    "u8": (ir.IntType(8), types.uint8, 1),
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

    def like(self, **other: int | str) -> "TileType":
        """The type with other rows, vectors, lanes or elements."""
        names = "rows", "vectors", "lanes", "element"
        return TileType(*[other.get(name, getattr(self, name)) for name in names])


class PlacesType(types.Type):  # type: ignore[misc]
    """Numbers known when a kernel compiles."""

    def __init__(self, places: tuple[int, ...]) -> None:
        self.places = places
        super().__init__(f"Places{places}")


@register_model(TileType)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: TileType) -> None:
        super().__init__(manager, kind, kind.llvm)


class Registers(list[ir.Value]):
    """The vectors of a tile, row by row."""

    def __init__(self, kind: TileType, vectors: Iterable[ir.Value]) -> None:
        super().__init__(vectors)
        self.kind = kind


class Pointer(NamedTuple):
    """A pointer to elements of one of Numba's types."""

    value: ir.Value
    dtype: types.Type


# The type of a result by the table's word; for other words that of the argument named so.
_RESULTS: dict[str, Callable[..., types.Type]] = {
    "": lambda *_: types.void,
    "int": lambda *_: types.int64,
    "bool": lambda *_: types.boolean,
    "mask": lambda a, *_: a.like(element="i1"),
    "sums": lambda t: t.like(lanes=1),
    "number": lambda t: t.number,
    "chosen": lambda c, a, b: a if isinstance(a, TileType) else b,
    "lanes": lambda a, b, n: a.like(lanes=len(n.places)),
    "vector": lambda t, n: t.like(rows=1, vectors=1),
    "rows": lambda t, n: t.like(rows=n.places[1]),
    "stack": lambda a, b: a.like(rows=a.rows + b.rows),
    "offsets": lambda T, p, i: types.UniTuple(types.int64, T.rows),
}


def operation(name: str, emit: Emit, names: Sequence[str], word: str) -> Callable[..., Any]:
    """What bodies call for an operation that `emit` appends.

    names: its arguments. word: its result, as the table has it.
    """

    def typed(typing: Any, *kinds: types.Type) -> Any:
        seen = [getattr(kind, "instance_type", kind) for kind in kinds]
        taken = [types.int64 if isinstance(kind, types.Integer) else kind for kind in kinds]
        if "x" in names:
            taken[names.index("x")] = seen[0].number
        result = _RESULTS[word](*seen) if word in _RESULTS else seen[names.index(word)]
        return result(*taken), functools.partial(_generate, emit)

    # Numba passes arguments by the names of the function that types them.
    position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(each, position) for each in ("typing", *names)]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typed.__name__ = name
    return intrinsic(typed)  # type: ignore[no-any-return]


def operator(symbol: Any, emit: Emit, word: str = "", count: int = 2) -> None:
    """Teach Numba an operator, which `emit` appends, on `count` tiles alike or a tile and a number.

    Tables of `simd` say what each does.
    """

    @infer_global(symbol)
    class Typed(AbstractTemplate):  # type: ignore[misc]
        key = symbol

        def generic(self, given: tuple[types.Type, ...], keywords: Any) -> Any:
            tiles = [kind for kind in given if isinstance(kind, TileType)]
            numbers = [kind for kind in given if isinstance(kind, types.Number)]
            if len(set(tiles)) != 1 or len(tiles) + len(numbers) != count:
                return None
            taken = [kind if kind in tiles else tiles[0].number for kind in given]
            return (_RESULTS[word](tiles[0]) if word else tiles[0])(*taken)

    lower = functools.partial(_generate, emit)
    for kinds in [[TileType] * count, [TileType, types.Number], [types.Number, TileType]][
        : 2 * count - 1
    ]:
        lower_builtin(symbol, *kinds)(lower)


def _generate(emit: Emit, context: Any, b: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
    """An operation on Numba's values."""
    kind = signature.return_type
    result = emit(b, *[_given(b, *pair) for pair in zip(signature.args, values, strict=True)])
    if kind is types.void:
        return context.get_dummy_value()
    if not isinstance(result, list):
        return result
    array = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for place, value in enumerate(result):
        array = b.insert_value(array, value, place)
    return array


def _given(b: ir.IRBuilder, kind: types.Type, value: ir.Value) -> Any:
    """An argument as operations take it."""
    if isinstance(kind, types.TypeRef):
        return getattr(kind.instance_type, "places", kind.instance_type)
    if isinstance(kind, types.CPointer):
        return Pointer(value, kind.dtype)
    if isinstance(kind, TileType | types.UniTuple):
        parts = [b.extract_value(value, place) for place in range(value.type.count)]
        return Registers(kind, parts) if isinstance(kind, TileType) else parts
    return value
