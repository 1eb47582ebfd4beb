"""Runs a piece of Python in a fresh process and measures all of it: CPU seconds, wall time, peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cost", "measure", "median"]


@dataclass(frozen=True)
class Cost:
    """CPU seconds (user and system, and the user's alone), wall seconds and peak resident MB of one process, and what
    it printed."""

    cpu: float
    user: float
    wall: float
    peak: float
    code: int
    output: str


def measure(code: str, *arguments: str, packages: Sequence[Path] = ()) -> Cost:
    """Run `code` with `arguments` in a new interpreter, which finds the packages in the folders `packages` first."""
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # every tool runs from compiled files
        if packages:
            own = environment.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join([*map(str, packages), *([own] if own else [])])
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        out.seek(0)
        text = out.read()
    scale = 1e6 if sys.platform == "darwin" else 1e3
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(cpu, usage.ru_utime, wall, usage.ru_maxrss / scale, process.returncode, text)


def median(costs: list[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(
        statistics.median(c.cpu for c in costs),
        statistics.median(c.user for c in costs),
        statistics.median(c.wall for c in costs),
        statistics.median(c.peak for c in costs),
        max(c.code for c in costs),
        costs[-1].output,
    )
