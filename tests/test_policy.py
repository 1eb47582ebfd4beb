"""What holds for all of the source: imports, exceptions, output, names of public things."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hub

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path for package in ("hub", "importers", "exporters", "parity") for path in (ROOT / package).rglob("*.py")
)
FRAMEWORKS = {
    "torch",
    "tensorflow",
    "keras",
    "tf_keras",
    "tf2onnx",
    "coremltools",
    "safetensors",
    "sklearn",
    "caffe",
    "cntk",
    "mxnet",
}
ids = [str(path.relative_to(ROOT)) for path in SOURCES]


def _top_level_imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_no_framework_is_imported_at_module_level(path: Path) -> None:
    roots = {name.split(".")[0] for name in _top_level_imports(ast.parse(path.read_text("utf-8")))}
    assert not roots & FRAMEWORKS


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_no_bare_except_and_no_print(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_importers_and_exporters_know_only_hub(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    forbidden = {"importers": {"exporters", "parity"}, "exporters": {"importers", "parity"}, "parity": {"exporters"}}
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    assert not names & forbidden.get(package, set())


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_files_are_one_idea(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 600


def test_public_names_are_those_of_all() -> None:
    code = "import hub; print(*sorted(n for n in dir(hub)))"
    names = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert names == sorted(hub.__all__)
    assert all(hasattr(hub, name) for name in hub.__all__)


def test_importing_hub_imports_nothing_heavy() -> None:
    heavy = ["numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "h5py", "rich", "typer", *FRAMEWORKS]
    code = f"import sys, hub; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_reading_keras_imports_no_framework() -> None:
    code = (
        "import sys, hub; from hub.demo import SAMPLES as s; hub.load(s / 'digits.keras'); hub.load(s / 'digits.h5');"
        f"print([m for m in {sorted(FRAMEWORKS)!r} + ['sympy'] if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_shadowed_sibling_is_said(tmp_path: Path) -> None:
    (tmp_path / "parity.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import hub"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "parity" in done.stderr.splitlines()[-1]
    assert "reinstall" in done.stderr.splitlines()[-1]
