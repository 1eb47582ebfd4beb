"""Recurrent layers: the sequence is the first axis, the batch the second, the vectors the third."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import Refusal
from importers.coreml.neuralnetwork.layers import Context, layer
from importers.coreml.neuralnetwork.weights import Array

__all__: list[str] = []

CLIP = 50.0
"""The limit of a cell's state where none is given."""

NAMES = {
    "ReLU": ("Relu", (), ()), "leakyReLU": ("LeakyRelu", ("alpha",), ()), "tanh": ("Tanh", (), ()),
    "thresholdedReLU": ("ThresholdedRelu", ("alpha",), ()), "scaledTanh": ("ScaledTanh", ("alpha",), ("beta",)),
    "sigmoid": ("Sigmoid", (), ()), "sigmoidHard": ("HardSigmoid", ("alpha",), ("beta",)),
    "linear": ("Affine", ("alpha",), ("beta",)), "ELU": ("Elu", ("alpha",), ()), "softsign": ("Softsign", (), ()),
    "softplus": ("Softplus", (), ()),
}  # fmt: skip
"""Activations inside of ONNX's recurrent operators, and their numbers."""


def _activations(net: Context, given: Sequence[Any], count: int) -> dict[str, Any]:
    net.require(len(given) == count, f"it has {len(given)} activations, {count} are needed")
    names, alphas, betas = [], [], []
    for params in given:
        kind = params.WhichOneof("NonlinearityType")
        if kind not in NAMES:
            raise Refusal(f"the activation {kind} inside of it has no form")
        op_type, alpha, beta = NAMES[kind]
        names.append(op_type)
        numbers = getattr(params, kind)
        alphas += [float(getattr(numbers, name)) for name in alpha]
        betas += [float(getattr(numbers, name)) for name in beta]
    return {"activations": names, "activation_alpha": alphas or None, "activation_beta": betas or None}


def _joined(net: Context, parts: Sequence[Any], shape: Sequence[int], name: str) -> Array:
    for number, params in enumerate(parts):
        net.require(net.weights.given(params), f"its {name} {number} is missing")
    return np.concatenate([net.weights.array(params, shape, name) for params in parts])


def _lazy(net: Context, compute: Callable[[], Array], shape: Sequence[int], name: str) -> ir.Value:
    tensor = ir.LazyTensor(
        lambda: ir.tensor(np.ascontiguousarray(compute(), np.float32)),
        dtype=ir.DataType.FLOAT,
        shape=ir.Shape(list(shape)),
    )
    return net.builder.constant(tensor, name, "weight")


def _gates(net: Context, groups: Sequence[Sequence[Any]], rows: int, columns: int, name: str) -> ir.Value:
    """Matrices of all gates, of one direction after another; the sizes are checked now, the numbers read later."""
    for parts in groups:
        for params in parts:
            net.require(params is not None, f"a {name} matrix is missing")
            net.weights.tensor(params, (rows, columns), name)
    shape = (len(groups), len(groups[0]) * rows, columns)
    return _lazy(net, lambda: np.stack([_joined(net, p, (rows, columns), name) for p in groups]), shape, name)


def _biases(net: Context, groups: Sequence[Sequence[Any]], rows: int, forget: int | None) -> ir.Value:
    """Biases of all gates; ONNX has a second one, of the state, which is 0. `forget`: the gate that has 1 more."""
    rowed = []
    for parts in groups:
        given = _joined(net, parts, (rows,), "bias") if parts else np.zeros(4 * rows, np.float32)
        if forget is not None:
            given = given.copy()
            given[forget * rows : (forget + 1) * rows] += 1
        rowed.append(np.concatenate([given, np.zeros_like(given)]))
    return net.builder.constant(np.stack(rowed), "bias", "weight")


def _entered(net: Context, x: ir.Value, size: int) -> tuple[ir.Value, bool]:
    """The input as (sequence, batch, numbers), and whether there were ones behind."""
    rank = net.rank(x)
    net.require(rank in (3, 5), f"its input has {rank} axes; they are sequence, batch, channels, 1, 1")
    found = net.shape(x)
    net.require(found[2] in (None, size), f"it has {size} inputs, and is given {found[2]}")
    if rank == 3:
        return x, False
    net.require(all(s in (None, 1) for s in found[3:]), f"its input has height and width {found[3:]}")
    return net.squeeze(x, [3, 4]), True


def _left(net: Context, y: ir.Value, wide: bool) -> ir.Value:
    return net.unsqueeze(y, [3, 4]) if wide else y


def _states(net: Context, given: Sequence[ir.Value], hidden: int) -> list[ir.Value]:
    """Initial states as (1, batch, numbers)."""
    return [_entered(net, value, hidden)[0] for value in given]


