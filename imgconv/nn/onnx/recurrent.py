"""Builders of RNN, GRU and LSTM.

Source: ONNX operator documentation, and ONNX Runtime's docs/ContribOperators.md.
"""

from imgconv.errors import ModelError
from imgconv.nn.layers.recurrent import ACTIVATIONS, USUAL, Recurrent
from imgconv.nn.onnx.folding import Call, Use, operator


@operator("RNN", "GRU", "LSTM", "com.microsoft.DynamicQuantizeLSTM", fixed=(4,))
def _recurrent(call: Call) -> Use:
    name = call.kind.rpartition("DynamicQuantize")[2]
    ways = call.attribute("direction", "forward")
    if ways not in ("forward", "reverse", "bidirectional"):
        raise ModelError(f"direction={ways!r}, expected forward, reverse or bidirectional")
    count = 2 if ways == "bidirectional" else 1
    chosen = call.attribute("activations") or list(USUAL[name]) * count
    if len(chosen) != count * len(USUAL[name]) or not set(chosen) <= ACTIVATIONS.keys():
        known = ", ".join(ACTIVATIONS)
        raise ModelError(f"activations={chosen}, expected {len(USUAL[name])} each of {known}")
    if call.attribute("input_forget", 0):
        raise ModelError("input_forget=1, expected gates of their own")
    by_item = bool(call.attribute("layout", 0))
    if (
        call.has(4)
        and (call.fixed(4, "sequence_lens") != call.shape()[0 if not by_item else 1]).any()
    ):
        raise ModelError("sequence_lens differ from the input's length, expected none")
    each = len(USUAL[name])
    layer = Recurrent(
        name, call.attribute("hidden_size") or call.shape(2)[2], call.places, ways,
        tuple(tuple(chosen[i * each : (i + 1) * each]) for i in range(count)),
        bool(call.attribute("linear_before_reset", 0)), float(call.attribute("clip", 0.0)),
        by_item, "Quantize" in call.kind,
    )  # fmt: skip
    return Use(layer, call.places)
