"""Constants of a program: immediate values, and views of weight files; and the tensors that they become."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.errors import InvalidModel
from hub.tensors import MappedFile, ViewTensor
from importers.coreml.blob import blob
from importers.coreml.bundle import Bundle
from importers.coreml.types import BITS, FP16, NAMES, STRING, declared, onnx_type

__all__ = ["Array", "Const", "constant", "unpacked"]

Array = npt.NDArray[Any]

_NUMPY = {1: np.bool_, 10: np.float16, 11: np.float32, 12: np.float64, 21: np.int8, 22: np.int16, 23: np.int32,
          24: np.int64, 31: np.uint8, 32: np.uint16, 33: np.uint32, 34: np.uint64}  # fmt: skip
_SIGNED = frozenset({25})
_FIELDS = {"floats": (10, 11, 12), "doubles": (12, 11), "ints": (21, 22, 23, 31, 32, 33), "longInts": (24, 34, 33),
           "bools": (1,), "strings": (STRING,)}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Const:
    """A constant: its type, its shape, and how to get its numbers; sub-byte numbers come one a byte.

    `emit` makes, in a GraphBuilder, a node that gives it, where there is one that says exactly the same.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    load: Callable[[], Array]
    mapping: MappedFile | None = None
    emit: Callable[[Any], ir.Value] | None = field(default=None, compare=False)

    def numpy(self) -> Array:
        """The numbers, or the strings as objects."""
        return self.load()

    def python(self) -> Any:
        """A number or a string where there is one, otherwise an array."""
        array = self.load()
        return array.item() if array.ndim == 0 else array

    def tensor(self, upcast: bool) -> ir.TensorProtocol:
        """The numbers as a tensor of ONNX, evaluated when it is written."""
        dtype = onnx_type(self.dtype, upcast)
        if BITS.get(self.dtype, 8) < 8:
            kind = ml_dtypes.int4 if self.dtype in _SIGNED else ml_dtypes.uint4
            return self._lazy(lambda: self.load().astype(kind), dtype)
        if self.dtype == STRING:
            return ir.StringTensor(self.load().astype(bytes).astype(object), shape=ir.Shape(self.shape))
        if upcast and self.dtype == FP16:
            return self._lazy(lambda: self.load().astype(np.float32), dtype)
        if self.mapping is None:
            return self._lazy(self.load, dtype) if math.prod(self.shape) > 1024 else ir.Tensor(self.load())
        return ViewTensor(self.load(), self.shape, mapping=self.mapping)

    def _lazy(self, load: Callable[[], Array], dtype: ir.DataType) -> ir.TensorProtocol:
        return ir.LazyTensor(lambda: ir.Tensor(load(), dtype=dtype), dtype=dtype, shape=ir.Shape(self.shape), name=None)


def constant(message: Any, bundle: Bundle, name: str) -> Const:
    """The constant in a Value.

    Raises:
        InvalidModel: its type, its numbers or its blob do not fit together.
    """
    if message.type.WhichOneof("type") == "listType":
        return _list(message, bundle, name)
    kind = declared(message.type)
    if kind is None or kind.shape is None or None in kind.shape:
        raise InvalidModel(f"the constant {name[:100]!r} is not a tensor of a known shape")
    shape = tuple(int(size or 0) for size in kind.shape)
    count = math.prod(shape)
    held = message.WhichOneof("value")
    if held == "blobFileValue":
        file = bundle.weights(message.blobFileValue.fileName)
        found = blob(file, message.blobFileValue.offset, kind.dtype, count)
        return Const(name, kind.dtype, shape, lambda: _numbers(found.raw, kind.dtype, shape), found.mapping)
    if held != "immediateValue" or message.immediateValue.WhichOneof("value") != "tensor":
        raise InvalidModel(f"the constant {name[:100]!r} has no numbers")
    array = _immediate(message.immediateValue.tensor, kind.dtype, shape, name)
    return Const(name, kind.dtype, shape, lambda: array)


def _list(message: Any, bundle: Bundle, name: str) -> Const:
    """A list of constants without axes, as the labels of a classifier are."""
    items = message.immediateValue.list.values
    if any(item.type.WhichOneof("type") == "listType" for item in items):
        raise InvalidModel(f"the constant {name[:100]!r} is a list of lists")
    parts = [constant(item, bundle, name) for item in items]
    kinds = {part.dtype for part in parts}
    if len(kinds) != 1 or any(part.shape for part in parts):
        raise InvalidModel(f"the constant {name[:100]!r} is a list of different things")
    array = np.array([part.numpy().item() for part in parts], object)
    return Const(name, kinds.pop(), (len(parts),), lambda: array)


def _immediate(tensor: Any, dtype: int, shape: tuple[int, ...], name: str) -> Array:
    held, count = tensor.WhichOneof("value"), math.prod(shape)
    if held == "bytes":
        raw = np.frombuffer(tensor.bytes.values, np.uint8)
        if dtype == STRING or raw.size != -(-count * BITS[dtype] // 8):
            raise InvalidModel(f"the constant {name[:100]!r} has {raw.size} bytes for {count} numbers")
        return _numbers(raw, dtype, shape)
    if held is None:
        if count:
            raise InvalidModel(f"the constant {name[:100]!r} has no numbers")
        empty: Array = np.zeros(shape, _NUMPY.get(dtype, np.uint8))
        return empty
    values = getattr(tensor, held).values
    if dtype not in _FIELDS[held] or len(values) != count:
        what = f"{len(values)} {held} for {count} of type {NAMES[dtype]}"
        raise InvalidModel(f"the constant {name[:100]!r} has {what}")
    if dtype == STRING:
        return np.array(list(values), object).reshape(shape)
    try:
        return np.array(values, _NUMPY[dtype]).reshape(shape)
    except OverflowError as error:
        raise InvalidModel(f"the constant {name[:100]!r} has numbers beyond {NAMES[dtype]}") from error


def _numbers(raw: Array, dtype: int, shape: Sequence[int]) -> Array:
    if BITS[dtype] < 8:
        return unpacked(raw, BITS[dtype], math.prod(shape), dtype in _SIGNED).reshape(shape)
    if dtype not in _NUMPY:
        raise InvalidModel(f"numbers of type {NAMES[dtype]} are not supported")
    numbers: Array = raw != 0 if dtype == 1 else raw.view(_NUMPY[dtype])
    return numbers.reshape(shape)


def unpacked(raw: Array, bits: int, count: int, signed: bool = False) -> Array:
    """`count` numbers of so many bits, the lowest bits first, one a byte."""
    rows = np.unpackbits(raw, bitorder="little", count=count * bits).reshape(count, bits)
    numbers: Array = (rows << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    if not signed:
        return numbers
    return np.where(numbers >= 1 << (bits - 1), numbers.astype(np.int16) - (1 << bits), numbers).astype(np.int8)
