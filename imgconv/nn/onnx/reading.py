"""An ONNX file as plain data: nodes with their attributes, constants and inputs, all checked.

Source: the ONNX IR specification (github.com/onnx/onnx, docs/IR.md and docs/ExternalData.md).
Nothing is executed, and external data are read from the model's own folder only.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from imgconv.errors import ModelError
from imgconv.marks import PICKLED, PREFIX, kind_of
from imgconv.nn.onnx.expansion import EXPANSIONS
from imgconv.nn.onnx.operation import Operation
from imgconv.parts import read_part
from imgconv.typing import Array, Dtype

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        ValueInfoProto,
    )

OLDEST = 6  # its exporters' models differ from opset 7 only where they broadcast
# The last opset whose operators these are; newer ones so far only widened their types.
NEWEST = 28
MAX_FILE = 2**31 - 1  # protobuf's own limit
MAX_NODES = 100_000
# Elements of any one value: 4 GiB of float32.
MAX_ELEMENTS = 1 << 30

Dimension = int | str  # a number, or the name of a free dimension (may be empty)


@dataclass(frozen=True)
class Model:
    """A model's graph.

    inputs: what must be fed, by name, with (type's name, dimensions or None where they are not
    given). constants: the initializers. metadata: the file's own texts by key.
    """

    path: str
    opset: int
    operations: tuple[Operation, ...]
    constants: Mapping[str, Array]
    inputs: Mapping[str, tuple[str, tuple[Dimension, ...] | None]]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]


def import_onnx() -> ModuleType:
    """The onnx package. Raises ModelError where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import onnx
            import onnx.inliner
            import onnx.numpy_helper
    except ImportError:
        raise ModelError(
            "reading ONNX needs the onnx package: pip install 'imgconv[onnx]'"
        ) from None
    package: ModuleType = onnx
    return package


def read_model(path: str | Path) -> Model:
    """Return the model of a file.

    Raises ModelError for what is no ONNX model, is too large, has constants that contradict their
    shape, or external data outside the model's folder.
    """
    return model_of(_parse(path), path)


def read_initializers(path: str | Path) -> dict[str, Array]:
    """Return a model's named weights: floats; integers are shapes and axes.

    Raises ModelError as `read_model` does.
    """
    graph = _parse(path).graph
    _check_names(graph, path)
    arrays = _initializers(graph, path)
    return {name: array for name, array in arrays if array.dtype.kind == "f"}


def _parse(path: str | Path) -> "ModelProto":
    onnx = import_onnx()
    try:
        if Path(path).stat().st_size > MAX_FILE:
            raise ModelError(f"{path}: larger than {MAX_FILE} bytes, expected external data")
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # DecodeError, whose place in protobuf has moved between versions
        pickled = kind_of(data[:PREFIX]) == "pickle"
        what = PICKLED if pickled else "not an ONNX model, or a truncated one"
        raise ModelError(f"{path}: {what}") from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{path}: not an ONNX model: it holds no graph or no opset")
    return proto


def model_of(proto: "ModelProto", path: str | Path) -> Model:
    """Return the model of a ModelProto; path: names it in messages, and its folder holds data."""
    opset = _opset(proto, path)
    if proto.functions:
        proto = _inlined(proto, path)
    graph = proto.graph
    if len(graph.node) > MAX_NODES:
        raise ModelError(f"{path}: {len(graph.node)} nodes, expected at most {MAX_NODES}")
    if graph.sparse_initializer:
        raise ModelError(f"{path}: sparse initializers, expected dense ones")
    _check_names(graph, path)
    constants = dict(_initializers(graph, path))
    onnx = import_onnx()
    inputs = {
        value.name: _declared(value, onnx, path)
        for value in graph.input
        if value.name not in constants
    }
    operations = tuple(_operations(graph.node, opset, path))
    outputs = tuple(value.name for value in graph.output)
    metadata = {
        entry.key: entry.value
        for entry in proto.metadata_props
        if isinstance(entry.key, str) and isinstance(entry.value, str)
    }
    return Model(str(path), opset, operations, constants, inputs, outputs, metadata)


def _check_names(graph: "GraphProto", path: str | Path) -> None:
    """Raise ModelError for names that are not UTF-8, which protobuf hands out as bytes."""
    held = [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        held += [node.name, node.op_type, node.domain, *node.input, *node.output]
        held += [attribute.name for attribute in node.attribute]
    for name in held:
        if isinstance(name, bytes):
            raise ModelError(f"{path}: the name {name!r} is not UTF-8")


def _opset(proto: "ModelProto", path: str | Path) -> int:
    versions = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    opset = versions.get("ai.onnx")
    if opset is None:
        raise ModelError(f"{path}: opsets of {', '.join(map(str, versions))}, expected ONNX's own")
    if not OLDEST <= opset <= NEWEST:
        raise ModelError(f"{path}: opset {opset}, expected {OLDEST} to {NEWEST}")
    return int(opset)


def _inlined(proto: "ModelProto", path: str | Path) -> "ModelProto":
    """The model with its functions' nodes in place of their calls."""
    try:
        return import_onnx().inliner.inline_local_functions(proto)
    except Exception as error:  # C++ exceptions of several types
        raise ModelError(f"{path}: its functions cannot be put in place: {_line(error)}") from None


def _declared(
    value: "ValueInfoProto", onnx: ModuleType, path: str | Path
) -> tuple[str, tuple[Dimension, ...] | None]:
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"{path}: input {value.name!r} is no tensor")
    tensor = value.type.tensor_type
    try:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
    except ValueError:
        raise ModelError(f"{path}: input {value.name!r} of type {tensor.elem_type}") from None
    if not tensor.HasField("shape"):
        return kind, None
    return kind, tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim
    )


