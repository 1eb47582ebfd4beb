"""The types of MIL: their numbers in the file, their names, their bits, and what they are in ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from hub.errors import InvalidModel, Refusal

__all__ = ["BITS", "FP16", "NAMES", "STRING", "Declared", "by_name", "declared", "onnx_type"]

STRING, FP16 = 2, 10

NAMES = {1: "bool", 2: "string", 10: "fp16", 11: "fp32", 12: "fp64", 13: "bf16", 21: "int8", 22: "int16",
         23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4",
         36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3", 40: "fp8e4m3fn", 41: "fp8e5m2"}  # fmt: skip
"""DataType -> the name that ops such as `cast` use."""

BITS = {1: 8, 10: 16, 11: 32, 12: 64, 13: 16, 21: 8, 22: 16, 23: 32, 24: 64, 25: 4, 31: 8, 32: 16, 33: 32, 34: 64,
        35: 4, 36: 2, 37: 1, 38: 6, 39: 3, 40: 8, 41: 8}  # fmt: skip

_ONNX = {
    "bool": ir.DataType.BOOL, "string": ir.DataType.STRING, "fp16": ir.DataType.FLOAT16, "fp32": ir.DataType.FLOAT,
    "fp64": ir.DataType.DOUBLE, "int8": ir.DataType.INT8, "int16": ir.DataType.INT16, "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64, "uint8": ir.DataType.UINT8, "uint16": ir.DataType.UINT16, "int4": ir.DataType.INT4,
    "uint32": ir.DataType.UINT32, "uint64": ir.DataType.UINT64, "uint4": ir.DataType.UINT4,
}  # fmt: skip
_NUMBERS = {name: number for number, name in NAMES.items()}
MOST_AXES = 64


@dataclass(frozen=True)
class Declared:
    """The type that a program says a value has: `shape` has None where a size is open, and is None for any rank."""

    dtype: int
    shape: tuple[int | None, ...] | None


def declared(message: Any) -> Declared | None:
    """The type in a ValueType; None for what is no tensor.

    Raises:
        InvalidModel: it is damaged.
    """
    if message.WhichOneof("type") != "tensorType":
        return None
    tensor = message.tensorType
    shape: list[int | None] = []
    for dimension in tensor.dimensions:
        if dimension.WhichOneof("dimension") == "constant":
            if dimension.constant.size >= 1 << 48:
                raise InvalidModel(f"a value has a size of {dimension.constant.size}")
            shape.append(dimension.constant.size)
        elif dimension.unknown.variadic:
            return Declared(tensor.dataType, None)
        else:
            shape.append(None)
    if len(shape) > MOST_AXES or tensor.dataType not in NAMES:
        raise InvalidModel(f"a value is of type {tensor.dataType}, with {len(shape)} axes")
    if tensor.rank >= 0 and tensor.rank != len(shape):
        raise InvalidModel(f"a value is said to have {tensor.rank} axes, and sizes for {len(shape)}")
    return Declared(tensor.dataType, tuple(shape))


def onnx_type(dtype: int, upcast: bool = False) -> ir.DataType:
    """The type in ONNX; with `upcast`, half precision is float32.

    Raises:
        Refusal: there is none.
    """
    if upcast and dtype == FP16:
        return ir.DataType.FLOAT
    found = _ONNX.get(NAMES[dtype])
    if found is None:
        raise Refusal(f"its numbers are of type {NAMES[dtype]}, which ONNX Runtime does not have")
    return found


def by_name(name: str) -> int:
    """The number of a type that an op names.

    Raises:
        InvalidModel: there is no such type.
    """
    name = {"float": "fp32", "int": "int32", "float16": "fp16", "float32": "fp32"}.get(name, name)
    if name not in _NUMBERS:
        raise InvalidModel(f"there is no type {name[:40]!r}")
    return _NUMBERS[name]
