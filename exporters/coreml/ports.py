"""Inputs and outputs of a model as Core ML has them: their names, types and shapes."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from exporters.coreml.emit import FLOATS, MIL, RANK, Tensor, Var, plain
from exporters.coreml.library import Library
from exporters.coreml.shapes import Sizes
from hub.canonical import LAYOUT
from hub.errors import UsageError

__all__ = ["CLASS", "LAYOUTS", "Image", "Ports", "image_of"]

LAYOUTS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1}
"""Colour layouts of images, and how many channels they have."""


CLASS = "classLabel"
"""What coremltools calls the label that a classifier gives."""


@dataclass(frozen=True)
class Image:
    """An input that is an image: of its pixels p, 0 to 255, the network gets p * scale + bias."""

    name: str
    layout: str
    scale: float
    bias: list[float]


class Ports:
    """The inputs and outputs of one model."""

    def __init__(self, model: ir.Model, library: Library, sizes: Sizes, image: Image | None, *, program: bool) -> None:
        self.library = library
        self.graph = model.graph
        self.program = program
        self.types: list[Any] = []
        self.placeholders: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.inputs: dict[str, ir.Value] = {}
        self.outputs: dict[str, ir.Value] = {}
        self._sizes, self._image = sizes, image
        self._ranges: dict[str, Any] = {}
        for value in model.graph.inputs:
            if value.name in model.graph.initializers or value.dtype not in MIL or value.shape is None:
                continue
            if len(value.shape) > RANK or 0 in value.shape:
                continue  # the walk refuses it, with everything else
            self._declare(value)

    def _declare(self, value: ir.Value) -> None:
        image = self._image
        name = self._unique(plain(value.name or ""), self.names)
        self.names[name], self.inputs[name] = value.name or "", value
        shape = self._shape(value)
        kinds = self.library.input_types
        kind = getattr(self.library.types, MIL[value.dtype or ir.DataType.FLOAT])
        declared = kinds.TensorType(name=name, shape=shape, dtype=kind)
        self.placeholders[name] = self.library.builder.placeholder(shape=declared.shape.symbolic_shape, dtype=kind)
        if image is not None and image.name == value.name:
            layout = getattr(kinds.ColorLayout, image.layout)
            declared = kinds.ImageType(
                name=name,
                shape=declared.shape,
                scale=image.scale,
                bias=image.bias if LAYOUTS[image.layout] == 3 else image.bias[0],
                color_layout=layout,
                channel_first=not _channels_last(value),
            )
        self.types.append(declared)

    def _shape(self, value: ir.Value) -> Any:
        """Numbers and ranges; the same range for sizes of one name."""
        kinds = self.library.input_types
        choices = self._sizes.choices.get(value.name or "")
        if choices is not None:
            return kinds.EnumeratedShapes(shapes=choices, default=choices[0])
        return [d if isinstance(d, int) else self._range(str(d.value)) for d in value.shape or ()] or [1]

    def _range(self, symbol: str) -> Any:
        if symbol not in self._ranges:
            low, high = self._sizes.ranges[symbol]
            self._ranges[symbol] = self.library.input_types.RangeDim(low, high, default=low)
        return self._ranges[symbol]

    @staticmethod
    def _unique(name: str, taken: Mapping[str, Any]) -> str:
        while name in taken:
            name += "_"
        return name

    def enter(self, inputs: Mapping[str, Var]) -> dict[str, Var]:
        """The variables of the inputs by the names that ONNX has."""
        return {self.names[name]: var for name, var in inputs.items()}

    def leave(self, tensors: Sequence[Tensor]) -> dict[str, Var]:
        """The variables of the outputs by the names that Core ML takes."""
        result: dict[str, Var] = {}
        for value, tensor in zip(self.graph.outputs, tensors, strict=True):
            name = self._unique(plain(value.name or ""), ChainMap(result, self.names))
            result[name], self.outputs[name] = tensor.var, value
        return result

    def classify(self, labels: int, called: str) -> str:
        """The output with the probabilities, which the file has under the name `called`.

        Raises:
            UsageError: there is not one output that has so many.
        """
        fitting = [
            name
            for name, value in self.outputs.items()
            if value.dtype in FLOATS and value.shape is not None and len(value.shape) == 2 and value.shape[1] == labels
        ]
        if len(fitting) != 1:
            shapes = ", ".join(f"{value.name} {list(value.shape or ())}" for value in self.outputs.values())
            raise UsageError(f"class_labels: {labels} labels, and not one output with as many numbers: {shapes}")
        for name in (*self.inputs, *self.outputs):
            if name == CLASS or (name == called and name != fitting[0]):
                raise UsageError(f"class_labels: a classifier of Core ML has a {name!r} of its own; rename that one")
        self.outputs = {called or n if n == fitting[0] else n: value for n, value in self.outputs.items()}
        return fitting[0]

    def check(self, version: int) -> None:
        """What Core ML loads only from a later version on, though coremltools would write it.

        Raises:
            UsageError: there is such a thing.
        """
        listed = [name for name in self.names if self.names[name] in self._sizes.choices]
        if self.program and version < 9 and len(listed) > 1:
            raise UsageError(
                f"{', '.join(listed)} have lists of shapes: before iOS18 one input has; give a range, or "
                'minimum_deployment_target="iOS18"'
            )
        if len({len(self._sizes.choices[self.names[name]]) for name in listed}) > 1:
            raise UsageError(f"shapes: the lists of {', '.join(listed)} have different lengths, which Core ML refuses")
        halves = [n for n, v in {**self.inputs, **self.outputs}.items() if v.dtype == ir.DataType.FLOAT16]
        if self.program and version < 7 and halves:
            raise UsageError(f'{halves[0]!r} is float16, which needs minimum_deployment_target="iOS16" or later')

    def changed(self) -> dict[str, str]:
        """The names of inputs and outputs that Core ML has otherwise, by those of ONNX."""
        both = {**self.inputs, **self.outputs}
        return {str(value.name): name for name, value in both.items() if name != value.name}

    def said(self) -> list[str]:
        """What the user should know: names and types that are others than in ONNX."""
        notes = []
        for what, ports in (("input", self.inputs), ("output", self.outputs)):
            for name, value in ports.items():
                if name != value.name:
                    notes.append(f"the {what} {value.name!r} is called {name!r} in Core ML")
                kind = value.dtype.name.lower() if value.dtype is not None else ""
                if not self.program and kind not in ("float", ""):
                    notes.append(f"the {what} {value.name!r} is {kind}: a neural network computes it in float32")
                elif kind == "bool":
                    notes.append(f"the {what} {value.name!r} is logical: in Core ML, numbers 0 and 1")
                elif kind not in ("float", "float16", "int32", ""):
                    notes.append(f"the {what} {value.name!r} is {kind}: in Core ML, int32")
        return notes

    def interface(self) -> dict[str, Any]:
        """What a check has to know of the source's inputs and outputs."""
        inputs = {name: self._tensor(name, value) for name, value in self.inputs.items()}
        outputs = {name: self._tensor(name, value) for name, value in self.outputs.items()}
        return {"inputs": {n: t for n, t in inputs.items() if t}, "outputs": {n: t for n, t in outputs.items() if t}}

    def _tensor(self, name: str, value: ir.Value) -> dict[str, Any]:
        """Name, type and shape, where Core ML does not have them; an image is pixels."""
        known: dict[str, Any] = {} if name == value.name else {"holds": value.name}
        own = (ir.DataType.FLOAT, ir.DataType.INT32) if self.program else (ir.DataType.FLOAT,)
        if value.dtype is not None and value.dtype not in own:
            known["dtype"] = value.dtype.numpy().name
        if value.shape is not None and len(value.shape) == 0:
            known["shape"] = []
        image = self._image
        if image is not None and image.name == value.name and value in self.inputs.values():
            if _channels_last(value):
                known["perm"] = [0, 3, 1, 2]
            known["shape"] = [size if isinstance(size, int) else None for size in value.shape or ()]
            known["scale"], known["mean"] = image.scale, [-b / image.scale for b in image.bias]
        return known


