"""Operators that a target has no form of, but that ONNX itself defines by others, are replaced by that definition.

op(x) = the body of op's function in the standard, brought to the canonical opset. The definition is that of the
node: it may depend on its attributes and on the types of its inputs. What it is made of has the layer of the node.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir

from exporters.rules import Applied
from hub.canonical import LAYER, OPSET, SOURCE_OP, infer_shapes, inline, layer_of, lift_constants, tidy, upgrade
from hub.errors import HubError, Refusal
from hub.optable import OpTable, defaults

__all__ = ["expand_functions"]

DOMAIN = "hub.definition"
"""Where a definition is, as a function of its own, until it is inlined."""

DEPTH = 4
"""How often what a definition is made of is replaced in turn."""

KNOWN = frozenset("Constant ConstantOfShape Range Shape Size".split())
"""What other rules and the walk compute at conversion, if it can be."""


def expand_functions(model: ir.Model, table: OpTable) -> Applied:
    """Replace what `table` has no form of by its definition, in place."""
    applied = Applied()
    for node in [node for node in model.graph if node.domain == "" and not _said(node, table)]:
        try:
            _graft(model.graph, node, _definition(node, table, DEPTH))
        except HubError as error:
            applied.left[layer_of(node)] = str(error)
            continue
        applied.changed.append(layer_of(node))
    if applied.changed:
        tidy(model)
        infer_shapes(model)
    return applied


def _said(node: ir.Node, table: OpTable) -> bool:
    """Whether the target has a form of a node, or it is computed at conversion."""
    if node.op_type in KNOWN:
        return True
    try:
        table.bind(node, OPSET)
    except Refusal:
        return False
    return True


def _definition(node: ir.Node, table: OpTable, depth: int) -> ir.Model:
    """A model of the canonical opset that computes what the node does, with inputs and outputs as it has them.

    Raises:
        HubError: there is none that the target could say.
    """
    schema: Any = onnx.defs.get_schema(node.op_type, OPSET, "")
    contextual = schema.has_context_dependent_function
    versions = schema.context_dependent_function_opset_versions if contextual else schema.function_opset_versions
    fitting = [version for version in versions if version <= OPSET]
    if not fitting or not depth:
        raise HubError(f"ONNX does not define {node.op_type} by other operators")
    if any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    ):
        raise HubError("its definition depends on a graph of its own")
    model = _inlined(node, _function(schema, node, max(fitting), contextual=contextual), max(fitting))
    infer_shapes(model)
    for inner in [inner for inner in model.graph if not _said(inner, table)]:
        try:
            _graft(model.graph, inner, _definition(inner, table, depth - 1))
        except HubError as error:
            raise HubError(f"its definition has {inner.op_type}") from error
    return model


def _function(schema: Any, node: ir.Node, version: int, *, contextual: bool) -> onnx.FunctionProto:
    """The definition as ONNX has it."""
    proto = onnx.FunctionProto()
    if not contextual:
        proto.ParseFromString(schema.get_function_with_opset_version(version))
        return proto
    types = []
    for value in node.inputs:
        info = onnx.ValueInfoProto()
        if value is not None:
            ir.serde.serialize_value_into(info, value)
        types.append(info.type.SerializeToString())
    described = ir.serde.serialize_node(node).SerializeToString()
    body = schema.get_context_dependent_function_with_opset_version(version, described, types)
    if not body:
        raise HubError(f"ONNX does not define {node.op_type} with these attributes and inputs")
    proto.ParseFromString(body)
    return proto


def _inlined(node: ir.Node, proto: onnx.FunctionProto, version: int) -> ir.Model:
    """The definition as a model, for those of its outputs that are used."""
    proto.domain, proto.name = DOMAIN, node.op_type
    made = {*proto.input, *(name for n in proto.node for name in n.output)}
    used = [(name, own) for name, own in zip(proto.output, node.outputs, strict=False) if _used(own)]
    for name, _ in used:
        if name not in made:
            raise HubError(f"its definition does not have its output {name}")
    del proto.output[:]
    proto.output.extend(name for name, _ in used)
    inputs = [
        None if v is None else ir.Value(name=f"in{i}", type=v.type, shape=v.shape) for i, v in enumerate(node.inputs)
    ]
    attributes = dict(node.attributes)
    for name, value in defaults(node.op_type, "", OPSET).items():
        if value is not None and name not in attributes:
            attributes[name] = ir.convenience.convert_attribute(name, value)
    call = ir.Node(DOMAIN, node.op_type, inputs, attributes.values(), num_outputs=len(used))
    for index, (output, (_, own)) in enumerate(zip(call.outputs, used, strict=True)):
        output.name, output.type, output.shape = f"out{index}", own.type, own.shape
    opset = next((imported.version for imported in proto.opset_import if imported.domain == ""), version)
    graph = ir.Graph(
        [value for value in inputs if value is not None],
        call.outputs,
        nodes=[call],
        opset_imports={"": opset, DOMAIN: 1},
        name="definition",
    )
    model = ir.Model(graph, ir_version=8, functions=[ir.serde.deserialize_function(proto)])
    inline(model)
    lift_constants(model)
    upgrade(model)
    tidy(model)
    return model


def _used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _graft(graph: ir.Graph, node: ir.Node, definition: ir.Model) -> None:
    """Put the nodes of a definition in place of a node."""
    inner = definition.graph
    taken: set[str | None] = (
        {value.name for n in graph for value in n.outputs} | {v.name for v in graph.inputs} | {*graph.initializers}
    )
    names: set[str | None] = {n.name for n in graph}
    base = node.name or node.op_type
    props = {key: text for key, text in node.metadata_props.items() if key == SOURCE_OP} | {LAYER: layer_of(node)}
    for value, own in zip(inner.inputs, [v for v in node.inputs if v is not None], strict=True):
        value.replace_all_uses_with(own, replace_graph_outputs=True)
    for name, value in list(inner.initializers.items()):
        inner.initializers.pop(name)
        value.name = _unique(f"{base}/{name}", taken)
        graph.register_initializer(value)
    results = list(inner.outputs)
    inner.outputs.clear()
    body = list(inner)
    inner.remove(body)
    for part in body:
        part.name = _unique(f"{base}/{part.op_type}", names)
        part.metadata_props.update(props)
        for value in part.outputs:
            value.name = _unique(f"{base}/{value.name or 'value'}", taken)
    graph.insert_before(node, body)
    ends = [value for value in node.outputs if _used(value)]
    given: set[ir.Value] = set()
    for value, own in zip(results, ends, strict=True):
        result = value
        if value.producer() not in body or value in given:  # an input as it is, a constant, or one for two
            copy = ir.Node("", "Identity", [value], name=_unique(f"{base}/Identity", names), metadata_props=props)
            graph.insert_before(node, copy)
            result = copy.outputs[0]
            result.type, result.shape = own.type, own.shape
        given.add(value)
        called = own.name
        own.replace_all_uses_with(result, replace_graph_outputs=True)
        own.name, result.name = None, called
    graph.remove(node, safe=True)


def _unique(name: str, taken: set[str | None]) -> str:
    """The name, or where it is taken one like it."""
    number, made = 1, name
    while made in taken:
        number += 1
        made = f"{name}_{number}"
    taken.add(made)
    return made
