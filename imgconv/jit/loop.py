"""The one Numba policy: loops are compiled once per machine and loaded without Numba.

Importing Numba takes 190 ms and its own cache another 240 ms at the first call, which is more
than a small filter's whole run. A loop is a plain Python function over raw pointers and sizes: no
allocation, no exceptions, no array objects, so its machine code needs no Numba runtime. On a miss
Numba makes the LLVM IR, llvmlite makes the object file, and `store` keeps it; later runs map it
into memory without either (`machine_code`). Calls go through ctypes, which drops the GIL.

Write a loop as a builder that closes over its compile-time constants (an unrolled kernel width,
an element type's name) and returns the argument types and the body:

    @loop
    def scale_row(element: str) -> Built:
        cast = caster(element)
        def body(out, source, gain, count):
            for i in range(count):
                out[i] = cast(np.float32(source[i]) * gain)
        return f"{element}* u8* f32 i64", body

    scale_row("f32")(out, source, 2.0, out.size)

Argument types: u8 u16 i16 i32 u32 i64 f32 f64, `*` for a pointer. A pointer takes an ndarray of
that dtype (its first element's address; strides are the caller's business) or None. A geometry is
a record, one argument whose fields have names (`record`): "Shape*" for one in memory, which the
body reads as shape.rows, and "Shape" for its fields by value, which a body may also put together
for a `part` that it calls, as Shape(rows, pitch). No body takes more than a dozen arguments.

The first word `disjoint` promises that no two pointers reach the same element, unless both only
read it: LLVM then vectorizes a loop over ten rows, for which it otherwise makes no more than eight
overlap checks, and keeps what it read from one array across stores to another.
"""

import ctypes
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from imgconv.jit import cache, capture, record
from imgconv.jit.callees import Helper as Helper
from imgconv.jit.callees import Part as Part
from imgconv.jit.callees import helper as helper
from imgconv.typing import Dtype

Built = tuple[str, Callable[..., None]]

