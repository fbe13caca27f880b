"""A network of ours as PyTorch calls and as an ONNX model, for running all three side by side."""

from collections.abc import Callable
from typing import Any

import numpy as np

from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Mul,
    Softmax,
)
from imgconv.shapes import pair

Made = tuple[str, dict[str, Any], list[Any]]  # an operator, its attributes, its constants


def by_torch(graph: Graph) -> Callable[[Any], Any]:
    """Return a function of a tensor that runs the graph eagerly, layer by layer."""
    calls = [(node, torch_call(node.layer)) for node in graph.nodes]

    def run(x: Any) -> Any:
        values = {next(iter(graph.inputs)): x}
        for node, call in calls:
            values[node.outputs[0]] = call(*(values[name] for name in node.inputs))
        return values[graph.outputs[0]]

    return run


def torch_call(layer: Layer) -> Callable[..., Any]:
    """A layer as a function of tensors."""
    import torch
    import torch.nn.functional as functional

    own = {key: torch.from_numpy(np.array(value)) for key, value in layer.parameters.items()}
    if isinstance(layer, Conv2d):
        kernel, stride, sides, dilation = layer.window
        window = {"stride": stride, "dilation": dilation, "groups": layer.groups}
        bias, padding = own.get("bias"), (sides[0], sides[2])
        return lambda x: functional.conv2d(x, own["weight"], bias, padding=padding, **window)
    if isinstance(layer, BatchNorm2d):
        statistics = own["running_mean"], own["running_var"], own["weight"], own["bias"]
        return lambda x: functional.batch_norm(x, *statistics, eps=layer.eps)
    if isinstance(layer, Linear):
        return lambda x: functional.linear(x, own["weight"], own.get("bias"))
    if isinstance(layer, MaxPool2d | AvgPool2d):
        kernel, stride, sides, _ = layer.window
        pool = functional.max_pool2d if isinstance(layer, MaxPool2d) else functional.avg_pool2d
        padding = (sides[0], sides[2])
        return lambda x: pool(x, kernel, stride, padding, ceil_mode=layer.ceil_mode)
    if isinstance(layer, AdaptiveAvgPool2d):
        return lambda x: functional.adaptive_avg_pool2d(x, layer.output_size)
    if isinstance(layer, LocalResponseNorm):
        return lambda x: functional.local_response_norm(
            x, layer.size, layer.alpha, layer.beta, layer.k
        )
    if isinstance(layer, Activation):
        chosen: Callable[..., Any] = {
            "relu": functional.relu, "silu": functional.silu, "sigmoid": torch.sigmoid,
            "tanh": torch.tanh,
        }[layer.name]  # fmt: skip
        return chosen
    if isinstance(layer, Softmax):
        return lambda x: functional.softmax(x, layer.axis)
    if isinstance(layer, Flatten):
        return lambda x: torch.flatten(x, layer.start_axis)
    if isinstance(layer, Concat):
        return lambda *inputs: torch.cat(inputs, layer.axis)
    if isinstance(layer, Identity):
        return lambda x: x
    joined: dict[type, Callable[..., Any]] = {Add: torch.add, Mul: torch.mul}
    return joined[type(layer)]


def onnx_model(graph: Graph, batch: int) -> bytes:
    """The graph as an ONNX model for a fixed batch."""
    from onnx import TensorProto, helper, numpy_helper

    name, shape = next(iter(graph.inputs.items()))
    shapes = graph.shapes({name: (batch, *shape[1:])})
    nodes, constants = [], []
    for node in graph.nodes:
        for kind, attributes, arrays, inputs, output in onnx_nodes(node, shapes):
            names = [f"{output}.{number}" for number in range(len(arrays))]
            constants += [
                numpy_helper.from_array(np.ascontiguousarray(array), label)
                for array, label in zip(arrays, names, strict=True)
            ]
            nodes.append(helper.make_node(kind, [*inputs, *names], [output], **attributes))
    made = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, *shape[1:]))],
        [helper.make_tensor_value_info(graph.outputs[0], TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def onnx_nodes(
    node: Node, shapes: dict[str, Any]
) -> list[tuple[str, dict[str, Any], list[Any], list[str], str]]:
    """(operator, attributes, constants, inputs, output) of each node that a layer becomes."""
    output, inputs = node.outputs[0], list(node.inputs)
    if isinstance(node.layer, Activation) and node.layer.name == "silu":
        return [
            ("Sigmoid", {}, [], inputs, f"{output}.sigmoid"),
            ("Mul", {}, [], [*inputs, f"{output}.sigmoid"], output),
        ]
    kind, attributes, constants = onnx_operator(node.layer, shapes[inputs[0]])
    return [(kind, attributes, constants, inputs, output)]


def onnx_operator(layer: Layer, before: Any) -> Made:
    """A layer as one operator."""
    own = layer.parameters
    if isinstance(layer, Conv2d | MaxPool2d | AvgPool2d):
        kernel, stride, sides, dilation = layer.window
        top, bottom, left, right = sides
        window = {"kernel_shape": kernel, "strides": stride, "pads": [top, left, bottom, right]}
        if isinstance(layer, Conv2d):
            more = {"group": layer.groups, "dilations": dilation}
            return "Conv", window | more, [own[key] for key in ("weight", "bias") if key in own]
        window |= {"ceil_mode": int(layer.ceil_mode)}
        if isinstance(layer, MaxPool2d):
            return "MaxPool", window, []
        return "AveragePool", window | {"count_include_pad": 1}, []
    if isinstance(layer, BatchNorm2d):
        names = ("weight", "bias", "running_mean", "running_var")
        return "BatchNormalization", {"epsilon": layer.eps}, [own[name] for name in names]
    if isinstance(layer, Linear):
        bias = own.get("bias", np.zeros(layer.out_features, np.float32))
        return "Gemm", {"transB": 1}, [own["weight"], bias]
    if isinstance(layer, AdaptiveAvgPool2d):
        if pair(layer.output_size, "output_size") == tuple(before[2:]):
            return "Identity", {}, []
        return "GlobalAveragePool", {}, []
    if isinstance(layer, LocalResponseNorm):
        numbers = {"alpha": layer.alpha, "beta": layer.beta, "bias": layer.k}
        return "LRN", numbers | {"size": layer.size}, []
    if isinstance(layer, Activation):
        return {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}[layer.name], {}, []
    if isinstance(layer, Flatten):
        return "Flatten", {"axis": layer.start_axis}, []
    if isinstance(layer, Softmax | Concat):
        return type(layer).__name__, {"axis": layer.axis}, []
    if isinstance(layer, Identity):
        return "Identity", {}, []
    return {Add: "Add", Mul: "Mul"}[type(layer)], {}, []  # type: ignore[index]
