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
element)` that of one, the tile of 1 × 1; an element is "f32", "f64", "i32", "i16" or "u8". They are
made where a loop is built; in a body they name a type. Take the CPU's lanes (`store.vectors()`: 16
float32 with AVX-512, 8 with AVX, 4 with SSE or NEON), as LLVM makes several narrower vectors of a
wider one. Tuples of vectors, indexed in Python loops, are in registers only where LLVM happens to
unroll those loops: blocks of 8 × 2 did 116 GFLOP/s, of 6 × 4 they did 2. Tiles always are.

TABLE has the operations. Sums and products may fuse with each other and nothing else is relaxed, so
NaN, infinities, signed zeros and the order of sums are as written. `lowering` has the LLVM of each;
nothing else knows it. Numba is imported with that, where a loop compiles, so this module costs a
start nothing.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

TABLE = """
T is a type, t a tile, R and V are its rows and vectors; m a mask; p a pointer; i, k integers; x a
number, an element of the first tile or type; n is Places, integers that are known when a kernel
compiles. All is done lane by lane unless said otherwise. The cost is in instructions of a CPU with
vectors as wide.

| operation                  | type    | result                                       | cost       |
|----------------------------|---------|----------------------------------------------|------------|
| zeros(T)                   | T       | every lane is 0                              | 1          |
| splat(T, x)                | T       | every lane is x                              | 1          |
| load(T, p, i)              | T       | p[i], p[i + 1], …; elements of another type  | R·V, or    |
|                            |         | (u8, u16, i16, i32, f32, f64) are converted  | 2·R·V      |
| load_rows(T, p, i, k)      | T       | row r is p[i + r·k], p[i + r·k + 1], …       | as load    |
| splat_rows(T, p, i, k)     | T       | row r is p[i + r·k] in every lane            | R          |
| load_masked(T, p, i, m, t) | T       | p[i], … where m holds, elsewhere t; what is  | R·V        |
|                            |         | masked need not exist                        |            |
| store(p, i, t)             |         | p[i], p[i + 1], … become t                   | R·V        |
| store_rows(p, i, k, t)     |         | p[i + r·k], … become row r                   | R·V        |
| store_masked(p, i, t, m)   |         | p[i], … become t where m holds               | R·V        |
| store_past(p, i, t)        |         | as store, past the caches; p + i is aligned  | R·V        |
|                            |         | to a vector                                  |            |
| fence()                    |         | earlier stores are seen before later ones    | 1, 30 ns   |
| a + b, a - b, a * b, -a    | a       | a product and a sum may fuse; one of two may | R·V        |
|                            |         | be a number; and abs(a)                      |            |
| a / b                      | a       |                                              | R·V, slow  |
| a < b, <=, >, >=, ==, !=   | mask    | of NaN only != is true                       | R·V        |
| m & n, m or n as m | n     | m       | of masks or i32                              | R·V        |
| below(T, k)                | mask    | each row's first k lanes                     | V          |
| between(T, i, k)           | mask    | each row's lanes i, …, k - 1                 | 3·V        |
| any(m)                     | bool    | whether m holds anywhere                     | R·V + 2    |
| select(m, a, b)            | a       | a where m holds, else b                      | R·V        |
| choose(c, a, b)            | chosen  | a where c is true, else b; of numbers, and   | R·V        |
|                            |         | of tiles with or without numbers             |            |
| power(a)                   | a       | 2ⁿ where a is n + 1.5·2²³, n whole; of a     | 3·R·V      |
|                            |         | number too                                   |            |
| fma(a, b, c)               | a       | a·b + c, rounded once where the CPU can      | R·V        |
| mul_high(t, x, k)          | t       | of integers without a sign: the upper half   | 2·R·V for  |
|                            |         | of t·x, shifted right by k                   | i16        |
| outer_fma(t, p, i, k, row) | t       | t[r, v] + p[i + r·k]·row[v], row a Tile(1,   | R·V + R    |
|                            |         | V); for k = offsets o, p[i + o[r]]·row[v]    |            |
| outer(t, column, row)      | t       | t[r, v] + column[r]·row[v], of R and V       | R·V        |
|                            |         | vectors                                      |            |
| matmul(t, left, right)     | t       | t[r, v] + Σ left[r, k]·right[k, v], terms    | R·V·K      |
|                            |         | added in the order of k                      |            |
| max(a, b)                  | a       | the larger; NaN where either is; b of two    | 3·R·V      |
|                            |         | zeros                                        |            |
| min(a, b)                  | a       | the smaller, likewise                        | 3·R·V      |
| clamp_min(t, x)            | t       | x where t is less; NaN stays                 | R·V        |
| sum(t)                     | sums    | a tile of one lane: halves added to halves   | R·V·2·log₂ |
| largest(t)                 | sums    | as sum, by max                               | R·V·4·log₂ |
| number(t)                  | number  | the first lane                               | 0          |
| convert(T, t)              | T       | the same numbers, cut off for integers: at   | R·V        |
|                            |         | the point, or to their lowest bits           |            |
| reinterpret(T, t)          | T       | the same bits                                | 0          |
| shuffle(a, b, n)           | lanes   | lanes n of a followed by b                   | R·V, 2·R·V |
| transpose(t)               | t       | of Tile(lanes, 1): lane c of row r to r of c | lanes·log₂ |
| reshape(T, t)              | T       | the same elements in the same order          | 0, or R·V  |
|                            |         |                                              | for lanes  |
| windows(T, t, edge, n)     | T       | n = f, s, h: row k of T is elements f + k,   | R·V, and   |
|                            |         | f + k + s, … of all of t, s 1 or 2; before   | V of t     |
|                            |         | it and after it come lanes of the vector     | for s = 2  |
|                            |         | edge; if h is 2, of halves of vectors        |            |
| part(t, n)                 | vector  | n = r, v: one vector                         | 0          |
| rows(t, n)                 | rows    | n = r, c: the c rows from row r on; n = r,   | 0          |
|                            |         | c, s: rows r, r + s, …                       |            |
| stack(a, b)                | stack   | the rows of a, then those of b               | 0          |
| prefetch(T, p, i, k)       |         | asks for the lines of p[i + r·k], which need | R          |
|                            |         | not exist, into the L2                       |            |
| prefetch_near(T, p, i, k)  |         | the same into the L1                         | R          |
| prefetch_write(T, p, i, k) |         | the same, to be written to                   | R          |
| offsets(T, p, i)           | offsets | the integers p[i], …, p[i + R - 1]           | R          |
| unaligned(T, p, i)         | int     | how many elements from p[i] on come before   | 4          |
|                            |         | one that is aligned to a vector              |            |
| at(p, i)                   | p       | a pointer to p[i]                            | 0          |
| fetch_add(p, i, k)         | int     | what the integer p[i] was before k was       | 1, 5 ns    |
|                            |         | added, at once for all threads               |            |
| load_shared(p, i)          | int     | p[i], then what was stored before it was     | 2          |
|                            |         | added to; after a pause, for loops that wait |            |
| call(p, i, n)              |         | calls the address p[i] with n[0] integers    | n[0] +     |
|                            |         | from p[i + 1] on, of which it may ask for    | n[1]       |
|                            |         | fewer, and n[1] float32 in the integers      |            |
|                            |         | after them                                   |            |
"""
__doc__ += TABLE


class Operation(NamedTuple):
    """A row of the table, as far as a compiler needs it."""

    arguments: list[str]
    result: str  # one of the arguments, whose type it has, or a word


def operations() -> dict[str, Operation]:
    """The operations of the table that are called by name."""
    import re

    rows = re.findall(r"^\| (\w+)\((.*)\) *\| (\w*)", TABLE, re.MULTILINE)
    return {name: Operation(words.replace(",", "").split(), result) for name, words, result in rows}


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

        from imgconv.jit.simd_types import TileType

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

        from imgconv.jit.simd_types import PlacesType

        return types.TypeRef(PlacesType(self.places))


@functools.cache
def for_numba() -> dict[str, Any]:
    """The operations as Numba's; it must know them before it begins to compile what calls one."""
    from imgconv.jit import lowering

    return lowering.declare(operations())


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and name in for_numba():
        return for_numba()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
