"""Legalization rules: ONNX to equal ONNX that a target can say better. One idea a file.

A rule is a function of a model, which it changes in place. It returns what it did and, for what it looked
at and left alone, why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.canonical import layer_of, tidy

__all__ = ["Applied", "constant", "each"]


@dataclass
class Applied:
    """What a rule did: the layers it changed, and for those that it left alone the reason."""

    changed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def each(model: ir.Model, operators: Collection[str], change: Callable[[ir.Node], str | None]) -> Applied:
    """Apply `change` to every node of `operators` that is there at the beginning, in the order of the graph.

    It returns an empty string where it changed the node, else why not; None where there was nothing to look at.
    """
    applied = Applied()
    for node in [node for node in model.graph if node.op_type in operators and node.domain == ""]:
        reason = change(node)
        if reason:
            applied.left[layer_of(node)] = reason
        elif reason is not None:
            applied.changed.append(layer_of(node))
    if applied.changed:
        tidy(model)
    return applied


def constant(graph: ir.Graph, array: Any, name: str, like: ir.Value | None = None) -> ir.Value:
    """Add an initializer called `name` or, where that is taken, almost so; with the metadata of `like`."""
    while name in graph.initializers:
        name += "_"
    array = np.asarray(array, order="C")
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    if like is not None:
        value.metadata_props.update(like.metadata_props)
    graph.register_initializer(value)
    return value
