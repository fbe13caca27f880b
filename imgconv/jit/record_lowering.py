"""Records in memory as a type of Numba: `plane.rows`, `planes[i].rows`, and the same assigned to.

Numba's own records are bytes without alignment, and pointers to them cannot be indexed.
"""

import operator
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    infer_getattr,
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    models,
    register_model,
    type_callable,
)

from imgconv.jit import record

SCALARS = {
    "u8": types.uint8, "u16": types.uint16, "i16": types.int16, "i32": types.int32,
    "u32": types.uint32, "i64": types.int64, "f32": types.float32, "f64": types.float64,
}  # fmt: skip


class RecordPointer(types.Type):  # type: ignore[misc]
    """A pointer to records in memory."""

    def __init__(self, cls: Any) -> None:
        self.fields = dict(zip(cls._fields, map(type_of, record.kinds(cls)), strict=True))
        super().__init__(f"RecordPointer({cls.__name__}, {self.fields})")


def type_of(word: str) -> Any:
    """Numba's type of a word of a loop's signature."""
    cls = record.named(word)
    if cls and word.endswith("*"):
        return RecordPointer(cls)
    if cls:
        return types.BaseTuple.from_types([*map(type_of, record.kinds(cls))], cls)
    return types.CPointer(SCALARS[word[:-1]]) if word.endswith("*") else SCALARS[word]


@register_model(RecordPointer)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: RecordPointer) -> None:
        record = manager.lookup(types.Tuple([*kind.fields.values()])).get_data_type()
        super().__init__(manager, kind, record.as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):  # type: ignore[misc]
    key = RecordPointer

    def generic_resolve(self, kind: Any, name: str) -> Any:
        return kind.fields.get(name)


def _place(builder: Any, kind: Any, pointer: Any, name: str) -> Any:
    return cgutils.gep_inbounds(builder, pointer, 0, list(kind.fields).index(name))


@lower_getattr_generic(RecordPointer)  # type: ignore[untyped-decorator]
def _get(context: Any, builder: Any, kind: Any, pointer: Any, name: str) -> Any:
    return builder.load(_place(builder, kind, pointer, name))


@lower_setattr_generic(RecordPointer)  # type: ignore[untyped-decorator]
def _set(context: Any, builder: Any, signature: Any, arguments: Any, name: str) -> None:
    kind, given = signature.args
    pointer, value = arguments
    value = context.cast(builder, value, given, kind.fields[name])
    builder.store(value, _place(builder, kind, pointer, name))


@type_callable(operator.getitem)  # type: ignore[untyped-decorator]
def _item(context: Any) -> Any:
    def typed(pointer: Any, index: Any) -> Any:
        indexed = isinstance(pointer, RecordPointer) and isinstance(index, types.Integer)
        return pointer if indexed else None

    return typed


@lower_builtin(operator.getitem, RecordPointer, types.Integer)  # type: ignore[untyped-decorator]
def _get_item(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    pointer, index = arguments
    index = context.cast(builder, index, signature.args[1], types.int64)
    return builder.gep(pointer, [index])