def _check_reverse(net: Context, x: ir.Value, reverse: bool, sequence: bool) -> None:
    if reverse and sequence and net.shape(x)[0] != 1:
        raise Refusal(
            "it goes backwards and gives a sequence (reverseInput, sequenceOutput), in an order that is nowhere said"
        )


@layer("simpleRecurrent")
def simple_recurrent(
    net: Context,
    x: ir.Value,
    state: ir.Value | None = None,
    *,
    inputVectorSize: int,
    outputVectorSize: int,
    activation: Any,
    sequenceOutput: bool,
    hasBiasVector: bool,
    weightMatrix: Any,
    recursionMatrix: Any,
    biasVector: Any,
    reverseInput: bool,
) -> list[ir.Value]:
    net.require(min(inputVectorSize, outputVectorSize) > 0 and activation is not None, "it has no sizes or activation")
    _check_reverse(net, x, reverseInput, sequenceOutput)
    flat, wide = _entered(net, x, inputVectorSize)
    hidden = outputVectorSize
    y, last = net.builder.ops(
        "RNN",
        flat,
        _gates(net, [[weightMatrix]], hidden, inputVectorSize, "weight"),
        _gates(net, [[recursionMatrix]], hidden, hidden, "recursion"),
        _biases(net, [[biasVector]], hidden, None) if hasBiasVector else None,
        None,
        _states(net, [state], hidden)[0] if state is not None else None,
        outputs=2,
        hidden_size=hidden,
        direction="reverse" if reverseInput else None,
        **_activations(net, [activation], 1),
    )
    return _results(net, y, [last], sequenceOutput, wide)


def _results(net: Context, y: ir.Value, states: Sequence[ir.Value], sequence: bool, wide: bool) -> list[ir.Value]:
    """The results that are asked for: all steps, or the last one; then the states."""
    first = net.squeeze(y, [1]) if sequence else states[0]
    results = [_left(net, value, wide) for value in (first, *states)]
    count = len(net.message.output)
    net.require(1 <= count <= len(results), f"it has {count} outputs, {len(results)} at most are possible")
    return results[:count]


@layer("gru")
def gru(
    net: Context,
    x: ir.Value,
    state: ir.Value | None = None,
    *,
    inputVectorSize: int,
    outputVectorSize: int,
    activations: Sequence[Any],
    sequenceOutput: bool,
    hasBiasVectors: bool,
    updateGateWeightMatrix: Any,
    resetGateWeightMatrix: Any,
    outputGateWeightMatrix: Any,
    updateGateRecursionMatrix: Any,
    resetGateRecursionMatrix: Any,
    outputGateRecursionMatrix: Any,
    updateGateBiasVector: Any,
    resetGateBiasVector: Any,
    outputGateBiasVector: Any,
    reverseInput: bool,
) -> list[ir.Value]:
    """The reset gate is applied before the product with the recursion matrix."""
    net.require(min(inputVectorSize, outputVectorSize) > 0, "it has no sizes")
    _check_reverse(net, x, reverseInput, sequenceOutput)
    flat, wide = _entered(net, x, inputVectorSize)
    hidden = outputVectorSize
    matrices = [[updateGateWeightMatrix, resetGateWeightMatrix, outputGateWeightMatrix]]
    recursion = [[updateGateRecursionMatrix, resetGateRecursionMatrix, outputGateRecursionMatrix]]
    biases = [[updateGateBiasVector, resetGateBiasVector, outputGateBiasVector]]
    y, last = net.builder.ops(
        "GRU",
        flat,
        _gates(net, matrices, hidden, inputVectorSize, "weight"),
        _gates(net, recursion, hidden, hidden, "recursion"),
        _biases(net, biases, hidden, None) if hasBiasVectors else None,
        None,
        _states(net, [state], hidden)[0] if state is not None else None,
        outputs=2,
        hidden_size=hidden,
        direction="reverse" if reverseInput else None,
        **_activations(net, activations, 2),
    )
    return _results(net, y, [last], sequenceOutput, wide)


GATES = ("input", "output", "forget", "block")
"""Gates of an LSTM in the order of ONNX; in names of fields "block" is `blockInput`."""


def _gate_fields(weights: Any, kind: str, coupled: bool) -> list[Any]:
    """What the gates have; a forget gate that is coupled to the input gate is not used, and may have nothing."""
    names = [f"{'blockInput' if gate == 'block' else gate + 'Gate'}{kind}" for gate in GATES]
    found = [getattr(weights, name) if weights.HasField(name) else None for name in names]
    return [*found[:2], found[2] or found[0], found[3]] if coupled else found


