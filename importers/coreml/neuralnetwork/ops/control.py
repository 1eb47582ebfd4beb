"""Branches and loops. Layers inside of them read and write the blobs around them, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.canonical import LAYER, OPSET, SOURCE_OP
from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer

__all__ = ["BREAK", "assigned", "leaves"]

BREAK = "\0break"
"""The name under which it is kept that a loop was left; no blob has it."""

MOST_TRIES = 4


def assigned(network: Any) -> list[str]:
    """Names of blobs that the layers of a network write, in order."""
    names: list[str] = []
    for message in network.layers:
        names += message.output
        kind = message.WhichOneof("layer")
        if kind == "branch":
            names += assigned(message.branch.ifBranch) + assigned(message.branch.elseBranch)
        elif kind == "loop":
            inner = assigned(message.loop.conditionNetwork) + assigned(message.loop.bodyNetwork)
            names += [name for name in inner if name != BREAK]
        elif kind == "loopBreak":
            names.append(BREAK)
    return list(dict.fromkeys(names))


def leaves(message: Any) -> bool:
    """Whether a layer may leave the loop around it, or begin its next round."""
    kind = message.WhichOneof("layer")
    if kind == "branch":
        return any(leaves(one) for part in (message.branch.ifBranch, message.branch.elseBranch) for one in part.layers)
    return kind in ("loopBreak", "loopContinue")


@layer("branch")
def branch(net: Context, condition: ir.Value, *, ifBranch: Any, elseBranch: Any) -> list[ir.Value]:
    """What both write, or one of them writes and is there before, is there behind."""
    net.require(ifBranch is not None, "it has no branch")
    known = net.scope.values
    one = assigned(ifBranch)
    other = assigned(elseBranch) if elseBranch is not None else []
    names = [name for name in dict.fromkeys(one + other) if name in known or (name in one and name in other)]
    if not names:
        raise Refusal("nothing that it writes is there behind it")
    graphs = []
    for title, network in (("then", ifBranch), ("else", elseBranch)):
        body = net.builder.inner(f"{net.message.name}/{title}")
        inside = net.scope.inner(body)
        if network is not None:
            inside.run(network.layers)
        _finish(net, inside)
        graphs.append(_graph(body, [body.op("Identity", inside.values[name]) for name in names]))
    shapes = [_common(a, b) for a, b in zip(graphs[0].outputs, graphs[1].outputs, strict=True)]
    test = net.bool(net.reshape(condition, []))
    attributes = [ir.AttrGraph("then_branch", graphs[0]), ir.AttrGraph("else_branch", graphs[1])]
    results = _node(net, "If", [test], attributes, names, list(graphs[0].outputs), shapes)
    known.update(zip(names, results, strict=True))
    return []


@layer("loop")
def loop(
    net: Context,
    count: ir.Value | None = None,
    *,
    maxLoopIterations: int,
    conditionVar: str,
    conditionNetwork: Any,
    bodyNetwork: Any,
) -> list[ir.Value]:
    """A number of rounds, or rounds while a blob is not 0, which a network may compute before each."""
    net.require(bodyNetwork is not None, "it has no body")
    known = net.scope.values
    if conditionNetwork is not None:
        net.scope.run(conditionNetwork.layers)
    start = None
    if conditionVar:
        net.require(conditionVar in known, f"its condition {conditionVar!r} is no blob")
        start = net.bool(net.reshape(known[conditionVar], []))
    limit = None
    if count is not None:
        limit = net.reshape(net.int64(count), [])
    elif maxLoopIterations:
        limit = net.ints(min(maxLoopIterations, (1 << 62)), "rounds")
    net.require(limit is not None or start is not None, "it never ends")
    networks = [bodyNetwork, *([conditionNetwork] if conditionNetwork is not None else [])]
    inner = [name for network in networks for name in assigned(network)]
    names = [name for name in dict.fromkeys(inner) if name in known and name != BREAK]
    if not names:
        raise Refusal("nothing that it writes is there before it")
    shapes = [list(known[name].shape or []) for name in names]
    for value in (known[name] for name in names):
        if value.shape is None:
            raise Refusal("the number of axes of what it carries is not known")
    for _ in range(MOST_TRIES):
        graph, changed = _body(net, names, shapes, bodyNetwork, conditionNetwork, conditionVar, BREAK in inner)
        if not changed:
            break
    else:
        raise Refusal("the number of axes of what it carries changes")
    attributes = [ir.AttrGraph("body", graph)]
    begin = [limit, start, *[known[name] for name in names]]
    results = _node(net, "Loop", begin, attributes, names, list(graph.outputs)[1:], [ir.Shape(s) for s in shapes])
    known.update(zip(names, results, strict=True))
    return []


def _body(
    net: Context,
    names: Sequence[str],
    shapes: list[list[Any]],
    network: Any,
    condition: Any,
    variable: str,
    may_break: bool,
) -> tuple[ir.Graph, bool]:
    """One round; and whether sizes turned out to change, which are then None in `shapes`."""
    body = net.builder.inner(f"{net.message.name}/body")
    body.input(f"{net.message.name}/round", ir.DataType.INT64, [])
    test = body.input(f"{net.message.name}/go", ir.DataType.BOOL, [])
    inside = net.scope.inner(body)
    for name, shape in zip(names, shapes, strict=True):
        inside.values[name] = body.input(f"{name}/before", ir.DataType.FLOAT, list(shape))
    if may_break:
        inside.values[BREAK] = net.number(0, "stay")
    refused = len(inside.refused)
    inside.run(network.layers)
    if condition is not None:
        inside.run(condition.layers)
    _finish(net, inside, refused)
    go = body.op("Identity", test)
    if variable:
        go = body.op("Cast", body.op("Reshape", inside.values[variable], net.ints([], "none")), to=9)
    if may_break:
        stay = body.op("Not", body.op("Cast", inside.values[BREAK], to=ir.DataType.BOOL.value))
        go = body.op("And", go, stay)
    outputs = [go, *[body.op("Identity", inside.values[name]) for name in names]]
    changed = False
    for shape, value in zip(shapes, outputs[1:], strict=True):
        found = value.shape
        if found is not None and len(found) != len(shape):
            raise Refusal("the number of axes of what it carries changes")
        for axis, size in enumerate(shape):
            if size is not None and (found is None or found[axis] != size):
                shape[axis] = None
                changed = True
    return _graph(body, outputs), changed


def _finish(net: Context, inside: Any, before: int | None = None) -> None:
    """Layers inside that are refused are collected already; the layer around them is refused with them."""
    if len(inside.refused) > (inside.started if before is None else before):
        raise Refusal("layers inside of it are refused")


def _graph(body: GraphBuilder, outputs: Sequence[ir.Value]) -> ir.Graph:
    return ir.Graph(body.inputs, list(outputs), nodes=body.nodes, opset_imports={"": OPSET}, name=body.name)


def _common(a: ir.Value, b: ir.Value) -> ir.Shape | None:
    """The sizes that are the same in both."""
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return None
    return ir.Shape([x if x == y else None for x, y in zip(a.shape, b.shape, strict=True)])


def _node(
    net: Context,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Sequence[ir.Attr],
    names: Sequence[str],
    like: Sequence[ir.Value],
    shapes: Sequence[ir.Shape | None],
) -> list[ir.Value]:
    label = net.builder.unique(f"{net.message.name}/{op_type}")
    outputs = [
        ir.Value(name=net.builder.unique(name.replace(BREAK, "break")), type=value.type, shape=shape)
        for name, value, shape in zip(names, like, shapes, strict=True)
    ]
    metadata = {LAYER: net.message.name or net.kind, SOURCE_OP: net.kind}
    node = ir.Node("", op_type, inputs, attributes, outputs=outputs, name=label, metadata_props=metadata)
    net.builder.nodes.append(node)
    return outputs


@layer("loopBreak")
def loop_break(net: Context) -> list[ir.Value]:
    net.require(BREAK in net.scope.values, "it is outside of a loop")
    net.scope.values[BREAK] = net.builder.constant(np.float32(1), "leave")
    return []


@layer("loopContinue")
def loop_continue(net: Context) -> list[ir.Value]:
    """The last layer of a round, so that there is nothing to leave out."""
    return []
