"""Builders of the operators of quantized models.

Source: ONNX operator documentation (github.com/onnx/onnx, docs/Operators.md).
"""

import numpy as np

from imgconv.errors import ModelError
from imgconv.nn.layers import Conv2d
from imgconv.nn.layers.quantized import (
    ConvInteger,
    DequantizeLinear,
    DynamicQuantizeLinear,
    MatMulInteger,
    QGemm,
    QLinearConv,
    QLinearMatMul,
    QuantizeLinear,
)
from imgconv.nn.layers.tensors import axis_of
from imgconv.nn.onnx.folding import Call, Use, operator
from imgconv.nn.onnx.reading import import_onnx
from imgconv.nn.onnx.windows import sliding


def _along(call: Call) -> tuple[int, int]:
    """The axis and the block that scales belong to."""
    axis, shape = call.attribute("axis", 1), call.shape()
    scale = call.shape(1)
    one = scale in ((), (1,))  # for all elements, whatever the axis
    return (0 if one else axis_of(axis, len(shape), call.kind)), call.attribute("block_size", 0)


@operator("QuantizeLinear")
def _quantize(call: Call) -> Use:
    axis, block = _along(call)
    code = call.attribute("output_dtype", 0)
    if code:
        onnx = import_onnx()
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
        if dtype.kind not in "iu":
            raise ModelError(f"output_dtype={onnx.TensorProto.DataType.Name(code)}, expected bytes")
        return Use(QuantizeLinear(axis, block, dtype), call.places)
    return Use(QuantizeLinear(axis, block), call.places)


@operator("DequantizeLinear")
def _dequantize(call: Call) -> Use:
    return Use(DequantizeLinear(*_along(call)), call.places)


@operator("DynamicQuantizeLinear")
def _dynamic(call: Call) -> Use:
    return Use(DynamicQuantizeLinear())


def _conv(call: Call, weights: int) -> Conv2d:
    shape = call.shape(weights)
    if len(call.shape()) != 4 or len(shape) != 4:
        raise ModelError(f"input {call.shape()}, weights {shape}, expected two spatial axes")
    return sliding(call, shape)


@operator("ConvInteger")
def _conv_integer(call: Call) -> Use:
    return Use(ConvInteger(_conv(call, 1), (call.has(2), call.has(3))), call.places)


@operator("QLinearConv")
def _qlinear_conv(call: Call) -> Use:
    return Use(QLinearConv(_conv(call, 3)), call.places)


@operator("MatMulInteger")
def _mat_mul_integer(call: Call) -> Use:
    return Use(MatMulInteger((call.has(2), call.has(3))), call.places)


@operator("QLinearMatMul")
def _qlinear_mat_mul(call: Call) -> Use:
    return Use(QLinearMatMul(), call.places)


@operator("com.microsoft.QGemm")
def _q_gemm(call: Call) -> Use:
    given = call.attribute
    layer = QGemm(
        alpha=float(given("alpha", 1.0)), left=bool(given("transA", 0)),
        right=bool(given("transB", 0)), bias=call.has(6),
    )  # fmt: skip
    if len(call.shape()) != 2 or len(call.shape(3)) != 2:
        raise ModelError(f"operands {call.shape()} and {call.shape(3)}, expected matrices")
    return Use(layer, call.places)
