"""Starting NumPy without what only documents and annotates it.

Of the 50 ms of `import numpy`, 6 attach docstrings to compiled functions and 7 make types that
nothing asks for at run time but in annotations. The modules that do it are found as ever, but run
only when something else is asked of them than stands here.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Array:
    """Stands for NDArray in annotations."""

    def __class_getitem__(cls, item: Any) -> type:
        return cls


_TYPES = {"NDArray": _Array, "ArrayLike": object, "DTypeLike": object}
_LATER: dict[str, Mapping[str, Any]] = {
    "numpy._core._add_newdocs": {},
    "numpy._core._add_newdocs_scalars": {},
    "numpy._typing": _TYPES,
    "numpy.typing": _TYPES,
}
_lock = threading.RLock()


class _Later:
    """Gives a module the names that it stands in for, and runs it when asked for another.

    Not an `importlib.abc.Loader`, whose module takes 10 ms to import.
    """

    def __init__(self, usual: Any, names: Mapping[str, Any]) -> None:
        self._usual, self._names = usual, names

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(self._names)
        module.__dict__["__getattr__"] = lambda name: self._asked(module, name)

    def _asked(self, module: ModuleType, name: str) -> Any:
        with _lock:
            if module.__dict__.pop("__getattr__", None):
                self._usual.exec_module(module)
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
