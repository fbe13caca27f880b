"""Vector code written out, where neither Numba nor LLVM's vectoriser should have to find it.

A traced helper is a Python function over the proxies below; it runs once when a loop compiles and
leaves the vector instructions it asked for. It costs the compiler almost nothing (a butterfly of
sixteen lines, repeated over runtime strides, took Numba and the vectoriser seventeen seconds to
merge and prove disjoint; traced, half a second for the whole loop), and needs no compile-time
strides. Vectors have 8 float32 or 4 float64 lanes; LLVM splits or widens them to the machine's.

    @traced
    def scale(out, source, i, gain):     # as in any compiled body: pointers, integers, numbers
        out.put(i, source.get(i) * source.one(gain, 0))
"""

from collections.abc import Callable
from typing import Any

from imgconv.jit import cache
from imgconv.jit.instructions import not_under, prefetch
from imgconv.ops.algorithms.tiles import NOWHERE

BYTES = 32
AHEAD = 64  # elements: rows read side by side are more than the CPU foresees (41×41: a tenth)


def widest() -> int:
    """Bytes of the vectors that helpers are told to use: AVX-512's, or halves of them."""
    return 2 * BYTES if cache.vectors()[0] == 16 else BYTES


class Traced:
    """A function over proxies that compiled bodies may call; it returns nothing."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        code: Any = function.__code__  # `inspect` takes 4 ms of a start
        self.parameters: tuple[str, ...] = code.co_varnames[: code.co_argcount]

    def __call__(self, *arguments: Any) -> None:
        raise TypeError("a traced helper can only be called from a loop's body")

    def generate(self, context: Any, builder: Any, kinds: Any, values: Any) -> None:
        """Emit the instructions for arguments of the given Numba types."""
        pairs = zip(kinds, values, strict=True)
        self.function(*(_proxy(context, builder, kind, value) for kind, value in pairs))

    def intrinsic(self) -> Any:
        """The function as Numba takes it; called where a loop compiles."""
        import inspect

        from numba import types as nb
        from numba.extending import intrinsic

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            self.generate(context, builder, signature.args, values)
            return context.get_dummy_value()

        def typed(typing: Any, *arguments: Any) -> Any:
            return nb.void(*arguments), emit

        # Numba passes arguments by the names of the function that types them.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in ("typing", *self.parameters)]
        )
        return intrinsic(typed)


class Call(Traced):
    """Call a loop by its address (`Loop.address`): Call("re", "im")(address, re, im).

    What is called is compiled once for all its callers, and they compile without it.
    """

    def __init__(self, *parameters: str) -> None:
        self.parameters = ("address", *parameters)

    def generate(self, context: Any, builder: Any, kinds: Any, values: Any) -> None:
        """Emit the call."""
        from llvmlite import ir

        address, *rest = values
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in rest])
        builder.call(builder.inttoptr(address, kind.as_pointer()), rest)


def traced(function: Callable[..., None]) -> Traced:
    """Mark a function over proxies as callable from compiled bodies."""
    return Traced(function)


def _proxy(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    from numba import types as nb

    if isinstance(kind, nb.CPointer) and kind.dtype == nb.int64:
        return Table(builder, value)
    if isinstance(kind, nb.CPointer):
        signed = getattr(kind.dtype, "signed", True)
        return Pointer(builder, value, context.get_value_type(kind.dtype), signed=signed)
    if isinstance(kind, nb.Integer):
        return Index(builder, builder.sext(value, _long()) if kind.bitwidth < 64 else value)
    raise TypeError(f"traced helper: argument of type {kind}, expected a pointer or an integer")


def _long() -> Any:
    from llvmlite import ir

    return ir.IntType(64)


class Index:
    """An integer: an offset in elements."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _other(self, other: "Index | int") -> Any:
        return other.value if isinstance(other, Index) else _long()(other)

    def __add__(self, other: "Index | int") -> "Index":
        return Index(self.builder, self.builder.add(self.value, self._other(other)))

    def __mul__(self, other: "Index | int") -> "Index":
        return Index(self.builder, self.builder.mul(self.value, self._other(other)))

    __rmul__ = __mul__


