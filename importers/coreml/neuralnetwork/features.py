"""Inputs and outputs: what the description of a model says of them, and what the layers take and give."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.errors import InvalidModel, Refusal, UsageError
from importers.coreml.interface import SIZES, array_ranges, image_ranges

__all__ = ["Mapped", "declare", "give", "preprocess"]

Size = int | str | None

MOST_AXES, MOST_SIZE = 8, 1 << 31

DTYPES = {"FLOAT32": "FLOAT", "DOUBLE": "FLOAT", "FLOAT16": "FLOAT16", "INT32": "INT32", "INT8": "INT8"}
"""ONNX's types for those of arrays; networks compute in float32, so that more is never seen of a double."""


class Mapped:
    """How a network takes its inputs: arrays and images exactly as they are, or as five axes.

    `rank` and `free` are those of `network.rank_of`, for what has five axes.
    """

    def __init__(self, network: Any, rank: int, free: bool) -> None:
        self.exact_arrays = network.arrayInputShapeMapping == 1
        self.exact_images = network.imageInputShapeMapping == 1
        self.rank = rank
        self.free = free


def _dtype(array: Any) -> ir.DataType:
    name = array.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number.get(array.dataType)
    if name is None or name.name not in DTYPES:
        return ir.DataType.FLOAT
    return ir.DataType[DTYPES[name.name]]


def _ranged(name: str, axis: int, lower: int, upper: int) -> Size:
    return lower if lower == upper else f"{name}_{axis}"


def _sizes(feature: Any) -> list[Size]:
    """The sizes that the description of an array declares; names for those that may vary."""
    array, name = feature.type.multiArrayType, feature.name
    kind = array.WhichOneof("ShapeFlexibility")
    sizes: list[Size] = [int(size) for size in array.shape]
    if kind == "shapeRange":
        ranges = array.shapeRange.sizeRanges
        if len(sizes) in (0, len(ranges)):
            sizes = [_ranged(name, i, int(r.lowerBound), int(r.upperBound)) for i, r in enumerate(ranges)]
    elif kind == "enumeratedShapes":
        shapes = [list(shape.shape) for shape in array.enumeratedShapes.shapes]
        shapes += [list(array.shape)] if array.shape else []
        if len({len(shape) for shape in shapes}) > 1:
            raise Refusal(f"the input {name!r} has shapes with different numbers of axes")
        if shapes:
            sizes = [_ranged(name, i, min(found), max(found)) for i, found in enumerate(zip(*shapes, strict=True))]
    for size in sizes:
        if isinstance(size, int) and not 0 < size < MOST_SIZE:
            raise InvalidModel(f"the input {name[:100]!r} has the size {size}")
    if len(sizes) > MOST_AXES or math.prod(s for s in sizes if isinstance(s, int)) > 1 << 40:
        raise InvalidModel(f"the input {name[:100]!r} has the shape {sizes[:MOST_AXES]}")
    return sizes


def color_space(image: Any) -> str:
    """GRAYSCALE, RGB, BGR, ..."""
    known = image.DESCRIPTOR.fields_by_name["colorSpace"].enum_type.values_by_number.get(image.colorSpace)
    return str(known.name) if known is not None else "INVALID_COLOR_SPACE"


def _image_sizes(feature: Any) -> list[Size]:
    """Channels, height and width."""
    image = feature.type.imageType
    space = color_space(image)
    if space == "INVALID_COLOR_SPACE":
        raise InvalidModel(f"the image {feature.name[:100]!r} has no colour space")
    sizes: list[Size] = [1 if space.startswith("GRAY") else 3, int(image.height), int(image.width)]
    kind = image.WhichOneof("SizeFlexibility")
    if kind == "imageSizeRange":
        spans = image.imageSizeRange.heightRange, image.imageSizeRange.widthRange
        sizes[1:] = [_ranged(feature.name, i, int(r.lowerBound), int(r.upperBound)) for i, r in enumerate(spans, 2)]
    elif kind == "enumeratedSizes":
        found = [(int(s.height), int(s.width)) for s in image.enumeratedSizes.sizes]
        found += [(int(image.height), int(image.width))] if image.height else []
        columns = zip(*found, strict=True)
        sizes[1:] = [_ranged(feature.name, i, min(c), max(c)) for i, c in enumerate(columns, 2)]
    for size in sizes:
        if isinstance(size, int) and not 0 < size < MOST_SIZE:
            raise InvalidModel(f"the image {feature.name[:100]!r} has the size {size}")
    return sizes


