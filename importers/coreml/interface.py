"""The inputs and outputs of a Core ML model: names, open sizes, images, types; and what else it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from hub.errors import InvalidModel, Refusal, UsageError
from importers.coreml.types import FP16, NAMES, declared, onnx_type

if TYPE_CHECKING:
    from importers.coreml.program import Walker

__all__ = ["LABELS", "SIZES", "Shapes", "array_ranges", "declare", "describe", "image_ranges", "interface"]

Shapes = Mapping[str, Sequence[int | str | None]]

LABELS = "hub.coreml.labels"
"""Metadata of a model: the labels of a classifier, as JSON, in the order of its probabilities."""

SIZES = "hub.coreml.sizes"
"""Metadata of an input with open sizes: the ranges, or the shapes, that Core ML takes, as JSON."""

COLORS = {10: "gray", 20: "RGB", 30: "BGR", 40: "gray float16"}
ARRAYS = {65568: 11, 65600: 12, 131104: 23, 131080: 21, 65552: 10}
"""The types of multi-arrays, and those of the program."""


def interface(description: Any, function: str) -> Any:
    """The description of the inputs and outputs of a function: that of the whole model where there is one function."""
    for one in description.functions:
        if one.name == function:
            return one
    return description


def declare(walker: Walker, inputs: Sequence[Any], features: Any, shapes: Shapes) -> dict[str, Any]:
    """Declare the inputs of a function as those of the graph."""
    by_name = {feature.name: feature for feature in features.input}
    unknown = sorted(set(shapes) - {one.name for one in inputs})
    if unknown:
        raise UsageError(f"there is no input {unknown[0]!r}; inputs are {', '.join(one.name for one in inputs)}")
    found: dict[str, Any] = {}
    for one in inputs:
        if one.type.WhichOneof("type") == "stateType":
            refusal = Refusal("it is kept from one prediction to the next, which ONNX has no form for")
            walker.refused.append(("state", one.name[:100], refusal))
            found[one.name] = None
            continue
        kind = declared(one.type)
        if kind is None or kind.shape is None:
            raise InvalidModel(f"the input {one.name[:100]!r} is no tensor with a known number of axes")
        sizes = _sizes(one.name, kind.shape, shapes.get(one.name))
        value = walker.builder.input(one.name, onnx_type(kind.dtype, walker.upcast), sizes)
        if value.name != one.name:
            raise InvalidModel(f"there are two inputs called {one.name[:100]!r}")
        if one.name in by_name:
            walker.warnings += _remarks(value, by_name[one.name], kind.dtype)
        found[one.name] = value
        if walker.emulate and kind.dtype == FP16:
            with walker.builder.layer(one.name, "input"):
                half = walker.builder.op("Cast", value, to=int(ir.DataType.FLOAT16))
                found[one.name] = walker.builder.op("Cast", half, to=int(ir.DataType.FLOAT))
    return found


def _sizes(name: str, said: Sequence[int | None], wanted: Sequence[int | str | None] | None) -> list[int | str | None]:
    """The sizes of an input: what the program says, and for those that it leaves open what is wanted."""
    sizes: list[int | str | None] = [size if size is not None else f"{name}_{i}" for i, size in enumerate(said)]
    if wanted is None:
        return sizes
    if len(wanted) != len(said):
        raise UsageError(f"the input {name!r} has {len(said)} axes; inputs= has {len(wanted)} sizes for it")
    for axis, size in enumerate(wanted):
        if size is None:
            continue
        if said[axis] is None:
            sizes[axis] = size
        elif isinstance(size, int) and size != said[axis]:
            raise UsageError(f"axis {axis} of the input {name!r} has the fixed size {said[axis]}, not {size}")
    return sizes


def _remarks(value: ir.Value, feature: Any, dtype: int) -> list[str]:
    """What the description of an input says beyond its shape, as warnings; ranges of sizes as metadata."""
    held = feature.type.WhichOneof("Type")
    name, found = feature.name, []
    if held == "imageType":
        image = feature.type.imageType
        color = COLORS.get(image.colorSpace, "unknown")
        found.append(
            f"the input {name!r} is a {color} image in Core ML; here it is its numbers from 0 to 255, channels first "
            f"({'x'.join(map(str, value.shape or ()))}); what scales them is part of the network"
        )
        ranges = image_ranges(image)
    elif held == "multiArrayType":
        array = feature.type.multiArrayType
        kind = ARRAYS.get(array.dataType)
        if kind is not None and kind != dtype:
            found.append(
                f"the input {name!r} is given as {NAMES[kind]} in Core ML, and here in the type of the program"
            )
        ranges = array_ranges(array)
    else:
        ranges = None
    if feature.type.isOptional:
        found.append(f"the input {name!r} may be left out in Core ML, and has to be given here")
    if ranges:
        value.metadata_props[SIZES] = json.dumps(ranges)
    return found


def array_ranges(array: Any) -> dict[str, Any] | None:
    held = array.WhichOneof("ShapeFlexibility")
    if held == "shapeRange":
        return {"ranges": [[one.lowerBound, one.upperBound] for one in array.shapeRange.sizeRanges]}
    if held == "enumeratedShapes":
        return {"shapes": [list(one.shape) for one in array.enumeratedShapes.shapes]}
    return None


def image_ranges(image: Any) -> dict[str, Any] | None:
    held = image.WhichOneof("SizeFlexibility")
    if held == "imageSizeRange":
        sides = (image.imageSizeRange.heightRange, image.imageSizeRange.widthRange)
        return {"height, width": [[one.lowerBound, one.upperBound] for one in sides]}
    if held == "enumeratedSizes":
        return {"height, width": [[one.height, one.width] for one in image.enumeratedSizes.sizes]}
    return None


def describe(model: ir.Model, description: Any, features: Any) -> None:
    """What the author says of the model, as metadata."""
    metadata = description.metadata
    for key, text in (
        ("description", metadata.shortDescription),
        ("version", metadata.versionString),
        ("author", metadata.author),
        ("license", metadata.license),
    ):
        if text:
            model.metadata_props[f"coreml.{key}"] = text
    for key in sorted(metadata.userDefined):
        model.metadata_props[f"coreml.user.{key}"] = metadata.userDefined[key]
    for feature in (*features.input, *features.output):
        if feature.shortDescription:
            model.metadata_props[f"coreml.feature.{feature.name}"] = feature.shortDescription
