"""A Transpose before what computes element by element, so that it meets the input of the model.

Transpose(f(x)) = f(Transpose(x)) for a function of single elements, and
Transpose(x + c) = Transpose(x) + Transpose(c) for an operator that broadcasts, c being a constant that is
brought to the rank of x first. A network that scales its pixels before its first convolution then begins
with the Transpose that says which layout its input has.
"""

from __future__ import annotations

import onnx_ir as ir

from exporters.rules import Applied, constant
from hub.canonical import PERMUTATION, layer_of, tidy

__all__ = ["hoist_transposes"]

ELEMENTWISE = frozenset(
    """Abs Cast Ceil Clip Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Log Neg Reciprocal Relu
    Round Selu Sigmoid Softplus Softsign Sqrt Swish Tanh""".split()
)
BROADCAST = frozenset("Add Sub Mul Div Max Min Pow".split())


def hoist_transposes(model: ir.Model) -> Applied:
    """Move Transposes up to the inputs past operators whose results nothing else uses, in place."""
    applied = Applied()
    for node in [node for node in model.graph if node.op_type == "Transpose" and node.domain == ""]:
        perm = node.attributes.get_ints("perm", None) if "perm" in node.attributes else None
        if perm is None or perm[0] != 0:
            applied.left[layer_of(node)] = "it moves the batch"
        elif not _leads_to_input(node):
            applied.left[layer_of(node)] = "it does not lead up to an input"
        elif node.outputs[0].is_graph_output():
            applied.left[layer_of(node)] = "its result is an output"
        elif not node.inputs[0].is_graph_input():  # type: ignore[union-attr]
            applied.changed.append(layer_of(node))
            _hoist(model.graph, node)
    if applied.changed:
        tidy(model)
    return applied


def _leads_to_input(node: ir.Node) -> bool:
    """Whether all the way up there are only operators that it can pass, each used once, then an input, used once."""
    value = node.inputs[0]
    while value is not None and not value.is_graph_input():
        before = value.producer()
        if before is None or len(list(value.uses())) != 1 or value.is_graph_output():
            return False
        computed = [v for v in before.inputs if v is not None and v.const_value is None]
        if before.op_type not in ELEMENTWISE | BROADCAST or len(computed) != 1:
            return False
        shapes = [before.outputs[0].shape, computed[0].shape]
        if any(shape is None for shape in shapes) or len(shapes[0]) != len(shapes[1]):  # type: ignore[arg-type]
            return False
        value = computed[0]
    return value is not None and len(list(value.uses())) == 1 and not value.is_graph_output()


def _hoist(graph: ir.Graph, node: ir.Node) -> None:
    """Exchange a Transpose with the node before it, until it is at the input."""
    middle = node.inputs[0]
    before = middle.producer() if middle is not None else None
    if middle is None or before is None or middle.shape is None:
        return
    rank = len(middle.shape)
    perm = list(node.attributes.get_ints("perm", tuple(reversed(range(rank)))))
    source = next(v for v in before.inputs if v is not None and v.const_value is None)
    assert source.shape is not None
    for index, value in enumerate(before.inputs):
        if before.op_type in BROADCAST and value is not None and value is not source:
            before.replace_input_with(index, _permuted(graph, value, perm, rank))
    turned = ir.node("Transpose", [source], {"perm": perm}, name=node.name, metadata_props=dict(node.metadata_props))
    out = turned.outputs[0]
    out.name, out.type, out.shape = f"{middle.name}/turned", source.type, ir.Shape([source.shape[i] for i in perm])
    graph.insert_before(before, turned)
    before.replace_input_with(list(before.inputs).index(source), out)
    middle.shape = ir.Shape([middle.shape[i] for i in perm])
    if layer_of(before) == layer_of(node):  # what leaves the layer is what left it before
        back = node.outputs[0].metadata_props.get(PERMUTATION, "")
    else:
        known = middle.metadata_props.get(PERMUTATION)
        order = [int(i) for i in known.split(",")] if known else range(rank)
        back = ",".join(str(perm.index(i)) for i in order)
    middle.metadata_props.pop(PERMUTATION, None)
    if back:
        middle.metadata_props[PERMUTATION] = back
    node.outputs[0].replace_all_uses_with(middle)
    graph.remove(node)
    _hoist(graph, turned)


def _permuted(graph: ir.Graph, value: ir.Value, perm: list[int], rank: int) -> ir.Value:
    """A constant brought to `rank`, then transposed."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    if array.size == 1:
        return value
    array = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(perm)
    return constant(graph, array, f"{value.name}/turned", value)