def declare(
    builder: GraphBuilder, feature: Any, mapped: Mapped, given: Mapping[str, Sequence[Size]], warnings: list[str]
) -> ir.Value:
    """The input of the graph for a feature, and the nodes to what the layers take; gives the latter.

    Raises:
        Refusal: it is none of numbers.
        UsageError: the shape given does not fit.
    """
    name, kind = feature.name, feature.type.WhichOneof("Type")
    dtype = ir.DataType.FLOAT
    if kind == "multiArrayType":
        sizes, exact = _sizes(feature), mapped.exact_arrays
        dtype = _dtype(feature.type.multiArrayType)
        if not sizes and name not in given:
            raise Refusal(f"the input {name!r} has no shape", "give it with inputs=")
    elif kind == "imageType":
        sizes, exact = _image_sizes(feature), False
        space = color_space(feature.type.imageType)
        warnings.append(f"the input {name!r} is an image: {space}, numbers from 0 to 255")
    elif kind in ("int64Type", "doubleType"):
        sizes, exact = [1], mapped.exact_arrays
    else:
        raise Refusal(f"the input {name!r} is a {kind}", "networks with inputs that are no numbers are not supported")
    if feature.type.isOptional:
        warnings.append(f"the input {name!r} is optional in Core ML, where it is 0 if left out; here it must be given")
    if exact:
        shape, tail = sizes, 0
    else:
        shape, tail = _five(name, sizes, mapped, kind == "imageType")
    shape = _chosen(name, shape, given)
    layout = "NCHW" if kind == "imageType" and len(shape) == 4 else None
    value = builder.input(name, dtype, shape, layout)
    ranges = image_ranges(feature.type.imageType) if kind == "imageType" else array_ranges(feature.type.multiArrayType)
    if ranges:
        value.metadata_props[SIZES] = json.dumps(ranges)
    if dtype != ir.DataType.FLOAT:
        value = builder.op("Cast", value, to=ir.DataType.FLOAT.value)
    if tail:
        rank = len(shape)
        value = builder.op("Unsqueeze", value, builder.ints(list(range(rank, rank + tail)), "axes"))
    return value


def _five(name: str, sizes: list[Size], mapped: Mapped, image: bool) -> tuple[list[Size], int]:
    """The shape of an input with sequence and batch, or with the batch alone; and how many ones are behind it."""
    if image and (mapped.exact_images or mapped.exact_arrays):
        return [1] * (1 if mapped.exact_images else 2) + sizes, 0
    if len(sizes) == 5:
        return (sizes[1:], 0) if mapped.rank == 4 and sizes[0] == 1 else (sizes, 0)
    if len(sizes) not in (1, 3):
        raise Refusal(f"the input {name!r} has {len(sizes)} axes, where Core ML has 1 or 3")
    tail = 2 if len(sizes) == 1 else 0
    if mapped.rank == 4:
        return ["N", *sizes], tail
    return ([f"{name}_sequence", f"{name}_batch", *sizes] if mapped.free else [1, 1, *sizes]), tail


def _chosen(name: str, shape: list[Size], given: Mapping[str, Sequence[Size]]) -> list[Size]:
    if name not in given:
        return shape
    wanted = list(given[name])
    if shape and len(wanted) != len(shape):
        raise UsageError(f"the input {name!r} has {len(shape)} axes; inputs= has {len(wanted)} sizes for it")
    for ours, theirs in zip(wanted, shape, strict=False):
        if isinstance(theirs, int) and ours not in (theirs, None):
            raise UsageError(f"the input {name!r} has the shape {shape}, not {wanted}")
    return [theirs if ours is None else ours for ours, theirs in zip(wanted, shape or wanted, strict=True)]


def preprocess(builder: GraphBuilder, x: ir.Value, feature: Any, steps: Sequence[Any]) -> ir.Value:
    """Scale and bias of an image's channels, or minus a mean image, in the order given."""
    image = feature.type.imageType if feature.type.WhichOneof("Type") == "imageType" else None
    space = color_space(image) if image is not None else "RGB"
    for step in steps:
        kind = step.WhichOneof("preprocessor")
        if kind == "scaler":
            scaler = step.scaler
            biases = [scaler.redBias, scaler.greenBias, scaler.blueBias]
            biases = {"BGR": biases[::-1], "RGB": biases}.get(space, [scaler.grayBias])
            if scaler.channelScale != 1:
                x = builder.op("Mul", x, builder.constant(np.float32(scaler.channelScale), "channelScale"))
            if any(biases):
                by = np.array(biases, np.float32).reshape(-1, 1, 1)
                x = builder.op("Add", x, builder.constant(by, "bias"))
        elif kind == "meanImage":
            shape = [size for size in list(x.shape or ())[-3:] if isinstance(size, int)]
            mean = np.array(step.meanImage.meanImage, np.float32)
            if len(shape) != 3 or mean.size != math.prod(shape):
                raise InvalidModel(f"the mean image of {feature.name[:100]!r} has {mean.size} numbers for {shape}")
            x = builder.op("Sub", x, builder.constant(mean.reshape(shape), "meanImage"))
        else:
            raise InvalidModel(f"the preprocessing of {feature.name[:100]!r} does not say what it does")
    return x


def give(
    builder: GraphBuilder, value: ir.Value, feature: Any, mapped: Mapped, exact: bool, vector: ir.Value | None
) -> None:
    """Make a value the output of the graph for a feature.

    Where blobs have five axes, height and width are left out of an output that is declared as a vector. `vector`: the
    value without them, if there is one.
    """
    name, kind = feature.name, feature.type.WhichOneof("Type")
    array = feature.type.multiArrayType
    if not exact and value.shape is not None and kind == "multiArrayType":
        rank, tail = len(value.shape), list(value.shape)[-2:]
        if rank == mapped.rank and len(array.shape) == 1 and tail == [1, 1]:
            axes = [rank - 2, rank - 1]
            value = vector or builder.op("Squeeze", value, builder.ints(axes, "axes"))
    if exact and value.shape is not None and kind == "multiArrayType" and not array.HasField("shapeRange"):
        own, wanted = list(value.shape), [int(size) for size in array.shape]
        more = len(own) - len(wanted)
        if wanted and more and (own == [1] * more + wanted or [1] * -more + own == wanted):
            value = builder.op("Reshape", value, builder.ints(wanted, "shape"))
    if kind == "multiArrayType":
        dtype = _dtype(array)
        if value.dtype != dtype:
            value = builder.op("Cast", value, to=int(dtype))
    builder.output(value, name)
