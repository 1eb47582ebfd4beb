"""Branches and loops, lists, and the labels of a classifier."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.canonical import LAYER, OPSET, SOURCE_OP
from hub.errors import Refusal
from importers.coreml.constants import Const
from importers.coreml.context import Mil
from importers.coreml.interface import LABELS
from importers.coreml.table import Unread, Values, op
from importers.coreml.types import Declared, by_name, declared, onnx_type

__all__: list[str] = []


@contextmanager
def _inside(mil: Mil, name: str) -> Iterator[GraphBuilder]:
    """What is said inside becomes a graph of its own."""
    walker = mil.walker
    outer, walker.builder = walker.builder, walker.builder.inner(f"{mil.name}/{name}")
    try:
        yield walker.builder
    finally:
        walker.builder = outer


def _said(mil: Mil, block: Any, given: dict[str, Any]) -> list[ir.Value]:
    """The outputs of a block as values."""
    refused = len(mil.walker.refused)
    found = mil.walker.block(block, given)
    if None in found or len(mil.walker.refused) > refused:
        raise Refusal("operations inside of it are refused")
    return [mil.walker.value(one) for one in found]


def _graph(inner: GraphBuilder, outputs: Sequence[ir.Value]) -> ir.Graph:
    return ir.Graph(inner.inputs, outputs, nodes=inner.nodes, name=inner.name, opset_imports={"": OPSET})


def _node(
    mil: Mil,
    kind: str,
    inputs: Sequence[ir.Value | None],
    graphs: dict[str, ir.Graph],
    like: Sequence[ir.Value],
    types: Sequence[Declared | None],
) -> list[ir.Value]:
    """A node with graphs inside; its results are of the types of `like`, and of the sizes that the program says."""
    builder = mil.builder
    label = builder.unique(f"{mil.name}/{kind}")
    outputs = []
    for number, (value, said) in enumerate(zip(like, types, strict=True)):
        shape = None if said is None or said.shape is None else ir.Shape(list(said.shape))
        outputs.append(ir.Value(name=builder.unique(f"{label}_{number}"), type=value.type, shape=shape))
    node = ir.Node(
        "",
        kind,
        inputs,
        [ir.AttrGraph(key, graph) for key, graph in graphs.items()],
        outputs=outputs,
        name=label,
        metadata_props={LAYER: mil.name, SOURCE_OP: mil.kind},
    )
    builder.nodes.append(node)
    return outputs


def _truth(mil: Mil, value: ir.Value) -> ir.Value:
    """A truth value without axes."""
    value = mil.cast(value, ir.DataType.BOOL)
    return value if mil.rank(value) == 0 else mil.reshape(value, [])


@op("cond")
def cond(mil: Mil, pred: ir.Value) -> list[ir.Value]:
    """If."""
    mil.require(len(mil.message.blocks) == 2, f"{len(mil.message.blocks)} branches")
    graphs, like = [], []
    for name, block in zip(("then", "else"), mil.message.blocks, strict=True):
        with _inside(mil, name) as inner:
            values = _said(mil, block, {})
            mil.require(len(values) == len(mil.types), "its branches have other numbers of results")
            kinds = [
                mil.result_type(i) if said is not None else mil.dtype(values[i]) for i, said in enumerate(mil.types)
            ]
            values = [mil.op("Identity", mil.cast(v, kind)) for v, kind in zip(values, kinds, strict=True)]
            graphs.append(_graph(inner, values))
            like = values
    branches = {"then_branch": graphs[0], "else_branch": graphs[1]}
    return _node(mil, "If", [_truth(mil, pred)], branches, like, mil.types)


@op("while_loop")
def while_loop(mil: Mil, loop_vars: Values) -> list[ir.Value]:
    """Loop; the condition is said before it, and again at the end of its body."""
    mil.require(len(mil.message.blocks) == 2, f"{len(mil.message.blocks)} blocks")
    test, body = mil.message.blocks
    names = [[one.name for one in block.inputs] for block in (test, body)]
    mil.require(len(names[0]) == len(names[1]) == len(loop_vars), "its blocks take other numbers of values")
    (first,) = _said(mil, test, dict(zip(names[0], loop_vars, strict=True)))
    first = _truth(mil, first)
    with _inside(mil, "body") as inner:
        inner.input(f"{mil.name}/iteration", ir.DataType.INT64, [])
        inner.input(f"{mil.name}/condition", ir.DataType.BOOL, [])
        states = [_variable(mil, one, value) for one, value in zip(body.inputs, loop_vars, strict=True)]
        new = _said(mil, body, dict(zip(names[1], states, strict=True)))
        mil.require(len(new) == len(states), "its body has another number of results")
        new = [mil.op("Identity", mil.cast(v, mil.dtype(state))) for v, state in zip(new, states, strict=True)]
        (again,) = _said(mil, test, dict(zip(names[0], new, strict=True)))
        graph = _graph(inner, [mil.op("Identity", _truth(mil, again)), *new])
    types = list(mil.types)
    mil.require(len(types) <= len(states), "it has more results than variables")
    types += [None] * (len(states) - len(types))
    found = _node(mil, "Loop", [None, first, *loop_vars], {"body": graph}, states, types)
    for value, state, said in zip(found, states, types, strict=True):
        value.shape = state.shape if said is None else value.shape
    return found


def _variable(mil: Mil, message: Any, value: ir.Value) -> ir.Value:
    """An input of the body, of the type that the program says; of a list the length is open."""
    said = declared(message.type)
    if said is None:
        sizes = [None, *(size if isinstance(size, int) else None for size in list(value.shape or ())[1:])]
        return mil.builder.input(message.name, mil.dtype(value), sizes)
    if said.shape is None:
        raise Refusal("the number of axes of a variable is not known")
    return mil.builder.input(message.name, onnx_type(said.dtype, mil.walker.upcast), list(said.shape))


# -- lists: a tensor with the elements along its first axis ------------------------------------------------------------


@op("make_list")
def make_list(
    mil: Mil,
    init_length: ir.Value | None = None,
    *,
    elem_shape: Unread = (),
    dynamic_length: bool = True,
    dtype: str = "fp32",
) -> ir.Value:
    """A tensor of zeros, with the elements along its first axis."""
    kind = onnx_type(by_name(dtype), mil.walker.upcast)
    sizes = _element(mil)
    length = mil.ints([1], "length") if init_length is None else mil.reshape(mil.int64(init_length), [1])
    shape = mil.op("Concat", length, mil.ints(sizes, "element"), axis=0) if sizes else length
    zero = mil.builder.constant(np.zeros((), kind.numpy()), "zero")
    return _open(mil.op("Expand", zero, shape), sizes)


def _element(mil: Mil) -> list[int]:
    """The sizes of an element of the list that is the first result."""
    said = mil.message.outputs[0].type.listType.type
    found = declared(said) if said.WhichOneof("type") else None
    if found is None or found.shape is None or None in found.shape:
        raise Refusal("the shape of its elements is open")
    return [int(size or 0) for size in found.shape]


def _open(value: ir.Value, sizes: Sequence[int]) -> ir.Value:
    """`value` with a first axis whose size is not known, since a list may grow."""
    value.shape = ir.Shape([None, *sizes])
    return value


def _long_enough(mil: Mil, ls: ir.Value, places: ir.Value) -> ir.Value:
    """A list with room for these places, zeros behind its end; the file does not say which lists may grow."""
    last = mil.op("ReduceMax", places, keepdims=0)
    length = mil.op("Shape", ls, start=0, end=1)
    missing = mil.op("Sub", mil.op("Add", mil.reshape(last, [1]), mil.ints([1], "one")), length)
    missing = mil.op("Max", missing, mil.ints([0], "none"))
    element = mil.op("Shape", ls, start=1)
    zeros = mil.op("Expand", mil.scalar(0, ls, "zero"), mil.op("Concat", missing, element, axis=0))
    return mil.op("Concat", ls, zeros, axis=0)


@op("list_write")
def list_write(mil: Mil, ls: ir.Value, index: ir.Value, value: ir.Value) -> ir.Value:
    """ScatterND at one place of the first axis; a list that is too short gets longer."""
    places = mil.reshape(mil.int64(index), [1, 1])
    written = mil.op(
        "ScatterND", _long_enough(mil, ls, places), places, mil.unsqueeze(mil.cast(value, mil.dtype(ls)), 0)
    )
    return _open(written, mil.fixed(value))


@op("list_scatter")
def list_scatter(mil: Mil, ls: ir.Value, indices: ir.Value, value: ir.Value) -> ir.Value:
    """ScatterND at places of the first axis; a list that is too short gets longer."""
    places = mil.unsqueeze(mil.int64(indices), 1)
    written = mil.op("ScatterND", _long_enough(mil, ls, places), places, mil.cast(value, mil.dtype(ls)))
    return _open(written, mil.fixed(value)[1:])


@op("list_read")
def list_read(mil: Mil, ls: ir.Value, index: ir.Value) -> ir.Value:
    """Gather of one place of the first axis."""
    return mil.op("Gather", ls, mil.reshape(mil.int64(index), []), axis=0)


@op("list_gather")
def list_gather(mil: Mil, ls: ir.Value, indices: ir.Value) -> ir.Value:
    """Gather of places of the first axis."""
    return mil.op("Gather", ls, mil.int64(indices), axis=0)


@op("list_length")
def list_length(mil: Mil, ls: ir.Value) -> ir.Value:
    """The first size."""
    return mil.squeeze(mil.op("Shape", ls, start=0, end=1), 0)


@op("classify")
def classify(mil: Mil, probabilities: ir.Value, *, classes: Const) -> list[Any]:
    """The probabilities as they are; the labels are metadata, in their order."""
    labels = classes.numpy().reshape(-1).tolist()
    count = mil.sizes(probabilities)[-1] if mil.rank(probabilities) else None
    mil.require(count in (None, len(labels)), f"{len(labels)} labels for {count} probabilities")
    mil.walker.metadata[LABELS] = json.dumps(labels)
    shown = ", ".join(str(label)[:40] for label in labels[:5]) + (", ..." if len(labels) > 5 else "")
    mil.warn(
        f"it is a classifier: {len(labels)} labels ({shown}), in the metadata {LABELS}; what it gives is their "
        "probabilities, in that order"
    )
    return [None, mil.op("Identity", probabilities)]
