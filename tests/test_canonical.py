"""The canonical dialect: what loading promises of any ONNX model of opset 7 and later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail as RuntimeFailure
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import hub
from hub.canonical import IR_VERSION, OPSET

F = TensorProto.FLOAT


def info(name: str, shape: Any, kind: int = F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weights(**arrays: Any) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]


def model(nodes: Any, inputs: Any, outputs: Any, opset: int = 18, init: Any = (), **more: Any) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(init))
    imports = [helper.make_opsetid("", opset), *more.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=more.pop("ir_version", 8), **more)


def reference(proto: onnx.ModelProto, *arrays: Any) -> list[Any]:
    """What ONNX Runtime, or what the standard's own evaluator where that refuses, makes of the model as it was."""
    try:
        return _in_onnx_runtime(proto, *arrays)
    except (RuntimeFailure, InvalidArgument):
        inputs = [value.name for value in proto.graph.input]
        return ReferenceEvaluator(proto).run(None, dict(zip(inputs, arrays, strict=True)))


def _in_onnx_runtime(proto: onnx.ModelProto, *arrays: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((i.name for i in session.get_inputs()), arrays, strict=True)))


def check(proto: onnx.ModelProto, *arrays: Any) -> hub.Model:
    """Loading keeps the numbers and gives the dialect."""
    expected = reference(proto, *arrays)
    loaded = hub.load(proto)
    assert loaded.ir.opset_imports[""] == OPSET
    assert loaded.ir.ir_version == IR_VERSION
    names = [node.name for node in loaded.ir.graph]
    values = [value.name for node in loaded.ir.graph for value in node.outputs if value.name]
    assert all(names)
    assert len(set(names)) == len(names)
    assert len(set(values)) == len(values)
    assert not any(node.op_type == "Constant" for node in loaded.ir.graph)
    got = list(loaded.run(list(arrays)).values())
    for e, g in zip(expected, got, strict=True):
        assert g.dtype == e.dtype
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-6)
    return loaded


IMAGE = np.random.default_rng(0).standard_normal((2, 3, 7, 8)).astype(np.float32)
ROWS = np.random.default_rng(1).standard_normal((2, 6)).astype(np.float32)
KERNEL = np.random.default_rng(2).standard_normal((4, 3, 3, 3)).astype(np.float32)


# -- opsets ------------------------------------------------------------------------------------------------