class Table:
    """A pointer to integers."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __getitem__(self, index: Index) -> Index:
        place = self.builder.gep(self.value, [index.value], source_etype=_long())
        return Index(self.builder, self.builder.load(place, typ=_long()))


class Pointer:
    """A pointer to float32 or float64, or to integers that are only read `converted`."""

    def __init__(
        self, builder: Any, value: Any, element: Any, size: int = BYTES, signed: bool = True
    ) -> None:
        from llvmlite import ir

        self.builder, self.value, self.element, self.signed = builder, value, element, signed
        self.size = 8 if isinstance(element, ir.DoubleType) else 4
        self.lanes = size // self.size
        self.vector = ir.VectorType(element, self.lanes)

    def by(self, size: int) -> "Pointer":
        """The same, by vectors of `size` bytes: where the CPU's are shorter, by several."""
        return Pointer(self.builder, self.value, self.element, size)

    def _place(self, index: Index) -> Any:
        place = self.builder.gep(self.value, [index.value], source_etype=self.element)
        return self.builder.bitcast(place, self.vector.as_pointer())

    def get(self, index: Index) -> "Vector":
        """The vector that begins at an element; no alignment is asked for."""
        return Vector(
            self.builder, self.builder.load(self._place(index), align=self.size, typ=self.vector)
        )

    def converted(self, index: Index, like: "Pointer") -> "Vector":
        """As many elements as a vector of `like` has, in its type."""
        from llvmlite import ir

        builder = self.builder
        place = builder.gep(self.value, [index.value], source_etype=self.element)
        kind = ir.VectorType(self.element, like.lanes)
        integer = isinstance(self.element, ir.IntType)
        size = self.element.width // 8 if integer else self.size
        value = builder.load(builder.bitcast(place, kind.as_pointer()), align=size, typ=kind)
        if integer:
            value = (builder.sitofp if self.signed else builder.uitofp)(value, like.vector)
        elif size < like.size:
            value = builder.fpext(value, like.vector)
        elif size > like.size:
            value = builder.fptrunc(value, like.vector)
        return Vector(builder, value)

    def fetch(self, index: Index) -> None:
        """Ask for the cache line of an element, which need not exist."""
        place = self.builder.gep(self.value, [index.value], source_etype=self.element)
        prefetch(self.builder, place, near=True)

    def put(self, index: Index, vector: "Vector") -> None:
        """Store a vector from an element on."""
        self.builder.store(vector.value, self._place(index), align=self.size)

    def one(self, index: Index) -> "Vector":
        """A vector of one element, repeated."""
        place = self.builder.gep(self.value, [index.value], source_etype=self.element)
        return self._repeated(self.builder.load(place, typ=self.element))

    def constant(self, number: float) -> "Vector":
        """A vector of a number known now, repeated."""
        return self._repeated(self.element(number))

    def _repeated(self, scalar: Any) -> "Vector":
        from llvmlite import ir

        int32 = ir.IntType(32)
        first = self.builder.insert_element(self.vector(ir.Undefined), scalar, int32(0))
        mask = ir.VectorType(int32, self.lanes)([0] * self.lanes)
        return Vector(self.builder, self.builder.shuffle_vector(first, first, mask))


class Vector:
    """A vector of floats; a product and a sum may fuse, and nothing else is relaxed."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fadd(self.value, other.value, flags=("contract",)))

    def __sub__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fsub(self.value, other.value, flags=("contract",)))

    def __mul__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fmul(self.value, other.value, flags=("contract",)))

    def not_under(self, floor: "Vector") -> "Vector":
        """Each lane, or the floor's where it is less; NaN is not."""
        return Vector(self.builder, not_under(self.builder, self.value, floor.value))

    def mixed(self, other: "Vector", places: list[int]) -> "Vector":
        """The lanes at `places` of this vector followed by the other."""
        from llvmlite import ir

        mask = ir.VectorType(ir.IntType(32), len(places))(places)
        return Vector(self.builder, self.builder.shuffle_vector(self.value, other.value, mask))


