"""Weights to .safetensors, streamed: memory use does not depend on their size.

The format: the length of the header as 8 bytes little-endian, the header as JSON, the data.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from exporters.torch.values import Array, Constant

__all__ = ["write_safetensors"]

_BLOCK = 4 << 20
_RELEASE = 32 << 20
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
        read = 0
        for constant in tensors.values():
            array = constant.numpy()
            for block in _blocks(array):
                read += _write_block(file, block)
                if read > _RELEASE:
                    _release(array)
                    read = 0
            _release(array)


def _write_block(file: BinaryIO, block: Array) -> int:
    contiguous = np.ascontiguousarray(block)
    if contiguous.dtype.byteorder == ">":
        contiguous = contiguous.astype(contiguous.dtype.newbyteorder("<"))
    return file.write(contiguous.reshape(-1).view(np.uint8).data)


def _blocks(array: Array) -> Iterator[Array]:
    """The array in pieces of a few megabytes, in C order."""
    if not array.size:
        return
    if array.nbytes <= _BLOCK or array.ndim == 0:
        yield array
        return
    row = array.nbytes // array.shape[0]
    if row > _BLOCK:
        for part in array:
            yield from _blocks(part)
        return
    rows = max(1, _BLOCK // row)
    for start in range(0, array.shape[0], rows):
        yield array[start : start + rows]


def _release(array: Array) -> None:
    """Let go of the pages of a memory-mapped array: they have been read."""
    base: object = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.obj if isinstance(base, memoryview) else base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
