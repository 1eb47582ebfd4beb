"""CNTK's model files, version 2: one tree of typed values, written without CNTK.

A file is a `Dictionary` message of Protocol Buffers (CNTK.proto in CNTK's sources): a map from names to values,
each of which says its type. In Python the types are

    Bool bool · Int `Int` · SizeT int · Float `Float` · Double float · String str · None None
    NDShape `Shape` · Axis `Axis` · Vector list · Dictionary dict · NDArrayView `Array`

Shapes run as CNTK's do, the fastest axis first: an array of C order (O, I, H, W) has the shape (W, H, I, O) and
the same bytes. A file of 2 GB or more has the numbers of its arrays behind the message, in its order
(`LARGE`; Serialization.cpp in CNTK's sources).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from hub.wire import delimited, varint

__all__ = [
    "BATCH",
    "FLOAT",
    "FREE",
    "INFERRED",
    "LARGE",
    "OPERATORS",
    "Array",
    "Axis",
    "Float",
    "Int",
    "Shape",
    "Tree",
    "encode",
    "write",
]

Tree: TypeAlias = dict[str, Any]

LARGE = 0x636E746B
"""The first four bytes, little endian, of a file whose arrays lie behind the message."""

LIMIT = (1 << 31) - 1
"""From this size on, in bytes, a file has the large form."""

FREE, INFERRED = (1 << 64) - 3, (1 << 64) - 1
"""Sizes in a shape: one that is known at run time only, one that CNTK works out."""

OPERATORS = dict(
    enumerate(
        """Negate Sigmoid Tanh ReLU Exp Log Sqrt Floor Abs Reciprocal Softmax Hardmax TransposeAxes Where Slice
        Dropout Reshape Pooling SumAll Plus Minus ElementTimes Equal NotEqual Less LessEqual Greater GreaterEqual
        PackedIndex GatherPacked ScatterPacked Times TransposeTimes Convolution SquaredError
        CrossEntropyWithSoftmax ClassificationError PastValue FutureValue ReduceElements BatchNormalization Clip
        Select Splice Combine RandomSample RandomSampleInclusionFrequency ROIPooling Logistic OptimizedRNNStack
        ReconcileDynamicAxis LogSoftmax LogPlus CosDistance Sin Cos Pass Block Unpooling LambdaRank NDCG
        EditDistanceError NoOp LabelsToGraph StopGradient ELU ForwardBackward CosDistanceWithNegativeSamples
        OneHot Pow ToSequence ToSequenceLike UnpackSequence Assign Gather StableSigmoid RandomDistribution Sinh
        Cosh UnpackBatch ToBatch Asin Acos Pad Crop Atanh Asinh TopK Squeeze ConstantOp
        LatticeSequenceWithSoftmax Cast EyeLike CustomProxyOp StraightThrough Tan Atan ConvolutionSequenceShape
        """.split()
    )
)
"""The names of CNTK's primitive functions by their numbers in files (PrimitiveOpType.h)."""


class Int(int):
    """A signed number of 32 bits; a plain int is a SizeT, unsigned and of 64 bits."""


class Float(float):
    """A number of 32 bits; a plain float is a Double."""


class Shape(tuple[int, ...]):
    """An NDShape, the fastest axis first."""


@dataclass(frozen=True)
class Axis:
    """A static axis by its number from the fastest on (-1: all), or a dynamic one by its name."""

    index: int
    name: str = "staticAxisIdx="
    ordered: bool = True


BATCH = Axis((1 << 31) - 1, "defaultBatchAxis", False)

FLOAT: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 4: np.dtype("<f4")}
"""How the numbers of a DataType are stored: Float, Double; Float16 as 32 bits."""


@dataclass(frozen=True)
class Array:
    """An NDArrayView: its DataType (1 Float, 2 Double, 4 Float16, 5 Int8, 6 Int16), its shape, and its numbers.

    `put` writes the numbers as they are stored, little endian, into a file.
    """

    data_type: int
    shape: Shape
    put: Callable[[IO[bytes]], None]

    @property
    def nbytes(self) -> int:
        """What `put` writes."""
        return math.prod(self.shape) * FLOAT[self.data_type].itemsize


# -- writing ---------------------------------------------------------------------------------------------


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
