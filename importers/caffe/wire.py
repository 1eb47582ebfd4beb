"""A caffemodel as it lies in its file: where its layers and blobs are; no weight is read.

A caffemodel is one Protocol Buffers message, which is walked (`hub/wire.py`). What is not weights is small and
goes to protobuf; packed numbers become views of the mapped file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field as of
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from hub.errors import InvalidModel
from hub.schemas import messages
from hub.tensors import MappedFile
from hub.wire import BYTES, FIXED32, FIXED64, Wire

__all__ = ["Blob", "RawLayer", "WeightFile"]

LAYER, LAYERS = 100, 2
BLOBS = {LAYER: 7, LAYERS: 6}
"""The field of a layer in which its blobs are, by the field of the net in which the layer is."""

V0_LAYER = 1
"""The field of a V1 layer that holds the layer of the first format."""

MOST_LAYERS = 20_000
MOST_HEAD = 64 << 20
"""Bytes of everything that is not weights."""

Numbers = npt.NDArray[Any]


@dataclass
class Blob:
    """One blob: its shape and its numbers, flat, as they are stored.

    `legacy`: the shape is that of the time when each blob had four sizes, ones in front.
    """

    shape: tuple[int, ...]
    numbers: Numbers
    legacy: bool = False
    mapping: MappedFile | None = None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether Caffe takes it for a blob of `shape`."""
        if self.legacy:
            return len(shape) <= 4 and self.shape == (1,) * (4 - len(shape)) + shape
        return self.shape == shape


@dataclass
class RawLayer:
    """A layer of the file: its message without blobs, and the ranges of the blobs."""

    message: Any
    field: int
    offset: int
    blobs: list[tuple[int, int]] = of(default_factory=list)


