"""Recurrent layers: Core ML's own, and steps one by one where it has none of the form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporters.coreml.ops.table import OPS
from hub.errors import Refusal

if TYPE_CHECKING:
    from exporters.constants import Array
    from exporters.coreml.emit import Emitter, Var

_ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}

MOST_STEPS = 512
"""Steps that are written one by one."""


@dataclass
class Layer:
    """What LSTM, GRU and RNN have in common: `x` as [steps, batch, inputs], weights by direction."""

    emit: Emitter
    x: Var
    w: Array
    r: Array
    b: Array
    steps: int | str
    batch: int | str
    size: int
    directions: list[str]
    layout: int

    def state(self, value: ir.Value | None, direction: int | None = None) -> Var:
        """An initial state: [batch, size], or of both directions [batch, directions * size]."""
        count = 1 if direction is not None else len(self.directions)
        if value is None:
            return self._zeros(count * self.size)
        var = self.emit.var(value)
        if self.layout == 0:
            var = self.emit("transpose", x=var, perm=[1, 0, 2])
        if direction is not None:
            width, n = self.size, direction
            whole = self.emit("reshape", x=var, shape=[-1, len(self.directions) * width])
            if len(self.directions) == 1:
                return whole
            return self.emit(
                "slice_by_index",
                x=whole,
                begin=[0, n * width],
                end=[0, (n + 1) * width],
                begin_mask=[True, False],
                end_mask=[True, False],
            )
        return self.emit("reshape", x=var, shape=[-1, count * self.size])

    def _zeros(self, width: int) -> Var:
        emit = self.emit
        if isinstance(self.batch, int):
            return emit.var_of(np.zeros((self.batch, width), self.w.dtype))
        batch = emit("slice_by_index", x=emit("shape", x=self.x), begin=[1], end=[2])
        shape = emit("concat", values=[batch, np.array([width], np.int32)], axis=0)
        return emit("fill", shape=shape, value=self.w.dtype.type(0))

    def sequence(self, y: Var) -> Var:
        """[steps, batch, directions * size] as ONNX has it."""
        count = len(self.directions)
        apart = self.emit("reshape", x=y, shape=[*self._open(), count, self.size])
        perm = [0, 2, 1, 3] if self.layout == 0 else [1, 0, 2, 3]
        return self.emit("transpose", x=apart, perm=perm)

    def _open(self) -> list[int]:
        sizes = [size if isinstance(size, int) else -1 for size in (self.steps, self.batch)]
        if sizes == [-1, -1]:
            raise Refusal("both the steps and the batch are open", "fix one of them: shapes=, batch=")
        return sizes

    def last(self, h: Var) -> Var:
        """[batch, directions * size] as ONNX has it."""
        apart = self.emit("reshape", x=h, shape=[-1, len(self.directions), self.size])
        return apart if self.layout else self.emit("transpose", x=apart, perm=[1, 0, 2])


def opened(
    emit: Emitter,
    gates: int,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    lengths: ir.Value | None,
    direction: str,
    layout: int,
) -> Layer:
    """The common part of a recurrent layer."""
    weights, recurrent = emit.array(w), emit.array(r)
    if weights is None or recurrent is None or (b is not None and emit.array(b) is None):
        raise Refusal("weights that are computed at run time", "make them constants of the model")
    size = recurrent.shape[-1]
    bias = np.zeros((len(weights), 2 * gates * size), weights.dtype) if b is None else emit.array(b)
    steps, batch = (emit.shape(x)[i] for i in ((1, 0) if layout else (0, 1)))
    if lengths is not None:
        known = emit.array(lengths)
        if known is None or not isinstance(steps, int) or (known != steps).any():
            raise Refusal("sequences of different lengths")
    data = emit("transpose", x=emit.floats(x), perm=[1, 0, 2]) if layout else emit.floats(x)
    ways = {"forward": ["forward"], "reverse": ["reverse"], "bidirectional": ["forward", "reverse"]}[direction]
    assert bias is not None
    return Layer(emit, data, weights, recurrent, bias, steps, batch, size, ways, layout)


def activations_of(given: list[str] | None, usual: list[str], count: int, *others: Any) -> list[list[str]]:
    """The activations by direction.

    Raises:
        Refusal: Core ML does not have one of them.
    """
    names = [name.lower() for name in (given or usual * count)]
    strange = [name for name in names if name not in _ACTIVATIONS]
    if strange or any(others):
        raise Refusal(f"the activation {strange[0]}" if strange else "activations with parameters")
    each = len(usual)
    return [names[i * each : (i + 1) * each] for i in range(count)]


def _blocks(array: Array, size: int, order: Sequence[int]) -> Array:
    """The blocks of gates in another order."""
    return np.concatenate([array[i * size : (i + 1) * size] for i in order])


@OPS("LSTM", since=7, outputs=3)
def lstm(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    sequence_lens: ir.Value | None,
    initial_h: ir.Value | None,
    initial_c: ir.Value | None,
    p: ir.Value | None,
    *,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    activations: list[str] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    input_forget: int,
    layout: int,
) -> list[Var]:
    """ONNX has the gates i, o, f, c; Core ML i, f, o, c."""
    if input_forget:
        raise Refusal("input and forget gates that are one")
    layer = opened(emit, 4, x, w, r, b, sequence_lens, direction, layout)
    names = activations_of(
        activations, ["Sigmoid", "Tanh", "Tanh"], len(layer.directions), activation_alpha, activation_beta
    )
    if names[0] != names[-1]:
        raise Refusal("directions with different activations")
    peepholes = None if p is None else emit.array(p)
    if p is not None and peepholes is None:
        raise Refusal("peepholes that are computed at run time")
    options = {
        "recurrent_activation": names[0][0],
        "cell_activation": names[0][1],
        "activation": names[0][2],
        "clip": None if clip is None else emit.number(x, clip),
    }
    if direction == "bidirectional" and emit.program:
        weights = _lstm_weights(layer, 0, peepholes, "") | _lstm_weights(layer, 1, peepholes, "_back")
        state = {"initial_h": layer.state(initial_h), "initial_c": layer.state(initial_c)}
        y, h, c = emit("lstm", x=layer.x, direction=direction, output_sequence=True, **state, **options, **weights)
        return [layer.sequence(y), layer.last(h), layer.last(c)]
    made = []  # a neural network's own of both directions gives states whose sizes nobody knows
    for i, way in enumerate(layer.directions):
        state = {"initial_h": layer.state(initial_h, i), "initial_c": layer.state(initial_c, i)}
        weights = _lstm_weights(layer, i, peepholes, "")
        y, h, c = emit("lstm", x=_turned(emit, layer.x, way), output_sequence=True, **state, **options, **weights)
        made.append((_turned(emit, y, way), h, c))
    parts = [
        sides[0] if len(sides) == 1 else emit("concat", values=list(sides), axis=axis)
        for sides, axis in zip(zip(*made, strict=True), (2, 1, 1), strict=True)
    ]
    return [layer.sequence(parts[0]), layer.last(parts[1]), layer.last(parts[2])]


def _lstm_weights(layer: Layer, i: int, peepholes: Array | None, suffix: str) -> dict[str, Array]:
    """The weights of one direction in Core ML's order of gates."""
    size, bias = layer.size, layer.b[i]
    given = {
        f"weight_ih{suffix}": _blocks(layer.w[i], size, [0, 2, 1, 3]),
        f"weight_hh{suffix}": _blocks(layer.r[i], size, [0, 2, 1, 3]),
        f"bias{suffix}": _blocks(bias[: 4 * size] + bias[4 * size :], size, [0, 2, 1, 3]),
    }
    if peepholes is not None:
        given[f"peephole{suffix}"] = _blocks(peepholes[i], size, [0, 2, 1])
    return given


