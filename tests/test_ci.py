"""What CI uses: the action's steps as the runner takes them, the hook, the pytest plugin, recordings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from test_parity_divergence import residual

from hub.demo import SAMPLES
from hub.onnxfile import save
from parity.check import check
from parity.report import combined

ROOT = Path(__file__).resolve().parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))


def runner(folder: Path, **given: str) -> tuple[int, dict[str, str], str, str]:
    """Run the steps of action.yml with a shell, as GitHub's runner does: status, outputs, summary, log."""
    inputs = {
        name: given.get(name.replace("-", "_"), about.get("default", "")) for name, about in ACTION["inputs"].items()
    }
    temp = folder / "runner"
    temp.mkdir(exist_ok=True)
    files = {"GITHUB_OUTPUT": temp / "output", "GITHUB_STEP_SUMMARY": temp / "summary"}
    for file in files.values():
        file.write_text("")

    def filled(text: str) -> str:
        known = {f"inputs.{name}": value for name, value in inputs.items()}
        known |= {"runner.temp": str(temp), "github.action_path": str(ROOT)}
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda match: known[match[1]], text)

    status, log = 0, ""
    for step in ACTION["runs"]["steps"]:
        if "uses" in step or (step.get("if") == "inputs.install == 'true'" and inputs["install"] != "true"):
            continue
        assert step["shell"] == "bash"
        environment = {**os.environ, **{name: filled(value) for name, value in step.get("env", {}).items()}}
        environment |= {name: str(file) for name, file in files.items()}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", filled(step["run"])]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        status, log = done.returncode, done.stdout + done.stderr
        if status:
            break
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text("utf-8").splitlines())
    return status, outputs, files["GITHUB_STEP_SUMMARY"].read_text("utf-8"), log


def test_the_action_converts_and_reports(tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_bytes((SAMPLES / "digits.keras").read_bytes())
    status, outputs, summary, log = runner(tmp_path, source="net.keras", target="out net.onnx", install="false")
    assert status == 0, log
    assert (tmp_path / "out net.onnx").is_file()
    assert outputs["verdict"].startswith("PASSED")
    assert summary.startswith("### ✅")
    assert sorted(path.name for path in Path(outputs["report"]).iterdir()) == [
        f"report.{form}" for form in ("html", "json", "md", "xml")
    ]
    assert int(ET.parse(Path(outputs["report"]) / "report.xml").getroot()[0].get("tests", "0")) > 0


def test_the_action_fails_where_two_models_differ(tmp_path: Path) -> None:
    save(residual().ir, tmp_path / "a.onnx")
    save(residual("a1").ir, tmp_path / "b.onnx")
    given = {"source": "a.onnx", "target": "b.onnx", "install": "false", "check_only": "true", "options": "--layers"}
    status, outputs, summary, log = runner(tmp_path, **given)
    assert status == 1, log
    assert outputs["verdict"].startswith("MISMATCH")
    assert "a1 (Conv); its inputs agree" in summary


def test_the_action_has_inputs_that_its_steps_use() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    for name in ACTION["inputs"]:
        assert f"inputs.{name}" in text.split("runs:")[1]


def test_the_hook_calls_a_command_that_is_there(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    model, other = tmp_path / "net.onnx", tmp_path / "other.onnx"
    save(residual().ir, model)
    save(residual().ir, other)
    check(model, model, golden=tmp_path / "net.golden.npz")
    assert re.search(hook["files"], model.name)

    def hub(*files: Path) -> Any:
        command = [sys.executable, "-m", *hook["entry"].split(), *map(str, files)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = hub(model, other)
    assert done.returncode == 0, done.stderr
    assert "net.onnx: PASSED" in done.stdout
    assert "there is no other.golden.npz beside it" in done.stdout
    save(residual("b1").ir, model)
    done = hub(model)
    assert done.returncode == 1
    assert "net.onnx: MISMATCH" in done.stdout
    model.write_bytes(b"nothing")
    assert hub(model).returncode not in (0, 1)
    other.write_bytes(b"nothing")
    assert hub(other).returncode == 5


PLUGIN = """
def test_right(hub_check):
    assert hub_check("a.onnx", "a.onnx", layers=True).ok

def test_wrong(hub_check):
    hub_check("a.onnx", "b.onnx", layers=True)
"""


def test_the_pytest_plugin_fails_tests_and_writes_one_report(tmp_path: Path) -> None:
    save(residual().ir, tmp_path / "a.onnx")
    save(residual("a1").ir, tmp_path / "b.onnx")
    (tmp_path / "test_models.py").write_text(PLUGIN)
    plugin = ["-p", "parity.pytest_plugin"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}

    def pytest_run(*words: str) -> Any:
        command = [sys.executable, "-m", "pytest", *plugin, "-q", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = pytest_run("--hub-report", "report.html", "--hub-report", "report.json")
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "a1 (Conv); its inputs agree" in done.stdout
    data = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert {row["between"].split(":")[2] for row in data["rows"]} == {"test_right", "test_wrong"}
    assert "test_models.py::test_wrong" in (tmp_path / "report.html").read_text("utf-8")
    done = pytest_run("--hub-report", "report.doc")
    assert done.returncode == 4
    assert "a report is .html" in done.stderr


def test_reports_are_put_together() -> None:
    reports = {name: check(residual(), residual(name), layers=True) for name in ("a1", "a2")}
    whole = combined(reports, "all")
    assert len(whole.rows) == sum(len(report.rows) for report in reports.values())
    assert [found.layer for found in whole.divergences] == ["a1", "a2"]
    assert not whole.ok
    assert len({row.between for row in whole.rows}) == 2


def test_the_examples_of_the_page_are_yaml() -> None:
    text = (ROOT / "docs" / "ci.md").read_text("utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    github, gitlab, hooks = blocks
    used = github["jobs"]["model"]["steps"][1]["with"]
    assert set(used) <= set(ACTION["inputs"])
    assert gitlab["model"]["artifacts"]["reports"]["junit"] == "report.xml"
    assert hooks["repos"][0]["hooks"][0]["id"] == "hub-check"


@pytest.mark.parametrize("name", ["source", "target"])
def test_what_the_action_needs_is_required(name: str) -> None:
    assert ACTION["inputs"][name]["required"] is True
