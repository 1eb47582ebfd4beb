"""CNTK files that lie: wire format, values, functions, sizes, graphs; and damaged copies of good ones."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cntk_files import POOL, Net, array, recurrence, small
from hostile import refused
from hostile_child import damaged

import hub
from hub import dnn
from hub.dnn import BATCH, FREE, Axis, Float, Int, Shape

BIG = 1_000_000_000
Tree = dict[str, Any]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return small().save(tmp_path / "net.dnn")


def function(net: Net, uid: str) -> Tree:
    return next(f for f in net.functions if f["uid"] == uid)


def variable(net: Net, uid: str) -> Tree:
    return next(v for v in net.inputs if v["uid"] == uid)


def test_the_files_made_here_are_good_ones(good: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 8)).astype(np.float32)
    (y,) = hub.load(good).run(x).values()
    assert y.shape == (2, 5)
    model = hub.load(recurrence().save(tmp_path / "rnn.dnn"))
    steps = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    h, weight = np.full((2, 4), model_first(model), np.float32), model_weight(model)
    expected = []
    for step in range(3):
        h = np.tanh(steps[:, step] + h @ weight)
        expected.append(h)
    np.testing.assert_allclose(model.run(steps)["h"], np.stack(expected, 1), rtol=1e-5, atol=1e-6)


def model_first(model: hub.Model) -> float:
    return float(_initializer(model, "/first")[0])


def model_weight(model: hub.Model) -> np.ndarray:
    return _initializer(model, "/H")


def _initializer(model: hub.Model, end: str) -> np.ndarray:
    (value,) = (v for key, v in model.ir.graph.initializers.items() if key.endswith(end))
    assert value.const_value is not None
    return value.const_value.numpy()


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".dnn", ".model"])
@pytest.mark.parametrize(
    "content", [b"", b"\n  \n", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04" + b"x" * 50, b"<html><body>404</body></html>"]
)
def test_files_that_are_something_else(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    refused(path, tmp_path)


def test_a_file_of_cntk_1(tmp_path: Path) -> None:
    path = tmp_path / "old.model"
    path.write_bytes("BCN\0".encode("utf-16-le") + "BVersion\0".encode("utf-16-le") + bytes(100))
    refused(path, tmp_path, "is of CNTK 1; CNTK 2 brings it to the current format", ".save(")


def test_a_directory_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "net.dnn").mkdir()
    refused(tmp_path / "net.dnn", tmp_path, "is a directory")
    with pytest.raises(hub.UsageError, match="does not exist"):
        hub.load(tmp_path / "nothing.dnn")


def test_what_is_told_by_content(good: Path, tmp_path: Path) -> None:
    for name in ("net", "net.bin", "net.onnx"):
        (tmp_path / name).write_bytes(good.read_bytes())
        assert hub.load(tmp_path / name).source == "cntk"


# -- the wire format ---------------------------------------------------------------------------------------------------


def test_every_truncation_is_an_error_that_says_where(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    path = tmp_path / "cut.dnn"
    for size in [*range(0, 400), *range(400, len(data), 13)]:
        path.write_bytes(data[:size])
        with pytest.raises(hub.InvalidModel) as caught:
            hub.load(path)
        assert "cut.dnn" in str(caught.value)


@pytest.mark.parametrize("apart", [0, 10, 11, 200])
def test_a_large_file_that_is_cut_or_has_more(apart: int, tmp_path: Path) -> None:
    path = tmp_path / "large.dnn"
    dnn.write(path, small().tree, limit=1)
    data = path.read_bytes()
    assert len(hub.load(path).layers) == 7
    path.write_bytes(data + bytes(8))
    refused(path, tmp_path, "8 bytes behind the last array are left")
    path.write_bytes(data[: len(data) - 1 - apart])
    refused(path, tmp_path, "is truncated")
    path.write_bytes(data[:4] + struct.pack("<I", len(data)) + data[8:])
    refused(path, tmp_path, "its message has")


def test_arrays_whose_order_cannot_be_told(tmp_path: Path) -> None:
    path = tmp_path / "large.dnn"
    dnn.write(path, {**small().tree, "more": array(np.ones(3))}, limit=1)
    refused(path, tmp_path, "the order of the arrays in inputs, more cannot be told")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x12\xff\xff\xff\xff\x07" + b"x" * 100, "at byte 0: field 2 needs 2147483647 bytes"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"x" * 100, "at byte 0"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than 10 bytes"),
        (b"\x13", "wire type 3"),
        (b"\x02\x00", "field 0"),
        (b"\x1a\x00", "a dictionary has no field 3"),
        (b"\x12\x04\x0a\x02\xff\xfe", "byte 4: a name is not text"),
        (b"\x12\x04\x1a\x02ab", "an entry has no field 3"),
        (b"\x12\x09\x0a\x01k\x12\x04\x10\x02\x18\x01", "a value of type 2 holds one of type 1"),
        (b"\x12\x07\x0a\x01k\x12\x02\x10\x63", "a value of type 99"),
        (b"\x12\x0b\x0a\x01k\x12\x06\x10\x01\x18\x01\x18\x01", "or two"),
        (b"\x12\x0b\x0a\x01k\x12\x06\x10\x07\x4a\x02\x0d\x00", "needs"),
        (b"\x08\x02", "it has no functions"),
    ],
)
def test_wire_formats_that_lie(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.dnn"
    path.write_bytes(data)
    refused(path, tmp_path, says)


def test_dictionaries_nested_deep(tmp_path: Path) -> None:
    tree: Any = {}
    for _ in range(40):
        tree = {"a": [tree]}
    path = tmp_path / "net.dnn"
    dnn.write(path, tree)
    refused(path, tmp_path, "more than 24 levels")


def test_more_values_than_a_model_has(tmp_path: Path) -> None:
    path = tmp_path / "net.dnn"
    many = b"\x0a\x00" * 3_000_000
    vector = b"\x10\x09\x5a" + dnn.writer.varint(len(many)) + many
    entry = b"\x0a\x01k\x12" + dnn.writer.varint(len(vector)) + vector
    path.write_bytes(b"\x12" + dnn.writer.varint(len(entry)) + entry)
    start = time.monotonic()
    refused(path, tmp_path, "over 2000000 values")
    assert time.monotonic() - start < 60


def test_the_last_of_two_keys_holds(tmp_path: Path) -> None:
    path = tmp_path / "net.dnn"
    path.write_bytes(dnn.encode({"k": 1, "j": 2}) + dnn.encode({"k": 3}))
    assert dnn.read(path) == {"j": 2, "k": 3}


def test_all_types_come_back(tmp_path: Path) -> None:
    values = {
        "a": True, "b": False, "c": Int(-5), "d": 0, "e": (1 << 64) - 1, "f": Float(0.5), "g": 1e-300, "h": "caf\xe9",
        "i": Shape((1, FREE)), "j": Shape(), "k": Axis(-1), "l": BATCH, "m": [], "n": [1, [Int(0)]], "o": {}, "p": None,
    }  # fmt: skip
    dnn.write(tmp_path / "net.dnn", values)
    found = dnn.read(tmp_path / "net.dnn")
    assert found == values
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in values.items()}


def test_arrays_that_lie(tmp_path: Path) -> None:
    for shape, data in (((3, 3), np.ones(8)), ((BIG, BIG, BIG), np.ones(4)), ((), np.ones(2)), ((4,), np.ones(0))):
        net = small()
        numbers = array(data)
        variable(net, "W")["value"] = numbers.__class__(1, Shape(shape), numbers.put)
        path = tmp_path / "net.dnn"
        content = dnn.encode({}) + _with_array(shape, data.astype("<f4").tobytes())
        path.write_bytes(content)
        refused(path, tmp_path, "an array", "byte")


def _with_array(shape: tuple[int, ...], data: bytes) -> bytes:
    from hub.wire import delimited, varint

    sizes = b"".join(varint(size) for size in shape)
    inner = b"\x08\x01\x1a" + varint(len(sizes) + 2) + b"\x0a" + varint(len(sizes)) + sizes
    values = b"\x0a" + varint(len(data)) + data
    inner += delimited(4, len(values)) + values
    value = b"\x10\x0b" + delimited(13, len(inner)) + inner
    entry = b"\x0a\x01k" + delimited(2, len(value)) + value
    return delimited(2, len(entry)) + entry


# -- the model ---------------------------------------------------------------------------------------------------------

Change = Callable[[Net], Any]

WRONG: dict[str, tuple[Change, str]] = {
    "no uid": (lambda n: function(n, "conv").pop("uid"), "has no 'uid'"),
    "op as text": (lambda n: function(n, "conv").update(inputs="W"), "'inputs' is of type str"),
    "inputs that are numbers": (lambda n: function(n, "conv").update(inputs=[1]), "'inputs' are not names"),
    "an unknown value": (lambda n: function(n, "relu").update(inputs=["nothing_Output_0"]), "there is no value"),
    "an output that is none": (lambda n: function(n, "relu").update(inputs=["bn_Output_1"]), "has 1 outputs"),
    "an output without end": (lambda n: function(n, "relu").update(inputs=["bn_Output_" + "9" * 50]), "has 1 outputs"),
    "too few inputs": (lambda n: function(n, "sum").update(inputs=["b"]), "1 inputs do not fit"),
    "too many inputs": (lambda n: function(n, "relu").update(inputs=["b", "b"]), "2 inputs do not fit"),
    "attributes as a list": (lambda n: function(n, "conv").update(attributes=[1]), "'attributes' is of type list"),
    "a stride of text": (lambda n: function(n, "conv")["attributes"].update(strides="2"), "its strides is of type str"),
    "a stride of 0": (lambda n: function(n, "conv")["attributes"].update(strides=Shape((0, 1, 1))), "stride 0"),
    "an absurd stride": (lambda n: function(n, "conv")["attributes"].update(strides=Shape((1 << 40,))), "stride"),
    "an absurd pad": (lambda n: _padded(n, 1 << 40), "a padding of"),
    "groups of 0": (lambda n: function(n, "conv")["attributes"].update(groups=0), "0 groups"),
    "another kernel": (lambda n: function(n, "conv")["attributes"].update(kernelShape=Shape((9,))), "a kernel of (9,)"),
    "padding of numbers": (
        lambda n: function(n, "conv")["attributes"].update(autoPadding=[3]),
        "its autoPadding are not of type bool",
    ),
    "a window of 0": (lambda n: function(n, "pool")["attributes"].update(strides=Shape((0,))), "stride 0"),
    "pooling of another type": (lambda n: function(n, "pool")["attributes"].update(poolingType=7), "type 7"),
    "a window of many axes": (
        lambda n: function(n, "pool")["attributes"].update(poolingWindowShape=Shape((2,) * 9)),
        "a window of 9 axes",
    ),
    "a window that is too large": (
        lambda n: function(n, "pool")["attributes"].update(poolingWindowShape=Shape((50, 50))),
        "'pool' (Pooling)",
    ),
    "an epsilon of text": (lambda n: function(n, "bn")["attributes"].update(epsilon="x"), "epsilon is of type str"),
    "an output rank beyond": (lambda n: function(n, "fc")["attributes"].update(outputRank=9), "output rank 9"),
    "an output rank of a boolean": (lambda n: function(n, "fc")["attributes"].update(outputRank=True), "type bool"),
    "a product that does not fit": (lambda n: n.weight("V2", 7, 5) and _replace(n, "fc", "V", "V2"), "do not fit"),
    "a weight without value": (lambda n: variable(n, "W").pop("value"), "has no value"),
    "a weight of text": (lambda n: variable(n, "W").update(value="x"), "its value is of type str"),
    "a weight of another type": (lambda n: variable(n, "W").update(data_type=2), "are not of its type 2"),
    "an input of another type": (lambda n: variable(n, "x").update(data_type=77), "of type 77"),
    "a variable of another kind": (lambda n: variable(n, "x").update(kind=9), "is of kind 9"),
    "an input with a weight's shape": (lambda n: variable(n, "x").update(shape=Shape((0, 3))), "a size of 0"),
    "an input of absurd size": (lambda n: variable(n, "x").update(shape=Shape((1 << 40,))), "a size of 1099511627776"),
    "dynamic axes of text": (lambda n: variable(n, "x").update(dynamic_axis=["N"]), "dynamic axes are none"),
    "several batch axes": (lambda n: variable(n, "x").update(dynamic_axis=[BATCH, BATCH]), "the dynamic axes"),
    "two variables of a name": (lambda n: n.input("x", 3), "there are two variables 'x'"),
    "two functions of a name": (lambda n: n.op("ReLU", "x", uid="conv"), "there are two functions 'conv'"),
    "an unknown key": (lambda n: function(n, "conv").update(secret=1), "a key 'secret'"),
    "an unknown key of a variable": (lambda n: variable(n, "x").update(secret=1), "a key 'secret'"),
    "a placeholder that stands for nothing": (lambda n: variable(n, "x").update(kind=4), "stands for nothing"),
    "an output variable": (lambda n: variable(n, "x").update(kind=1), "stands for nothing"),
    "functions that are numbers": (lambda n: n.functions.insert(0, 3), "are not dictionaries"),  # type: ignore[arg-type]
}


def _padded(net: Net, amount: int) -> None:
    function(net, "conv")["attributes"].update(autoPadding=[False], lowerPad=Shape((amount, 0, 0)))


def _replace(net: Net, uid: str, old: str, new: str) -> None:
    found = function(net, uid)
    found["inputs"] = [new if value == old else value for value in found["inputs"]]


@pytest.mark.parametrize("name", sorted(WRONG))
def test_models_that_do_not_fit_together(name: str, tmp_path: Path) -> None:
    change, says = WRONG[name]
    net = small()
    root = net.tree["root"]
    change(net)
    start = time.monotonic()
    refused(net.save(tmp_path / "net.dnn", root=root), tmp_path, says)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"root": "nothing"}, "root 'nothing' is none of its functions"),
        ({"root": 3}, "'root' is of type int"),
        ({"type": "Trainer"}, "a 'Trainer' of CNTK, no model"),
        ({"version": 4}, "of version 4"),
        ({"version": "3"}, "'version' is of type str"),
        ({"primitive_functions": {}}, "is of type dict"),
        ({"inputs": None}, "has no 'inputs'"),
    ],
)
def test_models_whose_head_is_wrong(changes: Tree, says: str, tmp_path: Path) -> None:
    refused(small().save(tmp_path / "net.dnn", **changes), tmp_path, says)


@pytest.mark.parametrize(
    ("op", "says"),
    [
        (98, "operator 98 x1: this function is not supported yet"),
        (1 << 60, "operator 1152921504606846976"),
        ("OptimizedRNNStack", "weights are cuDNN's"),
        ("RandomSample", "random numbers"),
        ("Assign", "changes a weight"),
        ("NDCG", "for training alone"),
    ],
)
def test_functions_that_are_not_supported(op: str | int, says: str, tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 3)
    net.op("Tanh", net.op(op, net.op("ReLU", x, uid="relu"), uid="other"), uid="y")
    path = net.save(tmp_path / "net.dnn")
    message = refused(path, tmp_path, says, "[other]", "outputs=", kind=hub.UnsupportedOps)
    assert "y" not in message.splitlines()[0]
    assert hub.load(path, outputs=["relu"]).layers == ["relu"]


def test_everything_that_is_refused_is_named_at_once(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 3)
    for number in range(3):
        x = net.op(90 + 15 + number, x, uid=f"other{number}")
    net.op("Pooling", x, uid="pool", **POOL, unknown=3)
    with pytest.raises(hub.UnsupportedOps) as caught:
        hub.load(net.save(tmp_path / "net.dnn"))
    assert [op.layers for op in caught.value.ops] == [["other0"], ["other1"], ["other2"], ["pool"]]
    assert "attribute unknown=3 is not supported" in str(caught.value)


def test_code_of_the_user_is_not_run(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 3)
    state = {"class": "U", "module": "os", "op_name": "os.system", "state": {}, "version": 1}
    user = {"type": "UserDefinedFunction", "version": 0, "uid": "user", "name": "mine", "inputs": [x], "native": False}
    net.functions.append({**user, "user_defined_state": state})
    net.op("Tanh", "user_Output_0", uid="y")
    refused(net.save(tmp_path / "net.dnn"), tmp_path, "runs code", "[mine]", kind=hub.UnsupportedOps)


# -- graphs ------------------------------------------------------------------------------------------------------------


def test_cycles_that_are_no_recurrence(tmp_path: Path) -> None:
    net = Net()
    net.input("x", 4)
    net.op("Plus", "x", "b_Output_0", uid="a")
    net.op("Tanh", "a_Output_0", uid="b")
    refused(net.save(tmp_path / "net.dnn"), tmp_path, "waits for itself")
    net = recurrence()
    function(net, "sum")["inputs"][0] = "h_Output_0"
    refused(net.save(tmp_path / "net.dnn", root="h"), tmp_path, "waits for itself within one step")


def _block(root: str, argument: str, uid: str = "block") -> Tree:
    return {
        "type": "PrimitiveFunction", "version": 24, "uid": uid, "op": 57, "inputs": [argument], "attributes": {},
        "name": uid, "block_function_op_name": "Anything", "block_function_composite": {"root": root},
        "block_function_composite_arguments_map_keys": ["p"],
        "block_function_composite_arguments_map_values": [argument],
    }  # fmt: skip


def test_blocks_that_turn_in_circles(tmp_path: Path) -> None:
    net = Net()
    net.input("x", 4)
    net.functions.append(_block("block", "x"))
    refused(net.save(tmp_path / "net.dnn"), tmp_path, "inside of itself")
    net.functions[0] = _block("inner", "block_Output_0")
    net.functions.insert(0, {**net.functions[0], "uid": "inner", "op": 2, "inputs": ["p"]})
    refused(net.save(tmp_path / "net.dnn"), tmp_path)
    net = Net()
    net.input("x", 4)
    net.op("Combine", "loop_Output_0", uid="loop")
    refused(net.save(tmp_path / "net.dnn"), tmp_path, "itself")
    net = Net()
    net.op("Tanh", "p", uid="inner")
    net.functions.append(_block("inner", "p"))
    refused(net.save(tmp_path / "net.dnn"), tmp_path, "stands for itself")
    net.functions[-1] = _block("nothing", "p")
    refused(net.save(tmp_path / "net.dnn"), tmp_path, "no function 'nothing' inside")


def test_recurrences_that_cannot_be_said(tmp_path: Path) -> None:
    cases: list[tuple[Change, str]] = [
        (lambda n: function(n, "past")["attributes"].update(offset=100_000), "a delay of 100000 steps"),
        (lambda n: function(n, "past").update(inputs=["h_Output_0", "x"]), "begins with is a sequence"),
        (lambda n: function(n, "past").update(inputs=["h_Output_0", "sum_Output_0"]), "depends on itself"),
        (lambda n: variable(n, "h_Output_0").update(shape=Shape((3,))), "'product' (Times)"),
        (lambda n: variable(n, "x").update(dynamic_axis=[BATCH]), "takes no sequence"),
    ]
    for change, says in cases:
        net = recurrence()
        change(net)
        with pytest.raises(hub.HubError) as caught:
            hub.load(net.save(tmp_path / "net.dnn", root="h"))
        assert says in str(caught.value)


def test_long_chains_and_many_functions_are_read_in_time(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 4)
    for number in range(5000):
        x = net.op("ReLU", x, uid=f"r{number}")
    start = time.monotonic()
    assert len(hub.load(net.save(tmp_path / "net.dnn")).layers) == 5000
    net = Net()
    net.input("x", 4)
    net.op("Tanh", "p", uid="b0")
    for number in range(1, 3000):
        block = _block(f"b{number - 1}", "x" if number == 1 else "q", f"b{number}")
        block["block_function_composite_arguments_map_keys"] = ["p" if number == 1 else f"p{number}"]
        net.functions.append({**block, "block_function_composite_arguments_map_values": ["x"]})
    hub.load(net.save(tmp_path / "net.dnn"))
    assert time.monotonic() - start < 60


def test_sizes_that_are_absurd(tmp_path: Path) -> None:
    def net_of(op: str, **attributes: Any) -> Net:
        net = Net()
        net.op(op, net.input("x", 4, 6), uid="y", **attributes)
        return net

    far = Axis(0)
    cases = [
        net_of("Reshape", newShape=Shape((BIG, BIG, BIG)), beginAxis=far, endAxis=Axis(2)),
        net_of("Reshape", newShape=Shape((1 << 63,)), beginAxis=far, endAxis=Axis(2)),
        net_of("Reshape", newShape=Shape((24,)), beginAxis=Axis(7), endAxis=Axis(2)),
        net_of("Slice", axis=Axis(5), beginIndex=Int(0), endIndex=Int(1), sliceStrides=Int(1)),
        net_of("Slice", axis=far, beginIndex=Int(0), endIndex=Int(1), sliceStrides=Int(0)),
        net_of("TransposeAxes", axisVec=[Axis(0), Axis(0)]),
        net_of("TopK", axis=far, numItems=1 << 40),
        net_of("OneHot", numClass=1 << 50, onehotAxis=far, oneHotOutputSparse=False),
        net_of("Pad", paddingHead=[1 << 50, 0], paddingFoot=[0, 0], paddingMode=0, paddingConstantValue=0.0),
        net_of("Splice", axis=Axis(99999)),
        net_of("ReduceElements", axis=Axis(8), reductionOpName="Sum", reductionKeepDimensions=True),
        net_of("Cast", newDataType=Int(99)),
    ]
    for net in cases:
        start = time.monotonic()
        refused(net.save(tmp_path / "net.dnn"), tmp_path, "'y'")
        assert time.monotonic() - start < 5


# -- damage ------------------------------------------------------------------------------------------------------------


def test_copies_that_are_damaged(tmp_path: Path) -> None:
    for number, net in enumerate((small(), recurrence())):
        source = net.save(tmp_path / f"good{number}.dnn")
        folder = tmp_path / f"damaged{number}"
        folder.mkdir()
        child = Path(__file__).parent / "hostile_child.py"
        done = subprocess.run(
            [sys.executable, child, source, "0", "150", folder], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["faults"] == []
        assert result["left"] == []
        assert Counter(result["outcomes"]).total() == 150


def test_damage_changes_something(good: Path) -> None:
    data = good.read_bytes()
    assert damaged(data, random.Random(1)) != data
