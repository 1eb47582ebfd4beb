"""Legalization rules: ONNX to equal ONNX that a target can say better. One idea a file.

A rule is a function of a model, which it changes in place. It returns what it did and, for what it looked
at and left alone, why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["Applied", "Rule", "constant"]


@dataclass
class Applied:
    """What a rule did: the layers it changed, and for those that it left alone the reason."""

    changed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


Rule = Callable[[ir.Model], Applied]


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
