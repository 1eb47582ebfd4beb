"""Reads CNTK's model files, in both forms, without CNTK: arrays stay views of the mapped file.

Nothing in a file is trusted: each length is checked against what surrounds it, and depth and number of values
are bounded. Every error is an `InvalidModel` that names the file and the byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hub.dnn.values import FLOAT, LARGE, Array, Axis, Float, Int, Shape, Tree
from hub.errors import InvalidModel
from hub.tensors import MappedFile, blocks
from hub.wire import BYTES, FIXED32, FIXED64, VARINT, Wire, signed

__all__ = ["MappedArray", "read"]

DEEPEST = 24
MOST_VALUES = 2_000_000
MOST_AXES = 64
MOST_NUMBERS = 1 << 40

LEGACY = b"B\0C\0N\0\0\0"
"""How files of CNTK 1 begin: "BCN" in UTF-16 (BackCompat.cpp in CNTK's sources)."""

KINDS = (-1, VARINT, VARINT, VARINT, FIXED32, FIXED64, BYTES, BYTES, BYTES, BYTES, BYTES, BYTES)
"""The wire type of a `DictionaryValue`'s field by its type."""

STORED = {1: 4, 2: 5, 4: 4, 5: 6, 6: 7}
"""The field of an NDArrayView in which its numbers are, by its DataType."""


@dataclass(frozen=True)
class MappedArray(Array):
    """An array of a file: `numbers`, in C order of the reversed shape, is a view wherever the file allows it."""

    numbers: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    mapping: MappedFile | None = None


def read(path: Path) -> Tree:
    """The dictionary that a file is.

    Raises:
        InvalidModel: it is damaged, hostile, a file of CNTK 1, or something else.
    """
    mapping = MappedFile(path)
    if mapping.size == 0:
        raise InvalidModel(f"{path} is empty")
    wire = Wire(mapping, "model of CNTK")
    start = bytes(wire.data[:8])
    if start == LEGACY:
        raise InvalidModel(
            f"{path} is of CNTK 1; CNTK 2 brings it to the current format: cntk.Function.load(...) and then .save(...)"
        )
    if len(start) == 8 and struct.unpack("<I", start[:4])[0] == LARGE:
        size = struct.unpack("<I", start[4:])[0]
        if size > mapping.size - 8:
            raise InvalidModel(f"{path} is truncated: its message has {size} bytes, the file {mapping.size - 8}")
        reader = _Reader(wire, apart=8 + size)
        tree = reader.dictionary(8, 8 + size, 0)
        if reader.apart != mapping.size:
            raise InvalidModel(f"{path}: {mapping.size - (reader.apart or 0)} bytes behind the last array are left")
        return tree
    return _Reader(wire).dictionary(0, mapping.size, 0)


@dataclass
class _Reader:
    """One walk over a file. `apart`: where the numbers of the next array are, in a large file."""

    wire: Wire
    apart: int | None = None
    count: int = 0

    def fail(self, position: int, what: str) -> InvalidModel:
        return InvalidModel(f"{self.wire.path} is damaged at byte {position}: {what}")

    def dictionary(self, start: int, end: int, depth: int) -> Tree:
        """A `Dictionary`; of a key that occurs again the last value holds, as in any map."""
        tree: Tree = {}
        places: dict[str, tuple[int, int]] = {}
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "a dictionary"):
            if number == 2 and kind == BYTES:
                key, place = self.entry(inner, stop)
                places.pop(key, None)
                places[key] = place
            elif (number, kind) != (1, VARINT):
                raise self.fail(begin, f"a dictionary has no field {number} of wire type {kind}")
        holders = []
        for key, place in places.items():
            before = self.apart
            tree[key] = self.value(*place, depth + 1)
            if self.apart != before:
                holders.append(key)
        if len(holders) > 1:
            # CNTK writes them in the order of a hash table, which nothing in the file tells.
            raise self.fail(start, f"the order of the arrays in {', '.join(holders[:3])} cannot be told")
        return tree

    def entry(self, start: int, end: int) -> tuple[str, tuple[int, int]]:
        """The key of an entry, and where its value lies; an entry without one has an empty one."""
        key, value = "", (end, end)
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "an entry"):
            if number == 1 and kind == BYTES:
                key = self.text(inner, stop)
            elif number == 2 and kind == BYTES:
                value = (inner, stop)
            else:
                raise self.fail(begin, f"an entry has no field {number} of wire type {kind}")
        return key, value

    def value(self, start: int, end: int, depth: int) -> Any:
        """A `DictionaryValue`: what it holds, checked against the type that it says."""
        self.count += 1
        if depth > DEEPEST or self.count > MOST_VALUES:
            raise self.fail(start, f"more than {DEEPEST} levels" if depth > DEEPEST else f"over {MOST_VALUES} values")
        type_, found = 0, None
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "a value"):
            if kind == VARINT and number in (1, 2):
                type_ = self.wire.varint(inner, stop, "a value")[0] if number == 2 else type_
            elif found is None and 3 <= number < 14 and kind == KINDS[number - 2]:
                found = (number - 2, inner, stop)
            else:
                raise self.fail(begin, f"a value has no field {number} of wire type {kind}, or two")
        if type_ >= len(KINDS) or (found is not None and found[0] != type_):
            raise self.fail(start, f"a value of type {type_} holds one of type {found[0] if found else 'none'}")
        if found is None:
            return _empty(type_) if type_ < 11 else self.array(end, end)
        return self.content(*found, depth)

    def content(self, type_: int, start: int, end: int, depth: int) -> Any:
        """What the field of a value says, by its type."""
        if type_ <= 3:
            number = self.wire.varint(start, end, "a value")[0]
            return bool(number) if type_ == 1 else Int(signed(number, 32)) if type_ == 2 else number
        if type_ in (4, 5):
            number = struct.unpack("<f" if type_ == 4 else "<d", self.wire.data[start:end])[0]
            return Float(number) if type_ == 4 else number
        match type_:
            case 6:
                return self.text(start, end)
            case 7:
                return self.shape(start, end)
            case 8:
                return self.axis(start, end)
            case 9:
                return self.vector(start, end, depth)
            case 10:
                return self.dictionary(start, end, depth)
        return self.array(start, end)

    def text(self, start: int, end: int) -> str:
        try:
            return str(self.wire.data[start:end], "utf-8")
        except UnicodeDecodeError:
            raise self.fail(start, "a name is not text") from None

    def vector(self, start: int, end: int, depth: int) -> list[Any]:
        values = []
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "a vector"):
            if (number, kind) != (1, BYTES):
                raise self.fail(begin, f"a vector has no field {number} of wire type {kind}")
            values.append(self.value(inner, stop, depth + 1))
        return values

    def numbers(self, number: int, kind: int, start: int, end: int) -> list[int]:
        """Varints, packed or one by one."""
        found: list[int] = []
        while start < end and number == 1 and kind in (VARINT, BYTES):
            value, start = self.wire.varint(start, end, "a shape")
            found.append(value)
            if len(found) > MOST_AXES:
                raise self.fail(start, f"more than {MOST_AXES} axes")
        return found

    def shape(self, start: int, end: int) -> Shape:
        sizes: list[int] = []
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "a shape"):
            sizes += self.numbers(number, kind, inner, stop)
            if number != 1 or len(sizes) > MOST_AXES:
                raise self.fail(begin, f"a shape of more than {MOST_AXES} axes, or with a field {number}")
        return Shape(sizes)

    def axis(self, start: int, end: int) -> Axis:
        index, name, ordered = 0, "", False
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "an axis"):
            if number == 2 and kind == BYTES:
                name = self.text(inner, stop)
            elif number in (1, 3) and kind == VARINT:
                given = signed(self.wire.varint(inner, stop, "an axis")[0], 32)
                index, ordered = (given, ordered) if number == 1 else (index, bool(given))
            else:
                raise self.fail(begin, f"an axis has no field {number} of wire type {kind}")
        return Axis(index, name, ordered)

    # -- arrays ------------------------------------------------------------------------------------------

    def array(self, start: int, end: int) -> MappedArray:
        """An NDArrayView; where its numbers are not in the message, they lie apart."""
        type_ = storage = 0
        shape = Shape()
        chunks: list[tuple[int, int, int]] = []
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "an array"):
            if number in (1, 2) and kind == VARINT:
                given = self.wire.varint(inner, stop, "an array")[0]
                type_, storage = (given, storage) if number == 1 else (type_, given)
            elif number == 3 and kind == BYTES:
                shape = self.shape(inner, stop)
            elif 4 <= number <= 7 and kind == BYTES:
                chunks.append((number, inner, stop))
            else:
                raise self.fail(begin, f"an array has no field {number} of wire type {kind}")
        count = math.prod(shape)
        if type_ not in STORED or storage != 0:
            raise self.fail(start, f"an array of type {type_} in the storage format {storage}, which is not dense")
        if any(number != STORED[type_] for number, _, _ in chunks):
            raise self.fail(start, f"an array of type {type_} has its numbers in field {chunks[0][0]}")
        if count > MOST_NUMBERS:
            raise self.fail(start, f"an array of the shape {tuple(shape)}")
        found = [piece for _, begin, stop in chunks for piece in self.pieces(begin, stop, type_)]
        numbers = found[0] if len(found) == 1 else np.concatenate(found) if found else None
        if numbers is None or numbers.size != count:
            numbers = self.elsewhere(start, type_, count, 0 if numbers is None else numbers.size)
        return _mapped(type_, shape, numbers.reshape(tuple(shape)[::-1]), self.wire.mapping)

    def elsewhere(self, start: int, type_: int, count: int, given: int) -> npt.NDArray[Any]:
        """The numbers of an array that the message has none of: in a large file those that come next."""
        if count == 0:
            return np.zeros(0, FLOAT.get(type_, np.dtype(np.int8)))
        if self.apart is None or given or type_ not in FLOAT:
            raise self.fail(start, f"an array has {given} numbers where its shape says {count}")
        place, dtype = self.apart, FLOAT[type_]
        self.apart += count * dtype.itemsize
        if self.apart > self.wire.mapping.size:
            raise InvalidModel(
                f"{self.wire.path} is truncated: an array needs {count * dtype.itemsize} bytes at {place}, "
                f"the file has {self.wire.mapping.size}"
            )
        return self.wire.mapping.array(place, dtype, (count,))

    def pieces(self, start: int, end: int, type_: int) -> list[npt.NDArray[Any]]:
        """The numbers in one FloatValues, DoubleValues, BytesValue or IntValues."""
        found: list[npt.NDArray[Any]] = []
        for number, kind, begin, inner, stop in self.wire.fields(start, end, "an array"):
            if number != 1 or kind != BYTES:
                raise self.fail(begin, f"numbers that are not packed: field {number} of wire type {kind}")
            if type_ == 6:
                found.append(self.zigzag(inner, stop))
                continue
            dtype = FLOAT.get(type_, np.dtype(np.int8))
            if (stop - inner) % dtype.itemsize:
                raise self.fail(begin, f"{stop - inner} bytes are no numbers of {dtype.itemsize}")
            found.append(self.wire.mapping.array(inner, dtype, ((stop - inner) // dtype.itemsize,)))
        return found

    def zigzag(self, start: int, end: int) -> npt.NDArray[Any]:
        values = []
        while start < end:
            value, start = self.wire.varint(start, end, "an array")
            values.append((value >> 1) ^ -(value & 1))
        if any(not -(1 << 15) <= value < 1 << 15 for value in values):
            raise self.fail(start, "a number of more than 16 bits")
        return np.array(values, np.int16)


def _empty(type_: int) -> Any:
    """A value whose field is left out."""
    return (None, False, Int(0), 0, Float(0), 0.0, "", Shape(), Axis(0, "", False), [], {})[type_]


def _mapped(type_: int, shape: Shape, numbers: npt.NDArray[Any], mapping: MappedFile) -> MappedArray:
    return MappedArray(type_, shape, _put(numbers, mapping), numbers, mapping)


def _put(numbers: npt.NDArray[Any], mapping: MappedFile) -> Callable[[IO[bytes]], None]:
    def put(file: IO[bytes]) -> None:
        for block in blocks(numbers, mapping):
            file.write(block.tobytes())

    return put
