"""One node of an ONNX model as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Operation:
    """One node: its operator, and its operands' and results' names, '' for what is left out."""

    kind: str
    name: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"{self.kind} (node {self.name})"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The operands that are given."""
        return tuple(filter(None, self.operands))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The results that have a name."""
        return tuple(filter(None, self.results))
