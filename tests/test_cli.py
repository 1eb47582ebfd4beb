"""The command line as a user meets it: exit codes, one clear message, JSON, pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_models import Weights, onnx_model, torch_file, weights

from hub.onnxfile import save

ROOT = Path(__file__).resolve().parent.parent
HEAVY = [
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "h5py",
    "torch",
    "tensorflow",
    "keras",
    "safetensors",
    "sympy",
]


def hub(*arguments: Any, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with its output in pipes."""
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-m", "hub", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": search, **environment},
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def w() -> Weights:
    return weights()


@pytest.fixture(scope="module")
def model(w: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "model.onnx"
    save(onnx_model(w).ir, path)
    return path


@pytest.fixture(scope="module")
def other(w: Weights, model: Path) -> Path:
    """The same network with one weight changed."""
    changed = {name: value.copy() for name, value in w.items()}
    changed["conv/bias"][0] += 0.5
    path = model.with_name("other.onnx")
    save(onnx_model(changed).ir, path)
    return path


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["--version"], ["convert", "--help"], ["check", "--help"], []]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, hub.cli\n"
        f"code = hub.cli._run({arguments!r})\n"
        "lazy = lambda m: type(sys.modules[m]).__name__ == '_LazyModule'\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules and not lazy(m)])\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == (0 if arguments else 2), done.stderr
    assert done.stdout.rstrip().endswith("HEAVY []")
    assert "hub" in done.stdout


def test_check_says_the_verdict_last(model: Path, other: Path) -> None:
    good = hub("check", model, model)
    assert good.returncode == 0, good.stderr
    assert good.stderr == ""
    assert good.stdout.splitlines()[-1].startswith("PASSED: 2 of 2")
    bad = hub("check", model, other, "--layers")
    assert bad.returncode == 1
    assert bad.stdout.splitlines()[-1].startswith("MISMATCH: ")
    assert "layer conv" in bad.stdout
    assert "\x1b" not in bad.stdout
    assert hub("check", model, other, "--atol", 100).returncode == 1, "a tolerance that proves nothing does not pass"


def test_check_json(model: Path, other: Path) -> None:
    done = hub("check", model, other, "--json")
    data = json.loads(done.stdout)
    assert done.returncode == data["exit_code"] == 1
    assert data["ok"] is False
    assert {row["verdict"] for row in data["rows"]} == {"mismatch"}


def test_check_with_given_inputs(model: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).standard_normal((4, 9, 7, 3), dtype=np.float32)
    np.savez(tmp_path / "x.npz", image=image)
    np.savez(tmp_path / "wrong.npz", picture=image)
    done = hub("check", model, model, "--inputs", tmp_path / "x.npz")
    assert done.returncode == 0
    assert "inputs (given): image float32 4x9x7x3" in done.stdout
    wrong = hub("check", model, model, "--inputs", tmp_path / "wrong.npz")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: no input is called 'picture' and 'image' is not given; the model takes 'image'\n"


