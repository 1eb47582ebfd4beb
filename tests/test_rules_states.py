"""The rules about initial states and about parts of shapes: before equals after in ONNX Runtime, and where a rule must
not fire it says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import hub
from exporters.rules.fold_shapes import fold_shapes
from exporters.rules.static_shapes import static_shapes
from exporters.rules.zero_states import zero_states
from hub.model import Model

H, D, T = 4, 3, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(op: str, state: list[Any], constants: dict[str, Any], direction: str = "forward") -> Model:
    """A layer whose initial states are what the nodes of `state` make, `h` and for an LSTM `c`."""
    rng = np.random.default_rng(0)
    count = 1 + (direction == "bidirectional")
    weights = {
        "W": rng.normal(0, 0.5, (count, GATES[op] * H, D)).astype(np.float32),
        "R": rng.normal(0, 0.5, (count, GATES[op] * H, H)).astype(np.float32),
        **constants,
    }
    given = ["x", "W", "R", "", "", "h", *(["c"] if op == "LSTM" else [])]
    layer = helper.make_node(op, given, ["y", "last"], name="layer", hidden_size=H, direction=direction)
    graph = helper.make_graph(
        [*state, layer],
        "net",
        [helper.make_tensor_value_info("x", 1, [T, "N", D])],
        [helper.make_tensor_value_info("y", 1, None), helper.make_tensor_value_info("last", 1, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return hub.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))


def made_of_the_batch(op: str, fill: float, count: int = 1) -> tuple[list[Any], dict[str, Any]]:
    """States as programs make them: a number expanded to a shape that has the batch, of which a part is taken."""
    constants = {
        "fill": np.full((1,), fill, np.float32),
        "one": np.array([1]),
        "rows": np.array([count + 1]),
        "units": np.array([H]),
        "zero": np.array([0]),
        "end": np.array([count]),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], name="batch", start=1, end=2),
        helper.make_node("Concat", ["rows", "batch", "units"], ["shape"], name="shape", axis=0),
        helper.make_node("Expand", ["fill", "shape"], ["all"], name="all"),
        helper.make_node("Slice", ["all", "zero", "end", "zero"], ["h"], name="part"),
    ]
    if op == "LSTM":
        nodes.append(helper.make_node("Identity", ["h"], ["c"], name="copy"))
    return nodes, constants


def same(before: Model, after: Model, *batches: int) -> None:
    for batch in batches:
        feeds = {"x": np.random.default_rng(batch).normal(0, 1, (T, batch, D)).astype(np.float32)}
        for name, expected in before.run(feeds).items():
            np.testing.assert_allclose(after.run(feeds)[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_zeros_for_any_batch_are_no_state(op: str, direction: str) -> None:
    model = recurrent(op, *made_of_the_batch(op, 0.0, 1 + (direction == "bidirectional")), direction)
    changed = Model(model.ir.clone())
    assert zero_states(changed.ir).changed == ["layer"]
    assert [node.op_type for node in changed.ir.graph] == [op]
    same(model, changed, 1, 3)


@pytest.mark.parametrize("op", GATES)
def test_other_states_stay(op: str) -> None:
    model = recurrent(op, *made_of_the_batch(op, 0.5))
    applied = zero_states(model.ir)
    assert not applied.changed
    assert applied.left == {"layer": "its initial state is not zeros"}


def test_of_two_states_the_one_that_is_not_zeros_stays() -> None:
    nodes, constants = made_of_the_batch("GRU", 0.0)
    nodes.append(helper.make_node("Cos", ["h"], ["c"], name="ones"))
    model = recurrent("LSTM", nodes, constants)
    changed = Model(model.ir.clone())
    assert zero_states(changed.ir).changed == ["layer"]
    (layer,) = [node for node in changed.ir.graph if node.op_type == "LSTM"]
    assert layer.inputs[5] is None
    assert layer.inputs[6] is not None
    same(model, changed, 2)


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_a_shape_full_of_a_number(fill: float) -> None:
    nodes, constants = made_of_the_batch("GRU", 0.0)
    nodes[2] = helper.make_node(
        "ConstantOfShape", ["shape"], ["all"], name="all", value=helper.make_tensor("value", 1, [1], [fill])
    )
    model = recurrent("GRU", nodes, constants)
    changed = Model(model.ir.clone())
    assert bool(zero_states(changed.ir).changed) == (fill == 0.0)
    same(model, changed, 1, 3)


def test_known_parts_of_a_shape_with_an_open_batch_are_constants() -> None:
    """What the directions of a layer are put together with: (T, N, 2, H) to (T, N, 2 * H)."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], name="turn", perm=[1, 0, 2, 3]),
        helper.make_node("Shape", ["turned"], ["shape"], name="shape"),
        *(helper.make_node("Slice", ["shape", f"i{k}", f"i{k + 1}"], [f"s{k}"], name=f"s{k}") for k in range(4)),
        helper.make_node("Mul", ["s2", "s3"], ["flat"], name="flat"),
        helper.make_node("Concat", ["s0", "s1", "flat"], ["asked"], name="asked", axis=0),
        helper.make_node("Reshape", ["turned", "asked"], ["y"], name="reshape"),
        helper.make_node("Shape", ["y"], ["last"], name="last", start=2),
        helper.make_node("Cast", ["last"], ["width"], name="width", to=1),
        helper.make_node("Mul", ["y", "width"], ["z"], name="scaled"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", T, 2, H])],
        [helper.make_tensor_value_info("z", 1, None)],
        [numpy_helper.from_array(np.array([k]), f"i{k}") for k in range(5)],
    )
    model = hub.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    changed = Model(model.ir.clone())
    fold_shapes(changed.ir)
    static_shapes(changed.ir)
    assert "Shape" not in [node.op_type for node in changed.ir.graph]
    for batch in (1, 3):
        feeds = {"x": np.random.default_rng(0).normal(0, 1, (batch, T, 2, H)).astype(np.float32)}
        np.testing.assert_array_equal(changed.run(feeds)["z"], model.run(feeds)["z"])


