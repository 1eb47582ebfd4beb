"""The real CNTK as a runtime: models of ours and of its own Python, code for it, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cntk_nets import SEQUENCE, Net
from conftest import need, need_runtime

from hub import dnn, runtimes
from hub import sidecar as sidecars
from hub.formats import Format
from parity.report import Report
from parity.runners import LoadFailed, NotInstalled, RunFailed, cntk
from parity.sides import open_side

need_runtime("cntk")

RNG = np.random.default_rng(7)
IMAGE = RNG.standard_normal((2, 3, 8, 7)).astype(np.float32)
KERNEL, FIRST, SECOND = (RNG.standard_normal(shape) for shape in ((4, 3, 3, 3), (4, 3, 3, 6), (6, 5)))
SCALE, SHIFT, MEAN = (RNG.standard_normal(4) for _ in range(3))
VARIANCE = RNG.random(4) + 0.5
FIXTURES = Path(__file__).parent / "fixtures"
ROOT = Path(__file__).resolve().parent.parent


def close_to(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-4, atol=1e-5)


def network(path: Path, **more: Any) -> Path:
    """Convolution, normalization, pooling and two products, named as a converter does."""
    net = Net()
    conv = net.conv(net.input("image", 3, 8, 7), KERNEL, "conv.product", pad=1)
    norm = net.norm(conv, SCALE, SHIFT, MEAN, VARIANCE, "norm")
    pool = net.pool(net.add("ReLU", norm, name="relu"), 0, 3, 2, "pool")
    sum_ = net.add("Plus", net.dense(pool, FIRST, "first.product"), net.parameter("one", np.ones(6)), name="first.sum")
    hidden = net.add("Tanh", sum_, name="first")
    return net.write(path, net.add("Softmax", net.dense(hidden, SECOND, "second"), name="prob"), **more)


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    """What the network gives, by PyTorch."""
    need("torch")
    import torch

    f = torch.nn.functional
    tensors = [torch.tensor(array) for array in (IMAGE.astype(float), KERNEL, MEAN, VARIANCE, SCALE, SHIFT)]
    found = {"conv.product": f.conv2d(tensors[0], tensors[1], padding=1)}
    found["norm"] = f.batch_norm(found["conv.product"], *tensors[2:])
    found["relu"] = f.relu(found["norm"])
    found["pool"] = f.max_pool2d(found["relu"], 3, 2)
    found["first.product"] = torch.einsum("nchw,chwo->no", found["pool"], torch.tensor(FIRST))
    found["first.sum"] = found["first.product"] + 1
    found["first"] = torch.tanh(found["first.sum"])
    found["second"] = found["first"] @ torch.tensor(SECOND)
    found["prob"] = torch.softmax(found["second"], 1)
    return {name: tensor.numpy() for name, tensor in found.items()}


# -- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 0], ids=["small form", "large form"])
def test_every_named_function_is_seen(limit: int | None, tmp_path: Path, values: dict[str, Any]) -> None:
    runner = cntk.open(network(tmp_path / "net.dnn", limit=limit))
    assert (runner.name, runner.version) == ("cntk", "2.7 (cntk 2.7.post2)")
    assert [(p.name, p.dtype, p.shape) for p in runner.inputs] == [("image", "float32", ("N", 3, 8, 7))]
    assert list(runner.layers) == list(values)
    assert runner.layers["conv.product"] == "Convolution"
    assert runner.ops == {"prob": "Softmax", "before:prob": "Softmax"}
    direct = runner.run({"image": IMAGE})
    assert list(direct) == ["prob"]
    assert close_to(direct["prob"], values["prob"])
    tapped = runner.run({"image": IMAGE}, ["before:*", "layer:nothing", *(f"layer:{name}" for name in values)])
    assert np.array_equal(tapped.pop("prob"), direct["prob"])
    assert close_to(tapped.pop("before:prob"), values["second"])
    assert {name for name in values if not close_to(tapped.pop(f"layer:{name}"), values[name])} == set()
    assert tapped == {}
    cores = runner.run({"image": IMAGE[:1]}, ["exit:first", "core:first", "core:relu", "core:second"])
    assert close_to(cores["exit:first"], values["first"][:1])
    assert close_to(cores["core:first"], values["first.sum"][:1]), "its own sum"
    assert close_to(cores["core:relu"], values["relu"][:1]), "what it takes is another layer's"
    assert close_to(cores["core:second"], values["second"][:1])
    runner.close()
    runner.close()
    with pytest.raises(RunFailed, match="it is closed"):
        runner.run({"image": IMAGE})


def test_several_inputs_and_outputs_static_values_and_free_sizes(tmp_path: Path) -> None:
    net = Net()
    x, y, z = net.input("x", 2, dnn.FREE), net.input("y", 2, 1), net.input("z", 2, 3, axes=())
    total = net.add("Plus", x, y, name="sum")
    minus = net.add("Minus", x, y, name="sum")
    fixed = net.add("Negate", z, name="fixed")
    runner = cntk.open(net.write(tmp_path / "net.dnn", total, minus, fixed))
    assert [port.shape for port in runner.inputs] == [("N", 2, None), ("N", 2, 1), (2, 3)]
    assert list(runner.layers) == ["fixed"], "two functions have the other name, and neither leads to the other"
    a, b, c = (RNG.standard_normal(shape).astype(np.float32) for shape in ((3, 2, 3), (3, 2, 1), (2, 3)))
    found = list(runner.run({"x": a, "y": b, "z": c}, ["layer:fixed"]).values())
    assert all(np.array_equal(one, other) for one, other in zip(found, (a + b, a - b, -c, -c), strict=True))
    assert np.array_equal(runner.run({"x": a[..., :1], "y": b, "z": c})["sum"], a[..., :1] + b)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": IMAGE[:, :2]}, "the input 'image' has the shape (2, 2, 8, 7) in place of (N, 3, 8, 7)"),
        ({"image": IMAGE[0]}, "the input 'image' has the shape (3, 8, 7) in place of (N, 3, 8, 7)"),
        ({"image": IMAGE[:0]}, "the input 'image' of shape (0, 3, 8, 7) is empty"),
        ({}, "the input 'image' is not given"),
    ],
)
def test_wrong_inputs(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed) as error:
        cntk.open(network(tmp_path / "net.dnn")).run(changed)
    assert str(error.value) == message


def test_different_batches(tmp_path: Path) -> None:
    net = Net()
    path = net.write(tmp_path / "net.dnn", net.add("Plus", net.input("x", 2), net.input("y", 2)))
    with pytest.raises(RunFailed, match="the inputs have 2 and 3 samples"):
        cntk.open(path).run({"x": np.ones((2, 2)), "y": np.ones((3, 2))})


def test_what_is_squashed_is_found_through_what_changes_no_number(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 2, 3)
    double = net.add("Plus", x, x, name="double")
    total = net.add("ReduceElements", double, axis=dnn.Axis(1), reductionOpName="LogSum", reductionKeepDimensions=True)
    spread = net.add("Exp", net.add("Minus", double, total), name="spread")
    gate = net.add("Reshape", net.add("StableSigmoid", double), name="gate", newShape=dnn.Shape((6,)), **WHOLE)
    direct = net.add("Tanh", x, name="direct")
    runner = cntk.open(net.write(tmp_path / "net.dnn", spread, gate, direct))
    assert runner.ops["before:gate"] == "StableSigmoid"
    given = RNG.standard_normal((2, 2, 3)).astype(np.float32)
    found = runner.run({"x": given}, ["before:*"])
    assert list(found) == ["spread", "gate", "direct", "before:spread", "before:gate"], "an input is no value before"
    assert close_to(found["before:spread"], 2 * given)
    assert close_to(found["before:gate"], 2 * given)
    assert close_to(found["spread"], np.exp(2 * given) / np.exp(2 * given).sum(1, keepdims=True))


WHOLE = {"beginAxis": dnn.Axis(0), "endAxis": dnn.Axis(2)}


def test_both_outputs_of_one_function(tmp_path: Path) -> None:
    net = Net()
    top = net.add("TopK", net.input("x", 4), name="top", axis=dnn.Axis(0), numItems=2)
    last = net.add("Negate", top, name="last")
    given = {"x": np.array([[1.0, 5, 2, 4]])}
    found = cntk.open(net.write(tmp_path / "net.dnn", last)).run(given, ["layer:top"])
    assert [array.tolist() for array in found.values()] == [[[-5, -4]], [[5, 4]]]
    found = cntk.open(net.write(tmp_path / "both.dnn", top)).run(given, ["layer:top"])
    assert [array.tolist() for array in found.values()] == [[[5, 4]], [[1, 3]], [[5, 4]]]


def test_names_and_paths_of_all_languages_and_no_inputs(tmp_path: Path) -> None:
    net = Net()
    last = net.add("ReLU", net.add("Negate", net.input("été", 2), name="層/1"), name="出")
    found = cntk.open(net.write(tmp_path / "réseau 層.dnn", last)).run({"été": np.array([[1.0, -2.0]])}, ["layer:層/1"])
    assert found["出"].tolist() == [[0, 2]]
    assert found["layer:層/1"].tolist() == [[-1, 2]]
    net = Net()
    path = net.write(tmp_path / "constant.dnn", net.add("Negate", net.parameter("p", [1, 2]), name="c"))
    assert cntk.open(path).run({})["c"].tolist() == [-1, -2]


# -- models of CNTK's own Python -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that CNTK's Python saved, and what it says they give."""
    need_runtime("cntk-python")
    folder = tmp_path_factory.mktemp("own")
    python = runtimes.status("cntk-python").python
    command = [str(python), str(FIXTURES / "cntk_models.py")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers", "shapes"),
    [
        (
            "layers",
            {"conv": "Convolution", "norm": "BatchNormalization", "dense": "Dense", "prob": "Softmax"},
            {"conv": (2, 4, 4, 5), "norm": (2, 4, 4, 5), "dense": (2, 5), "prob": (2, 5)},
        ),
        ("states", {"lstm": "LSTM", "states": "NoOp"}, {"lstm": (2, 6, 5), "states": (2, 6, 5)}),
        ("last", None, {"lstm": (2, 6, 5), "answer": (2, 2)}),
    ],
)
def test_models_with_blocks_and_sequences(
    name: str, layers: dict[str, str] | None, shapes: dict[str, Any], own: Path
) -> None:
    with np.load(own / "values.npz") as content:
        feeds = {key.partition("/")[2]: content[key] for key in content.files if key.startswith(f"{name}/")}
        expected = content[name]
    runner = cntk.open(own / f"{name}.dnn")
    assert layers is None or runner.layers == layers
    found = runner.run(feeds, [*(f"layer:{layer}" for layer in shapes), "before:*", "core:conv"])
    assert close_to(next(iter(found.values())), expected)
    assert {layer: found[f"layer:{layer}"].shape for layer in shapes} == shapes
    assert close_to(next(iter(runner.run(feeds).values())), expected)
    if name == "layers":
        assert close_to(found["before:prob"], found["layer:dense"])
        assert close_to(np.maximum(found["core:conv"], 0), found["layer:conv"])
        assert (found["core:conv"] < 0).any()
    if name == "last":
        assert close_to(1 / (1 + np.exp(-found[f"before:{next(iter(found))}"])), expected)
    assert runner.inputs[0].shape == (("N", 3, 8, 9) if name == "layers" else ("N", "T", 4))


