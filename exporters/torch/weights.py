"""Weights to .safetensors, streamed: memory use does not depend on their size.

The format: the length of the header as 8 bytes little-endian, the header as JSON, the data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from exporters.constants import Constant

__all__ = ["write_safetensors"]

_NAMES = {
    ir.DataType.FLOAT: "F32",
    ir.DataType.DOUBLE: "F64",
    ir.DataType.FLOAT16: "F16",
    ir.DataType.BFLOAT16: "BF16",
    ir.DataType.INT8: "I8",
    ir.DataType.INT16: "I16",
    ir.DataType.INT32: "I32",
    ir.DataType.INT64: "I64",
    ir.DataType.UINT8: "U8",
    ir.DataType.UINT16: "U16",
    ir.DataType.UINT32: "U32",
    ir.DataType.UINT64: "U64",
    ir.DataType.BOOL: "BOOL",
}


def write_safetensors(path: Path, tensors: Mapping[str, Constant]) -> None:
    """Write the tensors in the order given."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, constant in tensors.items():
        end = offset + constant.size * int(constant.dtype.itemsize)
        header[name] = {
            "dtype": _NAMES[constant.dtype],
            "shape": list(constant.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for constant in tensors.values():
            constant.write(file)
