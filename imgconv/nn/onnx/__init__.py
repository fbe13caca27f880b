"""ONNX models as graphs of our layers, and our networks as ONNX models.

The `onnx` package (extra `imgconv[onnx]`) is imported when a file is read or written.
"""

from imgconv.nn.onnx.folding import FIXED, OPERATORS
from imgconv.nn.onnx.graph import OnnxGraph, load_onnx
from imgconv.nn.onnx.network import onnx_network
from imgconv.nn.onnx.reading import Model, model_of, read_initializers, read_model
from imgconv.nn.onnx.writing import to_onnx, write_onnx

__all__ = [
    "FIXED", "OPERATORS", "Model", "OnnxGraph", "load_onnx", "model_of", "onnx_network",
    "read_initializers", "read_model", "to_onnx", "write_onnx",
]  # fmt: skip
