"""Starting NumPy without its documentation.

A tenth of `import numpy` attaches docstrings to compiled functions, which no command shows. The
modules that do it are found as ever but run only once something is asked of them.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

_DOCUMENTATION = ("numpy._core._add_newdocs", "numpy._core._add_newdocs_scalars")


class _Later:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _DOCUMENTATION:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def skip_documentation() -> None:
    """Let a later `import numpy` in this process leave its docstrings out."""
    sys.meta_path.insert(0, _Later())
