"""Recurrent layers. MIL has the gates of an LSTM in the order i, f, o, z, of a GRU r, o, z: reset, new, update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.constants import Array, Const
from importers.coreml.context import FAR, Mil
from importers.coreml.ops.cell import ACTIVATIONS, clipped
from importers.coreml.table import op
from importers.coreml.types import onnx_type

__all__: list[str] = []

LSTM, GRU, RNN = (0, 2, 1, 3), (2, 0, 1), (0,)
"""Where in MIL each gate of ONNX is: i, o, f, c; z, r, h."""


def _weight(mil: Mil, parts: Sequence[Const], shape: Sequence[int], build: Callable[..., Array], name: str) -> ir.Value:
    """A weight that is put together from constants when it is written."""
    kind = onnx_type(parts[0].dtype, mil.walker.upcast)
    load = lambda: ir.Tensor(  # noqa: E731
        np.ascontiguousarray(build(*[part.numpy() for part in parts])).astype(kind.numpy(), copy=False)
    )
    return mil.builder.constant(ir.LazyTensor(load, dtype=kind, shape=ir.Shape(list(shape)), name=None), name, "weight")


def _gates(array: Array, order: Sequence[int]) -> Array:
    """The rows of each gate in the order of ONNX."""
    size = array.shape[0] // len(order)
    return np.concatenate([array[size * gate : size * (gate + 1)] for gate in order])


def _matrices(mil: Mil, parts: Sequence[Const], order: Sequence[int], name: str) -> ir.Value:
    """W or R: one matrix a direction."""
    rows, columns = parts[0].shape if len(parts[0].shape) == 2 else (0, 0)
    mil.require(all(part.shape == (rows, columns) for part in parts) and rows % len(order) == 0, f"its {name}")
    return _weight(
        mil, parts, (len(parts), rows, columns), lambda *all_: np.stack([_gates(one, order) for one in all_]), name
    )


def _biases(
    mil: Mil, rows: int, order: Sequence[int], biases: Sequence[Const | None], inputs: Sequence[Const | None]
) -> ir.Value | None:
    """B: for each direction the bias of the input, then that of the state; zeros where there is none."""
    parts = [one for one in (*inputs, *biases) if one is not None]
    if not parts:
        return None
    mil.require(all(one.shape == (rows,) for one in parts), "a bias of another size than its weight")
    given = [one is not None for pair in zip(inputs, biases, strict=True) for one in pair]
    ordered = [one for pair in zip(inputs, biases, strict=True) for one in pair if one is not None]

    def build(*arrays: Array) -> Array:
        left = iter(arrays)
        halves = [_gates(next(left), order) if there else np.zeros(rows, arrays[0].dtype) for there in given]
        return np.concatenate(halves).reshape(len(biases), 2 * rows)

    return _weight(mil, ordered, (len(biases), 2 * rows), build, "bias")


def _activations(mil: Mil, names: Sequence[str], directions: int) -> dict[str, object]:
    found = [ACTIVATIONS[mil.one_of(name, *ACTIVATIONS)] for name in names] * directions
    # ONNX Runtime takes the constants one after the other, for the functions that have some.
    return {
        "activations": [kind for kind, _, _ in found],
        "activation_alpha": [alpha for _, alpha, _ in found if alpha is not None] or None,
        "activation_beta": [beta for _, _, beta in found if beta is not None] or None,
    }


def _state(mil: Mil, x: ir.Value, directions: int, size: int) -> ir.Value:
    """(batch, directions * hidden) as (directions, batch, hidden)."""
    if directions == 1:
        return mil.unsqueeze(x, 0)
    return mil.op("Transpose", mil.reshape(x, [-1, directions, size]), perm=[1, 0, 2])


def _last(mil: Mil, y: ir.Value, directions: int, size: int) -> ir.Value:
    """The reverse of `_state`."""
    if directions == 1:
        return mil.squeeze(y, 0)
    return mil.reshape(mil.op("Transpose", y, perm=[1, 0, 2]), [-1, directions * size])


def _sequence(mil: Mil, y: ir.Value, last: ir.Value, whole: bool, direction: str, size: int) -> ir.Value:
    """All steps, (steps, batch, directions * hidden), or the last one as the only step.

    A layer that only goes backwards gives its steps in the order in which it makes them, the last of its input first;
    one that goes both ways gives all in the order of the input.
    """
    if not whole:
        return mil.unsqueeze(last, 0)
    if direction == "forward":
        return mil.squeeze(y, 1)
    if direction == "reverse":
        from_last = [mil.ints([n], name) for n, name in ((-1, "begin"), (-FAR - 1, "end"), (0, "axis"), (-1, "step"))]
        return mil.op("Slice", mil.squeeze(y, 1), *from_last)
    directions = 2
    y = mil.op("Transpose", y, perm=[0, 2, 1, 3])
    return mil.op("Reshape", y, mil.ints([0, 0, directions * size], "shape"))


@op("lstm")
def lstm(
    mil: Mil,
    x: ir.Value,
    initial_h: ir.Value,
    initial_c: ir.Value,
    *,
    weight_ih: Const,
    weight_hh: Const,
    bias: Const | None = None,
    peephole: Const | None = None,
    weight_ih_back: Const | None = None,
    weight_hh_back: Const | None = None,
    bias_back: Const | None = None,
    peephole_back: Const | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> list[ir.Value]:
    """LSTM; one that clips its cell, where ONNX's clips what goes into the gates, is a Scan."""
    mil.one_of(direction, "forward", "reverse", "bidirectional")
    both = direction == "bidirectional"
    mil.require(not both or None not in (weight_ih_back, weight_hh_back), "the weights of the way back are missing")
    ways = 2 if both else 1
    inputs = [one for one in (weight_ih, weight_ih_back)[:ways] if one is not None]
    states = [one for one in (weight_hh, weight_hh_back)[:ways] if one is not None]
    size, rows = weight_hh.shape[-1], weight_hh.shape[0]
    peeps = [one for one in (peephole, peephole_back)[:ways] if one is not None]
    mil.require(len(peeps) in (0, ways) and all(one.shape == (3 * size,) for one in peeps), "its peepholes")
    eyes = None
    if peeps:
        eyes = _weight(
            mil, peeps, (ways, 3 * size), lambda *all_: np.stack([_gates(one, (0, 2, 1)) for one in all_]), "peephole"
        )
    names = (recurrent_activation, cell_activation, activation)
    weight, recurrent = _matrices(mil, inputs, LSTM, "weight"), _matrices(mil, states, LSTM, "recurrent_weight")
    biases = _biases(mil, rows, LSTM, (bias, bias_back)[:ways], (None, None)[:ways])
    first_h, first_c = _state(mil, initial_h, ways, size), _state(mil, initial_c, ways, size)
    if clip is not None and np.isfinite(clip):
        if both:
            raise Refusal("it clips its cell, both ways")
        found = clipped(mil, x, weight, recurrent, biases, first_h, first_c, eyes, names, clip, direction == "reverse")
        y, h, c = mil.unsqueeze(found[0], 1), mil.unsqueeze(found[1], 0), mil.unsqueeze(found[2], 0)
    else:
        y, h, c = mil.ops(
            "LSTM",
            x,
            weight,
            recurrent,
            biases,
            None,
            first_h,
            first_c,
            eyes,
            outputs=3,
            hidden_size=size,
            direction=direction,
            **_activations(mil, names, ways),
        )
    h, c = _last(mil, h, ways, size), _last(mil, c, ways, size)
    return [_sequence(mil, y, h, output_sequence, direction, size), h, c]


