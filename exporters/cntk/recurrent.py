"""Recurrent layers, as their texts in `recurrent_helpers` compose them: one direction over the steps of a sample.

CNTK's own recurrent function (OptimizedRNNStack) does not run on a CPU; a recurrence does. A weight is a matrix
as C.times takes it, input x units, gates behind each other; the bias is the sum of ONNX's two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from exporters.cntk.dynamic import delayed, tie, to_sequence, unpack
from exporters.cntk.emit import Emitter
from exporters.cntk.functions import matrix_times, minus, plus, slices, times
from exporters.cntk.net import Group, Variable
from exporters.codegen.names import Code
from exporters.constants import Constant

__all__ = ["Activation", "Weights", "gru", "lstm", "rnn"]


@dataclass(frozen=True)
class Activation:
    """What is applied to a gate or a state: as functions, and as code."""

    apply: Callable[[Emitter, Variable], Variable]
    code: Code


class Weights:
    """The weights of one direction; an absent one is None."""

    def __init__(self, emit: Emitter, role: str, **given: Constant | None) -> None:
        self.emit = emit
        self.given = {name: constant for name, constant in given.items() if constant is not None}
        self.group: Group = emit.group(role, **self.given)

    def __call__(self, name: str) -> Variable:
        """A weight by its suffix."""
        return self.emit.weight(self.given[name], self.group, name, trains=True)

    def biased(self, value: Variable, name: str) -> Variable:
        """A value plus a bias, where there is one."""
        return plus(self.emit, value, self(name)) if name in self.given else value


def _gates(emit: Emitter, value: Variable, units: int) -> list[Variable]:
    """The parts of the last axis."""
    count = emit.fixed(value.shape)[-1] // units
    return [slices(emit, value, 0, k * units, (k + 1) * units) for k in range(count)]


def _said(defaults: Sequence[str], activations: Sequence[Activation]) -> tuple[Any, Any]:
    """Activations as an argument, and what they are left out at."""
    codes = [a.code for a in activations]
    if len(codes) == 1:
        return codes[0], Code(defaults[0])
    return Code(f"({', '.join(codes)})"), Code(f"({', '.join(defaults)})")


def lstm(
    emit: Emitter,
    x: Variable,
    initial: Sequence[Variable],
    weights: Weights,
    activations: Sequence[Activation],
    backwards: bool,
    coupled: bool,
) -> list[Variable]:
    """All hidden and all cell states; gates i, o, f, c.

    i = f(a_i + P_i * c), o = f(a_o + P_o * c'), f = f(a_f + P_f * c) or 1 - i, a = x W + h R + b;
    c' = f * c + i * g(a_c), h' = o * h(c').
    """
    steps, units = emit.fixed(x.shape)[0], weights.given["R"].shape[0]
    gate, inner, outer = activations

    def body() -> list[Variable]:
        sequence = to_sequence(emit, x)
        h, c = (delayed(emit, sequence, state, units, backwards) for state in initial)
        given = weights.biased(matrix_times(emit, sequence, weights("W")), "b")
        i, o, f, z = _gates(emit, plus(emit, given, matrix_times(emit, h, weights("R"))), units)
        holes = _gates(emit, weights("P"), units) if "P" in weights.given else []
        if holes:
            i, f = plus(emit, i, times(emit, holes[0], c)), plus(emit, f, times(emit, holes[2], c))
        i = gate.apply(emit, i)
        f = minus(emit, 1.0, i) if coupled else gate.apply(emit, f)
        cell = plus(emit, times(emit, f, c), times(emit, i, inner.apply(emit, z)))
        if holes:
            o = plus(emit, o, times(emit, holes[1], cell))
        hidden = times(emit, gate.apply(emit, o), outer.apply(emit, cell))
        tie(h, hidden)
        tie(c, cell)
        return [unpack(emit, hidden, steps), unpack(emit, cell, steps)]

    code, default = _said(("C.sigmoid", "C.tanh", "C.tanh"), activations)
    keywords = {"backwards": backwards, "coupled": coupled, "activations": code}
    defaults = {"backwards": False, "coupled": False, "activations": default}
    return emit.several("lstm", [x, *initial, weights.group], body, keywords, defaults=defaults)


def gru(
    emit: Emitter,
    x: Variable,
    initial: Variable,
    weights: Weights,
    activations: Sequence[Activation],
    backwards: bool,
    reset_after: bool,
) -> Variable:
    """All hidden states; gates z, r, h.

    z = f(a_z + h R_z), r = f(a_r + h R_r), a = x W + b;
    n = g(a_h + (r * h) R_n), or g(a_h + r * (h R_n + b_n)) with `reset_after`; h' = (1 - z) * n + z * h.
    """
    steps, units = emit.fixed(x.shape)[0], weights.given["R"].shape[0]
    gate, inner = activations

    def body() -> Variable:
        sequence = to_sequence(emit, x)
        h = delayed(emit, sequence, initial, units, backwards)
        a_z, a_r, a_n = _gates(emit, weights.biased(matrix_times(emit, sequence, weights("W")), "b"), units)
        h_z, h_r = _gates(emit, matrix_times(emit, h, weights("R")), units)
        z = gate.apply(emit, plus(emit, a_z, h_z))
        r = gate.apply(emit, plus(emit, a_r, h_r))
        if reset_after:
            h_n = times(emit, r, weights.biased(matrix_times(emit, h, weights("Rn")), "bn"))
        else:
            h_n = matrix_times(emit, times(emit, r, h), weights("Rn"))
        n = inner.apply(emit, plus(emit, a_n, h_n))
        hidden = plus(emit, times(emit, minus(emit, 1.0, z), n), times(emit, z, h))
        tie(h, hidden)
        return unpack(emit, hidden, steps)

    code, default = _said(("C.sigmoid", "C.tanh"), activations)
    keywords = {"backwards": backwards, "reset_after": reset_after, "activations": code}
    defaults = {"backwards": False, "reset_after": False, "activations": default}
    return emit.call("gru", [x, initial, weights.group], body, keywords, defaults=defaults)


def rnn(
    emit: Emitter, x: Variable, initial: Variable, weights: Weights, activation: Activation, backwards: bool
) -> Variable:
    """All hidden states: h' = f(x W + h R + b)."""
    steps, units = emit.fixed(x.shape)[0], weights.given["R"].shape[0]

    def body() -> Variable:
        sequence = to_sequence(emit, x)
        h = delayed(emit, sequence, initial, units, backwards)
        given = weights.biased(matrix_times(emit, sequence, weights("W")), "b")
        hidden = activation.apply(emit, plus(emit, given, matrix_times(emit, h, weights("R"))))
        tie(h, hidden)
        return unpack(emit, hidden, steps)

    code, default = _said(("C.tanh",), [activation])
    keywords = {"backwards": backwards, "activation": code}
    return emit.call(
        "rnn", [x, initial, weights.group], body, keywords, defaults={"backwards": False, "activation": default}
    )
