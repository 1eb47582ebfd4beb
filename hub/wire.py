"""The wire format of Protocol Buffers, for files that are written as streams or read where they lie.

Parsing such a file as one message would hold all of its weights in memory. So the tags and lengths of large
files are walked, each length checked against the message around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import InvalidModel
from hub.tensors import MappedFile

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "Wire", "delimited", "signed", "varint"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int, int, int]
"""Field number, wire type, where it starts, where its content starts and ends."""


def varint(number: int) -> bytes:
    """A non-negative number in groups of seven bits, the lowest first."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def delimited(field: int, length: int) -> bytes:
    """What comes before `length` bytes of a message, a string or packed numbers in `field`."""
    return varint(field << 3 | 2) + varint(length)


def signed(number: int, bits: int = 64) -> int:
    """The signed number that a varint stands for, cut to so many bits."""
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number


class Wire:
    """The bytes of a mapped file, walked as messages. `kind` is what the file should be, as "caffemodel".

    Every error is an `InvalidModel` that names the file and the byte.
    """

    def __init__(self, mapping: MappedFile, kind: str) -> None:
        self.mapping = mapping
        self.path: Path = mapping.path
        self.kind = kind
        everything: Any = mapping.array(0, np.uint8, (mapping.size,))
        self.data = memoryview(everything)

    def varint(self, position: int, end: int, what: str) -> tuple[int, int]:
        """The number at `position`, and where it ends."""
        value = shift = 0
        start = position
        while True:
            if position >= end:
                raise InvalidModel(f"{self.path} is truncated or damaged at byte {start}: {what} ends in a number")
            byte = self.data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, position
            shift += 7
            if shift > 63:
                raise InvalidModel(f"{self.path} is damaged at byte {start}: a number of more than 10 bytes")

    def fields(self, position: int, end: int, what: str) -> Iterator[Field]:
        """The fields of one message, `what`, that lies between two bytes."""
        while position < end:
            start = position
            tag, position = self.varint(position, end, what)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                inner = position
                _, position = self.varint(position, end, what)
            elif kind in (FIXED64, FIXED32):
                inner = position
                position += 8 if kind == FIXED64 else 4
            elif kind == BYTES:
                length, inner = self.varint(position, end, what)
                position = inner + length
            else:
                raise InvalidModel(f"{self.path} is damaged, or no {self.kind}, at byte {start}: wire type {kind}")
            if position > end or number == 0:
                raise InvalidModel(
                    f"{self.path} is truncated or damaged at byte {start}: field {number} needs "
                    f"{position - inner} bytes, {what} has {max(end - inner, 0)}"
                )
            yield number, kind, start, inner, position
