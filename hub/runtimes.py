"""Runtimes that need a Python of their own: what they are, and how they get onto this machine.

The real Caffe runs under Python 3.8 only, which no current program can import. Such a runtime is
installed into a virtual environment of its own, is driven as a separate process
(`parity.runners.sidecar`), and is used for nothing but proving conversions.

    from hub import runtimes

    runtimes.install("caffe")
    print(*runtimes.statuses(), sep="\n")

A runtime is data (`Recipe`). It is installed into `$HUB_RUNTIMES_DIR`, else into the user's data
folder; a marker file that is written last says that an installation is complete.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hub.errors import HubError, MissingDependency, UsageError

__all__ = ["RUNTIMES", "Recipe", "Status", "find", "folder", "install", "remove", "status", "statuses"]

FOLDER = "HUB_RUNTIMES_DIR"
MARKER = "hub-runtime.json"
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Recipe:
    """One runtime: what is installed, for which Python, and on which machines it runs.

    `pins` maps the versions of Python that will do, best first, to what is installed for each.
    `variable` is the environment variable that may name such a Python. `script` is the program, of
    this distribution, that serves the runtime; with --version it imports it and writes its version.
    `about` says what it is, `size` how large in MB, `machine` where it runs, `otherwise` what to do elsewhere.
    """

    name: str
    title: str
    about: str
    variable: str
    pins: dict[str, tuple[str, ...]]
    script: str
    size: int
    machine: tuple[str, str]
    otherwise: str

    @property
    def server(self) -> Path:
        """The path of `script`."""
        return Path(__file__).resolve().parents[1] / self.script


RUNTIMES = (
    Recipe(
        "caffe",
        "Caffe",
        about="BVLC's Caffe 1.0 for the CPU, as packaged in the wheel kendryte-caffe",
        variable="HUB_CAFFE_PYTHON",
        pins={
            "3.8": ("kendryte-caffe==1.0.0.20210829", "numpy==1.24.4", "protobuf==3.20.3", "six==1.17.0"),
            "3.7": ("kendryte-caffe==1.0.0.20210829", "numpy==1.21.6", "protobuf==3.20.3", "six==1.16.0"),
        },
        script="parity/runners/sidecar/caffe_server.py",
        size=115,
        machine=("Linux", "x86_64"),
        otherwise=(
            "run hub in a container (docker run --platform linux/amd64 python:3.11), "
            "or go without it, and files are not compared in Caffe"
        ),
    ),
)


@dataclass(frozen=True)
class Status:
    """One runtime on this machine. `reason` says why it cannot be used, `command` what changes that;
    `path`, `version` and `python` (the program to run it with) are those of an installation. `size` is in MB,
    about what it would be if it is not installed."""

    name: str
    title: str
    state: Literal["installed", "not installed", "not supported"]
    size: int
    reason: str = ""
    command: str = ""
    path: Path | None = None
    version: str = ""
    python: Path | None = None

    @property
    def missing(self) -> str | None:
        """None if it is installed, else a sentence for the user: why it cannot be used, and what helps."""
        if self.state == "installed":
            return None
        reason = self.reason or f"{self.title} is not installed"
        return f"{reason}: {self.command}" if self.command else reason

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def find(name: str) -> Recipe:
    """The recipe of the runtime `name`.

    Raises:
        UsageError: there is none of that name.
    """
    for recipe in RUNTIMES:
        if recipe.name == name.lower():
            return recipe
    raise UsageError(f"there is no runtime {name!r}; runtimes are {', '.join(r.name for r in RUNTIMES)}")


def folder() -> Path:
    """Where runtimes are installed."""
    if chosen := os.environ.get(FOLDER):
        return Path(chosen).absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).absolute() / "hub" / "runtimes"


def statuses() -> list[Status]:
    """All runtimes and what there is of them here. Nothing is executed."""
    return [status(recipe.name) for recipe in RUNTIMES]


def status(name: str) -> Status:
    """The state of the runtime `name`; reads one small file.

    Raises:
        UsageError: there is no runtime of that name.
    """
    recipe = find(name)
    if reason := _unsupported(recipe):
        return Status(recipe.name, recipe.title, "not supported", recipe.size, reason)
    place = folder() / recipe.name
    marker = _marker(place)
    reason = ""
    if marker is None:
        reason = f"an installation in {place} was interrupted" if place.exists() else ""
    elif marker["pins"] not in [[*pins] for pins in recipe.pins.values()]:
        reason = f"the {recipe.title} in {place} was installed by another version of hub"
    elif not _python(place).exists():
        reason = f"the Python that {place} was made with is gone"
    if marker is None or reason:
        command = f"hub runtimes install {recipe.name}"
        return Status(recipe.name, recipe.title, "not installed", recipe.size, reason, command)
    version, size = str(marker["version"]), int(marker["size"])
    return Status(recipe.name, recipe.title, "installed", size, path=place, version=version, python=_python(place))


def install(name: str, progress: Callable[[str], None] = lambda stage: None) -> Status:
    """Install the runtime `name`, unless it is there already, and prove that it can be imported.

    Several may install the same at once: the others wait for the first. `progress` is called with the name of
    each stage. Takes 10 to 30 seconds.

    Raises:
        UsageError: there is no such runtime, or the environment variable that names its Python names an unusable one.
        MissingDependency: it does not run on this machine, or there is no Python for it.
        HubError: pip failed, or what it installed does not work.
    """
    recipe = find(name)
    if reason := _unsupported(recipe):
        raise MissingDependency(reason)
    place = folder() / recipe.name
    with _locked(recipe, progress) as lock:
        now = status(name)
        if not now.missing:
            return now
        python, version = _interpreter(recipe)
        progress(f"making an environment of Python {version} in {place}")
        _clear(place)
        try:
            _build(recipe, place, python, recipe.pins[version], progress, lock)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    return status(name)


def remove(name: str) -> bool:
    """Remove the runtime `name`; whether there was something to remove.

    Raises:
        UsageError: there is no such runtime.
    """
    recipe = find(name)
    place = folder() / recipe.name
    if not place.exists():
        return False
    with _locked(recipe, lambda stage: None):
        _clear(place)
    return True


def _build(
    recipe: Recipe, place: Path, python: Path, pins: tuple[str, ...], progress: Callable[[str], None], lock: int
) -> None:
    # What is started here holds the lock, too: if this process is killed, it is still at work.
    command = partial(_command, lock)
    mine = _python(place)
    command(f"no virtual environment could be made with {python}", python, "-I", "-m", "venv", place)
    progress(f"installing {', '.join(pins)}")
    options = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check")
    command("pip failed", mine, "-I", "-m", "pip", "install", *options, *pins)
    progress(f"importing {recipe.title}")
    failure = f"{recipe.title} was installed and does not work"
    version = command(failure, mine, "-E", "-s", "-B", recipe.server, "--version").strip()
    size = sum(file.lstat().st_size for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    about = {"version": f"{version} ({' '.join(pins[0].split('=='))})", "pins": pins, "size": round(size / 1e6)}
    unfinished = place / f"{MARKER}.part"
    unfinished.write_text(json.dumps(about, indent=2), encoding="utf-8")
    os.replace(unfinished, place / MARKER)


def _command(lock: int, failure: str, *arguments: str | Path) -> str:
    """The standard output of a program; if it fails, a HubError quotes its last lines."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, errors="replace", pass_fds=(lock,))
    except OSError as error:
        raise HubError(f"{failure}: {error}") from error
    with process:
        try:
            output, errors = process.communicate()
        except BaseException:
            # Ctrl-C reaches all that was started as well; it is waited for, so that nothing writes any more.
            process.kill()
            process.communicate()
            raise
    if process.returncode:
        lines = [line.rstrip() for line in (errors or output).splitlines() if line.strip()]
        raise HubError("\n    ".join([f"{failure} (status {process.returncode})", *lines[-6:]]))
    return output


