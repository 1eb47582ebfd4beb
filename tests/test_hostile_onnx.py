"""ONNX files that lie: opsets, operators, shapes, external data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hostile import bounded, refused
from onnx import TensorProto, helper

import hub


def onnx_file(path: Path, **changes: Any) -> Path:
    """A small valid ONNX model with changes."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    w = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    nodes = changes.pop("nodes", [helper.make_node("MatMul", ["x", "w"], ["y"], name="mul")])
    graph = helper.make_graph(nodes, "g", [x], changes.pop("outputs", [y]), changes.pop("weights", [w]))
    opset = [helper.make_opsetid(changes.pop("domain", ""), changes.pop("opset", 18))]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=changes.pop("ir_version", 9)), path)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return tmp_path / "net.onnx"


def test_the_onnx_file_made_here_is_a_good_one(net: Path) -> None:
    (got,) = hub.load(onnx_file(net)).run(np.ones((2, 2), np.float32)).values()
    np.testing.assert_array_equal(got, np.full((2, 3), 2))


@pytest.mark.parametrize("opset", [1, 6, 0, -1, 10**9])
def test_an_opset_that_is_too_old_or_does_not_exist(opset: int, net: Path, tmp_path: Path) -> None:
    onnx_file(net, opset=opset)
    if opset == 10**9:
        bounded(net, tmp_path)  # what its operators mean there, nobody knows yet; MatMul has not changed
    else:
        refused(net, tmp_path, str(opset))


def test_an_operator_that_does_not_exist(net: Path, tmp_path: Path) -> None:
    path = onnx_file(net, nodes=[helper.make_node("MatMull", ["x", "w"], ["y"], name="mul")])
    refused(path, tmp_path, "MatMull")


def test_an_operator_of_another_domain_is_refused_only_by_who_cannot_say_it(net: Path, tmp_path: Path) -> None:
    node = helper.make_node("Anything", ["x", "w"], ["y"], name="mul", domain="com.example")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    w = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    graph = helper.make_graph([node], "g", [x], [y], [w])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), net)
    bounded(net, tmp_path)
    with pytest.raises(hub.HubError):
        hub.load(net).run(np.ones((2, 2), np.float32))


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("MatMul", ["x", "nothing"], ["y"])],
        [helper.make_node("MatMul", ["x"], ["y"])],
        [helper.make_node("MatMul", ["x", "w", "w"], ["y"])],
        [helper.make_node("MatMul", ["x", "w"], ["z"])],
        [helper.make_node("MatMul", ["x", "w"], ["y"], transA=1)],
        [
            helper.make_node("Add", ["x", "b"], ["a"]),
            helper.make_node("Identity", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["y"]),
        ],
        [helper.make_node("Relu", ["y"], ["y"])],
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_node("", ["x", "w"], ["y"])],
        [helper.make_node("Softmax", ["x"], ["y"], axis="one")],
    ],
    ids=[
        "missing input", "one input", "three inputs", "other output", "attribute", "cycle", "itself", "twice", "no op",
        "attribute type",
    ],
)  # fmt: skip
def test_graphs_that_are_wrong(nodes: list[onnx.NodeProto], net: Path, tmp_path: Path) -> None:
    refused(onnx_file(net, nodes=nodes), tmp_path)


@pytest.mark.parametrize(
    "node", [("MatMul", "w", "w"), ("Reshape", "x", "w"), ("Mod", "x", "w")], ids=lambda node: node[0]
)
def test_graphs_whose_shapes_or_types_do_not_fit(node: tuple[str, str, str], net: Path) -> None:
    """The standard's checker does not look; ONNX Runtime does, and its error is one of the package."""
    onnx_file(net, nodes=[helper.make_node(node[0], list(node[1:]), ["y"])])
    with pytest.raises(hub.HubError):
        hub.load(net).run(np.ones((2, 2), np.float32))


