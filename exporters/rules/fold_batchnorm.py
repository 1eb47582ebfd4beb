"""A BatchNormalization after a linear layer, in its weights.

s (W x + b - m) + t with s = gamma / sqrt(variance + epsilon) is (s W) x + s (b - m) + t, s being one number for
each output channel: axis 0 of a Conv's kernel, the channel axis of a ConvTranspose's, the columns of a Gemm's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.rules import Applied, constant, each
from hub.canonical import layer_of

__all__ = ["FOLDED", "fold_batchnorm"]

FOLDED = "hub.folded"
"""Metadata of a linear node: the layer of the BatchNormalization whose value it now gives."""


def fold_batchnorm(model: ir.Model) -> Applied:
    """Fold every BatchNormalization that follows a Conv, ConvTranspose or Gemm with constant weights, in place."""
    return each(model, {"BatchNormalization"}, lambda node: _fold(model.graph, node))


def _fold(graph: ir.Graph, node: ir.Node) -> str:
    """Fold one; returns why not, if not."""
    source = node.inputs[0]
    linear = None if source is None else source.producer()
    if linear is None or source is None or linear.op_type not in ("Conv", "ConvTranspose", "Gemm"):
        return "it does not follow a convolution or a dense layer"
    if source.is_graph_output() or len(list(source.uses())) != 1:
        return "what it normalizes is used elsewhere as well"
    if node.attributes.get_int("training_mode", 0) if "training_mode" in node.attributes else 0:
        return "it is in training mode"
    if linear.op_type == "Gemm" and any(
        linear.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta") if name in linear.attributes
    ):
        return "the Gemm has factors"
    arrays = [_array(value) for value in (*node.inputs[1:5], linear.inputs[1])]
    bias = linear.inputs[2] if len(linear.inputs) > 2 else None
    offset = _array(bias) if bias is not None else np.zeros(1, np.float64)
    if any(array is None for array in (*arrays, offset)):
        return "its weights are computed"
    if linear.op_type == "Gemm" and (offset.size not in (1, len(arrays[0])) or offset.shape[:-1] not in ((), (1,))):
        return "what the Gemm adds is not a row"
    gamma, beta, mean, variance, weight = (np.asarray(array, np.float64) for array in arrays)
    epsilon = node.attributes.get_float("epsilon", 1e-5) if "epsilon" in node.attributes else 1e-5
    factor = gamma / np.sqrt(variance + epsilon)
    scaled = _scaled(linear, weight, factor)
    shift = (np.asarray(offset, np.float64).reshape(-1) - mean) * factor + beta
    kernel = constant(graph, scaled.astype(np.float32), f"{node.name}/kernel", linear.inputs[1])
    row = constant(graph, shift.astype(np.float32), f"{node.name}/bias", linear.inputs[1])
    linear.replace_input_with(1, kernel)
    linear.resize_inputs(3)
    linear.replace_input_with(2, row)
    if layer_of(linear) != layer_of(node):
        linear.metadata_props[FOLDED] = layer_of(node)
    result = node.outputs[0]
    if result.is_graph_output():
        result.name, source.name = source.name, result.name
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node)
    return ""


def _scaled(linear: ir.Node, weight: Any, factor: Any) -> Any:
    if linear.op_type == "Conv":
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    if linear.op_type == "Gemm":
        return weight * (factor[:, None] if linear.attributes.get_int("transB", 0) else factor[None, :])
    group = linear.attributes.get_int("group", 1) if "group" in linear.attributes else 1
    parts = np.split(weight, group, axis=0)
    factors = np.split(factor, group)
    return np.concatenate([p * f.reshape(1, -1, *[1] * (p.ndim - 2)) for p, f in zip(parts, factors, strict=True)])


def _array(value: ir.Value | None) -> Any:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