@pytest.mark.slow
def test_unnamed_and_sparse_inputs_and_other_dtypes(own: Path) -> None:
    runner = cntk.open(own / "unnamed.dnn")
    first, second = (port.name for port in runner.inputs)
    (found,) = runner.run({first: np.array([[1, 2, 3]]), second: np.array([[10, 20, 30]])}).values()
    assert found.tolist() in ([[-19, -38, -57]], [[8, 16, 24]]), "which of the two comes first is CNTK's"
    words = cntk.open(own / "sparse.dnn").run({"hot": np.eye(6)[[2, 0]]}, ["layer:words"])
    assert words["layer:words"].shape == (2, 4)
    for name in ("double", "half"):
        with pytest.raises(LoadFailed, match="the input 'x' is not of float32, and CNTK's interface for C takes no"):
            cntk.open(own / f"{name}.dnn")


def test_a_recurrence_of_ours(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 2, axes=(SEQUENCE, dnn.BATCH))
    net.inputs.append({**net.inputs[0], "uid": "total_Output_0", "kind": 4, "name": ""})
    before = net.add("PastValue", "total_Output_0", net.parameter("start", 0.0), name="before", offset=1)
    total = net.add("Plus", before, x, name="total", uid="total")
    runner = cntk.open(net.write(tmp_path / "net.dnn", total))
    given = RNG.standard_normal((3, 5, 2)).astype(np.float32)
    found = runner.run({"x": given}, ["layer:before"])
    assert close_to(found["total"], given.cumsum(1))
    assert close_to(found["layer:before"], given.cumsum(1) - given)


