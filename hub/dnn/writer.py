"""Writes CNTK's model files, array by array, in both forms."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.dnn.values import LARGE, LIMIT, Array, Axis, Float, Int, Shape
from hub.wire import delimited, varint

__all__ = ["encode", "write"]


@dataclass
class _Rope:
    """A message in pieces, the arrays in it as they are."""

    length: int = 0
    pieces: list[bytes | Array] = field(default_factory=list)

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.length += len(piece)

    def put(self, number: int, inner: _Rope) -> None:
        """Add a message as a field."""
        self.add(delimited(number, inner.length))
        self.pieces += inner.pieces
        self.length += inner.length


def _text(number: int, text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return delimited(number, len(data)) + data


def _dictionary(tree: Mapping[str, Any], apart: bool) -> _Rope:
    rope = _Rope()
    rope.add(b"\x08\x01")
    for key, value in tree.items():
        entry = _Rope()
        entry.add(_text(1, key))
        entry.put(2, _value(value, apart))
        rope.put(2, entry)
    return rope


def _value(value: Any, apart: bool) -> _Rope:
    """A `DictionaryValue`: its version, its type, and the field that goes with the type."""
    number, content = _typed(value, apart)
    rope = _Rope()
    rope.add(b"\x08\x01\x10" + varint(number))
    if isinstance(content, _Rope):
        rope.put(number + 2, content)
    else:
        rope.add(content)
    return rope


def _typed(value: Any, apart: bool) -> tuple[int, bytes | _Rope]:
    rope = _Rope()
    match value:
        case None:
            return 0, b""
        case bool():
            return 1, b"\x18" + varint(value)
        case Int():
            return 2, b"\x20" + varint(value & (1 << 64) - 1)
        case int():
            return 3, b"\x28" + varint(value)
        case Float():
            return 4, b"\x35" + struct.pack("<f", value)
        case float():
            return 5, b"\x39" + struct.pack("<d", value)
        case str():
            return 6, _text(8, value)
        case Shape():
            rope.add(_shape(value))
            return 7, rope
        case Axis():
            rope.add(b"\x08" + varint(value.index & (1 << 64) - 1) + _text(2, value.name))
            rope.add(b"\x18" + varint(value.ordered))
            return 8, rope
        case list():
            for item in value:
                rope.put(1, _value(item, apart))
            return 9, rope
        case dict():
            return 10, _dictionary(value, apart)
        case Array():
            return 11, _array(value, apart)
    raise TypeError(f"CNTK has no value of type {type(value).__name__}")


def _shape(shape: Shape) -> bytes:
    sizes = b"".join(varint(size) for size in shape)
    return delimited(1, len(sizes)) + sizes


def _array(array: Array, apart: bool) -> _Rope:
    rope = _Rope()
    shape = _shape(array.shape)
    rope.add(b"\x08" + varint(array.data_type) + delimited(3, len(shape)) + shape)
    size = array.nbytes
    if not apart and size:
        head = delimited(1, size)
        rope.add(delimited(5 if array.data_type == 2 else 4, len(head) + size) + head)
        rope.pieces.append(array)
        rope.length += size
    return rope


def encode(tree: Mapping[str, Any]) -> bytes:
    """A dictionary without arrays as bytes."""
    return b"".join(piece for piece in _dictionary(tree, True).pieces if isinstance(piece, bytes))


def _arrays(value: Any) -> list[Array]:
    if isinstance(value, Array):
        return [value]
    if isinstance(value, dict | list):
        return [a for inner in (value.values() if isinstance(value, dict) else value) for a in _arrays(inner)]
    return []


def write(path: Path, tree: Mapping[str, Any], *, limit: int = LIMIT) -> None:
    """Write a model file, array by array. From `limit` bytes on it has the large form.

    The order of the arrays of a large file is that of its vectors: no dictionary may have two.
    """
    rope = _dictionary(tree, False)
    with open(path, "wb") as file:
        if rope.length < limit:
            pieces: list[bytes | Array] = rope.pieces
        else:
            head = encode(tree)
            pieces = [struct.pack("<II", LARGE, len(head)) + head, *_arrays(tree)]
        for piece in pieces:
            if isinstance(piece, bytes):
                file.write(piece)
            else:
                piece.put(file)
