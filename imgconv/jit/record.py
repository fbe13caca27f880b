"""Records: named numbers as one argument of a loop.

A record is a NamedTuple that a loop's signature names. By itself its fields are arguments one by
one, and the body reads the NamedTuple; what bodies call may be given one that they put together.
With `*` it is the address of an array of records in memory (`array`), whose first the body reads
by name, and others by index:

    @record
    class Plane(NamedTuple):
        rows: int
        pitch: int

    @loop
    def scale_plane() -> Built:
        def body(out, plane, gains):
            for y in range(plane.rows):
                out[y * plane.pitch] *= gains[y].gain
        return "f32* Plane Gain*", body

Fields are `int`, a loop's i64, and `float`, its f32; `Annotated[T, "f64"]` is another kind, and
`Annotated[T, "f32*"]` a pointer, where the record stays out of memory.
"""

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from imgconv.typing import Dtype

Record = TypeVar("Record", bound=type)

_records: dict[str, Any] = {}
_KINDS = {int: "i64", float: "f32"}
_DTYPES = {"i64": np.int64, "f32": np.float32, "f64": np.float64, "i32": np.int32}


def record(cls: Record) -> Record:
    """Let signatures name a NamedTuple; no two records have the same name."""
    known = _records.get(cls.__name__, cls)
    if known.__module__ != cls.__module__:
        raise TypeError(f"record {cls.__name__}: {known.__module__} has one of that name")
    _records[cls.__name__] = cls
    return cls


def named(word: str) -> Any:
    """The record that a signature's word names, by itself or as a pointer; None for others."""
    return _records.get(word.removesuffix("*"))


def kinds(cls: Any) -> list[str]:
    """The kind of each field."""
    found = (cls.__annotations__[name] for name in cls._fields)
    return [_KINDS.get(kind) or kind.__metadata__[0] for kind in found]


def flat(words: Sequence[str]) -> list[str]:
    """A signature's words as arguments one by one."""
    return [
        kind for word in words
        for kind in (kinds(named(word)) if word in _records else [word])
    ]  # fmt: skip


def spelled(signature: str) -> str:
    """A signature with its records' fields: two that differ are two loops of the store."""
    return " ".join(
        f"{word}({' '.join(map(' '.join, zip(cls._fields, kinds(cls), strict=True)))})"
        if (cls := named(word)) else word
        for word in signature.split()
    )  # fmt: skip


@functools.cache
def dtype_of(cls: Any) -> Dtype:
    """How a record stands in memory, as C would put it there."""
    fields = zip(cls._fields, kinds(cls), strict=True)
    return np.dtype([(name, _DTYPES[kind]) for name, kind in fields], align=True)


def array(*records: Any) -> npt.NDArray[np.void]:
    """Records of one kind in memory, for a loop's argument with `*`."""
    cls: Any = type(records[0])
    return np.array([*records], dtype_of(cls))
