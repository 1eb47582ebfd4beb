"""The inputs of a net: Input layers, layers that would read data, and blobs from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hub.errors import InvalidModel, UsageError
from importers.caffe.layers import MOST_NUMBERS
from importers.caffe.net import DATA, Layer, Ref

__all__ = ["Shape", "Shapes", "shape_of"]

Shape = list[int | str]
Shapes = Mapping[str, Sequence[int | str | None]]


def shape_of(ref: Ref, shapes: Shapes, others: Sequence[Layer], channels: int | None) -> Shape:
    """The shape of an input: as the caller says, else as the net does.

    `others`: layers that are not in the net at TEST, but may read the same data.
    `channels`: those that the convolution that reads it has weights for, if any does.

    Raises:
        InvalidModel: neither says it, or what the net says is no shape.
    """
    given = shapes.get(ref.blob)
    if given is not None:
        return _given(ref.blob, given)
    found: list[int] | None = None
    if ref.layer is not None and ref.layer.type == "Input":
        found = _of_input_layer(ref.layer, ref.index)
    else:
        candidates = [ref.layer] if ref.layer is not None else []
        candidates += [layer for layer in others if layer.type in DATA and ref.blob in list(layer.message.top)]
        for layer in candidates:
            index = list(layer.message.top).index(ref.blob)
            found = found or _of_data_layer(layer, index, channels)
    if found is None:
        who = f"{ref.layer} does not say the shape of" if ref.layer is not None else "nothing says the shape of"
        raise InvalidModel(
            f"{who} its blob {ref.blob!r}; give it with inputs={{{ref.blob!r}: (N, C, H, W)}}, or whatever its axes are"
        )
    if any(size <= 0 for size in found) or math.prod(found) > MOST_NUMBERS:
        raise InvalidModel(f"{ref.layer or 'the net'}: the input {ref.blob!r} has the shape {tuple(found)}")
    return [*found]


def _given(blob: str, given: Sequence[int | str | None]) -> Shape:
    shape: Shape = []
    for axis, size in enumerate(given):
        if isinstance(size, int) and size <= 0:
            raise UsageError(f"input {blob!r} cannot have the shape {tuple(given)}")
        shape.append(size if size is not None else "N" if axis == 0 else f"{blob}_dim{axis}")
    return shape


def _of_input_layer(layer: Layer, index: int) -> list[int] | None:
    """One shape for each top, or one for all."""
    shapes = layer.message.input_param.shape
    if not shapes:
        return None
    if len(shapes) not in (1, len(layer.message.top)):
        raise InvalidModel(f"{layer} has {len(layer.message.top)} tops and {len(shapes)} shapes")
    return list(shapes[0 if len(shapes) == 1 else index].dim)


def _of_data_layer(layer: Layer, index: int, channels: int | None) -> list[int] | None:
    """The shape of the data, or of the labels beside them, as far as the layer itself tells."""
    message = layer.message
    if layer.type == "MemoryData":
        own = message.memory_data_param
        sizes = [own.batch_size, own.channels, own.height, own.width]
        return (sizes if index == 0 else sizes[:1]) if all(sizes) else None
    own = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}.get(layer.type)
    if own is None:
        return None
    param: Any = getattr(message, own)
    batch = param.batch_size or 1
    if index:
        return [batch]
    height = width = message.transform_param.crop_size
    if layer.type == "ImageData":
        channels = 3 if param.is_color else 1
        if not height:
            height, width = param.new_height, param.new_width
    elif layer.type == "WindowData":
        channels = 3
    elif message.transform_param.force_color or message.transform_param.force_gray:
        channels = 3 if message.transform_param.force_color else 1
    elif len(message.transform_param.mean_value) > 1:
        channels = len(message.transform_param.mean_value)
    return [batch, channels, height, width] if height and width and channels else None
