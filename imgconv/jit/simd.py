"""SIMD values for Numba: vectors and register tiles, which kernels use like numbers.

A kernel is the body of a `loop`, or a `helper`, that reads like its formula. Eight rows of weights
times three vectors of pixels, 24 registers that stay where they are until the end:

    BLOCK, LINE = simd.Tile(8, 3, 16), simd.Tile(1, 3, 16)

    def body(out, weights, pixels, count):
        total = simd.zeros(BLOCK)
        for k in range(count):
            total = simd.outer_fma(total, weights, k, count, simd.load(LINE, pixels, 48 * k))
        simd.store_rows(out, 0, 48, total)

`Tile(rows, vectors, lanes, element)` is the type of rows × vectors registers and `Vec(lanes,
element)` that of one, the tile of 1 × 1; an element is "f32", "f64" or "i32". They are made where
a loop is built; in a body they name a type. Take the CPU's lanes (`store.vectors()`: 16 float32
with AVX-512, 8 with AVX, 4 with SSE or NEON), as LLVM makes several narrower vectors of a wider
one. Tuples of vectors, indexed in Python loops, are in registers only where LLVM happens to unroll
those loops: blocks of 8 × 2 did 116 GFLOP/s, of 6 × 4 they did 2. Tiles always are.

The operations: T is a type, t a tile, R and V are its rows and vectors; p a pointer; i, k integers.
All are done lane by lane unless said otherwise. The cost is that of a CPU with vectors as wide.

| operation                       | result                                         | instructions |
|---------------------------------|------------------------------------------------|--------------|
| zeros(T), splat(T, x)           | every lane is 0, or the number x               | 1            |
| load(T, p, i)                   | p[i], p[i + 1], …; elements of another type    | R·V, twice   |
|                                 | (u8, u16, i16, i32, f32, f64) are converted    | if converted |
| load_rows(T, p, i, k)           | row r is p[i + r·k], p[i + r·k + 1], …         | as load      |
| splat_rows(T, p, i, k)          | row r is p[i + r·k] in every lane              | R            |
| load_masked(T, p, i, m, t)      | p[i], … where the mask m holds, elsewhere t;   | 1            |
|                                 | what is masked need not exist                  |              |
| store(p, i, t)                  | p[i], p[i + 1], … become t                     | R·V          |
| store_rows(p, i, k, t)          | p[i + r·k], … become row r                     | R·V          |
| store_masked(p, i, t, m)        | p[i], … become t where the mask m holds        | 1            |
| store_past(p, i, t)             | as store, past the caches; p + i aligned to a  | R·V          |
|                                 | vector                                         |              |
| fence()                         | earlier stores are seen before later ones      | 1, some 30 ns|
| a + b, a - b, a * b, -a         | a product and a sum may fuse                   | R·V          |
| a / b                           |                                                | R·V, slow    |
| a < b, <=, >, >=, ==, !=        | a mask; of NaN only != is true                 | R·V          |
| m & n, m or n as m | n          | of masks or i32                                | R·V          |
| below(T, n)                     | the mask of each row's first n lanes           | V            |
| between(T, l, n)                | the mask of each row's lanes l, …, n − 1       | 3·V          |
| any(m)                          | whether a mask holds anywhere                  | R·V, 2       |
| select(m, a, b)                 | a where m holds, else b                        | R·V          |
| fma(a, b, c)                    | a · b + c, rounded once where the CPU can      | R·V          |
| outer_fma(t, p, i, k, row)      | t[r, v] + p[i + r·k] · row[v]; row: Tile(1, V) | R·V + R      |
|                                 | for k = offsets o, p[i + o[r]] · row[v]        |              |
| outer(t, column, row)           | t[r, v] + column[r] · row[v], of R, V vectors  | R·V          |
| max(a, b), min(a, b)            | NaN where either is; b of two zeros            | 3·R·V        |
| clamp_min(t, x)                 | the number x where t is less; NaN stays        | R·V          |
| sum(t)                          | a tile of one lane: halves added to halves     | R·V·2·log₂   |
| convert(T, t)                   | the same numbers; to i32 cut off               | R·V          |
| reinterpret(T, t)               | the same bits                                  | 0            |
| shuffle(a, b, Places(n, …))     | lanes n of a followed by b                     | R·V, 1 or 2  |
| transpose(t)                    | Tile(lanes, 1): lane c of row r to r of c      | lanes·log₂   |
| part(t, Places(r, v))           | one vector of a tile                           | 0            |
| rows(t, Places(r, n))           | n rows of a tile, from row r on                | 0            |
| stack(a, b)                     | the rows of a, then those of b                 | 0            |
| prefetch(T, p, i, k)            | asks for the lines of p[i + r·k], which need   | R            |
|                                 | not exist, into the L2                         |              |
| prefetch_near, prefetch_write   | the same into the L1; to be written to         | R            |
| offsets(T, p, i)                | the integers p[i], …, p[i + R − 1]             | R            |
| unaligned(T, p, i)              | how many elements from p[i] on come before one | 4            |
|                                 | that is aligned to a vector                    |              |
| at(p, i)                        | a pointer to p[i]                              | 0            |
| fetch_add(p, i, n)              | what the integer p[i] was before n was added,  | 1, some 5 ns |
|                                 | at once for all threads                        |              |
| load_shared(p, i)               | p[i], then what was stored before it was added | 2            |
|                                 | to; after a pause, for loops that wait         |              |
| call(p, i, Places(n, m))        | calls the address p[i] with the integers       | n + m        |
|                                 | p[i + 1], …, of which it may ask for fewer     |              |
|                                 | than n, and m float32 in the integers after    |              |

Sums and products may fuse with each other and nothing else is relaxed, so NaN, infinities, signed
zeros and the order of sums are as written. `lowering` has the LLVM of each operation; nothing else
knows it. Numba is imported with that, where a loop compiles, so this module costs a start nothing.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tile:
    """The type of rows × vectors registers of `lanes` elements each."""

    rows: int
    vectors: int
    lanes: int
    element: str = "f32"

    @property
    def _numba_type_(self) -> Any:
        from numba import types

        from imgconv.jit.lowering import TileType

        return types.TypeRef(TileType(self.rows, self.vectors, self.lanes, self.element))


def Vec(lanes: int, element: str = "f32") -> Tile:
    """The type of one register."""
    return Tile(1, 1, lanes, element)


class Places:
    """Numbers that are known when a kernel compiles."""

    def __init__(self, *places: int) -> None:
        self.places = places

    @property
    def _numba_type_(self) -> Any:
        from numba import types

        from imgconv.jit.lowering import PlacesType

        return types.TypeRef(PlacesType(self.places))


def __getattr__(name: str) -> Any:
    """The operations."""
    from imgconv.jit import lowering

    if name in lowering.OPERATIONS:
        return lowering.OPERATIONS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
