"""Generated pages are what the registry says, and what the README tells to run, runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import need

import hub
from hub.demo import SAMPLES
from tools import tables

ROOT = Path(__file__).resolve().parent.parent


def test_generated_pages_are_current() -> None:
    assert tables.stale() == []


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def _commands() -> list[str]:
    block = (ROOT / "README.md").read_text("utf-8").split("## The command line")[1].split("```sh")[1].split("```")[0]
    return [line.split("#")[0].strip() for line in block.strip().splitlines()]


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    shutil.copytree(SAMPLES, tmp_path / "hub" / "samples")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    commands = _commands()
    assert len(commands) > 5
    for command in commands:
        words = command.split()
        assert words[0] == "hub"
        done = subprocess.run(
            [sys.executable, "-m", "hub", *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "digits.onnx").exists()
    assert (tmp_path / "digits.py").exists()


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("torch", "safetensors")
    (tmp_path / "hub").mkdir()
    shutil.copytree(SAMPLES, tmp_path / "hub" / "samples")
    monkeypatch.chdir(tmp_path)
    code = (ROOT / "README.md").read_text("utf-8").split("## From Python")[1].split("```python")[1].split("```")[0]
    hub.convert(SAMPLES / "digits.keras", "digits.onnx", check=False)
    scope = {"images": np.zeros((3, 8, 8, 1), np.float32)}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["outputs"]["digit"].shape == (3, 10)
    assert scope["report"].ok
