"""ONNX files written as a stream: peak memory is one block of one weight, whatever the model's size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import numpy as np
import onnx
import onnx_ir as ir

from hub.errors import HubError
from hub.tensors import write_tensor
from hub.wire import delimited

__all__ = ["INLINE_BYTES", "LIMIT", "needs_external_data", "save", "skeleton"]

LIMIT = (1 << 31) - (1 << 20)
"""Bytes of weights above which a protobuf message (2 GiB at most) cannot hold the model."""

INLINE_BYTES = 1024
"""Tensors up to this size stay in the `.onnx` file itself: shapes, axes and scalars are needed to read a graph."""

_ALIGNMENT = 4096
_NO_DATA = ir.tensor(np.zeros(0, np.float32))
_GRAPH_FIELD, _INITIALIZER_FIELD, _RAW_DATA_FIELD = 7, 5, 9


def needs_external_data(model: ir.Model) -> bool:
    """Whether the weights do not fit into one protobuf file."""
    return sum(_tensor(value).nbytes for value in model.graph.initializers.values()) > LIMIT


def save(model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None) -> list[Path]:
    """Write `model` to `path`, and its weights to `<path>.data` if `external_data` (None: if needed).

    The file is an ordinary protobuf, byte for byte deterministic. The model is left as it is.

    Returns:
        The paths written, the `.onnx` file first.
    """
    path = Path(path)
    external = needs_external_data(model) if external_data is None else external_data
    head = skeleton(model)
    graph = head.graph.SerializeToString(deterministic=True)
    head.ClearField("graph")
    data_path = path.with_name(path.name + ".data")
    written = [path]

    entries: list[tuple[bytes, ir.TensorProtocol | None]] = []  # what comes before the data, and the data
    outside: list[ir.TensorProtocol] = []
    offset = 0
    for value in model.graph.initializers.values():
        tensor = _tensor(value)
        name = value.name or ""
        if tensor.dtype == ir.DataType.STRING:
            proto = ir.serde.serialize_tensor(tensor)
            proto.name = name
            entries.append((proto.SerializeToString(deterministic=True), None))
            continue
        proto = onnx.TensorProto(name=name, dims=tensor.shape.numpy(), data_type=int(tensor.dtype))
        if external and tensor.nbytes > INLINE_BYTES:
            offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
            proto.data_location = onnx.TensorProto.EXTERNAL
            for key, text in (("location", data_path.name), ("offset", str(offset)), ("length", str(tensor.nbytes))):
                proto.external_data.add(key=key, value=text)
            offset += tensor.nbytes
            outside.append(tensor)
            entries.append((proto.SerializeToString(deterministic=True), None))
        else:
            raw = delimited(_RAW_DATA_FIELD, tensor.nbytes)
            entries.append((proto.SerializeToString(deterministic=True) + raw, tensor))

    sizes = [len(prefix) + (0 if data is None else data.nbytes) for prefix, data in entries]
    total = len(graph) + sum(len(delimited(_INITIALIZER_FIELD, size)) + size for size in sizes)
    if total > (1 << 31) - 1:
        raise HubError(f"{path}: the model needs {total} bytes, more than a protobuf file can hold; use external data")
    with open(path, "wb") as file:
        file.write(head.SerializeToString(deterministic=True))
        file.write(delimited(_GRAPH_FIELD, total) + graph)
        for (prefix, data), size in zip(entries, sizes, strict=True):
            file.write(delimited(_INITIALIZER_FIELD, size) + prefix)
            if data is not None:
                _write_checked(data, file)
    if external:
        with open(data_path, "wb") as file:
            for tensor in outside:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                _write_checked(tensor, file)
        written.append(data_path)
    return written


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The protobuf of `model` without its initializers: what can be in memory for a model of any size."""
    values = list(model.graph.initializers.values())
    tensors = [value.const_value for value in values]
    try:
        for value in values:
            value.const_value = _NO_DATA
        proto = ir.serde.serialize_model(model)
    finally:
        for value, tensor in zip(values, tensors, strict=True):
            value.const_value = tensor
    names = {value.name for value in values}
    del proto.graph.initializer[:]
    kept = [info for info in proto.graph.value_info if info.name not in names]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    return proto


def _write_checked(tensor: ir.TensorProtocol, file: IO[bytes]) -> None:
    """A tensor whose data is not as long as its shape says would shift everything behind it."""
    file.flush()
    start = file.tell()
    write_tensor(tensor, file)
    length = file.tell() - start
    if length != tensor.nbytes:
        raise HubError(f"weight {tensor.name!r}: {length} bytes where its shape and dtype say {tensor.nbytes}")


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    if value.const_value is None:
        raise HubError(f"weight {value.name!r} has no data")
    return value.const_value
