"""Reads ONNX: checked, upgraded to the canonical opset, weights left in their files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message
from onnx_ir.passes import InvariantError, PassError
from onnx_ir.serde import SerdeError

from hub.canonical import canonicalize
from hub.errors import InvalidModel, UsageError, blaming
from hub.formats import resolve
from hub.model import Model

__all__ = ["read"]

MESSAGE_LIMIT = (1 << 31) - 1


def read(
    src: str | Path | onnx.ModelProto | ir.Model,
    *,
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
    trust: bool = False,
) -> Model:
    """Read an ONNX model; nothing in it is executed, so `trust` is not needed.

    `inputs` gives shapes to inputs by name. External data stays memory-mapped.

    Raises:
        InvalidModel: the file is not ONNX, is truncated, or refers outside its own folder.
    """
    with blaming(_where(src), PassError, InvariantError, SerdeError):
        model = _load(src)
        _set_shapes(model, inputs or {})
        return Model(canonicalize(model), "onnx")


def _load(src: Any) -> ir.Model:
    if isinstance(src, ir.Model):
        return src.clone()
    if isinstance(src, onnx.ModelProto):
        return _deserialize(src, "the ModelProto")
    path = resolve(src)
    if path.is_dir():
        raise InvalidModel(f"{path} is a directory, not an ONNX file")
    size = path.stat().st_size
    if size == 0:
        raise InvalidModel(f"{path} is empty")
    if size > MESSAGE_LIMIT:
        raise InvalidModel(f"{path}: {size} bytes is more than a protobuf file can hold; it is not a valid ONNX file")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InvalidModel(f"{path} is not an ONNX file, or is truncated") from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise InvalidModel(f"{path} is not an ONNX model: it has no {'graph' if proto.opset_import else 'opset'}")
    for tensor in _tensors(proto):
        _check_tensor(tensor, path)
    model = _deserialize(proto, str(path))
    ir.external_data.set_base_dir(model.graph, path.parent)
    return model


def _deserialize(proto: onnx.ModelProto, where: str) -> ir.Model:
    try:
        return ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise InvalidModel(f"{where}: not a valid ONNX graph: {error}") from error


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor in a model: weights, attributes, those of subgraphs and functions."""
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE or field.name in PLAIN:
            continue
        for part in value if isinstance(value, Sequence) else [value]:
            if isinstance(part, onnx.TensorProto):
                yield part
            elif isinstance(part, Message):
                yield from _tensors(part)


PLAIN = frozenset(["value_info", "input", "output", "metadata_props", "opset_import", "quantization_annotation"])
"""Fields without tensors in them."""


DATA = {
    "FLOAT": "float_data",
    "COMPLEX64": "float_data",
    "DOUBLE": "double_data",
    "COMPLEX128": "double_data",
    "INT64": "int64_data",
    "UINT32": "uint64_data",
    "UINT64": "uint64_data",
}
"""Where a tensor without raw data has its numbers, if not in `int32_data`."""


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    """The data are as many as shape and type say; external ones lie inside a file of the model's own folder."""
    what = f"{path}: weight {tensor.name[:200]!r}"
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        raise InvalidModel(f"{what} has the type {tensor.data_type}, which does not exist") from None
    if dtype == ir.DataType.UNDEFINED or any(size < 0 for size in tensor.dims):
        raise InvalidModel(f"{what} has the type {dtype.name} and the shape {tuple(tensor.dims)}")
    count = math.prod(tensor.dims)
    if dtype == ir.DataType.STRING:
        if len(tensor.string_data) != count:
            raise InvalidModel(f"{what} has {len(tensor.string_data)} strings where its shape says {count}")
        return
    needed = -(-count * dtype.bitwidth // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, needed, path, what)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != needed:
            raise InvalidModel(f"{what} has {len(tensor.raw_data)} bytes where its shape and type say {needed}")
    elif count:
        found = getattr(tensor, DATA.get(dtype.name, "int32_data"))
        expected = count * 2 if dtype.name.startswith("COMPLEX") else count
        if len(found) not in {expected, needed}:  # numbers of 4 bits and less come packed in bytes
            raise InvalidModel(f"{what} has {len(found)} numbers where its shape says {expected}")


def _check_external(tensor: onnx.TensorProto, needed: int, path: Path, what: str) -> None:
    home = path.parent.resolve()
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    what = f"{what}: external data {location[:200]!r}"
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
        file = (home / location).resolve()
    except (ValueError, OSError) as error:
        raise InvalidModel(f"{what}: {error}") from error
    if os.path.isabs(location) or not file.is_relative_to(home):
        raise InvalidModel(f"{what} is outside the model's folder")
    if not file.is_file():
        raise InvalidModel(f"{what} does not exist; keep it beside the .onnx file")
    if length != needed:
        raise InvalidModel(f"{what} has {length} bytes where shape and type say {needed}")
    if offset < 0 or offset + length > file.stat().st_size:
        raise InvalidModel(f"{what} is truncated: {file.stat().st_size} bytes, the weight ends at {offset + length}")


def _set_shapes(model: ir.Model, shapes: Mapping[str, Sequence[int | str | None]]) -> None:
    values = {value.name: value for value in model.graph.inputs}
    for name, shape in shapes.items():
        if name not in values:
            raise UsageError(f"there is no input {name!r}; inputs are {', '.join(str(n) for n in values)}")
        old = values[name].shape
        if old is not None and (
            len(old) != len(shape)
            or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(old, shape, strict=True))
        ):
            raise UsageError(f"input {name!r} has the shape {old}, which {tuple(shape)} contradicts")
        values[name].shape = ir.Shape(list(shape))


def _where(src: Any) -> str:
    return str(src) if isinstance(src, str | Path) else "the model"
