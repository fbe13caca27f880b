"""A pickle machine that builds containers, numbers, text and tensors, and calls nothing else.

Python's own unpickler imports and calls whatever a pickle names. This one has no way to: a name is
looked up in a table of exact (module, name) pairs whose values are functions of this package, and
only those are ever called. `pickletools` splits the bytes into operations and runs none of them.
"""

import io
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imgconv.errors import ModelError

# ResNet-152's state dictionary takes 33,000 operations.
MAX_OPERATIONS = 1_000_000
_SHOWN = 120
ADVICE = "torch.save(model.state_dict(), FILE) where it came from makes a file that is read"


@dataclass(frozen=True)
class Constructor:
    """What a name in the table stands for where a pickle calls it: a function of ours."""

    name: str
    make: Callable[..., object]


def shown(text: object) -> str:
    """What a message shows of a name in a file."""
    words = str(text)
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


_VALUES = frozenset([
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
])  # fmt: skip
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Hashing any of these takes time in proportion to its size; a tuple of tuples can take forever.
KEYS = (str, int, float, type(None))


class Unpickler:
    """Reads pickles from a file.

    Parameters
    ----------
    file
        The pickles, in memory: lengths in it are claims.
    source
        How messages name the file.
    names
        (module, name) → a `Constructor`, or a value that stands for the name.
    persistent
        Makes an object of a persistent id, which is any value; raises ModelError, ValueError.

    """

    def __init__(
        self, file: io.BytesIO, source: str, names: Mapping[tuple[str, str], object],
        persistent: Callable[[object], object],
    ) -> None:  # fmt: skip
        self.file, self.source, self.names, self.persistent = file, source, names, persistent
        self.remaining = MAX_OPERATIONS
        self.memo: dict[object, object] = {}
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.operations: dict[str, Callable[[], object]] = {
            "MARK": lambda: self.marks.append(len(self.stack)), "POP": self._pop_any,
            "POP_MARK": self._since_mark, "DUP": self._duplicate,
            "LIST": lambda: self.stack.append(self._since_mark()),
            "TUPLE": lambda: self.stack.append(tuple(self._since_mark())),
            "DICT": lambda: self.stack.append(self._with_items({}, self._since_mark())),
            "APPEND": lambda: self._extend([self._pop()]),
            "APPENDS": lambda: self._extend(self._since_mark()),
            "SETITEM": lambda: self._set_items([self._pop(), self._pop()][::-1]),
            "SETITEMS": lambda: self._set_items(self._since_mark()),
            "MEMOIZE": lambda: self.memo.update({len(self.memo): self._top()}),
            "STACK_GLOBAL": self._stack_global, "REDUCE": self._reduce, "BUILD": self._build,
            "BINPERSID": lambda: self.stack.append(self.persistent(self._pop())),
        }  # fmt: skip

    def load(self) -> object:
        """Return the next pickle's object. Raises ModelError for anything else than plain data."""
        self.memo, self.stack, self.marks = {}, [], []
        try:
            for opcode, argument, _ in pickletools.genops(self.file):
                self.remaining -= 1
                if self.remaining < 0:
                    raise self._broken(f"more than {MAX_OPERATIONS:,} operations")
                if opcode.name == "STOP":
                    return self._pop()
                self._run(opcode.name, argument)
        except (ValueError, OverflowError, struct.error) as error:
            raise self._broken(shown(error)) from None
        raise self._broken("it has no end")

    def _run(self, name: str, argument: object) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            items = [self._pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(items[::-1]))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = self._top()
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            if argument not in self.memo:
                raise self._broken(f"memo {shown(argument)} was never set")
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            self.stack.append(self._named(module, attribute))
        elif name == "INST":
            module, _, attribute = str(argument).partition(" ")
            self._named(module, attribute)
            raise self._refused(f"makes an instance of {module}.{attribute}")
        elif name in self.operations:
            self.operations[name]()
        elif name not in ("PROTO", "FRAME"):
            raise self._refused(f"has the operation {name}")

    def _pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self._broken("an operation lacks its operands")
        return self.stack.pop()

    def _pop_any(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self._pop()

    def _top(self) -> object:
        value = self._pop()
        self.stack.append(value)
        return value

    def _duplicate(self) -> None:
        self.stack.append(self._top())

    def _since_mark(self) -> list[object]:
        if not self.marks:
            raise self._broken("an operation lacks its mark")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _extend(self, items: list[object]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise self._refused(f"appends to a {type(target).__name__}")
        target.extend(items)

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        if not isinstance(target, dict):
            raise self._refused(f"sets items of a {type(target).__name__}")
        self._with_items(target, items)

    def _with_items(self, target: dict[object, object], items: list[object]) -> object:
        if len(items) % 2:
            raise self._broken("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, KEYS):
                raise self._refused(f"has a {type(key).__name__} as a key")
            target[key] = value
        return target

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self._broken("a name that is no text")
        self.stack.append(self._named(module, name))

    def _named(self, module: str, name: str) -> object:
        """What the table has for a name. The pair is compared whole: no attribute is looked up."""
        try:
            return self.names[module, name]
        except KeyError:
            raise self._refused(f"names {shown(f'{module}.{name}')}") from None

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Constructor):
            raise self._refused(f"calls a {type(function).__name__}")
        if not isinstance(arguments, tuple):
            raise self._broken(f"{function.name} with {type(arguments).__name__}, expected a tuple")
        try:
            self.stack.append(function.make(*arguments))
        except TypeError:
            count = len(arguments)
            raise self._broken(f"{function.name} does not take these {count} arguments") from None

    def _build(self) -> None:
        """An OrderedDict's attributes (`_metadata`: versions of modules) are passed over."""
        state, target = self._pop(), self._top()
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise self._refused(f"sets the state of a {type(target).__name__}")

    def _broken(self, what: str) -> ModelError:
        return ModelError(f"{self.source}: broken checkpoint: {what}")

    def _refused(self, what: str) -> ModelError:
        return ModelError(
            f"{self.source}: its pickle {what}; only tensors in plain containers are read, and "
            f"nothing was called: {ADVICE}"
        )
