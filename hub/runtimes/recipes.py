"""The runtimes that can be installed, as data: what each is made of, and on which machines it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub.runtimes.mpistub import provide

__all__ = ["RUNTIMES", "Environment", "Files", "Recipe"]


@dataclass(frozen=True)
class Environment:
    """A virtual environment of an old Python. `pins` maps the versions of Python that will do, best first, to what
    is installed for each; `variable` is the environment variable that may name such a Python."""

    variable: str
    pins: dict[str, tuple[str, ...]]

    @property
    def choices(self) -> list[list[str]]:
        """What an installation may be made of."""
        return [[*pins] for pins in self.pins.values()]


@dataclass(frozen=True)
class Files:
    """Shared objects out of a wheel, for any Python. `tags` say for which Python, implementation, ABI and platform
    the wheel `pin` was made; its `members` go into one folder."""

    pin: str
    tags: tuple[str, str, str, str]
    members: tuple[str, ...]

    @property
    def choices(self) -> list[list[str]]:
        """What an installation may be made of."""
        return [[self.pin]]


@dataclass(frozen=True)
class Recipe:
    """One runtime: what it consists of, and on which machines it runs.

    `script` is the program, of this distribution, that serves the runtime. Its argument is the folder of the
    installation; with --version it loads the runtime and writes its version. `finish` adds to an installation what
    no package has. `about` says what it is, `size` how large in MB, `machine` where it runs, `otherwise` what to
    do elsewhere.
    """

    name: str
    title: str
    about: str
    parts: Environment | Files
    script: str
    size: int
    machine: tuple[str, str]
    otherwise: str
    finish: Callable[[Path], None] | None = None

    @property
    def server(self) -> Path:
        """The path of `script`."""
        return Path(__file__).resolve().parents[2] / self.script


_LINUX = ("Linux", "x86_64")
_ELSEWHERE = (
    "run hub in a container (docker run --platform linux/amd64 python:3.11), "
    "or go without it, and files are not compared in "
)

RUNTIMES = (
    Recipe(
        "caffe",
        "Caffe",
        about="BVLC's Caffe 1.0 for the CPU, as packaged in the wheel kendryte-caffe",
        parts=Environment(
            "HUB_CAFFE_PYTHON",
            {
                "3.8": ("kendryte-caffe==1.0.0.20210829", "numpy==1.24.4", "protobuf==3.20.3", "six==1.17.0"),
                "3.7": ("kendryte-caffe==1.0.0.20210829", "numpy==1.21.6", "protobuf==3.20.3", "six==1.16.0"),
            },
        ),
        script="hub/sidecar/caffe_server.py",
        size=115,
        machine=_LINUX,
        otherwise=f"{_ELSEWHERE}Caffe",
    ),
    Recipe(
        "cntk",
        "CNTK",
        about="CNTK 2.7 for the CPU, its libraries without its Python",
        parts=Files(
            "cntk==2.7.post2",
            ("36", "cp", "cp36m", "manylinux1_x86_64"),
            (
                "cntk/libs/libCntk.Core-2.7.so",
                "cntk/libs/libCntk.Math-2.7.so",
                "cntk/libs/libCntk.PerformanceProfiler-2.7.so",
                "cntk/libs/libiomp5.so",
                "cntk/libs/libmklml_intel.so",
            ),
        ),
        script="hub/sidecar/cntk_server.py",
        size=211,
        machine=_LINUX,
        otherwise=f"{_ELSEWHERE}CNTK",
        finish=provide,
    ),
    Recipe(
        "cntk-python",
        "CNTK's Python package",
        about="CNTK 2.7 for the CPU with its Python, which runs code for CNTK",
        parts=Environment("HUB_CNTK_PYTHON", {"3.6": ("cntk==2.7.post2", "numpy==1.19.5", "scipy==1.5.4")}),
        script="hub/sidecar/cntk_python_server.py",
        size=440,
        machine=_LINUX,
        otherwise=f"{_ELSEWHERE}CNTK",
        finish=provide,
    ),
)