def _lstm(
    net: Context,
    x: ir.Value,
    states: Sequence[ir.Value],
    sizes: tuple[int, int],
    params: Any,
    weights: Sequence[Any],
    activations: Sequence[Any],
    direction: str | None,
) -> tuple[ir.Value, ir.Value, ir.Value, bool]:
    """Y, Y_h and Y_c of ONNX."""
    inputs, hidden = sizes
    net.require(min(sizes) > 0 and params is not None and None not in weights, "it has no sizes or parameters")
    limit = params.cellClipThreshold or CLIP
    if limit < CLIP:
        raise Refusal(f"it limits the state of its cells to {limit}", "ONNX limits what the gates are given instead")
    if limit < 1e4:
        net.scope.warn(f"states of cells are not limited to {limit:g}, which sequences shorter than that never reach")
    flat, wide = _entered(net, x, inputs)
    coupled = params.coupledInputAndForgetGate
    bias = None
    if params.hasBiasVectors or params.forgetBias:
        groups = [_gate_fields(w, "BiasVector", coupled) if params.hasBiasVectors else [] for w in weights]
        bias = _biases(net, groups, hidden, 2 if params.forgetBias else None)
    peepholes = None
    if params.hasPeepholeVectors:
        rows = [[w.inputGatePeepholeVector, w.outputGatePeepholeVector, w.forgetGatePeepholeVector] for w in weights]
        stacked = np.stack([_joined(net, parts, (hidden,), "peephole") for parts in rows])
        peepholes = net.builder.constant(stacked, "peephole", "weight")
    net.require(len(states) in (0, 2 * len(weights)), f"it has {len(states)} states")
    initial: list[ir.Value | None] = [None, None]
    if states:
        flats = _states(net, states, hidden)
        initial = [
            flats[i] if len(weights) == 1 else net.op("Concat", flats[i], flats[i + 2], axis=0) for i in range(2)
        ]
    y, last, cell = net.builder.ops(
        "LSTM",
        flat,
        _gates(net, [_gate_fields(w, "WeightMatrix", coupled) for w in weights], hidden, inputs, "weight"),
        _gates(net, [_gate_fields(w, "RecursionMatrix", coupled) for w in weights], hidden, hidden, "recursion"),
        bias,
        None,
        *initial,
        peepholes,
        outputs=3,
        hidden_size=hidden,
        direction=direction,
        input_forget=1 if coupled else None,
        **_activations(net, activations, 3 * len(weights)),
    )
    return y, last, cell, wide


@layer("uniDirectionalLSTM")
def lstm(
    net: Context,
    x: ir.Value,
    state: ir.Value | None = None,
    cell: ir.Value | None = None,
    *,
    inputVectorSize: int,
    outputVectorSize: int,
    activations: Sequence[Any],
    params: Any,
    weightParams: Any,
    reverseInput: bool,
) -> list[ir.Value]:
    sequence = params is not None and params.sequenceOutput
    _check_reverse(net, x, reverseInput, sequence)
    given = [value for value in (state, cell) if value is not None]
    sizes = inputVectorSize, outputVectorSize
    direction = "reverse" if reverseInput else None
    y, last, memory, wide = _lstm(net, x, given, sizes, params, [weightParams], activations, direction)
    return _results(net, y, [last, memory], sequence, wide)


@layer("biDirectionalLSTM")
def bidirectional_lstm(
    net: Context,
    x: ir.Value,
    *states: ir.Value,
    inputVectorSize: int,
    outputVectorSize: int,
    activationsForwardLSTM: Sequence[Any],
    activationsBackwardLSTM: Sequence[Any],
    params: Any,
    weightParams: Sequence[Any],
) -> list[ir.Value]:
    """The two directions side by side as channels; states come and go as h, c, h backwards, c backwards."""
    net.require(len(weightParams) == 2, f"it has weights of {len(weightParams)} directions")
    sizes = inputVectorSize, outputVectorSize
    both = [*activationsForwardLSTM, *activationsBackwardLSTM]
    y, last, memory, wide = _lstm(net, x, states, sizes, params, list(weightParams), both, "bidirectional")
    ends = [
        part for value in (last, memory) for part in net.builder.ops("Split", value, outputs=2, axis=0, num_outputs=2)
    ]
    if params.sequenceOutput:
        order = net.op("Transpose", y, perm=[0, 2, 1, 3])
        first = net.reshape(order, [0, 0, 2 * outputVectorSize])
    else:
        first = net.op("Concat", ends[0], ends[1], axis=2)
    results = [_left(net, value, wide) for value in (first, ends[0], ends[2], ends[1], ends[3])]
    count = len(net.message.output)
    net.require(1 <= count <= 5, f"it has {count} outputs, 5 at most are possible")
    return results[:count]
