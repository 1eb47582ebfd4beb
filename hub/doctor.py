"""What works on this machine, and the command that gets the rest."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from hub import runtimes
from hub.formats import DISTRIBUTION, FormatRow, find, formats

__all__ = ["Diagnosis", "Part", "diagnose"]

_PACKAGES = {"keras": "keras", "torch": "torch", "onnx": "onnxruntime", "coreml": "coremltools"}
"""Format -> the distribution whose version says what runs it."""


@dataclass(frozen=True)
class Part:
    """One line: Python, hub or a format. `read`, `write` and `run` are "yes", "no", "not yet" or "-"; `reason` says why
    something is not "yes" that could be, and `command` what changes that."""

    name: str
    version: str
    read: str = "-"
    write: str = "-"
    run: str = "-"
    reason: str = ""
    command: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What `hub doctor` shows."""

    parts: tuple[Part, ...]

    HEADER = ("what", "version", "read", "write", "run", "to get the rest")

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text."""
        return [(p.name, p.version or "-", p.read, p.write, p.run, p.command or "-") for p in self.parts]

    def reasons(self) -> list[str]:
        """A line for each part that could do more."""
        return [f"{part.name}: {part.reason}" for part in self.parts if part.reason]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        return {"parts": [asdict(part) for part in self.parts]}


def diagnose() -> Diagnosis:
    """Look at everything; no framework is imported and nothing is run."""
    import hub

    here = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    rows = [Part("Python", here), Part("hub", hub.__version__)]
    return Diagnosis((*rows, *(_format(row) for row in formats().rows)))


def _format(row: FormatRow) -> Part:
    known = find(row.name)
    run, reason = "not yet", ""
    if known.runner is not None:
        # parity is imported here and not above: `hub` alone imports no NumPy.
        from parity.runners import find as find_runtime

        reason = find_runtime(known.runner).available() or ""
        run = "no" if reason else "yes"
    missing = [runtimes.status(r.name).missing or "" for r in runtimes.RUNTIMES if r.name.startswith(f"{row.name}-")]
    parts = [text.partition(": ") for text in (reason, *(missing if known.runner else ()))]
    reasons, commands = [why for why, _, _ in parts], [how for _, _, how in parts]
    states = {"read": row.read, "write": row.write}
    for verb, state in states.items():
        if state.startswith("needs "):
            states[verb] = "no"
            reasons.append(f"to {verb} it, hub {state}")
            commands.append(f'pip install "{DISTRIBUTION}[{row.extra}]"')
    reason = "; ".join(filter(None, reasons))
    command = " && ".join(dict.fromkeys(filter(None, commands)))
    return Part(row.name, _version(row.name), states["read"], states["write"], run, reason, command)


def _version(name: str) -> str:
    for recipe in runtimes.RUNTIMES:
        if recipe.name == name:
            return runtimes.status(name).version
    try:
        return metadata.version(_PACKAGES.get(name, name))
    except metadata.PackageNotFoundError:
        return ""
