"""Runtimes beside hub: finding an old Python, installing whole or not at all, saying what is missing."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import need_runtime
from test_cli import hub

from hub import runtimes
from hub.doctor import diagnose
from hub.errors import HubError, MissingDependency, UsageError
from hub.runtimes import mpistub
from hub.runtimes.pythons import interpreter
from hub.runtimes.recipes import Environment

linux = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="Caffe runs on Linux x86_64 only"
)

FAKE = """#!/bin/sh
case "$*" in
  *sys.implementation*) echo "${FAKE_IS:-cpython True 3.8}" ;;
  *"-m venv"*) for place; do :; done; mkdir -p "$place/bin"; cp "$0" "$place/bin/python" ;;
  *"-m pip"*) echo "$*" >> "$FAKE_LOG"; eval "$FAKE_PIP" ;;
  *--version*) echo 1.0.0; eval "$FAKE_IMPORT" ;;
esac
"""
"""A Python 3.8 as far as an installation asks it anything."""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one Python 3.8, a fake, which is not on PATH; and an empty folder for runtimes."""
    for name in ("HUB_CAFFE_PYTHON", "HUB_CNTK_PYTHON", "PYENV_ROOT", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setenv("HUB_RUNTIMES_DIR", str(tmp_path / "runtimes"))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return program(tmp_path / "fake" / "python3.8")


def program(path: Path, text: str = FAKE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def found(name: str = "caffe") -> tuple[Path, str]:
    recipe = runtimes.find(name)
    assert isinstance(recipe.parts, Environment)
    return interpreter(recipe.title, recipe.parts)


def python() -> Path:
    return found()[0]


# -- the Python ----------------------------------------------------------------------------------------


def test_the_variable_comes_first_then_path_then_pyenv_then_uv(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = program(tmp_path / "path" / "uv", f'#!/bin/sh\n[ "$*" = "python find 3.8" ] && echo {fake}\n')
    assert python() == fake
    pyenv = program(tmp_path / "home/.pyenv/versions/3.7.16/bin/python", FAKE.replace("3.8", "3.7"))
    assert python() == pyenv
    newer = program(tmp_path / "home/.pyenv/versions/3.8.18/bin/python")
    assert found() == (newer, "3.8")
    elsewhere = program(tmp_path / "pyenv/versions/3.8.2/bin/python")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert python() == elsewhere
    shim = program(tmp_path / "path" / "python3.8", "#!/bin/sh\necho pyenv: command not found >&2\nexit 127\n")
    assert python() == elsewhere, "what is on PATH does not run"
    program(shim)
    assert python() == shim
    monkeypatch.setenv("HUB_CAFFE_PYTHON", str(fake))
    assert python() == fake
    assert uv.exists()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "No such file or directory"),
        ("#!/bin/sh\necho it is broken >&2; exit 3\n", "it ends with status 3: it is broken"),
        (FAKE.replace("cpython True 3.8", "cpython True 3.11"), "it is Python 3.11"),
        (FAKE.replace("cpython True 3.8", "pypy True 3.8"), "it is not a 64-bit CPython"),
        ("#!/bin/sh\n", "it is not a 64-bit CPython"),
    ],
)
def test_an_unusable_variable_is_an_error_that_says_why(
    text: str | None, fault: str, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "path" / "python3.8")
    named = tmp_path / "named"
    if text is not None:
        program(named, text)
    monkeypatch.setenv("HUB_CAFFE_PYTHON", str(named))
    with pytest.raises(UsageError, match=f"HUB_CAFFE_PYTHON={named} cannot be used for Caffe: {fault}"):
        python()


@linux
def test_no_python_says_how_to_get_one(fake: Path) -> None:
    with pytest.raises(MissingDependency) as error:
        runtimes.install("caffe")
    for way in ("uv python install 3.8", "pyenv install 3.8", "HUB_CAFFE_PYTHON=/path/to/python3.8"):
        assert way in str(error.value)
    with pytest.raises(MissingDependency) as error:
        runtimes.install("cntk-python")
    assert str(error.value) == (
        "CNTK's Python package needs a Python 3.6, and none was found on PATH, in pyenv or in uv. Get one with\n"
        "    pyenv install 3.6\nor name one: HUB_CNTK_PYTHON=/path/to/python3.6"
    ), "uv has no Python that old"


