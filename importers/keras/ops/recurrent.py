"""Recurrent layers. Keras has the batch first, ONNX (ONNX Runtime takes no other form) the steps.

The matrices are (inputs, gates * units) in Keras and (gates * units, inputs) in ONNX. The gates are i, f, c, o
for an LSTM, which ONNX has as i, o, f, c, and z, r, h for a GRU in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from hub.optable import bind_attributes
from hub.tensors import ViewTensor
from importers.keras.layers import DEFAULTS, IGNORABLE, Context, Part, check_dtype, layer, plain

__all__ = ["CELLS", "Cell", "Run", "check", "recur"]

ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "elu": ("Elu", 1.0, None),
    "leaky_relu": ("LeakyRelu", 0.2, None),
}
"""Activations of which ONNX's recurrent operators have one, with its alpha and beta."""

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
"""The gates of Keras in the order of ONNX."""

INT64_MIN = np.iinfo(np.int64).min


@dataclass
class Cell:
    """One direction of one layer: `op_type` is ONNX's, `activations` are Keras's, in the order of ONNX."""

    op_type: str
    units: int
    activations: list[Any]
    use_bias: bool
    reset_after: bool = False
    part: str = "cell"
    name: str = ""
    alike: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.alike = (self.op_type, self.units, str(self.activations), self.use_bias, self.reset_after)

    @property
    def gates(self) -> int:
        return len(GATES[self.op_type])

    def shapes(self, inputs: int) -> Part:
        """The weights that it has."""
        width = self.gates * self.units
        bias = (2, width) if self.reset_after else (width,)
        shapes = {"kernel": (inputs, width), "recurrent_kernel": (self.units, width)}
        return Part(self.part, self.name, {**shapes, "bias": bias if self.use_bias else None})

    def weights(self, tensors: list[ViewTensor]) -> tuple[Any, Any, Any]:
        """W, R and B of ONNX, of one direction."""

        def ordered(array: Any) -> Any:
            gates = np.split(array, self.gates, axis=-1)
            return np.concatenate([gates[i] for i in GATES[self.op_type]], axis=-1)

        strange = [tensor.dtype for tensor in tensors if tensor.dtype != ir.DataType.FLOAT]
        if strange:
            raise Refusal(f"weights of the type {strange[0].numpy()}: only float32 is supported yet")
        kernel, recurrent, *bias = (tensor.numpy() for tensor in tensors)
        b = np.zeros((2, self.gates * self.units), np.float32)
        if bias:
            b[: len(bias[0]) if self.reset_after else 1] = ordered(bias[0])
        return ordered(kernel).T, ordered(recurrent).T, b.reshape(-1)


# -- cells by class ---------------------------------------------------------------------------------------------------


def lstm_cell(
    *,
    units: int,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    use_bias: bool = True,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    implementation: int | None = None,
) -> Cell:
    return Cell("LSTM", units, [recurrent_activation, activation, activation], use_bias)


def gru_cell(
    *,
    units: int,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    use_bias: bool = True,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    implementation: int | None = None,
    reset_after: bool = False,
) -> Cell:
    """Keras that does not say `reset_after` has the reset before the product."""
    return Cell("GRU", units, [recurrent_activation, activation], use_bias, reset_after)


def simple_rnn_cell(
    *,
    units: int,
    activation: Any = "tanh",
    use_bias: bool = True,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    implementation: int | None = None,
) -> Cell:
    return Cell("RNN", units, [activation], use_bias)


CELLS: dict[str, Callable[..., Cell]] = {
    "LSTMCell": lstm_cell,
    "GRUCell": gru_cell,
    "SimpleRNNCell": simple_rnn_cell,
    "LSTM": lstm_cell,
    "GRU": gru_cell,
    "SimpleRNN": simple_rnn_cell,
}


# -- what all of them do ----------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What a recurrence gives: by direction, the sequence in the order of time, and the states at its end."""

    sequences: list[ir.Value]
    states: list[list[ir.Value]]
    joined: ir.Value | None = None
    """Both directions side by side, (batch, steps, 2 * units)."""

    @property
    def last(self) -> list[ir.Value]:
        return [states[0] for states in self.states]


def check(keras: Context, x: ir.Value, *, stateful: bool = False, time_major: bool = False) -> None:
    """Refuse what no recurrence of ONNX is."""
    if keras.version == 1:
        raise Refusal("recurrent layers of Keras 1 are not supported", "load the model with Keras 2 and save it again")
    if stateful:
        raise Refusal(
            "stateful=True: it goes on from one batch to the next",
            "build it with stateful=False, and give its states as inputs (initial_state=) and outputs (return_state=)",
        )
    if time_major:
        raise Refusal("time_major=True is not supported", "build it with the batch first")
    if len(keras.shape(x)) != 3:
        raise InvalidModel(f"layer {keras.name!r} is given {len(keras.shape(x))} axes")