def _clear(place: Path) -> None:
    """Remove an installation; it stops counting as one first."""
    (place / MARKER).unlink(missing_ok=True)
    if place.exists():
        shutil.rmtree(place)


def _marker(place: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((place / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and {"version", "pins", "size"} <= set(marker) else None


def _python(place: Path) -> Path:
    return place / "bin" / "python"


def _unsupported(recipe: Recipe) -> str:
    """Why the runtime does not run on this machine, or nothing."""
    here = (platform.system(), platform.machine())
    if here == recipe.machine:
        return ""
    return f"{recipe.title} runs on {' '.join(recipe.machine)} and this is {' '.join(here)}: {recipe.otherwise}"


@contextmanager
def _locked(recipe: Recipe, progress: Callable[[str], None]) -> Iterator[int]:
    """Nobody else installs or removes this runtime meanwhile. The lock, an open file, is free again when the
    process that took it and all that inherited it have ended."""
    import fcntl

    home = folder()
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = open(home / f".{recipe.name}.lock", "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UsageError(f"cannot write to {home}: {error.strerror}; {FOLDER} chooses another folder") from error
    with file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    progress(f"waiting for another installation of {recipe.title}")
                waiting = True
                time.sleep(0.1)
        yield file.fileno()


# -- finding an old Python ---------------------------------------------------------------------------

_PROBE = (
    "import sys, venv, ensurepip; print(sys.implementation.name, sys.maxsize > 2**32, '%d.%d' % sys.version_info[:2])"
)


def _interpreter(recipe: Recipe) -> tuple[Path, str]:
    """A Python that the runtime can use, and its version."""
    versions = [*recipe.pins]
    if chosen := os.environ.get(recipe.variable):
        version, fault = _probe(Path(chosen))
        if fault or version not in versions:
            fault = fault or f"it is Python {version}"
            raise UsageError(
                f"{recipe.variable}={chosen} cannot be used for {recipe.title}: {fault}; "
                f"it must be the program of a Python {' or '.join(versions)}"
            )
        return Path(chosen).absolute(), version
    for candidate in _candidates(versions):
        version, fault = _probe(candidate)
        if not fault and version in versions:
            return candidate, version
    best = versions[0]
    raise MissingDependency(
        f"{recipe.title} needs a Python {' or '.join(versions)}, and none was found on PATH, in pyenv or in uv. "
        f"Get one with one of\n    uv python install {best}\n    pyenv install {best}\n"
        f"or name one: {recipe.variable}=/path/to/python{best}"
    )


def _candidates(versions: list[str]) -> Iterator[Path]:
    """Programs that may be a Python of one of `versions`: those of PATH, then pyenv's, then uv's."""
    for version in versions:
        for place in os.environ.get("PATH", os.defpath).split(os.pathsep):
            if place and os.access(program := Path(place).absolute() / f"python{version}", os.X_OK):
                yield program
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in versions:
        yield from sorted(pyenv.glob(f"versions/{version}*/bin/python"), reverse=True)
    if uv := shutil.which("uv"):
        for version in versions:
            found = subprocess.run([uv, "python", "find", version], capture_output=True, text=True, check=False)
            if found.returncode == 0 and found.stdout.strip():
                yield Path(found.stdout.strip())


def _probe(program: Path) -> tuple[str, str]:
    """The version of a Python, and what is wrong with it, or nothing. It is really run: a shim on PATH may not."""
    try:
        done = subprocess.run(
            [program, "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", getattr(error, "strerror", None) or str(error)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return "", f"it ends with status {done.returncode}{': ' + lines[-1] if lines else ''}"
    kind, wide, version = [*done.stdout.split(), "", "", ""][:3]
    if (kind, wide) != ("cpython", "True"):
        return version, "it is not a 64-bit CPython"
    return version, ""