# -- failures ------------------------------------------------------------------------------------------


def test_models_that_cannot_be_loaded(tmp_path: Path) -> None:
    path = network(tmp_path / "net.dnn")
    whole = path.read_bytes()
    net = Net()
    net.add("Negate", net.input("x", 2), name="mine")
    net.functions[0]["type"] = "UserDefinedFunction"
    net.write(tmp_path / "code.dnn", "Negate0_Output_0")
    net = Net()
    net.write(tmp_path / "unknown.dnn", net.add("999", net.input("x", 2)))
    net = Net()
    net.write(tmp_path / "kernel.dnn", net.pool(net.input("x", 1, 6, 6), 0, 3, 3, "pool", pad=1))
    net = Net()
    net.write(tmp_path / "lost.dnn", net.add("Negate", "nothing"))
    (tmp_path / "cut.dnn").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.dnn").write_bytes(b"")
    dnn.write(tmp_path / "tree.dnn", {"type": "CompositeFunction", "version": 3})
    for name, message in {
        "code.dnn": "the function 'mine' is code of its author's; it is not run",
        "unknown.dnn": "Unexpected op 'op':'999'",
        "kernel.dnn": "requires that kernel fills the entire space",
        "lost.dnn": "There are no inputs corresponding to input uid = 'nothing'",
        "cut.dnn": "truncated or damaged",
        "empty.dnn": "is empty",
        "tree.dnn": "it is not a model of CNTK: KeyError",
        "gone.dnn": "gone.dnn does not exist",
    }.items():
        with pytest.raises(LoadFailed) as error:
            cntk.open(tmp_path / name)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
        assert "[CALL STACK]" not in str(error.value)
    assert "prob" in cntk.open(path).run({"image": IMAGE}), "the next one is well"


