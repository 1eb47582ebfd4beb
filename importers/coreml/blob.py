"""Weight files of ML Programs: `weight.bin`, mapped and viewed, not copied.

The file begins with 64 bytes: how many blobs, and the version, 2. Each blob has 64 bytes of metadata, at a multiple of
64: a sentinel, the type, the size in bytes, where the data begins, and how many bits of its last byte are padding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hub.errors import InvalidModel
from hub.tensors import MappedFile
from importers.coreml.types import BITS, NAMES

__all__ = ["Blob", "blob"]

HEADER, METADATA, ALIGNMENT = 64, 64, 64
VERSION = 2
SENTINEL = 0xDEADBEEF

TYPES = {1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 5: "bf16", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1",
         10: "uint2", 11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32", 16: "fp8e4m3fn",
         17: "fp8e5m2"}  # fmt: skip
"""The types of blobs by their numbers in the file, which are others than those of the program."""


@dataclass(frozen=True)
class Blob:
    """The bytes of one blob, and the file that they are a view of."""

    raw: npt.NDArray[Any]
    mapping: MappedFile


def blob(file: MappedFile, offset: int, dtype: int, count: int) -> Blob:
    """The blob whose metadata is at `offset`: `count` elements of a type of the program.

    Raises:
        InvalidModel: it is not there, or is something else.
    """
    where = f"the blob at {offset} of {file.path.name[:100]}"
    if file.size < HEADER or offset % ALIGNMENT or offset < HEADER or offset + METADATA > file.size:
        raise InvalidModel(f"{where} is not inside of the file, which has {file.size} bytes")
    _, version = struct.unpack("<II", file.array(0, np.uint8, [8]).tobytes())
    if version != VERSION:
        raise InvalidModel(f"{file.path.name[:100]} is of version {version}; the one that is known is {VERSION}")
    sentinel, kind, size, begin, padding = struct.unpack("<IIQQQ", file.array(offset, np.uint8, [32]).tobytes())
    if sentinel != SENTINEL:
        raise InvalidModel(f"{where} has no metadata there: it begins with {sentinel:#x}")
    if TYPES.get(kind) != NAMES.get(dtype):
        raise InvalidModel(f"{where} is of type {TYPES.get(kind, kind)}, the program says {NAMES.get(dtype, dtype)}")
    if begin + size > file.size:
        raise InvalidModel(f"{where} has {size} bytes at {begin}, the file has {file.size}")
    needed = count * BITS[dtype]
    if size != -(-needed // 8) or (BITS[dtype] < 8 and padding != size * 8 - needed):
        raise InvalidModel(f"{where} has {size} bytes, for {count} numbers of type {NAMES[dtype]}")
    return Blob(file.array(begin, np.uint8, [size]), file)
