"""Recurrent layers."""

from __future__ import annotations

import onnx_ir as ir

from exporters.cntk import cells, recurrent
from exporters.cntk.emit import Emitter
from exporters.cntk.net import Tensor
from exporters.cntk.ops.table import OPS
from exporters.cntk.recurrent import Weights

__all__: list[str] = []


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
) -> list[Tensor]:
    """A recurrence of hidden and cell states, by C.sequence.past_value."""
    layer = cells.layer(
        *(emit, x, w, r, b, lengths),
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        activations=activations,
        default=("Sigmoid", "Tanh", "Tanh"),
        clip=clip,
        direction=direction,
        hidden_size=hidden_size,
        layout=layout,
    )
    holes = None if peepholes is None else emit.given(peepholes, "its peepholes")
    hidden, cell = [], []
    for d, backwards in enumerate(layer.directions):
        weights = Weights(
            emit,
            layer.role("lstm", backwards),
            W=layer.gate(layer.w, d, 0, 4, "W"),
            R=layer.gate(layer.r, d, 0, 4, "R"),
            b=layer.bias(d, 0, 4),
            P=None if holes is None else layer.row(holes, d),
        )
        states = [layer.initial(initial_h, d, "initial_h"), layer.initial(initial_c, d, "initial_c")]
        h, c = recurrent.lstm(
            emit, layer.x.variable, states, weights, layer.activations[d], backwards, bool(input_forget)
        )
        hidden.append(h)
        cell.append(c)
    return [layer.sequences(hidden), layer.last(hidden), layer.last(cell)]


@OPS("GRU", outputs=2)
def gru(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    lengths: ir.Value | None,
    initial_h: ir.Value | None,
    *,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    activations: list[str] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    layout: int,
    linear_before_reset: int,
) -> list[Tensor]:
    """A recurrence of hidden states, by C.sequence.past_value."""
    layer = cells.layer(
        *(emit, x, w, r, b, lengths),
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        activations=activations,
        default=("Sigmoid", "Tanh"),
        clip=clip,
        direction=direction,
        hidden_size=hidden_size,
        layout=layout,
    )
    after = bool(linear_before_reset)
    hidden = []
    for d, backwards in enumerate(layer.directions):
        weights = Weights(
            emit,
            layer.role("gru", backwards),
            W=layer.gate(layer.w, d, 0, 3, "W"),
            R=layer.gate(layer.r, d, 0, 2, "R"),
            Rn=layer.gate(layer.r, d, 2, 3, "Rn"),
            b=layer.bias(d, 0, 3, inner=2 if after else None),
            bn=layer.inner_bias(d, 2) if after else None,
        )
        state = layer.initial(initial_h, d, "initial_h")
        hidden.append(recurrent.gru(emit, layer.x.variable, state, weights, layer.activations[d], backwards, after))
    return [layer.sequences(hidden), layer.last(hidden)]


@OPS("RNN", outputs=2)
def rnn(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    lengths: ir.Value | None,
    initial_h: ir.Value | None,
    *,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    activations: list[str] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    layout: int,
) -> list[Tensor]:
    """A recurrence of hidden states, by C.sequence.past_value."""
    layer = cells.layer(
        *(emit, x, w, r, b, lengths),
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        activations=activations,
        default=("Tanh",),
        clip=clip,
        direction=direction,
        hidden_size=hidden_size,
        layout=layout,
    )
    hidden = []
    for d, backwards in enumerate(layer.directions):
        weights = Weights(
            emit,
            layer.role("rnn", backwards),
            W=layer.gate(layer.w, d, 0, 1, "W"),
            R=layer.gate(layer.r, d, 0, 1, "R"),
            b=layer.bias(d, 0, 1),
        )
        state = layer.initial(initial_h, d, "initial_h")
        hidden.append(recurrent.rnn(emit, layer.x.variable, state, weights, layer.activations[d][0], backwards))
    return [layer.sequences(hidden), layer.last(hidden)]
