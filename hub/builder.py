"""GraphBuilder: emits canonical ONNX node by node, named and typed as it goes.

Importers use it to build a graph, legalization rules to build a replacement. Types and shapes come
from the standard's own shape inference, one node at a time, so no importer computes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from hub.canonical import IR_VERSION, LAYER, LAYOUT, OPSET, ROLE, SOURCE_OP
from hub.errors import HubError

__all__ = ["GraphBuilder", "infer"]

_KNOWN_DATA_SIZE = 64
"""Integer initializers up to this size are shown to shape inference: axes, shapes, pads; and the scales of Resize."""


class GraphBuilder:
    """Builds one `onnx_ir.Graph` in the canonical opset.

    Node and value names are unique, which ONNX Runtime demands of both.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[ir.Value] = []
        self.outputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self._names: set[str] = set()
        self._layer: tuple[str, str] | None = None

    def inner(self, name: str) -> GraphBuilder:
        """A builder of a graph inside of this one: it takes names from the same ones, and adds weights to this one."""
        body = GraphBuilder(self.unique(name))
        body._names, body.initializers = self._names, self.initializers
        return body

    def unique(self, name: str) -> str:
        """`name`, or the first of `name_1`, `name_2`, ... that is free; taken from then on."""
        candidate, number = name, 0
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    @contextmanager
    def layer(self, name: str, source_op: str) -> Iterator[None]:
        """Everything emitted inside comes from this source layer."""
        outer, self._layer = self._layer, (name, source_op)
        try:
            yield
        finally:
            self._layer = outer

    def input(
        self, name: str, dtype: ir.DataType, shape: Sequence[int | str | None], layout: str | None = None
    ) -> ir.Value:
        """Declare a graph input; None in `shape` is an unknown size."""
        value = ir.Value(name=self.unique(name), type=ir.TensorType(dtype), shape=ir.Shape(shape))
        if layout:
            value.metadata_props[LAYOUT] = layout
        self.inputs.append(value)
        return value

    def output(self, value: ir.Value, name: str, layout: str | None = None) -> ir.Value:
        """Make `value` a graph output called `name` (through an Identity if it is an output or input already)."""
        if value in self.outputs or value.producer() is None or value.name in self.initializers:
            value = self.op("Identity", value, name=name)
        self.rename(value, name, claim=True)
        if layout:
            value.metadata_props[LAYOUT] = layout
        self.outputs.append(value)
        return value

    def constant(self, data: npt.ArrayLike | ir.TensorProtocol, name: str, role: str = "constant") -> ir.Value:
        """Add an initializer, a "constant" or a "weight". Arrays are kept as they are, views included."""
        tensor = data if isinstance(data, ir.TensorProtocol) else ir.tensor(np.asarray(data))
        value = ir.Value(
            name=self.unique(self._qualified(name)),
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
            const_value=tensor,
            metadata_props={ROLE: role},
        )
        tensor.name = value.name
        self.initializers[value.name or ""] = value
        return value

    def ints(self, data: Sequence[int] | int, name: str) -> ir.Value:
        """Add an int64 initializer, as axes, shapes and pads are."""
        return self.constant(np.array(data, np.int64), name)

    def op(self, op_type: str, *inputs: ir.Value | None, name: str | None = None, **attributes: Any) -> ir.Value:
        """Emit a node with one output and return it. Attributes that are None are left out."""
        return self.ops(op_type, *inputs, outputs=1, name=name, **attributes)[0]

    def ops(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        outputs: int,
        name: str | None = None,
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """Emit a node with `outputs` outputs."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]  # ONNX Runtime 1.31 crashes on LayerNormalization with an empty last input
        label = self.unique(self._qualified(name or op_type))
        names = [label] + [self.unique(f"{label}_{i}") for i in range(1, outputs)]
        given = [_attribute(key, value) for key, value in attributes.items() if value is not None]
        metadata = {LAYER: self._layer[0], SOURCE_OP: self._layer[1]} if self._layer else {}
        values = [ir.Value(name=text) for text in names]
        node = ir.Node("", op_type, inputs, given, outputs=values, name=label, metadata_props=metadata)
        infer(node)
        self.nodes.append(node)
        return node.outputs

    def rename(self, value: ir.Value, name: str, *, claim: bool = False) -> None:
        """Give `value`, and its node if the node is named after it, the name `name`.

        Where the name is taken, `name_1` or so is given, or, with `claim`, the holder is renamed.
        """
        if value.name == name:
            return
        if name in self._names:
            if claim:
                self._free(name)
            else:
                name = self.unique(name)
        node, old = value.producer(), value.name
        if node is not None and node.name == old:
            node.name = name
        value.name = name
        self._names.discard(old or "")
        self._names.add(name)

    def _free(self, name: str) -> None:
        for node in self.nodes:
            for value in node.outputs:
                if value.name == name:
                    self.rename(value, self.unique(f"{name}/{node.op_type}"))
                    return
        raise HubError(f"the name {name!r} is already taken by an input or a weight")

    def graph(self) -> ir.Graph:
        """The finished graph, without initializers that nothing uses."""
        initializers = [value for value in self.initializers.values() if value.uses()]
        return ir.Graph(
            self.inputs,
            self.outputs,
            nodes=self.nodes,
            initializers=initializers,
            opset_imports={"": OPSET},
            name=self.name,
        )

    def model(self) -> ir.Model:
        """The finished graph as a model of the canonical IR version."""
        return ir.Model(self.graph(), ir_version=IR_VERSION, producer_name="hub")

    def _qualified(self, name: str) -> str:
        return f"{self._layer[0]}/{name}" if self._layer else name


def _attribute(name: str, value: Any) -> ir.Attr:
    """An attribute by the type of its value; lists of numbers must not be empty."""
    if isinstance(value, bool | int | np.integer):
        return ir.AttrInt64(name, int(value))
    if isinstance(value, float | np.floating):
        return ir.AttrFloat32(name, float(value))
    if isinstance(value, str):
        return ir.AttrString(name, value)
    if isinstance(value, list | tuple) and value:
        if all(isinstance(item, int | np.integer) for item in value):
            return ir.AttrInt64s(name, [int(item) for item in value])
        if all(isinstance(item, float | int) for item in value):
            return ir.AttrFloat32s(name, [float(item) for item in value])
        if all(isinstance(item, str) for item in value):
            return ir.AttrStrings(name, list(value))
    raise TypeError(f"attribute {name}={value!r} has no ONNX type here")


def infer(node: ir.Node) -> None:
    """Set types and shapes of the node's outputs by the schema's own inference, from those of its inputs.

    Raises:
        HubError: the node does not fit its inputs.
    """
    schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
    types, data = {}, {}
    for value in node.inputs:
        if value is None or value.name is None:
            continue
        if value.type is not None:
            proto = onnx.ValueInfoProto()
            ir.serde.serialize_value_into(proto, value)
            types[value.name] = proto.type
        tensor = value.const_value
        numbers = (ir.DataType.INT64, ir.DataType.FLOAT) if node.op_type == "Resize" else (ir.DataType.INT64,)
        if tensor is not None and tensor.dtype in numbers and tensor.size <= _KNOWN_DATA_SIZE:
            data[value.name] = ir.serde.serialize_tensor(tensor)
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, ir.serde.serialize_node(node), types, data, opset_imports=[onnx.helper.make_opsetid("", OPSET)]
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        layer = node.metadata_props.get(LAYER, node.name)
        raise HubError(f"layer {layer!r}: {node.op_type} does not fit its inputs: {error}") from error
    for value in node.outputs:
        if value.name in found:
            value.type = ir.serde.deserialize_type_proto_for_type(found[value.name])
            value.shape = ir.serde.deserialize_type_proto_for_shape(found[value.name])
            if value.shape is not None and any(isinstance(size, int) and size < 0 for size in value.shape):
                layer = node.metadata_props.get(LAYER, node.name)
                raise HubError(f"layer {layer!r}: {node.op_type} gives the shape {value.shape}, its input is too small")
