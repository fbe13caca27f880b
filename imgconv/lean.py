"""Starting without what only documents, annotates or is never asked for.

Of the 50 ms of `import numpy`, 6 attach docstrings to compiled functions and 7 make types that
nothing asks for at run time but in annotations. Click and NumPy import `inspect` to tidy
docstrings, and `ast`, `pickle` and `textwrap` for functions that hardly anybody calls: 5 ms. These
modules are found as ever, but run only when something else is asked of them than stands here.
"""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Array:
    """Stands for NDArray in annotations."""

    def __class_getitem__(cls, item: Any) -> type:
        return cls


def _cleandoc(doc: str) -> str:
    """`inspect.cleandoc`."""
    lines = doc.expandtabs().split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()), default=0)
    lines = [lines[0].lstrip(), *(line[margin:] for line in lines[1:])]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return "\n".join(lines)


def _signature(*arguments: Any, **options: Any) -> Any:
    """`inspect.signature`; functions that NumPy wraps get theirs when `inspect` runs."""
    asking = sys._getframe(1)
    wrapped = asking.f_locals.get("public_api")
    if wrapped is not None and asking.f_globals.get("__name__") == "numpy._core.overrides":
        _unsigned.append((wrapped, arguments[0]))
        return None
    module = sys.modules["inspect"]
    module.Signature  # noqa: B018 - runs the module, which replaces this function
    return module.signature(*arguments, **options)


def _sign(inspect: ModuleType) -> None:
    while _unsigned:
        wrapped, like = _unsigned.pop()
        wrapped.__signature__ = inspect.signature(like)


_unsigned: list[tuple[Any, Any]] = []
_TYPES = {"NDArray": _Array, "ArrayLike": object, "DTypeLike": object}
_LATER: dict[str, Mapping[str, Any]] = {
    "numpy._core._add_newdocs": {},
    "numpy._core._add_newdocs_scalars": {},
    "numpy._typing": _TYPES,
    "numpy.typing": _TYPES,
    "ast": {},
    "tokenize": {},
    "inspect": {"cleandoc": _cleandoc, "signature": _signature},
    "pickle": {},
    "textwrap": {},
}
_lock = threading.RLock()


class _Later:
    """Gives a module the names that it stands in for, and runs it when asked for another.

    Not an `importlib.abc.Loader`, whose module takes 10 ms to import.
    """

    def __init__(self, usual: Any, names: Mapping[str, Any]) -> None:
        self._usual, self._names = usual, names
        self._hook: Callable[[str], Any] | None = None
        self._running = False

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(self._names)
        self._hook = module.__dict__["__getattr__"] = lambda name: self._asked(module, name)

    def _asked(self, module: ModuleType, name: str) -> Any:
        with _lock:  # another thread waits until all names are there
            if self._running:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            ours = module.__dict__.get("__getattr__")
            if ours is not None and ours is self._hook:
                self._running = True
                try:
                    self._usual.exec_module(module)
                    if module.__name__ == "inspect":
                        _sign(module)
                finally:
                    self._running = False
                    if module.__dict__.get("__getattr__") is ours:
                        del module.__dict__["__getattr__"]
        return getattr(module, name)


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _LATER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Later(spec.loader, _LATER[name])  # type: ignore[assignment]
        return spec


def skip_documentation() -> None:
    """Let a later `import numpy` in this process leave docstrings and annotations out."""
    sys.meta_path.insert(0, _Finder())