def _operations(nodes: "Iterable[NodeProto]", opset: int, path: str | Path) -> Iterator[Operation]:
    taken: set[str] = set()
    for number, node in enumerate(nodes):
        named = node.name or next((name for name in node.output if name), f"{number}")
        name, count = named, 1
        while name in taken:
            count += 1
            name = f"{named}_{count}"
        taken.add(name)
        kind = node.op_type
        if node.domain not in ("", "ai.onnx"):
            kind = f"{node.domain}.{kind}"
        attributes = {}
        try:
            _check_form(node, kind, opset)
            for attribute in node.attribute:
                attributes[attribute.name] = _attribute(attribute, path)
        except ModelError as error:
            raise ModelError(f"{path}: {kind} (node {name}): {error}") from None
        operation = Operation(kind, name, tuple(node.input), tuple(node.output), attributes)
        if kind not in EXPANSIONS:
            yield operation
            continue
        try:
            yield from EXPANSIONS[kind](operation)
        except (ModelError, ValueError, TypeError, LookupError) as error:
            raise ModelError(f"{path}: {kind} (node {name}): {_line(error)}") from None


def _check_form(node: "NodeProto", kind: str, opset: int) -> None:
    """Raise ModelError where the operands' number or an attribute's type is not the operator's."""
    defs = import_onnx().defs
    # Exporters wrote later operators into older opsets, and opset 6 with the forms of 7.
    if not defs.has(kind):
        return
    try:
        schema = defs.get_schema(kind, max(opset, 7))
    except defs.SchemaError:
        return
    count = len(node.input)
    if not schema.min_input <= count <= schema.max_input:
        expected = schema.min_input if count < schema.min_input else schema.max_input
        limit = "at least" if count < schema.min_input else "at most"
        raise ModelError(f"{count} operands, expected {limit} {expected}")
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        if known is not None and int(known.type) != attribute.type:
            wanted = str(known.type).rpartition(".")[2]
            raise ModelError(f"attribute {attribute.name!r} is not of type {wanted}")


def _attribute(attribute: "AttributeProto", path: str | Path) -> Any:
    """An attribute as a number, text, list or array; graphs and what else there is as protos."""
    try:
        value = import_onnx().helper.get_attribute_value(attribute)
    except (ValueError, TypeError) as error:
        raise ModelError(f"attribute {attribute.name!r}: {_line(error)}") from None
    if attribute.type == attribute.TENSOR:
        return _array(value, path)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type == attribute.FLOAT:
        # The shortest number that is this float32: 1e-05, not 9.9999997e-06.
        return float(str(np.float32(value)))
    if attribute.type == attribute.STRINGS:
        return [text.decode("utf-8", "replace") for text in value]
    return value


def _initializers(graph: "GraphProto", path: str | Path) -> Iterator[tuple[str, Array]]:
    for tensor in graph.initializer:
        try:
            yield tensor.name, _array(tensor, path)
        except ModelError as error:
            raise ModelError(f"{path}: initializer {tensor.name!r}: {error}") from None


def _array(tensor: "TensorProto", path: str | Path) -> Array:
    """A tensor's array; half precision becomes float32."""
    onnx = import_onnx()
    shape = tuple(tensor.dims)
    if any(n < 0 for n in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(f"shape {list(shape)}, expected at most {MAX_ELEMENTS} elements")
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"type {tensor.data_type}, which is none of ONNX's") from None
    if name not in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "BOOL", "UINT8", "INT8", "UINT16",
                    "INT16", "UINT32", "INT32", "UINT64", "INT64"):  # fmt: skip
        raise ModelError(f"of type {name}, expected floats, integers or booleans")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        array = _external(tensor, dtype, shape, path)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != math.prod(shape) * dtype.itemsize:
            raise ModelError(
                f"{len(tensor.raw_data)} bytes, expected {math.prod(shape) * dtype.itemsize} "
                f"for shape {list(shape)}"
            )
        array = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<")).reshape(shape)
    else:
        try:
            array = onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # ValueError and TypeError of several helpers
            raise ModelError(f"shape {list(shape)}: {_line(error)}") from None
    return array.astype(np.float32) if name in ("FLOAT16", "BFLOAT16") else array


def _external(
    tensor: "TensorProto", dtype: Dtype, shape: tuple[int, ...], path: str | Path
) -> Array:
    """An array in a file beside the model."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = Path(path).resolve().parent
    try:
        target = (folder / location).resolve()
        offset = int(entries.get("offset", "0"))
        length = math.prod(shape) * dtype.itemsize
        declared = int(entries.get("length", str(length)))
        inside = target.is_relative_to(folder) and target.is_file()
        size = target.stat().st_size if inside else 0
    except (ValueError, TypeError, OSError) as error:
        raise ModelError(f"external data {location!r}: {_line(error)}") from None
    if not location or not inside:
        raise ModelError(
            f"external data {location!r}: expected a file within the model's own folder"
        )
    if declared != length or offset < 0 or offset + length > size:
        raise ModelError(
            f"external data {location!r}: {declared} bytes at {offset} of a file of {size}, "
            f"expected {length} for shape {list(shape)}"
        )
    if not length:
        return np.empty(shape, dtype)
    with open(target, "rb") as file:
        part = read_part(file, offset, length, f"external data {location!r}")
    return part.view(dtype.newbyteorder("<")).reshape(shape)


def _line(error: Exception) -> str:
    """An error's text in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
