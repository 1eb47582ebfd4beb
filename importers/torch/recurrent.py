"""LSTM, GRU and RNN stay whole while a module is captured.

torch.export writes a recurrence step by step, which fixes the number of steps. Here each layer becomes one operator of
our own, which torch.onnx is told to write as ONNX's, so that any length can be given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["kept_whole", "operators", "translations"]

NAMESPACE = "onnx_hub"

_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""ONNX's order of the gates (iofc, zrh), in PyTorch's (ifgo, rzn)."""


@contextmanager
def kept_whole() -> Iterator[None]:
    """While it lasts, recurrences on padded sequences are captured as ONNX's; packed ones are left alone."""
    from torch import _VF

    originals = {name: getattr(_VF, name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")}
    try:
        _VF.lstm = _whole("LSTM", None, originals["lstm"])
        _VF.gru = _whole("GRU", None, originals["gru"])
        _VF.rnn_tanh = _whole("RNN", "Tanh", originals["rnn_tanh"])
        _VF.rnn_relu = _whole("RNN", "Relu", originals["rnn_relu"])
        yield
    finally:
        for name in originals:
            delattr(_VF, name)  # what it looks up in torch is there again


def _whole(kind: str, activation: str | None, original: Callable[..., Any]) -> Callable[..., Any]:
    def recurrence(*arguments: Any) -> Any:
        import torch

        packed = len(arguments) > 1 and isinstance(arguments[3], (list, tuple))
        if packed or len(arguments) != 9:
            return original(*arguments)
        values, states, weights, biased, layers, _, training, both, batch_first = arguments
        states = list(states) if kind == "LSTM" else [states]
        parts = (4 if biased else 2) * (2 if both else 1)
        if training or len(weights) != parts * layers or not isinstance(values, torch.Tensor) or values.dim() != 3:
            return original(*arguments)  # projections too
        values = values.transpose(0, 1) if batch_first else values
        ends: list[list[Any]] = [[] for _ in states]
        for layer in range(layers):
            own = weights[layer * parts : (layer + 1) * parts]
            first = [state[layer * (2 if both else 1) : (layer + 1) * (2 if both else 1)] for state in states]
            values, last = _layer(kind, activation, values, first, own, biased, both)
            for end, state in zip(ends, last, strict=True):
                end.append(state)
        last = [torch.cat(end, 0) if layers > 1 else end[0] for end in ends]
        return (values.transpose(0, 1) if batch_first else values, *last)

    return recurrence


def _layer(
    kind: str, activation: str | None, values: Any, states: list[Any], weights: Sequence[Any], biased: bool, both: bool
) -> tuple[Any, list[Any]]:
    """One layer: `values` of (steps, batch, features), each of `states` of (directions, batch, hidden)."""
    import torch

    def ordered(tensor: Any) -> Any:
        size, order = tensor.shape[0] // len(_GATES[kind]), _GATES[kind]
        return torch.cat([tensor[i * size : (i + 1) * size] for i in order], 0) if len(order) > 1 else tensor

    each = [weights[: len(weights) // 2], weights[len(weights) // 2 :]] if both else [weights]
    inputs = [
        values,
        torch.stack([ordered(own[0]) for own in each]),
        torch.stack([ordered(own[1]) for own in each]),
        torch.stack([torch.cat([ordered(own[2]), ordered(own[3])], 0) for own in each]) if biased else None,
        *states,
    ]
    direction, hidden = "bidirectional" if both else "forward", int(states[0].shape[2])
    arguments = (*inputs, hidden, direction)
    if kind == "LSTM":
        results = operators().lstm(*arguments)
    elif kind == "GRU":
        results = operators().gru(*arguments)
    else:
        results = operators().rnn(*arguments, activation)
    steps, batch = values.shape[0], values.shape[1]
    # (steps, directions, batch, hidden) to (steps, batch, directions x hidden)
    out = results[0].transpose(1, 2).reshape(steps, batch, len(each) * hidden) if both else results[0].squeeze(1)
    return out, list(results[1:])


_LIBRARY: list[Any] = []


def operators() -> Any:
    """The operators that stand for ONNX's: they have shapes, and no numbers."""
    import torch

    if not _LIBRARY:
        make: Any = torch.library.Library
        library: Any = make(NAMESPACE, "FRAGMENT")
        _LIBRARY.append(library)
        weights = "Tensor x, Tensor w, Tensor r, Tensor? b, Tensor h"
        library.define(f"lstm({weights}, Tensor c, int hidden, str direction) -> (Tensor, Tensor, Tensor)")
        library.define(f"gru({weights}, int hidden, str direction) -> (Tensor, Tensor)")
        library.define(f"rnn({weights}, int hidden, str direction, str activation) -> (Tensor, Tensor)")

        def shapes(x: Any, w: Any, r: Any, b: Any, *rest: Any) -> Any:
            states = [part for part in rest if isinstance(part, torch.Tensor)]
            out = x.new_empty([x.shape[0], w.shape[0], x.shape[1], r.shape[2]])
            return (out, *(state.new_empty(state.shape) for state in states))

        for name in ("lstm", "gru", "rnn"):
            torch.library.register_fake(f"{NAMESPACE}::{name}", shapes, lib=library)
    return getattr(torch.ops, NAMESPACE)


def translations() -> dict[Any, Callable[..., Any]]:
    """How torch.onnx writes them."""
    from onnxscript import opset20 as op

    def lstm(x: Any, w: Any, r: Any, b: Any, h: Any, c: Any, hidden: int, direction: str) -> Any:
        return op.LSTM(x, w, r, b, None, h, c, hidden_size=hidden, direction=direction)

    def gru(x: Any, w: Any, r: Any, b: Any, h: Any, hidden: int, direction: str) -> Any:
        return op.GRU(x, w, r, b, None, h, hidden_size=hidden, direction=direction, linear_before_reset=1)

    def rnn(x: Any, w: Any, r: Any, b: Any, h: Any, hidden: int, direction: str, activation: str) -> Any:
        activations = [activation] * (2 if direction == "bidirectional" else 1)
        return op.RNN(x, w, r, b, None, h, hidden_size=hidden, direction=direction, activations=activations)

    ours = operators()
    return {ours.lstm.default: lstm, ours.gru.default: gru, ours.rnn.default: rnn}