def _each(layer: Layer, run: Any, initial_h: ir.Value | None) -> list[Var]:
    """Both directions, one after the other, side by side."""
    emit = layer.emit
    made = [run(i, way, layer.state(initial_h, i)) for i, way in enumerate(layer.directions)]
    if len(made) == 1:
        y, h = made[0]
    else:
        y = emit("concat", values=[one[0] for one in made], axis=2)
        h = emit("concat", values=[one[1] for one in made], axis=1)
    return [layer.sequence(y), layer.last(h)]


@OPS("GRU", since=7, outputs=2)
def gru(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    sequence_lens: ir.Value | None,
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
) -> list[Var]:
    """ONNX has the gates z, r, h; Core ML r, h, z. With the reset after the product: since iOS 18, else by steps."""
    layer = opened(emit, 3, x, w, r, b, sequence_lens, direction, layout)
    names = activations_of(activations, ["Sigmoid", "Tanh"], len(layer.directions), activation_alpha, activation_beta)
    size = layer.size
    if clip is not None:
        raise Refusal("clipped sums")

    def own(i: int, way: str, h: Var) -> Any:
        before, after = (_blocks(part, size, [1, 2, 0]) for part in (layer.b[i][: 3 * size], layer.b[i][3 * size :]))
        more = {"reset_after": True, "input_bias": before, "bias": after}
        return emit(
            "gru",
            x=_turned(emit, layer.x, way),
            initial_h=h,
            weight_ih=_blocks(layer.w[i], size, [1, 2, 0]),
            weight_hh=_blocks(layer.r[i], size, [1, 2, 0]),
            direction="forward",
            output_sequence=True,
            recurrent_activation=names[i][0],
            activation=names[i][1],
            **(more if linear_before_reset else {"bias": before + after}),
        )

    def run(i: int, way: str, h: Var) -> Any:
        if linear_before_reset and emit.version < 9:
            return _steps(layer, i, way, h, names[i], _gru_step)
        if layer.batch != 1:
            emit.note("Core ML's GRU is said to be wrong for batches above 1, in a comment of Apple's own tests")
        y, last = own(i, way, h)
        return _turned(emit, y, way), last

    return _each(layer, run, initial_h)