def test_circles_are_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 2)
    for name, inner in (("a", "b"), ("b", "a")):
        net.add("Block", x, uid=name)
        net.functions[-1] |= {
            "block_function_composite": {"root": inner},
            "block_function_composite_arguments_map_keys": [],
            "block_function_composite_arguments_map_values": [],
        }
    with pytest.raises(LoadFailed, match="run in a circle"):
        cntk.open(net.write(tmp_path / "net.dnn", "a_Output_0"))


def test_a_failure_while_running_is_in_the_words_of_cntk(tmp_path: Path) -> None:
    net = Net()
    pool = net.pool(net.input("x", 1, dnn.FREE, dnn.FREE), 0, 3, 2, "pool")
    runner = cntk.open(net.write(tmp_path / "net.dnn", pool, net.add("Negate", pool, name="minus")))
    for taps in ([], ["layer:pool"]):
        with pytest.raises(RunFailed, match="Convolution operation requires that kernel dim 3 <= input dim 2"):
            runner.run({"x": np.ones((1, 1, 2, 7))}, taps)
        assert runner.run({"x": np.ones((1, 1, 8, 7))}, taps)["pool"].shape == (1, 1, 3, 3)


def test_others_go_on_after_the_process_died(tmp_path: Path, values: dict[str, Any]) -> None:
    first, second = (cntk.open(network(tmp_path / f"{i}.dnn")) for i in range(2))
    second.run({"image": IMAGE}, ["layer:norm"])
    kill(cntk._SERVER.process())
    assert close_to(first.run({"image": IMAGE})["prob"], values["prob"])
    assert close_to(second.run({"image": IMAGE}, ["layer:norm"])["layer:norm"], values["norm"])
    second.close()
    kill(cntk._SERVER.process())
    first.close()
    assert cntk._message("About to throw exception 'too large'\n\nterminate\n  what():  a reason\n") == "a reason"
    assert cntk._message("nothing") == ""


def kill(process: sidecars.Process) -> None:
    process._process.kill()
    process._process.wait()


def test_models_are_freed(tmp_path: Path) -> None:
    need("psutil")
    import psutil

    net = Net()
    path = net.write(tmp_path / "net.dnn", net.dense(net.input("x", 1000), np.ones((1000, 1000)), "dense"))
    sizes = []
    for _ in range(40):
        runner = cntk.open(path)
        runner.run({"x": np.ones((1, 1000))}, ["before:*"])
        runner.close()
        sizes.append(psutil.Process(cntk._SERVER.process()._process.pid).memory_info().rss)
    assert sizes[-1] - sizes[5] < 40e6, "thirty of them take 120 MB"


def test_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    path = network(tmp_path / "net.dnn")
    code = (
        "import numpy\nfrom parity.runners import cntk\n"
        f"runner = cntk.open({str(path)!r}); runner.run({{'image': numpy.zeros((1, 3, 8, 7))}}, ['layer:norm'])\n"
        "print(cntk._SERVER.process()._process.pid)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_without_cntk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HUB_RUNTIMES_DIR", str(tmp_path))
    assert cntk.available() == "CNTK is not installed: hub runtimes install cntk"


# -- the source's interface ----------------------------------------------------------------------------

SAID = {
    "inputs": {"image": {"shape": ["N", 8, 7, 3], "dtype": "float64", "perm": [0, 3, 1, 2]}},
    "outputs": {"prob": {"dtype": "float64", "perm": [1, 0]}},
}


