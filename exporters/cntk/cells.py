"""What ONNX says of a recurrent layer: its activations, weights by direction, initial states, and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporters.cntk import layers
from exporters.cntk.emit import SIZES_HINT, Emitter
from exporters.cntk.functions import clip, plus, reshape, slices, splice, times, unary
from exporters.cntk.net import Group, Tensor, Variable, number
from exporters.cntk.recurrent import Activation
from exporters.codegen.names import Code
from exporters.constants import Array, Constant, floats
from hub.errors import Refusal

__all__ = ["Layer", "layer"]


# -- activations ----------------------------------------------------------------------------------------------


def _simple(code: str, apply: Callable[[Emitter, Variable], Variable]) -> Activation:
    return Activation(apply, Code(code))


_PLAIN = {
    "tanh": _simple("C.tanh", lambda emit, v: unary(emit, "Tanh", v)),
    "sigmoid": _simple("C.sigmoid", lambda emit, v: unary(emit, "StableSigmoid", v)),
    "relu": _simple("C.relu", lambda emit, v: unary(emit, "ReLU", v)),
    "softsign": _simple("C.softsign", layers.softsign),
    "softplus": _simple("C.softplus", layers.softplus),
}


def _leaky_relu(alpha: float, beta: float) -> Activation:
    return _simple(f"lambda v: C.leaky_relu(v, {alpha!r})", lambda emit, v: layers.leaky_relu(emit, v, alpha))


def _elu(alpha: float, beta: float) -> Activation:
    return _simple(f"lambda v: C.elu(v, {alpha!r})", lambda emit, v: layers.elu(emit, v, alpha))


def _hard_sigmoid(alpha: float, beta: float) -> Activation:
    return _simple(
        f"lambda v: C.clip(v * {alpha!r} + {beta!r}, 0.0, 1.0)",
        lambda emit, v: clip(emit, plus(emit, times(emit, v, alpha), beta), 0.0, 1.0),
    )


_SHAPED: dict[str, tuple[Callable[[float, float], Activation], float | None, float | None]] = {
    "leakyrelu": (_leaky_relu, 0.01, None),
    "elu": (_elu, 1.0, None),
    "hardsigmoid": (_hard_sigmoid, 0.2, 0.5),
}
"""Activations that take an alpha, and a beta where that has a default."""


def _activations(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None
) -> list[Activation]:
    """Activations by ONNX's names. Each takes the next alpha and the next beta if it takes one at all."""
    lowered = [name.lower() for name in names]
    for name, known in zip(names, lowered, strict=True):
        if known not in _PLAIN and known not in _SHAPED:
            raise Refusal(f"the activation {name}")
    takers = [_SHAPED[name] for name in lowered if name in _SHAPED]
    first = _consumed(alphas, [alpha for _, alpha, _ in takers if alpha is not None], "activation_alpha")
    second = _consumed(betas, [beta for _, _, beta in takers if beta is not None], "activation_beta")
    made = []
    for name in lowered:
        if name in _PLAIN:
            made.append(_PLAIN[name])
            continue
        maker, _, beta = _SHAPED[name]
        made.append(maker(first.pop(0), 0.0 if beta is None else second.pop(0)))
    return made


def _consumed(given: Sequence[float] | None, defaults: list[float], name: str) -> list[float]:
    if not given:
        return defaults
    if len(given) != len(defaults):
        raise Refusal(f"{len(given)} numbers of {name} for {len(defaults)} activations that take one")
    return [float(np.float32(value)) for value in given]


# -- what the three layers share ------------------------------------------------------------------------------