@op("gru")
def gru(
    mil: Mil,
    x: ir.Value,
    initial_h: ir.Value,
    *,
    weight_ih: Const,
    weight_hh: Const,
    bias: Const | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Const | None = None,
) -> list[ir.Value]:
    """GRU."""
    mil.one_of(direction, "forward", "reverse")
    size, rows = weight_hh.shape[-1], weight_hh.shape[0]
    y, h = mil.ops(
        "GRU",
        x,
        _matrices(mil, [weight_ih], GRU, "weight"),
        _matrices(mil, [weight_hh], GRU, "recurrent_weight"),
        _biases(mil, rows, GRU, [bias], [input_bias]),
        None,
        _state(mil, initial_h, 1, size),
        outputs=2,
        hidden_size=size,
        direction=direction,
        linear_before_reset=int(reset_after) or None,
        **_activations(mil, (recurrent_activation, activation), 1),
    )
    h = _last(mil, h, 1, size)
    return [_sequence(mil, y, h, output_sequence, direction, size), h]


@op("rnn")
def rnn(
    mil: Mil,
    x: ir.Value,
    initial_h: ir.Value,
    *,
    weight_ih: Const,
    weight_hh: Const,
    bias: Const | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> list[ir.Value]:
    """RNN."""
    mil.one_of(direction, "forward", "reverse")
    size, rows = weight_hh.shape[-1], weight_hh.shape[0]
    y, h = mil.ops(
        "RNN",
        x,
        _matrices(mil, [weight_ih], RNN, "weight"),
        _matrices(mil, [weight_hh], RNN, "recurrent_weight"),
        _biases(mil, rows, RNN, [bias], [None]),
        None,
        _state(mil, initial_h, 1, size),
        outputs=2,
        hidden_size=size,
        direction=direction,
        **_activations(mil, (activation,), 1),
    )
    h = _last(mil, h, 1, size)
    return [_sequence(mil, y, h, output_sequence, direction, size), h]
