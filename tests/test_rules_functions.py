"""The rule that replaces operators by ONNX's own definition of them: before equals after in ONNX Runtime, names and
layers stay, and what a target has a form of, or nobody defines, is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import hub
from exporters.cntk.ops import OPS
from exporters.rules import Applied
from exporters.rules.expand_functions import expand_functions
from hub.canonical import LAYER
from hub.model import Model
from hub.optable import OpTable


def network(nodes: Sequence[Any], weights: dict[str, Any], outputs: Sequence[str], **inputs: Sequence[Any]) -> Model:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return hub.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10))


def expanded(model: Model, *batches: int, table: OpTable = OPS) -> tuple[Applied, list[ir.Node]]:
    """What the rule did, and the nodes that are there then, if they compute what there was."""
    changed = Model(model.ir.clone())
    applied = expand_functions(changed.ir, table)
    onnx.checker.check_model(ir.to_proto(changed.ir), full_check=True)
    assert [value.name for value in changed.ir.graph.outputs] == [value.name for value in model.ir.graph.outputs]
    rng = np.random.default_rng(0)
    for batch in batches or (1, 3):
        feeds = {
            info.name: rng.normal(0, 1, [n if isinstance(n, int) else batch for n in info.shape]).astype(np.float32)
            for info in model.inputs
        }
        after = changed.run(feeds)
        for name, expected in model.run(feeds).items():
            np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-5)
    return applied, list(changed.ir.graph)


def unlike(nodes: Sequence[ir.Node]) -> bool:
    """Whether no two nodes, and no two values, have one name."""
    values = [value.name for node in nodes for value in node.outputs]
    return len({node.name for node in nodes}) == len(nodes) and len({*values}) == len(values)


def test_attention_of_the_batch_that_comes() -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="attention", scale=0.3)
    model = network([node], {}, ["y"], q=["N", 2, 5, 4], k=["N", 2, 6, 4], v=["N", 2, 6, 3])
    applied, nodes = expanded(model)
    assert applied.changed == ["attention"]
    assert "Attention" not in {node.op_type for node in nodes}
    assert {node.metadata_props[LAYER] for node in nodes} == {"attention"}


def test_one_operator_twice() -> None:
    """Each has the names of its own nodes, values and weights."""
    table = np.random.default_rng(0).normal(0, 1, (1, 5, 2)).astype(np.float32)
    nodes = [
        helper.make_node("RotaryEmbedding", ["x", "cos", "sin"], ["a"], name="rotation"),
        helper.make_node("RotaryEmbedding", ["a", "cos", "sin"], ["y"], name="again", interleaved=1),
    ]
    model = network(nodes, {"cos": np.cos(table), "sin": np.sin(table)}, ["y", "a"], x=[1, 3, 5, 4])
    applied, nodes_after = expanded(model, 1)
    assert applied.changed == ["rotation", "again"]
    assert unlike(nodes_after)


def test_an_output_that_the_target_does_not_have() -> None:
    """Of two normalizations, the one whose mean is used."""
    scale = np.linspace(0.5, 2, 4).astype(np.float32)
    nodes = [
        helper.make_node("LayerNormalization", ["x", "s"], ["a"], name="plain", axis=-1),
        helper.make_node("LayerNormalization", ["a", "s"], ["b", "mean"], name="told", axis=-1),
        helper.make_node("Add", ["b", "mean"], ["y"], name="sum"),
    ]
    applied, nodes_after = expanded(network(nodes, {"s": scale}, ["y"], x=["N", 3, 4]))
    assert applied.changed == ["told"]
    assert [node.name for node in nodes_after if node.op_type == "LayerNormalization"] == ["plain"]


def test_an_input_that_is_the_result() -> None:
    """Its name as an output stays: CenterCropPad to the size that there is, of a cast to the type that there is."""
    nodes = [
        helper.make_node("CastLike", ["x", "x"], ["y"], name="cast"),
        helper.make_node("CenterCropPad", ["x", "size"], ["z"], name="crop", axes=[1]),
    ]
    applied, nodes_after = expanded(network(nodes, {"size": np.array([3])}, ["y", "z"], x=["N", 3]))
    assert applied.changed == ["cast", "crop"]
    assert unlike(nodes_after)


@pytest.mark.parametrize("op", ["Cos", "Softmax", "Sigmoid"])
def test_what_the_target_has_stays(op: str) -> None:
    applied, nodes = expanded(network([helper.make_node(op, ["x"], ["y"], name="layer")], {}, ["y"], x=["N", 3]))
    assert not applied.changed
    assert not applied.left
    assert [node.op_type for node in nodes] == [op]


def test_what_nobody_defines_stays() -> None:
    applied, _ = expanded(network([helper.make_node("Det", ["x"], ["y"], name="layer")], {}, ["y"], x=["N", 3, 3]))
    assert applied.left == {"layer": "ONNX does not define Det by other operators"}


def test_a_definition_that_the_target_cannot_say_stays() -> None:
    """HardSwish is x * HardSigmoid(x), and for that there is neither a form here nor one for what defines it."""
    table = OpTable("another")

    @table("Mul")
    def product(emit: Any, x: Any, y: Any) -> None:
        """A form of one operator."""

    model = network([helper.make_node("HardSwish", ["x"], ["y"], name="layer")], {}, ["y"], x=["N", 3])
    changed = model.ir.clone()
    assert expand_functions(changed, table).left == {"layer": "its definition has HardSigmoid"}
    assert [node.op_type for node in changed.graph] == ["HardSwish"]


def test_a_definition_within_a_definition() -> None:
    table = OpTable("another")

    @table("Mul", "Add", "Max", "Min")
    def of_two(emit: Any, x: Any, y: Any) -> None:
        """A form of some operators."""

    @table("Cast")
    def cast(emit: Any, x: Any, *, to: int, saturate: int, round_mode: str) -> None:
        """A form of what defines CastLike, which is in the definition of HardSigmoid."""

    model = network([helper.make_node("HardSwish", ["x"], ["y"], name="layer")], {}, ["y"], x=["N", 3])
    applied, nodes = expanded(model, table=table)
    assert applied.changed == ["layer"]
    assert {node.op_type for node in nodes} == {"Cast", "Mul", "Add", "Max", "Min"}
    assert unlike(nodes)


def test_a_definition_with_a_graph_of_the_node_stays() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "body",
        [helper.make_tensor_value_info("a", 1, None)],
        [helper.make_tensor_value_info("b", 1, None)],
    )
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"], name="sequence"),
        helper.make_node("SequenceMap", ["s"], ["t"], name="map", body=body),
        helper.make_node("SequenceAt", ["t", "first"], ["y"], name="at"),
    ]
    model = network(nodes, {"first": np.array(0)}, ["y"], x=["N", 3])
    assert expand_functions(model.ir, OPS).left["map"] == "its definition depends on a graph of its own"