def transpose(rows: list[Vector]) -> list[Vector]:
    """The transpose of a square of vectors: within each 16 bytes first, as AVX shuffles."""
    from llvmlite import ir

    lanes = len(rows)
    part = 2 if isinstance(rows[0].value.type.element, ir.DoubleType) else 4
    step = 1
    while step < part:
        low, high = _unpack_masks(lanes, part, step)
        mixed = list(rows)
        for i in range(lanes):
            if not i & step:
                a, b = rows[i], rows[i | step]
                mixed[i], mixed[i | step] = a.mixed(b, low), a.mixed(b, high)
        rows = mixed
        step *= 2
    # The unpacking leaves the columns of a part in bit-reversed order.
    order = (0, 2, 1, 3) if part == 4 else (0, 1)
    columns = [_exchange([rows[a + i] for a in range(0, lanes, part)], part) for i in order]
    return [column[place] for place in range(lanes // part) for column in columns]


def _unpack_masks(lanes: int, part: int, step: int) -> tuple[list[int], list[int]]:
    """Lanes of the low and of the high halves of each 16 bytes of two vectors, interleaved."""
    masks = []
    for begin in (0, part // 2):
        places = []
        for base in range(begin, lanes, part):
            for i in range(base, base + part // 2, step):
                places += [*range(i, i + step), *range(lanes + i, lanes + i + step)]
        masks.append(places)
    return masks[0], masks[1]


def _exchange(rows: list[Vector], part: int) -> list[Vector]:
    """The transpose of a square of parts of `part` lanes, of which each vector has len(rows)."""
    count = len(rows)
    if count == 1:
        return rows
    lanes = count * part
    # Every second part of one vector, then of the other: two halves of the square.
    masks = [
        [
            lane
            for base in range(odd * part, 2 * lanes, 2 * part)
            for lane in range(base, base + part)
        ]
        for odd in (0, 1)
    ]
    found: list[Vector] = [rows[0]] * count
    for odd, mask in enumerate(masks):
        half = [rows[i].mixed(rows[i + 1], mask) for i in range(0, count, 2)]
        if count == 4:
            half = [half[0].mixed(half[1], masks[0]), half[0].mixed(half[1], masks[1])]
        found[odd::2] = half
    return found


def dot(groups: int, size: int) -> Traced:
    """A weighted sum of shifted rows, `groups` groups of `size` of it in registers over all taps.

    dot(out, o, apart, data, at, step, count, weights, w): to out[o…], the groups `apart`, the sum
    over t < count of weights[w + t] · data[at + t · step…].
    """

    def emit(
        out: Pointer, o: Index, apart: Index, data: Pointer, at: Index, step: Index, count: Index,
        weights: Pointer, w: Index,
    ) -> None:  # fmt: skip
        from numba.core import cgutils

        # A whole vector straddles two lines, but of two halves one does too.
        out, data, weights = out.by(2 * BYTES), data.by(2 * BYTES), weights.by(2 * BYTES)
        builder = out.builder
        vectors = groups * size // out.lanes
        sums = [cgutils.alloca_once(builder, out.vector) for _ in range(vectors)]
        for kept in sums:
            builder.store(out.constant(0.0).value, kept)
        with cgutils.for_range(builder, count.value) as loop:
            t = Index(builder, loop.index)
            weight = weights.one(w + t)
            place = at + t * step
            for k, kept in enumerate(sums):
                total = Vector(builder, builder.load(kept, typ=out.vector))
                total = total + weight * data.get(place + k * out.lanes)
                builder.store(total.value, kept)
        for k, kept in enumerate(sums):
            group, rest = divmod(k * out.lanes, size)
            place = o + group * apart + rest
            out.put(place, Vector(builder, builder.load(kept, typ=out.vector)))

    return Traced(emit)


def streamed(size: int) -> Traced:
    """A row copied past the caches, without reading the lines that it fills.

    streamed(out, at, data, start, count): data[start…] to out[at…], by vectors of `size` bytes.
    Other threads see it after a `fence`.
    """

    def emit(out: Pointer, at: Index, data: Pointer, start: Index, count: Index) -> None:
        from llvmlite import ir
        from numba.core import cgutils

        out, data = out.by(size), data.by(size)
        builder = out.builder
        long = ir.IntType(64)
        first = builder.gep(out.value, [at.value], source_etype=out.element)
        beyond = builder.and_(builder.neg(builder.ptrtoint(first, long)), long(size - 1))
        head = Index(builder, builder.udiv(beyond, long(out.size)))
        short = builder.icmp_signed("<", count.value, head.value)
        head = Index(builder, builder.select(short, count.value, head.value))
        rest = builder.sub(count.value, head.value)
        vectors = Index(builder, builder.udiv(rest, long(out.lanes)))
        done = head + vectors * out.lanes

        def scalars(low: Index, high: Index) -> None:
            with cgutils.for_range(builder, builder.sub(high.value, low.value)) as loop:
                i = low + Index(builder, loop.index)
                value = builder.load(
                    builder.gep(data.value, [(start + i).value], source_etype=data.element),
                    typ=data.element,
                )
                place = builder.gep(out.value, [(at + i).value], source_etype=out.element)
                builder.store(value, place)

        scalars(Index(builder, long(0)), head)
        with cgutils.for_range(builder, vectors.value) as loop:
            i = head + Index(builder, loop.index) * out.lanes
            kept = builder.store(data.get(start + i).value, out._place(at + i), align=size)
            kept.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        scalars(done, count)

    return Traced(emit)


def fence() -> Traced:
    """fence(out): what was stored before it is seen before what is stored after it."""

    def emit(out: Pointer) -> None:
        out.builder.fence("seq_cst")

    return Traced(emit)


def dot_taps(vectors: int, size: int) -> Traced:
    """A weighted sum of elements anywhere, `vectors` vectors of `size` bytes of it in registers.

    dot_taps(out, o, data, at, taps, weights, first, count): to out[o…] the sum over the `count`
    numbers t from `first` on of weights[t] · data[at + taps[t]…].
    """

    def emit(
        out: Pointer, o: Index, data: Pointer, at: Index, taps: Table, weights: Pointer,
        first: Index, count: Index,
    ) -> None:  # fmt: skip
        from numba.core import cgutils

        out, data, weights = out.by(size), data.by(size), weights.by(size)
        builder = out.builder
        sums = [cgutils.alloca_once(builder, out.vector) for _ in range(vectors)]
        for kept in sums:
            builder.store(out.constant(0.0).value, kept)
        with cgutils.for_range(builder, count.value) as loop:
            t = first + Index(builder, loop.index)
            weight = weights.one(t)
            place = at + taps[t]
            for k, kept in enumerate(sums):
                total = Vector(builder, builder.load(kept, typ=out.vector))
                total = total + weight * data.get(place + k * out.lanes)
                builder.store(total.value, kept)
        for k, kept in enumerate(sums):
            done = Vector(builder, builder.load(kept, typ=out.vector))
            out.put(o + k * out.lanes, done)

    return Traced(emit)


def dot_grid(rows: int, vectors: int, size: int) -> Traced:
    """Weighted sums of `rows` rows by `vectors` vectors of `size` bytes, in registers throughout.

    dot_grid(out, o, length, data, at, pitch, columns, count, height, weights, w): for k < rows, to
    out[o + k · length…] the sum over c < count and t < height of weights[w + c · height + t] ·
    data[at + columns[c] + (k + t) · pitch…]. height is at least `rows`. A loaded vector meets all
    rows, each of which adds its taps column by column, downwards.
    """

    def emit(
        out: Pointer, o: Index, length: Index, data: Pointer, at: Index, pitch: Index,
        columns: Table, count: Index, height: Index, weights: Pointer, w: Index,
    ) -> None:  # fmt: skip
        from llvmlite import ir
        from numba.core import cgutils

        out, data, weights = out.by(size), data.by(size), weights.by(size)
        builder = out.builder
        sums = [
            [cgutils.alloca_once(builder, out.vector) for _ in range(vectors)] for _ in range(rows)
        ]
        for kept in sums:
            for place in kept:
                builder.store(out.constant(0.0).value, place)
        with cgutils.for_range(builder, count.value) as across:
            c = Index(builder, across.index)
            base = at + columns[c]
            first = w + c * height

            def add(t: Index, low: int, high: int) -> None:
                row = base + t * pitch
                loaded = [data.get(row + v * out.lanes) for v in range(vectors)]
                for k in range(low, high):
                    weight = weights.one(first + t + -k)
                    for place, values in zip(sums[k], loaded, strict=True):
                        total = Vector(builder, builder.load(place, typ=out.vector))
                        builder.store((total + weight * values).value, place)

            origin = Index(builder, ir.IntType(64)(0))
            for t in range(rows - 1):
                add(origin + t, 0, t + 1)
            inner = height + (1 - rows)
            with cgutils.for_range(builder, inner.value) as loop:
                add(Index(builder, loop.index) + (rows - 1), 0, rows)
            for t in range(rows - 1):
                add(height + t, t + 1, rows)
        for k, kept in enumerate(sums):
            for v, place in enumerate(kept):
                done = Vector(builder, builder.load(place, typ=out.vector))
                out.put(o + k * length + v * out.lanes, done)

    return Traced(emit)


def converted_rows(vector: int) -> Traced:
    """A vector of each of some rows, converted and stored one after the other.

    converted_rows(out, source, places, e, count, fill): for j < count the elements
    source[places[j] + e…] where places[j] is not NOWHERE, else fill[0], to out.
    """

    def emit(
        out: Pointer, source: Pointer, places: Table, e: Index, count: Index, fill: Pointer
    ) -> None:
        from llvmlite import ir
        from numba.core import cgutils

        out, fill = out.by(vector), fill.by(vector)
        builder = out.builder
        origin = Index(builder, ir.IntType(64)(0))
        with cgutils.for_range(builder, count.value) as loop:
            j = Index(builder, loop.index)
            place = places[j]
            inside = builder.icmp_signed("!=", place.value, ir.IntType(64)(NOWHERE))
            with builder.if_else(inside) as (here, beyond):
                with here:
                    source.fetch(place + e + AHEAD)
                    out.put(j * out.lanes, source.converted(place + e, out))
                with beyond:
                    out.put(j * out.lanes, fill.one(origin))

    return Traced(emit)


def dot_block(vector: int) -> Traced:
    """A square of weighted sums, turned by a quarter: rows in, columns out.

    dot_block(out, o, pitch, data, at, step, count, far, parts, weights, w), with as many lanes as
    elements fit into `vector` bytes: element i of row k of the square is the sum over r < parts
    and t < count of weights[w + r · count + t] · data[at + r · far + t · step + k · lanes + i] and
    goes to out[o + i · pitch + k]. All sums stay in registers.
    """

    def emit(
        out: Pointer, o: Index, pitch: Index, data: Pointer, at: Index, step: Index, count: Index,
        far: Index, parts: Index, weights: Pointer, w: Index,
    ) -> None:  # fmt: skip
        from numba.core import cgutils

        out, data, weights = out.by(vector), data.by(vector), weights.by(vector)
        builder = out.builder
        lanes = out.lanes
        sums = [cgutils.alloca_once(builder, out.vector) for _ in range(lanes)]
        for kept in sums:
            builder.store(out.constant(0.0).value, kept)
        with cgutils.for_range(builder, parts.value) as part:
            r = Index(builder, part.index)
            with cgutils.for_range(builder, count.value) as loop:
                t = Index(builder, loop.index)
                weight = weights.one(w + r * count + t)
                place = at + r * far + t * step
                for k, kept in enumerate(sums):
                    total = Vector(builder, builder.load(kept, typ=out.vector))
                    total = total + weight * data.get(place + k * lanes)
                    builder.store(total.value, kept)
        turned = transpose([Vector(builder, builder.load(kept, typ=out.vector)) for kept in sums])
        for i, done in enumerate(turned):
            out.put(o + i * pitch, done)

    return Traced(emit)