def _turned(emit: Emitter, x: Var, way: str) -> Var:
    """The steps in the order of a direction: what runs backwards runs forwards over the reversed steps."""
    return emit("reverse", x=x, axes=[0]) if way == "reverse" else x


@OPS("RNN", since=7, outputs=2)
def rnn(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    sequence_lens: ir.Value | None,
    initial_h: ir.Value | None,
    *,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    activations: list[str] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    layout: int,
) -> list[Var]:
    layer = opened(emit, 1, x, w, r, b, sequence_lens, direction, layout)
    names = activations_of(activations, ["Tanh"], len(layer.directions), activation_alpha, activation_beta)
    if clip is not None:
        raise Refusal("clipped sums")

    def run(i: int, way: str, h: Var) -> Any:
        if not emit.program:  # coremltools writes another number of inputs than there are
            return _steps(layer, i, way, h, names[i], _rnn_step)
        y, last = emit(
            "rnn",
            x=_turned(emit, layer.x, way),
            initial_h=h,
            weight_ih=layer.w[i],
            weight_hh=layer.r[i],
            bias=layer.b[i][: layer.size] + layer.b[i][layer.size :],
            direction="forward",
            output_sequence=True,
            activation=names[i][0],
        )
        return _turned(emit, y, way), last

    return _each(layer, run, initial_h)


def _steps(layer: Layer, i: int, way: str, h: Var, names: list[str], step: Any) -> tuple[Var, Var]:
    """One step after the other."""
    emit = layer.emit
    if not isinstance(layer.steps, int) or layer.steps > MOST_STEPS:
        raise Refusal(
            "a form that Core ML does not have, over an open or very long sequence",
            'minimum_deployment_target="iOS18" has a GRU with the reset after the product',
        )
    size = layer.size
    inputs = emit("linear", x=layer.x, weight=layer.w[i], bias=layer.b[i][: layer.b.shape[1] // 2])
    made = []
    order = range(layer.steps) if way == "forward" else range(layer.steps - 1, -1, -1)
    for at in order:
        now = emit(
            "slice_by_index",
            x=inputs,
            begin=[at, 0, 0],
            end=[at + 1, 0, 0],
            begin_mask=[False, True, True],
            end_mask=[False, True, True],
            squeeze_mask=[True, False, False],
        )
        h = step(layer, i, now, h, size, names)
        made.append(emit("expand_dims", x=h, axes=[0]))
    ordered = made if way == "forward" else made[::-1]
    return (emit("concat", values=ordered, axis=0) if len(made) > 1 else made[0]), h


def _gru_step(layer: Layer, i: int, now: Var, h: Var, size: int, names: list[str]) -> Var:
    """z, r = f(x + R h + b); n = g(x + r * (R h + b)); h = (1 - z) * n + z * h"""
    emit = layer.emit
    past = emit("linear", x=h, weight=layer.r[i], bias=layer.b[i][3 * size :])
    zr = [
        emit(names[0], x=emit("add", x=_part(emit, now, size, g), y=_part(emit, past, size, g)), **{}) for g in (0, 1)
    ]
    new = emit("mul", x=zr[1], y=_part(emit, past, size, 2))
    new = emit(names[1], x=emit("add", x=_part(emit, now, size, 2), y=new))
    kept = emit("mul", x=zr[0], y=emit("sub", x=h, y=new))
    return emit("add", x=new, y=kept)


def _rnn_step(layer: Layer, i: int, now: Var, h: Var, size: int, names: list[str]) -> Var:
    """h = f(x + R h + b)"""
    past = layer.emit("linear", x=h, weight=layer.r[i], bias=layer.b[i][size:])
    return layer.emit(names[0], x=layer.emit("add", x=now, y=past))


def _part(emit: Emitter, x: Var, size: int, gate: int) -> Var:
    return emit(
        "slice_by_index",
        x=x,
        begin=[0, gate * size],
        end=[0, (gate + 1) * size],
        begin_mask=[True, False],
        end_mask=[True, False],
    )
