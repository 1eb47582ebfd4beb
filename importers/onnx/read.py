"""Reads ONNX: checked, upgraded to the canonical opset, weights left in their files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from hub.canonical import canonicalize
from hub.errors import HubError, InvalidModel, UsageError
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
    model = _load(src)
    _set_shapes(model, inputs or {})
    try:
        canonicalize(model)
    except HubError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InvalidModel(f"{_where(src)}: not a valid ONNX graph: {error}") from error
    return Model(model, "onnx")


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
    model = _deserialize(proto, str(path))
    _check_external_data(model, path)
    ir.external_data.set_base_dir(model.graph, path.parent)
    return model


def _deserialize(proto: onnx.ModelProto, where: str) -> ir.Model:
    try:
        return ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise InvalidModel(f"{where}: not a valid ONNX graph: {error}") from error


def _check_external_data(model: ir.Model, path: Path) -> None:
    """Every range of external data must lie inside a file of the model's own folder."""
    home = path.parent.resolve()
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        location = str(tensor.location)
        file = (home / location).resolve()
        what = f"{path}: weight {value.name!r}: external data {location!r}"
        if os.path.isabs(location) or not file.is_relative_to(home):
            raise InvalidModel(f"{what} is outside the model's folder")
        if not file.is_file():
            raise InvalidModel(f"{what} does not exist; keep it beside the .onnx file")
        end = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
        if (tensor.length or tensor.nbytes) != tensor.nbytes:
            raise InvalidModel(f"{what} has {tensor.length} bytes where shape and dtype say {tensor.nbytes}")
        if (tensor.offset or 0) < 0 or end > file.stat().st_size:
            raise InvalidModel(f"{what} is truncated: {file.stat().st_size} bytes, the weight ends at {end}")


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