UPGRADES: dict[str, tuple[int, onnx.NodeProto, dict[str, Any], Any]] = {
    "Softmax of opset 7, flattened": (7, helper.make_node("Softmax", ["x"], ["y"]), {}, IMAGE),
    "Softmax of opset 11 at axis 2": (11, helper.make_node("Softmax", ["x"], ["y"], axis=2), {}, IMAGE),
    "LogSoftmax of opset 9": (9, helper.make_node("LogSoftmax", ["x"], ["y"]), {}, IMAGE),
    "Hardmax of opset 11": (11, helper.make_node("Hardmax", ["x"], ["y"]), {}, ROWS),
    "Hardmax of opset 11 at the last axis": (11, helper.make_node("Hardmax", ["x"], ["y"], axis=3), {}, IMAGE),
    "Resize of opset 10, linear": (
        10,
        helper.make_node("Resize", ["x", "k"], ["y"], mode="linear"),
        {"k": np.float32([1, 1, 2, 3])},
        IMAGE,
    ),
    "Upsample of opset 9, linear": (
        9,
        helper.make_node("Upsample", ["x", "k"], ["y"], mode="linear"),
        {"k": np.float32([1, 1, 2, 3])},
        IMAGE,
    ),
    "Resize of opset 10, nearest, smaller": (
        10,
        helper.make_node("Resize", ["x", "k"], ["y"], mode="nearest"),
        {"k": np.float32([1, 1, 0.6, 0.5])},
        IMAGE,
    ),
    "Resize of opset 10, nearest, larger by a fraction": (
        10,
        helper.make_node("Resize", ["x", "k"], ["y"], mode="nearest"),
        {"k": np.float32([1, 1, 1.5, 2.5])},
        IMAGE,
    ),
    "Upsample of opset 7, linear": (
        7,
        helper.make_node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 3.0], mode="linear"),
        {},
        IMAGE,
    ),
    "Split of opset 11 into equal parts": (11, helper.make_node("Split", ["x"], ["y", "z"], axis=1), {}, ROWS),
    "Split of opset 13 into equal parts": (13, helper.make_node("Split", ["x"], ["y", "z"], axis=1), {}, ROWS),
    "GroupNormalization of opset 18": (
        18,
        helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=3),
        {"s": np.float32([0.5, 1.5, 2]), "b": np.float32([1, 2, 3])},
        IMAGE,
    ),
    "RoiAlign of opset 10": (
        10,
        helper.make_node("RoiAlign", ["x", "r", "n"], ["y"], output_height=3, output_width=2, sampling_ratio=2),
        {"r": np.float32([[0, 0, 5, 5], [1, 1, 6, 4]]), "n": np.int64([0, 1])},
        IMAGE,
    ),
    "GridSample of opset 16": (
        16,
        helper.make_node("GridSample", ["x", "g"], ["y"], mode="bilinear"),
        {"g": np.random.default_rng(3).uniform(-1, 1, (2, 4, 5, 2)).astype(np.float32)},
        IMAGE,
    ),
    "MaxPool of opset 8": (
        8,
        helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2]),
        {},
        IMAGE,
    ),
    "AveragePool of opset 11, rounded up": (
        11,
        helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1),
        {},
        IMAGE,
    ),
    "LpPool of opset 11": (
        11,
        helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        {},
        IMAGE,
    ),
    "Scatter of opset 9": (
        9,
        helper.make_node("Scatter", ["x", "i", "u"], ["y"], axis=1),
        {"i": np.int64([[1], [0]]), "u": np.float32([[9], [8]])},
        ROWS,
    ),
    "OneHot of opset 9": (
        9,
        helper.make_node("OneHot", ["i2", "d", "v"], ["y"]),
        {"i2": np.int64([1, 0, 2]), "d": np.int64([3]), "v": np.float32([0, 5])},
        ROWS,
    ),
    "DepthToSpace of opset 7": (
        7,
        helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2),
        {},
        np.float32(np.arange(64)).reshape(1, 16, 2, 2),
    ),
    "ArgMax of opset 7": (7, helper.make_node("ArgMax", ["x"], ["i"], axis=1), {}, ROWS),
    "MeanVarianceNormalization of opset 9": (9, helper.make_node("MeanVarianceNormalization", ["x"], ["y"]), {}, IMAGE),
    "Sum of opset 7": (7, helper.make_node("Sum", ["x", "x", "k"], ["y"]), {"k": np.float32([2])}, ROWS),
    "Reshape of opset 7": (7, helper.make_node("Reshape", ["x", "k"], ["y"]), {"k": np.int64([0, -1])}, IMAGE),
    "LSTM of opset 7": (
        7,
        helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4),
        {
            "w": np.random.default_rng(4).standard_normal((1, 16, 5)).astype(np.float32) / 4,
            "r": np.random.default_rng(5).standard_normal((1, 16, 4)).astype(np.float32) / 4,
        },
        np.random.default_rng(6).standard_normal((3, 2, 5)).astype(np.float32),
    ),
    "BatchNormalization of opset 7": (
        7,
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=0.01),
        {k: np.linspace(0.5, 1.5, 3, dtype=np.float32) + i for i, k in enumerate("sbmv")},
        IMAGE,
    ),
    "Dropout of opset 7": (7, helper.make_node("Dropout", ["x"], ["y"], ratio=0.3), {}, IMAGE),
    "Dropout of opset 10": (10, helper.make_node("Dropout", ["x"], ["y"], ratio=0.3), {}, IMAGE),
    "Clip with attributes": (9, helper.make_node("Clip", ["x"], ["y"], min=-0.5, max=0.5), {}, IMAGE),
    "Pad with attributes": (9, helper.make_node("Pad", ["x"], ["y"], pads=[0, 0, 1, 2, 0, 0, 3, 0]), {}, IMAGE),
    "Slice with attributes": (
        9,
        helper.make_node("Slice", ["x"], ["y"], axes=[2, 3], starts=[1, 0], ends=[5, -1]),
        {},
        IMAGE,
    ),
    "Upsample of opset 7": (
        7,
        helper.make_node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 3.0], mode="nearest"),
        {},
        IMAGE,
    ),
    "Upsample of opset 9": (
        9,
        helper.make_node("Upsample", ["x", "k"], ["y"], mode="nearest"),
        {"k": np.float32([1, 1, 2, 2])},
        IMAGE,
    ),
    "Resize of opset 10": (
        10,
        helper.make_node("Resize", ["x", "k"], ["y"], mode="nearest"),
        {"k": np.float32([1, 1, 2, 2])},
        IMAGE,
    ),
    "Resize of opset 11": (
        11,
        helper.make_node("Resize", ["x", "r", "k"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"),
        {"r": np.float32([]), "k": np.float32([1, 1, 2, 2])},
        IMAGE,
    ),
    "ReduceMean with attributes": (
        13,
        helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0),
        {},
        IMAGE,
    ),
    "ReduceSum with attributes": (11, helper.make_node("ReduceSum", ["x"], ["y"], axes=[-1]), {}, IMAGE),
    "Squeeze with attributes": (11, helper.make_node("Unsqueeze", ["x"], ["y"], axes=[0, 3]), {}, ROWS),
    "TopK of opset 9": (9, helper.make_node("TopK", ["x"], ["y", "i"], k=2), {}, ROWS),
    "Gemm of opset 7": (
        7,
        helper.make_node("Gemm", ["x", "w", "b"], ["y"]),
        {"w": np.ones((6, 2), np.float32), "b": np.ones((1, 2), np.float32)},
        ROWS,
    ),
    "Split with attributes": (11, helper.make_node("Split", ["x"], ["y", "z"], axis=1, split=[2, 4]), {}, ROWS),
    "AveragePool of opset 7": (
        7,
        helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        {},
        IMAGE,
    ),
    "Cast of opset 7": (7, helper.make_node("Cast", ["x"], ["y"], to=F), {}, IMAGE),
    "Flatten of opset 7": (7, helper.make_node("Flatten", ["x"], ["y"]), {}, IMAGE),
    "Conv of opset 7": (7, helper.make_node("Conv", ["x", "w"], ["y"]), {"w": KERNEL}, IMAGE),
    "PRelu of opset 7": (
        7,
        helper.make_node("PRelu", ["x", "w"], ["y"]),
        {"w": np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1)},
        IMAGE,
    ),
    "Gather of opset 7": (7, helper.make_node("Gather", ["x", "w"], ["y"], axis=1), {"w": np.int64([2, 0])}, IMAGE),
}


