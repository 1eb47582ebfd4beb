"""Whole checks: every way in which a conversion can be wrong has to be seen, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from parity_models import Weights, onnx_model, torch_file, torch_module, weights
from typer.testing import CliRunner

from hub.builder import GraphBuilder
from hub.cli import app
from hub.errors import InvalidModel, UnknownFormat, UsageError
from hub.formats import find
from hub.model import Model
from hub.onnxfile import save
from parity.check import check, check_conversion
from parity.compare import Row
from parity.golden import save_golden
from parity.report import Report


@pytest.fixture
def w() -> Weights:
    return weights()


def changed(w: Weights, name: str, by: float = 1.05) -> Weights:
    """The weights with one number of one of them scaled."""
    other = {key: value.copy() for key, value in w.items()}
    other[name].flat[0] *= by
    return other


def verdicts(report: Report) -> dict[str, str]:
    return {f"{row.kind} {row.name}": row.verdict for row in report.rows}


def test_the_same_model_passes_before_and_after_the_softmax(w: Weights, tmp_path: Path) -> None:
    model = onnx_model(w)
    save(model.ir, tmp_path / "model.onnx")
    report = check(model, tmp_path / "model.onnx", layers=True)
    assert report.ok, report
    assert set(verdicts(report)) == {
        "output probs",
        "before activation probs",
        "layer conv",
        "layer pool",
        "layer probs",
    }
    conv = next(row for row in report.rows if row.name == "conv")
    assert conv.shape == (2, 7, 5, 4), "the layer is shown in the layout of its source"
    assert conv.op == "Conv2D"
    assert report.inputs == {"image": "float32 2x9x7x3"}


@pytest.mark.parametrize("name", ["conv/kernel", "conv/bias", "probs/kernel", "probs/bias"])
def test_one_changed_weight_is_a_mismatch(w: Weights, name: str) -> None:
    report = check(onnx_model(w), onnx_model(changed(w, name)))
    assert not report.ok
    assert verdicts(report)["output probs"] == "mismatch"


def test_an_error_that_saturation_hides_is_seen_before_it(w: Weights) -> None:
    w["probs/kernel"] *= 1000
    other = changed(w, "probs/kernel", 1.01)
    report = check(onnx_model(w, activation="Sigmoid"), onnx_model(other, activation="Sigmoid"))
    assert verdicts(report)["output probs"] != "mismatch", "otherwise this test tests nothing"
    assert verdicts(report)["before activation probs"] == "mismatch"
    assert not report.ok


def test_swapped_height_and_width_are_a_mismatch() -> None:
    def model(perm: list[int]) -> Model:
        g = GraphBuilder("net")
        x = g.input("x", ir.DataType.FLOAT, ["N", "H", "W"])
        g.output(g.op("Identity", g.op("Transpose", x, perm=perm)), "y")
        return Model(g.model())

    assert check(model([0, 1, 2]), model([0, 1, 2])).ok
    assert not check(model([0, 1, 2]), model([0, 2, 1])).ok


def two_outputs(names: list[str], bad: float = 0.0, dtype: ir.DataType = ir.DataType.FLOAT) -> Model:
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, ["N", 5])
    values = [g.op("Relu", x), g.op("Mul", x, g.constant(np.array(2 + bad, np.float32), "two")), g.op("Abs", x)]
    for value, name in zip(values, names, strict=False):
        g.output(g.op("Cast", value, to=int(dtype)) if dtype != ir.DataType.FLOAT else value, name)
    return Model(g.model())


def test_outputs_are_matched_by_name_then_by_position_and_a_dropped_one_is_a_mismatch() -> None:
    both = two_outputs(["a", "b"])
    assert check(both, two_outputs(["a", "b"])).ok
    by_position = check(both, two_outputs(["c", "d"]))
    assert by_position.ok
    assert any("outputs matched by position: a = c, b = d" in note for note in by_position.notes)
    dropped = check(both, two_outputs(["a"]))
    assert verdicts(dropped) == {"output a": "ok", "output b": "mismatch"}
    assert not check(two_outputs(["a"]), both).ok
    assert not check(both, two_outputs(["b", "a"])).ok, "names that agree are never crossed"
    assert not check(both, two_outputs(["a", "b"], dtype=ir.DataType.DOUBLE)).ok


def test_nan_and_constants() -> None:
    def model(factor: float) -> Model:
        g = GraphBuilder("net")
        x = g.input("x", ir.DataType.FLOAT, ["N", 5])
        g.output(g.op("Mul", x, g.constant(np.array(factor, np.float32), "k")), "y")
        return Model(g.model())

    assert not check(model(1.0), model(float("nan"))).ok
    zero = check(model(0.0), model(0.0))
    assert not zero.ok
    assert not zero.mismatches
    assert "NOT COMPARED" in str(zero)
    assert "agreement proves nothing" in str(zero)


def test_a_torch_module_live_and_from_a_file(w: Weights, tmp_path: Path) -> None:
    module = torch_module(w).train()
    report = check(onnx_model(w), module, layers=True)
    assert report.ok, report
    assert {"before activation probs", "layer conv", "layer probs"} <= set(verdicts(report))
    assert module.training
    assert module.dropout.training
    path = torch_file(w, tmp_path)
    for source in (path, (path, tmp_path / "model.safetensors")):
        report = check(onnx_model(w), source)
        assert report.ok, report
        assert verdicts(report) == {"output probs": "ok", "before activation probs": "ok"}
    assert not check(onnx_model(w), torch_module(changed(w, "conv/kernel"))).ok
    torch_file(changed(w, "probs/bias"), tmp_path)
    assert not check(onnx_model(w), path).ok


def test_a_torch_file_in_a_child(w: Weights, tmp_path: Path) -> None:
    from parity.runners.child import ChildRunner

    runner = ChildRunner("torch", [torch_file(w, tmp_path)])
    try:
        x = np.random.default_rng(0).standard_normal((2, 9, 7, 3), dtype=np.float32)
        (port,) = runner.inputs
        outputs = runner.run({port.name: x}, ["before:*", "layer:conv", "layer:none"])
        assert set(outputs) == {"output", "before:output", "layer:conv"}
        assert np.allclose(outputs["output"], onnx_model(w).run(x)["probs"], atol=1e-5)
    finally:
        runner.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = ", "SyntaxError"),
        ("x = 1", "defines no load"),
        ("import os\ndef load():\n    os._exit(9)\n", "ended with status 9"),
        ("def load():\n    return 3\n", "int is not an nn.Module"),
    ],
)
def test_a_torch_file_that_does_not_load(text: str, message: str, tmp_path: Path) -> None:
    from parity.runners import LoadFailed
    from parity.runners.child import ChildRunner

    (tmp_path / "model.py").write_text(text)
    with pytest.raises(LoadFailed, match=message):
        ChildRunner("torch", [tmp_path / "model.py"])


def test_a_target_that_cannot_be_loaded_or_run_is_a_mismatch(w: Weights, tmp_path: Path) -> None:
    model, torch_format, onnx_format = onnx_model(w), find("torch"), find("onnx")
    path = torch_file(w, tmp_path)
    assert check_conversion(None, onnx_format, model, path, torch_format).ok
    path.write_text(path.read_text().replace("def load", "def lod"))
    report = check_conversion(None, onnx_format, model, path, torch_format)
    assert report.mismatches
    assert "defines no load()" in str(report)
    torch_file(w, tmp_path)
    path.write_text(path.read_text().replace("mean((2, 3))", "mean((2, 9))"))
    report = check_conversion(None, onnx_format, model, path, torch_format)
    assert report.mismatches
    assert "cannot run it" in str(report)


def test_a_source_is_compared_with_the_middle_and_that_with_the_target(w: Weights, tmp_path: Path) -> None:
    save(onnx_model(w).ir, tmp_path / "source.onnx")
    source, onnx_format, torch_format = tmp_path / "source.onnx", find("onnx"), find("torch")
    path = torch_file(w, tmp_path)
    report = check_conversion(source, onnx_format, onnx_model(w), path, torch_format)
    assert report.ok, report
    assert [row.between for row in report.rows if row.kind == "output"] == [
        "ONNX against ONNX source",
        "PyTorch target against ONNX",
    ]
    wrong = check_conversion(source, onnx_format, onnx_model(changed(w, "conv/bias")), path, torch_format)
    assert {row.between for row in wrong.mismatches} == {"ONNX against ONNX source", "PyTorch target against ONNX"}


def test_chosen_layers_stand_in_for_the_outputs(w: Weights, tmp_path: Path) -> None:
    from hub.model import select_outputs

    save(onnx_model(w).ir, tmp_path / "source.onnx")
    model = onnx_model(w)
    select_outputs(model.ir, ["pool"])
    report = check_conversion(tmp_path / "source.onnx", find("onnx"), model, outputs=["pool"])
    assert report.ok, report
    other = onnx_model(changed(w, "conv/kernel"))
    select_outputs(other.ir, ["pool"])
    assert check_conversion(tmp_path / "source.onnx", find("onnx"), other, outputs=["pool"]).mismatches


def test_a_missing_runtime_is_said_loudly(w: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    path = torch_file(w, tmp_path)
    save(onnx_model(w).ir, tmp_path / "source.onnx")
    alone = check_conversion(None, find("onnx"), onnx_model(w), path, find("torch"))
    assert not alone.ok
    assert not alone.mismatches
    report = check_conversion(tmp_path / "source.onnx", find("onnx"), onnx_model(w), path, find("torch"))
    assert report.ok
    (item,) = report.not_compared
    assert item.why == "missing dependency"
    assert 'pip install "onnx-hub[torch]"' in item.reason
    for text in (str(report), report._repr_html_()):
        first = text[: text.index("against")]
        assert "NOT COMPARED" in first
    assert "not compared: PyTorch target" in str(report)
    assert "PyTorch target" in report._repr_html_()


def test_recorded_outputs(w: Weights, tmp_path: Path) -> None:
    model = onnx_model(w)
    x = np.random.default_rng(0).standard_normal((3, 9, 7, 3), dtype=np.float32)
    golden = save_golden(tmp_path / "golden.npz", {"image": x}, model.run(x), runtime="keras", version="9.9")
    report = check(golden, model)
    assert report.ok, report
    assert report.versions["recorded keras"] == "9.9"
    assert report.seed is None
    assert not check(golden, onnx_model(changed(w, "conv/bias"))).ok
    with pytest.raises(UsageError, match="inputs of its own"):
        check(golden, model, inputs=x)
    np.savez(tmp_path / "other.npz", x=x)
    with pytest.raises(InvalidModel, match="not a recording"):
        check(tmp_path / "other.npz", model)
    with pytest.raises(UsageError, match=r"a recording is an \.npz"):
        check(model, model, golden=tmp_path / "golden.json")
    assert not (tmp_path / "golden.json").exists()


def test_given_inputs_and_contradictions(w: Weights) -> None:
    x = np.random.default_rng(0).standard_normal((5, 9, 7, 3), dtype=np.float32)
    report = check(onnx_model(w), torch_module(w), inputs=x)
    assert report.inputs == {"image": "float32 5x9x7x3"}
    assert report.seed is None
    with pytest.raises(UsageError, match="no input is called 'picture'"):
        check(onnx_model(w), torch_module(w), inputs={"picture": x})
    with pytest.raises(UsageError, match="different shapes"):
        check(onnx_model(w), onnx_model(w, hw=(8, 7)))
    assert check(onnx_model(w, hw=("H", "W")), onnx_model(w)).inputs == {"image": "float32 2x9x7x3"}
    with pytest.raises(UsageError, match="is not known: give inputs="):
        check(torch_module(w), torch_module(w))


def test_paths_that_are_no_models(tmp_path: Path, w: Weights) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        check(tmp_path / "none.onnx", onnx_model(w))
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(UnknownFormat):
        check(tmp_path / "x.txt", onnx_model(w))
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07nonsense")
    report = check(onnx_model(w), tmp_path / "bad.onnx")
    assert not report.ok
    assert report.not_compared[0].why == "not loadable"


def test_embedding_indices_stay_in_range() -> None:
    g = GraphBuilder("net")
    table = g.constant(np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32), "table")
    ids = g.op("Cast", g.input("ids", ir.DataType.FLOAT, ["N", "T"]), to=int(ir.DataType.INT64))
    g.output(g.op("Gather", table, ids, axis=0), "y")
    model = Model(g.model())
    assert check(model, model).ok


def test_the_report_escapes_what_comes_from_a_model(w: Weights) -> None:
    g = GraphBuilder("net")
    name = "<script>alert(1)</script>\x1b[31m"
    x = g.input(name, ir.DataType.FLOAT, ["N", 5])
    g.output(g.op("Relu", x), f"{name}!")
    model = Model(g.model())
    report = check(model, model)
    assert report.ok
    assert "\x1b" not in str(report)
    assert "<script>" not in report._repr_html_()
    plain: Any = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["ok"] is True
    assert plain["rows"][0]["verdict"] == "ok"


def test_layers_alone_do_not_make_a_report_ok() -> None:
    rows = [Row("y", "not compared"), Row("conv", "ok", kind="layer")]
    assert not Report(rows=rows).ok
    assert Report(rows=[*rows, Row("y", "ok", kind="before activation")]).ok


def test_an_empty_report_is_not_ok() -> None:
    assert not Report().ok
    assert "NOT COMPARED" in Report().verdict


def test_an_output_may_have_a_tolerance_of_its_own(w: Weights, tmp_path: Path) -> None:
    wrong = onnx_model(changed(w, "conv/bias"))
    assert not check(onnx_model(w), wrong).ok
    report = check(onnx_model(w), wrong, rtol={"probs": 0.3})
    assert report.ok, report
    with pytest.raises(UsageError, match="there is no output 'prob'; outputs are probs"):
        check(onnx_model(w), wrong, rtol={"prob": 0.3})
    save(onnx_model(w).ir, tmp_path / "a.onnx")
    save(wrong.ir, tmp_path / "b.onnx")
    run = CliRunner().invoke
    words = ["check", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    assert run(app, [*words, "--rtol", "probs=0.3"]).exit_code == 0
    assert run(app, [*words, "--rtol", "0.3"]).exit_code == 0
    assert run(app, words).exit_code == 1
    for bad in (["--rtol", "x"], ["--rtol", "-1"], ["--rtol", "1", "--rtol", "probs=1"]):
        assert isinstance(run(app, [*words, *bad]).exception, UsageError)
