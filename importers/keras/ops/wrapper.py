"""Layers that run others: in two directions, or step by step."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from importers.keras.config import Layer
from importers.keras.layers import Context, apply, bind, layer, plain
from importers.keras.ops.recurrent import CELLS, Cell, Run, check, recur

__all__: list[str] = []


@layer("Bidirectional", call=["initial_state"])
def bidirectional(
    keras: Context,
    x: ir.Value,
    *states: ir.Value,
    layer: Any,
    merge_mode: str | None = "concat",
    backward_layer: Any = None,
) -> list[ir.Value]:
    """Of LSTM, GRU or SimpleRNN; what comes back runs over the reversed sequence, and its outputs are turned again."""
    forward = _direction(layer, "forward")
    other = backward_layer
    if other is None:
        name = f"backward_{str(layer['name']).removeprefix('forward_')}"
        other = {**layer, "name": name, "go_backwards": not layer.get("go_backwards", False)}
    backward = _direction(other, "backward")
    options = ("return_sequences", "return_state")
    if any(forward[1][name] != backward[1][name] for name in options):
        raise InvalidModel(f"layer {keras.name!r}: its two directions do not give the same")
    if forward[1]["go_backwards"] or not backward[1]["go_backwards"]:
        raise Refusal("the first of its layers runs backwards", "exchange the two layers")
    sequences, return_state = (forward[1][name] for name in options)
    for _, made in (forward, backward):
        check(keras, x, stateful=made["stateful"], time_major=made["time_major"])
    cells = [forward[0], backward[0]]
    tensors = keras.weights_of([cell.shapes(keras.size(x, 2)) for cell in cells])
    if cells[0].alike == cells[1].alike:
        runs = [recur(keras, x, cells, [False, True], states, sequences, tensors)]
    else:
        half = len(states) // 2
        given = [states[:half], states[half:]]
        runs = [
            recur(keras, x, [cell], [way], initial, sequences, [found])
            for cell, way, initial, found in zip(cells, (False, True), given, tensors, strict=True)
        ]
    results = _merged(keras, runs, cells, sequences, merge_mode)
    if return_state:
        results += [state for run in runs for states in run.states for state in states]
    return results


def _direction(config: dict[str, Any], which: str) -> tuple[Cell, dict[str, Any]]:
    """The cell of one of the two layers, and the layer's other options."""
    config = plain(config)
    kind, name = str(config["class_name"]), str(config.get("name", ""))
    if kind not in ("LSTM", "GRU", "SimpleRNN"):
        raise Refusal(f"its layer {name[:60]!r} is a {kind[:60]}: only LSTM, GRU and SimpleRNN are supported")
    rest = {key: value for key, value in config.items() if key != "class_name"}
    _, keywords = bind(Layer(name, kind, rest, []))
    every = {
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "time_major": False,
        "unroll": False,
        "zero_output_for_mask": False,
    }
    own = {key: value for key, value in keywords.items() if key not in every}
    cell = CELLS[kind](**own)
    cell.part, cell.name = f"{which}_layer/cell", name
    return cell, {**every, **{key: value for key, value in keywords.items() if key in every}}


def _merged(
    keras: Context, runs: list[Run], cells: list[Cell], sequences: bool, merge_mode: str | None
) -> list[ir.Value]:
    """What the two directions give together."""
    if sequences and runs[0].joined is not None:
        if merge_mode == "concat":
            return [runs[0].joined]
        parts = list(keras.builder.ops("Split", runs[0].joined, outputs=2, axis=2, num_outputs=2))
    elif sequences:
        parts = [run.sequences[0] for run in runs]
    else:
        parts = [last for run in runs for last in run.last]
    if merge_mode is None:
        return parts
    if merge_mode == "concat":
        return [keras.op("Concat", *parts, axis=-1)]
    if merge_mode not in ("sum", "mul", "ave"):
        raise Refusal(f"merge_mode {merge_mode!r} is not supported")
    if cells[0].units != cells[1].units:
        raise Refusal("directions of different units are merged element by element")
    return [keras.op({"sum": "Add", "mul": "Mul", "ave": "Mean"}[merge_mode], *parts)]


@layer("TimeDistributed")
def time_distributed(keras: Context, x: ir.Value, *, layer: Any) -> ir.Value:
    """The layer on a batch of all steps; Dense on the last axis as it is."""
    config = plain(layer)
    kind, name = str(config["class_name"]), str(config.get("name", ""))
    if keras.version == 1:
        raise Refusal("TimeDistributed of Keras 1 is not supported", "load the model with Keras 2 and save it again")
    if kind in ("Functional", "Sequential", "Model"):
        raise Refusal(
            f"it holds a whole model, {name[:60]!r}", "wrap each of its layers in a TimeDistributed of its own"
        )
    inner = Layer(name, kind, {key: value for key, value in config.items() if key != "class_name"}, [])
    context = keras.sublayer("layer", inner)
    try:
        return _each_step(context, x, inner)
    except Refusal as refusal:
        raise Refusal(f"its layer {name[:60]!r} ({kind[:60]}): {refusal.reason}", refusal.hint) from refusal


def _each_step(context: Context, x: ir.Value, inner: Layer) -> ir.Value:
    sizes = context.shape(x)
    if len(sizes) < 3:
        raise InvalidModel(f"layer {context.name!r} is given {len(sizes)} axes")
    function, _ = bind(inner)
    if not function.__module__.startswith("importers.keras."):
        raise Refusal("a layer with a function of its own cannot be wrapped")
    if inner.class_name == "Dense" and isinstance(inner.config.get("activation"), str | None):
        result: ir.Value = apply(context, [x], {})
        return result
    rest = [context.size(x, axis) for axis in range(2, len(sizes))]
    y = apply(context, [context.op("Reshape", x, context.ints([-1, *rest], "steps"))], {})
    if not isinstance(y, ir.Value):
        if len(y) != 1:
            raise Refusal("a layer of several outputs cannot be wrapped")
        (y,) = y
    after = [context.size(y, axis) for axis in range(1, len(context.shape(y)))]
    if sizes[1] is not None:
        return context.op("Reshape", y, context.ints([-1, sizes[1], *after], "shape"))
    both = context.op("Shape", x, start=0, end=2)
    shape = context.op("Concat", both, context.ints(after, "sizes"), axis=0)
    result = context.op("Reshape", y, shape)
    assert x.shape is not None
    result.shape = ir.Shape([x.shape[0], x.shape[1], *after])
    return result