@pytest.mark.parametrize("name", UPGRADES)
def test_upgrades_keep_the_numbers(name: str) -> None:
    opset, node, init, x = UPGRADES[name]
    outputs = [info(o, None, TensorProto.INT64 if o == "i" else F) for o in node.output]
    proto = model([node], [info("x", x.shape)], outputs, opset, weights(**init))
    check(proto, x)


@pytest.mark.parametrize("axis", [None, 0, 1, -2])
def test_a_hardmax_that_flattened_is_right_or_refused(axis: int | None) -> None:
    """ONNX's converter passes it on unchanged, although it meant something else before opset 13."""
    node = helper.make_node("Hardmax", ["x"], ["y"], name="hard", **({} if axis is None else {"axis": axis}))
    with pytest.raises(hub.UnsupportedOps, match=r"Hardmax.*hard"):
        hub.load(model([node], [info("x", IMAGE.shape)], [info("y", None)], 11))


def test_an_old_nearest_resize_of_unknown_scales_is_refused() -> None:
    """It takes the pixel before or behind, by whether the image grows."""
    nodes = [helper.make_node("Exp", ["k"], ["e"]), helper.make_node("Resize", ["x", "e"], ["y"], name="r")]
    proto = model(nodes, [info("x", IMAGE.shape), info("k", [4])], [info("y", None)], 10)
    with pytest.raises(hub.UnsupportedOps, match=r"(?s)Resize.*\[r\].*opset 11"):
        hub.load(proto)
    constant = numpy_helper.from_array(np.float32([1, 1, 2, 2]))
    nodes[0] = helper.make_node("Constant", [], ["e"], value=constant)
    check(model(nodes, [info("x", IMAGE.shape)], [info("y", None)], 10), IMAGE)