def recur(
    keras: Context,
    x: ir.Value,
    cells: Sequence[Cell],
    backwards: Sequence[bool],
    states: Sequence[ir.Value],
    sequences: bool,
    weights: list[list[ViewTensor]] | None = None,
) -> Run:
    """One node for cells that are alike, each in its own direction, over (batch, steps, inputs)."""
    cell, count = cells[0], len(cells)
    inputs = keras.size(x, 2)
    found = weights if weights is not None else keras.weights_of([c.shapes(inputs) for c in cells])
    w, r, b = (
        np.stack(arrays) for arrays in zip(*(c.weights(t) for c, t in zip(cells, found, strict=True)), strict=True)
    )
    prefix = "" if count == 2 or cell.part == "cell" else cell.part.replace("/", "_") + "_"
    constants = [keras.weight(prefix + name, array) for name, array in (("W", w), ("R", r), ("B", b))]
    each = 2 if cell.op_type == "LSTM" else 1
    if states and len(states) != each * count:
        raise Refusal(f"it is given {len(states)} initial states, {each * count} are supported")
    given = [_joined(keras, states[i::each]) for i in range(each)] if states else []
    if any(keras.shape(state)[1:] != [cell.units] for state in states):
        raise InvalidModel(f"layer {keras.name!r}: an initial state is not of {cell.units} units")
    steps = keras.op("Transpose", x, name="steps", perm=[1, 0, 2])
    made = keras.builder.ops(
        cell.op_type,
        steps,
        *constants,
        None,
        *given,
        outputs=1 + each,
        hidden_size=cell.units,
        direction="bidirectional" if count == 2 else "reverse" if backwards[0] else "forward",
        linear_before_reset=1 if cell.reset_after else None,
        **_activations(keras, cells),
    )
    ends = [_apart(keras, state, count) for state in made[1:]]
    run = Run([], [list(of) for of in zip(*ends, strict=True)])
    if sequences and count == 1:
        y = keras.op("Squeeze", made[0], keras.ints([1], "axes"))
        run.sequences = [keras.op("Transpose", y, name="batches", perm=[1, 0, 2])]
    elif sequences:
        y = keras.op("Transpose", made[0], name="batches", perm=[2, 0, 1, 3])
        run.joined = keras.op("Reshape", y, keras.ints([0, 0, 2 * cell.units], "shape"))
    return run


def _joined(keras: Context, states: Sequence[ir.Value]) -> ir.Value:
    """(directions, batch, units) of a state for each direction."""
    apart = [keras.op("Unsqueeze", state, keras.ints([0], "axes")) for state in states]
    return apart[0] if len(apart) == 1 else keras.op("Concat", *apart, axis=0)


def _apart(keras: Context, state: ir.Value, count: int) -> list[ir.Value]:
    axes = keras.ints([0], "axes")
    if count == 1:
        return [keras.op("Squeeze", state, axes)]
    parts = keras.builder.ops("Split", state, outputs=count, axis=0, num_outputs=count)
    return [keras.op("Squeeze", part, axes) for part in parts]


def _activations(keras: Context, cells: Sequence[Cell]) -> dict[str, Any]:
    """The attributes that say the activations, where they are not ONNX's own."""
    names, alphas, betas = [], [], []
    for activation in [a for cell in cells for a in cell.activations]:
        name = "linear" if activation is None else activation
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise Refusal(f"activation {str(activation)[:60]!r} is none that a recurrence of ONNX has")
        onnx, alpha, beta = ACTIVATIONS[name]
        if name == "hard_sigmoid" and keras.version < 3:
            alpha = 0.2
        names.append(onnx)
        alphas += [] if alpha is None else [alpha]
        betas += [] if beta is None else [beta]
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
    if names == usual[cells[0].op_type] * len(cells):
        return {}
    return {"activations": names, "activation_alpha": alphas or None, "activation_beta": betas or None}


def _reversed(keras: Context, x: ir.Value) -> ir.Value:
    """The last step first."""
    ends = [keras.ints([n], name) for n, name in ((-1, "starts"), (INT64_MIN, "ends"), (1, "axes"), (-1, "steps"))]
    return keras.op("Slice", x, *ends)