def test_the_checker_takes_what_the_rule_leaves() -> None:
    model = recurrent("LSTM", *made_of_the_batch("LSTM", 0.0))
    zero_states(model.ir)
    onnx.checker.check_model(ir.to_proto(model.ir), full_check=True)


def test_what_is_picked_from_other_numbers_is_no_shape() -> None:
    """An infinity that a program copies, and more entries than a shape has."""
    nodes = [
        helper.make_node("Identity", ["low"], ["copy"], name="copy"),
        helper.make_node("Max", ["x", "copy"], ["y"], name="bound"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", 3])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.array(-np.inf, np.float32), "low")],
    )
    model = hub.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    changed = Model(model.ir.clone())
    fold_shapes(changed.ir)
    feeds = {"x": np.ones((2, 3), np.float32)}
    np.testing.assert_array_equal(changed.run(feeds)["y"], model.run(feeds)["y"])


@pytest.mark.parametrize("where", [0, 1, -1])
def test_a_row_of_a_table_is_not_a_size(where: int) -> None:
    table = np.array([[1, 2], [3, 4]])
    nodes = [
        helper.make_node("Gather", ["table", "where"], ["row"], name="row"),
        helper.make_node("Cast", ["row"], ["numbers"], name="numbers", to=1),
        helper.make_node("Add", ["x", "numbers"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", 2])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array(where), "where")],
    )
    model = hub.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    changed = Model(model.ir.clone())
    fold_shapes(changed.ir)
    feeds = {"x": np.zeros((2, 2), np.float32)}
    np.testing.assert_array_equal(changed.run(feeds)["y"], np.array([table[where]] * 2, np.float32))


def test_a_place_that_is_the_open_batch_is_not_followed() -> None:
    """Slices of a shape from an entry on that is only known at run time."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Shape", ["x"], ["batch"], name="batch", end=1),
        helper.make_node("Slice", ["shape", "batch", "end"], ["part"], name="part"),
        helper.make_node("Gather", ["shape", "batch"], ["size"], name="size"),
        helper.make_node("Concat", ["part", "size"], ["all"], name="all", axis=0),
        helper.make_node("Cast", ["all"], ["y"], name="y", to=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", 2, 7])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.array([3]), "end")],
    )
    model = hub.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    changed = Model(model.ir.clone())
    fold_shapes(changed.ir)
    for batch in (1, 2):
        feeds = {"x": np.zeros((batch, 2, 7), np.float32)}
        np.testing.assert_array_equal(changed.run(feeds)["y"], model.run(feeds)["y"])
