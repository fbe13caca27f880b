"""What the names in a checkpoint's pickle stand for: tensors, their storages, and plain values.

Constructors raise ValueError for arguments that no tensor has; the unpickler names the file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from imgconv.nn.checkpoint.unpickler import KEYS, Constructor, shown
from imgconv.nn.layers import Shape
from imgconv.nn.stored import Stored
from imgconv.typing import Array, Dtype

MAX_RANK = 32
_LARGEST = (1 << 63) - 1


class Kind(NamedTuple):
    """A type of numbers: PyTorch's name, NumPy's code, and that of the numbers that come out."""

    name: str
    code: str
    result: str


def _kind(name: str, code: str, result: str = "") -> Kind:
    return Kind(name, code, result or code)


# bfloat16 is the upper half of a float32, which NumPy has no type for.
_KINDS = {
    "FloatStorage": _kind("float32", "f4"), "DoubleStorage": _kind("float64", "f8"),
    "HalfStorage": _kind("float16", "f2"), "BFloat16Storage": _kind("bfloat16", "u2", "f4"),
    "LongStorage": _kind("int64", "i8"), "IntStorage": _kind("int32", "i4"),
    "ShortStorage": _kind("int16", "i2"), "CharStorage": _kind("int8", "i1"),
    "ByteStorage": _kind("uint8", "u1"), "BoolStorage": _kind("bool", "?"),
    "ComplexFloatStorage": _kind("complex64", "c8"),
    "ComplexDoubleStorage": _kind("complex128", "c16"),
    "UntypedStorage": _kind("uint8", "u1"),
}  # fmt: skip
_DTYPES = {kind.name: kind for kind in _KINDS.values()} | {
    f"uint{bits}": _kind(f"uint{bits}", f"u{bits // 8}") for bits in (16, 32, 64)
}
_DTYPES |= {"float": _DTYPES["float32"], "half": _DTYPES["float16"], "long": _DTYPES["int64"]}


@dataclass(frozen=True)
class Storage:
    """The numbers that tensors share: `numel` of a kind.

    read: (byte offset, bytes) → those bytes of the storage. order: of bytes, "<" or ">".
    """

    kind: Kind
    numel: int
    read: Callable[[int, int], Array]
    order: str = "<"


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: where its first number lies, and how far apart the others are."""

    storage: Storage
    kind: Kind
    offset: int
    shape: Shape
    stride: Shape

    def stored(self) -> Stored:
        """The tensor as an array of a weights file."""
        return Stored(self.shape, np.dtype(self.kind.result), self.load)

    def load(self) -> Array:
        """The numbers: as they lie where they are in a row, else a copy."""
        kind = self.kind
        dtype: Dtype = np.dtype(self.storage.order + kind.code)
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        count = last + 1 if 0 not in self.shape else 0
        data = self.storage.read(self.offset * dtype.itemsize, count * dtype.itemsize)
        strides = tuple(step * dtype.itemsize for step in self.stride)
        array: Array = np.ndarray(self.shape, dtype, data, 0, strides)
        if kind.name == "bfloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        native = array.dtype.newbyteorder("=")
        return np.require(array, native, ["C", "A"]).reshape(self.shape)


def width_of(kind: Kind) -> int:
    """Bytes of a number."""
    return np.dtype(kind.code).itemsize


def whole(value: object, what: str) -> int:
    """A whole number from 0. Raises ValueError."""
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError(f"{what} of {shown(type(value).__name__)}, expected a whole number from 0")
    return value


def _sizes(value: object, what: str) -> Shape:
    if not isinstance(value, tuple) or len(value) > MAX_RANK:
        raise ValueError(f"a tensor's {what}, expected a tuple of at most {MAX_RANK} numbers")
    return tuple(whole(number, f"a tensor's {what}") for number in value)


def _tensor(
    storage: object, offset: object, size: object, stride: object, kind: Kind | None = None
) -> Tensor:
    """torch._utils._rebuild_tensor: every number of the tensor must lie in its storage."""
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor in a {type(storage).__name__}, expected a storage")
    kind, start = kind or storage.kind, whole(offset, "a tensor's offset")
    shape, steps = _sizes(size, "size"), _sizes(stride, "stride")
    if len(shape) != len(steps):
        raise ValueError(f"a tensor with {len(shape)} sizes and {len(steps)} strides")
    last = start + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    room = storage.numel * width_of(storage.kind) // width_of(kind)
    if 0 not in shape and last >= room:
        raise ValueError(f"a tensor of {list(shape)} ends at number {last}, its storage has {room}")
    return Tensor(storage, kind, start, shape, steps)


def _tensor_v2(
    storage: object, offset: object, size: object, stride: object, requires_grad: object,
    hooks: object, metadata: object = None,
) -> Tensor:  # fmt: skip
    return _tensor(storage, offset, size, stride)


def _tensor_v3(
    storage: object, offset: object, size: object, stride: object, requires_grad: object,
    hooks: object, kind: object, metadata: object = None,
) -> Tensor:  # fmt: skip
    """As v2, in a storage of bytes that says nothing of their type."""
    if not isinstance(kind, Kind):
        raise ValueError(f"a tensor of {type(kind).__name__}, expected a type of numbers")
    return _tensor(storage, offset, size, stride, kind)


def _parameter(data: object, requires_grad: object, hooks: object, state: object = None) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError(f"a parameter of a {type(data).__name__}, expected a tensor")
    return data


def _ordered_dict(items: object = ()) -> dict[object, object]:
    """An OrderedDict is pickled empty and filled afterwards; by Python 2, with a list of pairs."""
    pairs = items if isinstance(items, list | tuple) else [()]
    found: dict[object, object] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], KEYS):
            raise ValueError("an OrderedDict of something else than pairs of a name and a value")
        found[pair[0]] = pair[1]
    return found


def _names() -> dict[tuple[str, str], object]:
    """Every name that a pickle may use, and what it stands for. Nothing else has a meaning."""
    made: dict[tuple[str, str], Callable[..., object]] = {
        ("collections", "OrderedDict"): _ordered_dict,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch", "Size"): lambda sizes: _sizes(tuple(sizes), "size"),
        ("torch", "device"): lambda kind, index=None: None,
    }
    names: dict[tuple[str, str], object] = {
        key: Constructor(".".join(key), make) for key, make in made.items()
    }
    for module in ("torch", "torch.cuda", "torch.storage"):
        names |= {(module, name): kind for name, kind in _KINDS.items()}
    return names | {("torch", name): kind for name, kind in _DTYPES.items()}


NAMES = _names()
