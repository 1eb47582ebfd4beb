"""Dropout that keeps everything, taken out of a frozen graph; and randomness that is left in what was converted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hub.errors import Refusal, UnsupportedOps
from importers.tensorflow.graphs import split

__all__ = ["refuse_random", "settle_dropout"]

UNIFORM = frozenset({"RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"})
RANDOM = frozenset("RandomUniform RandomUniformLike RandomNormal RandomNormalLike Multinomial Bernoulli".split())
ALIAS = frozenset({"Cast", "Identity", "StopGradient"})


def settle_dropout(graph: Any) -> None:
    """Let a dropout of a rate of 0 (`keep_prob` given as 1) be nothing, in place.

    1. `floor(keep + u)` and `u >= rate` are 1 for all of the numbers that u may be.
    2. A product with that, and a selection by it, is its other factor.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in graph.node}
    constants = {
        node.name: float(tf.make_ndarray(node.attr["value"].tensor).reshape(-1)[0])
        for node in graph.node
        if node.op == "Const" and _scalar(node, tf)
    }
    ones = {node.name for node in graph.node if _always_one(node, nodes, constants)}
    if not ones:
        return
    grown = True
    while grown:
        more = {n.name for n in graph.node if n.op in ALIAS and n.name not in ones and split(n.input[0])[0] in ones}
        ones |= more
        grown = bool(more)
    for node in graph.node:
        kept = None
        if node.op == "Mul" and any(split(name)[0] in ones for name in node.input[:2]):
            kept = node.input[1] if split(node.input[0])[0] in ones else node.input[0]
        elif node.op in ("Select", "SelectV2") and split(node.input[0])[0] in ones:
            kept = node.input[1]
        if kept is not None and split(kept)[0] not in ones:
            node.op = "Identity"
            del node.input[:]
            node.input.append(kept)
            for name in [name for name in node.attr if name not in ("T", "_output_shapes")]:
                del node.attr[name]


def _scalar(node: Any, tf: Any) -> bool:
    tensor = node.attr["value"].tensor
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    kind = tf.as_dtype(node.attr["dtype"].type)
    return all(size == 1 for size in shape) and bool(kind.is_floating)


def _always_one(node: Any, nodes: Mapping[str, Any], constants: Mapping[str, float]) -> bool:
    if node.op == "GreaterEqual":
        limit = constants.get(split(node.input[1])[0])
        found = _range(node.input[0], nodes, constants)
        return limit is not None and found is not None and found[2] and found[0] >= limit
    if node.op == "Floor":
        found = _range(node.input[0], nodes, constants)
        return found is not None and found[2] and found[0] >= 1 and found[1] <= 2
    return False


def _range(
    name: str, nodes: Mapping[str, Any], constants: Mapping[str, float], depth: int = 0
) -> tuple[float, float, bool] | None:
    """From and below what a value is, and whether it is random."""
    base = split(name)[0]
    node = nodes.get(base)
    if base in constants:
        return constants[base], constants[base], False
    if node is None or depth > 8:
        return None
    if node.op in UNIFORM:
        return 0.0, 1.0, True
    if node.op == "Identity":
        return _range(node.input[0], nodes, constants, depth + 1)
    if node.op not in ("Add", "AddV2", "Mul", "Sub"):
        return None
    a, b = (_range(x, nodes, constants, depth + 1) for x in node.input[:2])
    if a is None or b is None:
        return None
    if node.op == "Sub":
        return (a[0] - b[0], a[1] - b[0], a[2]) if not b[2] else None
    if node.op == "Mul":
        return (a[0] * b[0], a[1] * b[1], a[2] or b[2]) if min(a[0], b[0]) >= 0 else None
    return a[0] + b[0], a[1] + b[1], a[2] or b[2]


def refuse_random(model: Any) -> None:
    """Refuse what gives other numbers each time, or gave before the engine took it for inference.

    Raises:
        UnsupportedOps: naming it, and the way out.
    """
    hint = 'set what tells training from inference: inputs={"is_training": False}, or {"keep_prob": 1.0}'
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    refusals = []
    for node in _all(model.graph):
        if node.op_type in RANDOM:
            refusals.append((node.op_type, node.name, Refusal("it gives other numbers each time", hint)))
        elif node.op_type == "Dropout" and _ratio(node, constants):
            refusals.append(("Dropout", node.name, Refusal("it is one in training, which the source applies", hint)))
    if refusals:
        raise UnsupportedOps.collect("The graph is random, as in training:", refusals)


def _ratio(node: Any, constants: Mapping[str, Any]) -> bool:
    import onnx

    for attribute in node.attribute:
        if attribute.name == "ratio":
            return bool(attribute.f > 0)
    if len(node.input) > 1 and node.input[1] in constants:
        return bool(float(onnx.numpy_helper.to_array(constants[node.input[1]]).reshape(-1)[0]) > 0)
    return True


def _all(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all(attribute.g)
