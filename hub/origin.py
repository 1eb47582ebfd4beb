"""Words of the source: how a source layer that ONNX says in many nodes can be said again in its own words.

An importer may record, on the node that gives a layer's result, the layer's type and parameters as its
framework writes them. An exporter to the same framework may then write that layer instead of the nodes, as
long as they are still what the importer made:

1. a layer's nodes are those that lead to its result and bear its name (`hub.layer`);
2. the words carry a fingerprint of all that these nodes compute: operators, attributes (defaults filled in),
   edges, the bytes of constants, the types and sizes of what comes from outside, and the words themselves;
3. they hold if the fingerprint, computed again, is the same, and nothing outside uses anything of the nodes but
   that result. A graph that was changed is never said by words that no longer hold.

What a layer has as weights counts with its shape alone: other numbers in it are other weights of the same layer.
A bottom that no node uses is one of which only the sizes matter: it is recorded as the place where it comes from,
and the value found there must have those sizes.

The names of nodes and values, and their order, do not count: passes change them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.canonical import LAYER, OPSET, ORIGIN, layer_of
from hub.errors import HubError, Refusal
from hub.optable import attribute_value, defaults

__all__ = ["Origin", "origins", "record"]

LARGEST = 1 << 26
"""Bytes of a constant above which there is no fingerprint."""

CHANGED = "it was changed since it was read"


@dataclass
class Origin:
    """A layer in its own words, found in a graph.

    Attributes:
        node: gives the result, its first output. `nodes` are all of the layer, `node` the last.
        kind, text: the layer's type, and its parameters as text.
        bottoms: what it takes.
        blobs: its weights, each with the shape that it has in the source.
        stale: why the words do not hold, or nothing.
    """

    node: ir.Node
    kind: str
    text: str = ""
    bottoms: list[ir.Value] = field(default_factory=list)
    blobs: list[tuple[ir.Value, tuple[int, ...]]] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    stale: str = ""


@dataclass
class _Group:
    """The nodes of a layer in the order of their need, and what they take from outside in that of its first use."""

    nodes: list[ir.Node]
    outside: list[ir.Value]


def record(
    node: ir.Node,
    framework: str,
    kind: str,
    text: str,
    bottoms: Sequence[ir.Value],
    blobs: Sequence[tuple[ir.Value, Sequence[int]]] = (),
) -> bool:
    """Record the words of the layer whose result `node` gives; False if it cannot be said where its bottoms are."""
    group = _group(node)
    places = [_place(value, group) for value in bottoms]
    weights = [[_index(value, group.outside), list(shape)] for value, shape in blobs]
    if None in places or any(index is None for index, _ in weights):
        return False
    words = {"framework": framework, "kind": kind, "text": text, "bottoms": places, "blobs": weights}
    fingerprint = _fingerprint(group, words)
    if fingerprint is None:
        return False
    node.metadata_props[ORIGIN] = json.dumps({**words, "fingerprint": fingerprint}, sort_keys=True)
    return True


def origins(graph: ir.Graph, framework: str) -> Iterator[Origin]:
    """All layers of `graph` that have words of `framework`, in order; those that no longer hold are `stale`."""
    for node in graph:
        words = _words(node)
        if words is not None and words["framework"] == framework:
            yield _judged(graph, node, words)


def _words(node: ir.Node) -> dict[str, Any] | None:
    """What is recorded on a node, if it has the form that `record` gives it."""
    try:
        words = json.loads(node.metadata_props.get(ORIGIN, "null"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, dict):
        return None
    strings = all(isinstance(words.get(key), str) for key in ("framework", "kind", "text", "fingerprint"))
    lists = all(isinstance(words.get(key), list) for key in ("bottoms", "blobs"))
    return words if strings and lists else None


def _judged(graph: ir.Graph, node: ir.Node, words: dict[str, Any]) -> Origin:
    origin = Origin(node, words["kind"], words["text"])
    group = _group(node)
    origin.nodes = group.nodes
    given = words.pop("fingerprint")
    try:
        same = _fingerprint(group, words) == given
        bottoms = [_found(graph, group, place, node) for place in words["bottoms"]] if same else []
        origin.blobs = [(group.outside[i], tuple(map(int, shape))) for i, shape in words["blobs"]] if same else []
    except (TypeError, ValueError, IndexError, KeyError):  # it is text from a file
        same = False
    if not same:
        origin.stale = CHANGED
    elif _leaks(group, node):
        origin.stale = "something else uses what is inside of it"
    elif any(value is None for value in bottoms):
        origin.stale = "what it takes the sizes of is no longer there"
    elif not all(_fits(value, shape) for value, shape in origin.blobs):
        origin.stale = CHANGED
    else:
        origin.bottoms = [value for value in bottoms if value is not None]
    return origin


def _group(node: ir.Node) -> _Group:
    """The nodes that lead to `node` and bear its layer's name, each after those that it needs."""
    layer = layer_of(node)
    nodes: list[ir.Node] = []
    outside: dict[ir.Value, None] = {}
    seen = {node}
    waiting: list[tuple[ir.Node, Iterator[ir.Value | None]]] = [(node, iter(node.inputs))]
    while waiting:
        current, rest = waiting[-1]
        for value in rest:
            before = value.producer() if value is not None else None
            if value is None or before in seen:
                continue
            if before is not None and before.metadata_props.get(LAYER) == layer and before.graph is node.graph:
                seen.add(before)
                waiting.append((before, iter(before.inputs)))
                break
            outside.setdefault(value)
        else:
            waiting.pop()
            nodes.append(current)
    return _Group(nodes, list(outside))


