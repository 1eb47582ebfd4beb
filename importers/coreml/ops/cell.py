"""An LSTM that clips its cell, one step of a Scan: ONNX's own operator clips what goes into the gates instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from hub.canonical import LAYER, OPSET, SOURCE_OP
from importers.coreml.context import Mil

__all__ = ["ACTIVATIONS", "clipped"]

ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "sigmoid": ("Sigmoid", None, None),
    "tanh": ("Tanh", None, None),
    "relu": ("Relu", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "scaled_tanh": ("ScaledTanh", 1.0, 1.0),
    "hard_sigmoid": ("HardSigmoid", 0.2, 0.5),
    "sigmoid_hard": ("HardSigmoid", 0.2, 0.5),
}
"""What each activation is in ONNX, with its constants, which are those of Apple's own tests: MIL does not say them."""


def _activated(mil: Mil, x: ir.Value, name: str) -> ir.Value:
    kind, alpha, beta = ACTIVATIONS[mil.one_of(name, *ACTIVATIONS)]
    if kind == "Affine":
        return x
    if kind == "ScaledTanh":
        inner = mil.op("Tanh", mil.op("Mul", x, mil.scalar(beta or 0, x, "beta")))
        return mil.op("Mul", inner, mil.scalar(alpha or 0, x, "alpha"))
    return mil.op(kind, x, alpha=alpha, beta=beta)


def clipped(
    mil: Mil,
    x: ir.Value,
    weight: ir.Value,
    recurrent: ir.Value,
    bias: ir.Value | None,
    first_h: ir.Value,
    first_c: ir.Value,
    peephole: ir.Value | None,
    names: Sequence[str],
    clip: float,
    back: bool,
) -> list[ir.Value]:
    """All steps (steps, batch, hidden), the last state and the last cell; the weights are those of ONNX's LSTM."""
    mil.require(clip >= 0, f"it clips at {clip}")
    w = mil.op("Transpose", mil.squeeze(weight, 0), perm=[1, 0])
    inputs = mil.op("MatMul", x, w)
    if bias is not None:
        halves = mil.ops("Split", mil.squeeze(bias, 0), outputs=2, axis=0, num_outputs=2)
        inputs = mil.op("Add", inputs, mil.op("Add", *halves))
    r = mil.op("Transpose", mil.squeeze(recurrent, 0), perm=[1, 0])
    eyes = None
    if peephole is not None:
        eyes = mil.ops("Split", mil.squeeze(peephole, 0), outputs=3, axis=0, num_outputs=3)
    h, c = mil.squeeze(first_h, 0), mil.squeeze(first_c, 0)
    walker, outer = mil.walker, mil.builder
    walker.builder = body = outer.inner(f"{mil.name}/step")
    try:
        batch, size = (s if isinstance(s, int) else None for s in h.shape or (None, None))
        h_in, c_in = (body.input(f"{mil.name}/{n}", mil.dtype(x), [batch, size]) for n in ("h", "c"))
        step = body.input(f"{mil.name}/x", mil.dtype(x), [batch, None if size is None else 4 * size])
        i, o, f, z = mil.ops("Split", mil.op("Add", step, mil.op("MatMul", h_in, r)), outputs=4, axis=1, num_outputs=4)
        if eyes is not None:
            i, f = (mil.op("Add", g, mil.op("Mul", c_in, e)) for g, e in ((i, eyes[0]), (f, eyes[2])))
        i, f, z = (_activated(mil, g, name) for g, name in ((i, names[0]), (f, names[0]), (z, names[1])))
        c_out = mil.op("Add", mil.op("Mul", c_in, f), mil.op("Mul", i, z))
        c_out = mil.op("Clip", c_out, mil.scalar(-clip, c_out, "low"), mil.scalar(clip, c_out, "high"))
        o = mil.op("Add", o, mil.op("Mul", c_out, eyes[1])) if eyes is not None else o
        h_out = mil.op("Mul", _activated(mil, o, names[0]), _activated(mil, c_out, names[2]))
        graph = ir.Graph(
            body.inputs,
            [h_out, c_out, mil.op("Identity", h_out)],
            nodes=body.nodes,
            name=body.name,
            opset_imports={"": OPSET},
        )
    finally:
        walker.builder = outer
    attributes = [ir.AttrGraph("body", graph), ir.AttrInt64("num_scan_inputs", 1)]
    attributes += [ir.AttrInt64s(f"scan_{kind}_directions", [int(back)]) for kind in ("input", "output")]
    label = outer.unique(f"{mil.name}/Scan")
    steps = x.shape[0] if x.shape is not None else None
    shapes: Sequence[list[Any]] = ([batch, size], [batch, size], [steps, batch, size])
    outputs = [
        ir.Value(name=outer.unique(f"{label}_{n}"), type=h.type, shape=ir.Shape(s)) for n, s in enumerate(shapes)
    ]
    metadata = {LAYER: mil.name, SOURCE_OP: mil.kind}
    node = ir.Node("", "Scan", [h, c, inputs], attributes, outputs=outputs, name=label, metadata_props=metadata)
    outer.nodes.append(node)
    return [outputs[2], outputs[0], outputs[1]]
