"""An explanation as a page to play with: the grids, a photograph, layers upon layers.

The script works the same numbers out again for whatever is changed on the page; a test compares
them with those of `steps`.
"""

from pathlib import Path
from typing import Any

from imgconv.errors import UsageError
from imgconv.io.color import to_gray
from imgconv.io.sample import photo
from imgconv.ops.padding import MODES
from imgconv.shapes import pair
from imgconv.typing import JSON
from imgconv.viz.explain.steps import Explanation
from imgconv.viz.html import document, picture, text

OPERATIONS = {
    "conv": "convolution", "max": "max pooling", "avg": "average pooling", "min": "min pooling",
    "median": "median pooling", "range": "range pooling",
}  # fmt: skip
# Options of pools that the page has no control for, and their defaults.
_FIXED = {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}
PHOTO = 224  # pixels of the longer side
LARGEST = 7  # rows and columns of presets
# Three layers as VGG begins, then a pooling: kernel, stride, padding, dilation.
LAYERS = ((3, 1, 1, 1), (3, 1, 1, 1), (2, 2, 0, 1), (3, 1, 1, 1))


def render(explanation: Explanation) -> bytes:
    """Return the page as UTF-8. Raises UsageError for poolings that it does not show."""
    names = "kernel", "stride", "padding", "dilation"
    data: dict[str, JSON] = {
        "state": _state(explanation),
        "presets": _presets(),
        "layers": [dict(zip(names, layer, strict=True)) for layer in LAYERS],
    }
    folder = Path(__file__).parent
    body = (
        (folder / "page.html")
        .read_text(encoding="utf-8")
        .format(
            operations=_options(OPERATIONS.items()),
            modes=_options((mode, mode) for mode in MODES),
            presets=_options((str(n), p["name"]) for n, p in enumerate(_presets())),
            source=picture(to_gray(photo(PHOTO)), "png", optimize=True),
        )
    )
    return document("Convolution, step by step", folder, data, body)


def _state(explanation: Explanation) -> dict[str, JSON]:
    """What the page begins with, by the script's names."""
    settings, sides = explanation.settings, explanation.sides
    weights, window = explanation.weights, (2, 2)
    if weights is None:
        odd = {name for name, value in _FIXED.items() if settings.get(name, value) != value}
        if settings["kind"] not in OPERATIONS or odd:
            raise UsageError(
                f"--pool {', '.join([settings['kind'], *sorted(odd)])}: a page shows "
                f"{', '.join(list(OPERATIONS)[1:])} pools with kernel size, stride, padding and "
                "dilation; expected one of them, or another -o"
            )
        window = pair(settings["kernel_size"], "kernel_size")
        kernel = [[0.0, 1.0, 2.0], [2.0, 2.0, 0.0], [0.0, 1.0, 2.0]]
        stride, dilation = settings.get("stride") or window, settings.get("dilation", 1)
    else:
        kernel = (weights[::-1, ::-1] if settings["flip"] else weights).tolist()
        stride, dilation = settings["stride"], settings["dilation"]
    padding = ",".join(map(str, sides if len(set(sides)) > 1 else sides[:1]))
    return {
        "operation": explanation.rule, "grid": explanation.source.tolist(), "kernel": kernel,
        "window": list(window), "stride": list(pair(stride, "stride")),
        "dilation": list(pair(dilation, "dilation")), "padding": padding,
        "mode": settings.get("padding_mode", "zeros"), "value": settings.get("pad_value", 0.0),
        "flip": settings.get("flip", False), "divisor": settings.get("divisor", 1.0),
        "bias": settings.get("bias", 0.0),
    }  # fmt: skip


def _presets() -> list[dict[str, Any]]:
    """Single small filters, as the script takes them."""
    from imgconv.kernels import get_kernel, preset_names

    kernels = [get_kernel(name) for name in preset_names()]
    return [
        {"name": k.name, "weights": k.weights[0, 0].tolist(), "divisor": k.divisor,
         "scale": k.scale}
        for k in kernels if k.weights.shape[:2] == (1, 1) and max(k.size) <= LARGEST
    ]  # fmt: skip


def _options(pairs: Any) -> str:
    return "".join(
        f'<option value="{text(value)}">{text(words)}</option>' for value, words in pairs
    )
