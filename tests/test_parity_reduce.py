"""Find the layer by bisection, and the smallest part that still differs."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from test_parity_divergence import residual
from typer.testing import CliRunner

import hub
from hub.builder import GraphBuilder
from hub.cli import app
from hub.onnxfile import save

LAYERS = ("stem", "a1", "a2", "b1", "head")


@pytest.mark.parametrize("changed", LAYERS)
def test_bisection_finds_the_layer(changed: str) -> None:
    found = hub.locate(residual(), residual(changed))
    assert found.divergence is not None
    assert found.divergence.layer == changed
    assert found.runs <= 5
    assert "its inputs agree" in str(found)
    assert {row.name for row in found.report.rows if row.kind == "layer"} == {changed, *found.divergence.inputs}


def test_two_errors_of_which_one_is_beside_the_other() -> None:
    both = residual("a1")
    other = residual("b1")
    both.ir.graph.initializers["b1/b1/kernel"].const_value = other.ir.graph.initializers["b1/b1/kernel"].const_value
    found = hub.locate(residual(), both).divergence
    assert found is not None
    assert found.layer in ("a1", "b1")
    assert found.inputs == ("stem",)


def test_models_that_agree_have_no_such_layer(tmp_path: Path) -> None:
    found = hub.locate(residual(), residual())
    assert found.divergence is None
    assert str(found).startswith("no difference was found")
    with pytest.raises(hub.UsageError, match="there is nothing to reduce"):
        hub.reduce(residual(), residual(), tmp_path / "repro")
    assert not (tmp_path / "repro").exists()


@pytest.mark.parametrize("changed", LAYERS)
def test_the_smallest_part_is_one_node_and_a_test_case(changed: str, tmp_path: Path) -> None:
    made = hub.reduce(residual(), residual(changed), tmp_path / "repro")
    assert made.nodes == 1
    model = onnx.load(made.folder / "model.onnx")
    onnx.checker.check_model(model)
    feeds, expected = case(made.folder)
    given = hub.load(made.folder / "model.onnx").run(feeds)
    (name,) = expected
    assert np.abs(given[name] - expected[name]).max() > 1e-3 * np.ptp(expected[name])
    done = subprocess.run([sys.executable, made.folder / "show.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "apart, of a spread of" in done.stdout
    issue = (made.folder / "issue.md").read_text("utf-8")
    assert "ONNX Runtime computes it as ONNX's reference implementation does." in issue
    assert f"First divergence in the whole model: {changed} (Conv); its inputs agree." in issue
    assert f"- onnxruntime {made.location.report.versions['onnxruntime']}" in issue  # type: ignore[union-attr]


def case(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs and outputs of a test case of ONNX."""
    found: list[dict[str, Any]] = []
    for kind in ("input", "output"):
        files = sorted((folder / "test_data_set_0").glob(f"{kind}_*.pb"))
        tensors = [onnx.TensorProto.FromString(path.read_bytes()) for path in files]
        found.append({tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors})
    return found[0], found[1]


def test_a_converter_that_is_wrong_is_shown_by_converting_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generated code cannot be read back: there the part is converted again."""
    from exporters.torch.ops import OPS

    entry = OPS.find("", "LeakyRelu", 25)
    assert entry is not None

    def wrong(emit: Any, x: Any, *, alpha: float) -> Any:
        return entry.function(emit, x, alpha=alpha * 1.5)

    monkeypatch.setitem(OPS._entries, ("", "LeakyRelu"), [replace(entry, function=wrong)])
    hub.save(leaky(), tmp_path / "net.py")
    made = hub.reduce(leaky(), tmp_path / "net.py", tmp_path / "repro")
    assert made.nodes <= 3
    assert "LeakyRelu" in {node.op_type for node in onnx.load(made.folder / "model.onnx").graph.node}
    assert "hub.convert" in (made.folder / "show.py").read_text("utf-8")


def leaky() -> hub.Model:
    rng = np.random.default_rng(0)
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, ["N", 6])
    for i in range(4):
        with g.layer(f"dense{i}", "Dense"):
            x = g.op("MatMul", x, g.constant(rng.normal(size=(6, 6)).astype(np.float32), f"w{i}"))
        with g.layer(f"act{i}", "LeakyReLU"):
            x = g.op("LeakyRelu", x, alpha=0.2) if i == 2 else g.op("Tanh", x)
    g.output(x, "y")
    return hub.Model(g.model())


JUDGE = """
import sys, onnx
from pathlib import Path
model = onnx.load(Path(sys.argv[1]) / "model.onnx")
assert (Path(sys.argv[1]) / "test_data_set_0" / "output_0.pb").is_file()
print("there is a LeakyRelu")
sys.exit(any(node.op_type == "LeakyRelu" for node in model.graph.node))
"""


def test_a_command_of_the_users_reduces_too(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    save(leaky().ir, tmp_path / "net.onnx")
    command = shlex.join([sys.executable, str(tmp_path / "judge.py")])
    done = CliRunner().invoke(
        app, ["reduce", str(tmp_path / "net.onnx"), "--check", command, "-o", str(tmp_path / "repro")]
    )
    assert done.exit_code == 0, done.output
    assert "1 node" in done.output
    assert [node.op_type for node in onnx.load(tmp_path / "repro" / "model.onnx").graph.node] == ["LeakyRelu"]
    shown = subprocess.run([sys.executable, tmp_path / "repro" / "show.py"], capture_output=True, text=True)
    assert shown.returncode == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "taken"], "not empty"),
        (["--check", "true"], "succeeds on the whole model"),
        (["--check", "no-such-command-anywhere"], "cannot be run"),
        ([], "give the second model, or a command"),
    ],
)
def test_what_cannot_be_reduced_is_said(words: list[str], message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    save(leaky().ir, tmp_path / "net.onnx")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    second = ["net.onnx"] if "taken" in words else []
    done = CliRunner().invoke(app, ["reduce", "net.onnx", *second, *words])
    assert isinstance(done.exception, hub.UsageError)
    assert message in str(done.exception)
    assert not (tmp_path / "repro").exists()


def test_the_command_line_locates(tmp_path: Path) -> None:
    save(residual().ir, tmp_path / "a.onnx")
    save(residual("a2").ir, tmp_path / "b.onnx")
    done = CliRunner().invoke(app, ["locate", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")])
    assert done.exit_code == 1
    assert "a2 (Conv); its inputs agree" in done.output


def test_an_error_that_fades_is_found_though_the_outputs_agree() -> None:
    def net(wrong: bool) -> hub.Model:
        rng = np.random.default_rng(0)
        g = GraphBuilder("net")
        x = g.input("x", ir.DataType.FLOAT, ["N", 8])
        for name, weight in (("first", 1e-4), ("second", 1.0)):
            with g.layer(name, "Dense"):
                matrix = rng.normal(size=(8, 8)).astype(np.float32) * weight
                side = g.op("MatMul", x, g.constant(matrix * (1.001 if wrong and name == "first" else 1), name))
            with g.layer(f"{name}_sum", "Add"):
                x = g.op("Add", side, x)
        g.output(x, "y")
        return hub.Model(g.model())

    assert hub.check(net(False), net(True)).ok
    found = hub.locate(net(False), net(True)).divergence
    assert found is not None
    assert found.layer == "first"
