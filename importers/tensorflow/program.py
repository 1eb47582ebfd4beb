"""A TensorFlow source as a program: its inputs and outputs, its numbers, and the frozen graph that computes them.

Used by the child that converts it, and by the runtime that proves what was made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from importers.tensorflow.sources import locate

__all__ = ["Array", "Frozen", "Options", "Port", "Program", "open_program"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Port:
    """An input or output: the name that users see, its tensor in the graph, type and shape (None: not known)."""

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"


@dataclass(frozen=True)
class Options:
    """What the user says of a source: shapes and values by input, outputs, and the parts of a SavedModel."""

    shapes: Mapping[str, Sequence[int | str | None]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    tag: str | None = None
    signature: str | None = None
    ports: Mapping[str, Mapping[str, str]] | None = None
    """For a function that was frozen: tensors by name, "inputs" and "outputs"."""


@dataclass
class Frozen:
    """A GraphDef without variables. `inputs` and `outputs` are the names that users see, by its own tensors."""

    graph: Any
    inputs: dict[str, str]
    outputs: dict[str, str]


class Program(Protocol):
    """An opened source."""

    inputs: list[Port]
    outputs: list[Port]
    warnings: list[str]
    title: str

    def run(self, feeds: Mapping[str, Array], tensors: Sequence[str] = ()) -> dict[str, Array]:
        """The outputs, by name and in order, then those of the `tensors` that there are."""
        ...

    def operators(self) -> dict[str, str]:
        """The operators by the name of their node."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


def open_program(path: Path, options: Options) -> Program:
    """Open a SavedModel, a GraphDef, a checkpoint or a TFLite model.

    Raises:
        UsageError: there is none at `path`, or an option names what is not there.
        UnsupportedOps: it would run code or open files.
        InvalidModel: it is damaged.
    """
    source = locate(path)
    if source.kind == "lite":
        from importers.tensorflow.lite import LiteProgram

        return LiteProgram(source, options)
    from importers.tensorflow.session import SessionProgram

    return SessionProgram(source, options)
