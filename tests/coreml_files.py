"""ML Programs written by hand: the messages and the weight file, without coremltools."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.schemas import messages

TYPES = {"bool": 1, "string": 2, "fp16": 10, "fp32": 11, "int8": 21, "int16": 22, "int32": 23, "int4": 25,
         "uint8": 31, "uint16": 32, "uint4": 35, "uint2": 36, "uint1": 37, "uint6": 38, "uint3": 39}  # fmt: skip
BLOBS = {"fp16": 1, "fp32": 2, "uint8": 3, "int8": 4, "int16": 6, "uint16": 7, "int4": 8, "uint1": 9, "uint2": 10,
         "uint4": 11, "uint3": 12, "uint6": 13}  # fmt: skip
BITS = {"int4": 4, "uint4": 4, "uint2": 2, "uint1": 1, "uint6": 6, "uint3": 3}
ARRAYS = {"fp32": 65568, "fp16": 65552, "int32": 131104}
Shape = Sequence[int | None]


def type_of(kind: str, shape: Shape) -> Any:
    """A ValueType."""
    message = messages("mil").ValueType()
    message.tensorType.dataType = TYPES[kind]
    message.tensorType.rank = len(shape)
    for size in shape:
        dimension = message.tensorType.dimensions.add()
        if size is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = size
    return message


def name_of(array: np.ndarray) -> str:
    names = {"float32": "fp32", "float16": "fp16"}
    return "string" if array.dtype.kind in "UO" else names.get(array.dtype.name, array.dtype.name)


def immediate(value: Any) -> Any:
    """A Value with its numbers inside: int32 and fp32 for numbers of Python."""
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    kind = name_of(array)
    message = messages("mil").Value(type=type_of(kind, array.shape))
    tensor = message.immediateValue.tensor
    flat = array.reshape(-1)
    if kind == "string":
        tensor.strings.values.extend(str(item) for item in flat)
    elif kind == "bool":
        tensor.bools.values.extend(bool(item) for item in flat)
    elif kind == "int32":
        tensor.ints.values.extend(int(item) for item in flat)
    elif kind == "fp32":
        tensor.floats.values.extend(float(item) for item in flat)
    else:
        tensor.bytes.values = flat.tobytes()
    return message


def packed(numbers: np.ndarray, bits: int) -> bytes:
    """Numbers of so many bits, the lowest first."""
    wide = (numbers.reshape(-1, 1).astype(np.int64) >> np.arange(bits)) & 1
    return np.packbits(wide.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


class Program:
    """One function of an ML Program, and its weight file."""

    def __init__(self, opset: str = "CoreML5") -> None:
        mil = messages("mil")
        self.program = mil.Program(version=1)
        self.function = self.program.functions["main"]
        self.function.opset = opset
        self.block = self.function.block_specializations[opset]
        self.model = messages("coreml").Model(specificationVersion=6)
        self.weights = bytearray(struct.pack("<II", 0, 2).ljust(64, b"\0"))

    def input(self, name: str, shape: Shape, kind: str = "fp32") -> str:
        one = self.function.inputs.add(name=name)
        one.type.CopyFrom(type_of(kind, shape))
        feature = self.model.description.input.add(name=name)
        feature.type.multiArrayType.dataType = ARRAYS.get(kind, 65568)
        feature.type.multiArrayType.shape.extend(size or 1 for size in shape)
        return name

    def blob(self, raw: bytes, kind: str, padding: int = 0) -> int:
        """Add a blob; where its metadata is."""
        self.weights.extend(bytes(-len(self.weights) % 64))
        offset = len(self.weights)
        self.weights += struct.pack("<IIQQQ", 0xDEADBEEF, BLOBS[kind], len(raw), offset + 64, padding).ljust(64, b"\0")
        self.weights += raw
        return offset

    def const(self, name: str, value: Any, kind: str | None = None, blob: bool = True) -> str:
        """A constant operation: an array in the weight file, or with `blob` false a value inside of the program."""
        operation = self.block.operations.add(type="const")
        held = operation.attributes["val"]
        if not blob:
            held.CopyFrom(immediate(value))
        else:
            array = np.asarray(value)
            kind = kind or name_of(array)
            raw = packed(array, BITS[kind]) if kind in BITS else array.tobytes()
            padding = len(raw) * 8 - array.size * BITS[kind] if kind in BITS else 0
            held.type.CopyFrom(type_of(kind, array.shape))
            held.blobFileValue.fileName = "@model_path/weights/weight.bin"
            held.blobFileValue.offset = self.blob(raw, kind, padding)
        out = operation.outputs.add(name=name)
        out.type.CopyFrom(held.type)
        return name

    def op(self, kind: str, name: str, shape: Shape, dtype: str = "fp32", /, **inputs: Any) -> str:
        """An operation; inputs are names, `[names]`, or anything else, which is a constant."""
        operation = self.block.operations.add(type=kind)
        operation.attributes["name"].CopyFrom(immediate(name))
        for key, value in inputs.items():
            known = {one.name for one in self.function.inputs} | {
                out.name for before in self.block.operations for out in before.outputs
            }
            values = (
                value if isinstance(value, list) and all(v in known for v in value if isinstance(v, str)) else [value]
            )
            if isinstance(value, list) and not all(isinstance(v, str) and v in known for v in value):
                values = [value]
            for one in values:
                binding = operation.inputs[key].arguments.add()
                if isinstance(one, str) and one in known:
                    binding.name = one
                else:
                    binding.value.CopyFrom(immediate(one))
        out = operation.outputs.add(name=name)
        out.type.CopyFrom(type_of(dtype, shape))
        return name

    def output(self, *names: str) -> None:
        self.block.outputs.extend(names)
        for name in names:
            self.model.description.output.add(name=name).type.multiArrayType.dataType = 65568

    def save(self, path: Path) -> Path:
        """Write an .mlpackage folder."""
        folder = path / "Data" / "com.apple.CoreML"
        (folder / "weights").mkdir(parents=True)
        self.model.mlProgram = self.program.SerializeToString()
        (folder / "model.mlmodel").write_bytes(self.model.SerializeToString())
        (folder / "weights" / "weight.bin").write_bytes(self.weights)
        manifest(path, "com.apple.CoreML/model.mlmodel")
        return path


def manifest(path: Path, where: str) -> None:
    """The Manifest.json of a bundle whose model is `where`."""
    entry = {"author": "com.apple.CoreML", "description": "", "name": "model.mlmodel", "path": where}
    content = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {"A": entry}, "rootModelIdentifier": "A"}
    (path / "Manifest.json").write_text(json.dumps(content))


def small() -> Program:
    """A convolution, a bias and a softmax, with weights in the file."""
    rng = np.random.default_rng(0)
    program = Program()
    program.input("x", [2, 3, 6, 8])
    program.const("w", rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    program.const("b", rng.normal(size=4).astype(np.float32))
    program.op("conv", "c", [2, 4, 6, 8], x="x", weight="w", bias="b", pad_type="same", strides=[1, 1])
    program.op("relu", "r", [2, 4, 6, 8], x="c")
    program.op("reduce_mean", "m", [2, 4], x="r", axes=[2, 3], keep_dims=False)
    program.op("softmax", "y", [2, 4], x="m", axis=-1)
    program.output("y")
    return program
