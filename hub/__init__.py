"""hub: convert trained neural networks between frameworks through ONNX, and prove every conversion.

    import hub

    hub.convert("model.keras", "model.onnx")
    hub.convert("model.keras", "model.py")   # readable PyTorch code and its weights

Importing `hub` imports no framework, no ONNX and no NumPy.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.convert import Conversion, Inspection, check, convert, inspect, load, locate, reduce, save
from hub.deferred import defer_sympy
from hub.errors import (
    HubError,
    InvalidModel,
    MissingDependency,
    ParityError,
    UnknownFormat,
    UnsupportedOps,
    UsageError,
)
from hub.formats import formats

if TYPE_CHECKING:
    from hub.model import Model
    from parity.report import Report

__version__ = "0.1.0"

__all__ = [
    "Conversion",
    "HubError",
    "Inspection",
    "InvalidModel",
    "MissingDependency",
    "Model",
    "ParityError",
    "Report",
    "UnknownFormat",
    "UnsupportedOps",
    "UsageError",
    "__version__",
    "check",
    "convert",
    "formats",
    "inspect",
    "load",
    "locate",
    "reduce",
    "save",
]

_LAZY = {"Model": "hub.model", "Report": "parity.report"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hub' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _check_siblings() -> None:
    """The packages `importers`, `exporters` and `parity` must be the ones installed with this `hub`."""
    home = Path(__file__).resolve().parent.parent
    for name in ("importers", "exporters", "parity"):
        spec = find_spec(name)
        places = [Path(p).resolve() for p in (spec.submodule_search_locations or [])] if spec else []
        if home / name not in places:
            found = places[0] if places else getattr(spec, "origin", None)
            raise ImportError(
                f"hub needs its package {name!r} beside it in {home}, but Python finds "
                f"{found or 'none'}; rename or move that one, or reinstall onnx-hub"
            )


_check_siblings()
defer_sympy()
