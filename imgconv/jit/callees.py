"""What the bodies of loops may call: Python functions, and other loops."""

import functools
from collections.abc import Callable
from typing import Any


class Helper:
    """A Python function that compiled bodies may call; Numba inlines it when they compile."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def helper(function: Callable[..., Any]) -> Helper:
    """Mark a function as callable from compiled bodies."""
    return Helper(function)


class Part:
    """A loop that the bodies of other loops call, compiled once for all of them (`Loop.part`).

    compiled: compiles it if it is not yet and returns (the arguments' types, its name for LLVM).
    """

    def __init__(self, name: str, compiled: Callable[[], tuple[str, str]]) -> None:
        self.name, self.compiled = name, compiled

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(f"{self.name}: a part can only be called from a loop's body")