def test_duplicate_weights_and_inputs(net: Path, tmp_path: Path) -> None:
    onnx_file(net)
    proto = onnx.load(net)
    proto.graph.initializer.append(proto.graph.initializer[0])
    onnx.save(proto, net)
    bounded(net, tmp_path)
    proto = onnx.load(onnx_file(net))
    proto.graph.input.append(proto.graph.input[0])
    onnx.save(proto, net)
    bounded(net, tmp_path)


def test_weights_whose_data_do_not_fit_their_shape(net: Path, tmp_path: Path) -> None:
    for change in (
        {"dims": [2, 3], "data_type": 1, "raw_data": bytes(20)},
        {"dims": [1 << 40, 1 << 40], "data_type": 1, "raw_data": bytes(24)},
        {"dims": [-2, -3], "data_type": 1, "raw_data": bytes(24)},
        {"dims": [2, 3], "data_type": 99, "raw_data": bytes(24)},
        {"dims": [2, 3], "data_type": 0, "raw_data": bytes(24)},
        {"dims": [2, 3], "data_type": 1},
    ):
        refused(onnx_file(net, weights=[TensorProto(name="w", **change)]), tmp_path)


def outside(location: str, offset: int = 0, length: int = 24) -> TensorProto:
    tensor = TensorProto(name="w", dims=[2, 3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_bytes(bytes(100))
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "sub").symlink_to(tmp_path)
    net = home / "net.onnx"
    for location in ("../secret", str(tmp_path / "secret"), "link", "sub/secret", "a/../../secret", "//etc/passwd", ""):
        with pytest.raises(hub.InvalidModel, match=r"outside|does not exist|directory"):
            hub.load(onnx_file(net, weights=[outside(location)]))
    with pytest.raises(hub.InvalidModel, match="does not exist"):
        hub.load(onnx_file(net, weights=[outside("missing.data")]))
    with pytest.raises(hub.HubError):
        hub.load(onnx_file(net, weights=[outside("net\0.data")]))


def test_external_data_that_is_too_short(tmp_path: Path) -> None:
    net = tmp_path / "net.onnx"
    (tmp_path / "net.data").write_bytes(bytes(30))
    for offset, length in ((8, 24), (0, 1 << 40), (1 << 62, 24), (-8, 24), (0, 12), (0, -1)):
        refused(onnx_file(net, weights=[outside("net.data", offset, length)]), tmp_path, "net.data")
    assert hub.load(onnx_file(net, weights=[outside("net.data", 4)])).layers


def test_external_data_of_a_constant_or_a_subgraph(tmp_path: Path) -> None:
    """Not only initializers of the main graph name files."""
    (tmp_path / "secret").write_bytes(bytes(100))
    home = tmp_path / "home"
    home.mkdir()
    tensor = outside("../secret")
    constant = helper.make_node("Constant", [], ["w"], name="c", value=tensor)
    net = onnx_file(home / "net.onnx", nodes=[constant, helper.make_node("MatMul", ["x", "w"], ["y"])], weights=[])
    refused(net, tmp_path, "outside")
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3])
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "branch", [], [out], [tensor])
    condition = onnx.numpy_helper.from_array(np.array(True), "c")
    choice = helper.make_node("If", ["c"], ["v"], then_branch=branch, else_branch=branch)
    net = onnx_file(
        home / "net.onnx", nodes=[choice, helper.make_node("MatMul", ["x", "v"], ["y"])], weights=[condition]
    )
    refused(net, tmp_path, "outside")


def test_functions_that_call_themselves(net: Path, tmp_path: Path) -> None:
    onnx_file(net)
    proto = onnx.load(net)
    body = [helper.make_node("F", ["a", "b"], ["c"], domain="f")]
    opsets = [helper.make_opsetid("f", 1)]
    proto.functions.append(helper.make_function("f", "F", ["a", "b"], ["c"], body, opsets))
    proto.opset_import.append(opsets[0])
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "F", "f"
    onnx.save(proto, net)
    refused(net, tmp_path)