@pytest.mark.parametrize("opset", range(7, 29))
def test_every_opset_from_7(opset: int) -> None:
    """A small network in words that are the same at every opset."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Softmax", ["d"], ["y"], axis=1),
    ]
    same = [IMAGE]
    expected = reference(model(nodes, [info("x", IMAGE.shape)], [info("y", None)], 13, weights(w=KERNEL)), *same)
    loaded = hub.load(
        model(nodes, [info("x", IMAGE.shape)], [info("y", None)], opset, weights(w=KERNEL), ir_version=10)
    )
    assert loaded.ir.opset_imports[""] == OPSET
    np.testing.assert_allclose(loaded.run(same)["y"], expected[0], rtol=1e-5)


def test_newer_operators_are_refused_by_name() -> None:
    newest = onnx.defs.onnx_opset_version()
    later = [s for s in onnx.defs.get_all_schemas() if s.domain == "" and s.since_version > OPSET]
    if not later:
        pytest.skip(f"no operator has changed between opset {OPSET} and {newest}")
    for schema in later:
        inputs = [f"x{i}" for i in range(max(1, schema.min_input))]
        attributes = {
            n: 1 for n, a in schema.attributes.items() if a.required and a.type == onnx.defs.OpSchema.AttrType.INT
        }
        node = helper.make_node(schema.name, inputs, ["y"], name="the_new_one", **attributes)
        proto = model([node], [info(i, [2, 3]) for i in inputs], [info("y", None)], newest)
        with pytest.raises(hub.UnsupportedOps, match=rf"{schema.name}.*{schema.since_version}.*the_new_one"):
            hub.load(proto)


def test_an_opset_before_7_is_refused() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(hub.InvalidModel, match="older than 7"):
        hub.load(model([node], [info("x", [2])], [info("y", [2])], 6))


# -- functions, constants, names --------------------------------------------------------------------------------


def test_functions_are_inlined() -> None:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    double = helper.make_function(
        "mine", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], imports[:1]
    )
    body = [
        helper.make_node("Double", ["a"], ["t"], domain="mine"),
        helper.make_node("Double", ["t"], ["b"], domain="mine"),
    ]
    four = helper.make_function("mine", "Four", ["a"], ["b"], body, imports)
    nodes = [
        helper.make_node("Four", ["x"], ["m"], domain="mine"),
        helper.make_node("Four", ["m"], ["y"], domain="mine"),
    ]
    proto = model(nodes, [info("x", [2, 6])], [info("y", [2, 6])], imports=imports[1:], functions=[double, four])
    loaded = check(proto, ROWS)
    assert [node.op_type for node in loaded.ir.graph] == ["Add"] * 4
    assert not loaded.ir.functions


def test_functions_of_an_old_opset_are_upgraded() -> None:
    old = helper.make_opsetid("", 11)
    body = [helper.make_node("Softmax", ["a"], ["b"], axis=1)]
    function = helper.make_function("mine", "Soft", ["a"], ["b"], body, [old])
    node = helper.make_node("Soft", ["x"], ["y"], domain="mine")
    imports = [helper.make_opsetid("mine", 1)]
    check(model([node], [info("x", IMAGE.shape)], [info("y", None)], 11, imports=imports, functions=[function]), IMAGE)


def test_constants_become_weights_with_their_names() -> None:
    value = numpy_helper.from_array(np.float32([[1], [2]]))
    nodes = [
        helper.make_node("Constant", [], ["scale"], value=value),
        helper.make_node("Constant", [], ["shift"], value_float=0.5),
        helper.make_node("Mul", ["x", "scale"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["y"]),
    ]
    loaded = check(model(nodes, [info("x", [2, 6])], [info("y", [2, 6])]), ROWS)
    assert {"scale", "shift"} <= set(loaded.ir.graph.initializers)


def test_missing_and_repeated_node_names_are_mended() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Neg", ["a"], ["b"], name="same"),
        helper.make_node("Abs", ["b"], ["y"]),
    ]
    loaded = check(model(nodes, [info("x", [2, 6])], [info("y", [2, 6])]), ROWS)
    assert "same" in [node.name for node in loaded.ir.graph]


def test_names_in_subgraphs_that_repeat_those_outside() -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["inner"], name="n")], "b", [], [info("inner", [2, 6])])
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["inner2"], name="n")], "o", [], [info("inner2", [2, 6])])
    nodes = [
        helper.make_node("If", ["c"], ["v"], then_branch=branch, else_branch=other, name="n"),
        helper.make_node("Relu", ["v"], ["y"], name="n"),
    ]
    check(model(nodes, [info("x", [2, 6])], [info("y", [2, 6])], init=weights(c=np.array(True))), ROWS)


def test_nodes_in_any_order_and_nodes_without_use() -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["unused"]),
        helper.make_node("Abs", ["a"], ["y"]),
        helper.make_node("Relu", ["x"], ["a"]),
    ]
    proto = model(nodes, [info("x", [2, 6])], [info("y", [2, 6])], init=weights(w=np.ones(5, np.float32)))
    loaded = hub.load(proto)
    assert [node.op_type for node in loaded.ir.graph] == ["Relu", "Abs"]
    assert not loaded.ir.graph.initializers
    np.testing.assert_array_equal(loaded.run(ROWS)["y"], np.maximum(ROWS, 0))


def test_initializers_that_are_inputs_as_well() -> None:
    """IR 3 names every weight among the inputs."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    w = np.ones((6, 2), np.float32)
    proto = model([node], [info("x", [2, 6]), info("w", [6, 2])], [info("y", [2, 2])], 9, weights(w=w), ir_version=3)
    loaded = hub.load(proto)
    assert [i.name for i in loaded.inputs] == ["x"]
    np.testing.assert_allclose(loaded.run(ROWS)["y"], ROWS @ w, rtol=1e-5)


