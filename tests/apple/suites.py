"""Which of Apple's files make a suite, and how a suite is run: in a child process with the plugin."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["LOGS", "OLD_NUMPY", "PACKAGES", "SUITES", "Case", "Run", "again", "read", "run"]

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".suites" / "logs"
PACKAGES = ROOT / ".suites" / "packages"
"""What Apple's tests import besides."""

OLD_NUMPY = ROOT / ".suites" / "numpy"
"""NumPy below 2.4, which coremltools' PyTorch frontend needs."""

SUITES = {
    "mil": ("converters/mil/mil/ops/tests",),
    "torch": ("converters/mil/frontend/torch/test/test_torch_ops.py",),
    "nn": (
        "test/neural_network/test_numpy_nn_layers.py",
        "test/neural_network/test_simple_nn_inference.py",
        "test/neural_network/test_neural_networks.py",
        "test/neural_network/test_model.py",
        "test/neural_network/test_nn_builder.py",
        "test/neural_network/test_quantization.py",
        "test/neural_network/test_tf_numeric.py",
        "test/neural_network/test_custom_neural_nets.py",
        "test/pipeline/test_pipeline.py",
    ),
}


@dataclass(frozen=True)
class Case:
    """What came of one case: "right", "no prediction", "refused", "skipped by Apple", "failed" or "error"."""

    id: str
    file: str
    function: str
    outcome: str
    predictions: int
    message: str
    seconds: float = 0.0


@dataclass
class Run:
    """The cases of a suite that were run, and how many there are."""

    suite: str
    collected: int = 0
    cases: list[Case] = field(default_factory=list)

    @property
    def predictions(self) -> int:
        return sum(case.predictions for case in self.cases)


def run(suite: str, log: Path, select: dict[str, Any], quiet: bool = True) -> Run:
    """Run a suite, or the selected cases of it.

    Where the process dies, the case that it ran is an error, and the rest is run by another one.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    while _child(suite, log, select, quiet):
        done = read(suite, log)
        ids = _selected(log)
        rest = [name for name in ids if name not in {case.id for case in done.cases}]
        if not rest:
            break
        _died(log, rest[0])
        if len(rest) == 1:
            break
        select = {"ids": rest[1:]}
    return read(suite, log)


def again(suite: str, log: Path) -> Run:
    """Run what failed or was refused in a log again, and put the new lines in the place of the old ones."""
    bad = [case.id for case in read(suite, log).cases if case.outcome in ("failed", "error", "refused")]
    if bad:
        part = log.with_suffix(".again")
        run(suite, part, {"ids": bad})
        new = {json.loads(line).get("id"): line for line in part.read_text(encoding="utf-8").splitlines()}
        lines = log.read_text(encoding="utf-8").splitlines()
        fresh = [lines[0], *(new.get(json.loads(line).get("id"), line) for line in lines[1:])]
        log.write_text("\n".join(fresh) + "\n", encoding="utf-8")
        part.unlink()
    return read(suite, log)


def read(suite: str, log: Path) -> Run:
    """The run that a log tells of."""
    result = Run(suite)
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "collected" in entry:
            result.collected = max(result.collected, entry["collected"])
        else:
            result.cases.append(Case(**entry))
    return result


def _selected(log: Path) -> list[str]:
    first = log.read_text(encoding="utf-8").splitlines()[0]
    ids: list[str] = json.loads(first)["selected"]
    return ids


def _died(log: Path, name: str) -> None:
    case = {"id": name, "file": name.split("::")[0], "function": name.split("::", 1)[-1].split("[")[0]}
    line = case | {"outcome": "error", "predictions": 0, "message": "the process died", "seconds": 0.0}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _child(suite: str, log: Path, select: dict[str, Any], quiet: bool) -> bool:
    """Whether the process died before its end."""
    package = importlib.util.find_spec("coremltools")
    if package is None or package.origin is None:
        raise SystemExit("coremltools is not installed: pip install 'onnx-hub[coreml]'")
    folder = Path(package.origin).parent
    with tempfile.TemporaryDirectory(prefix="hub-apple-") as temporary:
        selection = Path(temporary) / "selection.json"
        selection.write_text(json.dumps(select), encoding="utf-8")
        environment = {
            **os.environ,
            "HUB_APPLE_LOG": str(log.resolve()),
            "HUB_APPLE_SELECT": str(selection),
            "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
            "PYMIL_TEST_TARGETS": "mlprogram",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": temporary,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(_paths(suite)),
        }
        command: Sequence[str] = (
            sys.executable, "-m", "pytest", "-q", "-p", "tests.apple.plugin", "-p", "no:cacheprovider",
            "-c", os.devnull, "--rootdir", str(folder.parent), "--tb=short", "-W", "ignore",
            "--continue-on-collection-errors", *(str(folder / file) for file in SUITES[suite]),
        )  # fmt: skip
        done = subprocess.run(command, cwd=temporary, env=environment, capture_output=quiet, text=True, check=False)
    if not log.exists():
        raise SystemExit(f"no case was collected:\n{(done.stdout or '')[-3000:]}{(done.stderr or '')[-3000:]}")
    return done.returncode not in (0, 1, 5)


def _paths(suite: str) -> list[str]:
    if not (OLD_NUMPY.is_dir() and PACKAGES.is_dir()):
        raise SystemExit("the packages of Apple's suites are not in .suites: make .suites/installed")
    old = [str(OLD_NUMPY)] if suite == "torch" else []
    return [*old, str(PACKAGES), str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