def _leaks(group: _Group, last: ir.Node) -> bool:
    """Whether anything but the first output of the last node is used outside of the group."""
    inside = set(group.nodes)
    for node in group.nodes:
        for index, value in enumerate(node.outputs):
            if node is last and index == 0:
                continue
            if value.is_graph_output() or any(user not in inside for user, _ in value.uses()):
                return True
    return any(user in inside for user, _ in last.outputs[0].uses())


def _fingerprint(group: _Group, words: dict[str, Any]) -> str | None:
    """A SHA-256 of what the nodes compute, and of the words; None where there is none."""
    numbers = {node: index for index, node in enumerate(group.nodes)}
    places = {value: index for index, value in enumerate(group.outside)}
    weights = {index for index, _ in words["blobs"]}
    parts: list[Any] = [1, words]
    for node in group.nodes:
        attributes = _attributes(node)
        if attributes is None:
            return None
        inputs: list[Any] = []
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if value is None:
                inputs.append(None)
            elif producer in numbers:
                inputs.append([numbers[producer], value.index()])
            else:
                inputs.append(f"outside {places[value]}")
        parts.append([node.op_type, attributes, inputs])
    for index, value in enumerate(group.outside):
        description = _description(value, data=index not in weights)
        if description is None:
            return None
        parts.append(description)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _attributes(node: ir.Node) -> dict[str, Any] | None:
    """All attributes as plain values; None if some are tensors or graphs, or the operator is not the standard's."""
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        found = dict(defaults(node.op_type, "", OPSET))
    except (HubError, Refusal):
        return None
    for name, attribute in node.attributes.items():
        value = attribute_value(attribute)
        plain = all(isinstance(item, int | float | str) for item in (value if isinstance(value, list) else [value]))
        if not plain:
            return None
        found[name] = value
    return found


def _description(value: ir.Value, data: bool) -> Any:
    """Type and sizes of a value, an open size as "?"; of a constant the bytes as well, with `data`."""
    shape = None if value.shape is None else [d if isinstance(d, int) else "?" for d in value.shape]
    dtype = None if value.dtype is None else value.dtype.name
    tensor = _constant(value)
    if tensor is None:
        return [dtype, shape]
    shape, dtype = [int(d) for d in tensor.shape.numpy()], tensor.dtype.name
    if not data:
        return [dtype, shape, "weight"]
    if tensor.nbytes > LARGEST or tensor.dtype == ir.DataType.STRING:
        return None
    array = np.ascontiguousarray(tensor.numpy())
    return [dtype, shape, hashlib.sha256(array.tobytes()).hexdigest()]


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    return None if value.is_graph_input() else value.const_value


def _fits(value: ir.Value, shape: tuple[int, ...]) -> bool:
    """Whether a value is a constant of as many numbers as `shape` has."""
    tensor = _constant(value)
    return tensor is not None and tensor.size == math.prod(shape)


def _index(value: ir.Value, values: Sequence[ir.Value]) -> int | None:
    return next((index for index, other in enumerate(values) if other is value), None)


def _place(value: ir.Value, group: _Group) -> Any:
    """Where a bottom is: its number among what the group takes, or else where it comes from, and its sizes."""
    index = _index(value, group.outside)
    if index is not None:
        return index
    node = value.producer()
    if node is None and value.const_value is None:  # an input, of a graph that an importer may not have made yet
        return {"input": value.name, "is": _description(value, data=False)}
    if node is None or LAYER not in node.metadata_props or node in group.nodes:
        return None
    return {"layer": node.metadata_props[LAYER], "output": value.index(), "is": _description(value, data=False)}


def _found(graph: ir.Graph, group: _Group, place: Any, last: ir.Node) -> ir.Value | None:
    """The value at a place that `_place` has described, made before `last`."""
    if isinstance(place, int):
        return group.outside[place]
    if "input" in place:
        candidates = [value for value in graph.inputs if value.name == place["input"]]
    else:
        before = takewhile(lambda node: node is not last, graph)
        nodes = [node for node in before if node.metadata_props.get(LAYER) == place["layer"]]
        inner = {value for node in nodes for value in node.inputs}
        index = place["output"]
        results = [node.outputs[index] for node in nodes if 0 <= index < len(node.outputs)]
        candidates = [value for value in results if value not in inner]
    fitting = [value for value in candidates if _description(value, data=False) == place["is"]]
    return fitting[-1] if fitting else None
