"""Core ML files where Core ML is not: hub's own reader, which shares nothing with its writer, and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import HubError, UnsupportedOps
from hub.secluded import COREMLTOOLS
from parity.runners import BEFORE, Array, Damaged, LoadFailed, need, onnxruntime, single_line
from parity.runners.coremlrecord import Record, path_of

__all__ = ["CoreMLReadRunner", "available", "open"]


def available() -> str | None:
    """None if ONNX Runtime can be used here, else why not."""
    return onnxruntime.available()


def open(source: Any) -> CoreMLReadRunner:
    """The path of an `.mlpackage` or `.mlmodel`, ready to run.

    Raises:
        LoadFailed: something in it is not supported by hub's reader.
        Damaged: coremltools, or hub's reader, cannot read it.
    """
    return CoreMLReadRunner(path_of(source))


class CoreMLReadRunner(onnxruntime.OnnxRuntimeRunner):
    """Runs what hub's reader makes of a file; half precision with every result rounded to it."""

    def __init__(self, path: Path) -> None:
        import hub

        self._record = Record(path)
        inferred = _inferred(path, self._record.kind)
        try:
            model = hub.load(path, source="coreml", fp16="emulate")
        except UnsupportedOps as error:
            raise LoadFailed(f"hub's reader: {error}") from error
        except HubError as error:
            raise Damaged(f"hub's reader: {error}") from error
        super().__init__(model.ir, None)
        self.layout = "canonical"
        self.name = "hub's reader of Core ML and onnxruntime"
        self._own = self.inputs
        self.inputs = self._record.ports(self._own)
        self.layers = self._record.interface.named(self.layers)
        self.flow = self._record.interface.flowing(self.flow)
        self.precision = self._record.precision
        self.ops = {self._key(key): op for key, op in self.ops.items()}
        self.remarks = [f"reached: {inferred}, (2) saved file through hub's reader into ONNX Runtime"]

    def _key(self, key: str) -> str:
        """An output, or "before:" one, under the source's name."""
        kind, colon, name = key.rpartition(":")
        return kind + colon + self._record.name(name) if kind in ("", "before") else key

    def as_written(self) -> None:
        """Take and give what the file does, whatever it says of its source."""
        self._record.forget()
        self.inputs = list(self._own)

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        known = self._record.interface
        asked = {tap: known.asked(tap) for tap in taps if tap != BEFORE or known.before}
        found = super().run(self._record.to_file(self._own, feeds), list(asked.values()))
        own = {ours: tap for tap, ours in asked.items()}
        result = {}
        for name, array in found.items():
            kind, colon, rest = name.partition(":")
            if colon and kind == "before":
                result[f"before:{self._record.name(rest)}"] = array
            else:
                result[own.get(name, self._record.name(name))] = self._record.from_file(name, np.asarray(array))
        return result


def _inferred(path: Path, kind: str) -> str:
    """Whether coremltools reads the file again and infers its types, in words.

    Raises:
        Damaged: it does not.
    """
    if need(["coremltools"], "coremltools", ""):
        return "(1) not tried, coremltools is not installed"
    with COREMLTOOLS.use():
        import coremltools as ct

        try:
            model = ct.models.MLModel(str(path), skip_model_load=True)
            if kind != "mlProgram":
                return f"(1) file opened by coremltools {ct.__version__}"
            from coremltools.converters.mil.frontend.milproto.load import load

            spec = model.get_spec()
            program = load(spec, spec.specificationVersion, model.weights_dir)
        except Exception as error:  # whatever it is, the file cannot be read again
            raise Damaged(f"coremltools cannot read it again: {single_line(error)}") from error
        count = sum(len(list(function.operations)) for function in program.functions.values())
    return f"(1) file read again by coremltools {ct.__version__}, types of {count} operations inferred"