_CTYPES: dict[str, Any] = {
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "u32": ctypes.c_uint32,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
DTYPES: dict[str, Dtype] = {
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "u32": np.dtype(np.uint32),
    "i64": np.dtype(np.int64),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
}
ELEMENT_NAMES = {dtype: name for name, dtype in DTYPES.items()}
DISJOINT = "disjoint "
_lock = threading.RLock()


class Function:
    """Machine code as a function of arrays, numbers and records."""

    def __init__(self, address: int, words: list[str]) -> None:
        self._words = words
        self._kinds = record.flat(words)
        self._function = c_function(address, self._kinds)
        self._address = address
        self._expected = [_expected(word) for word in words]

    def __call__(self, *arguments: Any) -> None:
        self._check(len(arguments))
        values = self._values(0, arguments)
        noted = capture.current()
        if noted is None:
            self._function(*values)
        else:
            noted.call(self._address, self._kinds, values, _owners(arguments))

    def fix(self, *leading: Any) -> Callable[..., None]:
        """The function of the other arguments: an array's address takes a microsecond to get."""
        values = self._values(0, leading)
        function, count = self._function, len(leading)

        def call(*rest: Any) -> None:
            self._check(count + len(rest))
            every = [*values, *self._values(count, rest)] if rest else values
            noted = capture.current()
            if noted is None:
                function(*every)
            else:
                noted.call(self._address, self._kinds, every, _owners((*leading, *rest)))

        call.arrays = leading  # type: ignore[attr-defined]
        return call

    def _check(self, count: int) -> None:
        if count != len(self._words):
            raise TypeError(f"loop takes {len(self._words)} arguments ({self._words}), got {count}")

    def _values(self, first: int, arguments: tuple[Any, ...]) -> list[Any]:
        """Arrays as addresses, records as their fields, from argument `first` on."""
        return _numbers(self._expected[first:], arguments)


def c_function(address: int, kinds: Sequence[str]) -> Callable[..., None]:
    """Machine code as a function of numbers and addresses."""
    types = [ctypes.c_void_p if kind.endswith("*") else _CTYPES[kind] for kind in kinds]
    return ctypes.CFUNCTYPE(None, *types)(address)


def _expected(word: str) -> Any:
    """The dtype of an argument that is an array, None of a number.

    Of a record a list of these, empty where it has numbers alone.
    """
    cls = record.named(word)
    if word.endswith("*"):
        return record.dtype_of(cls) if cls else DTYPES[word[:-1]]
    fields = [_expected(kind) for kind in record.kinds(cls)] if cls else None
    if fields and all(field is None for field in fields):
        return []
    return fields


def _owners(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What has to live as long as a recorded call: arguments and records' fields."""
    fields = (each if isinstance(each, tuple) else (each,) for each in arguments)
    return tuple(owner for owners in fields for owner in owners)


def _numbers(expected: list[Any], arguments: tuple[Any, ...]) -> list[Any]:
    values = []
    for dtype, argument in zip(expected, arguments, strict=False):
        if dtype is None or argument is None or type(argument) is int:
            values.append(argument)
        elif type(dtype) is list:
            # A record; most have numbers alone.
            values += _numbers(dtype, argument) if dtype else argument
        elif argument.dtype is not dtype and argument.dtype != dtype:  # a record's takes long
            raise TypeError(f"loop expects {dtype}*, got an array of {argument.dtype}")
        else:
            values.append(address(argument))
    return values


_byte_of = ctypes.c_char.from_buffer


def address(array: Any) -> int:
    """Where an array begins, which loops take in its place; the caller keeps it and its dtype."""
    try:
        return ctypes.addressof(_byte_of(array))
    except (TypeError, ValueError):  # read-only, empty, with gaps: takes four times as long
        return int(array.__array_interface__["data"][0])


class Loop:
    """A builder of compiled loops; calling it with constants gives the loop for them."""

    registry: list["Loop"] = []  # noqa: RUF012 - filled by the decorator, read by warmup

    def __init__(self, builder: Callable[..., Built]) -> None:
        self.builder = builder
        self.name = f"{builder.__module__}.{builder.__qualname__}"
        self._ready: dict[tuple[Any, ...], Function] = {}
        functools.update_wrapper(self, builder)
        Loop.registry.append(self)

    def __call__(self, *constants: Any) -> Function:
        ready = self._ready.get(constants)
        if ready is None:
            with _lock:
                ready = self._ready.get(constants)
                if ready is None:
                    ready = self._ready[constants] = self._load(constants)
        return ready

    def part(self, *constants: Any) -> Part:
        """The loop for these constants as what other loops' bodies call."""

        def compiled() -> tuple[str, str]:
            signature = self.builder(*constants)[0]
            self(*constants)
            symbol = cache.symbol(self._identity(constants, signature))
            return signature.removeprefix(DISJOINT), symbol

        return Part(self.name, compiled)

    def kept(self, constants: tuple[Any, ...]) -> bool:
        """Whether the store has the loop for these constants."""
        return cache.has(self._identity(constants, self.builder(*constants)[0]))

    def _identity(self, constants: tuple[Any, ...], signature: str) -> str:
        return f"{self.name}{constants!r}:{record.spelled(signature)}"

    def _load(self, constants: tuple[Any, ...]) -> Function:
        signature, body = self.builder(*constants)

        def compiled() -> tuple[str, str]:
            ours = "numba" not in sys.modules
            from imgconv.jit import compiling

            if ours:
                compiling.widen()
            return compiling.compile_ir(
                signature.removeprefix(DISJOINT), body, signature.startswith(DISJOINT)
            )

        address = cache.load(self._identity(constants, signature), compiled)
        return Function(address, signature.removeprefix(DISJOINT).split())


class Wanted(NamedTuple):
    """A loop and its constants, as a list of what a task is going to need names it."""

    loop: Loop
    constants: tuple[Any, ...]

    def load(self) -> Function:
        """The loop, compiled if it is not yet."""
        return self.loop(*self.constants)

    def is_stored(self) -> bool:
        """Whether the store has it."""
        return self.loop.kept(self.constants)


def loop(builder: Callable[..., Built]) -> Loop:
    """Decorate a builder; see the module's text."""
    return Loop(builder)


@functools.cache
def caster(element: str) -> Helper:
    """A helper that converts a float to `element`: integers round half to even and saturate.

    NaN becomes 0 in an integer.
    """
    if element == "f32":
        return Helper(lambda value: np.float32(value))
    if element == "f64":
        return Helper(lambda value: np.float64(value))
    bounds = np.iinfo(DTYPES[element])
    low, high = float(bounds.min), float(bounds.max)
    scalar = DTYPES[element].type

    # float32 has no number between 2³¹ − 128 and 2³¹.
    wide = element in ("i32", "u32")

    def cast(value):  # type: ignore[no-untyped-def]
        value = np.float64(value) if wide else value
        value = value if value == value else type(value)(0)
        value = value if value < high else type(value)(high)
        value = value if value > low else type(value)(low)
        return scalar(np.rint(value))

    return Helper(cast)