def test_another_machine_is_refused_by_name(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(MissingDependency, match="Caffe runs on Linux x86_64 and this is Darwin arm64: run hub in a c"):
        runtimes.install("caffe")
    assert {status.state for status in runtimes.statuses()} == {"not supported"}
    part = next(part for part in diagnose().parts if part.name == "caffe")
    assert (part.run, part.command[:20]) == ("no", "run hub in a contain")


# -- installing ----------------------------------------------------------------------------------------


@linux
def test_install_and_remove(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_CAFFE_PYTHON", str(fake))
    assert runtimes.status("caffe").missing == "Caffe is not installed: hub runtimes install caffe"
    said: list[str] = []
    status = runtimes.install("Caffe", said.append)
    assert status == runtimes.status("caffe")
    assert status.path == tmp_path / "runtimes" / "caffe"
    assert status.version == "1.0.0 (kendryte-caffe 1.0.0.20210829)"
    assert [line.split()[0] for line in said] == ["making", "installing", "loading"]
    runtimes.install("caffe")
    (pip,) = (tmp_path / "log").read_text().splitlines()
    assert "--no-deps" in pip
    assert pip.endswith("kendryte-caffe==1.0.0.20210829 numpy==1.24.4 protobuf==3.20.3 six==1.17.0")
    assert runtimes.remove("caffe")
    assert runtimes.status("caffe").state == "not installed"
    assert not runtimes.remove("caffe")
    with pytest.raises(UsageError, match="runtimes are caffe, cntk, cntk-python"):
        runtimes.install("cafe")


def test_where_runtimes_are(fake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert runtimes.folder() == tmp_path / "runtimes"
    monkeypatch.delenv("HUB_RUNTIMES_DIR")
    assert runtimes.folder() == tmp_path / "home/.local/share/hub/runtimes"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert runtimes.folder() == tmp_path / "data/hub/runtimes"
    monkeypatch.setenv("HUB_RUNTIMES_DIR", "/proc/nowhere")
    monkeypatch.setattr(runtimes, "_unsupported", lambda recipe: "")
    with pytest.raises(UsageError, match="cannot write to /proc/nowhere"):
        runtimes.install("caffe")


@linux
@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("FAKE_PIP", "pip failed (status 1)\n    one\n    ERROR: no such wheel"),
        ("FAKE_IMPORT", "Caffe was installed and does not work (status 1)\n    one\n    ERROR: no such wheel"),
    ],
)
def test_a_failure_quotes_the_last_lines_and_leaves_nothing(
    step: str, message: str, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_CAFFE_PYTHON", str(fake))
    monkeypatch.setenv(step, "echo one >&2; echo ERROR: no such wheel >&2; exit 1")
    with pytest.raises(HubError) as error:
        runtimes.install("caffe")
    assert str(error.value) == message
    assert not (runtimes.folder() / "caffe").exists()
    assert runtimes.status("caffe").state == "not installed"


@linux
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_installation_does_not_count(
    end: signal.Signals, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_CAFFE_PYTHON", str(fake))
    monkeypatch.setenv("FAKE_PIP", f"exec sleep {4 if end == signal.SIGKILL else 20}")
    root = str(Path(__file__).resolve().parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "runtimes", "install", "caffe"],
        env={**os.environ, "PYTHONPATH": root},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        start_new_session=True,
    )
    while not (tmp_path / "log").exists():
        time.sleep(0.02)
    # Ctrl-C goes to all that the terminal runs, a kill to the one that is named.
    os.killpg(process.pid, end) if end == signal.SIGINT else process.kill()
    assert process.wait(60) == (130 if end == signal.SIGINT else -end)
    status = runtimes.status("caffe")
    assert status.state == "not installed"
    assert ("interrupted" in status.reason) == (end == signal.SIGKILL)
    monkeypatch.setenv("FAKE_PIP", "")
    said: list[str] = []
    assert runtimes.install("caffe", said.append).state == "installed"
    # What the killed one had started was still at work; it is waited for.
    assert ("waiting" in said[0]) == (end == signal.SIGKILL)


@linux
def test_two_installations_at_once_are_one(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_CAFFE_PYTHON", str(fake))
    monkeypatch.setenv("FAKE_PIP", "sleep 1")
    command = [sys.executable, "-c", "from hub import runtimes; runtimes.install('caffe')"]
    root = str(Path(__file__).resolve().parent.parent)
    both = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1


@linux
def test_what_another_version_of_hub_installed_or_what_lost_its_python_does_not_count(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_CAFFE_PYTHON", str(fake))
    runtimes.install("caffe")
    place = tmp_path / "runtimes" / "caffe"
    marker = (place / runtimes.MARKER).read_text()
    (place / runtimes.MARKER).write_text(marker.replace("1.24.4", "1.24.3"))
    assert "installed by another version of hub" in runtimes.status("caffe").reason
    runtimes.install("caffe")
    assert runtimes.status("caffe").state == "installed"
    (place / "bin/python").unlink()
    assert "is gone" in runtimes.status("caffe").reason
    (place / runtimes.MARKER).write_text("{")
    assert "interrupted" in runtimes.status("caffe").reason


# -- files out of a wheel ------------------------------------------------------------------------------

MEMBERS = (
    "libCntk.Core-2.7.so",
    "libCntk.Math-2.7.so",
    "libCntk.PerformanceProfiler-2.7.so",
    "libiomp5.so",
    "libmklml_intel.so",
)


@pytest.fixture
def wheel(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This Python is the fake; what its pip downloads is a wheel of small libraries."""
    path = tmp_path / "cntk.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*MEMBERS, "another.so"):
            archive.writestr(f"cntk/libs/{name}", mpistub.shared_object(name, {"MPI_Init"}))
    monkeypatch.setenv("FAKE_WHEEL", str(path))
    monkeypatch.setenv("FAKE_PIP", 'while [ "$1" != --dest ]; do shift; done; cp "$FAKE_WHEEL" "$2"')
    monkeypatch.setattr(sys, "executable", str(fake))
    return path


@linux
def test_files_are_taken_out_of_a_wheel(wheel: Path, fake: Path, tmp_path: Path) -> None:
    said: list[str] = []
    status = runtimes.install("cntk", said.append)
    assert said == ["downloading cntk==2.7.post2", "loading CNTK"]
    assert (status.python, status.path, status.version) == (fake, tmp_path / "runtimes/cntk", "1.0.0 (cntk 2.7.post2)")
    assert status.path is not None
    there = {path.name for path in status.path.iterdir()}
    assert there == {*MEMBERS, "libmpi.so.12", "libmpi_cxx.so.1", runtimes.MARKER}
    (pip,) = (tmp_path / "log").read_text().splitlines()
    assert "download --no-deps --only-binary=:all:" in pip
    assert "--python-version 36 --implementation cp --abi cp36m --platform manylinux1_x86_64" in pip
    runtimes.install("cntk")
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    (status.path / "libiomp5.so").unlink()
    assert runtimes.status("cntk").reason == f"libiomp5.so is gone from {status.path}"
    assert runtimes.install("cntk").state == "installed"
    assert runtimes.remove("cntk")
    assert not status.path.exists()


@linux
def test_a_python_without_pip_gets_one(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    monkeypatch.setenv("FAKE_PIP", f'echo "$0" > {tmp_path}/pip; {os.environ["FAKE_PIP"]}')
    status = runtimes.install("cntk")
    assert (tmp_path / "pip").read_text().strip() == f"{status.path}/download/pip/bin/python"
    assert not (tmp_path / "runtimes/cntk/download").exists()


@linux
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {},
            "is not as expected: \"There is no item named 'cntk/libs/libCntk.Core-2.7.so' in the archive",
        ),
        (None, "the wheel of cntk==2.7.post2 is not as expected: File is not a zip file"),
        (dict.fromkeys(MEMBERS, b"text"), "libiomp5.so is no shared object for x86-64"),
    ],
)
def test_another_wheel_is_refused(content: dict[str, bytes] | None, message: str, wheel: Path) -> None:
    wheel.write_text("no wheel")
    if content is not None:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, data in content.items():
                archive.writestr(f"cntk/libs/{name}", data if name == "libiomp5.so" else ELF)
    with pytest.raises(HubError) as error:
        runtimes.install("cntk")
    assert message in str(error.value)
    assert not (runtimes.folder() / "cntk").exists()


ELF = mpistub.shared_object("x", set())


@linux
def test_the_libraries_in_place_of_mpi(tmp_path: Path) -> None:
    path = tmp_path / "libstub.so"
    names = {"MPI_Init", "ompi_mpi_comm_world", "_ZN3MPI4CommD0Ev", *(f"MPI_{i}" for i in range(300))}
    path.write_bytes(mpistub.shared_object("libstub.so", names))
    library = ctypes.CDLL(str(path))
    assert all(hasattr(library, name) for name in names)
    assert not hasattr(library, "MPI_301")
    assert bytes((ctypes.c_char * 1024).in_dll(library, "ompi_mpi_comm_world")) == bytes(1024)
    done = subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(path)!r}).MPI_Init()"], check=False)
    assert done.returncode == -signal.SIGILL, "nobody calls one and does not notice"
    with pytest.raises(HubError, match="there is no library of CNTK in"):
        mpistub.provide(tmp_path)


@linux
def test_what_cntk_needs_of_mpi() -> None:
    need_runtime("cntk")
    place = runtimes.status("cntk").path
    assert place is not None
    needed, given = mpistub.symbols(place / "libCntk.Core-2.7.so")
    assert {"MPI_Init_thread", "ompi_mpi_comm_world"} <= needed
    assert "CNTK_LoadModel" in given
    core = {name for name in needed if name.startswith(("MPI_", "ompi_"))}
    library = ctypes.CDLL(str(place / "libmpi.so.12"))
    assert all(hasattr(library, name) for name in core)


# -- the real ones -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says", "file", "size"),
    [
        ("caffe", "Caffe 1.0.0 (kendryte-caffe 1.0.0.20210829)", "bin/python", (80, 140)),
        ("cntk", "CNTK 2.7 (cntk 2.7.post2)", "libmpi_cxx.so.1", (200, 220)),
    ],
)
def test_a_real_one_into_a_fresh_folder(name: str, says: str, file: str, size: tuple[int, int], tmp_path: Path) -> None:
    need_runtime(name)  # otherwise there is no old Python here, or no network
    done = hub("runtimes", "install", name, HUB_RUNTIMES_DIR=str(tmp_path / "a folder"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{says} is installed in ")
    assert (tmp_path / "a folder" / name / file).exists()
    again = hub("runtimes", "list", "--json", HUB_RUNTIMES_DIR=str(tmp_path / "a folder"))
    (status,) = [status for status in json.loads(again.stdout)["runtimes"] if status["name"] == name]
    assert status["state"] == "installed"
    assert size[0] < status["size"] < size[1]


# -- the commands --------------------------------------------------------------------------------------


@linux
def test_the_list(fake: Path, tmp_path: Path) -> None:
    done = hub("runtimes", "list")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split(maxsplit=6)[0] == "caffe"
    assert "not installed" in done.stdout
    assert "hub runtimes install caffe" in done.stdout
    done = hub("runtimes", "install", "caffe", "--json", HUB_CAFFE_PYTHON=str(fake))
    assert json.loads(done.stdout)["path"] == str(tmp_path / "runtimes/caffe")
    done = hub("runtimes", "list")
    assert str(tmp_path / "runtimes/caffe") in done.stdout
    assert json.loads(hub("runtimes", "remove", "caffe", "--json").stdout)["removed"]
    assert hub("runtimes", "remove", "caffe").stdout == "caffe was not installed\n"


@linux
def test_errors_of_the_commands(fake: Path) -> None:
    done = hub("runtimes", "install", "cafe")
    assert done.returncode == 2
    assert done.stderr == "error: there is no runtime 'cafe'; runtimes are caffe, cntk, cntk-python\n"
    done = hub("runtimes", "install", "caffe", "--json")
    assert done.returncode == json.loads(done.stdout)["error"]["exit_code"] == 4
    done = hub("runtimes", "install", "caffe", HUB_CAFFE_PYTHON=sys.executable)
    assert done.returncode == 2
    assert "it must be the program of a Python 3.8 or 3.7" in done.stderr
    assert hub("runtimes").returncode == 2


@linux
def test_the_doctor(fake: Path) -> None:
    done = hub("doctor")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert platform.python_version() in rows["Python"]
    assert rows["caffe"].endswith("hub runtimes install caffe")
    assert "caffe: Caffe is not installed" in done.stdout
    parts = {part["name"]: part for part in json.loads(hub("doctor", "--json").stdout)["parts"]}
    assert {"Python", "hub", "keras", "torch", "onnx", "caffe"} <= set(parts)
    assert parts["onnx"]["run"] == "yes"
    assert parts["caffe"]["command"] == "hub runtimes install caffe"


def test_the_doctor_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    part = next(part for part in diagnose().parts if part.name == "torch")
    assert part.command == 'pip install "onnx-hub[torch]"'
    assert part.run == "no"