# -- auto_pad ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [3, 2]])
@pytest.mark.parametrize("kind", ["Conv", "ConvDilated", "MaxPool", "AveragePool", "AveragePoolPadded", "even"])
def test_auto_pad_is_written_out(kind: str, strides: list[int], mode: str) -> None:
    attributes: dict[str, Any] = {"auto_pad": mode, "strides": strides}
    if kind == "ConvDilated":
        attributes["dilations"] = [2, 2]
    if kind.startswith("Conv") or kind == "even":
        kernel = KERNEL[:, :, :2, :] if kind == "even" else KERNEL
        node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
        init = weights(w=kernel)
    else:
        attributes |= {"kernel_shape": [3, 2]} | ({"count_include_pad": 1} if kind.endswith("Padded") else {})
        node, init = helper.make_node(kind.removesuffix("Padded"), ["x"], ["y"], **attributes), []
    loaded = check(model([node], [info("x", IMAGE.shape)], [info("y", None)], 19, init), IMAGE)
    (canonical,) = loaded.ir.graph
    assert "auto_pad" not in canonical.attributes


def test_auto_pad_stays_where_sizes_are_open() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    loaded = check(model([node], [info("x", ["N", 3, "h", "w"])], [info("y", None)], 19, weights(w=KERNEL)), IMAGE)
    (canonical,) = loaded.ir.graph
    assert canonical.attributes.get_string("auto_pad") == "SAME_UPPER"
    fixed = hub.load(
        model([node], [info("x", ["N", 3, "h", "w"])], [info("y", None)], 19, weights(w=KERNEL)),
        inputs={"x": (2, 3, 7, 8)},
    )
    (canonical,) = fixed.ir.graph
    assert "auto_pad" not in canonical.attributes


def test_every_value_has_its_shape() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("Shape", ["b"], ["s"]),
        helper.make_node("Reshape", ["a", "s"], ["y"]),
    ]
    loaded = check(model(nodes, [info("x", IMAGE.shape)], [info("y", None)], init=weights(w=KERNEL)), IMAGE)
    for node in loaded.ir.graph:
        for value in node.outputs:
            assert value.shape is not None
            assert value.dtype is not None
    assert loaded.outputs[0].shape == (2, 120)


def test_loading_leaves_a_live_model_as_it_was(tmp_path: Path) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"])
    proto = model([node], [info("x", [2, 6])], [info("y", [2, 6])], 11)
    before = proto.SerializeToString()
    hub.load(proto)
    assert proto.SerializeToString() == before
