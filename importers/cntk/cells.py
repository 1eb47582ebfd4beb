"""Recurrences that are the LSTM, GRU or RNN of ONNX: recognised by what one step computes, letter by letter.

Whatever differs in anything, as with peepholes, projections or stabilizers, stays a Scan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from importers.cntk.context import Context, Tensor
from importers.cntk.functions import Function, Network, Ref, Variable

__all__ = ["Cell", "emit", "recognise"]

PRODUCT = "inferInputRankToMap=-1,outputRank=1"


@dataclass
class Cell:
    """One step of a recurrence that ONNX has an operator for.

    Attributes:
        x: the sequence that goes in; `weight`, `bias` what it is multiplied with and what is added.
        recurrent: what the state is multiplied with, one matrix or two.
        states: the delays, that of the output first.
        result: what comes out.
    """

    op: str
    x: Ref
    weight: Variable
    bias: Variable
    recurrent: list[Variable]
    states: list[Function]
    result: Ref
    activation: str = ""


@dataclass
class _Writer:
    """Writes what a value of one step is made of: h0, h1, ... are states, p0, p1, ... come from outside."""

    network: Network
    functions: Mapping[str, Function]
    outside: dict[Ref, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    length: int = 0

    def write(self, ref: Ref) -> str:
        function = self.network.functions.get(ref.uid) if ref.index >= 0 else None
        if function is None or (ref.uid not in self.functions and function.op != "Slice"):
            return self.outside.setdefault(ref, f"p{len(self.outside)}")
        if function.op in ("PastValue", "FutureValue"):
            return self.states.setdefault(ref.uid, f"h{len(self.states)}")
        self.length += 1
        if self.length > 64:
            return "?"
        parts = [self.write(self.network.source(value)) for value in function.inputs]
        if function.op == "Slice":
            axis, *place = (function.attributes.get(k) for k in ("axis", "beginIndex", "endIndex", "sliceStrides"))
            known = getattr(axis, "index", None) == 0 and place[2] in (None, 1) and "axisVec" not in function.attributes
            return f"{parts[0]}[{place[0]}:{place[1]}]" if known else "?"
        parts += [f"{key}={value}" for key, value in sorted(function.attributes.items())]
        return f"{'Sigmoid' if function.op == 'StableSigmoid' else function.op}({','.join(parts)})"


def recognise(network: Network, functions: Mapping[str, Function], delays: Sequence[Function]) -> Cell | None:
    """The cell that these functions are, if they are one."""
    if any(delay.attributes.get("offset", 1) != 1 for delay in delays):
        return None
    for first in delays:
        result = network.source(first.inputs[0])
        writer = _Writer(network, functions)
        text = writer.write(result)
        if list(writer.states) and set(writer.states) == {delay.uid for delay in delays}:
            states = [functions[uid] for uid in writer.states]
            if states[0] is first:
                for known in (_lstm, _gru, _rnn):
                    found = known(network, text, list(writer.outside), states, result, writer)
                    if found is not None:
                        return found
    return None


def _matrix(network: Network, ref: Ref, columns: int | None = None) -> Variable | None:
    """A parameter of two axes."""
    variable = network.variables.get(ref.uid) if ref.index < 0 else None
    if variable is None or variable.value is None or variable.value.numbers.ndim != 2:
        return None
    return variable if columns is None or variable.value.numbers.shape[1] == columns else None


def _projection(network: Network, ref: Ref) -> tuple[Ref, Variable] | None:
    """The x and W of Times(W, x)."""
    function = network.functions.get(ref.uid) if ref.index >= 0 else None
    if function is None or function.op != "Times" or function.attributes.get("outputRank", 1) != 1:
        return None
    weight = _matrix(network, network.source(function.inputs[0]))
    rank = function.attributes.get("inferInputRankToMap", -1)
    return (network.source(function.inputs[1]), weight) if weight is not None and rank >= -1 else None


def _biased(network: Network, ref: Ref) -> tuple[Ref, Variable, Variable] | None:
    """The x, W and b of Plus(b, Times(W, x))."""
    function = network.functions.get(ref.uid) if ref.index >= 0 else None
    if function is None or function.op != "Plus" or len(function.inputs) != 2:
        return None
    bias = network.variables.get(network.source(function.inputs[0]).uid)
    found = _projection(network, network.source(function.inputs[1]))
    if found is None or bias is None or bias.value is None or bias.value.numbers.ndim != 1:
        return None
    return *found, bias


Known = Cell | None


def _lstm(network: Network, text: str, p: list[Ref], states: list[Function], result: Ref, writer: _Writer) -> Known:
    """Gates in the order i, c, f, o."""
    if len(states) != 2 or len(p) != 2:
        return None
    biased, recurrent = _biased(network, p[0]), _matrix(network, p[1])
    if biased is None or recurrent is None or recurrent.value is None:
        return None
    n = recurrent.value.numbers.shape[0]
    gates = f"Plus(p0,Times(p1,h0,{PRODUCT}))"
    i, g, f, o = (f"{gates}[{k * n}:{k * n + n}]" for k in range(4))
    c = f"Plus(ElementTimes(Sigmoid({f}),h1),ElementTimes(Sigmoid({i}),Tanh({g})))"
    again = _Writer(network, writer.functions, dict(writer.outside), dict(writer.states))
    if text != f"ElementTimes(Sigmoid({o}),Tanh({c}))" or again.write(network.source(states[1].inputs[0])) != c:
        return None
    if recurrent.value.numbers.shape != (n, 4 * n):
        return None
    x, weight, bias = biased
    return Cell("LSTM", x, weight, bias, [recurrent], states, result)


def _gru(network: Network, text: str, p: list[Ref], states: list[Function], result: Ref, writer: _Writer) -> Known:
    """Gates in the order z, r, h; the reset comes before the product."""
    if len(states) != 1 or len(p) != 4:
        return None
    one = network.variables.get(p[0].uid)
    biased, recurrent, last = _biased(network, p[1]), _matrix(network, p[2]), _matrix(network, p[3])
    if one is None or one.value is None or biased is None or recurrent is None or last is None:
        return None
    assert recurrent.value is not None
    assert last.value is not None
    n = recurrent.value.numbers.shape[0]
    gates = f"Times(p2,h0,{PRODUCT})"
    z, r = (f"Sigmoid(Plus(p1[{k * n}:{k * n + n}],{gates}[{k * n}:{k * n + n}]))" for k in range(2))
    inner = f"Tanh(Plus(p1[{2 * n}:{3 * n}],Times(p3,ElementTimes(h0,{r}),{PRODUCT})))"
    expected = f"Plus(ElementTimes(Minus(p0,{z}),{inner}),ElementTimes({z},h0))"
    shapes = recurrent.value.numbers.shape == (n, 2 * n) and last.value.numbers.shape == (n, n)
    if text != expected or not shapes or one.value.numbers.size != 1 or float(one.value.numbers.reshape(-1)[0]) != 1:
        return None
    x, weight, bias = biased
    return Cell("GRU", x, weight, bias, [recurrent, last], states, result)


def _rnn(network: Network, text: str, p: list[Ref], states: list[Function], result: Ref, writer: _Writer) -> Known:
    if len(states) != 1 or len(p) != 3:
        return None
    op = text.partition("(")[0]
    found, recurrent = _projection(network, p[0]), _matrix(network, p[1])
    bias = network.variables.get(p[2].uid)
    if found is None or recurrent is None or recurrent.value is None or bias is None or bias.value is None:
        return None
    n = recurrent.value.numbers.shape[0]
    if text != f"{op}(Plus(Plus(p0,Times(p1,h0,{PRODUCT})),p2))" or recurrent.value.numbers.shape != (n, n):
        return None
    activation = {"Tanh": "Tanh", "ReLU": "Relu", "Sigmoid": "Sigmoid"}.get(op)
    if activation is None or bias.value.numbers.shape != (n,):
        return None
    return Cell("RNN", *found, bias, [recurrent], states, result, activation)


ORDER = {"LSTM": (0, 3, 2, 1), "GRU": (0, 1, 2), "RNN": (0,)}
"""Which gate of CNTK's each of ONNX's is."""


def emit(context: Context, cell: Cell, x: Tensor, firsts: Sequence[ir.Value | None]) -> ir.Value | None:
    """The states of all steps, (N, T, H); None where the sequence is no sequence of vectors.

    `firsts`: the states to begin with, (N, H); None for zeros.
    """
    recurrent = [_numbers(variable) for variable in cell.recurrent]
    weight, bias, n = _numbers(cell.weight), _numbers(cell.bias), recurrent[0].shape[0]
    gates = len(ORDER[cell.op])
    vectors = context.rank(x) == 1 and weight.shape == (context.shape(x)[0], gates * n) and bias.shape == (gates * n,)
    if not vectors or x.value.dtype is None or cell.weight.data_type not in (1, 2):
        return None
    order, dtype = ORDER[cell.op], x.value.dtype
    w = _lazy(context, lambda: _gates(weight, n, order), (1, gates * n, weight.shape[0]), "W", dtype)
    r = _lazy(context, lambda: _gates(np.concatenate(recurrent, 1), n, order), (1, gates * n, n), "R", dtype)
    b = _lazy(context, lambda: _bias(bias, n, order), (1, 2 * gates * n), "B", dtype)
    begin = [None if f is None else context.op("Unsqueeze", f, context.ints([0], "axes")) for f in firsts]
    turned = context.op("Transpose", x, perm=[1, 0, 2])
    backwards = "reverse" if cell.states[0].op == "FutureValue" else None
    activations = [cell.activation] if cell.activation else None
    y = context.op(cell.op, turned, w, r, b, None, *begin, hidden_size=n, direction=backwards, activations=activations)
    return context.op("Transpose", context.op("Squeeze", y, context.ints([1], "axes")), perm=[1, 0, 2])


def _numbers(variable: Variable) -> npt.NDArray[Any]:
    assert variable.value is not None
    return variable.value.numbers


def _gates(matrix: npt.NDArray[Any], n: int, order: Sequence[int]) -> npt.NDArray[Any]:
    """A matrix of CNTK's, (inputs, gates), as ONNX has it: (1, gates, inputs), the gates in another order."""
    parts = matrix.reshape(matrix.shape[0], -1, n)[:, list(order)]
    return np.ascontiguousarray(parts.transpose(1, 2, 0).reshape(1, -1, matrix.shape[0]))


def _bias(vector: npt.NDArray[Any], n: int, order: Sequence[int]) -> npt.NDArray[Any]:
    parts = vector.reshape(-1, n)[list(order)].reshape(-1)
    return np.concatenate([parts, np.zeros_like(parts)])[None]


def _lazy(
    context: Context, make: Callable[[], npt.NDArray[Any]], shape: tuple[int, ...], name: str, dtype: ir.DataType
) -> ir.Value:
    """A weight that is computed each time that it is written."""
    tensor = ir.LazyTensor(lambda: ir.Tensor(make()), dtype=dtype, shape=ir.Shape(shape))
    return context.builder.constant(tensor, name, "weight")