def single(
    keras: Context,
    x: ir.Value,
    states: Sequence[ir.Value],
    cells: Sequence[Cell],
    *,
    return_sequences: bool,
    return_state: bool,
    go_backwards: bool,
    stateful: bool,
    time_major: bool = False,
) -> list[ir.Value]:
    """A layer of one cell, or of several on top of each other, in one direction."""
    check(keras, x, stateful=stateful, time_major=time_major)
    if len(cells) > 1 and (return_state or states):
        raise Refusal("the states of stacked cells are not supported", "make each cell a layer")
    many = return_sequences or len(cells) > 1
    if go_backwards and many:  # the sequence comes out in the order in which it was read
        x = _reversed(keras, x)
    sizes = [keras.size(x, 2), *(cell.units for cell in cells)]
    found = keras.weights_of([cell.shapes(n) for cell, n in zip(cells, sizes[:-1], strict=True)])
    for i, (cell, tensors) in enumerate(zip(cells, found, strict=True)):
        sequences = return_sequences or i + 1 < len(cells)
        run = recur(keras, x, [cell], [go_backwards and not many], states, sequences, [tensors])
        x = run.sequences[0] if sequences else run.last[0]
    return [x, *run.states[0]] if return_state else [x]


# -- layers -----------------------------------------------------------------------------------------------------------


@layer("LSTM", call=["initial_state"])
def lstm(
    keras: Context,
    x: ir.Value,
    *states: ir.Value,
    units: int,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    use_bias: bool = True,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    implementation: int | None = None,
) -> list[ir.Value]:
    """States may be given as inputs; of any length. Masks and `stateful` are refused."""
    cell = lstm_cell(units=units, activation=activation, recurrent_activation=recurrent_activation, use_bias=use_bias)
    return single(
        keras,
        x,
        states,
        [cell],
        return_sequences=return_sequences,
        return_state=return_state,
        go_backwards=go_backwards,
        stateful=stateful,
        time_major=time_major,
    )


@layer("GRU", call=["initial_state"])
def gru(
    keras: Context,
    x: ir.Value,
    *states: ir.Value,
    units: int,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    use_bias: bool = True,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    reset_after: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    implementation: int | None = None,
) -> list[ir.Value]:
    """States may be given as inputs; of any length. Masks and `stateful` are refused."""
    cell = gru_cell(
        units=units,
        activation=activation,
        recurrent_activation=recurrent_activation,
        use_bias=use_bias,
        reset_after=reset_after,
    )
    return single(
        keras,
        x,
        states,
        [cell],
        return_sequences=return_sequences,
        return_state=return_state,
        go_backwards=go_backwards,
        stateful=stateful,
        time_major=time_major,
    )


@layer("SimpleRNN", call=["initial_state"])
def simple_rnn(
    keras: Context,
    x: ir.Value,
    *states: ir.Value,
    units: int,
    activation: Any = "tanh",
    use_bias: bool = True,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    implementation: int | None = None,
) -> list[ir.Value]:
    """States may be given as inputs; of any length. Masks and `stateful` are refused."""
    return single(
        keras,
        x,
        states,
        [simple_rnn_cell(units=units, activation=activation, use_bias=use_bias)],
        return_sequences=return_sequences,
        return_state=return_state,
        go_backwards=go_backwards,
        stateful=stateful,
        time_major=time_major,
    )


@layer("RNN", call=["initial_state"])
def rnn(
    keras: Context,
    x: ir.Value,
    *states: ir.Value,
    cell: Any,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
) -> list[ir.Value]:
    """Of an LSTMCell, GRUCell or SimpleRNNCell, or of a stack of them."""
    return single(
        keras,
        x,
        states,
        _cells(cell),
        return_sequences=return_sequences,
        return_state=return_state,
        go_backwards=go_backwards,
        stateful=stateful,
        time_major=time_major,
    )


def _cells(config: dict[str, Any]) -> list[Cell]:
    """The cells of an RNN, from its configuration as `plain` gives it."""
    if config["class_name"] != "StackedRNNCells":
        return [_cell(config, "cell")]
    rest = {key: value for key, value in config.items() if key not in ("class_name", "cells")}
    check_dtype(plain(rest.pop("dtype", None)))
    bind_attributes(lambda: None, rest, DEFAULTS | {"reverse_state_order": False}, IGNORABLE)
    counts: dict[str, int] = {}
    cells = []
    for entry in config["cells"]:
        inner = plain(entry)
        word = {"LSTMCell": "lstm_cell", "GRUCell": "gru_cell", "SimpleRNNCell": "simple_rnn_cell"}.get(
            str(inner["class_name"]), ""
        )
        number = counts[word] = counts.get(word, -1) + 1
        cells.append(_cell(inner, f"cell/cells/{word}" + (f"_{number}" if number else "")))
    return cells


def _cell(config: dict[str, Any], path: str) -> Cell:
    kind = str(config["class_name"])
    if kind not in CELLS or not kind.endswith("Cell"):
        raise Refusal(f"a cell of the class {kind[:60]} is not supported", "use LSTMCell, GRUCell or SimpleRNNCell")
    values = {key: plain(value) for key, value in config.items() if key != "class_name"}
    check_dtype(values.pop("dtype", None))
    cell = CELLS[kind](**bind_attributes(CELLS[kind], values, DEFAULTS, IGNORABLE))
    cell.part, cell.name = path, str(config.get("name", ""))
    return cell
