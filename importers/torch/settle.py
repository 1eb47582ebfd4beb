"""What torch.onnx leaves behind, taken away: nothing here changes a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from hub.zeros import is_zero

__all__ = ["settle"]


def settle(model: ir.Model) -> None:
    """Take away what torch.onnx leaves behind: biases of zeros that nobody has, states of zeros, computed shapes,
    sequences that a tensor is split into, weights that are transposed when the network runs."""
    weights = set(model.graph.initializers)
    for node in list(model.graph.all_nodes()):
        if node.op_type in ("Conv", "ConvTranspose") and len(node.inputs) > 2 and is_zero(node.inputs[2]):
            bias = node.inputs[2]
            if bias is not None and bias.name not in weights:
                node.resize_inputs(2)
        elif node.op_type in ("LSTM", "GRU", "RNN"):
            for i in (5, 6):
                if len(node.inputs) > i and is_zero(node.inputs[i]):
                    node.replace_input_with(i, None)
        elif node.op_type == "Reshape":
            _settle_reshape(model, node)
    settle_splits(model)
    settle_weights(model)


def _settle_reshape(model: ir.Model, node: ir.Node) -> None:
    """A shape that is computed, from the sizes that torch.export knows: 0 where a size is that of the input's axis,
    -1 for one more."""
    given, shape, out = node.inputs[0], node.inputs[1], node.outputs[0]
    if given is None or shape is None or given.shape is None or out.shape is None or node.graph is not model.graph:
        return
    if ir.convenience.get_const_tensor(shape) is not None:
        return
    target: list[int] = []
    for axis, size in enumerate(out.shape):
        same = axis < len(given.shape) and not isinstance(size, int) and _text(given.shape[axis]) == _text(size)
        target.append(size if isinstance(size, int) else 0 if same and _text(size) else -1)
    if target.count(-1) > 1 or any(size == 0 for size in out.shape):
        return
    if target.count(-1) == 0 and target.count(0) == 1:
        target[target.index(0)] = -1  # most targets know -1
    value = ir.Value(
        name=f"{out.name}/shape",
        const_value=ir.tensor(np.array(target, np.int64)),
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape([len(target)]),
    )
    model.graph.register_initializer(value)
    node.replace_input_with(1, value)
    node.attributes.pop("allowzero", None)


def settle_weights(model: ir.Model) -> None:
    """A weight that is transposed and used in no other way is kept transposed, under its own name."""
    graph = model.graph
    for node in list(graph):
        held = node.inputs[0] if node.op_type == "Transpose" and node.inputs else None
        if held is None or held.name not in graph.initializers or held.const_value is None or len(held.uses()) > 1:
            continue
        perm = node.attributes.get_ints("perm", tuple(range(len(held.const_value.shape)))[::-1])
        array = held.const_value.numpy().transpose(perm)
        name, out = str(held.name), node.outputs[0]
        if out.is_graph_output():
            continue
        value = ir.Value(
            name=name, const_value=ir.Tensor(array, name=name), type=held.type, shape=ir.Shape(array.shape)
        )
        out.replace_all_uses_with(value)
        graph.remove(node, safe=True)
        del graph.initializers[name]
        graph.register_initializer(value)


def settle_splits(model: ir.Model) -> None:
    """Sequences that a tensor is split into become the parts themselves; those of a weight are weights."""
    for node in list(model.graph):
        sizes = _parts(node) if node.op_type == "SplitToSequence" else None
        users = [user for user, _ in node.outputs[0].uses()]
        places = [_number(user.inputs[1]) if user.op_type == "SequenceAt" else None for user in users]
        if sizes is None or any(place is None or not -len(sizes) <= place < len(sizes) for place in places):
            continue
        parts = _split(model, node, sizes)
        for user, place in zip(users, places, strict=True):
            assert place is not None
            if parts[place].shape is None:
                parts[place].shape = user.outputs[0].shape
            user.outputs[0].replace_all_uses_with(parts[place], replace_graph_outputs=True)
            model.graph.remove(user, safe=True)
        model.graph.remove(node, safe=True)


def _split(model: ir.Model, node: ir.Node, sizes: list[int]) -> list[ir.Value]:
    value, axis, name = node.inputs[0], node.attributes.get_int("axis", 0), node.outputs[0].name
    assert value is not None
    if value.name in model.graph.initializers and value.const_value is not None:
        pieces = np.split(value.const_value.numpy(), np.cumsum(sizes)[:-1], axis)
        return [_weight(model, f"{value.name}.{i}", piece) for i, piece in enumerate(pieces)]
    numbers = _weight(model, f"{name}/sizes", np.array(sizes, np.int64))
    split = ir.node("Split", [value, numbers], {"axis": axis}, num_outputs=len(sizes), name=node.name)
    split.metadata_props.update(node.metadata_props)
    model.graph.insert_before(node, split)
    for i, part in enumerate(split.outputs):
        part.name, part.type = f"{name}/{i}", value.type
    return list(split.outputs)


def _parts(node: ir.Node) -> list[int] | None:
    """The sizes of what a tensor is split into, if they are known."""
    value, said = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    constant = None if said is None else ir.convenience.get_const_tensor(said)
    if constant is None or value is None or value.shape is None or not node.attributes.get_int("keepdims", 1):
        return None
    size, numbers = value.shape[node.attributes.get_int("axis", 0)], constant.numpy()
    if numbers.ndim == 1:
        return [int(n) for n in numbers]
    if not isinstance(size, int):
        return None
    step = int(numbers)
    return [min(step, size - start) for start in range(0, size, step)]


def _number(value: ir.Value | None) -> int | None:
    constant = None if value is None else ir.convenience.get_const_tensor(value)
    return None if constant is None else int(constant.numpy().reshape(-1)[0])


def _weight(model: ir.Model, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    while name in model.graph.initializers:
        name += "_"
    kind = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name), type=kind, shape=ir.Shape(array.shape))
    model.graph.register_initializer(value)
    return value


def _text(size: Any) -> str | None:
    return None if isinstance(size, int) or size.value is None else str(size.value)
