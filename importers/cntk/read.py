"""CNTK models from `.dnn` and `.model` files of version 2; without CNTK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub import dnn
from hub.errors import InvalidModel, UsageError, blaming
from hub.formats import resolve
from hub.model import Model
from importers.cntk import graph
from importers.cntk.functions import parse

__all__ = ["read"]


def read(
    src: Any,
    *,
    inputs: Mapping[str, Sequence[int | str | None]] | None = None,
    outputs: Sequence[str] | None = None,
    trust: bool = False,
) -> Model:
    """Read a CNTK model of version 2: a `.dnn` or `.model` file. Nothing in it is executed, whatever `trust` says.

    Args:
        inputs: shapes by input, for sizes that the model leaves open (a name or None leaves them so).
        outputs: functions or outputs, by name or uid, that are given out instead; what they do not need is not read.

    Raises:
        UsageError: it is code.
        UnsupportedOps: naming every function that has no form yet.
        InvalidModel: the file is damaged, hostile, of CNTK 1, or no model of CNTK.
    """
    if not isinstance(src, str | Path):
        raise UsageError("a CNTK source is the path of a .dnn or .model file")
    path = resolve(src)
    if path.is_dir():
        raise InvalidModel(f"{path} is a directory; a CNTK model is one file")
    if path.suffix.lower() == ".py":
        raise UsageError(
            f"{path} is code, which is not executed; in CNTK's Python, `python {path.name}` saves the model"
        )
    with blaming(str(path)):
        network = parse(dnn.read(path))
        return graph.build(network, dict(inputs or {}), outputs or (), path.stem)
