"""Operators on sequences of tensors, which are lists of names once shapes are known.

Source: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

from collections.abc import Callable

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.layers import Shape
from imgconv.nn.onnx.operation import Operation
from imgconv.typing import Array

KINDS = ("SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceAt",
         "SequenceLength", "SplitToSequence", "ConcatFromSequence")  # fmt: skip
MOST = 10_000  # elements of a sequence


class Sequences:
    """Which values each sequence holds. constant, shape: those of a value by its name."""

    def __init__(
        self, constant: Callable[[str], Array | None], shape: Callable[[str], Shape]
    ) -> None:
        self.held: dict[str, tuple[str, ...]] = {}
        self._constant, self._shape = constant, shape

    def steps(self, operation: Operation) -> list[Operation]:
        """What an operation on a sequence does to tensors. Raises ModelError."""
        names, (result,) = operation.operands, operation.results
        kind, given = operation.kind, operation.attributes
        if kind in ("SequenceEmpty", "SequenceConstruct"):
            self.held[result] = names
            return []
        if kind == "SplitToSequence":
            return self._split(operation)
        parts = self.held.get(names[0])
        if parts is None:
            raise ModelError(f"{names[0]!r} is no sequence whose elements are known")
        if kind in ("SequenceInsert", "SequenceErase"):
            new = names[1:2] if kind == "SequenceInsert" else ()
            at = self._number(names, 1 + len(new), len(parts) - (not new) * 1)
            at = at + len(parts) if at < 0 else at
            if not 0 <= at <= len(parts) - (not new):
                raise ModelError(f"position {at} of {len(parts)} elements")
            self.held[result] = (*parts[:at], *new, *parts[at + (not new) :])
            return []
        if kind == "SequenceLength":
            count = np.array(len(parts), np.int64)
            return [Operation("Constant", operation.name, (), (result,), {"value": count})]
        if kind == "SequenceAt":
            at = self._number(names, 1, 0)
            if not -len(parts) <= at < len(parts):
                raise ModelError(f"position {at} of {len(parts)} elements")
            return [Operation("Identity", operation.name, (parts[at],), (result,))]
        axis = given.get("axis")
        if not isinstance(axis, int) or not parts:
            raise ModelError(f"axis={axis} of {len(parts)} elements, expected both")
        return self._joined(operation, parts, axis, bool(given.get("new_axis", 0)))

    def _number(self, names: tuple[str, ...], place: int, default: int) -> int:
        """A position, which must not depend on the image."""
        if len(names) <= place or not names[place]:
            return default
        found = self._constant(names[place])
        if found is None or found.size != 1:
            raise ModelError("its position depends on the image, expected a constant")
        return int(found.reshape(-1)[0])

    def _joined(
        self, operation: Operation, parts: tuple[str, ...], axis: int, new: bool
    ) -> list[Operation]:
        steps = []
        if new:
            count = len(self._shape(parts[0])) + 1
            axis = axis + count if axis < 0 else axis
            made = [f"{operation.name}:{number}" for number in range(len(parts))]
            steps = [
                Operation("Unsqueeze", name, (part,), (name,), {"axes": [axis]})
                for name, part in zip(made, parts, strict=True)
            ]
            parts = tuple(made)
        return [
            *steps,
            Operation("Concat", operation.name, parts, operation.results, {"axis": axis}),
        ]

    def _split(self, operation: Operation) -> list[Operation]:
        names, (result,) = operation.operands, operation.results
        shape, given = self._shape(names[0]), operation.attributes
        axis = int(given.get("axis", 0))
        if not -len(shape) <= axis < len(shape):
            raise ModelError(f"axis {axis} of {len(shape)} axes")
        size = shape[axis]
        if size > MOST:
            raise ModelError(f"axis {axis} of length {size}, expected at most {MOST}")
        sizes, drop = [1] * size, not given.get("keepdims", 1)
        if len(names) > 1 and names[1]:
            wanted = self._constant(names[1])
            if wanted is None:
                raise ModelError("its split depends on the image, expected a constant")
            drop = False
            if wanted.ndim:
                sizes = [int(n) for n in wanted]
            else:
                each = int(wanted)
                if each < 1:
                    raise ModelError(f"split {each}, expected 1 or more")
                sizes = [min(each, size - start) for start in range(0, size, each)]
        if not sizes:
            raise ModelError(f"no elements of an input {shape}, expected some")
        made = tuple(f"{result}:{number}" for number in range(len(sizes)))
        self.held[result] = made
        whole = tuple(f"{name}:whole" for name in made) if drop else made
        split = {"axis": axis, "split": sizes}
        return [
            Operation("Split", operation.name, names[:1], whole, split),
            *(
                Operation("Squeeze", name, (part,), (name,), {"axes": [axis]})
                for name, part in zip(made, whole, strict=True)
                if drop
            ),
        ]
