"""The message of a model without its weights, which stay in the file.

Parsing a whole `.mlmodel` would hold all of its weights in memory, twice where they are then made arrays. So the
messages that can contain weights are walked, and what is large in a `WeightParams` is left out; a number in its
place says where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from hub.errors import InvalidModel
from hub.schemas import messages
from hub.tensors import MappedFile
from hub.wire import BYTES, VARINT, Wire, delimited, varint

__all__ = ["MARK", "Range", "Skeleton", "skeleton"]

LARGE = 256
"""Weights of fewer bytes stay in the message."""

DEEPEST = 32
"""Most messages inside of one another: pipelines, branches and loops."""

MARK = 1 << 20
"""The number of the field, in a `WeightParams`, that says which range was left out; no file has it."""

KINDS = {1: "float32", 2: "float16", 30: "raw", 31: "int8"}
"""Fields of a `WeightParams` with numbers."""


@dataclass(frozen=True)
class Range:
    """Bytes of the file: from `start` to `end`, which are one field of a `WeightParams`."""

    kind: str
    start: int
    end: int


@dataclass
class Skeleton:
    """A model's message, and the ranges that its marks stand for."""

    message: Any
    mapping: MappedFile
    ranges: list[Range] = field(default_factory=list)


def skeleton(mapping: MappedFile) -> Skeleton:
    """The message of a `.mlmodel` without what is large in it.

    Raises:
        InvalidModel: the file is damaged.
    """
    result = Skeleton(None, mapping)
    wire = Wire(mapping, "Core ML model")
    model = messages("coreml").Model
    parts: list[bytes] = []
    _walk(wire, 0, mapping.size, model.DESCRIPTOR, result.ranges, parts, 0)
    try:
        result.message = model.FromString(b"".join(parts))
    except DecodeError as error:
        raise InvalidModel(f"{mapping.path} is damaged or no Core ML model: {error}") from error
    return result


def _has_weights(descriptor: Any) -> bool:
    """Whether messages of this type can contain a `WeightParams`."""
    name = descriptor.full_name
    if name not in _KNOWN:
        seen, waiting = {name}, [descriptor]
        while waiting:
            for found in waiting.pop().fields:
                kind = found.message_type
                if kind is not None and kind.full_name not in seen:
                    seen.add(kind.full_name)
                    waiting.append(kind)
        _KNOWN[name] = any(one.endswith(".WeightParams") for one in seen)
    return _KNOWN[name]


_KNOWN: dict[str, bool] = {}


def _walk(
    wire: Wire, start: int, end: int, descriptor: Any, ranges: list[Range], parts: list[bytes], depth: int
) -> int:
    """Append the message between two bytes, without what is large; returns its length."""
    if depth > DEEPEST:
        raise InvalidModel(f"{wire.path} has messages inside of one another at byte {start}, more than {DEEPEST}")
    length = 0
    copied = start

    def copy(upto: int) -> None:
        nonlocal length
        if upto > copied:
            parts.append(bytes(wire.data[copied:upto]))
            length += upto - copied

    weights = descriptor.name == "WeightParams"
    for number, kind, first, inner, last in wire.fields(start, end, descriptor.name):
        if weights and number == MARK:
            raise InvalidModel(f"{wire.path} is damaged at byte {first}: a WeightParams has no field {MARK}")
        if weights and kind == BYTES and number in KINDS and last - inner >= LARGE:
            copy(first)
            mark = varint(MARK << 3 | VARINT) + varint(len(ranges))
            ranges.append(Range(KINDS[number], inner, last))
            parts.append(mark)
            length += len(mark)
            copied = last
            continue
        found = descriptor.fields_by_number.get(number)
        if kind != BYTES or found is None or found.message_type is None or last - inner < LARGE:
            continue
        if not _has_weights(found.message_type):
            continue
        copy(first)
        content: list[bytes] = []
        size = _walk(wire, inner, last, found.message_type, ranges, content, depth + 1)
        head = delimited(number, size)
        parts.append(head)
        parts.extend(content)
        length += len(head) + size
        copied = last
    copy(end)
    return length