def test_the_interface_of_the_source(tmp_path: Path, values: dict[str, Any]) -> None:
    runner = cntk.open(network(tmp_path / "net.dnn", hub=json.dumps(SAID)))
    assert [(p.dtype, p.shape) for p in runner.inputs] == [("float64", ("N", 8, 7, 3))]
    found = runner.run({"image": IMAGE.transpose(0, 2, 3, 1)}, ["before:*"])
    assert found["prob"].dtype == np.float64
    assert close_to(found["prob"], values["prob"].T)
    assert close_to(found["before:prob"], values["second"].T)
    assert runner.perms == {"before:prob": (0, 1)}
    runner.as_written()
    assert [(p.dtype, p.shape) for p in runner.inputs] == [("float32", ("N", 3, 8, 7))]
    assert close_to(runner.run({"image": IMAGE})["prob"], values["prob"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "its key 'hub' is malformed: "),
        ('{"inputs": {"y": {}}}', "its key 'hub' names the input 'y', which the net does not have"),
        ('{"inputs": {"image": {"perm": [1, 0]}}}', "its key 'hub' does not fit the input 'image' of shape ['N', 3, 8"),
    ],
)
def test_a_wrong_interface(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as error:
        cntk.open(network(tmp_path / "net.dnn", hub=text))
    assert message in str(error.value)


# -- code ----------------------------------------------------------------------------------------------

CODE = '''# hub: {"inputs": {"x": {"shape": ["N", 8, 7, 3], "perm": [0, 3, 1, 2]}}}
"""A network."""

from pathlib import Path

import cntk as C
import numpy as np


def build():
    with np.load(str(Path(__file__).with_suffix(".npz"))) as weights:
        kernel = weights["kernel"]
    x = C.input_variable((3, 8, 7), name="x")
    return C.relu(C.convolution(C.parameter(init=kernel), x, auto_padding=[False], name="conv.product"), name="conv")
'''


@pytest.mark.slow
def test_code_is_executed_and_gives_the_same_as_a_file(tmp_path: Path) -> None:
    need_runtime("cntk-python")
    path = tmp_path / "net.py"
    path.write_text(CODE)
    with pytest.raises(LoadFailed, match=r"FileNotFoundError: .*net\.npz"):
        cntk.open(path)
    np.savez(tmp_path / "net.npz", kernel=KERNEL.astype(np.float32))
    runner = cntk.open((path, tmp_path / "net.npz"))
    found = runner.run({"x": IMAGE.transpose(0, 2, 3, 1)}, ["core:conv"])
    net = Net()
    product = net.conv(net.input("x", 3, 8, 7), KERNEL, "conv.product")
    same = cntk.open(net.write(tmp_path / "net.dnn", net.add("ReLU", product, name="conv")))
    expected = same.run({"x": IMAGE}, ["core:conv"])
    assert {name: np.array_equal(found[name], array) for name, array in expected.items()} == dict.fromkeys(found, True)
    folder = runner._folder
    assert folder is not None
    runner.close()
    assert not Path(folder.name).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build(:\n", "SyntaxError: invalid syntax (net.py, line 1)"),
        ("x = 1\n", "LookupError: it defines no build()"),
        ("def build():\n    return 7\n", "TypeError: its build() returns a int, not a cntk.Function"),
        ("def build():\n    raise KeyError('conv')\n", "KeyError: 'conv'"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("import os\ndef build():\n    os._exit(3)\n", "its process ended with status 3"),
        (
            "import cntk as C\ndef build():\n    return C.times(C.parameter((2, 3)), C.parameter((2, 3)))\n",
            "ValueError: Times: The 1 leading dimensions of the right operand",
        ),
    ],
)
def test_code_that_makes_no_model(code: str, message: str, tmp_path: Path) -> None:
    need_runtime("cntk-python")
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(LoadFailed) as error:
        cntk.open(tmp_path / "net.py")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_code_without_the_python_of_cntk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(CODE)
    monkeypatch.setenv("HUB_RUNTIMES_DIR", str(tmp_path))
    with pytest.raises(NotInstalled) as error:
        cntk.open(tmp_path / "net.py")
    assert str(error.value) == "CNTK's Python package is not installed: hub runtimes install cntk-python"
    report = Report(title="")
    known = Format("cntk", "CNTK", runner="parity.runners.cntk")
    monkeypatch.setattr(cntk, "available", lambda: None)
    with ExitStack() as stack:
        assert open_side(tmp_path / "net.py", "code", report, stack, known, judged=True) is None
    assert [(entry.why, entry.reason) for entry in report.skipped] == [("missing dependency", str(error.value))]
    assert report.rows == []
