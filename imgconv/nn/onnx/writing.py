"""A network as an ONNX model: nodes, values and weights keep their names.

So a model that was written is read again with the same parameters, and with the preprocessing and
labels that its metadata hold.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from imgconv import __version__, shapes
from imgconv.errors import ModelError
from imgconv.nn.graph import Graph, Node
from imgconv.nn.layers import (
    Activation,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Identity,
    InstanceNorm2d,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Mul,
    Shape,
    Softmax,
)
from imgconv.nn.models import Network
from imgconv.nn.onnx.reading import MAX_FILE, import_onnx
from imgconv.ops.activation import parse_activation
from imgconv.typing import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 20  # the first with Gelu; every runtime of the last two years has it
IR_VERSION = 9
METADATA = "imgconv.preprocess"
LABELS = "imgconv.labels"

# Our activation → (operator, names of its attributes in our parameters' order).
_ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "identity": ("Identity", ()), "relu": ("Relu", ()), "leaky-relu": ("LeakyRelu", ("alpha",)),
    "elu": ("Elu", ("alpha",)), "sigmoid": ("Sigmoid", ()), "hard-swish": ("HardSwish", ()),
    "tanh": ("Tanh", ()), "gelu": ("Gelu", ()), "erf": ("Erf", ()), "abs": ("Abs", ()),
}  # fmt: skip
_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def write_onnx(target: str | Path | BinaryIO, network: Network) -> None:
    """Write a network with its weights to a path or an open binary file. Raises ModelError."""
    data = to_onnx(network).SerializeToString()
    if isinstance(target, (str, Path)):
        Path(target).write_bytes(data)
    else:
        target.write(data)


def to_onnx(network: Network) -> "ModelProto":
    """Return the onnx.ModelProto of a network whose weights are loaded, with a free batch.

    Raises ModelError for a layer that ONNX cannot say, for weights that are not loaded, and beyond
    protobuf's 2 GiB.
    """
    onnx = import_onnx()
    writer = _Writer(network.graph, onnx)
    for node in network.graph.nodes:
        try:
            writer.add(node)
        except ModelError as error:
            raise ModelError(f"{node.name}: {error}") from None
    size = sum(array.nbytes for array in writer.arrays.values())
    if size > MAX_FILE - (1 << 20):
        raise ModelError(f"{network.name}: {size} bytes of weights, expected less than 2 GiB")
    found = network.graph.shapes()
    inputs, outputs = (
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.TensorProto.FLOAT, ["N", *found[name][1:]]
            )
            for name in names
        ]
        for names in (network.graph.inputs, network.graph.outputs)
    )
    initializers = [
        onnx.numpy_helper.from_array(array, name) for name, array in writer.arrays.items()
    ]
    graph = onnx.helper.make_graph(writer.nodes, network.name, inputs, outputs, initializers)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="imgconv", producer_version=__version__, doc_string=network.citation,
    )  # fmt: skip
    about = {METADATA: json.dumps(network.preprocess.as_dict())}
    if network.labels:
        about[LABELS] = json.dumps(network.labels)
    onnx.helper.set_model_props(model, about)
    return model


class _Writer:
    """Collects ONNX nodes and arrays; a layer may need several nodes."""

    def __init__(self, graph: Graph, onnx: ModuleType) -> None:
        self.shapes = graph.shapes()
        self.onnx = onnx
        self.nodes: list[NodeProto] = []
        self.arrays: dict[str, Array] = {}
        self.node: Node = graph.nodes[0]

    def add(self, node: Node) -> None:
        self.node = node
        rule = _RULES.get(type(node.layer))
        if rule is None:
            raise ModelError(f"a layer {node.layer.kind} has no form in ONNX here")
        activation = getattr(node.layer, "activation", None)
        if activation is None or isinstance(node.layer, Activation):
            rule(self, node.layer, node.outputs[0])
        else:
            before = f"{node.outputs[0]}:before"
            rule(self, node.layer, before)
            self.activation(activation, before, node.outputs[0])

    def emit(self, kind: str, inputs: list[str], output: str, **attributes: object) -> None:
        name = self.node.name if output == self.node.outputs[0] else output
        made = self.onnx.helper.make_node(kind, inputs, [output], name, **attributes)
        self.nodes.append(made)

    def array(self, name: str, values: npt.ArrayLike) -> str:
        """The name of a constant of this node."""
        full = f"{self.node.name}.{name}"
        self.arrays[full] = np.ascontiguousarray(values)
        return full

    def parameters(self) -> list[str]:
        layer = self.node.layer
        return [
            self.array(name, layer.parameter(name).astype(np.float32, copy=False))
            for name in layer.parameter_shapes()
        ]

    def activation(self, text: str, source: str, output: str) -> None:
        chosen = parse_activation(text)
        if chosen.name in _ACTIVATIONS:
            kind, names = _ACTIVATIONS[chosen.name]
            given = dict(zip(names, chosen.parameters, strict=True))
            self.emit(kind, [source], output, **given)
        elif chosen.name == "relu6":
            limits = [self.array(f"{output}:{n}", np.float32(n)) for n in (0, 6)]
            self.emit("Clip", [source, *limits], output)
        elif chosen.name == "hard-sigmoid":
            self.emit("HardSigmoid", [source], output, alpha=1 / 6, beta=0.5)
        elif chosen.name == "silu":
            self.emit("Sigmoid", [source], f"{output}:sigmoid")
            self.emit("Mul", [source, f"{output}:sigmoid"], output)
        elif chosen.name == "square":
            self.emit("Mul", [source, source], output)
        elif chosen.name == "softplus" and chosen.parameters[0] == 1:
            self.emit("Softplus", [source], output)
        else:
            raise ModelError(f"the activation {text} has no form in ONNX here")


Rule = Callable[[_Writer, Any, str], None]


def _pads(sides: shapes.Sides) -> list[int]:
    return [sides.top, sides.left, sides.bottom, sides.right]


def _conv(writer: _Writer, layer: Conv2d, output: str) -> None:
    kernel, stride, sides, dilation = layer.window
    source, pads = writer.node.inputs[0], _pads(sides)
    if layer.padding_mode != "zeros" and any(sides):
        mode = _PAD_MODES.get(layer.padding_mode)
        if mode is None:
            raise ModelError(f"padding_mode={layer.padding_mode} has no form in ONNX")
        amounts = [0, 0, *pads[:2], 0, 0, *pads[2:]]
        held = writer.array("pads", np.array(amounts, np.int64))
        writer.emit("Pad", [source, held], f"{output}:padded", mode=mode)
        source, pads = f"{output}:padded", [0] * 4
    writer.emit(
        "Conv", [source, *writer.parameters()], output, kernel_shape=kernel, strides=stride,
        pads=pads, dilations=dilation, group=layer.groups,
    )  # fmt: skip


def _conv_transpose(writer: _Writer, layer: ConvTranspose2d, output: str) -> None:
    writer.emit(
        "ConvTranspose", [writer.node.inputs[0], *writer.parameters()], output,
        kernel_shape=shapes.pair(layer.kernel_size, "kernel_size"),
        strides=shapes.pair(layer.stride, "stride"),
        pads=_pads(shapes.resolve_padding(layer.padding, (1, 1))),
        dilations=shapes.pair(layer.dilation, "dilation"), group=layer.groups,
        output_padding=shapes.pair(layer.output_padding, "output_padding", 0),
    )  # fmt: skip


def _linear(writer: _Writer, layer: Linear, output: str) -> None:
    source = writer.node.inputs[0]
    if len(writer.shapes[source]) == 2:
        writer.emit("Gemm", [source, *writer.parameters()], output, transB=1)
        return
    weight = writer.array("weight", layer.parameter("weight").T.astype(np.float32))
    if not layer.bias:
        writer.emit("MatMul", [source, weight], output)
        return
    writer.emit("MatMul", [source, weight], f"{output}:product")
    bias = writer.array("bias", layer.parameter("bias").astype(np.float32))
    writer.emit("Add", [f"{output}:product", bias], output)


def _batch_norm(writer: _Writer, layer: BatchNorm2d, output: str) -> None:
    names = writer.parameters()
    if not layer.affine:
        ones = writer.array("weight", np.ones(layer.num_features, np.float32))
        names = [ones, writer.array("bias", np.zeros(layer.num_features, np.float32)), *names]
    writer.emit("BatchNormalization", [*writer.node.inputs, *names], output, epsilon=layer.eps)


def _instance_norm(writer: _Writer, layer: InstanceNorm2d, output: str) -> None:
    names = writer.parameters() or [
        writer.array("weight", np.ones(layer.num_features, np.float32)),
        writer.array("bias", np.zeros(layer.num_features, np.float32)),
    ]
    writer.emit("InstanceNormalization", [*writer.node.inputs, *names], output, epsilon=layer.eps)


def _response_norm(writer: _Writer, layer: LocalResponseNorm, output: str) -> None:
    before = layer.size // 2 if layer.near is None else layer.near
    if before != (layer.size - 1) // 2:
        raise ModelError(f"size={layer.size} with {before} channels before has no form in ONNX")
    writer.emit(
        "LRN", list(writer.node.inputs), output, size=layer.size, alpha=layer.alpha,
        beta=layer.beta, bias=layer.k,
    )  # fmt: skip


def _pool(kind: str) -> Rule:
    def rule(writer: _Writer, layer: MaxPool2d | AvgPool2d, output: str) -> None:
        kernel, stride, sides, dilation = layer.window
        more = {}
        if isinstance(layer, AvgPool2d):
            more["count_include_pad"] = int(layer.count_include_pad)
        writer.emit(
            kind, list(writer.node.inputs), output, kernel_shape=kernel, strides=stride,
            pads=_pads(sides), dilations=dilation, ceil_mode=int(layer.ceil_mode), **more,
        )  # fmt: skip

    return rule


def _adaptive(kind: str) -> Rule:
    def rule(writer: _Writer, layer: AdaptiveAvgPool2d | AdaptiveMaxPool2d, output: str) -> None:
        source = writer.node.inputs[0]
        size: Shape = writer.shapes[source][2:]
        made = shapes.pair(layer.output_size, "output_size")
        if made == (1, 1):
            writer.emit(f"Global{kind}", [source], output)
            return
        if size[0] % made[0] or size[1] % made[1]:
            raise ModelError(f"adaptive pooling of {size} to {made} has no form in ONNX")
        window = (size[0] // made[0], size[1] // made[1])
        writer.emit(kind, [source], output, kernel_shape=window, strides=window)

    return rule


def _plain(kind: str, **attributes: object) -> Rule:
    return lambda writer, layer, output: writer.emit(
        kind, list(writer.node.inputs), output, **attributes
    )


def _many(kind: str, alone: str) -> Rule:
    """Add and Mul of two inputs; of more, one after the other."""

    def rule(writer: _Writer, layer: Layer, output: str) -> None:
        first, *rest = writer.node.inputs
        if not rest:
            writer.emit(alone, [first], output)
        for number, more in enumerate(rest):
            last = number == len(rest) - 1
            made = output if last else f"{output}:{number}"
            writer.emit(kind, [first, more], made)
            first = made

    return rule


_RULES: dict[type[Layer], Rule] = {
    Conv2d: _conv,
    ConvTranspose2d: _conv_transpose,
    Linear: _linear,
    BatchNorm2d: _batch_norm,
    InstanceNorm2d: _instance_norm,
    LocalResponseNorm: _response_norm,
    MaxPool2d: _pool("MaxPool"),
    AvgPool2d: _pool("AveragePool"),
    AdaptiveAvgPool2d: _adaptive("AveragePool"),
    AdaptiveMaxPool2d: _adaptive("MaxPool"),
    Identity: _plain("Identity"),
    Dropout: _plain("Dropout"),
    Add: _many("Add", "Identity"),
    Mul: _many("Mul", "Identity"),
    Activation: lambda writer, layer, output: writer.activation(
        layer.name, writer.node.inputs[0], output
    ),
    Softmax: lambda writer, layer, output: writer.emit(
        "Softmax", list(writer.node.inputs), output, axis=layer.axis
    ),
    Flatten: lambda writer, layer, output: writer.emit(
        "Flatten", list(writer.node.inputs), output, axis=layer.start_axis
    ),
    Concat: lambda writer, layer, output: writer.emit(
        "Concat", list(writer.node.inputs), output, axis=layer.axis
    ),
}