class WeightFile:
    """An opened caffemodel.

    Attributes:
        net: the `NetParameter` without its layers.
        layers: the layers, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mapping = MappedFile(path)
        if self.mapping.size == 0:
            raise InvalidModel(f"{path} is empty")
        self._wire = Wire(self.mapping, "caffemodel")
        if bytes(self._wire.data[:8]) == b"\x89HDF\r\n\x1a\n":
            raise InvalidModel(f"{path} holds weights as HDF5; save them as a binary .caffemodel with Caffe")
        self._schema = messages("caffe")
        head = bytearray()
        self.layers: list[RawLayer] = []
        total = 0
        for number, kind, start, inner, end in self._wire.fields(0, self.mapping.size, "the file"):
            if number in BLOBS and kind == BYTES:
                if len(self.layers) == MOST_LAYERS:
                    raise InvalidModel(f"{path} has more than {MOST_LAYERS} layers")
                layer, size = self._layer(number, inner, end)
                self.layers.append(layer)
                total += size
            else:
                head += self._wire.data[start:end]
                total += end - start
            if total > MOST_HEAD:
                raise InvalidModel(f"{path} has more than {MOST_HEAD} bytes beside its weights; it is no caffemodel")
        self.net = self._parse(self._schema.NetParameter, bytes(head), "the net", 0)
        if not self.layers:
            raise InvalidModel(f"{path} is not a caffemodel: it has no layers")

    def blobs(self, layer: RawLayer) -> list[Blob]:
        """The blobs of a layer.

        Raises:
            InvalidModel: a blob is damaged.
        """
        return [self._blob(start, end, f"blob {i}") for i, (start, end) in enumerate(layer.blobs)]

    # -- the format --------------------------------------------------------------------------------

    def _layer(self, number: int, start: int, end: int) -> tuple[RawLayer, int]:
        what = f"layer {len(self.layers)}"
        head = bytearray()
        blobs: list[tuple[int, int]] = []
        for inner_number, kind, begin, inner, stop in self._wire.fields(start, end, what):
            if inner_number == BLOBS[number] and kind == BYTES:
                if len(blobs) == MOST_LAYERS:
                    raise InvalidModel(f"{self.path}: {what} has more than {MOST_LAYERS} blobs")
                blobs.append((inner, stop))
            elif number == LAYERS and inner_number == V0_LAYER:
                raise InvalidModel(f"{self.path} is of Caffe's first format; {UPGRADE_BINARY}")
            else:
                head += self._wire.data[begin:stop]
                if len(head) > MOST_HEAD:
                    raise InvalidModel(f"{self.path}: {what} has more than {MOST_HEAD} bytes beside its weights")
        kind_ = self._schema.LayerParameter if number == LAYER else self._schema.V1LayerParameter
        return RawLayer(self._parse(kind_, bytes(head), what, start), number, start, blobs), len(head)

    def _parse(self, kind: Any, data: bytes, what: str, offset: int) -> Any:
        try:
            message = kind.FromString(data)
        except (DecodeError, ValueError) as error:
            raise InvalidModel(f"{self.path} is damaged at byte {offset}: {what}: {error}") from error
        for descriptor, value in message.ListFields():
            if descriptor.type == descriptor.TYPE_STRING:
                texts = [value] if isinstance(value, str | bytes) else value
                if not all(isinstance(text, str) for text in texts):  # protobuf gives bytes as they are
                    where = f"{self.path} is damaged at byte {offset}"
                    raise InvalidModel(f"{where}: {what}: its {descriptor.name} is not text")
        return message

    def _blob(self, start: int, end: int, what: str) -> Blob:
        what = f"{what} (at byte {start})"
        head = bytearray()
        chunks: dict[str, list[Numbers]] = {"<f4": [], "<f8": []}
        raw: list[tuple[int, int]] = []
        position = start
        for number, kind, begin, inner, stop in self._wire.fields(start, end, what):
            if begin < position:
                continue  # inside a run of numbers that has been taken at once
            dtype = {5: "<f4", 8: "<f8"}.get(number)
            if dtype is not None and kind == BYTES:
                chunks[dtype].append(self._packed(inner, stop, dtype, what))
            elif dtype is not None and kind == (FIXED32 if number == 5 else FIXED64):
                run = self._unpacked(begin, inner, end, dtype)
                chunks[dtype].append(run)
                position = begin + len(run) * (inner - begin + run.itemsize)
            elif number == 12 and kind == BYTES:
                raw = [(inner, stop)]
            elif number not in (6, 9, 13):  # gradients
                head += self._wire.data[begin:stop]
                if len(head) > 1 << 16:
                    raise InvalidModel(f"{self.path}: {what} has more than {1 << 16} bytes beside its numbers")
        message = self._parse(self._schema.BlobProto, bytes(head), what, start)
        numbers = chunks["<f8"] or chunks["<f4"]
        if raw and not numbers:
            numbers = [self._raw(message, *raw[0], what)]
        flat = numbers[0] if len(numbers) == 1 else np.concatenate(numbers) if numbers else np.zeros(0, np.float32)
        return blob(message, flat, f"{self.path}: {what}", self.mapping)

    def _packed(self, start: int, end: int, dtype: str, what: str) -> Numbers:
        size = np.dtype(dtype).itemsize
        if (end - start) % size:
            raise InvalidModel(f"{self.path}: {what} is damaged: {end - start} bytes are no numbers of {size}")
        return self.mapping.array(start, dtype, ((end - start) // size,))

    def _unpacked(self, begin: int, inner: int, end: int, dtype: str) -> Numbers:
        """Numbers that each have their own tag: all that follow each other at once."""
        tag = bytes(self._wire.data[begin:inner])
        size = len(tag) + np.dtype(dtype).itemsize
        rows = self.mapping.array(begin, np.uint8, ((end - begin) // size, size))
        same = (rows[:, : len(tag)] == np.frombuffer(tag, np.uint8)).all(1)
        count = len(same) if same.all() else int(np.argmin(same))
        return np.ascontiguousarray(rows[:count, len(tag) :]).view(dtype).reshape(-1)

    def _raw(self, message: Any, start: int, end: int, what: str) -> Numbers:
        kinds = {message.DOUBLE: "<f8", message.FLOAT: "<f4", message.FLOAT16: "<f2"}
        if not message.HasField("raw_data_type") or message.raw_data_type not in kinds:
            raise InvalidModel(f"{self.path}: {what} holds numbers of a type that is not supported")
        return self._packed(start, end, kinds[message.raw_data_type], what)


UPGRADE_BINARY = "bring it to the current one with Caffe's tool upgrade_net_proto_binary"


def blob(message: Any, numbers: Numbers, where: str, mapping: MappedFile | None = None) -> Blob:
    """A blob of a `BlobProto` without its numbers, and the numbers.

    Raises:
        InvalidModel: there are not as many numbers as the shape says.
    """
    legacy = any(message.HasField(name) for name in ("num", "channels", "height", "width"))
    shape = (message.num, message.channels, message.height, message.width) if legacy else tuple(message.shape.dim)
    if any(size < 0 for size in shape):
        raise InvalidModel(f"{where} has the shape {shape}")
    if math.prod(shape) != numbers.size:
        raise InvalidModel(f"{where} has {numbers.size} numbers where its shape {shape} says {math.prod(shape)}")
    return Blob(shape, numbers, legacy, mapping)
