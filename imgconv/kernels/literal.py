"""A kernel as one text that stands for itself: a preset's name, or its numbers as JSON.

`{"weights": [[0, 1], [1, 0]], "divisor": 2}` is what a JSON kernel file holds, with a name. Every
float comes back as it was: JSON takes Python's shortest digits that do so.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from imgconv.errors import KernelError
from imgconv.kernels.kernel import Kernel, once
from imgconv.typing import JSON

_KEYS = ("name", "weights", "bias", "divisor", "combine", "scale", "labels", "anchor")


Nested: TypeAlias = "float | list[Nested]"


def spelled(kernel: Kernel) -> str:
    """The text of a kernel as it was loaded, from which `get_kernel` makes the same one."""
    if kernel.named:
        return kernel.source
    count, depth = kernel.weights.shape[:2]
    weights = kernel.weights if depth > 1 else kernel.weights[:, 0] if count > 1 else (
        kernel.weights[0, 0]
    )  # fmt: skip
    table: dict[str, JSON] = {"name": kernel.name, "weights": _numbers(weights.tolist())}
    if kernel.bias is not None:
        table["bias"] = _numbers(kernel.bias.tolist())
    if kernel.divisor != 1:
        table["divisor"] = _numbers(kernel.divisor)
    if kernel.combine != "none":
        table["combine"] = kernel.combine
    if kernel.scale != "clip":
        table["scale"] = kernel.scale
    if kernel.labels != tuple(map(str, range(count if count > 1 else 0))):
        table["labels"] = list(kernel.labels)
    if kernel.anchor is not None:
        table["anchor"] = list(kernel.anchor)
    # A bar ends a chain's step.
    return json.dumps(table, separators=(",", ":")).replace("|", "\\u007c")


def _numbers(values: Nested) -> JSON:
    """Nested floats, whole ones as integers: 1 for 1.0."""
    if isinstance(values, list):
        return [_numbers(value) for value in values]
    whole = values.is_integer() and abs(values) < 1 << 53
    negative_zero = values == 0 and math.copysign(1, values) < 0
    return int(values) if whole and not negative_zero else values


def parse_literal(text: str) -> Kernel:
    """Return the kernel of a JSON object. Raises KernelError naming what was expected."""
    from imgconv.kernels.presets import build
    from imgconv.ops.epilogue import COMBINE_RULES

    try:
        table = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise KernelError(f"kernel: not a JSON object: {error}") from None
    if not isinstance(table, dict) or "weights" not in table or set(table) - set(_KEYS):
        raise KernelError(f"kernel: expected a JSON object of weights and {', '.join(_KEYS)}")
    name = table.pop("name", "kernel")
    texts = [name, table.get("combine", ""), table.get("scale", ""), *_list(table, "labels")]
    divisor = table.get("divisor", 1)
    if not all(isinstance(text, str) for text in texts) or not isinstance(divisor, (int, float)):
        raise KernelError("kernel: expected texts for name, combine, scale and labels")
    try:
        kernel = build(name, {name: table})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise KernelError(f"kernel: {error} cannot be used") from None
    if not math.isfinite(kernel.divisor):
        raise KernelError(f"kernel: divisor={kernel.divisor}, expected a finite number")
    if kernel.combine not in COMBINE_RULES:
        raise KernelError(
            f"kernel: combine={kernel.combine}, expected one of {', '.join(COMBINE_RULES)}"
        )
    return replace(kernel, source="kernel")


def _list(table: Mapping[str, object], key: str) -> list[object]:
    found = table.get(key, [])
    if not isinstance(found, list):
        raise KernelError(f"kernel: {key}, expected a list")
    return found
