"""Names in a weights file, as the network has them: from where in a checkpoint, and by whom named.

Training wraps a model (`module.`, `_orig_mod.`) and puts its weights beside other things
(`state_dict`, `model`); timm names the parts of VGG and EfficientNet in its own way.
"""

import re
from collections.abc import Callable, Mapping

from imgconv.errors import ModelError
from imgconv.nn.graph import Graph
from imgconv.nn.stored import Stored

Note = Callable[[str], None]
Entries = dict[str, Stored]

# Where training scripts keep a model's weights, the likeliest first.
PLACES = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
    "state_dict_ema", "model_ema",
)  # fmt: skip
_DEPTH = 4
# What DataParallel and torch.compile put before every name, and Lightning's usual attribute.
WRAPPERS = ("module.", "_orig_mod.", "model.")


def state_dictionary(found: object, source: str, note: Note) -> Entries:
    """The tensors of a checkpoint by name, from where in it they are. Raises ModelError."""
    from imgconv.nn.checkpoint import Tensor, shown

    place: list[str] = []
    for _ in range(_DEPTH):
        if not isinstance(found, dict):
            raise ModelError(
                f"{source}: holds a {type(found).__name__}, expected tensors by their names"
            )
        inner = [key for key in PLACES if isinstance(found.get(key), dict) and found[key]]
        if not inner:
            break
        others = ", ".join(inner[1:])
        place.append(inner[0])
        if others:
            note(f"{source}: took {inner[0]!r}; it also holds {others}")
        found = found[inner[0]]
    tensors = {
        key: value.stored() for key, value in found.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    } if isinstance(found, dict) else {}  # fmt: skip
    if not tensors:
        keys = ", ".join(shown(key) for key in list(found)[:4]) if isinstance(found, dict) else ""
        raise ModelError(f"{source}: no tensors by their names, only {keys or 'nothing'}")
    if place:
        note(f"{source}: weights taken from {'.'.join(place)!r}")
    return tensors


def as_named(graph: Graph, entries: Entries, source: str, note: Note) -> Entries:
    """The arrays by the network's names: without wrappers' prefixes, and from timm's names.

    Names are left as they are where they are the network's, or nobody's known.
    """
    expected = graph.parameters()
    for prefix in _shared(entries, expected):
        entries = {key.removeprefix(prefix): entry for key, entry in entries.items()}
        note(f"{source}: took {prefix!r} off every name")
    renamed = from_timm(entries, expected)
    if renamed is not None:
        note(f"{source}: names are timm's, read as torchvision's")
        return renamed
    prefix = _prefix(entries, expected)
    if prefix:
        inner = {
            key.removeprefix(prefix): e for key, e in entries.items() if key.startswith(prefix)
        }
        others = len(entries) - len(inner)
        rest = f"; ignored the other {others}" if others else ""
        note(f"{source}: took {prefix!r} off the names{rest}")
        return inner
    return entries


def _shared(entries: Entries, expected: Mapping[str, object]) -> list[str]:
    """Wrappers' prefixes that all names begin with and the network's do not, from the left."""
    prefixes: list[str] = []
    names = list(entries)
    while names:
        for prefix in WRAPPERS:
            if all(name.startswith(prefix) for name in names):
                break
        else:
            break
        if any(name.startswith(prefix) for name in expected):
            break
        prefixes.append(prefix)
        names = [name.removeprefix(prefix) for name in names]
    return prefixes


def _prefix(entries: Entries, expected: Mapping[str, object]) -> str:
    """The one prefix under which every parameter is to be found; "" where none or several are."""
    first = next(iter(expected), "")
    candidates = {key.removesuffix(first) for key in entries if key.endswith(f".{first}")}
    whole = [p for p in candidates if all(f"{p}{name}" in entries for name in expected)]
    return whole[0] if len(whole) == 1 and first not in entries else ""


_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)")
_GATE = {"se.conv_reduce": "fc1", "se.conv_expand": "fc2"}
# Places in torchvision's `block`; in the first stage, which does not expand, one less.
_PARTS = {
    "conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "3.0", "bn3": "3.1",
}  # fmt: skip
_FIRST_PARTS = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "2.0", "bn2": "2.1"}
_VGG = {
    "pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6",
}  # fmt: skip


def from_timm(entries: Entries, expected: Mapping[str, object]) -> Entries | None:
    """Arrays of timm's VGG or EfficientNet by torchvision's names; None where they are not.

    timm writes VGG's dense layers as convolutions: weights (4096, 512, 7, 7) are (4096, 25088).
    """
    if "conv_stem.weight" in entries and "features.0.0.weight" in expected:
        last = max((int(m[1]) for key in entries if (m := _BLOCK.fullmatch(key))), default=0)
        return {_efficientnet(key, last + 2): entry for key, entry in entries.items()}
    if "head.fc.weight" in entries and "classifier.6.weight" in expected:
        renamed = {}
        for key, entry in entries.items():
            part, _, kind = key.rpartition(".")
            if part in _VGG and kind == "weight" and len(entry.shape) == 4:
                outputs, *inputs = entry.shape
                entry = entry.reshaped(outputs, inputs[0] * inputs[1] * inputs[2])
            renamed[f"{_VGG.get(part, part)}.{kind}"] = entry
        return renamed
    return None


def _efficientnet(key: str, head: int) -> str:
    """torchvision's name of a parameter of timm's EfficientNet; head: its last convolution's."""
    part, _, kind = key.rpartition(".")
    plain = {
        "conv_stem": "features.0.0", "bn1": "features.0.1", "conv_head": f"features.{head}.0",
        "bn2": f"features.{head}.1", "classifier": "classifier.1",
    }  # fmt: skip
    if part in plain:
        return f"{plain[part]}.{kind}"
    match = _BLOCK.fullmatch(key)
    if match is None:
        return key
    stage, index, inner, kind = match.groups()
    first = stage == "0"
    parts = _FIRST_PARTS if first else _PARTS
    gate = "1" if first else "2"
    place = f"{gate}.{_GATE[inner]}" if inner in _GATE else parts.get(inner, inner)
    return f"features.{int(stage) + 1}.{index}.block.{place}.{kind}"