def test_check_against_a_python_file_without_torch(model: Path, w: Weights, tmp_path: Path) -> None:
    path = torch_file(w, tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else real(name, *a)\n"
    )
    search = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "hub", "check", str(model), str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert (
        'NOT COMPARED: model.py: PyTorch is not installed (torch missing): pip install "onnx-hub[torch]"' in done.stdout
    )
    assert done.stdout.splitlines()[-1] == "NOT COMPARED: nothing was proved"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "modle.onnx", "model.onnx"], 2, "error: modle.onnx does not exist; did you mean 'model.onnx'?"),
        (["check", "model.onnx"], 2, "error: give a second model, --save FILE.npz, or --against FILE.npz"),
        (["check", "model.onnx", "model.onnx", "--seed", "x"], 2, "error: Invalid value for '--seed'"),
        (["check", "model.onnx", "model.onnx", "--rtol", "-1"], 2, "error: --rtol -1: it is not negative"),
        (["check", "text.txt", "model.onnx"], 2, "error: text.txt: the format cannot be told"),
        (["convert", "model.onnx", "out.xyz"], 2, "error: out.xyz: no target is written to files of suffix '.xyz'"),
        (
            ["convert", "model.onnx", "out.onnx", "--input", "image"],
            2,
            "error: --input image: write it as NAME:1x224x224x3",
        ),
        (["convert", "model.onnx", "out.onnx", "--to", "tensorfow"], 2, "error: there is no format 'tensorfow'"),
        (["convert", "empty.onnx", "out.onnx"], 5, "error: "),
        (["convert", "truncated.onnx", "out.onnx"], 5, "error: "),
        (["nonsense"], 2, "error: No such command 'nonsense'"),
    ],
)
def test_errors_are_one_message_with_their_exit_code(
    arguments: list[str], code: int, message: str, model: Path
) -> None:
    folder = model.parent
    (folder / "text.txt").write_text("hello")
    (folder / "empty.onnx").touch()
    (folder / "truncated.onnx").write_bytes(model.read_bytes()[:700])
    before = set(folder.iterdir())
    done = hub(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr
    assert set(folder.iterdir()) == before
    as_json = hub(*arguments, "--json", cwd=folder)
    assert as_json.returncode == code
    data = json.loads(as_json.stdout)
    assert data["ok"] is False
    assert data["error"]["exit_code"] == code
    assert "Traceback" in hub(*arguments, cwd=folder, HUB_TRACEBACK="1").stderr


def test_convert_and_inspect(model: Path, tmp_path: Path) -> None:
    done = hub("convert", model, tmp_path / "out.onnx")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"wrote {tmp_path / 'out.onnx'} (")
    assert lines[-1].startswith("PASSED")
    unchecked = hub("convert", model, tmp_path / "out.onnx", "--no-check", "--json")
    data = json.loads(unchecked.stdout)
    assert data["ok"] is True
    assert data["report"] is None
    assert data["paths"] == [str(tmp_path / "out.onnx")]
    told = hub("inspect", model, "--for", "onnx")
    assert told.returncode == 0, told.stderr
    assert "image: float32[N, 9, 7, 3]" in told.stdout
    assert json.loads(hub("inspect", model, "--json").stdout)["ok"] is True


def test_formats() -> None:
    done = hub("formats")
    assert done.returncode == 0
    assert "onnx" in done.stdout
    assert any(row["name"] == "keras" for row in json.loads(hub("formats", "--json").stdout)["formats"])


def test_a_closed_pipe_is_no_error() -> None:
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "hub", "formats"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_fault_of_hub_is_one_line_and_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import hub as package
    from hub import cli

    def broken() -> None:
        raise KeyError("x\x1b[31m")

    monkeypatch.setattr(package, "formats", broken)
    assert cli._run(["formats"]) == 70
    assert "internal error: KeyError" in (text := capsys.readouterr().err)
    assert "\x1b" not in text


def test_a_wrong_conversion_shows_the_report_and_ends_with_1(
    w: Weights, model: Path, other: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import hub as package
    from hub import cli

    report = package.check(model, other)

    def wrong(*arguments: Any, **options: Any) -> None:
        raise package.ParityError(f"the numbers disagree; nothing was written\n{report}", report)

    monkeypatch.setattr(package, "convert", wrong)
    assert cli._run(["convert", str(model), "out.onnx"]) == 1
    text = capsys.readouterr()
    assert text.out == ""
    assert text.err.startswith("error: the numbers disagree; nothing was written\n")
    assert text.err.count("MISMATCH: 2 of 2") == 1
    assert cli._run(["convert", str(model), "out.onnx", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["error"]["report"]["ok"] is False


def test_a_pair_and_shapes() -> None:
    from hub.words import inputs_of, source_of

    assert source_of("a.json,w.h5") == (Path("a.json"), Path("w.h5"))
    assert source_of("a.json") == Path("a.json")
    assert inputs_of(["in:0:1x?xNx3", "b:7"]) == {"in:0": [1, None, "N", 3], "b": [7]}
    assert inputs_of(["ids:int64:1xL", "sr=16000", "is_training=False"]) == {
        "ids": ("int64", [1, "L"]),
        "sr": 16000,
        "is_training": False,
    }


def test_text_from_a_model_is_harmless_on_a_terminal() -> None:
    from hub.text import printable

    assert printable("a\x1b]0;x\x07\u202eb\n") == "a\\x1b]0;x\\x07\\u202eb\\n"
    assert printable("a\nb\r", lines=True) == "a\nb\\r"
    assert printable("Größe 层") == "Größe 层"
