"""Runtimes, each behind the same small protocol.

A module of this package is one runtime and has two functions:

    available() -> str | None       None if it can be used here, else "why not: how to get it";
                                    it imports nothing
    open(source) -> Runner          a path, a pair of paths or a live object, ready to run

A runner takes and gives NumPy arrays by name. Beside the outputs it can give values from within
the model; these are called taps and come back in the same dictionary under the tap's own name:

    "layer:NAME"     the output of the layer NAME, one of `runner.layers`
    "core:NAME"      the same without the activation that the layer includes, where it has one
    "exit:NAME"      what leaves NAME and the layers NAME/..., where a layer of a source is made of several
    "before:*"       for every output that a squashing activation (Softmax, Sigmoid, ...) produces,
                     what goes into that activation, as "before:OUTPUT"

A tap that the runtime cannot give is absent from the result; it is never an error.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from hub.sidecar import LoadFailed, RunFailed

__all__ = [
    "BEFORE",
    "SQUASHING",
    "Array",
    "Damaged",
    "LoadFailed",
    "NotInstalled",
    "Port",
    "RunFailed",
    "Runner",
    "Runtime",
    "Unfit",
    "find",
    "need",
    "single_line",
]

Array = np.ndarray[Any, Any]

BEFORE = "before:*"

# Activations that squash: a large error before them can be invisible after them.
SQUASHING = frozenset(
    """softmax logsoftmax log_softmax sigmoid hardsigmoid hard_sigmoid tanh softplus bnll softsign""".split()
)


class Unfit(LoadFailed):
    """The file is for a relative of the runtime: that this one cannot load it says nothing against the file."""


class Damaged(LoadFailed):
    """The file is wrong in itself, whoever runs it."""


class NotInstalled(Unfit):
    """The file needs a part of the runtime that is not installed. The message says how to get it."""


@dataclass(frozen=True)
class Port:
    """An input of a model.

    `dtype` is NumPy's name, None if the runtime does not say. `shape` is None if not known; an
    entry is an int, a symbol, or None for an unnamed free dimension. `range` bounds the values,
    both ends included.
    """

    name: str
    dtype: str | None = None
    shape: tuple[int | str | None, ...] | None = None
    range: tuple[float, float] | None = None


class Runner(Protocol):
    """An opened model. `layout` says in which layout its values come: "source" is the source
    model's (after `perms`, which holds permutations by tap), "canonical" ONNX's, except for taps in `perms`.
    `onnx` says that without `perms` they come in ONNX's, `batch_first` that the batch is their first axis all the same.
    `grain` says what a layer is: "whole" as in the source, "core" without the activation that the
    source may include in it, "parts" one of several that a layer of the source became.
    `layers` maps the layers that can be tapped to their ops, `ops` outputs and "before:" taps.
    `flow` has for each layer those that feed it, and is empty where the runtime does not say.
    `precision` is what it computes in, a key of `parity.compare.TOLERANCES`; `remarks` go into the report."""

    name: str
    version: str
    inputs: list[Port]
    layers: dict[str, str]
    ops: dict[str, str]
    perms: dict[str, tuple[int, ...]]
    layout: Literal["source", "canonical"]
    onnx: bool
    batch_first: bool
    grain: Literal["whole", "core", "parts"]
    precision: str
    remarks: list[str]
    flow: dict[str, list[str]]

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """Outputs in order, then the taps that could be given.

        Raises:
            LoadFailed: the model turned out not to be loadable (some runtimes load late).
            RunFailed: it failed on these inputs.
        """
        ...

    def as_written(self) -> None:
        """Take and give what the file itself does, where it says how its source did."""
        ...

    def bytes_of(self, layer: str, feeds: Mapping[str, Array]) -> int | None:
        """The size of what a layer gives for these inputs, if that is known before it runs."""
        ...

    def close(self) -> None:
        """Free what the runner holds. It may be called twice."""
        ...


class Runtime(Protocol):
    """What a module of this package offers."""

    def available(self) -> str | None: ...

    def open(self, source: Any, **options: Any) -> Runner: ...


@dataclass
class Description:
    """What is known of a model before it runs; the state that all runners share."""

    name: str
    version: str
    inputs: list[Port] = field(default_factory=list)
    layers: dict[str, str] = field(default_factory=dict)
    ops: dict[str, str] = field(default_factory=dict)
    perms: dict[str, tuple[int, ...]] = field(default_factory=dict)
    layout: Literal["source", "canonical"] = "source"
    grain: Literal["whole", "core", "parts"] = "whole"
    precision: str = "float32"
    remarks: list[str] = field(default_factory=list)
    flow: dict[str, list[str]] = field(default_factory=dict)
    onnx: bool = False
    batch_first: bool = False

    def as_written(self) -> None:
        """Take and give what the file itself does, where it says how its source did."""

    def bytes_of(self, layer: str, feeds: Mapping[str, Array]) -> int | None:
        """See `Runner.bytes_of`."""
        return None


def find(name: str) -> Runtime:
    """The runtime called `name` ("onnxruntime", or a module path such as "parity.runners.keras")."""
    module: Any = importlib.import_module(name if "." in name else f"parity.runners.{name}")
    runtime: Runtime = module
    return runtime


def need(modules: Sequence[str], what: str, install: str) -> str | None:
    """None if all `modules` can be found (not imported), else a sentence for the user."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    return f"{what} is not installed ({', '.join(missing)} missing): {install}" if missing else None


def single_line(error: BaseException, limit: int = 400) -> str:
    """The gist of a framework's message: its type and its text, without line breaks."""
    text = " ".join(str(error).split())
    text = text if len(text) <= limit else text[: limit - 4] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
