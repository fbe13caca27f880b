"""ONNX's own backend cases (github.com/onnx/onnx, onnx/backend/test), run through the importer.

They are made within the test: making them costs 10 s, which collection would spend in every worker.
"""

import warnings
from collections import Counter
from dataclasses import replace

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases
    from onnx.backend.test.loader import load_model_tests

from imgconv.errors import ImgconvError
from imgconv.nn.onnx import FIXED, OPERATORS, OnnxGraph, model_of
from imgconv.nn.onnx.sequences import KINDS

NUMBERS = ("FLOAT", "DOUBLE", "BOOL", "INT32", "INT64", "UINT8", "INT8", "INT16", "UINT16",
           "UINT32", "UINT64")  # fmt: skip


def data_of(folder):
    """The stored (inputs, outputs) of a case in files."""
    sets = []
    for place in sorted(folder.glob("test_data_set_*")):
        pair = []
        for kind in ("input", "output"):
            files = sorted(place.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            pair.append([numpy_helper.to_array(onnx.load_tensor(file)) for file in files])
        sets.append(pair)
    return sets


def cases():
    """(name, model, data sets) of every case whose operators are all ours."""
    from pathlib import Path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            yield case.name, case.model, case.data_sets
        for kind in ("pytorch-converted", "pytorch-operator", "simple"):
            for case in load_model_tests(kind=kind):
                folder = Path(case.model_dir)
                yield case.name, onnx.load(folder / "model.onnx"), folder


def ours(name, model):
    """Whether a case is of our operators. Expansions of language models' operators are not."""
    if name.startswith(("test_attention", "test_causal_conv", "test_rms", "test_swiglu")):
        return False
    known = OPERATORS.keys() | KINDS
    return all(node.op_type in known for node in model.graph.node) and all(
        entry.domain in ("", "ai.onnx") for entry in model.opset_import
    )


REASONS = {"training", "three spatial axes", "opset before 6",
           "sizes computed from an input's values"}  # fmt: skip
# Outputs of training, which inference does not have.
INFERENCE_OUTPUTS = {"Dropout": 1, "LayerNormalization": 1}
# This case's output is stored with four digits.
ROUNDED = "test_averagepool_2d_ceil_last_window_starts_on_pad"


def type_names(proto):
    values = [*proto.graph.input, *proto.graph.output]
    for value in values:
        held = value.type.tensor_type if value.type.HasField("tensor_type") else None
        yield onnx.TensorProto.DataType.Name(held.elem_type) if held else "SEQUENCE"


def reason_to_skip(proto):
    """Why a case whose operators are ours is not run, or None."""
    others = sorted(set(type_names(proto)) - set(NUMBERS))
    if others:
        return f"type {others[0]}"
    for node in proto.graph.node:
        given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        norm = node.op_type == "BatchNormalization"
        if (given.get("training_mode") and not norm) or (
            node.op_type == "Dropout" and len(node.input) > 2
        ):
            return "training"
        if len(given.get("kernel_shape", ())) == 3:
            return "three spatial axes"
    if proto.graph.name == "test_convtranspose_3d":
        return "three spatial axes"
    if min(entry.version for entry in proto.opset_import) < 6:
        return "opset before 6"
    if proto.graph.name.startswith(
        ("test_center_crop", "test_hann", "test_hamming", "test_blackm")
    ):
        return "sizes computed from an input's values"
    return None


def with_constants(model, given, every):
    """The model with inputs as initializers: what must be constant, or all but the first."""
    wanted = {
        operation.operands[place]
        for operation in model.operations
        for place in {**FIXED, "SplitToSequence": (1,)}.get(operation.kind, ())
        if place < len(operation.operands)
    }
    if every:
        wanted = set(list(given)[1:])
    fixed = {name: array for name, array in given.items() if name in wanted}
    inputs = {name: value for name, value in model.inputs.items() if name not in fixed}
    return replace(model, constants={**model.constants, **fixed}, inputs=inputs)


def run_case(proto, inputs, every=False):
    """(outputs, their inferred shapes) of a case's model."""
    model = model_of(proto, "case")
    kept = min((INFERENCE_OUTPUTS.get(op.kind, 9) for op in model.operations), default=9)
    model = replace(model, outputs=model.outputs[:kept])
    given = dict(zip(model.inputs, inputs, strict=False))
    model = with_constants(model, given, every)
    fed = {name: given[name] for name in model.inputs}
    graph = OnnxGraph(model, {name: array.shape for name, array in fed.items()})
    shapes = graph.shapes()
    return list(graph.run(fed).values()), [shapes[name] for name in model.outputs]


def array_of(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def check(name, proto, data):
    for inputs, outputs in data if isinstance(data, list) else data_of(data):
        arrays = [array_of(value) for value in inputs]
        # Weights of one spatial axis must be constants.
        every = proto.graph.node[0].op_type.startswith("Conv") and arrays[0].ndim == 3
        found, shapes = run_case(proto, arrays, every)
        for result, shape, expected in zip(found, shapes, map(array_of, outputs), strict=False):
            assert result.shape == shape == expected.shape
            assert result.dtype == expected.dtype
            tolerance = 6e-5 if name == ROUNDED else 1e-6
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=tolerance)


def test_the_backend_cases_of_our_operators_give_their_stored_outputs():
    ran, skipped, failed = [], Counter(), {}
    for name, proto, data in cases():
        if not ours(name, proto):
            continue
        reason = reason_to_skip(proto)
        if reason:
            skipped[reason] += 1
            continue
        ran.append(name)
        try:
            check(name, proto, data)
        except (AssertionError, ImgconvError) as error:
            failed[name] = " ".join(str(error).split())[:300]
    assert not failed
    # These are the reasons there are, and the number of cases with onnx 1.23.
    others = {reason for reason in skipped if not reason.startswith("type ")}
    assert others <= REASONS, skipped
    assert len(ran) >= 1090, skipped
