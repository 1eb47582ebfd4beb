"""What a Caffe net takes and gives in another form than its source: layouts, and pixels as they come.

A Transpose at an input or an output is taken off, because Caffe images are N, C, H, W and a Caffe user
feeds them so. `mean`, `scale` and `channel_order` let the net take raw pixels p where the source takes
(p - mean) * scale. What was changed is returned, written at the head of the prototxt, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.rules import constant
from hub.canonical import LAYER, LAYOUT, PERMUTATION, layer_of
from hub.errors import UsageError

__all__ = ["Port", "preprocess", "take_off_transposes"]


@dataclass
class Port:
    """An input or output of the source, and the way from its form to that of the net."""

    name: str
    shape: list[int | str]
    dtype: str
    perm: list[int] | None = None
    reverse_channels: bool = False
    scale: float | list[float] | None = None
    mean: float | list[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """What a program needs to feed the net in the source's form."""
        entries = {
            "shape": self.shape,
            "dtype": None if self.dtype == "float32" else self.dtype,
            "perm": self.perm,
            "reverse_channels": self.reverse_channels or None,
            "scale": self.scale,
            "mean": self.mean,
        }
        return {key: value for key, value in entries.items() if value is not None}


def take_off_transposes(graph: ir.Graph) -> tuple[list[Port], list[Port]]:
    """Let inputs and outputs be what the Transposes at them work on, in place; returns both, in order."""
    inputs = [_port(value) for value in graph.inputs if value.name not in graph.initializers]
    for port, value in zip(inputs, [v for v in graph.inputs if v.name not in graph.initializers], strict=True):
        port.perm = _leading(graph, value)
    outputs = []
    for index, value in enumerate(graph.outputs):
        port = _port(value)
        port.perm = _trailing(graph, index)
        outputs.append(port)
    return inputs, outputs


def _port(value: ir.Value) -> Port:
    shape = [d if isinstance(d, int) else str(d.value or "?") for d in value.shape] if value.shape is not None else []
    return Port(value.name or "", shape, value.dtype.numpy().name if value.dtype is not None else "float32")


def _leading(graph: ir.Graph, value: ir.Value) -> list[int] | None:
    """The permutation that every user of an input applies first, taken off."""
    uses = list(value.uses())
    perms = [_permutation(node, value) for node, _ in uses]
    if not perms or perms[0] is None or any(perm != perms[0] for perm in perms) or value.is_graph_output():
        return None
    perm = perms[0]
    if perm[0] != 0 or value.shape is None or any(node.outputs[0].is_graph_output() for node, _ in uses):
        return None
    value.shape = ir.Shape([value.shape[i] for i in perm])
    value.metadata_props.pop(LAYOUT, None)
    for node, _ in uses:
        node.outputs[0].replace_all_uses_with(value)
        graph.remove(node, safe=True)
    return perm


def _permutation(node: ir.Node, value: ir.Value) -> list[int] | None:
    """The permutation that `node` is. A Reshape of an image of known layout is one if it only moves ones."""
    if node.op_type == "Transpose":
        rank = len(value.shape) if value.shape is not None else 0
        return list(node.attributes.get_ints("perm", tuple(reversed(range(rank)))))
    layout, shape, out = value.metadata_props.get(LAYOUT, ""), value.shape, node.outputs[0].shape
    if node.op_type != "Reshape" or shape is None or out is None or layout not in ("NHWC", "NWC", "NDHWC"):
        return None
    perm = [0, len(shape) - 1, *range(1, len(shape) - 1)]
    ones = [size for size in shape if size == 1]
    moved = [shape[i] for i in perm]
    same_order = [s for s in moved if s != 1] == [s for s in shape if s != 1]
    return perm if ones and same_order and moved == list(out) else None


def _trailing(graph: ir.Graph, index: int) -> list[int] | None:
    """The permutation that an output ends with, taken off."""
    value = graph.outputs[index]
    node = value.producer()
    if node is None or node.op_type != "Transpose" or list(value.uses()):
        return None
    source = node.inputs[0]
    perm = list(node.attributes.get_ints("perm", tuple(reversed(range(len(value.shape or ()))))))
    if source is None or perm[0] != 0 or source.producer() is None or source.is_graph_output():
        return None
    name = value.name
    producer = source.producer()
    if producer is not None and layer_of(producer) == layer_of(node) and PERMUTATION not in value.metadata_props:
        source.metadata_props[PERMUTATION] = ",".join(map(str, perm))  # what leaves the layer is the Transpose's
    graph.remove(node)
    value.name = f"{name}/transposed"
    source.name = name
    graph.outputs[index] = source
    return perm


