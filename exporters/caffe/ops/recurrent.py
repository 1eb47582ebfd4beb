"""Recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.caffe.axes import select
from exporters.caffe.emit import SIZES_HINT, Emitter
from exporters.caffe.net import Blob
from exporters.caffe.ops.table import OPS
from exporters.caffe.primitives import bias, concat, cut, filled, reshape
from exporters.constants import Array, Constant
from hub.errors import Refusal

GATES = (0, 2, 1, 3)
"""Caffe's order i, f, o, g of the gates that ONNX has as i, o, f, c."""

DEFAULT = ("sigmoid", "tanh", "tanh")


@OPS("LSTM", outputs=3)
def lstm(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    lengths: ir.Value | None,
    initial_h: ir.Value | None,
    initial_c: ir.Value | None,
    peepholes: ir.Value | None,
    *,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    activations: list[str] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    input_forget: int,
    layout: int,
) -> list[Blob]:
    """LSTM over (time, batch, features); a reversed direction on the reversed sequence.

    Caffe multiplies the state before each step by `cont`: 0 at the first step starts from nothing, 1 from the
    state that is given. Its bias is the sum of ONNX's two.
    """
    assert emit.node is not None
    source = emit.blob(x)
    matrices, recurrent = emit.weight(w, "its matrix").numpy(), emit.weight(r, "its matrix").numpy()
    offsets = emit.weight(b, "its bias").numpy() if b is not None else np.zeros((2, 8 * recurrent.shape[2]), np.float32)
    if lengths is not None and not _full(emit, lengths, source):
        raise Refusal("sequences of different lengths")
    if peepholes is not None and (emit.array(peepholes) is None or np.any(emit.array(peepholes))):
        raise Refusal("peepholes")
    if tuple(a.lower() for a in activations or DEFAULT) not in (DEFAULT, DEFAULT * 2):
        raise Refusal(f"the activations {activations}")
    if activation_alpha or activation_beta or clip is not None or input_forget or layout:
        raise Refusal("a clipped or coupled cell, or a batch that comes first")
    steps = source.shape[0]
    if not isinstance(steps, int):
        raise Refusal("a number of steps that is open", SIZES_HINT)
    used = [bool(v.uses()) or v.is_graph_output() for v in emit.node.outputs] + [False, False]
    states = (initial_h, initial_c) if initial_h is not None or initial_c is not None or used[2] else None
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    results = []
    for number, backwards in enumerate(directions):
        name = "reverse" if backwards else "forward"
        order = list(reversed(range(steps)))
        sequence = select(emit, source, 0, order, "reversed") if backwards else source
        layer = Direction(name, matrices[number], recurrent[number], offsets[number])
        start = None if states is None else [_state(emit, s, number, source, layer.size) for s in states]
        y, last_h, last_c = layer.run(emit, sequence, start)
        if backwards:
            y = select(emit, y, 0, order, f"{name}_order")
        results.append((y, last_h, last_c))
    n, hidden = source.shape[1], recurrent.shape[2]
    ys = [reshape(emit, y, (steps, 1, n, hidden), "sequence") for y, _, _ in results]
    outputs = [concat(emit, ys, 1, "directions")]
    outputs.append(concat(emit, [h for _, h, _ in results], 0, "last"))
    cells = [c for _, _, c in results if c is not None]
    return [*outputs, concat(emit, cells, 0, "cells")] if cells else outputs


class Direction:
    """One direction of a layer, with its weights in ONNX's order of gates."""

    def __init__(self, name: str, matrix: Array, recurrent: Array, offset: Array) -> None:
        self.name = name
        self.size = int(recurrent.shape[1])
        both = offset[: 4 * self.size] + offset[4 * self.size : 8 * self.size]
        self.blobs = [Constant.of(self._ordered(part)) for part in (matrix, both, recurrent)]

    def _ordered(self, array: Array) -> Array:
        gates = np.split(array, 4)
        return np.ascontiguousarray(np.concatenate([gates[i] for i in GATES]), np.float32)

    def run(self, emit: Emitter, x: Blob, states: list[Blob] | None) -> tuple[Blob, Blob, Blob | None]:
        """All outputs, the last one, and the last cell where states are exposed."""
        steps, n = x.shape[:2]
        assert isinstance(steps, int)
        per_step = emit.layer("Reduction", [x], (steps, n), f"{self.name}_steps", reduction_param={"axis": 2})
        cont = filled(emit, per_step, 0.0 if states is None else 1.0, f"{self.name}_cont")
        if states is None and steps > 1:
            going_on = Constant.of(np.array([0, *[1] * (steps - 1)], np.float32))
            cont = bias(emit, cont, going_on, 0, f"{self.name}_first")
        shape = (steps, n, self.size)
        parameters: dict[str, Any] = {"num_output": self.size}
        if states is None:
            y = emit.layer("LSTM", [x, cont], shape, self._role(), self.blobs, recurrent_param=parameters)
            return y, cut(emit, y, 0, steps - 1, steps, f"{self.name}_last"), None
        parameters["expose_hidden"] = True
        state = (1, n, self.size)
        y, h, c = emit.split(
            "LSTM", [x, cont, *states], [shape, state, state], self._role(), self.blobs, recurrent_param=parameters
        )
        return y, h, c

    def _role(self) -> str:
        return "" if self.name == "forward" else self.name


def _full(emit: Emitter, lengths: ir.Value, x: Blob) -> bool:
    array = emit.array(lengths)
    return array is not None and bool(np.all(array == x.shape[0]))


def _state(emit: Emitter, value: ir.Value | None, number: int, x: Blob, size: int) -> Blob:
    """The state that a direction starts from, (1, batch, size); zeros where none is given."""
    if value is not None:
        return select(emit, emit.blob(value), 0, [number], "state")
    return emit.parameter(Constant.of(np.zeros((1, emit.fixed(x.shape, 1)[0], size), np.float32)), "zeros")
