"""Apple's Core ML, by coremltools: on macOS only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hub.secluded import COREMLTOOLS
from parity.runners import Array, Description, LoadFailed, Port, RunFailed, need, single_line
from parity.runners.coremlrecord import Record, path_of

__all__ = ["CoreMLRunner", "available", "open"]

_MULTI_ARRAY = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32"}
"""NumPy's names of the types of multi-arrays."""


def available() -> str | None:
    """None if Core ML can run here, else why not."""
    if sys.platform != "darwin":
        return (
            "Not executed by Core ML, which is on macOS only: there, `hub check` runs it, and --golden writes what "
            "such a check needs"
        )
    return need(["coremltools"], "coremltools", 'pip install "onnx-hub[coreml]"')


def open(source: Any) -> CoreMLRunner:
    """The path of an `.mlpackage` or `.mlmodel`, ready to run.

    Raises:
        LoadFailed: Core ML cannot load it.
    """
    return CoreMLRunner(source)


class CoreMLRunner(Description):
    """Runs a model by `MLModel.predict` on the CPU. It gives outputs only, nothing from within."""

    def __init__(self, source: Any) -> None:
        path = path_of(source)
        self._record = Record(path)
        with COREMLTOOLS.use():
            import coremltools as ct

            super().__init__("coreml", f"coremltools {ct.__version__}")
            try:
                self._model: Any = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.CPU_ONLY)
            except Exception as error:  # of several kinds, from Objective-C too
                raise LoadFailed(single_line(error)) from error
        description = self._model.get_spec().description
        self._ports = [_port(feature) for feature in description.input]
        self._outputs = [feature.name for feature in description.output]
        self._classes = description.predictedFeatureName
        self.precision = self._record.precision
        self.inputs = self._record.ports(self._ports)

    def as_written(self) -> None:
        """Take and give what the file does, whatever it says of its source."""
        self._record.forget()
        self.inputs = list(self._ports)

    def run(self, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """See `parity.runners.Runner.run`."""
        arrays = self._record.to_file(self._ports, feeds)
        with COREMLTOOLS.use():
            try:
                found = self._model.predict(arrays)
            except Exception as error:  # of several kinds, from Objective-C too
                raise RunFailed(single_line(error)) from error
        names = [name for name in self._outputs if name != self._classes]
        return {self._record.name(name): self._record.from_file(name, _array(found[name])) for name in names}

    def close(self) -> None:
        """Free the model."""
        self._model = None


def _port(feature: Any) -> Port:
    kind = feature.type.WhichOneof("Type")
    if kind != "multiArrayType":
        raise LoadFailed(f"the input {feature.name!r} is {kind}, and only multi-arrays are fed here")
    array = feature.type.multiArrayType
    flexible = array.WhichOneof("ShapeFlexibility") is not None
    shape = tuple(None if flexible else int(size) for size in array.shape)
    return Port(feature.name, _MULTI_ARRAY.get(array.dataType), shape)


def _array(value: Any) -> Array:
    """An output as an array; the probabilities of a classifier come by label."""
    return np.array(list(value.values()), np.float32)[None] if isinstance(value, dict) else np.asarray(value)