def preprocess(
    graph: ir.Graph,
    ports: Sequence[Port],
    mean: float | Sequence[float] | None,
    scale: float | Sequence[float] | None,
    channel_order: str | None,
) -> None:
    """Put (p - mean) * scale, with the channels reversed for "bgr", before the image that the net takes.

    `mean` and `scale` are one number, or one for each channel in the order in which the net takes them.

    Raises:
        UsageError: there is not exactly one image input, or the numbers do not fit its channels.
    """
    if mean is None and scale is None and channel_order is None:
        return
    if channel_order not in (None, "rgb", "bgr"):
        raise UsageError(f"channel_order={channel_order!r}; it is 'rgb' or 'bgr'")
    images = [v for v in graph.inputs if v.name not in graph.initializers and v.shape is not None and len(v.shape) == 4]
    if len(images) != 1:
        raise UsageError(f"mean=, scale= and channel_order= are for one image input; this model has {len(images)}")
    value = images[0]
    port = next(p for p in ports if p.name == value.name)
    assert value.shape is not None
    if value.metadata_props.get(LAYOUT, "").endswith("C"):
        raise UsageError(
            f"the net takes {port.name!r} with the channels last; mean=, scale= and channel_order= need them first"
        )
    channels = value.shape[1]
    reverse = channel_order == "bgr"
    means, scales = (_by_channel(x, channels, name) for x, name in ((mean, "mean"), (scale, "scale")))
    factor = np.ones(1, np.float32) if scales is None else scales
    shift = None if means is None else -means * factor
    if reverse and channels != 3:
        raise UsageError(f"channel_order='bgr' is for images of 3 channels; this one has {channels}")
    Steps(graph, value, reverse, None if scales is None else factor, shift).insert()
    port.reverse_channels = reverse
    port.scale = _plain(scale)
    port.mean = _plain(mean)


def _plain(numbers: float | Sequence[float] | None) -> float | list[float] | None:
    if numbers is None or isinstance(numbers, int | float):
        return numbers
    return [float(number) for number in numbers]


def _by_channel(numbers: float | Sequence[float] | None, channels: object, name: str) -> Any:
    if numbers is None:
        return None
    if isinstance(numbers, str | bool):
        raise UsageError(f"{name}={numbers!r}: give one number, or one for each of the {channels} channels")
    array = np.asarray(numbers, np.float32).reshape(-1)
    if array.size not in (1, channels) or not np.all(np.isfinite(array)) or (name == "scale" and np.any(array == 0)):
        raise UsageError(f"{name}={numbers!r}: give one number, or one for each of the {channels} channels")
    return array


@dataclass
class Steps:
    """Nodes that are put between an input and its users."""

    graph: ir.Graph
    value: ir.Value
    reverse: bool
    factor: Any
    shift: Any

    def insert(self) -> None:
        """Scale and shift (in the net's order of channels), then reverse; or all in a first convolution."""
        if self._in_convolution():
            return
        users = list(self.value.uses())
        current, layer = self.value, f"{self.value.name}_scale"
        for op_type, numbers in (("Mul", self.factor), ("Add", self.shift)):
            if numbers is not None:
                current = self._append(op_type, current, numbers.reshape(1, -1, 1, 1), layer)
        if self.reverse:
            current = self._append("Gather", current, np.array([2, 1, 0], np.int64), f"{self.value.name}_rgb")
        for node, index in users:
            node.replace_input_with(index, current)
        self.graph.sort()

    def _in_convolution(self) -> bool:
        """W' = W * scale, b' = b + W shift, W's input channels reversed: exact where nothing is padded, or
        nothing shifted, since a padded zero is not a pixel."""
        users = list(self.value.uses())
        node = users[0][0] if len(users) == 1 else None
        if node is None or node.op_type != "Conv" or self.value.is_graph_output():
            return False
        weight = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        offset = ir.convenience.get_const_tensor(bias) if bias is not None else None
        group = node.attributes.get_int("group", 1) if "group" in node.attributes else 1
        padded = "auto_pad" in node.attributes or ("pads" in node.attributes and any(node.attributes.get_ints("pads")))
        if weight is None or group != 1 or (bias is not None and offset is None):
            return False
        if self.shift is not None and padded:
            return False
        kernel = weight.numpy().astype(np.float64)
        if self.reverse:
            kernel = kernel[:, ::-1]  # by the net's order of channels from here on
        if self.shift is not None:
            add = (kernel * self.shift.reshape(1, -1, 1, 1)).sum(axis=(1, 2, 3))
            row = add + (0 if offset is None else offset.numpy().astype(np.float64))
            node.resize_inputs(3)
            node.replace_input_with(2, constant(self.graph, row.astype(np.float32), f"{node.name}/bias_of_pixels"))
        if self.factor is not None:
            kernel = kernel * self.factor.reshape(1, -1, 1, 1)
        node.replace_input_with(1, constant(self.graph, kernel.astype(np.float32), f"{node.name}/kernel_of_pixels"))
        return True

    def _append(self, op_type: str, x: ir.Value, numbers: Any, layer: str) -> ir.Value:
        operand = constant(self.graph, numbers, f"{layer}/{op_type.lower()}")
        attributes = {"axis": 1} if op_type == "Gather" else {}
        node = ir.node(op_type, [x, operand], attributes, name=f"{layer}/{op_type}", metadata_props={LAYER: layer})
        out = node.outputs[0]
        out.name, out.type, out.shape = node.name, x.type, x.shape
        self.graph.append(node)
        return out