@dataclass
class Layer:
    """The input as samples of steps, the weights of all directions, and what they are called in CNTK."""

    emit: Emitter
    x: Tensor
    w: Constant
    r: Constant
    b: Constant | None
    directions: tuple[bool, ...]
    activations: list[list[Activation]]
    layout: int

    @property
    def units(self) -> int:
        return self.r.shape[2]

    def role(self, name: str, backwards: bool) -> str:
        """What the weights of a direction are called."""
        if len(self.directions) == 1:
            return name
        return "backward" if backwards else "forward"

    def gate(self, of: Constant, d: int, first: int, last: int, name: str) -> Constant:
        """The rows of some gates of a direction's matrix, as C.times takes them."""
        rows, n = slice(first * self.units, last * self.units), of.shape[2]
        shape = (n, (last - first) * self.units)
        return of.viewed(lambda array: array[d, rows].T, shape, f"{name}{d}:{rows.start}:{rows.stop}")

    def bias(self, d: int, first: int, last: int, *, inner: int | None = None) -> Constant | None:
        """The sum of both biases for some gates, without the second one of the gate `inner`."""
        if self.b is None:
            return None
        units, half = self.units, self.b.shape[1] // 2
        rows = slice(first * units, last * units)

        def summed(array: Array) -> Array:
            second = array[d, half:].copy()
            if inner is not None:
                second[inner * units : (inner + 1) * units] = 0
            return (array[d, :half] + second)[rows]

        return self.b.viewed(summed, ((last - first) * units,), f"bias{d}:{rows.start}:{rows.stop}:{inner}")

    def inner_bias(self, d: int, gate: int) -> Constant | None:
        """The second bias of a gate."""
        if self.b is None:
            return None
        first = self.b.shape[1] // 2 + gate * self.units
        return self.b.viewed(lambda array: array[d, first : first + self.units], (self.units,), f"inner{d}:{first}")

    def row(self, of: Constant, d: int) -> Constant:
        """What a tensor by directions has for one of them."""
        return of.viewed(lambda array: array[d], of.shape[1:], f"row{d}")

    def initial(self, value: ir.Value | None, d: int, what: str) -> Variable:
        """The state that a direction starts from: zeros, the same for all samples, or one for each."""
        if value is None:
            return number(0.0)
        emit, batch = self.emit, 1 - self.layout
        constant = emit.constant(value)
        if constant is not None:
            rows = np.moveaxis(constant.numpy(), batch, 0)[:, d]
            if not np.any(rows):
                return number(0.0)
            if (rows == rows[:1]).all():
                row = floats(constant).viewed(
                    lambda array: np.moveaxis(array, batch, 0)[0, d], (self.units,), f"first{d}:{batch}"
                )
                return emit.weight(row, Group(emit.layer, "initial"), what, trains=False)
            if emit.batch:
                raise Refusal("a constant state of its own for each sample", "make it an input of the model")
        tensor = emit.tensor(value)
        if tensor.at is None and tensor.rank == 3 and tensor.shape[batch] == 1:
            state = reshape(emit, tensor.variable, (len(self.directions), self.units))
        else:
            state = emit.apart(tensor, batch).variable
        return reshape(emit, slices(emit, state, 0, d, d + 1), (self.units,))

    def sequences(self, parts: Sequence[Variable]) -> Tensor:
        """Y of all directions, (steps, directions, units) a sample."""
        shape = (self.x.variable.shape[0], len(parts), self.units)
        return Tensor(reshape(self.emit, splice(self.emit, parts, 1), shape), 0 if self.layout else 2, self.x.size)

    def last(self, parts: Sequence[Variable]) -> Tensor:
        """Y_h or Y_c of all directions, (directions, units) a sample: of one backwards, the first step."""
        steps = self.emit.fixed(self.x.variable.shape)[0]
        ends = [0 if backwards else steps - 1 for backwards in self.directions]
        made = [slices(self.emit, part, 0, end, end + 1) for part, end in zip(parts, ends, strict=True)]
        return Tensor(splice(self.emit, made, 0), 1 - self.layout, self.x.size)


def layer(
    emit: Emitter,
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    lengths: ir.Value | None,
    *,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    activations: Sequence[str] | None,
    default: Sequence[str],
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    layout: int,
) -> Layer:
    ways = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in ways:
        raise Refusal(f"the direction {direction!r}")
    directions = ways[direction]
    if clip is not None:
        raise Refusal("it clips what goes into its activations")
    count = len(default)
    names = [*activations] if activations else [*default] * len(directions)
    if len(directions) == 1 and len(names) == 2 * count:
        names = names[:count]  # those of a second direction, as in the defaults of RNN
    if len(names) != count * len(directions):
        raise Refusal(f"{len(names)} activations for {len(directions)} directions")
    made = _activations(names, activation_alpha, activation_beta)
    matrices = emit.given(w, "its matrix"), emit.given(r, "its matrix")
    bias = None if b is None else emit.given(b, "its bias")
    source = emit.apart(emit.tensor(x), 0 if layout else 1)
    if not all(isinstance(size, int) for size in source.variable.shape):
        raise Refusal("a number of steps that is open", SIZES_HINT)
    steps = emit.fixed(source.variable.shape)[0]
    if lengths is not None:
        given = emit.array(lengths)
        if given is None:
            raise Refusal("the lengths of its sequences are computed at run time")
        if np.any(given != steps):
            raise Refusal("sequences of different lengths")
    if hidden_size is not None and hidden_size != matrices[1].shape[2]:
        raise Refusal(f"{hidden_size} units and weights for {matrices[1].shape[2]}")
    parts = [made[i * count : (i + 1) * count] for i in range(len(directions))]
    return Layer(emit, source, *matrices, bias, directions, parts, layout)
