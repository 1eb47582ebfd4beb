"""Finding an old Python on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hub.errors import MissingDependency, UsageError
from hub.runtimes.recipes import Environment

__all__ = ["interpreter"]

_TIMEOUT = 60.0
_PROBE = (
    "import sys, venv, ensurepip; print(sys.implementation.name, sys.maxsize > 2**32, '%d.%d' % sys.version_info[:2])"
)


def interpreter(title: str, environment: Environment) -> tuple[Path, str]:
    """A Python that the runtime called `title` can use, and its version.

    Raises:
        UsageError: the environment variable names one that cannot be used.
        MissingDependency: there is none.
    """
    versions = [*environment.pins]
    if chosen := os.environ.get(environment.variable):
        version, fault = _probe(Path(chosen))
        if fault or version not in versions:
            fault = fault or f"it is Python {version}"
            raise UsageError(
                f"{environment.variable}={chosen} cannot be used for {title}: {fault}; "
                f"it must be the program of a Python {' or '.join(versions)}"
            )
        return Path(chosen).absolute(), version
    for candidate in _candidates(versions):
        version, fault = _probe(candidate)
        if not fault and version in versions:
            return candidate, version
    best = versions[0]
    # uv has none before 3.8.
    uv = tuple(map(int, best.split("."))) >= (3, 8)
    ways = f" one of\n    uv python install {best}\n    pyenv" if uv else "\n    pyenv"
    raise MissingDependency(
        f"{title} needs a Python {' or '.join(versions)}, and none was found on PATH, in pyenv or in uv. "
        f"Get one with{ways} install {best}\n"
        f"or name one: {environment.variable}=/path/to/python{best}"
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
