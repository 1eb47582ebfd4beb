"""TensorFlow: SavedModels, checkpoints, frozen graphs and TFLite models in a child process; live functions here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hub.errors import HubError
from parity.runners import Array, Description, LoadFailed, Port, RunFailed, Runner, need, single_line
from parity.runners.child import ChildRunner

__all__ = ["TensorFlowRunner", "available", "open", "open_here"]

_INSTALL = 'pip install "onnx-hub[tensorflow]"'


def available() -> str | None:
    """None if TensorFlow can be used here, else why not."""
    return need(["tensorflow"], "TensorFlow", _INSTALL)


def open(source: Any, **options: Any) -> Runner:
    """A path, or a live function; `options` are those that the reader put into `Model.opening`.

    Raises:
        LoadFailed: TensorFlow cannot load it, or it would run code or open files.
    """
    if isinstance(source, (str, os.PathLike)):
        from importers.tensorflow.read import QUIET

        return ChildRunner("tensorflow", [Path(source)], QUIET, options)
    from importers.tensorflow.live import LiveProgram

    try:
        return TensorFlowRunner(LiveProgram(source, **options))
    except HubError as error:
        raise LoadFailed(str(error)) from error


def open_here(paths: Sequence[Path], **options: Any) -> Runner:
    """Open a file in this process. Nothing in it is executed that is not an operator of a network."""
    from importers.tensorflow.program import Options, open_program

    try:
        return TensorFlowRunner(open_program(paths[0], Options(**options)))
    except HubError as error:
        raise LoadFailed(" ".join(str(error).split())) from error


class TensorFlowRunner(Description):
    """Runs a program of `importers.tensorflow`. Layers are the nodes of a graph, or the tensors of TFLite."""

    def __init__(self, program: Any) -> None:
        super().__init__("tensorflow", metadata.version(_distribution()))
        self._program = program
        self.inputs = [Port(port.name, port.dtype, port.shape) for port in program.inputs]
        self.layers = program.operators()
        self.ops = {
            port.name: self.layers.get(port.tensor) or self.layers.get(port.tensor.split(":")[0], "")
            for port in program.outputs
        }
        if getattr(program, "quantized", False):
            self.precision = "int8"

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        tensors = [tap.removeprefix("layer:") for tap in taps if tap.startswith("layer:")]
        try:
            found: dict[str, Array] = self._program.run(feeds, tensors)
        except Exception as error:  # whatever TensorFlow raises
            from importers.tensorflow.session import gist

            raise RunFailed(f"{type(error).__name__}: {gist(error)}") from error
        outputs = {port.name for port in self._program.outputs}
        return {name: value for name, value in found.items() if name in outputs} | {
            f"layer:{name}": found[name] for name in tensors if name in found
        }

    def close(self) -> None:
        """Free the session."""
        self._program.close()


def _distribution() -> str:
    for name in ("tensorflow", "tensorflow-cpu", "tensorflow_cpu"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return name
    raise LoadFailed(single_line(metadata.PackageNotFoundError("tensorflow")))