def _channels_last(value: ir.Value) -> bool:
    """Whether an image comes as N, H, W, C."""
    return value.metadata_props.get(LAYOUT, "").endswith("C")


def image_of(model: ir.Model, image_input: Any, scale: float, bias: Any, color_layout: str) -> Image | None:
    """The input that is an image, if one is asked for.

    Raises:
        UsageError: there is no such input, or it does not have the shape of images of that layout.
    """
    if image_input is None or image_input is False:
        if scale != 1 or bias is not None:
            raise UsageError("scale= and bias= are of the pixels of an image: name it with image_input=")
        return None
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    named = [v for v in inputs if image_input is True or v.name == image_input]
    if len(named) != 1:
        names = ", ".join(str(v.name) for v in inputs)
        raise UsageError(f"image_input={image_input!r}: name one of the inputs {names}")
    if color_layout not in LAYOUTS:
        raise UsageError(f"color_layout={color_layout!r}; it is one of {', '.join(LAYOUTS)}")
    numbers = [scale, *(bias if isinstance(bias, list | tuple) else [bias or 0.0])]
    if not scale or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise UsageError(f"scale={scale!r}, bias={bias!r}: finite numbers, the scale not 0")
    value, channels = named[0], LAYOUTS[color_layout]
    shape = list(value.shape) if value.shape is not None else []
    at = 3 if _channels_last(value) else 1
    if len(shape) != 4 or shape[at] != channels or value.dtype != ir.DataType.FLOAT:
        raise UsageError(
            f"image_input: {value.name!r} has the shape {shape}; an image of layout {color_layout} is float32 with "
            f"4 axes, {channels} channels on axis {at}"
        )
    if shape[0] != 1:
        value.shape = ir.Shape([1, *shape[1:]])
    shift = [float(b) for b in bias] if isinstance(bias, list | tuple) else [float(bias or 0.0)] * channels
    if len(shift) != channels:
        raise UsageError(f"bias={bias!r}: one number, or one for each of {channels} channels")
    return Image(value.name or "", color_layout, float(scale), shift)
