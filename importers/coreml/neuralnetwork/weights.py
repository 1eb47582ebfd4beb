"""Weights of a layer as ONNX tensors: views of the file where it has float32, otherwise computed when written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from hub.tensors import MappedFile, ViewTensor
from importers.coreml.wire import MARK, Range

__all__ = ["Array", "Weights"]

Array = npt.NDArray[Any]

MOST_ELEMENTS = 1 << 40


@dataclass
class Weights:
    """Where the weights of a model are: in its messages, or in `ranges` of a mapped file that they point to."""

    mapping: MappedFile | None = None
    ranges: Sequence[Range] = field(default_factory=tuple)

    def tensor(
        self, params: Any, shape: Sequence[int], name: str, transform: Callable[[Array], Array] | None = None
    ) -> ir.TensorProtocol:
        """The weights as float32 of `shape`, then by `transform`, a pure function.

        Raises:
            InvalidModel: there are more or fewer numbers.
        """
        stored = self._stored(params)
        count = math.prod(shape)
        self._check(stored, params, count, name)
        if set(stored) == {"float32"}:
            array = self._floats(stored["float32"]).reshape(shape)
            view = array if transform is None else transform(array)
            if view.dtype == np.float32:
                return ViewTensor(view, mapping=self.mapping if isinstance(stored["float32"], Range) else None)
        dims = tuple(shape)
        if transform is not None:
            dims = transform(np.broadcast_to(np.float32(0), dims)).shape

        def compute() -> ir.TensorProtocol:
            array = self.array(params, shape, name)
            return ir.tensor(np.ascontiguousarray(array if transform is None else transform(array)))

        return ir.LazyTensor(compute, dtype=ir.DataType.FLOAT, shape=ir.Shape(dims))

    def array(self, params: Any, shape: Sequence[int], name: str) -> Array:
        """The weights as a float32 array of `shape`."""
        stored = self._stored(params)
        count = math.prod(shape)
        self._check(stored, params, count, name)
        ((kind, place),) = stored.items()
        if kind == "float32":
            return self._floats(place).reshape(shape)
        if kind == "float16":
            return self._bytes(place).view("<f2").astype(np.float32).reshape(shape)
        quantization = params.quantization
        if kind == "int8":
            numbers = self._bytes(place).view(np.int8).astype(np.float32)
        else:
            numbers = _unpacked(self._bytes(place), quantization.numberOfBits, count)
        if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
            table = np.array(quantization.lookupTableQuantization.floatValue, np.float32)
            return table[numbers.astype(np.int64)].reshape(shape)
        linear = quantization.linearQuantization
        rows = numbers.astype(np.float32).reshape(shape)
        for values, apply in ((linear.scale, np.multiply), (linear.bias, np.add)):
            if values:
                by = np.array(values, np.float32)
                rows = apply(rows, by.reshape(-1, *[1] * (len(shape) - 1)) if by.size > 1 else by[0])
        return np.asarray(rows, np.float32)

    def given(self, params: Any) -> bool:
        """Whether there are any numbers."""
        return params is not None and bool(self._stored(params))

    def count(self, params: Any) -> int:
        """How many numbers there are, of weights that are not quantized."""
        return sum(self._size(place) // (2 if kind == "float16" else 4) for kind, place in self._stored(params).items())

    def _stored(self, params: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if params.floatValue:
            found["float32"] = params.floatValue
        if params.float16Value:
            found["float16"] = params.float16Value
        if params.rawValue:
            found["raw"] = params.rawValue
        if params.int8RawValue:
            found["int8"] = params.int8RawValue
        if self.ranges:
            from google.protobuf.unknown_fields import UnknownFieldSet

            unknowns: Any = UnknownFieldSet(params)
            for unknown in unknowns:
                if unknown.field_number == MARK:
                    place = self.ranges[unknown.data]
                    found[place.kind] = place
        return found

    def _check(self, stored: dict[str, Any], params: Any, count: int, name: str) -> None:
        if count > MOST_ELEMENTS:
            raise InvalidModel(f"{name} has {count} numbers by its sizes")
        if len(stored) != 1:
            what = "in several forms" if stored else "missing"
            raise InvalidModel(f"{name} is {what}")
        ((kind, place),) = stored.items()
        size = self._size(place)
        quantized = params.HasField("quantization")
        if kind in ("raw", "int8") and not quantized:
            raise InvalidModel(f"{name} has bytes and does not say how they are quantized")
        if kind in ("float32", "float16") and quantized:
            raise Refusal(f"{name} is quantized and has numbers of {kind}")
        if kind == "raw":
            self._check_raw(params.quantization, size, count, name)
            return
        expected = count * {"float32": 4, "float16": 2, "int8": 1}[kind]
        if size != expected:
            raise InvalidModel(f"{name} has {size} bytes, by its sizes {expected}")

    def _check_raw(self, quantization: Any, size: int, count: int, name: str) -> None:
        bits = quantization.numberOfBits
        if not 1 <= bits <= 8:
            raise InvalidModel(f"{name} has numbers of {bits} bits, 1 to 8 are possible")
        if size != max(-(-count * bits // 8), 1):
            raise InvalidModel(f"{name} has {size} bytes, by its sizes {-(-count * bits // 8)}")
        kind = quantization.WhichOneof("QuantizationType")
        if kind is None:
            raise InvalidModel(f"{name} does not say how it is quantized")
        if kind == "lookupTableQuantization" and len(quantization.lookupTableQuantization.floatValue) != 1 << bits:
            entries = len(quantization.lookupTableQuantization.floatValue)
            raise InvalidModel(f"{name} has a table of {entries} numbers, for {bits} bits there are {1 << bits}")

    def _size(self, place: Any) -> int:
        if isinstance(place, Range):
            return place.end - place.start
        return len(place) if isinstance(place, bytes) else 4 * len(place)

    def _bytes(self, place: Any) -> Array:
        if isinstance(place, Range):
            assert self.mapping is not None
            return self.mapping.array(place.start, np.uint8, (place.end - place.start,))
        return np.frombuffer(place, np.uint8)

    def _floats(self, place: Any) -> Array:
        if isinstance(place, Range):
            assert self.mapping is not None
            return self.mapping.array(place.start, "<f4", ((place.end - place.start) // 4,))
        return np.array(place, np.float32)


def _unpacked(data: Array, bits: int, count: int) -> Array:
    """Numbers of `bits` bits, the highest first, one after another."""
    if bits == 8:
        return data[:count]
    each = np.unpackbits(data)[: count * bits].reshape(count, bits)
    return each @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64))
